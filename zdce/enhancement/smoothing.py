"""Curve maps over time: neighbouring frames of a video get nearly the same curve, and a new scene gets its own at once."""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from zdce import ops
from zdce.errors import InputError
from zdce.io.images import Pixels
from zdce.settings import EnhanceSettings
from zdce.srgb import LUMA

# Rows and columns of the thumbnail that frames are compared by: coarse, so that neither noise nor motion changes it much.
_GRID = (16, 32)

# Rows and columns of pixels that a thumbnail's cell is averaged from; all of them would tell no more.
_SAMPLES = 16

# Of [0, 1]: a jump of the mean luminance that is no flicker but a light switched on.
_JUMP = 0.1

# Variance of thumbnails in [0, 1] that counts as content: 2 levels of 255. Black frames differ by less.
_CONTENT = (2 / 255) ** 2

# Share of a thumbnail's cells that are left out at either end when the change of brightness is averaged: what moves.
_TRIMMED = 0.1

# Logarithm of the brightness: flicker is less than a tenth, what goes further is followed.
_FLICKER = 0.1

# How far the maps are scaled at most to hold the brightness.
_SCALES = (0.8, 1.25)

# The enhanced brightness may change by this share of the input's change; with all of it, what a thumbnail does not see of a
# moving scene would come on top.
_SHARE = 0.7

# Seconds in which the enhanced brightness comes to 63% of where the curve alone would have it: too slow to be seen.
_SETTLING = 4.0

_STEP = 1 / 64

# One level of 255: black cells have no logarithm.
_BLACK = 1 / 255


def curve_within_bounds(image: Tensor, maps: Tensor) -> Tensor:
    """``ops.apply_curve`` of maps (B, 3T, h, w) cut to [-1, 1]."""
    return ops.apply_curve(image, maps.clamp(-1.0, 1.0))


class Smoothing:
    """Takes the flicker out of the curve maps of a video, by an exponential filter over time: ``dt`` after the last frame,

    ``smooth += share * (maps - smooth)`` with ``share = 1 - exp(-dt / seconds)``

    so that after ``seconds`` a change has come through to 63%, at any frame rate, constant or not. The curve magnifies what the
    light itself flickers, and what moving things change in the brightness; so the maps are scaled, all alike, until the
    enhanced brightness is that of an input whose own brightness went through the same filter, and follows it by no more than
    the input's changes, or within seconds. At a scene cut (see ``is_cut``) all begins anew.

    Args:
        seconds: the time constant; 0 leaves the maps as they are.
        curve: what the maps (1, C, h, w) will do to an image (1, 3, h, w), both small.

    Raises:
        ValueError: ``seconds`` is negative or not finite.

    >>> smoothing, image = Smoothing(0.5), np.zeros((9, 16, 3), np.uint8)
    >>> [round(smoothing(torch.full((1, 3, 1, 1), a), image, 0.5 * i).mean().item(), 3) for i, a in enumerate((0.0, 1.0, 1.0))]
    [0.0, 0.632, 0.865]
    """

    def __init__(
        self, seconds: float = EnhanceSettings.smoothing, curve: Callable[[Tensor, Tensor], Tensor] = curve_within_bounds
    ) -> None:
        if not (seconds >= 0 and math.isfinite(seconds)):
            raise InputError(f"smoothing must be a number of seconds, at least 0, got {seconds}")
        self.seconds, self.curve = seconds, curve
        self._smooth: Tensor | None = None
        self._thumbnail: NDArray[np.float32] | None = None
        self._time, self._excess = 0.0, 0.0
        self._level: float | None = None  # the enhanced brightness, and below the steady input's
        self._input = 0.0

    @torch.inference_mode()
    def __call__(self, maps: Tensor, image: Pixels, time: float) -> Tensor:
        """The maps that a frame gets, (1, C, h, w); beyond [-1, 1] the curve cuts them.

        Args:
            maps: its own curve maps, (1, C, h, w), all frames alike.
            image: the frame, (H, W, 3), uint8 or uint16.
            time: when it is shown, in seconds, not before the frame of the last call.
        """
        if self.seconds == 0:
            return maps
        before, self._thumbnail = self._thumbnail, thumbnail(image)
        passed, self._time = max(0.0, time - self._time), time
        if self._smooth is None or before is None or is_cut(before, self._thumbnail):
            self._smooth, self._excess, self._level = maps, 0.0, None
            return maps
        share = -math.expm1(-passed / self.seconds)
        self._smooth = torch.lerp(self._smooth, maps, share)
        # The logarithm of the input's brightness less the same, filtered.
        excess = (1 - share) * (self._excess + brightening(before, self._thumbnail))
        self._excess = min(max(excess, -_FLICKER), _FLICKER)
        return self._smooth * self._scale(self._smooth, self._thumbnail, passed)

    def _scale(self, maps: Tensor, small: NDArray[np.float32], passed: float) -> float:
        """What the maps are multiplied with for the brightness that is wanted, by one step of Newton's method."""
        image = torch.from_numpy(small).to(maps.device).permute(2, 0, 1)[None]
        maps = functional.adaptive_avg_pool2d(maps, (small.shape[0], small.shape[1]))
        steady = (image * math.exp(-self._excess)).clamp_(0.0, 1.0)
        now, more, natural = (
            _brightness(self.curve(values, maps * scale))
            for values, scale in ((image, 1.0), (image, 1.0 + _STEP), (steady, 1.0))
        )
        wanted = self._followed(natural, _brightness(steady), passed)
        if more == now:  # there is nothing to brighten
            self._level = now
            return 1.0
        scale = 1.0 + _STEP * (wanted - now) / (more - now)
        bounded = min(max(scale, _SCALES[0]), _SCALES[1])
        self._level = wanted + (bounded - scale) * (more - now) / _STEP
        return bounded

    def _followed(self, natural: float, given: float, passed: float) -> float:
        """The brightness on the way to ``natural``, in steps that the input's brightness ``given`` makes too, or slow ones."""
        before, self._input = self._input, given
        if self._level is None:
            self._level = natural
        away = natural - self._level
        most = _SHARE * abs(given - before) - abs(away) * math.expm1(-passed / _SETTLING)
        self._level += min(max(away, -most), most)
        return self._level


