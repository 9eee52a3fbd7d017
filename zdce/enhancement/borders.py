"""Borders of pictures: bars or frames of one colour, as in letterboxed films and scans on white or black paper. They are not
part of the scene, so they must not affect the curve. Night skies must: a border differs from one by straight and sharp edges on
two opposite sides.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# Numbers are levels of 255. Largest distance of a border's pixels from its colour, after JPEG or H.264, and with the grain of
# paper.
_FLAT, _PAPER = 4.5, 12.5

# Borders with a larger mean are paper, with a smaller one dark; others must be as flat as dark ones.
_BRIGHT = 200

# Share of a line's pixels that may be further from the colour, because of dust or the codec.
_STRAY = 0.005

# Largest distance between the colours of two opposite bars.
_SAME = 4

# Least width of a bar and most width of both, as shares of the side; and the largest difference of the widths of two dark bars,
# in pixels or as a share: letterboxes are centred, up to the JPEG blocks that their edges cut.
_LEAST, _MOST, _UNEQUAL_PIXELS, _UNEQUAL = 0.01, 0.75, 8, 0.1

# Sharpness of an edge: within this number of lines after the bar, the share of pixels that are not the border's rises by this
# much.
_EDGE, _SHARP = 12, 0.25

# Side in pixels of the blocks in which codecs leave noise.
_BLOCK = 16


def content(pixels: NDArray[Any]) -> tuple[slice, slice] | None:
    """Rows and columns of a picture (H, W, 3) inside its border, or None without border.

    Integers have their type's range, other numbers that from 0 to 1.
    """
    level = _level(pixels)
    rows = _between_bars(pixels, level)
    columns = _between_bars(pixels[rows].swapaxes(0, 1), level)
    # The upper and lower bars of a frame may end in corners that are visible only without the bars at the sides.
    if columns != slice(0, pixels.shape[1]) and rows == slice(0, pixels.shape[0]):
        rows = _between_bars(pixels[:, columns], level)
    whole = (slice(0, pixels.shape[0]), slice(0, pixels.shape[1]))
    return None if (rows, columns) == whole else (rows, columns)


class FilmBorder:
    """Border that all frames of a film share: the area in which no frame since the first one with a border has shown
    anything.
    """

    def __init__(self) -> None:
        self._inside: tuple[slice, slice] | None = None

    def __call__(self, pixels: Array) -> tuple[slice, slice] | None:
        """Rows and columns of the next frame (H, W, 3) inside the border, or None without border."""
        if self._inside is None:
            self._inside = content(pixels)
        elif not _is_bare(pixels, self._inside):
            whole = (slice(0, pixels.shape[0]), slice(0, pixels.shape[1]))
            found = content(pixels) or whole
            rows, columns = (
                _grown(former, now, side) for former, now, side in zip(self._inside, found, pixels.shape, strict=False)
            )
            self._inside = rows, columns
        return self._inside


def _grown(former: slice, now: slice, side: int) -> slice:
    """The union of both areas. It grows by whole blocks, so that noise at an edge moves the border only once."""
    start = former.start if now.start >= former.start else max(0, now.start - _BLOCK)
    stop = former.stop if now.stop <= former.stop else min(side, now.stop + _BLOCK)
    return slice(start, stop)


def _is_bare(pixels: Array, inside: tuple[slice, slice]) -> bool:
    """Whether a frame shows nothing outside of these rows and columns."""
    (rows, columns), level = inside, _level(pixels)
    turned = pixels[rows].swapaxes(0, 1)
    for bar in (pixels[: rows.start], pixels[rows.stop :], turned[: columns.start], turned[columns.stop :]):
        if not bar.size:
            continue
        colour = np.median(bar[len(bar) // 2].astype(np.float32), axis=0)
        far = (_PAPER if colour.mean() > _BRIGHT * level else _FLAT) * level
        if (_strays(bar, colour, far) > _STRAY).any():
            return False
    return True


def _level(pixels: Array) -> float:
    """One level of 255 in the unit of the pixels."""
    return np.iinfo(pixels.dtype).max / 255 if np.issubdtype(pixels.dtype, np.integer) else 1 / 255


def _between_bars(lines: Array, level: float) -> slice:
    """The lines of (N, M, 3) between a bar at each end; all lines unless both bars look like one border."""
    count, whole = len(lines), slice(0, len(lines))
    if count < 8 or lines.shape[1] < 8:
        return whole
    colours = [np.median(lines[end].astype(np.float32), axis=0) / level for end in (0, -1)]
    if np.abs(colours[0] - colours[1]).max() > _SAME:
        return whole
    is_bright = min(colour.mean() for colour in colours) > _BRIGHT
    far = (_PAPER if is_bright else _FLAT) * level
    first, last = (_bar(side, colour * level, far) for side, colour in zip((lines, lines[::-1]), colours, strict=True))
    if min(first, last) < max(2, _LEAST * count) or first + last > _MOST * count:
        return whole
    if not is_bright and abs(first - last) > max(_UNEQUAL_PIXELS, _UNEQUAL * max(first, last)):
        return whole
    for side, colour, width in ((lines, colours[0], first), (lines[::-1], colours[1], last)):
        strays = _strays(side[width - 2 : width + _EDGE], colour * level, far)
        if (strays[2:] - strays[:-2]).max() < _SHARP:
            return whole
    return slice(first, count - last)


def _bar(lines: Array, colour: Array, far: float) -> int:
    """Number of lines, from the first one on, that have one colour."""
    # In small steps, because most pictures have no bars.
    for start in range(0, len(lines), 16):
        strays = _strays(lines[start : start + 16], colour, far) > _STRAY
        if strays.any():
            return start + int(strays.argmax())
    return len(lines)


def _strays(lines: Array, colour: Array, far: float) -> NDArray[np.float64]:
    """Share of pixels in each line of (n, M, 3) whose distance from a colour exceeds ``far``."""
    shares: NDArray[np.float64] = (np.abs(lines.astype(np.float32) - colour) > far).any(axis=2).mean(axis=1)
    return shares
