"""Frames of cameras, network addresses and files in real time (PyAV). Slow readers get the newest frame; there is no queue."""

import math
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import Interpolation, VideoReformatter

from zdce.errors import FileError, InputError
from zdce.io.images import Pixels
from zdce.io.video_streams import FILE

# FFmpeg's input formats for cameras that are known by a number, by system.
_CAMERAS = {"linux": "v4l2", "darwin": "avfoundation"}

# FFmpeg's options: no buffering of input; RTSP over TCP, which loses no packets.
_AT_ONCE = {"fflags": "nobuffer", "flags": "low_delay"}
_RTSP = {"rtsp_transport": "tcp"}

_ADDRESS = re.compile(r"^[a-z][a-z0-9+.-]+://", re.IGNORECASE)

# User name and password in an address, and the part after a question mark, in which some cameras take them. An @ after a
# question mark may end a password or be part of one.
_CREDENTIALS = re.compile(r"(?<=://)(?:.*\?.*@.*|.*@)|\?.*")

# Seconds between checks of the stop event.
_LOOK = 0.2

# Seconds of delay from which on frames are not decoded, until a key frame is in time again.
_LATE, _IN_TIME = 0.5, 0.1

# Seconds of waiting in the demuxer that show that no more data had arrived.
_WAITED = 0.005

# Largest relative error of a source's clock, and largest jump of its times in seconds.
_DRIFT, _JUMP = 1e-3, 10.0


@dataclass(frozen=True)
class Source:
    """Where live frames come from.

    Attributes:
        name: name for users, without passwords.
        url: address that FFmpeg opens.
        input_format: FFmpeg's name of its format, or None.
        is_file: whether it is a file, which is played at its own frame rate.
    """

    name: str
    url: str
    input_format: str | None = None
    is_file: bool = False

    @classmethod
    def of(cls, source: str, input_format: str | None = None) -> "Source":
        """The source that users call so: a camera's number or device, an address such as ``rtsp://...``, or a file.

        Args:
            input_format: FFmpeg's name of an input device, to which ``source`` belongs.

        Raises:
            ValueError: ``source`` is a number, and cameras have no numbers on this system.
            OSError: there is no such file.
        """
        if input_format is not None:
            return cls(source, source, input_format)
        if source.isdecimal():
            return cls._camera(source)
        if source.startswith("/dev/video"):
            return cls(source, source, _CAMERAS["linux"])
        if _ADDRESS.match(source):
            return cls(_CREDENTIALS.sub("", source), source)
        if not Path(source).is_file():
            raise FileError(
                f"{source}: there is no such file; a camera is a number (0), an address begins with rtsp:// or http://"
            )
        return cls(source, FILE + source, is_file=True)

    @classmethod
    def _camera(cls, number: str) -> "Source":
        if sys.platform not in _CAMERAS:
            raise InputError(
                f"source: expected a camera's name on {sys.platform} (--input-format dshow 'video=NAME'),"
                f" got the number {number}"
            )
        url = f"/dev/video{number}" if sys.platform == "linux" else number
        return cls(f"camera {number}", url, _CAMERAS[sys.platform])

    @property
    def options(self) -> dict[str, str]:
        """FFmpeg's options for this source."""
        if self.is_file or self.input_format is not None:
            return {}
        return _AT_ONCE | (_RTSP if self.url.lower().startswith("rtsp") else {})


@dataclass(frozen=True)
class LiveFrame:
    """One frame.

    Attributes:
        frame: the decoded frame.
        number: number of frames before it.
        time: time at which it is shown, in seconds of the source.
        arrived: time at which its last packet was due, by ``time.monotonic``.
    """

    frame: av.VideoFrame
    number: int
    time: float
    arrived: float