def _brightness(image: Tensor) -> float:
    """Mean luminance of an image (1, 3, h, w)."""
    return float(image.mean((0, 2, 3)) @ image.new_tensor(LUMA))


def thumbnail(image: Pixels) -> NDArray[np.float32]:
    """A frame (H, W, 3) as at most 16 x 32 cells' mean colour in [0, 1], (rows, columns, 3), from a sample of its pixels."""
    rows, columns = (
        np.linspace(0, size, min(size, cells) * _SAMPLES, endpoint=False, dtype=np.intp)
        for size, cells in zip(image.shape[:2], _GRID, strict=True)
    )
    sample = image[rows[:, None], columns[None, :]]
    cells = sample.reshape(len(rows) // _SAMPLES, _SAMPLES, len(columns) // _SAMPLES, _SAMPLES, 3)
    return cells.mean(axis=(1, 3), dtype=np.float32) / np.float32(np.iinfo(image.dtype).max)


def _luminances(small: NDArray[np.float32]) -> NDArray[np.float32]:
    """(rows, columns) of a thumbnail (rows, columns, 3)."""
    return small @ np.array(LUMA, np.float32)


def is_cut(before: NDArray[np.float32], after: NDArray[np.float32]) -> bool:
    """Whether the thumbnails (rows, columns, 3) of neighbouring frames are of two scenes.

    That is where the mean luminance jumps by more than 0.1 of the range, or where the difference of their luminances, means
    taken out, has more than half of the variance that the difference of two unrelated pictures has.

    >>> ramp = np.linspace(0, 0.5, 48, dtype=np.float32).reshape(4, 4, 3)
    >>> is_cut(ramp, 0.9 * ramp), is_cut(ramp, ramp + 0.2), is_cut(ramp, ramp[::-1])
    (False, True, True)
    """
    first, second = _luminances(before), _luminances(after)
    jump = abs(float(second.mean()) - float(first.mean()))
    return jump > _JUMP or float(np.var(second - first)) > 0.5 * float(np.var(second) + np.var(first)) + _CONTENT


def brightening(before: NDArray[np.float32], after: NDArray[np.float32]) -> float:
    """By how much a thumbnail (rows, columns, 3) is brighter than the one before: the logarithm of the ratio, averaged over the
    cells but for a tenth at either end, where something moved.

    >>> round(brightening(np.full((16, 32, 3), 0.5, np.float32), np.full((16, 32, 3), 0.55, np.float32)), 3)
    0.095
    """
    first, second = _luminances(before), _luminances(after)
    ratios = np.sort(np.log((second + _BLACK) / (first + _BLACK)), axis=None)
    left_out = int(_TRIMMED * ratios.size)
    return float(ratios[left_out : ratios.size - left_out].mean())
