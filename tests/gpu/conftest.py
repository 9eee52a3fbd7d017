"""The tests of this folder need a GPU. ZDCE_GPU_TESTS=dry runs those that can run on the CPU, to check the tests themselves."""

import os
import shutil

import pytest
import torch

DRY = os.environ.get("ZDCE_GPU_TESTS") == "dry" and not torch.cuda.is_available()


@pytest.fixture(scope="session")
def gpu() -> torch.device:
    """The device under test."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if DRY:
        return torch.device("cpu")
    pytest.skip("torch finds no GPU")


@pytest.fixture(scope="session")
def streams(gpu: torch.device) -> torch.device:
    """The device under test, with streams and graphs."""
    if gpu.type != "cuda":
        pytest.skip("the CPU has no streams")
    return gpu


@pytest.fixture(scope="session")
def compute_sanitizer(streams: torch.device) -> str:
    found = shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")
    if found is None:
        pytest.skip("compute-sanitizer is not installed")
    return found
