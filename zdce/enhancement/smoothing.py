"""Smoothing of curve maps over time: neighbouring frames of a video get nearly the same curve, and a new scene gets its own at
once.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from zdce.errors import InputError
from zdce.io.images import Pixels
from zdce.settings import EnhanceSettings
from zdce.srgb import LUMA

# Rows and columns of the thumbnail by which frames are compared: so few that noise and motion hardly change it.
_GRID = (16, 32)

# Rows and columns of pixels that are averaged for a cell of the thumbnail; using all pixels would not improve it.
_SAMPLES = 16

# Jump of the mean luminance, in [0, 1], that is not flicker but a light that was switched on.
_JUMP = 0.1

# Variance of thumbnails in [0, 1] that counts as content: 2 levels of 255. Black frames differ by less.
_CONTENT = (2 / 255) ** 2

# Change, in [0, 1] and as a share of the luminance, below which a cell counts as unchanged; and the share of changed cells that
# makes a cut. (A moving lamp changes mean and variance, but few cells.)
_NOISE, _SLIGHT, _MOST = 1 / 255, 0.05, 0.5

# Cells whose change is within this number of half widths of the densest half of changes count as changed alike: two standard
# deviations.
_ALIKE = 3.0

# Logarithm of brightness. Larger changes are not flicker and are followed at once.
_FLICKER = 0.3

# Logarithms of brightness. A cell that changed less than the first, relative to the frame, is unchanged; beyond the second it
# shows something else. The same limits hold for the light of the whole frame.
_MOVED = (0.15, 0.5)
_RELIT = (0.15, 0.3)

# Unchanged cells keep their curve this many times longer than cells whose light changes.
_STILL = 8.0

# Largest factor of the maps to keep the brightness, and to make new maps agree with their surroundings.
_SCALES = (0.8, 1.25)
_AGREEMENT = (0.5, 2.0)

_STEP = 1 / 64

# A quarter of a level of 255, because black has no logarithm; and the luminance below which changes are noise.
_BLACK, _DIM = 0.25 / 255, 4 / 255

_Small: TypeAlias = NDArray[np.float32]


# Applies maps (1, C, h, w) to a picture (h, w, 3) in [0, 1].
Curve: TypeAlias = Callable[[_Small, _Small], _Small]


class Smoothing:
    """Removes flicker from the curve maps of a video by an exponential filter over time at each place: ``dt`` seconds after the
    last frame,

    ``smooth += share * (maps - smooth)`` with ``share = 1 - exp(-dt / t)``

    so that 63 % of a change have taken effect after ``t``, at any frame rate, constant or not. The time constant ``t`` depends
    on the place. It is ``8 * seconds`` where the picture is unchanged, so that a lamp that passes elsewhere has no effect, and
    ``seconds`` where the light of the whole frame changes. Where something has moved, the frame's own maps are used at once,
    scaled to agree with the still parts.

    The curve also amplifies the flicker of the light itself. So all maps are scaled by one factor that makes the still parts as
    bright as if the light had passed through a filter of ``seconds``. At a scene cut (see ``is_cut``) the filters start again.

    Args:
        curve: applies maps (1, C, h, w), clipped to [-1, 1], to a picture (h, w, 3) in [0, 1]; both are small.
        seconds: the time constant; 0 leaves the maps as they are.

    Raises:
        ValueError: ``seconds`` is negative or not finite.

    >>> smoothing, image = Smoothing(lambda picture, maps: picture, 0.5), np.zeros((9, 16, 3), np.uint8)
    >>> [round(smoothing(np.full((1, 3, 1, 1), a), image, 4.0 * i).mean().item(), 3) for i, a in enumerate((0.0, 1.0, 1.0))]
    [0.0, 0.632, 0.865]
    """

    def __init__(self, curve: Curve, seconds: float = EnhanceSettings.smoothing) -> None:
        if not (seconds >= 0 and math.isfinite(seconds)):
            raise InputError(f"smoothing must be a number of seconds, at least 0, got {seconds}")
        self.seconds, self.curve = seconds, curve
        self._smooth: _Small | None = None
        self._thumbnail: _Small | None = None
        self._usual: _Small | None = None  # Filtered logarithm of the cells' luminance.
        self._time = 0.0

    def __call__(self, maps: _Small, image: Pixels, time: float) -> _Small:
        """The smoothed maps of a frame, (1, C, h, w); the curve clips them to [-1, 1].

        Args:
            maps: the frame's own curve maps, (1, C, h, w), of the same shape for all frames.
            image: the frame, (H, W, 3), uint8 or uint16.
            time: time at which the frame is shown, in seconds; not before the frame of the last call.
        """
        if self.seconds == 0:
            return maps
        before, self._thumbnail = self._thumbnail, thumbnail(image)
        passed, self._time = max(0.0, time - self._time), time
        luminances = _luminances(self._thumbnail)
        now = np.log(luminances + np.float32(_BLACK))
        if self._smooth is None or before is None or self._usual is None or is_cut(before, self._thumbnail):
            self._smooth, self._usual = maps, now
            return maps
        change = now - self._usual
        light = change_of_light(change, luminances)
        moved = _moved((change - np.float32(light)) * luminances / (luminances + np.float32(_DIM)))
        slow, relit = self._share(passed, _STILL), float(_ramp(np.float32(abs(light)), _RELIT))
        share = slow + relit * (self._share(passed) - slow)
        self._usual += np.maximum(moved, np.float32(share)) * change
        self._smooth = _followed(self._smooth, maps, share, _resized(moved, maps.shape[2:]))
        excess = min(max((1 - share) * light, -_FLICKER), _FLICKER)
        return self._smooth * self._scale(self._smooth, self._thumbnail, 1 - moved, excess)

    def _share(self, passed: float, longer: float = 1.0) -> float:
        """Share of a change that takes effect in ``passed`` seconds, for a time constant this many times longer."""
        return -math.expm1(-passed / (longer * self.seconds))

    def _scale(self, maps: _Small, small: _Small, still: _Small, excess: float) -> float:
        """What the maps are multiplied with for what is ``still`` to be as bright as without the ``excess`` of light, by one
        step of Newton's method.
        """
        maps = _pooled(maps, small.shape[:2])
        steady = (small * math.exp(-excess)).clip(0, 1).astype(small.dtype)
        now, more, wanted = (
            float((_luminances(self.curve(picture, maps * scale)) * still).mean())
            for picture, scale in ((small, 1.0), (small, 1.0 + _STEP), (steady, 1.0))
        )
        if more == now:  # There is nothing to brighten.
            return 1.0
        return min(max(1.0 + _STEP * (wanted - now) / (more - now), _SCALES[0]), _SCALES[1])


def _followed(smooth: _Small, maps: _Small, share: float, moved: _Small) -> _Small:
    """The filtered maps (1, C, h, w): they were ``smooth``, the frame's own are ``maps``; ``moved`` is (h, w)."""
    still = (1 - moved) * maps
    squares = float(np.vdot(still, maps))
    agreement = float(np.vdot(still, smooth)) / squares if squares > 0 else 1.0
    own = maps * min(max(agreement, _AGREEMENT[0]), _AGREEMENT[1])
    followed = smooth + share * (maps - smooth)
    return followed + moved * (own - followed)


