"""The web application of `zdce serve`: the page, its previews, and whole pictures for the page and for programs."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, Query
from fastapi.exceptions import RequestValidationError
from PIL import Image
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import Receive, Scope, Send

from zdce.enhancement import colour, picture_files
from zdce.enhancement.enhancer import Floats
from zdce.enhancement.transparency import enhance_visible
from zdce.errors import FileError, InputError
from zdce.io import images
from zdce.io.images import Picture
from zdce.serving import in_browser
from zdce.serving.guard import Guard
from zdce.serving.limits import Limits
from zdce.serving.networks import Networks
from zdce.serving.page import page
from zdce.serving.previews import Preview, Previews
from zdce.serving.requests import (
    FORMATS,
    EnhancedPicture,
    EnhanceRequest,
    Info,
    KeptPreview,
    OfferedLimits,
    OfferedNetwork,
    OfferedSetting,
    Problem,
    Upload,
    explained,
)
from zdce.serving.work_queue import BusyError, WorkQueue
from zdce.settings import EnhanceSettings
from zdce.version import __version__

# Base64 takes 4 characters for 3 bytes; the rest of a JSON request is short.
_JSON_SHARE, _JSON_REST = 4 / 3, 4096

# Seconds after which a client that got 503 may try again.
_LATER = "1"

# Seconds between searches for unused previews.
_SWEEP = 30.0

_PREVIEW = EnhanceSettings(quality=90)

# Name of a picture in errors, which answers leave out.
_UPLOAD = "the upload"

# Number of bytes that are passed on at once; the next ones wait until the connection accepts more.
_PIECE = 1 << 18

# If a client sends too much, up to this many times the limit is read and dropped, so that it receives the answer.
_HEARD_OUT = 8


@dataclass
class Result:
    """A file with the milliseconds of each part of the work, whether it shows anything else than the input, and lines about
    what it lacks of the input.
    """

    data: bytes
    media_type: str
    width: int
    height: int
    times: dict[str, float] = field(default_factory=dict)
    changed: bool = True
    notes: list[str] = field(default_factory=list)

    @property
    def headers(self) -> dict[str, str]:
        """The headers ``Server-Timing``, ``Picture-Changed`` and ``Picture-Notes``."""
        times = ", ".join(f"{name};dur={spent:.1f}" for name, spent in self.times.items())
        headers = {"Server-Timing": times, "Picture-Changed": "yes" if self.changed else "no"}
        if self.notes:
            headers["Picture-Notes"] = " ".join("; ".join(self.notes).split()).encode("ascii", "replace").decode()
        return headers


@contextmanager
def _timed(times: dict[str, float], name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    times[name] = 1000 * (time.perf_counter() - began)


# For the OpenAPI document: the answers of a request, by status.
_Answers = dict[int | str, dict[str, Any]]


class Application:
    """The functions behind the routes."""

    def __init__(self, networks: Networks, limits: Limits) -> None:
        self.networks, self.limits = networks, limits
        self.previews, self.queue = Previews(limits), WorkQueue(limits)
        document, self._policy = page()
        self._page = document.replace("<!-- browser -->", in_browser.LINK if in_browser.is_built() else "")

    def add_routes(self, api: FastAPI) -> None:
        """Adds the routes to ``api``, each with its part of the OpenAPI document."""

        def add(path: str, does: Callable[..., Any], answers: _Answers, **more: Any) -> None:
            api.add_api_route(path, does, responses={**answers, "default": _REFUSED}, response_class=Response, **more)
            if "methods" not in more:
                api.add_api_route(path, does, methods=["HEAD"], include_in_schema=False)

        post = {"methods": ["POST"]}
        add("/", self.show, {200: _described("HTML.", "text/html")}, summary="The page")
        add("/api/info", self.info, {200: {"model": Info}}, summary="Networks, settings, formats and limits")
        add(
            "/api/enhance", self.enhance,
            {200: {**_described("A picture file, or JSON if the request was JSON.", "image/*"), "model": EnhancedPicture}},
            summary="Enhance a whole picture; nothing is kept", openapi_extra=_takes(Upload), **post,
        )  # fmt: skip
        add(
            "/api/pictures", self.add, {201: {"model": KeptPreview}}, status_code=201,
            summary="Keep a small version of a picture, as a preview", openapi_extra=_takes(), **post,
        )  # fmt: skip
        add("/api/pictures/{name}", self.remove, {204: {}}, methods=["DELETE"], status_code=204, summary="Delete the preview")
        shown: _Answers = {200: _described("A picture file.", "image/*")}
        add("/api/pictures/{name}/before", self.before, shown, summary="The preview")
        add("/api/pictures/{name}/after", self.after, shown, summary="The preview, enhanced")
        if in_browser.is_built():
            api.mount("/browser", in_browser.BrowserFiles())

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(self._sweep())
        try:
            yield
        finally:
            sweeping.cancel()
            self.queue.close()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(_SWEEP, self.limits.idle))
            self.previews.expire()

    async def show(self, request: Request) -> Response:
        return HTMLResponse(self._page, headers={"Content-Security-Policy": self._policy})

    async def info(self, request: Request) -> Response:
        limits = self.limits
        return _json(
            Info(
                version=__version__,
                models=[OfferedNetwork(**one) for one in self.networks.described()],
                settings=OfferedSetting.all(),
                formats=list(FORMATS),
                limits=OfferedLimits(bytes=limits.file, pixels=limits.pixels, pictures=limits.pictures, idle=limits.idle),
            )
        )

    async def add(self, request: Request) -> Response:
        with ExitStack() as place:
            data = await self._received(request, self.limits.file, place)
            preview = await self.queue.whole(request, lambda: Preview.of(self._decoded(data)))
        name = self.previews.add(preview)
        held = KeptPreview(id=name, width=preview.width, height=preview.height, format=_known_as(preview.format))
        return _json(held, 201)

    async def remove(self, name: str) -> Response:
        self.previews.remove(name)
        return Response(status_code=204)

    async def before(self, request: Request, name: str) -> Response:
        preview = self._preview(name)
        with ExitStack() as place:
            place.enter_context(self.queue.place())
            return self._answer(await self.queue.small(request, lambda: _shown(preview.picture, {})), place)

    async def after(self, request: Request, name: str, asked: Annotated[EnhanceRequest, Query()]) -> Response:
        preview = self._preview(name)
        with ExitStack() as place:
            place.enter_context(self.queue.place())
            return self._answer(await self.queue.small(request, lambda: self._enhanced_preview(preview, asked)), place)

    async def enhance(self, request: Request, asked: Annotated[EnhanceRequest, Query()]) -> Response:
        in_json = request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"
        if in_json and request.query_params:
            raise InputError(
                f"settings must stand in the JSON document, got some in the address too: {', '.join(request.query_params)}"
            )
        most = int(self.limits.file * _JSON_SHARE) + _JSON_REST if in_json else self.limits.file
        with ExitStack() as place:
            data = await self._received(request, most, place)
            if in_json:
                return self._answer(await self.queue.whole(request, lambda: _in_json(self._enhanced(*_from_json(data)))), place)
            return self._answer(await self.queue.whole(request, lambda: self._enhanced(data, asked)), place)

    def _answer(self, result: Result, place: ExitStack) -> Response:
        """``result`` as an answer that occupies ``place`` until it is sent."""
        place.enter_context(self.queue.held(len(result.data)))
        return _ResultResponse(result, self.limits.transfer_seconds(len(result.data)), place.pop_all())

    async def _received(self, request: Request, most: int, place: ExitStack) -> bytes:
        """The upload, of at most ``most`` bytes. ``place`` counts its memory while it arrives, and gets a place in the queue at
        the end.
        """
        length = request.headers.get("content-length")
        # It does not apply to uploads in chunks (RFC 9112, section 6.3).
        if length is None or "transfer-encoding" in request.headers:
            raise HTTPException(411, "an upload must have a Content-Length and must not be chunked")
        if int(length) > most:
            raise HTTPException(413, f"an upload must have at most {most} bytes, got {length}")
        self.queue.check()
        count, data = place.enter_context(self.queue.memory()), bytearray()
        try:
            async for chunk in _paced(request, self.limits):
                count(len(chunk))
                data += chunk
        except TimeoutError:
            raise HTTPException(408, f"the upload is too slow: {len(data)} of {length} bytes have arrived") from None
        place.enter_context(self.queue.place())
        return bytes(data)

    def _preview(self, name: str) -> Preview:
        try:
            return self.previews.get(name)
        except KeyError:
            raise HTTPException(404, "this picture is not kept, or was deleted; send it again") from None

    def _decoded(self, data: bytes) -> Picture:
        try:
            return images.decode(data, _UPLOAD, self.limits.pixels)
        except FileError as error:
            if isinstance(error.__cause__, MemoryError):
                raise error.__cause__ from None
            raise HTTPException(415, str(error).removeprefix(f"{_UPLOAD}: ")) from None

    def _enhanced_preview(self, preview: Preview, asked: EnhanceRequest) -> Result:
        enhancer = self.networks.enhancer(asked.model, asked.settings)
        times: dict[str, float] = {}
        picture = preview.picture
        # Strength and noise take effect when maps are applied, and settings of files when the result is written.
        estimated_with = replace(enhancer.settings, strength=1.0, noise=None, quality=None, subsampling=None, strip=None)
        calmer = enhancer
        if asked.settings.noise is not None:
            # A reduction by n averages n x n pixels, which divides the standard deviation of noise by n.
            calmer = enhancer.with_settings(noise=asked.settings.noise * picture.pixels.shape[1] / preview.width)

        def curved(visible: images.Pixels) -> images.Pixels:  # Always the same pixels for this preview.
            def estimated() -> Floats:
                with _timed(times, "maps"):
                    return enhancer.maps(visible)

            maps = self.previews.maps(preview, (id(enhancer.model), estimated_with), estimated)
            with _timed(times, "apply"):
                return calmer.apply(visible, maps)

        pixels = enhance_visible(picture.pixels, picture.alpha, curved)
        result = _shown(picture.with_pixels(pixels), times)
        return replace(result, changed=_differ(pixels, picture.pixels))

    def _enhanced(self, data: bytes, asked: EnhanceRequest) -> Result:
        enhancer = self.networks.enhancer(asked.model, asked.settings)
        times: dict[str, float] = {}
        with _timed(times, "decode"):
            picture = self._decoded(data)
        suffix = FORMATS[asked.format] or FORMATS[_known_as(picture.format)]
        assert suffix is not None
        with _timed(times, "enhance"):
            made = colour.enhance(picture, enhancer)
        with _timed(times, "encode"):
            result = picture_files.encoded(picture, made, picture.format, Path(f"result{suffix}"), asked.settings)
        file = data if result.data is None else result.data
        whole = _result(picture, file, suffix, times)
        return replace(whole, changed=_differ(made.pixels, picture.pixels), notes=result.notes)


def _differ(pixels: images.Pixels, others: images.Pixels) -> bool:
    """Whether two pictures (H, W, 3) differ visibly: somewhere by more than a level of 255."""
    level = np.iinfo(others.dtype).max // 255
    return bool((np.maximum(pixels, others) - np.minimum(pixels, others)).max() > level)


def _json(value: BaseModel, status: int = 200) -> Response:
    return Response(value.model_dump_json(), status, media_type="application/json")


# For the OpenAPI document: the answer of every refusal, and the bodies of requests, which are read piece by piece within
# limits.
_REFUSED: dict[str, Any] = {"model": Problem, "description": "Refused, with the reason."}


def _described(words: str, media_type: str) -> dict[str, Any]:
    return {"description": words, "content": {media_type: {"schema": {"type": "string", "format": "binary"}}}}


def _takes(in_json: type[BaseModel] | None = None) -> dict[str, Any]:
    file = {"type": "string", "format": "binary", "description": "The file as it is; its type is found by decoding it."}
    content: dict[str, Any] = {"*/*": {"schema": file}}
    if in_json is not None:
        content["application/json"] = {"schema": in_json.model_json_schema()}
    return {"requestBody": {"required": True, "content": content}}


def _known_as(format_name: str) -> str:
    """The name in requests of Pillow's format, or of one that can hold the same if it can't be written."""
    return format_name.lower() if format_name.lower() in FORMATS else "png"


def _shown(picture: Picture, times: dict[str, float]) -> Result:
    """A preview for browsers."""
    with _timed(times, "encode"):
        suffix = ".jpg" if picture.alpha is None else ".png"
        data = images.encode(picture, Path(f"result{suffix}"), _PREVIEW).data
    return _result(picture, data, suffix, times)


def _result(picture: Picture, data: bytes, suffix: str, times: dict[str, float]) -> Result:
    height, width = picture.pixels.shape[:2]
    return Result(data, Image.MIME[Image.registered_extensions()[suffix]], width, height, times)


def _in_json(result: Result) -> Result:
    """The result as JSON: the answer of ``/api/enhance`` to JSON."""
    answer = EnhancedPicture(
        media_type=result.media_type,
        width=result.width,
        height=result.height,
        milliseconds=result.times,
        notes=result.notes,
        image=base64.b64encode(result.data).decode(),
    )
    return replace(result, data=answer.model_dump_json().encode(), media_type="application/json")


class _ResultResponse(Response):
    """A result that is sent piece by piece; it stays in memory while it has its ``place``, and at most ``seconds``."""

    def __init__(self, result: Result, seconds: float, place: ExitStack) -> None:
        super().__init__(result.data, media_type=result.media_type, headers=result.headers)
        self._seconds, self._place = seconds, place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # A client that takes too long finds the connection closed.
        with self._place, suppress(TimeoutError):
            async with asyncio.timeout(self._seconds):
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                for at in range(0, len(self.body), _PIECE):
                    await send({"type": "http.response.body", "body": self.body[at : at + _PIECE], "more_body": True})
                await send({"type": "http.response.body", "body": b""})


def _from_json(text: bytes) -> tuple[bytes, EnhanceRequest]:
    """The picture and the request in a JSON body.

    Raises:
        ValueError: the body is not such JSON.
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
    return data, EnhanceRequest.of(values)


