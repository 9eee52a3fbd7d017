"""Live video in a browser: the newest frames as Motion JPEG, and a page to compare them."""

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from PIL import Image
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from zdce.enhancement.live import EnhancedFrame, Meter
from zdce.serving.guard import Guard
from zdce.serving.page import page
from zdce.serving.requests import explained
from zdce.version import __version__

Side = Literal["before", "after"]

# Quality of a frame's JPEG: twice the speed of 95, and half the bytes.
_QUALITY = 85

# Most streams at once; each frame is encoded once for all.
MOST_VIEWERS = 8

# Seconds for which a stream waits for a frame before it checks for the end.
_LOOK = 0.5

_BOUNDARY = "frame"


class Views:
    """The newest frame for all viewers, encoded when one of them requests it.

    Attributes:
        meter: counts and latencies of the frames.
    """

    def __init__(self) -> None:
        self.meter = Meter()
        self._shown: EnhancedFrame | None = None
        self._over = False
        self._change, self._encoding = threading.Condition(), threading.Lock()
        self._encoded: dict[Side, tuple[int, bytes]] = {}

    def show(self, shown: EnhancedFrame) -> None:
        """Makes this the newest frame."""
        with self._change:
            self._shown = shown
            self._change.notify_all()

    def close(self) -> None:
        """Ends all streams."""
        with self._change:
            self._over = True
            self._change.notify_all()

    @property
    def newest(self) -> EnhancedFrame | None:
        """The newest frame, or None before the first."""
        return self._shown

    def newer(self, than: int, seconds: float) -> EnhancedFrame | None:
        """The newest frame if its number is higher, or None if none arrives within this many seconds.

        Raises:
            EOFError: the video has ended, and its last frame was returned before.
        """

        def unseen() -> EnhancedFrame | None:
            return self._shown if self._shown is not None and self._shown.number > than else None

        with self._change:
            self._change.wait_for(lambda: self._over or unseen() is not None, seconds)
            if (shown := unseen()) is None and self._over:
                raise EOFError
            return shown

    def jpeg(self, shown: EnhancedFrame, side: Side) -> bytes:
        """One side of a frame as a JPEG file."""
        with self._encoding:
            number, data = self._encoded.get(side, (-1, b""))
            if number != shown.number:
                file = io.BytesIO()
                Image.fromarray(getattr(shown, side)).save(file, "JPEG", quality=_QUALITY, subsampling="4:2:0")
                data = file.getvalue()
                self._encoded[side] = shown.number, data
            return data


class LiveState(BaseModel):
    """State for the page and for programs."""

    frames: int
    dropped: int
    latency_ms: float | None
    latency_p95_ms: float | None
    share: float
    width: int
    height: int


class _Streams:
    """The routes of the live server."""

    def __init__(self, views: Views) -> None:
        self._views, self._viewers = views, 0
        self._pool = ThreadPoolExecutor(MOST_VIEWERS, "zdce-live-view")
        self._page, self._policy = page("live", images="'self' data:")

    async def show(self) -> Response:
        return HTMLResponse(self._page, headers={"Content-Security-Policy": self._policy})

    async def state(self) -> LiveState:
        shown = self._newest()
        height, width = shown.after.shape[:2]
        return LiveState.model_validate({**self._views.meter.summary(), "share": shown.share, "width": width, "height": height})

    def picture(self, side: Side) -> Response:
        return Response(self._views.jpeg(self._newest(), side), media_type="image/jpeg")

    async def stream(self, side: Side) -> Response:
        if self._viewers >= MOST_VIEWERS:
            raise HTTPException(503, f"{MOST_VIEWERS} streams are being sent, the most at a time; try again later")
        self._viewers += 1
        return _StreamResponse(self._parts(side), self._one_less)

    def _one_less(self) -> None:
        self._viewers -= 1

    def _newest(self) -> EnhancedFrame:
        if self._views.newest is None:
            raise HTTPException(503, "there is no frame yet; try again later")
        return self._views.newest

    async def _parts(self, side: Side) -> AsyncIterator[bytes]:
        """JPEG files, each the newest one when the connection accepts another."""
        loop, number = asyncio.get_running_loop(), -1
        try:
            while True:
                shown = await loop.run_in_executor(self._pool, self._views.newer, number, _LOOK)
                if shown is None:
                    continue
                number = shown.number
                data = await loop.run_in_executor(self._pool, self._views.jpeg, shown, side)
                head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\nFrame: {number}\r\n\r\n"
                yield head.encode() + data + b"\r\n"
        except EOFError:
            yield f"--{_BOUNDARY}--\r\n".encode()


class _StreamResponse(StreamingResponse):
    """Motion JPEG, with a function that is called at its end."""

    def __init__(self, parts: AsyncIterator[bytes], over: Callable[[], object]) -> None:
        super().__init__(parts, media_type=f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
        self._ended = over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ended()


def application(views: Views, names: Sequence[str] = ()) -> Guard:
    """The application that shows ``views``; ``names`` are host names that requests may use beside localhost and addresses."""
    streams = _Streams(views)

    async def told(request: Any, error: HTTPException) -> Response:
        return JSONResponse({"error": error.detail}, error.status_code)

    async def malformed(request: Any, error: RequestValidationError) -> Response:
        missing = any(one["loc"][0] == "path" for one in error.errors())
        return JSONResponse({"error": explained(error.errors())}, 404 if missing else 400)

    handlers: dict[Any, Any] = {HTTPException: told, RequestValidationError: malformed}
    api = FastAPI(
        title="zdce live", version=__version__, openapi_url="/api/openapi.json", docs_url=None, redoc_url=None,
        exception_handlers=handlers,
    )  # fmt: skip

    def add(path: str, does: Callable[..., Any], summary: str) -> None:
        api.add_api_route(path, does, summary=summary, response_class=Response)

    add("/", streams.show, "The page")
    api.add_api_route(
        "/api/live", streams.state, summary="Counts, latency and the share of the curve", response_model=LiveState
    )
    add("/{side}.mjpg", streams.stream, "Motion JPEG, before or after")
    add("/{side}.jpg", streams.picture, "The newest frame, before or after")
    return Guard(api, names)
