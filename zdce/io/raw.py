"""RAW files of cameras, developed by LibRaw (rawpy): camera white balance, sRGB, 16 bits, unchanged exposure."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zdce.errors import InputError, library_call
from zdce.runtime import packages

SUFFIXES = frozenset({".dng", ".nef", ".arw", ".cr2"})

# sRGB's curve as LibRaw takes it: the inverse of the exponent, and the slope at black.
_GAMMA = (2.4, 12.92)


def is_raw(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def why_missing() -> str | None:
    """Why RAW files can't be read here, or None."""
    return packages.missing("rawpy", extra="formats")


def read(path: Path, most_pixels: int) -> NDArray[np.uint16]:
    """The developed picture, upright, (H, W, 3).

    Raises:
        ValueError: rawpy is missing, or it has more than ``most_pixels``.
        OSError: there is no such file, or LibRaw can't read it.
    """
    packages.require("rawpy", extra="formats")
    import rawpy

    with path.open("rb") as file, library_call(), rawpy.imread(file) as opened:
        sizes = opened.sizes
        if sizes.width * sizes.height > most_pixels:
            raise InputError(f"expected at most {most_pixels} pixels, got {sizes.width} x {sizes.height}")
        # Brightening is the network's task: LibRaw's own would turn every night into day, and make the brightest pixel white.
        return opened.postprocess(
            output_bps=16, use_camera_wb=True, no_auto_bright=True, adjust_maximum_thr=0.0, gamma=_GAMMA,
            output_color=rawpy.ColorSpace.sRGB,
        )  # fmt: skip
