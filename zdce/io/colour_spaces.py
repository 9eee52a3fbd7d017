"""Conversion from a colour space that a file's tags describe to sRGB and back."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zdce.io.colour_tags import SRGB_PRIMARIES, Primaries, Space
from zdce.srgb import light_of_srgb, srgb_of_light

Floats = NDArray[np.float32]
Function = Callable[[Floats], Floats]

# Light of diffuse white in HDR: 203 cd/m2 of PQ's 10,000, and 75 % of HLG's signal. (ITU-R BT.2408, table 1.)
_PQ_WHITE, _PQ_PEAK, _HLG_WHITE = 203.0, 10000.0, 0.75

# SMPTE ST 2084.
_M1, _M2, _C1, _C2, _C3 = 2610 / 16384, 2523 / 4096 * 128, 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32

# ITU-R BT.2100, table 5.
_A, _B, _C = 0.17883277, 0.28466892, 0.55991073

# ITU-R BT.709: slope at black, and the constant that joins the line to the power.
_ALPHA, _BETA = 1.09929682680944, 0.018053968510807

# XYZ of D50, the illuminant of ICC profiles.
D50 = np.array([0.9642, 1.0, 0.8249])

# The cone responses of Bradford's chromatic adaptation.
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


class Transfer(NamedTuple):
    """Functions from numbers (0 to 1) to light with white at 1, and back; both continue beyond that range."""

    decode: Function
    encode: Function


def _mirrored(function: Function) -> Function:
    """``function``, which is defined from 0 on, mirrored for numbers below 0."""
    return lambda values: np.copysign(function(np.abs(values)), values)


def _power(exponent: float) -> Transfer:
    return Transfer(_mirrored(lambda codes: codes**exponent), _mirrored(lambda light: light ** (1 / exponent)))


def _pq_light(codes: Floats) -> Floats:
    power = codes ** (1 / _M2)
    light: Floats = (np.maximum(power - _C1, 0) / (_C2 - _C3 * np.minimum(power, 1))) ** (1 / _M1)
    return light * (_PQ_PEAK / _PQ_WHITE)


def _pq_codes(light: Floats) -> Floats:
    power = (light * (_PQ_WHITE / _PQ_PEAK)) ** _M1
    return np.power((_C1 + _C2 * power) / (1 + _C3 * power), _M2, dtype=np.float32)


def _hlg_scene(codes: Floats) -> Floats:
    above = (np.exp((np.maximum(codes, 0.5) - _C) / _A, dtype=np.float32) + _B) / 12
    return np.where(codes <= 0.5, codes * codes / 3, above)


_HLG_SCENE_WHITE = float(_hlg_scene(np.array([_HLG_WHITE], np.float32))[0])


def _hlg_codes(light: Floats) -> Floats:
    scene = light * _HLG_SCENE_WHITE
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), _A * np.log(np.maximum(12 * scene, 1) - _B) + _C)


def _bt709_light(codes: Floats) -> Floats:
    return np.where(codes < 4.5 * _BETA, codes / 4.5, ((codes + _ALPHA - 1) / _ALPHA) ** (1 / 0.45))


def _bt709_codes(light: Floats) -> Floats:
    return np.where(light < _BETA, 4.5 * light, _ALPHA * light**0.45 - (_ALPHA - 1))


_TRANSFERS = {
    "srgb": Transfer(light_of_srgb, srgb_of_light),
    "bt709": Transfer(_mirrored(_bt709_light), _mirrored(_bt709_codes)),
    "pq": Transfer(_mirrored(_pq_light), _mirrored(_pq_codes)),
    "hlg": Transfer(_mirrored(lambda codes: _hlg_scene(codes) / _HLG_SCENE_WHITE), _mirrored(_hlg_codes)),
}


def transfer(space: Space) -> Transfer:
    """The encoding of light of a space."""
    return _TRANSFERS[space.transfer] if isinstance(space.transfer, str) else _power(space.transfer)


def to_xyz(primaries: Primaries) -> NDArray[np.float64]:
    """The matrix (3, 3) from linear RGB to CIE XYZ, white having Y = 1."""
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in primaries[:3]]).T
    return columns * np.linalg.solve(columns, _white(primaries))


def adapted(primaries: Primaries, white: NDArray[np.float64]) -> NDArray[np.float64]:
    """The matrix ``to_xyz``, adapted to another ``white`` (XYZ)."""
    cones = (_BRADFORD @ white) / (_BRADFORD @ _white(primaries))
    return np.linalg.inv(_BRADFORD) @ np.diag(cones) @ _BRADFORD @ to_xyz(primaries)


def _white(primaries: Primaries) -> NDArray[np.float64]:
    x, y = primaries[3]
    return np.array([x / y, 1, (1 - x - y) / y])


def matrices(space: Space) -> tuple[Floats, Floats]:
    """Matrices (3, 3) from linear RGB of a space to that of sRGB, adapted to its white, and back."""
    forth = np.linalg.solve(to_xyz(SRGB_PRIMARIES), adapted(space.primaries, _white(SRGB_PRIMARIES))).astype(np.float32)
    return forth, np.linalg.inv(forth).astype(np.float32)


def functions(space: Space, dtype: np.dtype[Any]) -> tuple[Function, Function]:
    """Functions from fractions of ``dtype``'s largest number to sRGB, and back; light outside of sRGB is outside of [0, 1]."""
    curve, (forth, back) = transfer(space), matrices(space)
    black, span = _range(dtype) if space.narrow else (0.0, 1.0)

    def to_srgb(colours: Floats) -> Floats:
        return srgb_of_light(curve.decode((colours - np.float32(black)) / np.float32(span)) @ forth.T)

    def from_srgb(srgb: Floats) -> Floats:
        return curve.encode(light_of_srgb(srgb) @ back.T) * np.float32(span) + np.float32(black)

    return to_srgb, from_srgb


def _range(dtype: np.dtype[Any]) -> tuple[float, float]:
    """Black, and the difference from black to white, of a narrow range, as fractions of the largest number."""
    largest = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 255
    step = (largest + 1) / 256 / largest
    return 16 * step, 219 * step
