"""Pipelines of threads: items are prepared before the caller needs them, and results are processed while the caller goes on.

Each side has one thread and at most ``count`` items in progress, so order is kept and memory is bounded. An exception in a
thread is raised in the caller. Leaving the block, also by an error or Ctrl-C, waits for the item in progress and drops the
others.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_END: Any = object()


@contextmanager
def _one_thread(name: str) -> Iterator[ThreadPoolExecutor]:
    executor = ThreadPoolExecutor(1, name)
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


@contextmanager
def prefetched(iterable: Iterable[T], count: int) -> Iterator[Iterator[T]]:
    """Iterate over ``iterable`` in a thread that is up to ``count`` values ahead of the caller.

    >>> with prefetched(range(5), 2) as numbers:
    ...     list(numbers)
    [0, 1, 2, 3, 4]
    """
    iterator = iter(iterable)
    with _one_thread("prefetched") as executor:
        pending = deque(executor.submit(next, iterator, _END) for _ in range(count))

        def values() -> Generator[T]:
            while (value := pending.popleft().result()) is not _END:
                pending.append(executor.submit(next, iterator, _END))
                yield value

        yield values()


class BackgroundWork(Generic[T]):
    """Work that a thread does while the caller goes on: see ``in_background``."""

    def __init__(self, work: Callable[[T], object], count: int, executor: ThreadPoolExecutor) -> None:
        self._work, self._count, self._executor = work, count, executor
        self._pending: deque[Future[None]] = deque()
        self._failed = False

    def __call__(self, value: T) -> None:
        """Hand ``value`` over; wait while ``count`` values are unfinished."""
        self.check()
        if len(self._pending) == self._count:
            self._pending.popleft().result()
        self._pending.append(self._executor.submit(self._do, value))

    def check(self) -> None:
        """Raise an exception of the work so far, if there is one; do not wait."""
        while self._pending and self._pending[0].done():
            self._pending.popleft().result()

    def wait(self) -> None:
        """Wait until all work is done; raise its first exception."""
        while self._pending:
            self._pending.popleft().result()

    def _do(self, value: T) -> None:
        if self._failed:
            return
        try:
            self._work(value)
        except BaseException:
            self._failed = True
            raise


@contextmanager
def in_background(work: Callable[[T], object], count: int) -> Iterator[BackgroundWork[T]]:
    """Return a function that hands a value to ``work`` in a thread, and waits while ``count`` values are unfinished.

    At the end of the block all work is done. An exception of ``work`` is raised by the function, by its ``check`` or at the end
    of the block; values after the failing one are dropped.

    >>> done = []
    >>> with in_background(done.append, 2) as append:
    ...     for i in range(5):
    ...         append(i)
    >>> done
    [0, 1, 2, 3, 4]
    """
    with _one_thread("in_background") as executor:
        background = BackgroundWork(work, count, executor)
        yield background
        background.wait()