def change_of_light(change: _Small, luminances: _Small) -> float:
    """The logarithm of how much brighter the light is, by cells (rows, columns).

    It is the mean over the cells that changed like the densest half, which leaves out cells that moved or were lit by a passing
    lamp. Dark cells have less weight.

    Args:
        change: change of the logarithm of each cell's luminance.
        luminances: luminance of each cell, in [0, 1].

    >>> cells = np.full((16, 32), 0.1, np.float32)
    >>> round(change_of_light(np.log(1.05) * np.ones_like(cells), cells), 3)
    0.049
    """
    order = np.argsort(change, axis=None)
    values = change.ravel()[order].astype(np.float64)
    weights = np.minimum(luminances, np.median(luminances)).ravel()[order] + np.float64(_BLACK)
    reached = np.cumsum(weights) / weights.sum()
    before = np.concatenate([[0.0], reached[:-1]])
    last = np.searchsorted(reached, before + 0.5)  # of the interval that holds half of the cells and begins with each
    first = np.flatnonzero(last < values.size)
    densest = first[np.argmin(values[last[first]] - values[first])]
    ends = values[densest], values[last[densest]]
    alike = np.abs(values - sum(ends) / 2) <= _ALIKE * (ends[1] - ends[0]) / 2 + 1e-6
    return float(np.average(values[alike], weights=weights[alike]))


