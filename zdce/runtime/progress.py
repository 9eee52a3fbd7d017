"""Progress of long work, on stderr: a bar with the time left in a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from zdce.runtime import processes

T = TypeVar("T")

console = Console(stderr=True, highlight=False, soft_wrap=True)


def bar() -> Progress:
    """Progress display with counts, time passed and time left; each task has a field ``status``, shown at the end of its line.

    Only a terminal shows it, and only the first of several processes that share one job.
    """
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}"),
        console=console,
        transient=True,
        # Elsewhere rich would end the bar, of which nothing was drawn, with an empty line.
        disable=not (console.is_terminal and console.is_interactive and processes.first()),
    )


def track(iterable: Iterable[T], total: int, description: str) -> Iterator[T]:
    """Yield from ``iterable`` and show a bar of ``total`` steps."""
    with bar() as shown:
        task = shown.add_task(description, total=total, status="")
        for value in iterable:
            yield value
            shown.advance(task)


@contextmanager
def frames(shown: Progress, name: str) -> Iterator[Callable[[int, int | None], None]]:
    """Add a line for one video to ``shown``; the returned function takes the frames done and their total (None: unknown)."""
    task, started = shown.add_task(name, total=None, status=""), time.monotonic()

    def update(done: int, total: int | None) -> None:
        pace = done / max(time.monotonic() - started, 1e-9)
        shown.update(task, completed=done, total=total, status=f"{pace:.1f} frames a second")

    try:
        yield update
    finally:
        shown.remove_task(task)


def duration(seconds: float) -> str:
    """Text such as ``40 s``, ``12 min`` or ``3 h 20 min``."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
