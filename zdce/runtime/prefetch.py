"""Work of several threads in a row: what comes before and after is done while the caller works, a few items ahead or behind.

Each side has one thread and at most ``count`` items under way, so order is kept and memory is bounded. What a thread raises is
raised in the caller; leaving the block, also by an error or Ctrl-C, drops what was not begun and waits for what was.
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
def ahead(iterable: Iterable[T], count: int) -> Iterator[Iterator[T]]:
    """Gives the values of ``iterable``, which a thread makes up to ``count`` ahead.

    >>> with ahead(range(5), 2) as numbers:
    ...     list(numbers)
    [0, 1, 2, 3, 4]
    """
    iterator = iter(iterable)
    with _one_thread("ahead") as executor:
        pending = deque(executor.submit(next, iterator, _END) for _ in range(count))

        def values() -> Generator[T]:
            while (value := pending.popleft().result()) is not _END:
                pending.append(executor.submit(next, iterator, _END))
                yield value

        yield values()


class Behind(Generic[T]):
    """Work that a thread does while the caller goes on: see ``behind``."""

    def __init__(self, work: Callable[[T], object], count: int, executor: ThreadPoolExecutor) -> None:
        self._work, self._count, self._executor = work, count, executor
        self._pending: deque[Future[None]] = deque()
        self._failed = False

    def __call__(self, value: T) -> None:
        """Hands ``value`` over, and waits while ``count`` are not done."""
        self.check()
        if len(self._pending) == self._count:
            self._pending.popleft().result()
        self._pending.append(self._executor.submit(self._do, value))

    def check(self) -> None:
        """Raises what work has raised; doesn't wait."""
        while self._pending and self._pending[0].done():
            self._pending.popleft().result()

    def wait(self) -> None:
        """Returns when all is done, or raises what work raises."""
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
def behind(work: Callable[[T], object], count: int) -> Iterator[Behind[T]]:
    """Gives a function that hands a value to ``work`` in a thread, and waits while ``count`` are not done.

    At the end of the block all are done; an error of ``work`` is raised by the function, its ``check`` or that end, and nothing
    that was handed over after the failing value is begun.

    >>> done = []
    >>> with behind(done.append, 2) as append:
    ...     for i in range(5):
    ...         append(i)
    >>> done
    [0, 1, 2, 3, 4]
    """
    with _one_thread("behind") as executor:
        handing_over = Behind(work, count, executor)
        yield handing_over
        handing_over.wait()
