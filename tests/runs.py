"""Training runs for tests: starting and comparing them, and processes of `zdce` that end at a certain moment."""

import os
import signal
import sys
from contextlib import contextmanager

import torch
from click.testing import CliRunner
from safetensors.torch import load_file

import zdce
from zdce import cli, training


def command(*arguments):
    """`zdce train` for a process of its own."""
    return [sys.executable, "-m", "zdce", "train", *map(str, arguments)]


def zdce_after(code, *arguments):
    """A process that runs ``code``, which may stop it at a certain moment, and then `zdce ARGUMENTS`."""
    zdce = 'import runpy\nrunpy.run_module("zdce", run_name="__main__", alter_sys=True)'
    return [sys.executable, "-c", f"{code}\n{zdce}", *map(str, arguments)]


def run(*arguments):
    """`zdce train` in this process."""
    return CliRunner().invoke(cli.main, ["train", *map(str, arguments)], catch_exceptions=False)


@contextmanager
def no_file_grows_past(size):
    """The system lets no file of this process grow past ``size`` bytes, as a full disk does."""
    import resource  # Windows has none

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def signal_after_every_step(monkeypatch):
    """Every step of training is followed by a Ctrl-C."""
    step = training.Run._step

    def step_and_signal(self, batch):
        losses = step(self, batch)
        os.kill(os.getpid(), signal.SIGINT)
        return losses

    monkeypatch.setattr(training.Run, "_step", step_and_signal)


def assert_same_weights(one, other):
    a, b = zdce.load(one).state_dict(), zdce.load(other).state_dict()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def assert_same_files(one, other):
    """Weights and state of two run folders, bit for bit; logs but for their times."""
    for name in ("last.safetensors", "state.safetensors"):
        a, b = load_file(one / name), load_file(other / name)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a)
    logs = [training.read_log(training.RunFolder(folder)) for folder in (one, other)]
    assert [{**row, "seconds": ""} for row in logs[0]] == [{**row, "seconds": ""} for row in logs[1]]
