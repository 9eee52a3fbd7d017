"""The Dockerfile: its command, its health check, and the files sent to the builder. Building it would need a builder and
images.
"""

import json
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from contextlib import closing
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def words(instruction):
    """Arguments of an instruction that has them as a JSON list."""
    return json.loads(re.search(rf"^{instruction} (\[.*\])$", DOCKERFILE, re.MULTILINE)[1])


def check(port, seconds=4):
    """Exit code of the health check, which asks at ``port`` here, and waits for so many seconds."""
    python, *arguments, code = words(r"HEALTHCHECK .*\n +CMD")
    assert python == "python"
    code, changed = re.subn(r":8000(/.*timeout=)4\b", rf":{port}\g<1>{seconds}", code)
    assert changed == 1
    here = [*arguments, code]
    return subprocess.run([sys.executable, *here], capture_output=True, check=False).returncode


def test_what_it_starts_is_healthy_while_it_runs(tmp_path):
    pytest.importorskip("uvicorn")
    program = [*words("ENTRYPOINT"), *words("CMD")]
    assert program[0] == "zdce"
    process = subprocess.Popen(
        [sys.executable, "-m", *program, "--port", "0"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        port = int(re.search(r":(\d+)/", process.stdout.readline())[1])
        assert check(port) == 0
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert check(port) != 0


def test_a_server_of_something_else_is_not_healthy():
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        assert check(other.getsockname()[1], 0.5) != 0  # no answer comes


def test_the_builder_gets_all_packages_and_the_program_is_not_roots():
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    places = settings["tool"]["setuptools"]["package-dir"]
    packages = {places.get(name, name.split(".")[0]) for name in settings["tool"]["setuptools"]["packages"]}
    assert packages | {"csrc", "pyproject.toml", "setup.py", "constraints.txt"} <= sent
    assert all((ROOT / name).exists() for name in sent)
    (extra,) = re.findall(r"^ARG EXTRAS=(\w+)$", DOCKERFILE, re.MULTILINE)
    assert extra in settings["project"]["optional-dependencies"]
    assert int(re.findall(r"^USER (\d+)$", DOCKERFILE, re.MULTILINE)[-1]) > 0


def test_hadolint_finds_nothing():
    if (hadolint := shutil.which("hadolint")) is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
