"""The tests of this folder need a GPU. ZDCE_GPU_TESTS=dry runs those that can run on the CPU, to check the tests themselves."""

import os
import shutil

import pytest
import torch

DRY = os.environ.get("ZDCE_GPU_TESTS") == "dry" and not torch.cuda.is_available()


# Lines of a failure's report that tell what failed.
_TOLD = 40


class FailuresAtOnce:
    """Tells each failure when it happens: a run that is killed does not come to its report."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if report.failed and terminal is not None:
            terminal.ensure_newline()
            terminal.write_line("\n".join([report.nodeid, *report.longreprtext.splitlines()[-_TOLD:]]))


def pytest_configure(config: pytest.Config) -> None:
    # `.ci/gpu` has a GPU for some minutes only. Workers of pytest-xdist have no terminal.
    if "ZDCE_TESTS_END" in os.environ and not hasattr(config, "workerinput"):
        config.pluginmanager.register(FailuresAtOnce(config))


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
