"""Conversion of video frames to RGB and back by FFmpeg's filters: colour matrix, range, and the place of chroma samples."""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.filter import Graph
from av.video.codeccontext import VideoCodecContext
from av.video.format import VideoFormat
from av.video.reformatter import ColorRange

from zdce.io.images import Pixels

# FFmpeg's fast conversions are up to a level too dark.
_FLAGS = "bicubic+accurate_rnd+full_chroma_inp+full_chroma_int+bitexact"

# The place of chroma samples in H.264, HEVC and MPEG-2 if they name none; nearly every encoder is given such frames.
DEFAULT_SITING = "left"

# FFmpeg's names of AVColorSpace's matrices that have a conversion; without a matrix FFmpeg uses BT.601's.
_MATRICES = {1: "bt709", 2: "bt601", 4: "fcc", 5: "bt470", 6: "smpte170m", 7: "smpte240m", 9: "bt2020nc"}

_LAYOUT = re.compile(r"\bcl:(\w+) .*\bi:([PTB]) ")


@dataclass(frozen=True)
class Layout:
    """How a frame's samples lie.

    Attributes:
        siting: FFmpeg's name of the place of the chroma samples; "unspecified" if it is not known.
        order: "P" for a progressive frame, "T" or "B" for two fields of which the top or the bottom one is the first.
    """

    siting: str
    order: str


# First field for values of ``CodecContext.field_order``. 0 is unknown, 1 progressive.
_FIRST_FIELDS = {2: "T", 3: "B", 4: "B", 5: "T"}

