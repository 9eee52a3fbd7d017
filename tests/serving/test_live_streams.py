"""Streams of `zdce live`: their number, and viewers that don't read."""

import asyncio
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

from starlette.exceptions import HTTPException

from zdce.enhancement.live import EnhancedFrame
from zdce.serving import live, server

NOISE = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8)  # a JPEG of a megabyte


@pytest.fixture
def events(monkeypatch):
    """Events of the server's connections: no more goes into one, and it was closed."""

    def event_of(name):
        does, told = getattr(server._StreamConnection, name), threading.Event()

        def does_and_tells(*arguments):
            does(*arguments)
            told.set()

        monkeypatch.setattr(server._StreamConnection, name, does_and_tells)
        return told

    return {name: event_of(name) for name in ("pause_writing", "connection_lost")}


@contextmanager
def filled(views, paused):
    """A connection that asked for a stream and reads nothing, when no more goes into it."""
    with (
        socket.socket() as connection,
        server.listen("127.0.0.1", 0) as listening,
        server.in_background(live.application(views), listening),
    ):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.settimeout(30)
        connection.connect(listening.getsockname())
        connection.sendall(b"GET /after.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for number in range(1000):
            views.show(EnhancedFrame(NOISE, NOISE, number, 0.0, 1.0))
            if paused.wait(0.05):
                break
        assert paused.is_set()
        yield connection
        views.close()


def test_a_viewer_that_reads_nothing_is_sent_away(monkeypatch, events):
    monkeypatch.setattr(server, "_STALLED", 0.5)
    with filled(live.Views(), events["pause_writing"]) as connection:
        assert events["connection_lost"].wait(30)
        while connection.recv(1 << 20):  # to the end: a stream that goes on and has no new frame would time out
            pass


def test_a_viewer_that_reads_nothing_does_not_hold_the_end_up(monkeypatch, events):
    monkeypatch.setattr(server, "_END", 0.5)
    with filled(live.Views(), events["pause_writing"]):
        began = time.monotonic()
    assert time.monotonic() - began < 8


def test_the_last_frame_is_shown_to_a_viewer_that_asks_after_the_end():
    views = live.Views()
    last = EnhancedFrame(NOISE, NOISE, 7, 0.0, 1.0)
    views.show(last)
    views.close()
    assert views.newer(6, 0.0) is last
    with pytest.raises(EOFError):
        views.newer(7, 0.0)


def test_no_more_streams_than_the_limit_are_promised_and_places_are_given_back():
    async def watched():
        streams = live._Streams(live.Views())
        answers = [await streams.stream("after") for _ in range(live.MOST_VIEWERS)]
        with pytest.raises(HTTPException, match="8 streams are being sent"):
            await streams.stream("after")
        await answers[0]({"type": "http"}, gone, ignore)
        await streams.stream("after")
        with pytest.raises(HTTPException):
            await streams.stream("after")

    async def gone():
        return {"type": "http.disconnect"}

    async def ignore(message):
        pass

    # In a thread of its own: the loop of a browser that another test holds runs in this one.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, watched()).result()
