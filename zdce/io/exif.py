"""EXIF blocks, copied byte for byte: only tags that become wrong when a picture is turned are changed, in place.

A block, as in JPEG, PNG, WebP, AVIF and HEIC files, is a TIFF structure without pixels. Maker notes may contain offsets into
the block, so nothing in it moves.
"""

import struct
from collections.abc import Iterable, Sequence

from zdce.errors import InputError
from zdce.io import directories
from zdce.io.directories import EXIF, GPS, INTEROPERABILITY, MAKER_NOTE, Block, Entry

# Prefix of a block in JPEG files and in Pillow's ``info``.
PREFIX = b"Exif\0\0"

_ORIENTATION = 0x0112
_COLOR_SPACE, _ADOBE_RGB, _INTEROPERABILITY_INDEX = 0xA001, 2, 1
_SUBJECTS = (0x9214, 0xA214)

# Tags of width and height in the first directory and in EXIF's own: sizes, and resolutions of the picture and of the sensor.
_FIRST_PAIRS = ((0x0100, 0x0101), (0x011A, 0x011B))
_EXIF_PAIRS = ((0xA002, 0xA003), (0xA20E, 0xA20F))

# Tags of the thumbnail's data: JPEG data and their length, or strips and their lengths.
_THUMBNAILS = ((0x0201, 0x0202), (0x0111, 0x0117))

# Most bytes after the end of a block's data that may be unused.
_PADDING = 8


def block(data: bytes) -> bytes:
    """A block without the prefix of JPEG files."""
    return data[len(PREFIX) :] if data.startswith(PREFIX) else data


def is_block(data: bytes) -> bool:
    """Whether it begins like a block."""
    try:
        return data[2:4] in (b"*\0", b"\0*") and not Block(data).big
    except (InputError, struct.error):
        return False


def orientation(data: bytes) -> int | None:
    """Orientation of the picture, 1 to 8, or None if the block has none."""
    try:
        opened = Block(block(data))
        entry = opened.find(opened.first, _ORIENTATION)
        value = opened.number(entry, 0) if entry else 0
    except (InputError, struct.error):
        return None
    return value if value in range(1, 9) else None


def upright(data: bytes, turn: int, size: tuple[int, int]) -> bytes:
    """The block for a picture that is upright now, without its thumbnail, which would stay dark.

    Args:
        turn: orientation before the picture was turned.
        size: width and height of the upright picture.

    Returns:
        The block; nothing if it contained only the orientation.
    """
    try:
        changed = bytearray(block(data))
        opened = Block(changed)
        _patch(opened, changed, turn, size)
        empty = {entry.tag for entry in opened.entries(opened.first)} == {_ORIENTATION}
    except (InputError, struct.error):
        return block(data)
    return b"" if empty else bytes(_without_thumbnail(opened, changed))


def _patch(opened: Block, data: bytearray, turn: int, size: tuple[int, int]) -> None:
    own = opened.below(opened.first, EXIF)
    if (entry := opened.find(opened.first, _ORIENTATION)) and opened.number(entry, 1) != 1:
        _put(opened, data, entry, [1])
    if turn >= 5:
        for directory, pairs in ((opened.first, _FIRST_PAIRS), (own, _EXIF_PAIRS)):
            for pair in pairs:
                _swap(opened, data, directory, pair)
    if turn > 1:
        for tag in _SUBJECTS:
            if (entry := opened.find(own, tag)) and len(place := opened.numbers(entry)) >= 2:
                _put(opened, data, entry, _turned_place(place, turn, size))


def _put(opened: Block, data: bytearray, entry: Entry, values: Sequence[int]) -> None:
    form = {1: "B", 3: "H", 4: "I"}.get(entry.kind)
    if form and all(0 <= value < 1 << 8 * struct.calcsize(form) for value in values):
        struct.pack_into(f"{opened.order}{len(values)}{form}", data, entry.value, *values)


def _swap(opened: Block, data: bytearray, directory: int, pair: tuple[int, int]) -> None:
    """Exchanges types, counts and values of two entries."""
    found = [opened.find(directory, tag) for tag in pair]
    if found[0] and found[1]:
        first, second = (slice(entry.place + 2, entry.place + 12) for entry in found if entry)
        data[first], data[second] = data[second], data[first]


def _turned_place(place: Sequence[int], turn: int, size: tuple[int, int]) -> list[int]:
    """A subject's centre (and the size of its frame) in the upright picture."""
    width, height = size if turn < 5 else size[::-1]
    (x, y), frame = place[:2], list(place[2:])
    if turn in (2, 3, 7, 8):
        x = width - 1 - x
    if turn in (3, 4, 6, 7):
        y = height - 1 - y
    return [x, y, *frame] if turn < 5 else [y, x, *reversed(frame)]


