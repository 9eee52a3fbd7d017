"""Queue of requests: which are worked on, which wait, and which are answered 503."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from zdce.serving.limits import Limits

T = TypeVar("T")


class BusyError(Exception):
    """Too many requests are open for the limits."""


class WorkQueue:
    """Two pools of threads: one for whole pictures, and one for previews, which should not wait for them."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._whole = ThreadPoolExecutor(limits.workers, "whole")
        self._small = ThreadPoolExecutor(limits.workers, "small")
        self._under_way = self._bytes = 0

    def check(self) -> None:
        """Checks for a place without taking it.

        Raises:
            BusyError: there is no free place.
        """
        if self._under_way >= self._limits.queue + self._limits.workers:
            raise BusyError

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place in the queue, for a request whose upload is complete.

        Raises:
            BusyError: there is no free place.
        """
        self.check()
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    @contextmanager
    def memory(self) -> Iterator[Callable[[int], None]]:
        """A function that counts an upload's bytes as they arrive, and raises ``BusyError`` if they don't fit beside others."""
        own = 0

        def count(size: int) -> None:
            nonlocal own
            if self._bytes > own and self._bytes + size > self._limits.memory:
                raise BusyError
            own += size
            self._bytes += size

        try:
            yield count
        finally:
            self._bytes -= own

    @contextmanager
    def held(self, size: int) -> Iterator[None]:
        """Counts ``size`` bytes of a result; uploads that don't fit beside it are answered 503."""
        self._bytes += size
        try:
            yield
        finally:
            self._bytes -= size

    async def whole(self, request: Request, work: Callable[[], T]) -> T:
        """Result of ``work``, in a thread for whole pictures, as long as ``request``'s client waits for it.

        Raises:
            ClientDisconnect: the client has gone.
        """
        return await _run(self._whole, request, work)

    async def small(self, request: Request, work: Callable[[], T]) -> T:
        """As ``whole``, in a thread for previews."""
        return await _run(self._small, request, work)

    def close(self) -> None:
        """Ends the threads after their current work."""
        for pool in (self._whole, self._small):
            pool.shutdown(cancel_futures=True)


async def _run(pool: ThreadPoolExecutor, request: Request, work: Callable[[], T]) -> T:
    submitted = pool.submit(work)
    done = asyncio.wrap_future(submitted)
    gone = asyncio.ensure_future(_disconnect(request))
    try:
        either: list[asyncio.Future[Any]] = [done, gone]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not done.done() and submitted.cancel():
            raise ClientDisconnect
        # Work that has begun can't be stopped, and keeps its place to the end.
        return await done
    finally:
        gone.cancel()


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
