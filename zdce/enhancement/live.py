"""Enhancement of live video: always the newest frame, with curves that do not flicker, and optionally only in the dark."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from zdce.enhancement import video
from zdce.enhancement.enhancer import Enhancer
from zdce.io.images import Pixels
from zdce.models import darkness
from zdce.models.variants import Variant
from zdce.runtime import packages
from zdce.settings import VIDEO_SCALE, EnhanceSettings

if TYPE_CHECKING:
    from zdce.io.live_frames import LiveReader

# Value that ``darkness.lightness`` must exceed before a dark scene counts as lit.
_LIT = 1.25

# Seconds that light or darkness must last, and seconds in which the curve fades in or out.
_LASTING, _FADE = 1.0, 0.5

# Approximate number of rows of a frame on which its light is measured.
_MEASURED = 256

# Number of the last frames whose latencies are kept.
_REMEMBERED = 10_000


def settings_for(variant: Variant, settings: EnhanceSettings) -> EnhanceSettings:
    """``settings`` with the defaults of live video in place of None: the larger of the network's scale and ``VIDEO_SCALE``, and
    no denoising, which takes several times as long as everything else.
    """
    scale = max(variant.scale, VIDEO_SCALE) if settings.scale is None else settings.scale
    return replace(settings, scale=scale, noise=0.0 if settings.noise is None else settings.noise)


def reading() -> Any:
    """The module that reads live frames; only this module needs PyAV.

    Raises:
        ValueError: PyAV is missing.
    """
    packages.require("av", extra="video")
    from zdce.io import live_frames

    return live_frames


class DarkSwitch:
    """Share of the curve for a scene that may become lit and dark: 0 while it is lit, 1 while it is dark.

    The first frame decides at once. After that, light or darkness must last for a second, and a dark scene must become a
    quarter brighter than the limit for dark scenes to count as lit, so that dusk and passing lamps do not switch it back and
    forth. Changes take half a second.

    >>> switch = DarkSwitch()
    >>> [switch(light, time) for light, time in ((0.5, 0.0), (1.1, 5.0), (2.0, 6.0), (2.0, 7.0), (2.0, 7.25), (2.0, 8.0))]
    [1.0, 1.0, 1.0, 1.0, 0.5, 0.0]
    """

    def __init__(self) -> None:
        self.is_dark: bool | None = None
        self._share, self._time = 0.0, 0.0
        self._other_since: float | None = None

    def __call__(self, lightness: float, time: float) -> float:
        """Share of the curve, from 0 to 1, for a frame with this ``darkness.lightness`` at ``time`` in seconds."""
        passed, self._time = max(0.0, time - self._time), time
        if self.is_dark is None:
            self.is_dark = lightness < 1
            self._share = float(self.is_dark)
            return self._share
        # The share follows the decision before this frame.
        step = passed / _FADE
        self._share = min(1.0, self._share + step) if self.is_dark else max(0.0, self._share - step)
        is_other = lightness > _LIT if self.is_dark else lightness < 1
        if not is_other:
            self._other_since = None
        elif self._other_since is None:
            self._other_since = time
        elif time - self._other_since >= _LASTING:
            self.is_dark, self._other_since = not self.is_dark, None
        return self._share


class LiveFrames:
    """Frames of a live video, enhanced one after another with curves that do not flicker.

    Args:
        enhancer: the enhancer; with ``only_if_dark`` in its settings, lit scenes stay as they are.
    """

    def __init__(self, enhancer: Enhancer) -> None:
        self._switch = DarkSwitch() if enhancer.settings.only_if_dark else None
        self._enhancer = enhancer.with_settings(only_if_dark=False)
        self._frames: video.FrameEnhancer | None = None
        self.share = 1.0

    def __call__(self, pixels: Pixels, moment: float) -> Pixels:
        """The next frame (H, W, 3), shown at ``moment`` seconds, enhanced; the same array if nothing changes."""
        if self._switch is not None:
            step = max(1, min(pixels.shape[:2]) // _MEASURED)
            shown = self._enhancer.srgb(np.ascontiguousarray(pixels[::step, ::step]))
            self.share = self._switch(darkness.lightness(shown), moment)
        if self.share == 0:
            self._frames = None  # Smoothing starts again when it becomes dark again.
            return pixels
        if self._frames is None:
            self._frames = video.FrameEnhancer(self._enhancer, None)
        return self._frames(pixels, moment, self.share)


@dataclass(frozen=True)
class EnhancedFrame:
    """An enhanced frame.

    Attributes:
        before, after: the frame and its result, (H, W, 3), uint8.
        number: number of frames before it, including dropped ones.
        arrived: time of its arrival, by ``time.monotonic``.
        share: share of the curve; 0 in a lit scene.
    """

    before: Pixels
    after: Pixels
    number: int
    arrived: float
    share: float


class Meter:
    """Counts and latencies of the frames so far.

    Attributes:
        shown: number of enhanced frames.
        dropped: number of frames that were dropped for newer ones.
        latencies: seconds from arrival to enhancement of the last frames.
    """

    def __init__(self) -> None:
        self.shown, self.dropped = 0, 0
        self.latencies: deque[float] = deque(maxlen=_REMEMBERED)

    def add(self, latency: float, number: int) -> None:
        """Counts a frame with ``number`` frames before it."""
        self.shown += 1
        self.dropped = number + 1 - self.shown
        self.latencies.append(latency)

    def end(self, came: int) -> None:
        """Counts the frames after the last shown one as dropped; ``came`` is the number of all frames."""
        self.dropped = max(self.dropped, came - self.shown)

    def summary(self) -> dict[str, int | float | None]:
        """Counts, and the median and 95th percentile of the latency in milliseconds, None before the first frame."""
        median, late = [round(1000 * float(q), 1) for q in np.quantile(self.latencies or (math.nan,), (0.5, 0.95))]
        known = bool(self.latencies)
        return {
            "frames": self.shown, "dropped": self.dropped,
            "latency_ms": median if known else None, "latency_p95_ms": late if known else None,
        }  # fmt: skip


def run(
    reader: "LiveReader",
    enhancer: Enhancer,
    show: Callable[[EnhancedFrame], object],
    stop: threading.Event,
    meter: Meter | None = None,
) -> Meter:
    """Enhances the newest frames until the source's end or until ``stop`` is set.

    Args:
        reader: an entered ``LiveReader``.
        show: called with each result; frames that arrive meanwhile are dropped.
        meter: counts of frames; by default a new one.

    Raises:
        OSError: the source can't be opened, or has disappeared.
    """
    meter, frames = meter or Meter(), LiveFrames(enhancer)
    for live in reader.frames(stop):
        before = reader.pixels(live)
        after = frames(before, live.time)
        meter.add(time.monotonic() - live.arrived, live.number)
        show(EnhancedFrame(before, after, live.number, live.arrived, frames.share))
    if not stop.is_set():
        meter.end(reader.came)
    return meter
