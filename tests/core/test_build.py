"""How the extensions are built: a compiler that fails stops it, none at all does not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import zdce
from zdce import backends
from zdce.errors import BackendError
from zdce.ops import dispatch

ROOT = Path(__file__).parents[2]


def build(tmp_path, **environment):
    """``setup.py build`` in a process of its own, with that environment."""
    # Another process may build in the same folder: nothing is written but to tmp_path.
    command = [sys.executable, "setup.py", "build_ext", "--build-lib", tmp_path / "lib", "--build-temp", tmp_path / "temp"]
    known = {name: value for name, value in os.environ.items() if name not in ("CC", "CXX", "ZDCE_CPP", "ZDCE_CUDA")}
    return subprocess.run(command, check=False, cwd=ROOT, env={**known, **environment}, capture_output=True, text=True)


@pytest.mark.skipif(sys.platform == "win32", reason="the compiler is a shell script")
def test_a_compiler_that_fails_stops_the_installation_and_is_heard(tmp_path):
    compiler = tmp_path / "broken"
    compiler.write_text("#!/bin/sh\necho 'internal error: out of ideas' >&2\nexit 1\n")
    compiler.chmod(0o755)
    done = build(tmp_path, CC=str(compiler), CXX=str(compiler))
    assert done.returncode != 0
    assert "internal error: out of ideas" in done.stderr
    assert "ZDCE_CPP=0 pip install" in done.stderr
    assert not (tmp_path / "lib").exists() or not any((tmp_path / "lib").rglob("*.txt"))


def test_without_a_compiler_the_installation_goes_on_and_says_so(tmp_path):
    done = build(tmp_path, CC="no-such-compiler", CXX="no-such-compiler")
    assert done.returncode == 0
    assert "WARNING: no C++ compiler was found" in done.stderr
    record = (tmp_path / "lib" / "zdce" / "_not_built.txt").read_text()
    assert record == "no C++ compiler was found when zdce was installed ('no-such-compiler' is not there)\n"


def test_a_launcher_is_not_taken_for_the_compiler(tmp_path):
    done = build(tmp_path, CC="ccache no-such-compiler", CXX="ccache no-such-compiler")
    assert done.returncode == 0
    assert "('no-such-compiler' is not there)" in done.stderr


def test_what_was_not_built_is_said_with_its_reason(tmp_path, monkeypatch):
    (tmp_path / "_not_built.txt").write_text("there was no compiler\n")
    monkeypatch.setattr(backends, "__file__", str(tmp_path / "backends.py"))
    monkeypatch.setattr(backends, "import_error", lambda module: f"ModuleNotFoundError: {module}")
    with zdce.backend("cpp"), pytest.raises(BackendError, match="not built \\(there was no compiler\\); reinstall"):
        dispatch.choose("cpp", "cpu", __import__("torch").float32)
