"""The picture formats that are read and written: suffixes, required packages, and what each can hold. No others are opened."""

import importlib
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from PIL import features

from zdce.io import raw
from zdce.runtime import packages


class Format(NamedTuple):
    """A format by Pillow's name.

    Attributes:
        suffixes: suffixes of its files; the first one is the usual.
        side: largest number of pixels of a side.
        pixels: largest number of pixels in all, or 0 if only memory limits it.
        alpha: whether it can hold transparency that other programs read.
        holds: metadata that it can hold, by the names of ``Picture.metadata``.
    """

    name: str
    suffixes: tuple[str, ...]
    side: int
    pixels: int
    alpha: bool
    holds: frozenset[str]


_COMMON = ("exif", "icc_profile", "xmp")

# Limits of libjpeg, libwebp, libavif and x265 (level 7.2's samples); PNG has 31 bits for a side, TIFF and BMP 32.
_TABLE = (
    Format("JPEG", (".jpg", ".jpeg", ".jfif", ".jpe"), 65500, 0, False,
           frozenset({*_COMMON, "dpi", "extended_xmp", "photoshop", "iptc", "comments", "segments"})),
    Format("PNG", (".png",), 2**31 - 1, 0, True,
           frozenset({*_COMMON, "dpi", "extended_xmp", "comments", "chunks", "colour_tags"})),
    Format("WEBP", (".webp",), 16383, 0, True, frozenset({*_COMMON, "extended_xmp"})),
    Format("BMP", (".bmp",), 2**31 - 1, 0, False, frozenset({"dpi"})),
    Format("TIFF", (".tif", ".tiff"), 2**32 - 1, 0, True,
           frozenset({*_COMMON, "dpi", "extended_xmp", "photoshop", "iptc"})),
    Format("AVIF", (".avif",), 65536, 1 << 28, True, frozenset({*_COMMON, "extended_xmp", "colour_tags"})),
    Format("HEIF", (".heic", ".heif", ".hif"), 65536, 142_606_336, True, frozenset({*_COMMON, "extended_xmp", "colour_tags"})),
)  # fmt: skip

_BY_SUFFIX = {suffix: each for each in _TABLE for suffix in each.suffixes}

# By users' names: Pillow's in lower case, except for HEIC.
BY_NAME = {each.name.lower().replace("heif", "heic"): each for each in _TABLE}

# Suffixes of pictures and videos in formats that are not read: in a folder, these files are named and not silently ignored.
UNREAD_SUFFIXES = frozenset({
    ".gif", ".apng", ".jxl", ".jp2", ".j2k", ".jpf", ".jpx", ".jxr", ".wdp", ".psd", ".psb", ".xcf", ".kra", ".exr",
    ".hdr", ".pfm", ".tga", ".ppm", ".pgm", ".pbm", ".pnm", ".pam", ".pcx", ".dds", ".qoi", ".ico", ".icns", ".sgi",
    ".svg", ".eps", ".heics", ".avifs", ".insp", ".mpo",
    ".crw", ".cr3", ".nrw", ".raf", ".orf", ".rw2", ".pef", ".srw", ".sr2", ".srf", ".x3f", ".3fr", ".iiq", ".rwl",
    ".mrw", ".erf", ".kdc", ".dcr", ".gpr",
    ".ogv", ".mxf", ".asf", ".rm", ".rmvb", ".divx", ".dv", ".f4v", ".mjpeg", ".y4m", ".hevc", ".265", ".h265", ".m2v",
    ".av1", ".ivf", ".insv", ".braw", ".r3d",
})  # fmt: skip

# Includes formats that can't be read here, so that no picture in a folder is silently ignored.
SUFFIXES = frozenset(_BY_SUFFIX)


def of_suffix(path: Path) -> Format | None:
    """The format of a file name, or None."""
    return _BY_SUFFIX.get(path.suffix.lower())


def named(name: str) -> Format | None:
    """The format with Pillow's ``name``, or None."""
    return next((each for each in _TABLE if each.name == name), None)


def renamed(path: Path, form: Format) -> Path:
    """``path`` with a suffix of ``form``: its own if it is one, else the usual one in place of another picture's suffix."""
    own = of_suffix(path)
    if own is form:
        return path
    usual = form.suffixes[0]
    return path.with_suffix(usual) if own or raw.is_raw(path) else path.with_name(path.name + usual)


def why_missing(path: Path) -> str | None:
    """Why files of this name can't be read or written here, or None."""
    form = of_suffix(path)
    if form is None:
        return raw.why_missing() if raw.is_raw(path) else None
    if form.name == "HEIF":
        return packages.missing("pillow_heif", extra="formats")
    if form.name == "AVIF" and not features.check("avif"):
        return "a Pillow built with libavif is needed for AVIF files: pip install --upgrade pillow"
    return None


@cache
def plug_ins() -> None:
    """Registers with Pillow the formats that are read here; importing all of its others would take as long as reading a
    photograph.
    """
    for name in ("Bmp", "Jpeg", "Png", "Tiff", "WebP", "Avif"):
        with suppress(ImportError):  # Pillow before 11.2 has no AVIF.
            importlib.import_module(f"PIL.{name}ImagePlugin")
    if packages.missing("pillow_heif", extra="formats") is None:
        import pillow_heif

        pillow_heif.register_heif_opener()


@cache
def allowed() -> tuple[str, ...]:
    """Pillow's names of the formats to open, whatever a file's name: its other decoders are old, or start other programs."""
    plug_ins()
    return tuple(each.name for each in _TABLE if why_missing(Path(f"a{each.suffixes[0]}")) is None)
