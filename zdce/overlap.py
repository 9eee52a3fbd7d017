"""Work of several threads in a row: what comes before and after is done while the caller works, a few items ahead or behind.

Each side has one thread and at most ``count`` items under way, so order is kept and memory is bounded. What a thread raises is
raised in the caller; leaving the block, also by an error or Ctrl-C, drops what was not begun and waits for what was.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

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


@contextmanager
def behind(work: Callable[[T], object], count: int) -> Iterator[Callable[[T], None]]:
    """Gives a function that hands a value to ``work`` in a thread, and waits while ``count`` are not done.

    At the end of the block all are done; an error of ``work`` is raised by the function or by that end.

    >>> done = []
    >>> with behind(done.append, 2) as append:
    ...     for i in range(5):
    ...         append(i)
    >>> done
    [0, 1, 2, 3, 4]
    """
    pending: deque[Future[object]] = deque()
    with _one_thread("behind") as executor:

        def hand_over(value: T) -> None:
            if len(pending) == count:
                pending.popleft().result()
            pending.append(executor.submit(work, value))

        yield hand_over
        while pending:
            pending.popleft().result()
