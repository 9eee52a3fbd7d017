"""Checks against files that need far more work or memory than their size suggests; they are refused before they are decoded."""

from collections.abc import Iterable

from PIL import TiffImagePlugin

from zdce.errors import InputError
from zdce.io import jpeg, tiff
from zdce.io.directories import VOLUME_DEPTH, Block, Entry

# A progressive JPEG file has about ten; libtiff allows JPEG data inside of its files a hundred.
_MOST_SCANS = 100

# A file of 64 megapixels in tiles of 16 x 16 has fewer.
_MOST_BLOCKS = 1 << 18

# Largest side of a tile that exceeds the picture: 16 bits of RGB take 96 MiB.
_TILE_SIDE = 4096

_TIFF_BLOCKS = (TiffImagePlugin.STRIPOFFSETS, TiffImagePlugin.TILEOFFSETS)
_TIFF_SIDES = (TiffImagePlugin.IMAGEWIDTH, TiffImagePlugin.IMAGELENGTH)
_TIFF_TILE_SIDES = (322, 323)


def check(data: bytes) -> None:
    """Checks a file of any kind.

    Raises:
        ValueError: the file needs too much work or memory.
    """
    if data.startswith(b"\xff\xd8"):
        _check_scans(data)
    elif (file := tiff.opened(data)) is not None:
        entries = list(file.all_entries(file.first))
        _check_blocks(entries)
        _check_tiles(file, entries)


def _check_scans(data: bytes) -> None:
    """Each scan goes over the whole picture, and may take only a few dozen bytes."""
    scans = 0
    for segment in jpeg.segments(data):
        scans += segment.marker == jpeg.SCAN
        if scans > _MOST_SCANS:
            raise InputError(f"expected at most {_MOST_SCANS} scans")


def _check_blocks(entries: Iterable[Entry]) -> None:
    """For each strip or tile Pillow makes objects of about 300 bytes when it opens a file; a strip may hold a single pixel."""
    for entry in entries:
        if entry.tag in _TIFF_BLOCKS and entry.length > _MOST_BLOCKS:
            raise InputError(f"expected at most {_MOST_BLOCKS} strips or tiles, got {entry.length}")


def _check_tiles(file: Block, entries: Iterable[Entry]) -> None:
    """A tile or volume is decoded as a whole, however small the picture is."""
    values = [(entry.tag, _number(file, entry)) for entry in entries]
    most = max([_TILE_SIDE, *(value + 15 for tag, value in values if tag in _TIFF_SIDES)])
    for tag, value in values:
        if tag in _TIFF_TILE_SIDES and not 0 < value <= most:
            raise InputError(f"expected tiles of at most {most} pixels a side, got {value}")
        if tag == VOLUME_DEPTH and value != 1:
            raise InputError(f"expected one picture, got {value} as a volume")


def _number(file: Block, entry: Entry) -> int:
    """Its only value, or 0 if that is no whole number, or lies outside of the file."""
    return file.number(entry, 0) if entry.length == 1 and file.has(entry) else 0