# Codecs whose frames tell whether they are interlaced, whatever the container says of the whole stream.
_SAYING = frozenset({"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "vc1", "vp9", "av1"})


def fields_of_stream(context: VideoCodecContext) -> str:
    """The first field if only the container says that frames are interlaced: "T", "B", or "P" for progressive."""
    return "P" if context.name in _SAYING else _FIRST_FIELDS.get(context.field_order, "P")


def layout_of(frame: av.VideoFrame) -> Layout:
    """The layout of a decoded frame. In Python only FFmpeg's log gives it."""
    graph = _graph(frame, frame.time_base, [("showinfo", "checksum=0")])
    level = av.logging.get_level()
    # The outer one receives the log of other threads meanwhile.
    with av.logging.Capture(False), av.logging.Capture() as logs:
        av.logging.set_level(av.logging.INFO)
        try:
            graph.push(frame)
            graph.vpull()
        finally:
            av.logging.set_level(level)
    match = _LAYOUT.search("".join(message for _, _, message in logs))
    return Layout(match[1], match[2]) if match else Layout("unspecified", "P")


def _graph(frame: av.VideoFrame, base: Fraction | None, filters: list[tuple[str, str]]) -> Graph:
    """``filters`` in a row, for frames like ``frame``."""
    graph = Graph()
    described = {
        "video_size": f"{frame.width}x{frame.height}", "pix_fmt": frame.format.name, "time_base": str(base or Fraction(1)),
        "colorspace": frame.colorspace, "range": frame.color_range,
    }  # fmt: skip
    nodes = [graph.add("buffer", ":".join(f"{name}={value}" for name, value in described.items()))]
    nodes += [graph.add(name, options) for name, options in filters]
    graph.link_nodes(*nodes, graph.add("buffersink")).configure()
    return graph


def bits(pixels: VideoFormat) -> int:
    """Bits of the deepest component of ``pixels``."""
    return max(component.bits for component in pixels.components)


def sampling(pixels: VideoFormat) -> str:
    """The chroma sampling, "420", "422" or "444", that holds the chroma of ``pixels``."""
    if len(pixels.components) < 3:  # Grey.
        return "420"
    return {(8, 8): "420", (8, 16): "422"}.get((pixels.chroma_width(16), pixels.chroma_height(16)), "444")


def _is_subsampled(pixels: VideoFormat) -> bool:
    return len(pixels.components) >= 3 and (pixels.chroma_width(16), pixels.chroma_height(16)) != (16, 16)


class Deinterlacer:
    """Makes progressive frames of interlaced ones by FFmpeg's bwdif, one of two fields; others pass as they are.

    Args:
        fields: result of ``fields_of_stream``, for frames that don't name their fields.
    """

    def __init__(self, fields: str) -> None:
        self._filters = [("bwdif", f"mode=send_frame:parity=auto:deint={'interlaced' if fields == 'P' else 'all'}")]
        if fields != "P":
            self._filters.insert(0, ("setfield", "tff" if fields == "T" else "bff"))
        self._made_for: tuple[object, ...] = ()
        self._graph: Graph | None = None

    def __call__(self, frame: av.VideoFrame | None) -> Iterator[av.VideoFrame]:
        """The frames that are ready after another one, or None at the end; each waits for the next one."""
        like = () if frame is None else (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range)
        if self._graph is not None and like != self._made_for:
            self._graph.push(None)
            yield from self._ready()
            self._graph = None
        if frame is None:
            return
        if self._graph is None:
            self._graph, self._made_for = _graph(frame, frame.time_base, self._filters), like
        self._graph.push(frame)
        yield from self._ready()

    def _ready(self) -> Iterator[av.VideoFrame]:
        assert self._graph is not None
        # BlockingIOError: the filter waits for another frame.
        with suppress(av.error.BlockingIOError, av.error.EOFError):
            while True:
                yield self._graph.vpull()


class ToRGB:
    """Turns frames into RGB arrays (height, width, 3), uint16 if ``deep``, else uint8.

    Args:
        siting: place of subsampled chroma samples.

    Raises (on a call):
        av.error.FFmpegError: the frame's colour matrix or pixel format has no conversion.
    """

    def __init__(self, width: int, height: int, siting: str, *, deep: bool) -> None:
        self._size, self._siting, self._format = f"{width}:{height}", siting, "rgb48le" if deep else "rgb24"
        self._made_for: tuple[object, ...] = ()
        self._graph: Graph | None = None

    def __call__(self, frame: av.VideoFrame) -> Pixels:
        """The pixels of a decoded frame; frames of another size are scaled to the first one's."""
        like = (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range)
        if self._graph is None or like != self._made_for:
            options = f"{self._size}:flags={_FLAGS}"
            if _is_subsampled(frame.format):
                options += f":in_chroma_loc={self._siting}"
            self._graph = _graph(frame, frame.time_base, [("scale", options), ("format", self._format)])
            self._made_for = like
        self._graph.push(frame)
        pixels: Any = self._graph.vpull().to_ndarray()
        return pixels


class FromRGB:
    """Turns RGB arrays (height, width, 3) into frames for an encoder.

    Args:
        pixel_format: FFmpeg's name of the frames' format.
        matrix, color_range: AVColorSpace and AVColorRange of the frames.
        siting: place of subsampled chroma samples.
    """

    def __init__(self, pixel_format: str, matrix: int, color_range: int, siting: str) -> None:
        # Without a range, the limited one is meant.
        named = {
            "out_color_matrix": _MATRICES.get(matrix, "bt601"),
            "out_range": "pc" if color_range == ColorRange.JPEG else "tv",
        }
        if _is_subsampled(VideoFormat(pixel_format)):
            named["out_chroma_loc"] = siting
        options = f"flags={_FLAGS}" + "".join(f":{name}={value}" for name, value in named.items())
        self._filters = [("setfield", "prog"), ("scale", options), ("format", pixel_format)]
        self._graph: Graph | None = None

    def __call__(self, pixels: Pixels) -> av.VideoFrame:
        """The frame of ``pixels`` (height, width, 3), uint8 or uint16, all alike; without a time."""
        values: Any = np.ascontiguousarray(pixels)
        frame = av.VideoFrame.from_ndarray(values, "rgb48le" if pixels.dtype == np.uint16 else "rgb24")
        if self._graph is None:
            self._graph = _graph(frame, None, self._filters)
        self._graph.push(frame)
        return self._graph.vpull()
