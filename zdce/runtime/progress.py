"""Progress of long work, on stderr: a bar with the time left in a terminal, plain lines elsewhere."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

from zdce.runtime import processes

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    console: Console  # prints messages to stderr

T = TypeVar("T")

# Environment variables that make rich treat stderr as a terminal.
_FORCING = ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")


def __getattr__(name: str) -> Any:
    # Importing rich takes a tenth of the time of `zdce enhance` for a small picture, and usually there is nothing to print.
    if name != "console":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from rich.console import Console

    return globals().setdefault("console", Console(stderr=True, highlight=False, soft_wrap=True))


class _HiddenBar:
    """Used like a bar; it shows nothing."""

    def __enter__(self) -> "_HiddenBar":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def add_task(self, *_: Any, **__: Any) -> int:
        return 0

    def _nothing(self, *_: Any, **__: Any) -> None:
        pass

    update = advance = remove_task = _nothing


def _on_terminal() -> bool:
    """Whether rich may draw a bar; ``sys.stderr`` is None in a process that was started without it."""
    return sys.stderr is not None and (sys.stderr.isatty() or any(name in os.environ for name in _FORCING))


def bar() -> "Progress":
    """Progress display with counts, time passed and time left; each task has a field ``status``, shown at the end of its line.

    Only a terminal shows it, and only the first of several processes that share one job.
    """
    if "console" not in globals() and not _on_terminal():
        return cast("Progress", _HiddenBar())
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    shown: Console = sys.modules[__name__].console
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}"),
        console=shown,
        transient=True,
        # Not in a terminal, rich would end the bar, of which nothing was drawn, with an empty line.
        disable=not (shown.is_terminal and shown.is_interactive and processes.first()),
    )


def escaped(text: str) -> str:
    """``text`` for ``console`` and for names of tasks, where text in brackets would be read as markup."""
    from rich.markup import escape

    return escape(text)


def track(iterable: Iterable[T], total: int, description: str) -> Iterator[T]:
    """Yield from ``iterable`` and show a bar of ``total`` steps."""
    with bar() as shown:
        task = shown.add_task(description, total=total, status="")
        for value in iterable:
            yield value
            shown.advance(task)


@contextmanager
def frames(shown: "Progress", name: str) -> Iterator[Callable[[int, int | None], None]]:
    """Add a line for one video to ``shown``; the returned function takes the frames done and their total (None: unknown)."""
    task, started = shown.add_task(escaped(name), total=None, status=""), time.monotonic()

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
