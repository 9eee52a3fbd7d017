"""Commands and training runs for tests: starting, stopping and comparing them, and waiting for processes."""

import os
import signal
import sys
import time
from contextlib import contextmanager

import torch
from click.testing import CliRunner
from safetensors.torch import load_file

import zdce
from zdce import cli, training
from zdce.training.learner import Learner
from zdce.training.state import State


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


def enhance(model, *arguments):
    """`zdce enhance -m MODEL` in this process."""
    return CliRunner().invoke(cli.main, ["enhance", "-m", str(model), *map(str, arguments)], catch_exceptions=False)


def bench(*arguments):
    """`zdce bench` in this process."""
    return CliRunner().invoke(cli.main, ["bench", *map(str, arguments)], catch_exceptions=False)


def contents(folder):
    """The bytes of all files below a folder, by name."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def wait_for(process, condition):
    """Returns when ``condition()`` holds; fails where ``process`` ends before."""
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)


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
    begin = Learner.begin_step

    def begin_and_signal(self, batch):
        losses = begin(self, batch)
        os.kill(os.getpid(), signal.SIGINT)
        return losses

    monkeypatch.setattr(Learner, "begin_step", begin_and_signal)


def end_before_the_state_of(epoch, monkeypatch):
    """Training ends, as if killed, before it saves the state of ``epoch``."""
    write = State.write

    def end(self, path):
        if self.position["epoch"] == epoch:
            raise KeyboardInterrupt
        write(self, path)

    monkeypatch.setattr(State, "write", end)


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
