"""The web application: the page, previews for it, and whole pictures for it and for programs."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from zdce.enhancement import colour
from zdce.errors import FileError, InputError
from zdce.io import images
from zdce.io.images import Picture
from zdce.serving.guard import Guard
from zdce.serving.limits import Limits
from zdce.serving.networks import Networks
from zdce.serving.page import openapi, page
from zdce.serving.previews import Preview, Previews
from zdce.serving.requests import FORMATS, Wish
from zdce.serving.work_queue import BusyError, Desk
from zdce.version import __version__

# Base64 takes 4 characters for 3 bytes; what else a request in JSON says is short.
_JSON_SHARE, _JSON_REST = 4 / 3, 4096

# Seconds after which to come back, for who is told to.
_LATER = "1"

# How often unused previews are looked for, in seconds.
_SWEEP = 30.0

_PREVIEW_QUALITY = 90

# What an error calls a picture, and an answer need not.
_UPLOAD = "the upload"

# Bytes that are handed on at once; the next ones wait until the connection takes more.
_PIECE = 1 << 18

# A client that sends too much is heard out, so that it hears the answer, up to so many times the limit.
_HEARD_OUT = 8


@dataclass
class Result:
    """A file, and how many milliseconds each part of the work took."""

    data: bytes
    media_type: str
    width: int
    height: int
    times: dict[str, float] = field(default_factory=dict)

    @property
    def timing(self) -> dict[str, str]:
        """As the header that browsers' tools know."""
        return {"Server-Timing": ", ".join(f"{name};dur={spent:.1f}" for name, spent in self.times.items())}


