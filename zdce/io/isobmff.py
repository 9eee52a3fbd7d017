"""The structure of AVIF and HEIC files: their items and what they describe. (ISO/IEC 14496-12 and 23008-12.)

Pillow does not tell what else a file contains beside its picture.
"""

import struct
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from zdce.errors import InputError
from zdce.io import exif, notes
from zdce.io.buffers import Buffer
from zdce.io.colour_tags import ColourTags

_FULL = {b"meta": 4}
_IMAGES = frozenset({b"hvc1", b"av01", b"grid", b"iden", b"iovl", b"jpeg", b"avc1", b"hvc2", b"vvc1", b"unci"})
_VIDEOS = {b"moov": "film or a sequence of pictures", b"mpvd": "motion photo's video"}
_CREDENTIALS = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")  # C2PA's box of type uuid.
_AUXILIARY = (
    (b"alpha", ""), (b"hdrgainmap", "gain map"), (b"depth", "depth map"), (b"disparity", "depth map"),
    (b"hevc:2015:auxid:1", ""), (b"hevc:2015:auxid:2", "depth map"),  # Opacity and depth by HEVC's own numbers.
)  # fmt: skip
_TURNS = (1, 8, 3, 6)
_LIGHT = {b"clli": "content light level", b"mdcv": "mastering display"}


class _Box(NamedTuple):
    kind: bytes
    start: int
    end: int


def _boxes(data: Buffer, start: int, end: int) -> Iterator[_Box]:
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        head = 8
        if size == 1 and start + 16 <= end:
            (size,), head = struct.unpack_from(">Q", data, start + 8), 16
        stop = end if size == 0 else start + size
        if stop > end or size in range(1, head):
            return
        yield _Box(kind, start + head + _FULL.get(kind, 0), stop)
        start = stop


class Items:
    """The items of a file's ``meta`` box.

    Raises:
        InputError, struct.error, IndexError: the file has no ``meta`` box that can be read.
    """

    def __init__(self, data: Buffer) -> None:
        self._data = data
        self.top = list(_boxes(data, 0, len(data)))
        meta = next((box for box in self.top if box.kind == b"meta"), None)
        if meta is None:
            raise InputError("expected a box of items")
        inside = {box.kind: box for box in _boxes(data, meta.start, meta.end)}
        self._inside = inside
        self.primary = self._number(inside[b"pitm"]) if b"pitm" in inside else 0
        self.kinds = dict(self._infos()) if b"iinf" in inside else {}
        self.references = list(self._references()) if b"iref" in inside else []
        self._properties = self._read_properties() if b"iprp" in inside else {}

    def _versioned(self, box: _Box) -> tuple[int, int]:
        return self._data[box.start], box.start + 4

    def _number(self, box: _Box) -> int:
        version, at = self._versioned(box)
        return self._integer(at, 2 if version == 0 else 4)

    def _integer(self, at: int, size: int) -> int:
        return int.from_bytes(self._data[at : at + size])

    def _infos(self) -> Iterator[tuple[int, bytes]]:
        box = self._inside[b"iinf"]
        version, at = self._versioned(box)
        for info in _boxes(self._data, at + (2 if version == 0 else 4), box.end):
            version, at = self._versioned(info)
            width = 2 if version < 3 else 4
            yield self._integer(at, width), bytes(self._data[at + width + 2 : at + width + 6])

    def _references(self) -> Iterator[tuple[bytes, int, list[int]]]:
        box = self._inside[b"iref"]
        version, at = self._versioned(box)
        width = 2 if version == 0 else 4
        for reference in _boxes(self._data, at, box.end):
            count = self._integer(reference.start + width, 2)
            places = range(reference.start + width + 2, min(reference.start + width + 2 + width * count, reference.end), width)
            yield reference.kind, self._integer(reference.start, width), [self._integer(at, width) for at in places]

    def _read_properties(self) -> dict[int, list[_Box]]:
        parts = list(_boxes(self._data, self._inside[b"iprp"].start, self._inside[b"iprp"].end))
        container = next(box for box in parts if box.kind == b"ipco")
        known = list(_boxes(self._data, container.start, container.end))
        found: dict[int, list[_Box]] = {}
        for box in (box for box in parts if box.kind == b"ipma"):
            version, at = self._versioned(box)
            wide = self._data[at - 1] & 1
            count, at = self._integer(at, 4), at + 4
            for _ in range(count):
                width = 2 if version < 1 else 4
                item, entries, at = self._integer(at, width), self._data[at + width], at + width + 1
                numbers = [self._integer(at + n * (1 + wide), 1 + wide) & (0x7FFF if wide else 0x7F) for n in range(entries)]
                at += entries * (1 + wide)
                if at > box.end:
                    return found
                found.setdefault(item, []).extend(known[n - 1] for n in numbers if 0 < n <= len(known))
        return found

    def properties(self, item: int, kind: bytes) -> list[bytes]:
        """The contents of an item's boxes of one type."""
        return [bytes(self._data[box.start : box.end]) for box in self._properties.get(item, []) if box.kind == kind]

    def content(self, item: int) -> bytes:
        """The bytes of an item; none if the file does not say where they are."""
        if b"iloc" not in self._inside:
            return b""
        box = self._inside[b"iloc"]
        version, at = self._versioned(box)
        sizes = self._integer(at, 2)
        offset, length, base, index = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
        width = 2 if version < 2 else 4
        count, at = self._integer(at + 2, width), at + 2 + width
        for _ in range(count):
            if at > box.end:  # the count is wrong
                break
            identity, at = self._integer(at, width), at + width
            method = self._integer(at, 2) & 15 if version in (1, 2) else 0
            at += (2 if version in (1, 2) else 0) + 2
            start, at = self._integer(at, base), at + base
            extents, at = self._integer(at, 2), at + 2
            step = (index if version in (1, 2) else 0) + offset + length
            if identity == item:
                within = self._inside[b"idat"].start if method == 1 else 0
                skip = step - offset - length
                places = [(self._integer(p + skip, offset), self._integer(p + skip + offset, length))
                          for p in range(at, at + extents * step, step or 1)]  # fmt: skip
                return b"".join(
                    bytes(self._data[within + start + p : within + start + p + n if length else None]) for p, n in places
                )
            at += extents * step
        return b""


