"""`zdce bench startup` measures the processes, not the program that starts them."""

import sys

import numpy as np
import pytest

from zdce.bench import startup


def test_a_process_is_measured_alone(tmp_path):
    held = np.ones(2**27, np.uint8)  # 128 MiB in this process
    seconds, cpu_seconds, mib = startup.measured([sys.executable, "-S", "-c", "pass"], tmp_path)
    assert held.all()
    assert 0 < cpu_seconds < seconds < 30
    assert 2 < mib < 100


def test_a_command_that_fails_is_named(tmp_path):
    with pytest.raises(OSError, match=r"sys\.exit"):
        startup.measured([sys.executable, "-c", "import sys; sys.exit(3)"], tmp_path)


def test_processes_find_compiled_python_after_the_first_run(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    startup.measured([sys.executable, "-c", "import fractions"], tmp_path)
    assert list(tmp_path.rglob("fractions.*.pyc"))