async def _paced(request: Request, limits: Limits) -> AsyncIterator[bytes]:
    """The pieces of an upload.

    Raises:
        TimeoutError: it is too slow.
    """
    began, received = asyncio.get_running_loop().time(), 0
    async with asyncio.timeout(None) as deadline:
        deadline.reschedule(began + limits.transfer_seconds(0))
        async for chunk in request.stream():
            received += len(chunk)
            deadline.reschedule(began + limits.transfer_seconds(received))
            yield chunk


async def _drain(request: Request, limits: Limits) -> None:
    """Reads and drops the rest of an upload: if a connection is closed in the middle of one, the answer is lost."""
    length = int(request.headers.get("content-length", 0))
    # If the upload was read, or another reader is at work, nothing is left.
    with suppress(TimeoutError, ClientDisconnect, RuntimeError):
        if 0 < length <= _HEARD_OUT * limits.file:
            async for _ in _paced(request, limits):
                pass


Answer = Callable[[Request, Any], Coroutine[Any, Any, Response]]


def _refusals(limits: Limits) -> dict[Any, Answer]:
    """The answer to each kind of error."""

    async def refuse(request: Request, status: int, words: str, headers: dict[str, str] | None = None) -> Response:
        if status != 408:  # It was too slow already.
            await _drain(request, limits)
        return JSONResponse({"error": " ".join(words.split())}, status, headers)

    async def told(request: Request, error: HTTPException) -> Response:
        return await refuse(request, error.status_code, error.detail, dict(error.headers or {}))

    async def wrong(request: Request, error: InputError) -> Response:
        return await refuse(request, 400, str(error))

    async def malformed(request: Request, error: RequestValidationError) -> Response:
        return await refuse(request, 400, explained(error.errors()))

    async def busy(request: Request, error: BusyError) -> Response:
        return await refuse(request, 503, "too many requests are waiting; try again later", {"Retry-After": _LATER})

    async def too_large(request: Request, error: MemoryError) -> Response:
        return await refuse(request, 413, "there is not enough memory for the picture")

    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=499)  # Nobody reads it.

    async def broken(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": "internal error; see the output of the server"}, 500)

    return {
        HTTPException: told,
        InputError: wrong,
        RequestValidationError: malformed,
        BusyError: busy,
        MemoryError: too_large,
        ClientDisconnect: gone,
        Exception: broken,
    }


def application(networks: Networks, limits: Limits, names: Sequence[str] = ()) -> Guard:
    """The application for ``networks`` within ``limits``; ``names`` are host names that requests may use beside localhost and
    addresses.
    """
    made = Application(networks, limits)
    api = FastAPI(
        title="zdce serve", version=__version__, openapi_url="/api/openapi.json", docs_url=None, redoc_url=None,
        description="Enhances dark pictures. Errors are JSON with one field, error. If too many requests are open, the answer "
        "is 503 with Retry-After in seconds.",
        exception_handlers=_refusals(limits), lifespan=made.lifespan,
    )  # fmt: skip
    made.add_routes(api)
    return Guard(api, names)
