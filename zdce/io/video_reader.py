"""Reading of video files, by PyAV: frames as RGB with their times, and the packets of the other streams."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

import av
from av.video.stream import VideoStream

from zdce.errors import FileError
from zdce.io import video_light
from zdce.io.images import Pixels
from zdce.io.video_frames import DEFAULT_SITING, Deinterlacer, ToRGB, bits, fields_of_stream, layout_of
from zdce.io.video_streams import FILE, Packet, is_copied, is_cover

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


Item: TypeAlias = "DecodedFrame | av.Packet[Any]"


class Reader:
    """A video's frames and the packets of the streams that are copied, in the file's order. To be iterated once, in any thread.

    Args:
        deinterlace: whether interlaced frames become progressive ones.

    Attributes:
        first: the first frame as it was decoded.
        layout: how its samples lie.
        deep: whether it has more than 8 bits.
        space: colour space of HDR frames; None for SDR, whose numbers are taken as sRGB.
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
        self._rest = self._read()
        # The output needs the first frame's properties before it is opened.
        packets, self.first = self._until_first_frame()
        self.layout = layout_of(self.first)
        self.deep = bits(self.first.format) > 8
        try:
            self.space = video_light.space_of(self.first)
        except FileError as error:
            raise FileError(f"{self.path}: {error}") from None
        siting = DEFAULT_SITING if self.layout.siting == "unspecified" else self.layout.siting
        self._to_rgb = ToRGB(self.first.width, self.first.height, siting, deep=self.deep)
        self._before: list[Item] = [*packets, self._shot(self.first)]

    def _until_first_frame(self) -> tuple[list[Packet], av.VideoFrame]:
        packets: list[Packet] = []
        for item in self._rest:
            if isinstance(item, av.VideoFrame):
                return packets, item
            packets.append(item)
        raise FileError(f"{self.path}: no frame of it can be decoded" + (f" ({self._error})" if self._error else ""))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.container.close()

    def __iter__(self) -> Iterator[Item]:
        while self._before:
            yield self._before.pop(0)
        for item in self._rest:
            yield self._shot(item) if isinstance(item, av.VideoFrame) else item

    @property
    def frames(self) -> int | None:
        """Number of frames by the file's own count or by its length, or None."""
        if self.stream.frames:
            return self.stream.frames
        rate, duration = self.stream.guessed_rate, self.container.duration
        return round(duration / av.time_base * rate) if rate and duration else None

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

    def _read(self) -> "Iterator[av.VideoFrame | Packet]":
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
            yield from self._deinterlacer(None)

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

    def _decode(self, packet: "av.Packet[Any] | None") -> Iterator[av.VideoFrame]:
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
            yield from self._deinterlacer(frame) if self._deinterlace else [frame]

    def _see_fields(self, frame: av.VideoFrame) -> None:
        self._has_fields = True
        order = self._fields if self._fields != "P" else layout_of(frame).order
        what = f"interlaced ({'bottom' if order == 'B' else 'top'} field first)"
        since = f" from {frame.time:.1f} s on" if self._decoded and frame.time is not None else ""
        if not self._deinterlace:
            raise FileError(f"{self.path}: it is {what}{since}: --deinterlace (deinterlace=True) makes it progressive first")
        self.notes.append(f"it was {what}{since}: two fields became one frame (bwdif)")

    def _shot(self, frame: av.VideoFrame) -> DecodedFrame:
        self._decoded += 1
        self._corrupt += frame.is_corrupt
        # If a stream changes its size, frames are scaled to the first size; otherwise nothing is scaled.
        first = self.first
        if not self._resized and (frame.width, frame.height) != (first.width, first.height):
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
        # Raw streams have no times: frames come at the announced rate.
        untimed = self.first.pts is None
        step = max(1, round(1 / (base * (self.stream.guessed_rate or 25)))) if untimed else 1
        unknown = self._last + step if self._decoded > 1 else 0
        self._last = max(frame.pts - round(self.start / base) if frame.pts is not None else unknown, self._last + 1)
        return DecodedFrame(pixels, self._last, frame.duration or 0, base)