def _without_thumbnail(opened: Block, data: bytearray) -> bytearray:
    """The block without the thumbnail's directory. Its data are cut off if they are at the end, as in most files."""
    small = opened.next(opened.first)
    if not small:
        return data
    own = opened.below(opened.first, EXIF)
    live = [opened.first, own, opened.below(opened.first, GPS), opened.below(own, INTEROPERABILITY)]
    needed = max(end for directory in live for _, end in _ranges(opened, directory))
    parts = [*_ranges(opened, small), *_pictures(opened, small)]
    struct.pack_into(opened.order + "I", data, opened.end(opened.first), 0)
    end = len(data)
    for start, stop in sorted(parts, reverse=True):
        if needed <= start < end and end - stop <= _PADDING:
            end = start
    return data[:end]


def _ranges(opened: Block, directory: int) -> list[tuple[int, int]]:
    """Ranges of bytes of a directory and its values."""
    if not directory:
        return [(0, 0)]
    values = [(entry.value, entry.value + entry.size) for entry in opened.entries(directory)]
    return [(directory, opened.end(directory) + 4), *values]


def _pictures(opened: Block, directory: int) -> Iterable[tuple[int, int]]:
    for place, length in _THUMBNAILS:
        starts, lengths = opened.find(directory, place), opened.find(directory, length)
        if starts and lengths:
            yield from ((at, at + n) for at, n in zip(opened.numbers(starts), opened.numbers(lengths), strict=False))


def without_orientation(data: bytes) -> bytes:
    """The block without this tag: later entries move up by one, values stay in place."""
    try:
        changed = bytearray(data)
        opened = Block(changed)
        _remove(opened, changed, opened.first, _ORIENTATION)
    except (InputError, struct.error):
        return data
    return bytes(changed)


def _remove(opened: Block, data: bytearray, directory: int, tag: int) -> None:
    """Removes an entry from a directory of ``data``; other entries move up, values stay in place."""
    entry = opened.find(directory, tag)
    if entry is None:
        return
    end = opened.end(directory) + 4
    (count,) = struct.unpack_from(opened.order + "H", data, directory)
    struct.pack_into(opened.order + "H", data, directory, count - 1)
    data[entry.place : end] = data[entry.place + 12 : end] + bytes(12)


# Tags of the place on Earth of a map's pixels, in TIFF files. (OGC GeoTIFF 1.1, section 7.1.)
_GEOTIFF = (33550, 33920, 33922, 34264, 34735, 34736, 34737)


def without_place(data: bytes) -> bytes:
    """The block with its GPS directory and GeoTIFF's tags replaced by zeros; nothing if it can't be read."""
    try:
        changed = bytearray(data)
        opened = Block(changed)
        if opened.big:
            return b""
        for directory in (opened.first, opened.below(opened.first, EXIF)):
            for start, end in _ranges(opened, opened.below(directory, GPS)):
                _blank(changed, start, end)
            for tag in (GPS, *_GEOTIFF):
                if entry := opened.find(directory, tag):
                    _blank(changed, entry.value, entry.value + entry.size)
                    _remove(opened, changed, directory, tag)
        return bytes(changed) if opened.entries(opened.first) else b""
    except (InputError, struct.error):
        return b""


def _blank(data: bytearray, start: int, end: int) -> None:
    end = min(end, len(data))
    data[start:end] = bytes(max(0, end - start))


def is_adobe_rgb(data: bytes) -> bool:
    """Whether EXIF names Adobe RGB, as cameras do instead of a profile: by its colour space or, by DCF's rules, by its file's
    index.
    """
    try:
        opened = Block(block(data))
        own = opened.below(opened.first, EXIF)
        space = opened.find(own, _COLOR_SPACE)
        index = opened.find(opened.below(own, INTEROPERABILITY), _INTEROPERABILITY_INDEX)
    except (InputError, struct.error):
        return False
    value = opened.number(space, 1) if space else 1
    return value == _ADOBE_RGB or (value != 1 and index is not None and opened.bytes(index).startswith(b"R03"))


def has_maker_note(data: bytes) -> bool:
    """Whether a block has the maker notes of a camera, which may contain places."""
    try:
        opened = Block(data)
        return opened.find(opened.below(opened.first, EXIF), MAKER_NOTE) is not None
    except (InputError, struct.error):
        return False


# Tags of a TIFF file that describe how pixels are stored, or are kept in other ways. All others describe the picture.
_STORAGE = frozenset({
    *range(254, 260), *range(262, 267), 273, 274, *range(277, 285), *range(288, 298), 301, *range(317, 318), *range(320, 348),
    *range(512, 522), *range(529, 533), 700, 18246 + 1, *range(32995, 32999), 33421, 33422, 33723, 34377, 34675, 37724,
    *range(37393, 37400), *range(50706, 52553),
}) - {333, 337}  # fmt: skip
_POINTERS = (EXIF, GPS, INTEROPERABILITY)
_IFD = 13