class LiveReader:
    """The newest frame of a source, which a thread decodes. Frames that nobody takes in time are dropped.

    Args:
        timeout: seconds without data after which the source counts as lost.

    Attributes:
        came: number of frames so far, including those that were not decoded.

    Use it in a ``with`` statement.
    """

    def __init__(self, source: Source, timeout: float = 10.0) -> None:
        self.source, self.came, self._timeout = source, 0, timeout
        self.rate = 30.0
        self._newest: LiveFrame | None = None
        self._taken, self._over = -1, False
        self._error: Exception | None = None
        self._change, self._stop = threading.Condition(), threading.Event()
        # A thread that waits inside FFmpeg can't be woken: it ends with FFmpeg's timeout or with the process.
        self._thread = threading.Thread(target=self._run, daemon=True, name="zdce-live-reader")
        self._reformatter, self._size = VideoReformatter(), (0, 0)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        if self.source.is_file:
            self._thread.join()

    def frames(self, stop: threading.Event) -> Iterator[LiveFrame]:
        """Yields the newest frame each time, until the end of the file or until ``stop`` is set.

        Raises:
            OSError: the source can't be opened, sent nothing for too long, or has disappeared.
        """
        while not stop.is_set():
            with self._change:
                self._change.wait_for(self._has_news, _LOOK)
                found, over, error = self._newest, self._over, self._error
            if found is not None and found.number > self._taken:
                self._taken = found.number
                yield found
            elif error is not None:
                raise error
            elif over:
                return

    def pixels(self, live: LiveFrame) -> Pixels:
        """RGB pixels of a frame (H, W, 3), uint8, upright; frames of another size are scaled to the first one's."""
        frame = live.frame
        self._size = self._size if any(self._size) else (frame.width, frame.height)
        # Exact conversion takes 15 times as long, and differs by less than a camera's noise.
        width, height = self._size
        made = self._reformatter.reformat(frame, width, height, "rgb24", interpolation=Interpolation.BILINEAR)
        pixels: Any = made.to_ndarray()
        # Phones turn films by a tag; players support only quarter turns.
        return np.ascontiguousarray(np.rot90(pixels, frame.rotation // 90)) if frame.rotation % 360 else pixels

    def _has_news(self) -> bool:
        return self._over or (self._newest is not None and self._newest.number > self._taken)

    def _run(self) -> None:
        try:
            self._read()
            if not self.source.is_file and not self._stop.is_set():
                raise FileError(f"{self.source.name}: it ended after {self.came} frames")
            if self._newest is None and not self._stop.is_set():
                raise FileError(f"{self.source.name}: no frame of it can be decoded")
        except Exception as error:
            self._error = error
        with self._change:
            self._over = True
            self._change.notify_all()

    def _read(self) -> None:
        options, began = self.source.options, time.monotonic()
        try:
            container = av.open(
                self.source.url, "r", self.source.input_format, options=options,
                timeout=(self._timeout, self._timeout), metadata_errors="replace",
            )  # fmt: skip
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise self._failed(error, began) from None
        with container:
            if not container.streams.video:
                raise FileError(f"{self.source.name}: it holds no video")
            self._follow(container)

    def _follow(self, container: InputContainer) -> None:
        stream = container.streams.video[0]
        # With a thread for each frame, FFmpeg would hold frames back.
        stream.thread_type = "SLICE"
        self.rate = float(stream.average_rate or stream.guessed_rate or self.rate)
        clock, skips, began = _SourceClock(is_file=self.source.is_file), False, time.monotonic()
        try:
            for number, packet in enumerate(container.demux(stream)):
                due = self._due(clock, packet, number, time.monotonic() - began)
                if self.source.is_file:
                    self._stop.wait(max(0.0, due - time.monotonic()))
                if self._stop.is_set():
                    return
                late = time.monotonic() - due
                skips = late > _LATE or (skips and not (packet.is_keyframe and late < _IN_TIME))
                if skips and packet.size:
                    self.came += 1
                else:  # the last packet is empty: it takes the frames that are still in the decoder
                    self._decode(packet, due)
                began = time.monotonic()
        except av.error.FFmpegError as error:
            raise self._failed(error, began) from None

    def _due(self, clock: "_SourceClock", packet: "av.Packet[Any]", number: int, waited: float) -> float:
        """Time at which a packet was due, if ``number`` came before it and demuxing ``waited`` this many seconds for it."""
        shown = packet.dts if packet.dts is not None or (self.source.is_file and number > 0) else packet.pts
        if shown is not None:
            moment = float(shown * packet.time_base)
        elif self.source.is_file and packet.size and packet.pts is None:  # H.264 without a container has no times
            moment = number * float((packet.duration or 0) * packet.time_base)
        else:  # Matroska's first packets have times of presentation alone, which are ahead of their order
            return time.monotonic()
        due = clock.due(moment)
        if not self.source.is_file and waited > _WAITED and time.monotonic() - due > _LATE:
            # Everything that has arrived is decoded: the source is late, not the decoder.
            due = clock.restarted(moment)
        return due

    def _decode(self, packet: "av.Packet[Any]", arrived: float) -> None:
        # Sound packets may follow a damaged one.
        with suppress(av.error.InvalidDataError, av.error.EOFError):
            for frame in packet.decode():
                assert isinstance(frame, av.VideoFrame)
                moment = arrived if frame.time is None else frame.time
                with self._change:
                    self._newest = LiveFrame(frame, self.came, moment, arrived)
                    self.came += 1
                    self._change.notify_all()

    def _failed(self, error: Exception, began: float) -> FileError:
        name, passed = self.source.name, time.monotonic() - began
        if passed >= 0.9 * self._timeout:
            what = "it gave no frame" if self.came else "it does not answer"
            return FileError(f"{name}: {what} for {self._timeout:g} s")
        reason = getattr(error, "strerror", None) or str(error)
        return FileError(f"{name}: it vanished after {self.came} frames ({reason})" if self.came else f"{name}: {reason}")


class _SourceClock:
    """When a source's frames are due, by ``time.monotonic``. A file plays from its first frame on; of a camera, the frame with
    the least delay counts as on time.
    """

    def __init__(self, *, is_file: bool) -> None:
        self._is_file = is_file
        self._zero, self._seen = math.inf, 0.0

    def due(self, moment: float) -> float:
        """Time at which ``moment``, in seconds of the source, is due, by ``time.monotonic``."""
        now = time.monotonic()
        if self._is_file:
            self._zero = self._zero if abs(now - moment - self._zero) < _JUMP else now - moment
            return self._zero + moment
        zero = self._zero + _DRIFT * (now - self._seen)
        # A jump of the source's times starts a new count.
        self._zero = now - moment if not abs(now - moment - zero) < _JUMP else min(zero, now - moment)
        self._seen = now
        return self._zero + moment

    def restarted(self, moment: float) -> float:
        """As ``due``, with a new count."""
        self._zero = math.inf
        return self.due(moment)
