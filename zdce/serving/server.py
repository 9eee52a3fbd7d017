"""The server process: its socket, its signals and its end."""

import asyncio
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from zdce.errors import FileError
from zdce.runtime import signals
from zdce.serving.app import application
from zdce.serving.limits import Limits
from zdce.serving.networks import Networks

# Seconds that open requests have after a signal.
_GRACE = 30

# Seconds within which the head of a request must arrive.
_SILENCE = 30.0

# Seconds for which the viewer of an endless answer may stop reading, and for which its connection may stay open after the
# answer.
_STALLED, _END = 10.0, 2.0


def listen(host: str, port: int) -> socket.socket:
    """A socket at ``host`` and ``port``; port 0 takes a free one.

    Raises:
        OSError: the address can't be used; the message names it.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise FileError(f"can't listen at {host}, port {port}: {error.strerror or error}") from error


def address(listening: socket.socket) -> str:
    """The URL of a listening socket."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def serve(server: uvicorn.Server, listening: socket.socket) -> None:
    """Serves until SIGINT, SIGTERM or SIGHUP; open requests are answered before it returns."""

    def end(*_: object) -> None:
        server.should_exit = True

    # Uvicorn has a handler of its own for the first two, and at its end raises the signal again that ended it.
    with signals.handled_by(end):
        server.run(sockets=[listening])


def server(
    networks: Networks, limits: Limits, names: Sequence[str] = (), ready: Callable[[], object] = lambda: None
) -> uvicorn.Server:
    """A server of ``networks`` within ``limits``.

    Args:
        names: host names that requests may use, beside localhost and addresses.
        ready: called when the server accepts requests.
    """
    return _server_of(application(networks, limits, names), ready, _Connection)


@contextmanager
def in_background(app: ASGIApp, listening: socket.socket) -> Iterator[None]:
    """Serves ``app`` in another thread until the end of the ``with`` statement; its endless answers must have ended by then."""
    ready = threading.Event()
    server = _server_of(app, ready.set, _StreamConnection)
    with ThreadPoolExecutor(1, "zdce-server") as pool:
        serving = pool.submit(server.run, sockets=[listening])
        serving.add_done_callback(lambda _: ready.set())  # or a failed start would be awaited forever
        try:
            ready.wait()
            if serving.done():
                serving.result()
            yield
        finally:
            server.should_exit = True
    serving.result()


def _server_of(app: ASGIApp, ready: Callable[[], object], connection: type[H11Protocol]) -> "_Server":
    config = uvicorn.Config(
        app, http=connection, ws="none", lifespan="on", log_level="warning", access_log=False, server_header=False,
        proxy_headers=False, timeout_graceful_shutdown=_GRACE, use_colors=None if sys.stdout and sys.stderr else False,
    )  # fmt: skip
    return _Server(config, ready)


class _Connection(H11Protocol):
    """Closes connections on which no complete head of a request arrives; Uvicorn would wait forever."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._look_later()

    def _look_later(self) -> None:
        self.loop.call_later(_SILENCE, self._look, self.cycle)

    def _look(self, before: Any) -> None:
        """Closes the connection if it had no open request and none has arrived since; ``before`` was the last one then."""
        if self.transport.is_closing():
            return
        if self.cycle is before and self.conn.their_state is h11.IDLE:
            self.transport.close()
        else:
            self._look_later()


class _StreamConnection(_Connection):
    """Closes connections whose client stops reading an endless answer, which would occupy a place and delay the server's
    end.
    """

    _stalled: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(_STALLED, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unset_stalled()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_stalled()

    def shutdown(self) -> None:
        super().shutdown()
        self.loop.call_later(_END, self.transport.abort)

    def _unset_stalled(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], object]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()