def _moved(change: _Small) -> _Small:
    """How far cells (rows, columns) and their neighbours show something else, from 0 to 1, by the change of their own
    brightness.
    """
    rows, columns = change.shape
    around = np.pad(_ramp(np.abs(change), _MOVED), 1)
    return np.max([around[y : y + rows, x : x + columns] for y in range(3) for x in range(3)], axis=0)


def _ramp(values: Any, bounds: tuple[float, float]) -> Any:
    """0 up to the lower bound, 1 from the upper bound on, linear between them."""
    return np.clip((values - bounds[0]) / (bounds[1] - bounds[0]), 0, 1).astype(np.float32)


# Without matrix products: for such small matrices BLAS would start threads that wait for each other.
def _resized(cells: _Small, size: Sequence[int]) -> _Small:
    """``cells`` (rows, columns) at ``size`` (h, w), bilinearly."""
    return _interpolated(_interpolated(cells, size[0]).T, size[1]).T


def _interpolated(cells: _Small, size: int) -> _Small:
    """``size`` samples between the rows of ``cells`` (rows, columns)."""
    at = ((np.arange(size) + 0.5) * len(cells) / size - 0.5).clip(0, len(cells) - 1)
    above = at.astype(np.intp)
    below, share = np.minimum(above + 1, len(cells) - 1), (at - above).astype(np.float32)[:, None]
    return (1 - share) * cells[above] + share * cells[below]


def _pooled(maps: _Small, size: Sequence[int]) -> _Small:
    """Maps (1, C, h, w) as means of the pixels that each cell of ``size`` (rows, columns) touches."""
    rows = _means(maps, size[0])
    return _means(rows.swapaxes(2, 3), size[1]).swapaxes(2, 3)


def _means(maps: _Small, cells: int) -> _Small:
    """Means of the rows of ``maps`` (1, C, h, w) that each of so many cells touches, (1, C, cells, w)."""
    height = maps.shape[2]
    bounds = ((cell * height // cells, -(-(cell + 1) * height // cells)) for cell in range(cells))
    return np.stack([maps[:, :, first:last].mean(2) for first, last in bounds], 2)


def thumbnail(image: Pixels) -> NDArray[np.float32]:
    """A frame (H, W, 3) as at most 16 x 32 cells' mean colour in [0, 1], (rows, columns, 3), from a sample of its pixels."""
    rows, columns = (
        np.linspace(0, size, min(size, cells) * _SAMPLES, endpoint=False, dtype=np.intp)
        for size, cells in zip(image.shape[:2], _GRID, strict=True)
    )
    height, width = len(rows) // _SAMPLES, len(columns) // _SAMPLES
    # Whole numbers, whose sums are exact in float32 too: 256 samples of 16 bits.
    wider = np.uint16 if image.dtype == np.uint8 else np.uint32
    summed = image.take(rows, 0).reshape(height, _SAMPLES, -1).sum(1, dtype=wider).reshape(height, image.shape[1], 3)
    cells = summed.take(columns, 1).reshape(height, width, _SAMPLES, 3).sum(2, dtype=np.uint32).astype(np.float32)
    return cells / np.float32(_SAMPLES**2) / np.float32(np.iinfo(image.dtype).max)


def _luminances(small: NDArray[np.float32]) -> NDArray[np.float32]:
    """(rows, columns) of a thumbnail (rows, columns, 3)."""
    return small @ np.array(LUMA, np.float32)


def is_cut(before: NDArray[np.float32], after: NDArray[np.float32]) -> bool:
    """Whether the thumbnails (rows, columns, 3) of neighbouring frames are of two scenes.

    A cut changes more than half of the cells. In addition, the mean luminance jumps by more than 0.1 of the range, or the
    difference of both luminances, without their means, has more than half of the variance that it has for two unrelated
    pictures.

    >>> ramp = np.linspace(0, 0.5, 48, dtype=np.float32).reshape(4, 4, 3)
    >>> is_cut(ramp, 0.9 * ramp), is_cut(ramp, ramp + 0.2), is_cut(ramp, ramp[::-1])
    (False, True, True)
    """
    first, second = _luminances(before), _luminances(after)
    changed = np.abs(second - first) > _NOISE + _SLIGHT * np.maximum(first, second)
    jump = abs(float(second.mean()) - float(first.mean())) > _JUMP
    unlike = float(np.var(second - first)) > 0.5 * float(np.var(second) + np.var(first)) + _CONTENT
    return bool((jump or unlike) and changed.mean() > _MOST)
