"""Settings that tests of training begin with."""

from pathlib import Path

import pytest

from zdce import training


@pytest.fixture
def config(dark: Path) -> training.Config:
    return training.Config(variant="iters4", data=str(dark), epochs=3, batch_size=4, size=32, lr=1e-3)