def describing(opened: Block) -> list[Entry]:
    """The entries of a TIFF structure's first directory that describe what the picture shows."""
    return [entry for entry in opened.entries(opened.first) if entry.tag not in _STORAGE]


def of_tiff(opened: Block) -> bytes:
    """A block with what a TIFF or RAW file says of its picture; nothing if it says nothing.

    Maker notes keep their offset if it is small enough; otherwise they move, and the offsets in them are adjusted.
    """
    try:
        return _Copy(opened).data()
    except struct.error:
        return b""


class _Copy:
    """A block that is assembled from another block's directories."""

    def __init__(self, source: Block) -> None:
        self._source = source
        self._note = source.find(source.below(source.first, EXIF), MAKER_NOTE)
        self._fixed = self._note.value if self._note and 8 < self._note.value <= _FARTHEST else 0
        self._parts: dict[int, bytes] = {}
        self._end = 8

    def data(self) -> bytes:
        first = self._directory(describing(self._source))
        if not first:
            return b""
        mark = b"II*\0" if self._source.order == "<" else b"MM\0*"
        result = bytearray(self._end)
        self._parts[0] = mark + struct.pack(self._source.order + "I", first)
        for at, part in self._parts.items():
            result[at : at + len(part)] = part
        return bytes(result)

    def _place(self, size: int) -> int:
        """Offset of free room for ``size`` bytes, outside of the range of a maker note that stays in place."""
        self._end += self._end % 2
        at = self._end
        if self._note and self._fixed and at < self._fixed + self._note.size and at + size > self._fixed:
            at = self._fixed + self._note.size + self._note.size % 2
        self._end = at + size
        if self._end > len(self._source.data) + _FARTHEST:
            raise struct.error("its values overlap")
        return at

    def _directory(self, entries: list[Entry], depth: int = 0) -> int:
        """Writes a directory of ``entries`` with its values and returns its offset; 0 if nothing is left of it."""
        kept = sorted({entry.tag: entry for entry in entries if self._is_kept(entry)}.values())
        if not kept or depth > 2:
            return 0
        order = self._source.order
        at = self._place(2 + 12 * len(kept) + 4)
        written = [struct.pack(order + "HHI", *self._shape(entry)) + self._field(entry, depth) for entry in kept]
        self._parts[at] = struct.pack(order + "H", len(kept)) + b"".join(written) + bytes(4)
        return at

    def _is_kept(self, entry: Entry) -> bool:
        return bool(self._below(entry)) if entry.tag in _POINTERS else entry.kind != _IFD

    def _shape(self, entry: Entry) -> tuple[int, int, int]:
        return (entry.tag, 4, 1) if entry.tag in _POINTERS else (entry.tag, entry.kind, entry.length)

    def _below(self, entry: Entry) -> list[Entry]:
        return self._source.entries(self._source.number(entry, 0))

    def _field(self, entry: Entry, depth: int) -> bytes:
        order, values = self._source.order, self._source.bytes(entry)
        if entry.tag in _POINTERS:
            return struct.pack(order + "I", self._directory(self._below(entry), depth + 1))
        if len(values) <= 4:
            return values.ljust(4, b"\0")
        if entry.tag == MAKER_NOTE and self._fixed:
            self._end, at = max(self._end, self._fixed + len(values)), self._fixed
        else:
            at = self._place(len(values))
        self._parts[at] = _moved(values, order, entry.value, at) if entry.tag == MAKER_NOTE else values
        return struct.pack(order + "I", at)


# A larger block does not fit into a single segment of a JPEG file.
_FARTHEST = 60000

# Prefixes of maker notes that are a directory; others contain a TIFF structure of their own, which moves as a whole.
_NOTE_HEADS = {b"SONY DSC \0\0\0": 12, b"SONY CAM \0\0\0": 12, b"Panasonic\0\0\0": 12, b"OLYMP\0": 8, b"AGFA \0": 8}


def _moved(note: bytes, order: str, before: int, after: int) -> bytes:
    """A maker note that was moved from ``before`` to ``after``.

    If it is a directory whose offsets all point inside of it, they count from the beginning of the block and are adjusted.
    """
    head = next((size for start, size in _NOTE_HEADS.items() if note.startswith(start)), 0)
    if before == after or len(note) < head + 2:
        return note
    (count,) = struct.unpack_from(order + "H", note, head)
    if not 0 < count <= (len(note) - head - 2) // 12:
        return note
    result = bytearray(note)
    for place in range(head + 2, head + 2 + 12 * count, 12):
        _, kind, number, value = struct.unpack_from(order + "HHII", note, place)
        size = directories.size_of(kind) * number
        if size > 4:
            if not before <= value <= before + len(note) - size:
                return note
            struct.pack_into(order + "I", result, place + 8, value - before + after)
    return bytes(result)
