"""The structure of TIFF files: depths that Pillow does not scale, and tags that describe the picture."""

import io
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zdce.errors import InputError
from zdce.io import exif, notes, photoshop, sixteen_bit
from zdce.io.buffers import Buffer
from zdce.io.directories import Block, Entry, turned

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIPS, _SAMPLES, _STRIP_LENGTHS, _MOST_VALUE, _FORMAT = 273, 277, 279, 281, 339
_TILES, _BLACK, _WHITE, _SUBFILE = 324, 50714, 50717, 254
_XMP, _IPTC, _PHOTOSHOP, _LAYERS, _BELOW = 700, 33723, 34377, 37724, 330
_GREYS_AND_RGB = (0, 1, 2)
_UNSIGNED = (1, 4)  # 4: not defined.

# Values of MaxSampleValue that give the depth: 10 to 15 bits in 16.
_DEPTH_WHITES = frozenset((1 << bits) - 1 for bits in range(9, 16))

_BYTES, _UNDEFINED = 1, 7  # types
_CLASSIC_BYTES = 1 << 32


class Layout(NamedTuple):
    """How a file stores pixels of a depth that is no whole number of bytes, or whose white is not its largest number.

    Attributes:
        bits: bits of a sample.
        black, white: numbers for black and white.
        packed: whether samples are packed bit by bit; otherwise each takes two bytes.
    """

    width: int
    height: int
    bits: int
    black: int
    white: int
    packed: bool


def opened(data: Buffer) -> Block | None:
    """The structure of a TIFF file, or None where it is something else."""
    try:
        return Block(data) if data[2:4] in (b"*\0", b"\0*", b"+\0", b"\0+") else None
    except (InputError, struct.error):
        return None


def odd_layout(file: Block) -> Layout | None:
    """The layout of a file that must be scaled by its own white; None for all others.

    Raises:
        ValueError: the meaning of its numbers is not known.
    """
    # If there are several entries of a tag, all readers use the first.
    tags = {entry.tag: entry for entry in reversed(file.entries(file.first))}

    def values(tag: int, *otherwise: int) -> tuple[int, ...]:
        return (file.numbers(tags[tag]) if tag in tags else ()) or otherwise

    width, height, bits = values(_WIDTH, 0)[0], values(_HEIGHT, 0)[0], set(values(_BITS, 1))
    if any(kind not in _UNSIGNED for kind in values(_FORMAT, 1)) and max(bits, default=1) <= 8:
        raise InputError("expected pixels of 8 or 16 unsigned bits, got signed ones")
    declared, white = values(_MOST_VALUE), values(_WHITE)
    deep = bits == {16} and (bool(white) or (set(declared) <= _DEPTH_WHITES and len(set(declared)) == 1))
    if not (deep or (len(bits) == 1 and 8 < min(bits) < 16)):
        return None
    if values(_PHOTOMETRIC, 1)[0] not in _GREYS_AND_RGB or any(kind not in _UNSIGNED for kind in values(_FORMAT, 1)):
        raise InputError(f"expected grey or RGB pixels of 8 or 16 bits, got other ones of {min(bits)} bits")
    if file.next(file.first):
        raise InputError("expected one picture, got an animation or a stack of pages")
    (depth,) = bits
    tallest = (1 << depth) - 1
    black = values(_BLACK, 0)[0]
    top = max(white or (declared if depth == 16 else ()) or (tallest,))
    if not black < top <= tallest:
        raise InputError(f"expected a white above black {black} and up to {tallest}, got {top}")
    if depth == 16 and (black, top) == (0, tallest):
        return None
    samples = values(_SAMPLES, 1)[0]
    if not 1 <= samples <= 4:
        raise InputError(f"expected at most 4 channels, got {samples}")
    unpacked = sum(values(_STRIP_LENGTHS)) == width * height * samples * 2 and values(_COMPRESSION, 1)[0] == 1
    return Layout(width, height, depth, black, top, not unpacked)


def read(data: Buffer, file: Block, layout: Layout) -> NDArray[np.uint16]:
    """The pixels, (H, W, 1 to 4 channels), with black as 0 and white as 65535."""
    sixteen_bit.check()
    source = io.BytesIO(data)
    if layout.bits < 16 and not layout.packed:  # tifffile would unpack them as packed bits.
        source = io.BytesIO(_with_bits(bytes(data), file, 16))
    pixels = sixteen_bit.read_tiff(source, white=layout.white, black=layout.black)
    if pixels.ndim != 3 or pixels.shape[:2] != (layout.height, layout.width):
        raise InputError(f"expected {layout.width} x {layout.height} pixels, got shape {pixels.shape}")
    return pixels


def _with_bits(data: bytes, file: Block, bits: int) -> bytes:
    entry = file.find(file.first, _BITS)
    assert entry is not None
    changed = bytearray(data)
    form = {3: "H", 4: "I"}[entry.kind]
    struct.pack_into(f"{file.order}{entry.length}{form}", changed, entry.value, *[bits] * entry.length)
    return bytes(changed)


