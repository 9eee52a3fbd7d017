"""Video files, by PyAV: frames as RGB and packets of the other streams are read, and written with their times and tags."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.format import VideoFormat
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream

from zdce.errors import FileError
from zdce.io import matroska, video_light
from zdce.io.colour_tags import Space
from zdce.io.images import Pixels
from zdce.io.stripping import strip_tags
from zdce.io.video_frames import DEFAULT_SITING, Deinterlacer, FromRGB, ToRGB, fields_of_stream, layout_of, sampling
from zdce.io.video_streams import FILE, OtherStreams, Packet, is_copied, is_cover

# A file that ends this many frames before its announced length was truncated; more if only the container has a length, which
# sound may round.
_MISSING, _ROUNDED = 0.75, 0.05

# Formats whose header announces their length; for others FFmpeg guesses.
_ANNOUNCING = ("mov", "matroska", "flv")

# Formats for which the lengths of streams are guesses, too.
_GUESSING = ("mpegts", "mpeg", "asf")

# Format whose header has the length in units of a frame; of a file that was cut off, FFmpeg gives a shorter one. Its last
# frames may be empty, which means that the picture stays.
_COUNTING = "avi"

# Formats whose times count from the sender's clock.
_BROADCASTS = ("mpegts", "mpeg")

# Start in seconds from which on it is not a delay that belongs to the film.
_LATE = 1

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


@dataclass(frozen=True)
class DecodedFrame:
    """One frame.

    Attributes:
        pixels: RGB, (H, W, 3), uint8, or uint16 if the video has more than 8 bits.
        pts, duration: time at which it is shown, and duration, in units of ``time_base`` seconds; a duration of 0 is unknown.
    """

    pixels: Pixels
    pts: int
    duration: int
    time_base: Fraction

    @property
    def time(self) -> float:
        """Time in seconds at which it is shown."""
        return float(self.pts * self.time_base)

    def with_pixels(self, pixels: Pixels) -> "DecodedFrame":
        """The same frame with other ``pixels`` (H, W, 3)."""
        return replace(self, pixels=pixels)


@contextmanager
def _as_file_errors(name: str) -> Iterator[None]:
    """Turns errors of FFmpeg, which has its own beside the system's, into errors about the file ``name``."""
    try:
        yield
    except av.error.FFmpegError as error:
        raise FileError(f"{name}: {error.strerror or error}") from error


Item: TypeAlias = "DecodedFrame | av.Packet[Any]"


