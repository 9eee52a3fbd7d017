"""The progress display: in a terminal a bar that disappears at the end, elsewhere nothing."""

import io
import os
import subprocess
import sys

import pytest
from rich.console import Console

from zdce.runtime import processes, progress


def test_outside_of_a_terminal_messages_stand_alone(capsys):
    for _ in progress.track(range(3), 3, "work"):
        progress.console.print("skipped a.png")
    assert capsys.readouterr().err == 3 * "skipped a.png\n"


def test_outside_of_a_terminal_a_bar_alone_does_not_wait_for_rich():
    code = """
import sys
from zdce.runtime import progress
import zdce.commands.enhance
with progress.bar() as shown:
    task = shown.add_task("work", total=2, status="")
    shown.update(task, completed=1)
    shown.advance(task)
    shown.remove_task(task)
sys.exit("rich" in sys.modules)
"""
    environment = {name: value for name, value in os.environ.items() if "TTY" not in name and "COLOR" not in name}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("first", [True, False])
def test_in_a_terminal_the_first_process_shows_a_bar_that_goes(monkeypatch, first):
    shown = io.StringIO()
    terminal = Console(file=shown, force_terminal=True, force_interactive=True, width=80, color_system=None)
    monkeypatch.setattr(progress, "console", terminal)
    monkeypatch.setattr(processes, "first", lambda: first)
    for _ in progress.track(range(3), 3, "work"):
        progress.console.print("skipped a.png")
    said = shown.getvalue()
    assert said.count("skipped a.png\n") == 3
    assert ("3/3" in said) == first
    # The cursor ends where it would be with no bar, and what the bar's line held is erased.
    assert said.count("\n") - said.count("\x1b[1A") == 3
    assert said.endswith("\x1b[2K" if first else "skipped a.png\n")


@pytest.mark.parametrize("with_messages", [False, True])
def test_without_standard_error_work_goes_on_silently(monkeypatch, with_messages):
    """In programs without a console, and where it was closed, Python sets ``sys.stderr`` to None."""
    monkeypatch.delitem(vars(progress), "console", raising=False)
    monkeypatch.setattr(sys, "stderr", None)
    if with_messages:
        progress.console.print("skipped a.png")
    assert list(progress.track(range(3), 3, "work")) == [0, 1, 2]
    vars(progress).pop("console", None)
