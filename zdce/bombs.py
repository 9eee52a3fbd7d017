"""Files that ask for far more work or memory than their bytes and pixels let expect: refused before anything decodes them."""

import re
import struct
from collections.abc import Iterator

from PIL import TiffImagePlugin

# A progressive JPEG file has some ten; libtiff too allows those inside of its files a hundred.
_MOST_SCANS = 100

# A file of 64 megapixels in tiles of 16 x 16 has less.
_MOST_BLOCKS = 1 << 18

# Markers of JPEG files, stuffed bytes and restarts left out. (ITU-T T.81, table B.1.)
_JPEG_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])")
_JPEG_START, _JPEG_END, _JPEG_SCAN = b"\xd8", b"\xd9", b"\xda"

_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II\0*", b"MM*\0", b"II+\0", b"MM\0+")
_TIFF_BLOCKS = (TiffImagePlugin.STRIPOFFSETS, TiffImagePlugin.TILEOFFSETS)


def check(data: bytes) -> None:
    """Looks at a file of any kind.

    Raises:
        ValueError: it is one of these.
    """
    if data.startswith(b"\xff\xd8"):
        _check_scans(data)
    elif data.startswith(_TIFF_STARTS):
        _check_blocks(data)


def _check_scans(jpeg: bytes) -> None:
    """Each scan passes over the whole picture, and may have no more than a few dozen bytes."""
    at, scans = 0, 0
    while (marker := _JPEG_MARKER.search(jpeg, at)) and marker[1] != _JPEG_END:
        scans += marker[1] == _JPEG_SCAN
        if scans > _MOST_SCANS:
            raise ValueError(f"expected at most {_MOST_SCANS} scans")
        # Its length, which counts itself, is followed.
        alone = marker[1] == _JPEG_START
        at = marker.end() + (0 if alone else int.from_bytes(jpeg[marker.end() : marker.end() + 2]))


def _check_blocks(tiff: bytes) -> None:
    """For each strip or tile Pillow makes objects of some 300 bytes, while it opens a file; a row of one pixel may be one."""
    for tag, count in _tiff_entries(tiff):
        if tag in _TIFF_BLOCKS and count > _MOST_BLOCKS:
            raise ValueError(f"expected at most {_MOST_BLOCKS} strips or tiles, got {count}")


def _tiff_entries(tiff: bytes) -> Iterator[tuple[int, int]]:
    """Tag and number of values of each entry of the first directory, as far as the file goes."""
    order, big = "<" if tiff.startswith(b"II") else ">", 0x2B in tiff[2:4]  # 43 is BigTIFF's version
    number, counter, entry = (order + form for form in (("Q", "Q", "HHQ8x") if big else ("I", "H", "HHI4x")))
    try:
        (directory,) = struct.unpack_from(number, tiff, 8 if big else 4)
        (entries,) = struct.unpack_from(counter, tiff, directory)
    except struct.error:
        return
    at, size = directory + struct.calcsize(counter), struct.calcsize(entry)
    for n in range(min(entries, (len(tiff) - at) // size)):
        tag, _, count = struct.unpack_from(entry, tiff, at + n * size)
        yield tag, count
