"""Building the extensions: a failing compiler stops the build, a missing one does not; requirements and size of a build."""

import importlib.util
import io
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import zdce
from compiled import kept
from zdce import backends, compiled
from zdce.errors import BackendError
from zdce.ops import dispatch

ROOT = Path(__file__).parents[2]


def build(tmp_path, **environment):
    """``setup.py build`` in a process of its own, with that environment."""
    # Another process may build in the same folder: nothing is written but to tmp_path.
    command = [sys.executable, "setup.py", "build_ext", "--build-lib", tmp_path / "lib", "--build-temp", tmp_path / "temp"]
    known = {name: value for name, value in os.environ.items() if name not in ("CC", "CXX", "ZDCE_CPP", "ZDCE_CUDA")}
    return subprocess.run(command, check=False, cwd=ROOT, env={**known, **environment}, capture_output=True, text=True)


def compile_once(name, compiler, *options):
    """Compiles the core's file of an instruction set, unless the same sources were by the same compiler with these options."""
    command = [compiler, "-std=c++20", "-Wno-psabi", *options, ROOT / "csrc/core/kernels" / f"{name}.cpp"]
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    sources = [path for path in (ROOT / "csrc").rglob("*") if path.suffix in {".cpp", ".h"}]

    def make(path):
        path.write_bytes(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)

    kept(f"{name}-by-{Path(compiler).name}.txt", sources, (version, [*map(str, command)]), make)


@pytest.mark.parametrize("compiler", ["g++-11", "clang++-14"])
@pytest.mark.parametrize("kernels", ["avx2", "baseline"])
def test_the_oldest_compilers_read_the_kernels(compiler, kernels):
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    compile_once(kernels, compiler, "-O1", "-fsyntax-only")


# SSE2 alone cannot shuffle bytes, which 8-bit pixels need.
@pytest.mark.parametrize(
    "kernels", ["avx2", *(pytest.param(k, marks=pytest.mark.heavy) for k in ("baseline -mssse3", "avx512", "neon"))]
)
def test_no_vector_is_taken_apart(kernels):
    # GCC computes what the instruction set has no registers for value by value, ten times as slowly, and says so if asked.
    name, *options = kernels.split()
    compiler = shutil.which("aarch64-linux-gnu-g++" if name == "neon" else "x86_64-linux-gnu-g++")
    if compiler is None:
        pytest.skip("GCC for these instructions is not installed")
    compile_once(name, compiler, "-O0", *options, "-Wvector-operation-performance", "-Werror", "-S", "-o", "/dev/null")


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
    monkeypatch.setattr(compiled, "import_error", lambda module: f"ModuleNotFoundError: {module}")
    with zdce.backend("cpp"), pytest.raises(BackendError, match="not built \\(there was no compiler\\); reinstall"):
        dispatch.choose("cpp", "cpu", __import__("torch").float32)


@pytest.fixture
def backend(monkeypatch, tmp_path):
    """csrc/backend.py as an isolated build sees it, of an environment whose packages lie in ``tmp_path``."""
    spec = importlib.util.spec_from_file_location("build_backend", ROOT / "csrc" / "backend.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(module, "get_path", lambda name: str(tmp_path))
    monkeypatch.setattr(module.build_meta, "get_requires_for_build_wheel", lambda settings: ["setuptools"])
    monkeypatch.setattr(module.build_meta, "get_requires_for_build_editable", lambda settings: ["setuptools"])
    monkeypatch.delenv("ZDCE_CPP", raising=False)
    return module


def install_torch(folder, version):
    (folder / "torch" / "include").mkdir(parents=True)
    (folder / f"torch-{version}.dist-info").mkdir()
    (folder / f"torch-{version}.dist-info" / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")


@pytest.mark.parametrize("version", ["2.10.0", "2.13.0+cpu", "3.0.0a0+git1234"])
def test_an_isolated_build_takes_the_headers_of_the_torch_that_is_installed(backend, tmp_path, version):
    install_torch(tmp_path, version)
    assert backend.torch_folder() == tmp_path / "torch"
    assert backend.get_requires_for_build_wheel() == backend.get_requires_for_build_editable() == ["setuptools"]


@pytest.mark.parametrize("version", [None, "2.9.1"])
def test_an_isolated_build_asks_for_torch_where_none_or_an_old_one_is_installed(backend, tmp_path, monkeypatch, version):
    if version:
        install_torch(tmp_path, version)
    assert backend.torch_folder() is None
    wanted = ["setuptools", backend.HEADERS]
    assert backend.get_requires_for_build_wheel() == backend.get_requires_for_build_editable() == wanted
    monkeypatch.setenv("ZDCE_CPP", "0")
    assert backend.get_requires_for_build_wheel() == ["setuptools"]


def test_a_wheel_is_small():
    package = Path(backends.__file__).parent
    if not list(package.glob("_C*")):
        pytest.skip("the extensions are not built")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path in package.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                wheel.write(path, path.relative_to(package))
    # 1 MB for each of the three files that have the core inside, 0.9 MB of weights and Python, and half as much again for
    # other compilers and to come. A library of PyTorch's that was packed along would be hundreds of MB.
    assert len(packed.getvalue()) < 6e6
