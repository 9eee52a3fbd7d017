"""SIGINT, SIGTERM and SIGHUP: an event that long work checks where it can stop, an exception, or the end at once.

A command that they stop before its end has the exit code that shells report for a command that a signal ended.
"""

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# Windows has no SIGHUP, which comes when a terminal is closed.
_SIGNALS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]

# Seconds after an interrupt for which further signals are ignored, so that unfinished files are completed or removed. Not for
# ever: Python drops an exception that is raised in a finalizer.
_CLEANING = 5.0


class Terminated(KeyboardInterrupt):
    """SIGTERM came, as batch systems send it before SIGKILL, or SIGHUP.

    Attributes:
        number: number of the signal.
    """

    def __init__(self, number: int = signal.SIGTERM) -> None:
        super().__init__()
        self.number = number


class StopEvent(threading.Event):
    """Event that a signal sets; ``cause`` is what the signal raises elsewhere."""

    cause: KeyboardInterrupt | None = None


def exit_code(error: BaseException | None) -> int:
    """128 + the number of the signal that ``error`` or one of its causes stands for: 143 for SIGTERM, 129 for SIGHUP, else
    130.
    """
    while error is not None:
        if isinstance(error, Terminated):
            return 128 + error.number
        error = error.__cause__
    return 128 + signal.SIGINT


def end_at_once() -> None:
    """Let the signals end the process with one line, until another function of this module changes that.

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
    """Event that the first signal sets; a later SIGINT raises KeyboardInterrupt. Works in the main thread only."""
    event, again = StopEvent(), _raising()

    def listen(number: int, frame: Any) -> None:
        event.cause = event.cause or _interrupt(number)
        event.set()
        if signal.SIGINT in _heeded():
            signal.signal(signal.SIGINT, again)

    with handled_by(listen):
        yield event


@contextmanager
def as_interrupts() -> Iterator[None]:
    """Let SIGINT raise KeyboardInterrupt, SIGTERM and SIGHUP ``Terminated``, so that unfinished files are removed. Works in the
    main thread only.
    """
    with handled_by(_raising()):
        yield


def _raising() -> Callable[[int, Any], None]:
    """Handler that raises; signals that follow within ``_CLEANING`` seconds are ignored."""
    raised = -math.inf

    def interrupt(number: int, frame: Any) -> None:
        nonlocal raised
        if time.monotonic() - raised > _CLEANING:
            raised = time.monotonic()
            raise _interrupt(number)

    return interrupt


def _heeded() -> list[signal.Signals]:
    """The signals that are not ignored, as `nohup` lets a command ignore SIGHUP, and shells let those in a script's background
    ignore SIGINT.
    """
    return [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]


def _interrupt(number: int) -> KeyboardInterrupt:
    return KeyboardInterrupt() if number == signal.SIGINT else Terminated(number)


@contextmanager
def handled_by(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Let ``handler`` handle the signals that are not ignored. Without effect outside of the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in _heeded()}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
