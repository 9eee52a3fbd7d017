"""SIGINT and SIGTERM: an event that long work checks where it can stop, an exception, or the end at once.

A command that they stop before its end has the exit code that shells report for a command that a signal ended.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Terminated(KeyboardInterrupt):
    """SIGTERM came, as batch systems send it before SIGKILL."""


class StopEvent(threading.Event):
    """Event that a signal sets; ``cause`` is what the signal raises elsewhere."""

    cause: KeyboardInterrupt | None = None


def exit_code(error: BaseException | None) -> int:
    """128 + the number of the signal that ``error`` or one of its causes stands for: 143 for SIGTERM, else 130."""
    while error is not None:
        if isinstance(error, Terminated):
            return 128 + signal.SIGTERM
        error = error.__cause__
    return 128 + signal.SIGINT


def end_at_once() -> None:
    """Let SIGINT and SIGTERM end the process with one line, until another function of this module changes that.

    For the time before there is anything to clean up.
    """

    def end(number: int, frame: Any) -> None:
        try:
            os.write(2, b"stopped\n")
        finally:  # standard error may be closed
            os._exit(128 + number)

    for number in _heeded():
        signal.signal(number, end)


@contextmanager
def stop_requested() -> Iterator[StopEvent]:
    """Event that the first SIGINT or SIGTERM sets; a later SIGINT raises KeyboardInterrupt. Works in the main thread only."""
    event = StopEvent()

    def listen(number: int, frame: Any) -> None:
        event.cause = _interrupt(number)
        event.set()
        if signal.SIGINT in _heeded():
            signal.signal(signal.SIGINT, signal.default_int_handler)

    with _handled_by(listen):
        yield event


@contextmanager
def as_interrupts() -> Iterator[None]:
    """Let SIGINT raise KeyboardInterrupt and SIGTERM ``Terminated``, so that unfinished files are removed. Works in the main
    thread only.
    """

    def interrupt(number: int, frame: Any) -> None:
        raise _interrupt(number)

    with _handled_by(interrupt):
        yield


def _heeded() -> list[signal.Signals]:
    """Those of the two signals that are not ignored, as shells let commands in the background of a script ignore SIGINT."""
    return [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]


def _interrupt(number: int) -> KeyboardInterrupt:
    return Terminated() if number == signal.SIGTERM else KeyboardInterrupt()


@contextmanager
def _handled_by(handler: Callable[[int, Any], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in _heeded()}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
