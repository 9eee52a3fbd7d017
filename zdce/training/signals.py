"""Signals that ask a run to save and stop."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def heard() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; a second SIGINT raises KeyboardInterrupt. Only the main thread can listen."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def listen(number: int, frame: Any) -> None:
        event.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, listen) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