@contextmanager
def _timed(times: dict[str, float], name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    times[name] = 1000 * (time.perf_counter() - began)


class Application:
    """What the routes do."""

    def __init__(self, networks: Networks, limits: Limits) -> None:
        self.networks, self.limits = networks, limits
        self.previews, self.desk = Previews(limits), Desk(limits)
        self._page, self._policy = page()
        self._openapi = openapi()

    def routes(self) -> list[Route]:
        return [
            Route("/", self.show),
            Route("/api/info", self.info),
            Route("/api/openapi.json", self.describe),
            Route("/api/pictures", self.add, methods=["POST"]),
            Route("/api/pictures/{name}", self.remove, methods=["DELETE"]),
            Route("/api/pictures/{name}/before", self.before),
            Route("/api/pictures/{name}/after", self.after),
            Route("/api/enhance", self.enhance, methods=["POST"]),
        ]

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(self._sweep())
        try:
            yield
        finally:
            sweeping.cancel()
            self.desk.close()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(_SWEEP, self.limits.idle))
            self.previews.expire()

    async def show(self, request: Request) -> Response:
        return HTMLResponse(self._page, headers={"Content-Security-Policy": self._policy})

    async def describe(self, request: Request) -> Response:
        return Response(self._openapi, media_type="application/json")

    async def info(self, request: Request) -> Response:
        limits = self.limits
        return JSONResponse(
            {
                "version": __version__,
                "models": self.networks.described(),
                "formats": list(FORMATS),
                "limits": {"bytes": limits.file, "pixels": limits.pixels, "pictures": limits.pictures, "idle": limits.idle},
            }
        )

    async def add(self, request: Request) -> Response:
        with self._place(request, self.limits.file) as size:
            data = await _body(request, size, self.limits)
            preview = await self.desk.whole(request, lambda: Preview.of(self._decoded(data)))
        name = self.previews.add(preview)
        described = {"id": name, "width": preview.width, "height": preview.height, "format": _known_as(preview.format)}
        return JSONResponse(described, 201)

    async def remove(self, request: Request) -> Response:
        self.previews.remove(request.path_params["name"])
        return Response(status_code=204)

    async def before(self, request: Request) -> Response:
        preview = self._preview(request)
        with ExitStack() as place:
            place.enter_context(self.desk.place())
            return self._answer(await self.desk.small(request, lambda: _shown(preview.picture, {})), place)

    async def after(self, request: Request) -> Response:
        preview, wish = self._preview(request), Wish.of(request.query_params)
        with ExitStack() as place:
            place.enter_context(self.desk.place())
            return self._answer(await self.desk.small(request, lambda: self._enhanced_preview(preview, wish)), place)

    async def enhance(self, request: Request) -> Response:
        in_json = request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"
        most = int(self.limits.file * _JSON_SHARE) + _JSON_REST if in_json else self.limits.file
        with ExitStack() as place:
            size = place.enter_context(self._place(request, most))
            if in_json:
                text = await _body(request, size, self.limits)
                return self._answer(await self.desk.whole(request, lambda: _in_json(self._enhanced(*_from_json(text)))), place)
            wish = Wish.of(request.query_params)
            data = await _body(request, size, self.limits)
            return self._answer(await self.desk.whole(request, lambda: self._enhanced(data, wish)), place)

    def _answer(self, result: Result, place: ExitStack) -> Response:
        """``result`` as an answer that keeps the ``place`` until it is sent."""
        place.enter_context(self.desk.held(len(result.data)))
        return _Sent(result, self.limits.transfer_seconds(len(result.data)), place.pop_all())

    @contextmanager
    def _place(self, request: Request, most: int) -> Iterator[int]:
        """A place in the queue; gives the upload's size, checked."""
        length = request.headers.get("content-length")
        # Of an upload in chunks it counts for nothing (RFC 9112, section 6.3).
        if length is None or "transfer-encoding" in request.headers:
            raise HTTPException(411, "an upload must say its Content-Length, and come in no chunks")
        if int(length) > most:
            raise HTTPException(413, f"an upload must have at most {most} bytes, got {length}")
        with self.desk.place(int(length)):
            yield int(length)

    def _preview(self, request: Request) -> Preview:
        try:
            return self.previews.get(request.path_params["name"])
        except KeyError:
            raise HTTPException(404, "this picture is not held, or no longer; send it again") from None

    def _decoded(self, data: bytes) -> Picture:
        try:
            return images.decode(data, _UPLOAD, self.limits.pixels)
        except FileError as error:
            if isinstance(error.__cause__, MemoryError):
                raise error.__cause__ from None
            raise HTTPException(415, str(error).removeprefix(f"{_UPLOAD}: ")) from None

    def _enhanced_preview(self, preview: Preview, wish: Wish) -> Result:
        enhancer = self.networks.enhancer(wish.model, wish.scale).with_settings(strength=wish.strength)
        times: dict[str, float] = {}

        def estimate(picture: Picture) -> Any:
            with _timed(times, "maps"):
                return enhancer.maps(picture.pixels)

        maps = self.previews.maps(preview, (id(enhancer.model), enhancer.scale), estimate)
        # A reduction by n averages n x n pixels, and leaves an n-th of the noise's deviation.
        calmer = enhancer.with_settings(noise=enhancer.noise * preview.picture.pixels.shape[1] / preview.width)
        with _timed(times, "apply"):
            pixels = calmer.apply(preview.picture.pixels, maps)
        return _shown(preview.picture.with_pixels(pixels), times)

    def _enhanced(self, data: bytes, wish: Wish) -> Result:
        enhancer = self.networks.enhancer(wish.model, wish.scale).with_settings(strength=wish.strength)
        times: dict[str, float] = {}
        with _timed(times, "decode"):
            picture = self._decoded(data)
        suffix = FORMATS[wish.format] or FORMATS[_known_as(picture.format)]
        assert suffix is not None
        images.check(picture, Path(f"result{suffix}"))
        with _timed(times, "enhance"):
            picture = colour.enhance(picture, enhancer)
        with _timed(times, "encode"):
            return _encoded(picture, suffix, wish.quality, times)


def _known_as(format_name: str) -> str:
    """What ``Wish`` calls a format of Pillow's, or another that can hold the same where it is not written."""
    return format_name.lower() if format_name.lower() in FORMATS else "png"


def _shown(picture: Picture, times: dict[str, float]) -> Result:
    """A preview as browsers show it."""
    with _timed(times, "encode"):
        return _encoded(picture, ".jpg" if picture.alpha is None else ".png", _PREVIEW_QUALITY, times)


def _encoded(picture: Picture, suffix: str, quality: int, times: dict[str, float]) -> Result:
    data = images.encode(picture, Path(f"result{suffix}"), quality).data
    height, width = picture.pixels.shape[:2]
    return Result(data, Image.MIME[Image.registered_extensions()[suffix]], width, height, times)


