"""Checks against files that need far more work or memory than their size suggests; they are refused before they are decoded."""

import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from PIL import TiffImagePlugin

from zdce.errors import InputError

# A progressive JPEG file has about ten; libtiff allows JPEG data inside of its files a hundred.
_MOST_SCANS = 100

# A file of 64 megapixels in tiles of 16 x 16 has fewer.
_MOST_BLOCKS = 1 << 18

# Largest side of a tile that exceeds the picture: 16 bits of RGB take 96 MiB.
_TILE_SIDE = 4096

# Markers of JPEG files, except stuffed bytes and restarts. (ITU-T T.81, table B.1.)
_JPEG_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])")
_JPEG_START, _JPEG_END, _JPEG_SCAN = b"\xd8", b"\xd9", b"\xda"

_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+")
_TIFF_BLOCKS = (TiffImagePlugin.STRIPOFFSETS, TiffImagePlugin.TILEOFFSETS)
_TIFF_SIDES = (TiffImagePlugin.IMAGEWIDTH, TiffImagePlugin.IMAGELENGTH)
_TIFF_TILE_SIDES = (322, 323)
_TIFF_DEPTH = 32997  # A tag of SGI's volumes, which consist of several pictures.


def check(data: bytes) -> None:
    """Checks a file of any kind.

    Raises:
        ValueError: the file needs too much work or memory.
    """
    if data.startswith(b"\xff\xd8"):
        _check_scans(data)
    elif data.startswith(_TIFF_STARTS):
        entries = list(_tiff_entries(data))
        _check_blocks(entries)
        _check_tiles(entries)


def _check_scans(jpeg: bytes) -> None:
    """Each scan goes over the whole picture, and may take only a few dozen bytes."""
    at, scans = 0, 0
    while (marker := _JPEG_MARKER.search(jpeg, at)) and marker[1] != _JPEG_END:
        scans += marker[1] == _JPEG_SCAN
        if scans > _MOST_SCANS:
            raise InputError(f"expected at most {_MOST_SCANS} scans")
        # A length, which includes itself, follows.
        alone = marker[1] == _JPEG_START
        at = marker.end() + (0 if alone else int.from_bytes(jpeg[marker.end() : marker.end() + 2]))


class _Entry(NamedTuple):
    """Its tag, its number of values, and the first of them, 0 if that is no number in the directory itself."""

    tag: int
    length: int
    value: int


def _check_blocks(entries: Iterable[_Entry]) -> None:
    """For each strip or tile Pillow makes objects of about 300 bytes when it opens a file; a strip may hold a single pixel."""
    for entry in entries:
        if entry.tag in _TIFF_BLOCKS and entry.length > _MOST_BLOCKS:
            raise InputError(f"expected at most {_MOST_BLOCKS} strips or tiles, got {entry.length}")


def _check_tiles(entries: Sequence[_Entry]) -> None:
    """A tile or volume is decoded as a whole, however small the picture is."""
    most = max([_TILE_SIDE, *(entry.value + 15 for entry in entries if entry.tag in _TIFF_SIDES)])
    for entry in entries:
        if entry.tag in _TIFF_TILE_SIDES and not 0 < entry.value <= most:
            raise InputError(f"expected tiles of at most {most} pixels a side, got {entry.value}")
        if entry.tag == _TIFF_DEPTH and entry.value != 1:
            raise InputError(f"expected one picture, got {entry.value} as a volume")


# TIFF's types of unsigned integers: SHORT, LONG, and BigTIFF's LONG8.
_NUMBERS = {3: "H", 4: "I", 16: "Q"}


def _tiff_entries(tiff: bytes) -> Iterator[_Entry]:
    """Entries of the first directory, as far as the file goes."""
    order, big = "<" if tiff.startswith(b"II") else ">", 0x2B in tiff[2:4]  # 43 is BigTIFF's version.
    number, counter, entry = (order + form for form in (("Q", "Q", "HHQ8s") if big else ("I", "H", "HHI4s")))
    try:
        (directory,) = struct.unpack_from(number, tiff, 8 if big else 4)
        (entries,) = struct.unpack_from(counter, tiff, directory)
    except struct.error:
        return
    at, size = directory + struct.calcsize(counter), struct.calcsize(entry)
    for n in range(min(entries, (len(tiff) - at) // size)):
        tag, kind, count, values = struct.unpack_from(entry, tiff, at + n * size)
        form = order + _NUMBERS.get(kind, "0s")
        inside = kind in _NUMBERS and struct.calcsize(form) <= len(values)
        yield _Entry(tag, count, struct.unpack_from(form, values)[0] if inside else 0)
