"""Encodings of light other than sRGB's: what to do with pictures in them, as networks know sRGB alone."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zdce.srgb import light_of_srgb, srgb_of_light

Floats = NDArray[np.float32]

# Rows of a picture that are converted at once.
_ROWS = 256

# ACEScct, Academy S-2016-001 section 4.4: 17.52 stops, -9.72 is the exponent at 0; a line below 2^-7.
_LOG_STOPS, _LOG_OFFSET, _LOG_SLOPE, _LOG_BLACK = 17.52, 9.72, 10.5402377416545, 0.0729055341958355
_LOG_BREAK, _LOG_BREAK_CODE = 2.0**-7, 0.155251141552511


class Encoding(NamedTuple):
    """Colours (H, W, 3) as fractions of a file's white, to sRGB and back; light beyond sRGB's range lies beyond [0, 1]."""

    to_srgb: Callable[[Floats], Floats]
    from_srgb: Callable[[Floats], Floats]


def _light_of_log(log: Floats) -> Floats:
    return np.where(log <= _LOG_BREAK_CODE, (log - _LOG_BLACK) / _LOG_SLOPE, np.exp2(log * _LOG_STOPS - _LOG_OFFSET))


def _log_of_light(light: Floats) -> Floats:
    stops = (np.log2(np.maximum(light, _LOG_BREAK)) + _LOG_OFFSET) / _LOG_STOPS
    return np.where(light <= _LOG_BREAK, _LOG_SLOPE * light + _LOG_BLACK, stops)


# By the names of ``EnhanceSettings.transfer``; sRGB needs none. Primaries are taken for sRGB's.
ENCODINGS = {
    "linear": Encoding(srgb_of_light, light_of_srgb),
    "log": Encoding(lambda log: srgb_of_light(_light_of_log(log)), lambda srgb: _log_of_light(light_of_srgb(srgb))),
}


def srgb(encoding: Encoding, pixels: NDArray[Any]) -> NDArray[Any]:
    """``pixels`` (H, W, 3), integers or fractions, in sRGB: as 16 bits where they are integers, else as float32."""
    # 16 bits are a third of floats' memory, and the engine takes them.
    shown = np.empty(pixels.shape, np.uint16 if np.issubdtype(pixels.dtype, np.integer) else np.float32)
    for rows in _bands(pixels):
        shown[rows] = codes(encoding.to_srgb(fractions(pixels[rows])).clip(0, 1), shown.dtype)
    return shown


def through(encoding: Encoding, pixels: NDArray[Any], enhance: Callable[[NDArray[Any]], NDArray[Any]]) -> NDArray[Any]:
    """What ``enhance`` makes of ``pixels`` (H, W, 3) in sRGB, in their own encoding and type.

    Light above sRGB's white, which curves leave where it is, stays as it was.
    """
    shown, result = srgb(encoding, pixels), np.empty_like(pixels)
    enhanced = enhance(shown)
    for rows in _bands(pixels):
        colours = fractions(pixels[rows])
        given = encoding.to_srgb(colours)
        # A curve leaves black and white where they are (denoising moves them a little): adding what lies beyond makes no step.
        beyond = given - given.clip(0, 1)
        before, after = (encoding.from_srgb(fractions(values[rows]) + beyond) for values in (shown, enhanced))
        # What there and back alone would change, by rounding or for colours that sRGB lacks, is not the network's.
        result[rows] = codes(colours + (after - before), result.dtype)
    return result


def _bands(pixels: NDArray[Any]) -> list[slice]:
    return [slice(top, top + _ROWS) for top in range(0, len(pixels), _ROWS)]


def fractions(pixels: NDArray[Any]) -> Floats:
    """Integers as parts of their type's largest, float32; other numbers as they are."""
    white = np.iinfo(pixels.dtype).max if np.issubdtype(pixels.dtype, np.integer) else 1
    return np.divide(pixels, white, dtype=np.float32)


def codes(values: Floats, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Fractions as numbers of ``dtype``: integers are rounded, and cut where they have no number."""
    if not np.issubdtype(dtype, np.integer):
        return values.astype(dtype)
    return np.rint(values.clip(0, 1) * np.iinfo(dtype).max).astype(dtype)
