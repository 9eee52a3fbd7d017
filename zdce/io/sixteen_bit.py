"""Pixels of PNG and TIFF files of 16 bits a colour, which Pillow reads as 8: by imagecodecs and tifffile."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from zdce.errors import FileError, InputError, library_call
from zdce.runtime import packages

Deep = NDArray[np.uint16]

# Pillow's decoder names of such pixels in a PNG file.
_RAW_MODES = ("RGB;16", "RGBA;16", "LA;16")

# Values of TIFF's tag for the meaning of pixels.
_WHITE_IS_ZERO, _RGB = 0, 2

# Value of TIFF's tag for a further channel: opacity, by which colours are multiplied.
_MULTIPLIED = 1

# Pillow's names of compressions, by tifffile's.
_COMPRESSIONS = {
    "raw": None, "tiff_lzw": "lzw", "packbits": "packbits", "zstd": "zstd", "lzma": "lzma",
    "tiff_deflate": "zlib", "tiff_adobe_deflate": "zlib",
}  # fmt: skip
_PREDICTED = ("lzw", "zlib", "zstd", "lzma")


def holds(image: Image.Image) -> bool:
    """Whether the file of ``image``, opened and not yet loaded, has 16 bits that Pillow would change.

    These are colours, grey with opacity or with a transparent level, and grey whose white is 0.
    """
    if image.format == "TIFF":
        tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
        bits = set(tags.get(TiffImagePlugin.BITSPERSAMPLE, ()))
        return bits == {16} and tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) in (_WHITE_IS_ZERO, _RGB)
    if image.format == "PNG":
        modes = [str(tile[3]) for tile in getattr(image, "tile", ())]
        return any(mode.startswith(_RAW_MODES) or (mode == "I;16B" and "transparency" in image.info) for mode in modes)
    return False


def check() -> None:
    """Called before pixels are read or written.

    Raises:
        ValueError: a package is missing.
    """
    packages.require("imagecodecs", "tifffile", extra="formats")


def read(source: Path | bytes, format_name: str) -> Deep:
    """The pixels of a file, (H, W, channels) with 1, 2 (grey and opacity), 3 or 4 channels, none multiplied by opacity."""
    check()
    if format_name == "PNG":
        import imagecodecs

        data = source if isinstance(source, bytes) else source.read_bytes()
        with library_call():
            pixels = imagecodecs.png_decode(data)
    else:
        pixels = read_tiff(io.BytesIO(source) if isinstance(source, bytes) else source)
    if pixels.dtype != np.uint16 or pixels.ndim != 3:
        raise InputError(f"expected 16 bits a colour, got {pixels.dtype} of shape {pixels.shape}")
    return pixels


def read_tiff(source: Path | io.BytesIO, white: int = 65535, black: int = 0) -> Deep:
    """The pixels of a TIFF file as ``read`` gives them; its numbers ``black`` and ``white`` become 0 and 65535."""
    import tifffile

    with library_call(), tifffile.TiffFile(source) as file:
        page = file.pages.first
        # (planes, depth, H, W, channels of a plane): channels are separate planes, or interleaved.
        stored = page.asarray(squeeze=False)
        photometric, extra = int(page.photometric), tuple(page.extrasamples)
    if stored.ndim != 5:
        raise FileError("its pixels can't be found")
    pixels = stored[:, 0].transpose(1, 2, 0, 3).reshape(*stored.shape[2:4], -1)
    if (black, white) != (0, 65535) and pixels.dtype == np.uint16:
        pixels = _scaled(pixels, black, white)
    if photometric == _WHITE_IS_ZERO:
        return np.invert(pixels)
    return _unmultiplied(pixels) if extra[:1] == (_MULTIPLIED,) else pixels


def _scaled(pixels: Deep, black: int, white: int) -> Deep:
    above = np.arange(65536).clip(black, white) - black
    return ((above * 65535 + (white - black) // 2) // (white - black)).astype(np.uint16)[pixels]


def _unmultiplied(pixels: Deep) -> Deep:
    """``pixels`` (H, W, 4) with colours divided by their opacity; fully transparent pixels are black."""
    colours, alpha = pixels[..., :3].astype(np.uint32), pixels[..., 3:].astype(np.uint32)
    # 65535^2 and a half of 65535 stay below 2^32.
    divided = (colours * 65535 + alpha // 2) // np.maximum(alpha, 1)
    return np.concatenate([divided.clip(0, 65535).astype(np.uint16) * (alpha > 0), pixels[..., 3:]], axis=2)


def upright(pixels: Deep, orientation: int) -> Deep:
    """``pixels`` (H, W, channels), turned and mirrored by EXIF's ``orientation``, 1 to 8; unchanged for other values."""
    if orientation not in range(2, 9):
        return pixels
    if orientation >= 5:
        pixels, orientation = pixels.swapaxes(0, 1), orientation - 4
    down = -1 if orientation in (3, 4) else 1
    across = -1 if orientation in (2, 3) else 1
    return np.ascontiguousarray(pixels[::down, ::across])


def png(pixels: Deep) -> bytes:
    """A PNG file of ``pixels`` (H, W, channels)."""
    check()
    import imagecodecs

    with library_call(InputError):
        return bytes(imagecodecs.png_encode(pixels))


def tiff(pixels: Deep, order: str, compression: str, icc_profile: bytes | None, dpi: tuple[float, float] | None) -> bytes:
    """A TIFF file of ``pixels`` (H, W, channels) in byte order "<" or ">"; ``compression`` is Pillow's name of it.

    Grey with opacity becomes colour with opacity, which other programs can read.
    """
    check()
    import tifffile

    if pixels.shape[2] == 2:
        pixels = np.ascontiguousarray(pixels[..., [0, 0, 0, 1]])
    packed, file = _COMPRESSIONS[compression], io.BytesIO()
    resolution: dict[str, Any] = {"resolution": tuple(map(float, dpi)), "resolutionunit": "INCH"} if dpi else {}
    with library_call(InputError):
        tifffile.imwrite(
            file, pixels, byteorder=order, photometric="rgb" if pixels.shape[2] > 1 else "minisblack",
            planarconfig="contig" if pixels.shape[2] > 1 else None, extrasamples=["unassalpha"] * (pixels.shape[2] - 3),
            compression=packed, predictor=packed in _PREDICTED, iccprofile=icc_profile, metadata=None, software=False,
            **resolution,
        )  # fmt: skip
    return file.getvalue()
