"""Conversion between sRGB values and linear light (IEC 61966-2-1)."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

# Weights of R, G and B in luma (ITU-R BT.709, whose primaries are sRGB's).
LUMA = (0.2126, 0.7152, 0.0722)

_Floats = TypeVar("_Floats", NDArray[np.float32], NDArray[np.float64])


def light_of_srgb(srgb: _Floats) -> _Floats:
    """sRGB values, any shape, as linear light with white at 1. Values below 0 continue the line, values above 1 the curve."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((np.maximum(srgb, 0.04045) + 0.055) / 1.055) ** 2.4)


def srgb_of_light(light: _Floats) -> _Floats:
    """Linear light as sRGB values: the inverse of ``light_of_srgb``."""
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 0.0031308) ** (1 / 2.4) - 0.055)
