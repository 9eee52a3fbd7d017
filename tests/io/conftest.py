"""What tests of files enhance with."""

from pathlib import Path

import pytest

import zdce


@pytest.fixture(scope="session")
def enhancer(model: Path) -> zdce.Enhancer:
    return zdce.Enhancer(zdce.load(model))