def carried(data: Buffer) -> tuple[dict[str, Any], list[str]]:
    """The metadata of a file that are kept, and a line about each that is left out."""
    try:
        items = Items(data)
        return _described(items), notes.left_out(_left_out(items, data))
    except (InputError, struct.error, IndexError, StopIteration):
        return {}, []


def _described(items: Items) -> dict[str, Any]:
    described: dict[str, Any] = {}
    about = {source for kind, source, targets in items.references if kind == b"cdsc" and items.primary in targets}
    for item, kind in items.kinds.items():
        if kind == b"Exif" and (item in about or not about) and "exif" not in described:
            content = items.content(item)
            block = exif.block(content[4 + int.from_bytes(content[:4]) :])
            if block:
                described["exif"] = exif.PREFIX + block
    for colour in items.properties(items.primary, b"colr"):
        if colour.startswith(b"nclx") and len(colour) >= 11:
            primaries, transfer, matrix = struct.unpack_from(">HHH", colour, 4)
            # Whether luma and chroma have their full range only concerns the decoder: pixels have it.
            described["colour_tags"] = ColourTags((primaries, transfer, matrix, 1))
    described["subsampling"] = _subsampling(items)
    depths = [max(content[5:], default=8) for content in items.properties(items.primary, b"pixi")]
    described["bits"] = max(depths, default=8)
    # Quarter turns counter-clockwise, as EXIF's orientation.
    described["turn"] = next((_TURNS[content[0] & 3] for content in items.properties(items.primary, b"irot") if content), 1)
    return described


# By the chroma format of HEVC, and by whether AV1 halves columns and rows.
_OF_HEVC = {1: "4:2:0", 2: "4:2:2", 3: "4:4:4"}
_OF_AV1 = {0b00: "4:4:4", 0b10: "4:2:2", 0b11: "4:2:0"}


def _subsampling(items: Items) -> str:
    """Chroma subsampling of the picture, or of the tiles that it consists of; an empty string without colour."""
    parts = sorted(_parts(items))
    av1, hevc = (next((c for part in parts for c in items.properties(part, kind)), b"") for kind in (b"av1C", b"hvcC"))
    if len(av1) > 2:
        monochrome = av1[2] >> 4 & 1
        return "" if monochrome else _OF_AV1.get(av1[2] >> 2 & 3, "")
    return _OF_HEVC.get(hevc[16] & 3, "") if len(hevc) > 16 else ""


def _left_out(items: Items, data: Buffer) -> Counter[str]:
    left_out = _further_items(items)
    for box in items.top:
        if box.kind in _VIDEOS:
            left_out[_VIDEOS[box.kind]] = 1
        if box.kind == b"uuid" and data[box.start : box.start + 16] == _CREDENTIALS:
            left_out["content credentials (C2PA)"] = 1
    for kind, what in _LIGHT.items():
        if items.properties(items.primary, kind):
            left_out[what] = 1
    return left_out


def _further_items(items: Items) -> Counter[str]:
    """Pictures other than the photograph and its parts, its thumbnail and its opacity."""
    left_out = Counter[str]()
    parts = _parts(items)
    others = {source for kind, source, _ in items.references if kind == b"thmb"}
    others |= {target for source, target in _derived(items) if source not in parts}
    auxiliary = {source for kind, source, _ in items.references if kind == b"auxl"}
    for item, kind in items.kinds.items():
        if kind == b"tmap":
            left_out["gain map"] = 1
        elif item in auxiliary:
            said = b"".join(items.properties(item, b"auxC")).lower()
            if what := next((name for sign, name in _AUXILIARY if sign in said), "auxiliary picture"):
                left_out[what] += 1
        elif kind in _IMAGES and item not in parts | others:
            left_out["further picture"] += 1
    return left_out


def _derived(items: Items) -> list[tuple[int, int]]:
    return [(source, target) for kind, source, targets in items.references if kind == b"dimg" for target in targets]


def _parts(items: Items) -> set[int]:
    """The primary picture and its parts."""
    parts, derived = {items.primary}, _derived(items)
    while more := {target for source, target in derived if source in parts} - parts:
        parts |= more
    return parts


def with_code_points(encoded: bytes, tags: ColourTags | None) -> bytes:
    """The file with the code points of ``tags``; the matrix of its luma and chroma stays the encoder's."""
    if tags is None or tags.cicp is None:
        return encoded
    result, at = bytearray(encoded), encoded.find(b"colrnclx")
    while at >= 0:
        struct.pack_into(">HH", result, at + 8, *tags.cicp[:2])
        at = encoded.find(b"colrnclx", at + 8)
    return bytes(result)
