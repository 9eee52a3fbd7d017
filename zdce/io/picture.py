"""A photograph in memory, with all metadata of its file."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True)
class Stored:
    """How a file stored its pixels; a new file of the same format is stored in the same way.

    Attributes:
        quantization: JPEG's quantization tables, which determine its quality.
        subsampling: chroma subsampling of JPEG, AVIF and HEIC files, such as ``"4:2:0"``.
        progressive: whether JPEG's scans are progressive.
        lossless: whether WebP is lossless.
        bits: bits of a channel.
        palette: whether colours are in a palette.
    """

    quantization: tuple[tuple[int, ...], ...] = ()
    subsampling: str = ""
    progressive: bool = False
    lossless: bool = False
    bits: int = 8
    palette: bool = False


@dataclass(frozen=True)
class Picture:
    """A photograph in memory.

    Attributes:
        pixels: upright RGB, shape (H, W, 3), uint8, or uint16 for files of more than 8 bits.
        grey: whether the file has one channel; the three of ``pixels`` are then the same.
        alpha: opacity, shape (H, W), uint8 or uint16; None if the file has none.
        metadata: metadata that is written back. By Pillow's names ``exif``, ``icc_profile``, ``xmp``, ``dpi``, ``compression``;
            ``extended_xmp`` (more than one segment of JPEG holds), ``photoshop`` (resources), ``iptc``, ``comments``,
            ``segments`` (JPEG's others), ``chunks`` (PNG's texts and others), ``colour_tags`` (``ColourTags``).
        format: Pillow's name of the format that it was read from, or an empty string.
        stored: how the file stored its pixels.
        notes: a line about each thing in the file that is left out.
    """

    pixels: Pixels
    grey: bool = False
    alpha: Pixels | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    format: str = ""
    stored: Stored = field(default_factory=Stored)
    notes: tuple[str, ...] = ()

    def with_pixels(self, pixels: Pixels) -> "Picture":
        """The same picture with other ``pixels`` (H, W, 3)."""
        return replace(self, pixels=pixels)


def as_uint8(pixels: Pixels) -> NDArray[np.uint8]:
    """8-bit pixels; 16-bit ones are divided by 257, which takes 65535 to 255, and rounded."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