class Reader:
    """A video's frames and the packets of the streams that are copied, in the file's order. To be iterated once, in any thread.

    Args:
        deinterlace: whether interlaced frames become progressive ones.

    Attributes:
        notes: a line about each thing that differs from the file; complete after the last frame.

    Raises (also while it is iterated):
        OSError: the file can't be read, no frame of it decoded, or it is interlaced and ``deinterlace`` is False.
    """

    def __init__(self, path: Path, *, deinterlace: bool = False) -> None:
        self.path, self._deinterlace = path, deinterlace
        try:
            self.container = av.open(FILE + str(path), "r", metadata_errors="replace")
        except av.error.FFmpegError as error:
            reason = error.strerror or str(error)
            named = reason if isinstance(error, OSError) else f"not a video that can be read ({reason})"
            raise FileError(f"{path}: {named}") from None
        try:
            self._begin()
        except BaseException:
            self.container.close()
            raise

    def _begin(self) -> None:
        streams = self.container.streams
        films = [stream for stream in streams.video if not is_cover(stream)]
        if not films:
            raise FileError(f"{self.path}: it holds no video")
        self.stream: VideoStream = films[0]
        self.stream.thread_type = "AUTO"
        self.companions = [stream for stream in streams if stream is not self.stream]
        self._decoded, self._undecodable, self._corrupt = 0, 0, 0
        self._error, self._end, self._last = "", 0.0, -(2**63)
        self.notes: list[str] = []
        self.start = self._start()
        self._fields = fields_of_stream(self.stream.codec_context)
        self._deinterlacer = Deinterlacer(self._fields)
        self._has_fields = self._resized = False
        self._items = self._read()
        # The output needs the first frame's properties before it is opened.
        self.first: av.VideoFrame | None = None
        self._before: list[Item] = []
        for item in self._items:
            self._before.append(item)
            if isinstance(item, DecodedFrame):
                return
        raise FileError(f"{self.path}: no frame of it can be decoded" + (f" ({self._error})" if self._error else ""))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.container.close()

    def __iter__(self) -> Iterator[Item]:
        while self._before:
            yield self._before.pop(0)
        yield from self._items

    @property
    def frames(self) -> int | None:
        """Number of frames by the file's own count or by its length, or None."""
        if self.stream.frames:
            return self.stream.frames
        rate, duration = self.stream.guessed_rate, self.container.duration
        return round(duration / av.time_base * rate) if rate and duration else None

    @property
    def deep(self) -> bool:
        """Whether it has more than 8 bits."""
        assert self.first is not None
        return _bits(self.first.format) > 8

    @property
    def space(self) -> Space | None:
        """Colour space of HDR frames; None for SDR, whose numbers are taken as sRGB."""
        return self._space

    def fault(self) -> str:
        """After everything was read: a line about what was broken, or an empty string."""
        reasons = [
            f"{self._undecodable} packets can't be decoded" if self._undecodable else "",
            f"{self._corrupt} frames are damaged" if self._corrupt else "",
            self._error,
            self._shortfall(),
        ]
        told = ", ".join(reason for reason in reasons if reason)
        return f"{self.path}: broken: {told}; the {self._decoded} frames that could be decoded were written" if told else ""

    def _shortfall(self) -> str:
        stream, kind = self.stream, self.container.format.name
        frame = float(1 / (stream.guessed_rate or 25))
        if kind in _GUESSING or (kind == _COUNTING and stream.duration == stream.frames):
            return ""
        if stream.duration and stream.time_base:
            units = max(stream.duration, stream.frames) if kind == _COUNTING else stream.duration
            announced, tolerated = float(units * stream.time_base), _MISSING * frame
        elif any(name in kind for name in _ANNOUNCING):
            announced, tolerated = (self.container.duration or 0) / av.time_base, max(_ROUNDED, _MISSING * frame)
        else:
            return ""
        return f"it ends after {self._end:.1f} of {announced:.1f} s" if announced - self._end > tolerated else ""

    def _read(self) -> Iterator[Item]:
        try:
            for packet in self.container.demux([self.stream, *(stream for stream in self.companions if is_copied(stream))]):
                self._note_end(packet)
                if packet.stream is self.stream:
                    yield from self._decode(packet)
                elif packet.size and not packet.is_corrupt:
                    yield self._from_start(packet)
        except av.error.FFmpegError as error:
            self._error = error.strerror or str(error)
            yield from self._decode(None)
        if self._deinterlace:
            yield from map(self._shot, self._deinterlacer(None))

    def _start(self) -> Fraction:
        """The time in seconds that becomes 0: recordings of broadcasts start at other times."""
        start = Fraction(self.container.start_time or 0, av.time_base)
        if self.container.format.name in _BROADCASTS:
            return start
        if start < _LATE:
            return Fraction(0)
        self.notes.append(f"its times began at {float(start):.1f} s and count from 0")
        return start

    def _from_start(self, packet: Packet) -> Packet:
        """The packet with times counted from the file's first one, if the format counts from elsewhere."""
        earlier = round(self.start / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts - earlier
        packet.dts = None if packet.dts is None else packet.dts - earlier
        return packet

    def _note_end(self, packet: Packet) -> None:
        """Notes how far the video, or if its own length is not known any stream, got."""
        shown = packet.dts if packet.pts is None else packet.pts  # AVI has only decoding times.
        if shown is None or packet.is_corrupt or (self.stream.duration and packet.stream is not self.stream):
            return
        end = float((shown + (packet.duration or 0)) * packet.time_base)
        start = (self.stream.start_time or 0) * packet.time_base if self.stream.duration else 0
        self._end = max(self._end, end - float(start))

    def _decode(self, packet: "av.Packet[Any] | None") -> Iterator[DecodedFrame]:
        try:
            frames = self.stream.decode(packet)
        except av.error.EOFError:  # It was flushed before.
            return
        except av.error.FFmpegError:
            self._undecodable += 1
            return
        for frame in frames:
            if not self._has_fields and (frame.interlaced_frame or self._fields != "P"):
                self._see_fields(frame)
            yield from map(self._shot, self._deinterlacer(frame) if self._deinterlace else [frame])

    def _see_fields(self, frame: av.VideoFrame) -> None:
        self._has_fields = True
        order = self._fields if self._fields != "P" else layout_of(frame).order
        what = f"interlaced ({'bottom' if order == 'B' else 'top'} field first)"
        since = f" from {frame.time:.1f} s on" if self._decoded and frame.time is not None else ""
        if not self._deinterlace:
            raise FileError(f"{self.path}: it is {what}{since}: --deinterlace (deinterlace=True) makes it progressive first")
        self.notes.append(f"it was {what}{since}: two fields became one frame (bwdif)")

    def _see_first(self, frame: av.VideoFrame) -> None:
        self.first, self.layout = frame, layout_of(frame)
        # Raw streams have no times: frames come at the announced rate.
        self._untimed = frame.pts is None
        try:
            self._space = video_light.space_of(frame)
        except FileError as error:
            raise FileError(f"{self.path}: {error}") from None
        siting = DEFAULT_SITING if self.layout.siting == "unspecified" else self.layout.siting
        self._to_rgb = ToRGB(frame.width, frame.height, siting, deep=self.deep)

    def _shot(self, frame: av.VideoFrame) -> DecodedFrame:
        if self.first is None:
            self._see_first(frame)
        self._decoded += 1
        self._corrupt += frame.is_corrupt
        # If a stream changes its size, frames are scaled to the first size; otherwise nothing is scaled.
        first = self.first
        if first is not None and not self._resized and (frame.width, frame.height) != (first.width, first.height):
            self._resized = True
            since = f" from {frame.time:.1f} s on" if frame.time is not None else ""
            sizes = f"{frame.width}x{frame.height} became {first.width}x{first.height}"
            self.notes.append(f"its size changes{since}: {sizes}, as it begins")
        try:
            pixels = self._to_rgb(frame)
        except av.error.FFmpegError as error:  # Constant luminance, YCgCo and other rare matrices.
            what = f"{frame.format.name} of colour matrix {frame.colorspace}"
            raise FileError(f"{self.path}: {what} can't be turned into RGB ({error.strerror})") from None
        base = frame.time_base or self.stream.time_base
        assert base is not None
        # Only broken files have frames without a time or out of order; players need increasing times.
        step = max(1, round(1 / (base * (self.stream.guessed_rate or 25)))) if self._untimed else 1
        unknown = self._last + step if self._decoded > 1 else 0
        self._last = max(frame.pts - round(self.start / base) if frame.pts is not None else unknown, self._last + 1)
        return DecodedFrame(pixels, self._last, frame.duration or 0, base)


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
        assert source.first is not None
        self._name, self._path, self._container = name or str(path), path, container
        self._ratio: Fraction | None = None
        # First time and end of the frames, and the first packet's time of decoding, in the stream's units.
        self._span: tuple[int, int] = (2**63, 0)
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
                self._span = (min(self._span[0], item.pts), max(self._span[1], item.pts + frame.duration))
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
            length = self._span[1] - self._span[0]
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
    deep = _bits(source) > 8
    chosen = wanted = sampling(source)
    if deep and f"yuv{wanted}p10le" not in _formats(codec):
        instead = _DEEP_ENCODERS.get(codec, "")
        if deep := "yuv420p10le" in _formats(instead):
            codec, chosen = instead, "420"
    depth = 10 if deep else 8
    changed = [] if depth >= _bits(source) else [f"its {_bits(source)} bits became {depth}"]
    if chosen != wanted:
        changed.append(f"its chroma sampling {':'.join(wanted)} became {':'.join(chosen)}")
    return codec, f"yuv{chosen}p10le" if deep else f"yuv{chosen}p", changed


def _formats(codec: str) -> set[str]:
    """FFmpeg's names of the pixel formats that an encoder takes; none if the encoder is missing."""
    if codec not in av.codecs_available:
        return set()
    return {taken.name for taken in av.Codec(codec, "w").video_formats or ()}


def _bits(pixels: VideoFormat) -> int:
    return max(component.bits for component in pixels.components)


def _written_siting(source: str, codec: str) -> str:
    """Place of the output's chroma samples: that of the input if the encoder can name it."""
    return source if source in _SITINGS[codec] else DEFAULT_SITING


def _written_range(first: av.VideoFrame) -> int:
    """Full range if the input has it, by its tag or, like JPEG's old formats, by its name; RGB becomes limited."""
    if first.format.is_rgb:
        return int(ColorRange.MPEG)
    return int(ColorRange.JPEG) if first.format.name.startswith("yuvj") else first.color_range
