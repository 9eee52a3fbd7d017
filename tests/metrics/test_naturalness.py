"""BRISQUE, by a package that is made for one thread."""

import subprocess
import sys

import pytest

_MADE_AND_USED_BY_EIGHT_THREADS = """
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from zdce.metrics import naturalness
image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
with ThreadPoolExecutor(8) as pool:
    scores = list(pool.map(lambda _: naturalness.brisque()(image), range(16)))
assert max(scores) - min(scores) < 1e-6, scores
"""


def test_threads_do_not_corrupt_the_process():
    pytest.importorskip("brisque")
    subprocess.run([sys.executable, "-W", "ignore", "-c", _MADE_AND_USED_BY_EIGHT_THREADS], check=True)
