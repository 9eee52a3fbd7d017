"""Writing of video files, by PyAV, with the times, tags and copied streams of the video that they were made from."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.format import VideoFormat
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream

from zdce.errors import FileError
from zdce.io import matroska, video_light
from zdce.io.stripping import strip_tags
from zdce.io.video_frames import DEFAULT_SITING, FromRGB, bits, sampling
from zdce.io.video_reader import DecodedFrame, Item, Reader
from zdce.io.video_streams import FILE, OtherStreams

# Formats that give the shape of pixels by the display size of a film.
_MATROSKA = ("matroska", "webm")

# AVColorSpace of RGB, which has no matrix.
_RGB = 0

# Speed against size: the encoder must keep up with the enhancer.
_ENCODER_OPTIONS = {
    "libx264": {"preset": "veryfast"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "6", "row-mt": "1", "b": "0"},
    "libsvtav1": {"preset": "8"},  # Above 9 it warns of artifacts.
}

# What makes an encoder lossless: x264's crf 0 is so for 8 bits alone, and SVT-AV1 treats 0 as not given.
_LOSSLESS = {"libx264": {"qp": "0"}, "libvpx-vp9": {"crf": "0"}, "libsvtav1": {"svtav1-params": "lossless=1"}}

# AV_CODEC_FLAG_FRAME_DURATION: packets last as long as their frames, not as long as the frame rate says.
_KEEPS_DURATIONS = 1 << 8

# Places of chroma samples that an encoder, or its only container, can name.
_ALL_SITINGS = frozenset({"left", "center", "topleft", "top", "bottomleft", "bottom"})
_SITINGS = {
    "libx264": _ALL_SITINGS,
    "libvpx-vp9": frozenset({"left", "center", "topleft", "top"}),
    "libsvtav1": frozenset({"left", "topleft"}),
}

# Encoders for more than 8 bits in the same containers, if the usual one was built without them, as PyAV's libvpx is.
_DEEP_ENCODERS = {"libvpx-vp9": "libsvtav1"}


@contextmanager
def _as_file_errors(name: str) -> Iterator[None]:
    """Turns errors of FFmpeg, which has its own beside the system's, into errors about the file ``name``."""
    try:
        yield
    except av.error.FFmpegError as error:
        raise FileError(f"{name}: {error.strerror or error}") from error


