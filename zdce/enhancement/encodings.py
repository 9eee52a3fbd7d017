"""Encodings of light other than sRGB, and how pictures in them are enhanced by networks that expect sRGB."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zdce.srgb import light_of_srgb, srgb_of_light

Floats = NDArray[np.float32]

# Number of rows that are converted at once.
_ROWS = 256

# ACEScct, Academy S-2016-001 section 4.4: 17.52 stops; the exponent at 0 is -9.72; a line below 2^-7.
_LOG_STOPS, _LOG_OFFSET, _LOG_SLOPE, _LOG_BLACK = 17.52, 9.72, 10.5402377416545, 0.0729055341958355
_LOG_BREAK, _LOG_BREAK_CODE = 2.0**-7, 0.155251141552511


class Encoding(NamedTuple):
    """Functions from fractions of a file's white (H, W, 3) to sRGB and back. Colours outside of sRGB are outside of [0, 1]."""

    to_srgb: Callable[[Floats], Floats]
    from_srgb: Callable[[Floats], Floats]


def _light_of_log(log: Floats) -> Floats:
    return np.where(log <= _LOG_BREAK_CODE, (log - _LOG_BLACK) / _LOG_SLOPE, np.exp2(log * _LOG_STOPS - _LOG_OFFSET))


def _log_of_light(light: Floats) -> Floats:
    stops = (np.log2(np.maximum(light, _LOG_BREAK)) + _LOG_OFFSET) / _LOG_STOPS
    return np.where(light <= _LOG_BREAK, _LOG_SLOPE * light + _LOG_BLACK, stops)


# By the names of ``EnhanceSettings.transfer``. sRGB needs no conversion. Primaries are assumed to be sRGB's.
ENCODINGS = {
    "linear": Encoding(srgb_of_light, light_of_srgb),
    "log": Encoding(lambda log: srgb_of_light(_light_of_log(log)), lambda srgb: _log_of_light(light_of_srgb(srgb))),
}


def srgb(encoding: Encoding, pixels: NDArray[Any]) -> NDArray[Any]:
    """``pixels`` (H, W, 3), integers or fractions, in sRGB: as uint16 for integers, else as float32."""
    # uint16 needs less memory than floats, and the engine accepts it.
    shown = np.empty(pixels.shape, np.uint16 if np.issubdtype(pixels.dtype, np.integer) else np.float32)
    for rows in _bands(pixels):
        shown[rows] = codes(encoding.to_srgb(fractions(pixels[rows])).clip(0, 1), shown.dtype)
    return shown


def through(encoding: Encoding, pixels: NDArray[Any], enhance: Callable[[NDArray[Any]], NDArray[Any]]) -> NDArray[Any]:
    """The result of ``enhance`` for ``pixels`` (H, W, 3) in sRGB, converted back to their own encoding and type.

    Light above sRGB's white stays as it was.
    """
    shown, result = srgb(encoding, pixels), np.empty_like(pixels)
    enhanced = enhance(shown)
    for rows in _bands(pixels):
        colours = fractions(pixels[rows])
        given = encoding.to_srgb(colours)
        # Curves map white to white (denoising moves it slightly), so adding the light above white back makes no visible step.
        beyond = given - given.clip(0, 1)
        before, after = (encoding.from_srgb(fractions(values[rows]) + beyond) for values in (shown, enhanced))
        # Differences that the conversion there and back causes by itself (rounding, colours outside of sRGB) are removed.
        result[rows] = codes(colours + (after - before), result.dtype)
    return result


def _bands(pixels: NDArray[Any]) -> list[slice]:
    return [slice(top, top + _ROWS) for top in range(0, len(pixels), _ROWS)]


def fractions(pixels: NDArray[Any]) -> Floats:
    """Integers as fractions of the largest number of their type, float32; other numbers unchanged."""
    white = np.iinfo(pixels.dtype).max if np.issubdtype(pixels.dtype, np.integer) else 1
    return np.divide(pixels, white, dtype=np.float32)


def codes(values: Floats, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Fractions as numbers of ``dtype``: rounded and clipped for integers."""
    if not np.issubdtype(dtype, np.integer):
        return values.astype(dtype)
    return np.rint(values.clip(0, 1) * np.iinfo(dtype).max).astype(dtype)
