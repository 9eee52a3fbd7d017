"""TIFF's directories of tags, which EXIF blocks, TIFF files and most RAW files are made of, at the level of bytes.

Values are copied byte for byte, so that text in any encoding and makers' own data stay the same. (TIFF 6.0, section 2.)
"""

import struct
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np

from zdce.errors import InputError
from zdce.io.buffers import Buffer

EXIF, GPS, INTEROPERABILITY = 0x8769, 0x8825, 0xA005
MAKER_NOTE = 0x927C
# Number of planes of an SGI volume, which consists of several pictures.
VOLUME_DEPTH = 32997

# Bytes of a value of each type: BYTE, ASCII, SHORT, LONG, RATIONAL, SBYTE, UNDEFINED, SSHORT, SLONG, SRATIONAL, FLOAT, DOUBLE,
# IFD, and BigTIFF's LONG8, SLONG8, IFD8; and of what is turned around where the byte order is another.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8, 129: 1}
_WORDS = {**_SIZES, 5: 4, 10: 4}
_NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}

_CLASSIC, _BIG = 42, 43

# More entries than any camera writes; a broken count would name a whole file as one directory.
_MOST_ENTRIES = 4096


class Entry(NamedTuple):
    """A tag of a directory: its type and number of values, where the entry itself and where its value begin."""

    tag: int
    kind: int
    length: int
    place: int
    value: int

    @property
    def size(self) -> int:
        """Bytes of all its values."""
        return _SIZES.get(self.kind, 1) * self.length


class Block:
    """A TIFF structure in ``data``.

    Raises:
        InputError: ``data`` is not a TIFF structure.
    """

    def __init__(self, data: Buffer) -> None:
        self.data = data
        self.order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]), "")
        if not self.order or len(data) < 8:
            raise InputError("expected a TIFF structure")
        # RAW files of some makers have other versions than TIFF's.
        self.big = self._number("H", 2) == _BIG
        self.first = self._number("Q", 8) if self.big and len(data) >= 16 else self._number("I", 4)

    def entries(self, directory: int) -> list[Entry]:
        """Those of a directory whose values lie inside of the data; none where there is no directory."""
        return [entry for entry in islice(self.all_entries(directory), _MOST_ENTRIES) if self.has(entry)]

    def has(self, entry: Entry) -> bool:
        """Whether its values lie inside of the data."""
        return entry.value + entry.size <= len(self.data)

    def all_entries(self, directory: int) -> Iterator[Entry]:
        """Those of a directory as far as the data go, with values anywhere and in any number."""
        counter, form, room = ("Q", "HHQ", 8) if self.big else ("H", "HHI", 4)
        at = directory + struct.calcsize(counter)
        if directory <= 0 or at > len(self.data):
            return
        size = 20 if self.big else 12
        for n in range(min(self._number(counter, directory), (len(self.data) - at) // size)):
            place = at + n * size
            tag, kind, count = struct.unpack_from(self.order + form, self.data, place)
            field = place + size - room
            inside = _SIZES.get(kind, 1) * count <= room
            yield Entry(tag, kind, count, place, field if inside else self._number("Q" if self.big else "I", field))

    def next(self, directory: int) -> int:
        """Where the directory after this one begins, or 0."""
        at = self.end(directory)
        known = directory > 0 and at + (8 if self.big else 4) <= len(self.data)
        return self._number("Q" if self.big else "I", at) if known else 0

    def end(self, directory: int) -> int:
        """Where a directory's entries end, and the place of the next directory stands."""
        counter, size = ("Q", 20) if self.big else ("H", 12)
        at = directory + struct.calcsize(counter)
        return at + size * self._number(counter, directory) if at <= len(self.data) else len(self.data)

    def find(self, directory: int, tag: int) -> Entry | None:
        """The entry of ``tag``, or None."""
        return next((entry for entry in self.entries(directory) if entry.tag == tag), None)

    def below(self, directory: int, tag: int) -> int:
        """Where the directory that ``tag`` names begins, or 0."""
        entry = self.find(directory, tag)
        return self.number(entry, 0) if entry else 0

    def bytes(self, entry: Entry) -> bytes:
        """Its values as they lie."""
        return bytes(self.data[entry.value : entry.value + entry.size])

    def number(self, entry: Entry, otherwise: int) -> int:
        """Its first value, where that is a whole number."""
        return (self.numbers(entry) or (otherwise,))[0]

    def numbers(self, entry: Entry) -> tuple[int, ...]:
        """Its values, where they are whole numbers."""
        form = _NUMBERS.get(entry.kind)
        return struct.unpack(f"{self.order}{entry.length}{form}", self.bytes(entry)) if form else ()

    def _number(self, form: str, at: int) -> int:
        (value,) = struct.unpack_from(self.order + form, self.data, at)
        return value


def size_of(kind: int) -> int:
    """Bytes of a value of a type, 0 where there is no such type."""
    return _SIZES.get(kind, 0)


def turned(values: bytes, kind: int) -> bytes:
    """Values of a type in the other byte order."""
    width = _WORDS.get(kind, 1)
    return values if width == 1 else np.frombuffer(values, f"<u{width}").byteswap().tobytes()
