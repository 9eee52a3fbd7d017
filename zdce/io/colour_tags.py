"""What numbers of colours mean where no ICC profile says it: code points of ITU-T H.273, and PNG's chunks.

PNG files go by the first of cICP, iCCP, sRGB, and gAMA with cHRM (PNG, third edition, section 4.3); AVIF and HEIC files by a
profile before their code points (nclx); a camera's JPEG file without a profile by the colour space that its EXIF names.
"""

import struct
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from zdce.errors import InputError

Point = tuple[float, float]
Primaries = tuple[Point, Point, Point, Point]

_D65, _C, _DCI = (0.3127, 0.3290), (0.310, 0.316), (0.314, 0.351)


class Space(NamedTuple):
    """Chromaticities (x, y) of red, green, blue and white, and how numbers encode light: a name, or the exponent of a power.

    Names: srgb, bt709, pq, hlg. ``narrow``: black is at 16 of 255, white at 235.
    """

    primaries: Primaries
    transfer: str | float
    narrow: bool = False

    @property
    def is_hdr(self) -> bool:
        """Whether it has light above diffuse white, which profiles of a matrix and curves can't describe."""
        return self.transfer in ("pq", "hlg")


SRGB_PRIMARIES: Primaries = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), _D65)
_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
_SMPTE_170M = ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65)

# H.273, table 2, by code point.
_PRIMARIES = {
    1: SRGB_PRIMARIES,
    2: SRGB_PRIMARIES,  # Not specified.
    4: ((0.67, 0.33), (0.21, 0.71), (0.14, 0.08), _C),
    5: ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06), _D65),
    6: _SMPTE_170M,
    7: _SMPTE_170M,
    8: ((0.681, 0.319), (0.243, 0.692), (0.145, 0.049), _C),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65),
    11: (*_P3, _DCI),
    12: (*_P3, _D65),
    22: ((0.630, 0.340), (0.295, 0.605), (0.155, 0.077), _D65),
}

# H.273, table 3: names of transfer functions, or the exponents of power functions.
_TRANSFERS: dict[int, str | float] = {
    1: "bt709", 2: "srgb", 4: 2.2, 5: 2.8, 6: "bt709", 8: 1.0, 13: "srgb", 14: "bt709", 15: "bt709", 16: "pq", 18: "hlg",
}  # fmt: skip

# The PNG specification says that a power of 1 / 2.2 stands for sRGB's curve, and most programs write it so.
_SRGB_GAMMA = range(45000, 46001)

_NOT_SPECIFIED = (2, 2)

# Largest difference of chromaticities that count as equal, and least area of a triangle of primaries.
_SAME, _LEAST_AREA = 0.0015, 1e-3

# Adobe RGB (1998).
_ADOBE_RGB = Space(((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), _D65), 563 / 256)


class ColourTags(NamedTuple):
    """Colour tags of a file: cICP or nclx (primaries, transfer, matrix, full range), PNG's other chunks, and EXIF."""

    cicp: tuple[int, int, int, int] | None = None
    srgb: int | None = None
    gamma: int | None = None
    chromaticities: tuple[int, ...] | None = None
    adobe_rgb: bool = False

    @classmethod
    def of_png(cls, chunks: Mapping[bytes, bytes]) -> "ColourTags | None":
        """Tags of PNG chunks by name; None if there are none. Chunks of a wrong length are ignored."""
        shapes = {b"cICP": ">4B", b"sRGB": ">B", b"gAMA": ">I", b"cHRM": ">8I"}
        values = {
            name: struct.unpack(shape, chunks[name])
            for name, shape in shapes.items()
            if len(chunks.get(name, b"")) == struct.calcsize(shape)
        }
        first = {name: numbers[0] for name, numbers in values.items()}
        code = values.get(b"cICP")
        found = cls(
            (code[0], code[1], code[2], code[3]) if code and code[2] == 0 else None,  # Pixels are RGB.
            first.get(b"sRGB"), first.get(b"gAMA") or None, values.get(b"cHRM"),
        )  # fmt: skip
        return found if found != cls() else None

    @classmethod
    def of_pillow(cls, info: Mapping[Any, Any]) -> "ColourTags | None":
        """Tags of a PNG file as Pillow reports them, which is all but cICP; None if there are none."""
        gamma, points = info.get("gamma"), info.get("chromaticity")
        found = cls(
            None, info.get("srgb"), round(float(gamma) * 100000) if gamma else None,
            tuple(round(float(value) * 100000) for value in points) if points and len(points) == 8 else None,
        )  # fmt: skip
        return found if found != cls() else None

    def png(self) -> Iterator[tuple[bytes, bytes]]:
        """The chunks for these tags. Pixels of PNG files are RGB, so the matrix is 0."""
        if self.cicp and self.cicp[:2] != _NOT_SPECIFIED:
            yield b"cICP", struct.pack(">4B", self.cicp[0], self.cicp[1], 0, self.cicp[3])
        if self.srgb is not None:
            yield b"sRGB", struct.pack(">B", self.srgb)
        if self.gamma:
            yield b"gAMA", struct.pack(">I", self.gamma)
        if self.chromaticities:
            yield b"cHRM", struct.pack(">8I", *self.chromaticities)

    def space(self, *, has_profile: bool) -> Space | None:
        """What the numbers mean; None where a profile says it, or where they are sRGB's.

        Raises:
            ValueError: pictures in this colour space can't be enhanced.
        """
        if self.cicp:
            found = _of_code_points(self.cicp)
        elif has_profile or self.srgb is not None:
            return None
        elif self.gamma or self.chromaticities:
            exponent: str | float = "srgb" if self.gamma is None or self.gamma in _SRGB_GAMMA else 100000 / self.gamma
            found = Space(_of_chromaticities(self.chromaticities), exponent)
        else:
            return _ADOBE_RGB if self.adobe_rgb else None
        return None if found == Space(SRGB_PRIMARIES, "srgb") else found


def _of_code_points(code: tuple[int, int, int, int]) -> Space:
    primaries, transfer, _, full = code
    if primaries not in _PRIMARIES or transfer not in _TRANSFERS:
        raise InputError(f"expected colours that are known, got code points {primaries} and {transfer} of ITU-T H.273")
    return Space(_PRIMARIES[primaries], _TRANSFERS[transfer], not full)


def _of_chromaticities(numbers: tuple[int, ...] | None) -> Primaries:
    if numbers is None:
        return SRGB_PRIMARIES
    white, red, green, blue = ((numbers[n] / 100000, numbers[n + 1] / 100000) for n in range(0, 8, 2))
    found = (red, green, blue, white)
    near = all(abs(a - b) < _SAME for p, q in zip(found, SRGB_PRIMARIES, strict=True) for a, b in zip(p, q, strict=True))
    # Primaries on one line, or without light, can't be mixed to colours.
    area = (green[0] - red[0]) * (blue[1] - red[1]) - (blue[0] - red[0]) * (green[1] - red[1])
    usable = abs(area) > _LEAST_AREA and all(y > 0 for _, y in found)
    return SRGB_PRIMARIES if near or not usable else found
