"""Display size of a film in a Matroska or WebM file, which PyAV can't make FFmpeg write.

See RFC 9559 (Matroska) and RFC 8794 (EBML).
"""

import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

# Appended to the film's title before the file is written, this reserves room for the size in the track's entry.
RESERVED = " " * 24

_SEGMENT, _TRACKS, _TRACK_ENTRY, _TRACK_TYPE = 0x18538067, 0x1654AE6B, 0xAE, 0x83
_VIDEO, _NAME, _VOID, _CRC32 = 0xE0, 0x536E, 0xEC, 0xBF
_DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT = 0x54B0, 0x54BA, 0x54B2
_SIZES = (_DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT)
_RATIO = 3
_FILM = b"\x01"

# Tracks precede the first frame; their entries are small.
_BEGINNING = 2**20


class _Element(NamedTuple):
    """An element: its name, and the offsets of its start, its content and its end."""

    name: int
    start: int
    content: int
    end: int


def set_pixel_shape(path: Path, width: int, height: int, ratio: Fraction, *, exactly: bool) -> None:
    """Writes the shape of the pixels of a file's first film, whose title ends in ``RESERVED``.

    Args:
        width, height: size of the frames.
        ratio: ratio of a pixel's width and height.
        exactly: whether a display size that is not a whole number of pixels may be written as a ratio, which WebM does not
            have.

    Raises:
        OSError: the file can't be read or written.
        ValueError: the file has no such track.
    """
    with path.open("r+b") as file:
        data = file.read(_BEGINNING)
        segment = _only(data, 0, len(data), _SEGMENT)
        tracks = _only(data, segment.content, segment.end, _TRACKS)
        for entry in _elements(data, tracks.content, tracks.end):
            if entry.name == _TRACK_ENTRY and _content(data, entry, _TRACK_TYPE) == _FILM:
                break
        else:
            raise ValueError(f"{path}: expected a track of video in a Matroska file, got none")
        shown = _shown(width, height, ratio, exactly)
        changed = data[: entry.content] + _entry(data, entry, shown) + data[entry.end :]
        file.seek(tracks.start)
        file.write(_checked(changed, tracks)[tracks.start : tracks.end])


def _shown(width: int, height: int, ratio: Fraction, exactly: bool) -> bytes:
    """The elements for the display size of the film."""
    if exactly and (width * ratio).denominator > 1:
        sides = width * ratio / height
        values = {_DISPLAY_WIDTH: sides.numerator, _DISPLAY_HEIGHT: sides.denominator, _DISPLAY_UNIT: _RATIO}
    else:
        values = {_DISPLAY_WIDTH: round(width * ratio), _DISPLAY_HEIGHT: height}
    return b"".join(_written(name, _number(value)) for name, value in values.items())


def _entry(data: bytes, entry: _Element, shown: bytes) -> bytes:
    """The content of a track's entry with the elements ``shown`` added to its film's, of unchanged length."""
    written = b""
    for part in _elements(data, entry.content, entry.end):
        content = data[part.content : part.end]
        if part.name == _VIDEO:
            inner = [e for e in _elements(data, part.content, part.end) if e.name not in _SIZES]
            content = b"".join(data[e.start : e.end] for e in inner) + shown
        elif part.name == _NAME:
            content = content.removesuffix(RESERVED.encode())
            if not content:
                continue
        written += _written(part.name, content)
    room = entry.end - entry.content - len(written)
    if not 2 <= room <= 127:
        raise ValueError(f"expected a title that ends in {len(RESERVED)} spaces, got room for {room} bytes")
    return written + _written(_VOID, bytes(room - 2))


def _checked(data: bytes, tracks: _Element) -> bytes:
    """The data with the correct checksum of its tracks, if they have one."""
    first = next(_elements(data, tracks.content, tracks.end))
    if first.name != _CRC32:
        return data
    checksum = zlib.crc32(data[first.end : tracks.end]).to_bytes(4, "little")
    return data[: first.content] + checksum + data[first.end :]


def _elements(data: bytes, start: int, end: int) -> Iterator[_Element]:
    while start < min(end, len(data)):
        name, after = _variable(data, start, marked=True)
        size, content = _variable(data, after, marked=False)
        # All bits set: the size is not known.
        is_unknown = size == 2 ** (7 * (content - after)) - 1
        element = _Element(name, start, content, end if is_unknown else content + size)
        yield element
        start = element.end


def _only(data: bytes, start: int, end: int, name: int) -> _Element:
    for element in _elements(data, start, end):
        if element.name == name:
            return element
    raise ValueError(f"expected element {name:X} of a Matroska file, got none")


def _content(data: bytes, parent: _Element, name: int) -> bytes:
    element = _only(data, parent.content, parent.end, name)
    return data[element.content : element.end]


def _variable(data: bytes, start: int, *, marked: bool) -> tuple[int, int]:
    """An integer of variable length, with the bit that gives the length if ``marked``, and its end."""
    length = 9 - data[start].bit_length()
    value = int.from_bytes(data[start : start + length], "big")
    return (value if marked else value & (2 ** (7 * length) - 1)), start + length


def _number(value: int) -> bytes:
    return value.to_bytes(max(1, -(-value.bit_length() // 8)), "big")


def _written(name: int, content: bytes) -> bytes:
    # One value of each length means that the size is not known.
    length = next(n for n in range(1, 9) if len(content) < 2 ** (7 * n) - 1)
    return _number(name) + (len(content) | 1 << (7 * length)).to_bytes(length, "big") + content
