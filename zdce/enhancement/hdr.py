"""HDR frames, enhanced in the light that their values stand for. Tables convert them, because computing the curves takes most
of the time.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zdce.io.colour_spaces import Floats, matrices, transfer
from zdce.io.colour_tags import Space
from zdce.srgb import light_of_srgb, srgb_of_light

# The table has an entry for each 2^-11 of an octave of light in this range: the upper bits of a float32. With white at 1, PQ
# ends at 49 and its 10-bit values begin at 2^-27.
_LEAST, _MOST, _CUT = np.float32(2.0**-32), np.float32(2.0**7), 12

# Number of rows that are converted at once; they fit into a processor's cache.
_ROWS = 32


def _bits(light: Floats) -> NDArray[np.int32]:
    cut: NDArray[np.int32] = light.view(np.int32) >> _CUT
    return cut


_FIRST, _LAST = (int(_bits(np.array([light], np.float32))[0]) for light in (_LEAST, np.nextafter(_MOST, np.float32(0))))

# The middle of each entry's range of light.
_ENTRIES = ((np.arange(_FIRST, _LAST + 1, dtype=np.int32) << _CUT) + (1 << (_CUT - 1))).view(np.float32)


def _entry(light: Floats) -> NDArray[np.int32]:
    """Index of each light's entry; light below the first entry, or below 0, uses the first one."""
    return _bits(light.clip(_LEAST, np.nextafter(_MOST, np.float32(0)))) - _FIRST


class FrameConverter:
    """Converts frames (H, W, 3) of a film, whose numbers mean ``space``, for what enhances sRGB.

    Light above diffuse white and unchanged pixels are returned bit for bit.

    Args:
        dtype: type of the frames, uint8 or uint16.
    """

    def __init__(self, space: Space, dtype: np.dtype[Any]) -> None:
        self._white = np.iinfo(dtype).max
        curve, (forth, back) = transfer(space), matrices(space)
        self._forth, self._back = np.ascontiguousarray(forth.T), np.ascontiguousarray(back.T)
        self._light = curve.decode((np.arange(self._white + 1) / self._white).astype(np.float32)).astype(np.float32)
        self._shown = np.rint(srgb_of_light(_ENTRIES).clip(0, 1) * 65535).astype(np.uint16)
        self._linear = light_of_srgb(np.arange(1 << 16, dtype=np.float32) / 65535).astype(np.float32)
        self._codes = (curve.encode(_ENTRIES) * self._white).astype(np.float32)

    def through(self, pixels: NDArray[Any], enhance: Callable[[NDArray[Any]], NDArray[Any]]) -> NDArray[Any]:
        """The result of ``enhance`` for ``pixels`` in sRGB of 16 bits, converted back to their own encoding and type."""
        shown, result = np.empty(pixels.shape, np.uint16), np.empty_like(pixels)
        bands = [slice(top, top + _ROWS) for top in range(0, len(pixels), _ROWS)]
        for rows in bands:
            shown[rows] = self._shown[_entry(self._light[pixels[rows]] @ self._forth)]
        enhanced = enhance(shown)
        for rows in bands:
            light = self._light[pixels[rows]]
            changed = light + (self._linear[enhanced[rows]] - self._linear[shown[rows]]) @ self._back
            difference = self._codes[_entry(changed)] - self._codes[_entry(light)]
            result[rows] = np.rint(pixels[rows] + difference).clip(0, self._white)
        return result
