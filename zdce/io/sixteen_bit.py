"""PNG and TIFF files of 16 bits a colour, which Pillow makes 8: pixels by imagecodecs and tifffile, the rest by Pillow."""

import io
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, TiffImagePlugin

from zdce.errors import InputError, library_call
from zdce.runtime import packages

Deep = NDArray[np.uint16]

# How Pillow's decoder calls such pixels in a PNG file.
_RAW_MODES = ("RGB;16", "RGBA;16", "LA;16")

# What TIFF's tag of what pixels mean says.
_WHITE_IS_ZERO, _RGB = 0, 2

# What it says of a further channel: opacity, by which colours are multiplied.
_MULTIPLIED = 1

# Pillow's names of what tifffile calls so.
_COMPRESSIONS = {
    "raw": None, "tiff_lzw": "lzw", "packbits": "packbits", "zstd": "zstd", "lzma": "lzma",
    "tiff_deflate": "zlib", "tiff_adobe_deflate": "zlib",
}  # fmt: skip
_PREDICTED = ("lzw", "zlib", "zstd", "lzma")

# TIFF's types: ASCII, unsigned 32 bits; and its version for files below 4 GiB. Larger ones go without EXIF's own directories.
_ASCII, _LONG, _CLASSIC = 2, 4, 42


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
    """To be asked before pixels are read or written.

    Raises:
        ValueError: what that needs is missing.
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
        pixels = _read_tiff(io.BytesIO(source) if isinstance(source, bytes) else source)
    if pixels.dtype != np.uint16 or pixels.ndim != 3:
        raise InputError(f"expected 16 bits a colour, got {pixels.dtype} of shape {pixels.shape}")
    return pixels


def _read_tiff(source: Path | io.BytesIO) -> NDArray[Any]:
    import tifffile

    with library_call(), tifffile.TiffFile(source) as file:
        page = file.pages.first
        # (planes, depth, H, W, channels of a plane): channels lie in planes of their own, or beside each other.
        stored = page.asarray(squeeze=False)
        photometric, extra = int(page.photometric), tuple(page.extrasamples)
    pixels = stored[:, 0].transpose(1, 2, 0, 3).reshape(*stored.shape[2:4], -1)
    if photometric == _WHITE_IS_ZERO:
        return np.invert(pixels)
    return _unmultiplied(pixels) if extra[:1] == (_MULTIPLIED,) else pixels


def _unmultiplied(pixels: Deep) -> Deep:
    """``pixels`` (H, W, 4) without their opacity in their colours; what can't be seen at all is black."""
    colours, alpha = pixels[..., :3].astype(np.uint32), pixels[..., 3:].astype(np.uint32)
    # 65535^2 and a half of 65535 stay below 2^32.
    divided = (colours * 65535 + alpha // 2) // np.maximum(alpha, 1)
    return np.concatenate([divided.clip(0, 65535).astype(np.uint16) * (alpha > 0), pixels[..., 3:]], axis=2)


def upright(pixels: Deep, orientation: int) -> Deep:
    """``pixels`` (H, W, channels) turned and mirrored as EXIF's ``orientation``, 1 to 8, says; as they are by any other."""
    if orientation not in range(2, 9):
        return pixels
    if orientation >= 5:
        pixels, orientation = pixels.swapaxes(0, 1), orientation - 4
    down = -1 if orientation in (3, 4) else 1
    across = -1 if orientation in (2, 3) else 1
    return np.ascontiguousarray(pixels[::down, ::across])


def png(pixels: Deep, options: Mapping[str, Any]) -> bytes:
    """A PNG file of ``pixels`` (H, W, channels), with what Pillow writes for ``options``."""
    check()
    import imagecodecs

    with library_call(InputError):
        data = bytes(imagecodecs.png_encode(pixels))
    # The signature takes 8 bytes, the header 25; what describes the picture follows them.
    return data[:33] + _describing_chunks(options) + data[33:]


def _describing_chunks(options: Mapping[str, Any]) -> bytes:
    small = io.BytesIO()
    with library_call(InputError):
        Image.new("RGB", (1, 1)).save(small, "PNG", **options)
    data, at, chunks = small.getvalue(), 8, b""
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind not in (b"IHDR", b"IDAT", b"IEND"):
            chunks += data[at : at + 12 + length]
        at += 12 + length
    return chunks


def tiff(pixels: Deep, options: Mapping[str, Any]) -> bytes:
    """A TIFF file of ``pixels`` (H, W, channels), with what ``options`` give Pillow: exif, icc_profile, dpi, compression.

    Grey with opacity becomes colour with opacity, which others, Pillow too, can read.
    """
    check()
    import tifffile

    if pixels.shape[2] == 2:
        pixels = np.ascontiguousarray(pixels[..., [0, 0, 0, 1]])
    exif = Image.Exif()
    exif.load(options.get("exif", b""))
    tags = [(tag, _ASCII, 0, value, True) for tag, value in exif.items() if isinstance(value, str)]
    compression = _COMPRESSIONS[options["compression"]]
    file = io.BytesIO()
    with library_call(InputError):
        tifffile.imwrite(
            file, pixels, byteorder="<", photometric="rgb",
            planarconfig="contig", extrasamples=["unassalpha"] * (pixels.shape[2] - 3), compression=compression,
            predictor=compression in _PREDICTED, iccprofile=options.get("icc_profile"), metadata=None, software=False,
            extratags=tags, **_resolution(options),
        )  # fmt: skip
    return _with_directories(file.getvalue(), exif)


def _resolution(options: Mapping[str, Any]) -> dict[str, Any]:
    dpi = options.get("dpi")
    return {"resolution": tuple(map(float, dpi)), "resolutionunit": "INCH"} if dpi else {}


def _with_directories(data: bytes, exif: Image.Exif) -> bytes:
    """The file with EXIF's own directories, which tifffile leaves out, behind it, and a first directory that knows them."""
    directories = {tag: exif.get_ifd(tag) for tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)}
    version, first = struct.unpack_from("<HI", data, 2)
    if not any(directories.values()) or version != _CLASSIC:
        return data
    (count,) = struct.unpack_from("<H", data, first)
    entries = {data[at : at + 2]: data[at : at + 12] for at in range(first + 2, first + 2 + 12 * count, 12)}
    for tag, values in directories.items():
        if values:
            data += b"\0" * (-len(data) % 2)  # directories begin at even places
            entries[struct.pack("<H", tag)] = struct.pack("<HHII", tag, _LONG, 1, len(data))
            directory = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II")
            directory.update(values)
            data += directory.tobytes(len(data))
    data += b"\0" * (-len(data) % 2)
    ordered = sorted(entries.values(), key=lambda entry: struct.unpack_from("<H", entry))
    written = struct.pack("<H", len(ordered)) + b"".join(ordered) + struct.pack("<I", 0)
    return data[:4] + struct.pack("<I", len(data)) + data[8:] + written
