"""The core's number of threads: PyTorch's if that is imported, else its own."""

import importlib
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

import zdce
from zdce import compiled
from zdce.runtime import system, threads

core = pytest.importorskip("zdce._core")


def test_the_core_has_as_many_threads_as_torch():
    before, pixels = torch.get_num_threads(), np.full((8, 8, 3), 20, np.uint8)
    try:
        for number in (1, 3):  # 1 as in the workers of a DataLoader
            torch.set_num_threads(number)
            zdce.enhance(pixels, "base")
            assert core.threads() == number
    finally:
        torch.set_num_threads(before)


def test_a_core_that_breaks_on_import_is_none(monkeypatch):
    def broken(name):
        raise OSError("libstdc++.so.6: version `GLIBCXX_3.4.32' not found")

    compiled.import_error.cache_clear()
    monkeypatch.setattr(importlib, "import_module", broken)
    try:
        assert threads.number() == torch.get_num_threads()
        threads.follow_torch()
        assert system.facts()["compiler"] is None
    finally:
        compiled.import_error.cache_clear()


def test_a_number_that_is_set_is_torchs_too(monkeypatch):
    before = threads.number()
    monkeypatch.setenv("OMP_NUM_THREADS", "7")  # so that it is as it was afterwards
    try:
        for number in (1, 3):
            threads.use(number)
            assert (threads.number(), core.threads(), torch.get_num_threads()) == (number, number, number)
    finally:
        threads.use(before)


def test_a_number_that_is_set_before_torch_is_imported_is_torchs_too():
    code = "from zdce.runtime import threads\nthreads.use(1)\nimport torch\n"
    code += "from zdce import _core\nprint(threads.number(), _core.threads(), torch.get_num_threads())"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "1", "1"]