class Writer:
    """A video file with the time, tags and copied streams of a ``Reader``.

    ``notes`` has a line about each difference. If the encoder's chroma sampling needs even sides, the last row or column of odd
    ones is repeated.

    Args:
        container: FFmpeg's name of the format.
        codec: FFmpeg's name of the encoder.
        crf: constant rate factor.
        name: name of the file in errors; an empty string stands for ``path``.
        strip: tags to leave out, ``"gps"`` or ``"all"`` (``zdce.settings.STRIPS``).

    Raises:
        OSError: the file can't be written.
    """

    def __init__(
        self, path: Path, source: Reader, container: str, codec: str, crf: int, name: str = "", strip: str | None = None
    ) -> None:
        self._name, self._path, self._container = name or str(path), path, container
        self._ratio: Fraction | None = None
        # First time and end of the frames in seconds, and the first packet's time of decoding in the stream's units.
        self._begin, self._end = Fraction(2**63), Fraction(0)
        self._first_dts: int | None = None
        self.notes: list[str] = []
        self._first, self._rate = source.first, source.stream.guessed_rate
        base = source.stream.time_base
        # Otherwise the mp4 family multiplies a coarse time base by powers of two.
        timescale = {"video_track_timescale": str(base.denominator)} if container in ("mp4", "mov") and base else {}
        # Vendors' keys, such as Apple's place and model of the camera, and Android's, are written only in this way.
        keys = container in ("mp4", "mov") and any(_is_vendors(key) for key in source.container.metadata)
        if keys:
            timescale["movflags"] = "use_metadata_tags"
        with _as_file_errors(self._name):
            self.container = av.open(FILE + str(path), "w", container, container_options=timescale)
        try:
            with _as_file_errors(self._name):
                self._stream = self._add_video(source, codec, crf)
                self._companions = OtherStreams(self.container, source.path, source.companions, keeps_covers=not keys)
                self.container.metadata.update({_key(k): v for k, v in source.container.metadata.items()})
                for described in (self.container, *self.container.streams):
                    strip_tags(described.metadata, strip)
                if self._ratio is not None:
                    self._stream.metadata["title"] = self._stream.metadata.get("title", "") + matroska.RESERVED
                self.container.set_chapters(_earlier(source.container.chapters(), source.start))
                self.container.start_encoding()
        except BaseException:
            self.container.close()
            raise

    def _add_video(self, source: Reader, codec: str, crf: int) -> VideoStream:
        first, base = self._first, source.stream.time_base
        codec, self._format, changed = _written(first.format, codec)
        self.notes += changed
        os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 would print its settings; 1 prints errors only.
        # H.264 counts its size in whole chroma samples.
        across, down = {"420": (2, 2), "422": (2, 1)}.get(self._format[3:6], (1, 1)) if codec == "libx264" else (1, 1)
        self._width, self._height = -(-first.width // across) * across, -(-first.height // down) * down
        if (self._width, self._height) != (first.width, first.height):
            self.notes.append(f"{first.width}x{first.height} became {self._width}x{self._height}: H.264 needs even sides")
        options = _ENCODER_OPTIONS[codec] | ({"crf": str(crf)} if crf > 0 else _LOSSLESS[codec])
        siting = _written_siting(source.layout.siting, codec)
        self.notes += video_light.left_out(first, codec)
        for option, value in video_light.encoder_options(first, codec).items():
            options[option] = f"{options[option]}:{value}" if option in options else value
        options["chroma_sample_location"] = siting
        stream = self.container.add_stream(
            codec, rate=source.stream.guessed_rate, options=options,
            width=self._width, height=self._height, pix_fmt=self._format, time_base=base,
        )  # fmt: skip
        assert isinstance(stream, VideoStream)
        if base is not None:
            stream.time_base = base
        # RGB has no matrix; the encoded format has BT.709's.
        self._colorspace = first.colorspace if first.colorspace != _RGB else int(Colorspace.ITU709)
        self._range = _written_range(first)
        context = stream.codec_context
        context.flags |= _KEEPS_DURATIONS
        context.colorspace, context.color_range = self._colorspace, self._range
        context.color_primaries, context.color_trc = first.color_primaries, first.color_trc
        self._from_rgb = FromRGB(self._format, self._colorspace, self._range, siting)
        ratio = source.stream.sample_aspect_ratio
        if ratio:
            context.sample_aspect_ratio = ratio
        side_data: Any = first.side_data
        if SideDataType.DISPLAYMATRIX in side_data:
            stream.set_display_matrix(np.frombuffer(side_data[SideDataType.DISPLAYMATRIX], np.int32).tolist())
        # The alpha channel is not written.
        stream.metadata.update({k: v for k, v in source.stream.metadata.items() if k.lower() != "alpha_mode"})
        stream.disposition = source.stream.disposition
        if ratio and ratio != 1 and self._container in _MATROSKA:
            self._ratio = ratio
        if any(component.is_alpha for component in first.format.components) or _has_alpha_mode(source.stream):
            self.notes.append("its transparency was left out")
        return stream

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                with _as_file_errors(self._name):
                    self._mux(self._stream.encode(None), last=True)
                    self._companions.finish()
                    self.notes += self._companions.notes
        finally:
            # Also writes buffered data: at the latest here, a full disk is noticed.
            with _as_file_errors(self._name):
                self.container.close()
        if kind is None and self._ratio is not None:
            exactly = self._container == "matroska"
            matroska.set_pixel_shape(self._path, self._width, self._height, self._ratio, exactly=exactly)

    def write(self, item: Item) -> None:
        """Encodes a frame, or copies a packet of another stream."""
        with _as_file_errors(self._name):
            if isinstance(item, DecodedFrame):
                frame = self._frame(item)
                self._begin = min(self._begin, item.pts * item.time_base)
                self._end = max(self._end, (item.pts + frame.duration) * item.time_base)
                self._mux(self._stream.encode(frame))
            else:
                self._companions.write(item)

    def _mux(self, packets: list[Any], *, last: bool = False) -> None:
        """Writes the video's packets. In MP4 the last one to be decoded, which may be shown earlier, has to last until the end
        of the film: durations lie between times of decoding there.
        """
        if packets and self._first_dts is None:
            self._first_dts = packets[0].dts
        if last and packets and self._container in ("mp4", "mov") and self._first_dts is not None:
            length = round((self._end - self._begin) / packets[-1].time_base)
            packets[-1].duration = max(packets[-1].duration or 0, length - (packets[-1].dts - self._first_dts))
        self.container.mux(packets)

    def _frame(self, shot: DecodedFrame) -> av.VideoFrame:
        height, width = shot.pixels.shape[:2]
        pixels: Any = shot.pixels
        if (height, width) != (self._height, self._width):
            pixels = np.pad(pixels, ((0, self._height - height), (0, self._width - width), (0, 0)), mode="edge")
        frame = self._from_rgb(pixels)
        frame.colorspace, frame.color_range = self._colorspace, self._range
        usual = round(1 / (self._rate * shot.time_base)) if self._rate else 0
        frame.pts, frame.duration, frame.time_base = shot.pts, shot.duration or usual, shot.time_base
        frame.color_primaries, frame.color_trc = self._first.color_primaries, self._first.color_trc
        return frame


def _is_vendors(key: str) -> bool:
    return key.lower().startswith("com.")


def _key(key: str) -> str:
    """The name of a piece of metadata: Matroska has vendors' names in capitals."""
    return key.lower().replace("iso6709", "ISO6709") if _is_vendors(key) and key.isupper() else key


def _earlier(chapters: list[Any], start: Fraction) -> list[Any]:
    """The chapters with times counted from ``start`` seconds. Chapters that end before count from there already, as in MP4."""
    moved = []
    for chapter in chapters:
        ticks = round(start / chapter["time_base"])
        late = chapter["end"] > ticks
        moved.append({**chapter, "start": max(0, chapter["start"] - ticks), "end": chapter["end"] - ticks} if late else chapter)
    return moved


def _has_alpha_mode(stream: VideoStream) -> bool:
    """Whether a WebM stream has transparency in additional packets, which decoders of VP8 and VP9 ignore."""
    return any(name.lower() == "alpha_mode" and value == "1" for name, value in stream.metadata.items())


def _written(source: VideoFormat, codec: str) -> tuple[str, str, list[str]]:
    """The encoder (``codec`` or a substitute), its pixel format for ``source``, and lines about what that changes."""
    deep = bits(source) > 8
    chosen = wanted = sampling(source)
    if deep and f"yuv{wanted}p10le" not in _formats(codec):
        instead = _DEEP_ENCODERS.get(codec, "")
        if deep := "yuv420p10le" in _formats(instead):
            codec, chosen = instead, "420"
    depth = 10 if deep else 8
    changed = [] if depth >= bits(source) else [f"its {bits(source)} bits became {depth}"]
    if chosen != wanted:
        changed.append(f"its chroma sampling {':'.join(wanted)} became {':'.join(chosen)}")
    return codec, f"yuv{chosen}p10le" if deep else f"yuv{chosen}p", changed


def _formats(codec: str) -> set[str]:
    """FFmpeg's names of the pixel formats that an encoder takes; none if the encoder is missing."""
    if codec not in av.codecs_available:
        return set()
    return {taken.name for taken in av.Codec(codec, "w").video_formats or ()}


def _written_siting(source: str, codec: str) -> str:
    """Place of the output's chroma samples: that of the input if the encoder can name it."""
    return source if source in _SITINGS[codec] else DEFAULT_SITING


def _written_range(first: av.VideoFrame) -> int:
    """Full range if the input has it, by its tag or, like JPEG's old formats, by its name; RGB becomes limited."""
    if first.format.is_rgb:
        return int(ColorRange.MPEG)
    return int(ColorRange.JPEG) if first.format.name.startswith("yuvj") else first.color_range