def carried(file: Block) -> tuple[dict[str, Any], list[str]]:
    """The metadata of a file that are kept, and a line about each that is left out."""
    tags = {entry.tag: entry for entry in file.entries(file.first)}
    described = {name: file.bytes(tags[tag]) for name, tag in (("xmp", _XMP), ("iptc", _IPTC), ("photoshop", _PHOTOSHOP))
                 if tag in tags}  # fmt: skip
    if "iptc" in described and tags[_IPTC].kind == 4:  # Some programs write it in words of their machine's byte order.
        described["iptc"] = described["iptc"].rstrip(b"\0") if file.order == ">" else turned(described["iptc"], 4).rstrip(b"\0")
        if not described["iptc"].startswith(b"\x1c"):
            described["iptc"] = file.bytes(tags[_IPTC])
    if block := exif.of_tiff(file):
        described["exif"] = exif.PREFIX + block
    if "photoshop" in described:
        described["photoshop"] = photoshop.without_thumbnail(described["photoshop"])
    left_out = ["Photoshop's layers left out"] if _LAYERS in tags else []
    below = [place for place in file.numbers(tags[_BELOW]) if place] if _BELOW in tags else []
    further = [place for place in below if not _is_preview(file, place)]
    return described, left_out + notes.left_out({"further picture": len(further)})


def _is_preview(file: Block, directory: int) -> bool:
    entry = file.find(directory, _SUBFILE)
    return entry is not None and bool(file.number(entry, 0) & 1)


def order(metadata: Mapping[str, Any]) -> str:
    """The byte order, "<" or ">", of a new file in which the offsets of EXIF stay valid."""
    block = exif.block(metadata.get("exif", b""))
    return ">" if block.startswith(b"MM") else "<"


def with_metadata(encoded: bytes, metadata: Mapping[str, Any]) -> tuple[bytes, list[str]]:
    """A file of pixels with ``metadata``, and a line about each that has no room.

    EXIF's block is put at the beginning of the file, so that all offsets in it stay valid. Its first directory is replaced by
    one at the end of the file that also has the picture's tags.
    """
    block = exif.block(metadata.get("exif", b""))
    if block and not exif.has_maker_note(block):
        block = exif.of_tiff(Block(block)) if exif.is_block(block) else block
    further = _further(metadata)
    if not (block or further):
        return encoded, []
    if not exif.is_block(block):
        block = (b"II*\0" if encoded.startswith(b"II") else b"MM\0*") + bytes(4)
    pixels = Block(encoded)
    size = len(block) + len(encoded) + sum(len(value) for value in further.values())
    if pixels.big or size >= _CLASSIC_BYTES - (1 << 20):
        return encoded, ["EXIF, XMP and IPTC left out: a TIFF file of more than 4 GiB has no place for them"]
    return _Assembly(Block(block), pixels).data(further), []


def _further(metadata: Mapping[str, Any]) -> dict[int, bytes]:
    found = {
        _XMP: metadata.get("xmp", b""),
        _IPTC: photoshop.iptc(metadata),
        _PHOTOSHOP: metadata.get("photoshop", b""),
    }
    return {tag: value for tag, value in found.items() if value}


class _Assembly:
    """A file of a block and, behind it, the bytes of a file of pixels, all of whose places move by as much."""

    def __init__(self, block: Block, pixels: Block) -> None:
        self._order, self._pixels = block.order, pixels
        self._data = bytearray(block.data)
        self._data += bytes(-len(self._data) % 16)
        self._shift = len(self._data) - 8
        self._data += pixels.data[8:]
        self._entries = {entry.tag: bytes(block.data[entry.place : entry.place + 12]) for entry in exif.describing(block)}

    def data(self, further: Mapping[int, bytes]) -> bytes:
        for entry in self._pixels.entries(self._pixels.first):
            self._add(entry.tag, entry.kind, entry.length, self._values(entry))
        for tag, value in further.items():
            self._add(tag, _UNDEFINED if tag == _IPTC else _BYTES, len(value), value)
        self._data += bytes(len(self._data) % 2)
        struct.pack_into(self._order + "I", self._data, 4, len(self._data))
        ordered = [self._entries[tag] for tag in sorted(self._entries)]
        return bytes(self._data) + struct.pack(self._order + "H", len(ordered)) + b"".join(ordered) + bytes(4)

    def _values(self, entry: Entry) -> bytes:
        if entry.tag in (_STRIPS, _TILES):
            places = [place + self._shift for place in self._pixels.numbers(entry)]
            return struct.pack(f"{self._order}{len(places)}I", *places)
        values = self._pixels.bytes(entry)
        return values if self._order == self._pixels.order else turned(values, entry.kind)

    def _add(self, tag: int, kind: int, count: int, values: bytes) -> None:
        if tag in (_STRIPS, _TILES):
            kind = 4
        if len(values) > 4:
            self._data += bytes(len(self._data) % 2)
            field = struct.pack(self._order + "I", len(self._data))
            self._data += values
        else:
            field = values.ljust(4, b"\0")
        self._entries[tag] = struct.pack(self._order + "HHI", tag, kind, count) + field