def _in_json(result: Result) -> Result:
    """The same as JSON: what ``/api/enhance`` answers to JSON."""
    values = {
        "media_type": result.media_type,
        "width": result.width,
        "height": result.height,
        "milliseconds": result.times,
        "image": base64.b64encode(result.data).decode(),
    }
    return replace(result, data=json.dumps(values).encode(), media_type="application/json")


class _Sent(Response):
    """A result that leaves piece by piece: in memory as long as it has its ``place``, and no longer than ``seconds``."""

    def __init__(self, result: Result, seconds: float, place: ExitStack) -> None:
        super().__init__(result.data, media_type=result.media_type, headers=result.timing)
        self._seconds, self._place = seconds, place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Who takes too long finds the connection closed.
        with self._place, suppress(TimeoutError):
            async with asyncio.timeout(self._seconds):
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                for at in range(0, len(self.body), _PIECE):
                    await send({"type": "http.response.body", "body": self.body[at : at + _PIECE], "more_body": True})
                await send({"type": "http.response.body", "body": b""})


def _from_json(text: bytes) -> tuple[bytes, Wish]:
    """The picture and what is to be done with it.

    Raises:
        ValueError: it is no such JSON.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise InputError("expected JSON, got something else") from None
    if not isinstance(values, dict) or not isinstance(values.get("image"), str):
        raise InputError('expected a JSON object with an "image", the picture\'s file in base64')
    try:
        data = base64.b64decode(values.pop("image"), validate=True)
    except ValueError:
        raise InputError("image must be base64, got something else") from None
    return data, Wish.of(values)


async def _body(request: Request, size: int, limits: Limits) -> bytes:
    """The upload, in memory."""
    data = bytearray()
    try:
        async with asyncio.timeout(limits.transfer_seconds(size)):
            async for chunk in request.stream():
                data += chunk
    except TimeoutError:
        raise HTTPException(408, f"the upload took longer than {limits.transfer_seconds(size):.0f} s") from None
    return bytes(data)


async def _hear_out(request: Request, limits: Limits) -> None:
    """Reads and forgets the rest of an upload: a connection that is closed in the middle of one loses the answer."""
    length = int(request.headers.get("content-length", 0))
    # Where the upload was read, or somebody is at it, there is nothing to hear.
    with suppress(TimeoutError, ClientDisconnect, RuntimeError):
        if 0 < length <= _HEARD_OUT * limits.file:
            async with asyncio.timeout(limits.transfer_seconds(length)):
                async for _ in request.stream():
                    pass


Answer = Callable[[Request, Any], Awaitable[Response]]


def _refusals(limits: Limits) -> dict[Any, Answer]:
    """The answer to each kind of error."""

    async def refuse(request: Request, status: int, words: str, headers: dict[str, str] | None = None) -> Response:
        await _hear_out(request, limits)
        return JSONResponse({"error": " ".join(words.split())}, status, headers)

    async def told(request: Request, error: HTTPException) -> Response:
        return await refuse(request, error.status_code, error.detail, dict(error.headers or {}))

    async def wrong(request: Request, error: InputError) -> Response:
        return await refuse(request, 400, str(error))

    async def busy(request: Request, error: BusyError) -> Response:
        return await refuse(request, 503, "as many pictures are waiting as may; come back later", {"Retry-After": _LATER})

    async def too_large(request: Request, error: MemoryError) -> Response:
        return await refuse(request, 413, "the picture takes more memory than there is")

    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=499)  # nobody reads it

    async def broken(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": "something went wrong here; the server's own output says what"}, 500)

    return {
        HTTPException: told,
        InputError: wrong,
        BusyError: busy,
        MemoryError: too_large,
        ClientDisconnect: gone,
        Exception: broken,
    }


def application(networks: Networks, limits: Limits, names: Sequence[str] = ()) -> Guard:
    """The application for ``networks`` within ``limits``, which ``names`` may be called by beside localhost and addresses."""
    made = Application(networks, limits)
    return Guard(Starlette(routes=made.routes(), exception_handlers=_refusals(limits), lifespan=made.lifespan), names)
