"""Who is served, who waits, and who is told to come back later."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from zdce.serving.limits import Limits

T = TypeVar("T")


class BusyError(Exception):
    """As many requests are under way as the limits allow."""


class Desk:
    """Two pools of threads: one for whole pictures, one for previews, which nobody likes to wait for."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._whole = ThreadPoolExecutor(limits.workers, "whole")
        self._small = ThreadPoolExecutor(limits.workers, "small")
        self._under_way = self._bytes = 0

    @contextmanager
    def place(self, size: int = 0) -> Iterator[None]:
        """A place in the queue for a request with an upload of ``size`` bytes, to be taken before they are read.

        Raises:
            BusyError: there is none.
        """
        too_many = self._under_way >= self._limits.queue + self._limits.workers
        if too_many or (size and self._bytes and self._bytes + size > self._limits.memory):
            raise BusyError
        self._under_way += 1
        self._bytes += size
        try:
            yield
        finally:
            self._under_way -= 1
            self._bytes -= size

    @contextmanager
    def held(self, size: int) -> Iterator[None]:
        """Counts ``size`` bytes of a result; uploads that would not fit beside it are told to come back."""
        self._bytes += size
        try:
            yield
        finally:
            self._bytes -= size

    async def whole(self, request: Request, work: Callable[[], T]) -> T:
        """What ``work`` gives, in a thread for whole pictures, if ``request``'s client waits for it.

        Raises:
            ClientDisconnect: it does not.
        """
        return await _run(self._whole, request, work)

    async def small(self, request: Request, work: Callable[[], T]) -> T:
        """As ``whole``, in a thread for previews."""
        return await _run(self._small, request, work)

    def close(self) -> None:
        """Ends the threads after what they are at."""
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
        # What has begun can't be stopped, and keeps its place to the end.
        return await done
    finally:
        gone.cancel()


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
