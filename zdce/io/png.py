"""The structure of PNG files: chunks that describe colours and the picture. (PNG, third edition.)

Pillow decodes and encodes texts anew; chunks are copied byte for byte.
"""

import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from zdce.io import exif
from zdce.io.buffers import Buffer
from zdce.io.colour_tags import ColourTags

START = b"\x89PNG\r\n\x1a\n"
_SIGNATURE = 8
_HEAD = 33  # With the header's chunk.
_XMP = b"XML:com.adobe.xmp"
_RAW = b"Raw profile type "
_COMMENT = b"Comment"
_TEXT = (b"tEXt", b"zTXt", b"iTXt")

# Chunks that describe how pixels are stored, or are kept elsewhere in a picture's metadata. Resolutions without a unit are kept
# as chunks.
_COLOURS = (b"cICP", b"sRGB", b"gAMA", b"cHRM")
_OWN = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"sBIT", b"hIST", b"bKGD", b"iCCP", b"pHYs", *_COLOURS)
_ANIMATION = (b"acTL", b"fcTL", b"fdAT")
_CREDENTIALS = b"caBX"
_KEPT = (b"tIME", b"sPLT", b"mDCV", b"cLLI", b"pCAL", b"sCAL", b"oFFs", b"sTER", *_TEXT)

# Largest size of an inflated packet or block that describes a photograph.
_MOST_INFLATED = 1 << 26

Chunk = tuple[bytes, bytes]


def _chunks(data: Buffer) -> Iterator[Chunk]:
    at = _SIGNATURE
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        yield kind, b"" if kind == b"IDAT" else bytes(data[at + 8 : at + 8 + length])
        at += 12 + length


def carried(data: Buffer) -> tuple[dict[str, Any], list[str]]:
    """The metadata of a file that are kept, and a line about each that is left out."""
    described: dict[str, Any] = {}
    kept, left_out = list[Chunk](), list[str]()
    for kind, content in _chunks(data):
        if kind == b"eXIf":
            described["exif"] = exif.PREFIX + exif.block(content)
        elif kind == b"iCCP" and (profile := _inflated(content.partition(b"\0")[2][1:])):
            described["icc_profile"] = profile
        elif kind in _TEXT and _take(kind, content, described):
            pass
        elif kind in _KEPT or (kind == b"pHYs" and content[8:9] == b"\0") or (kind not in _OWN and kind[3:4].islower()):
            kept.append((kind, content))
        elif kind == _CREDENTIALS:
            left_out.append("content credentials (C2PA) left out")
        elif kind not in (*_OWN, *_ANIMATION):
            left_out.append(f"chunk {kind.decode('latin-1')} left out")
    if tags := ColourTags.of_png(dict(_colours(data))):
        described["colour_tags"] = tags
    if kept:
        described["chunks"] = tuple(kept)
    return described, left_out


def without_texts(data: bytes) -> bytes:
    """The file without its texts and profile, which ``carried`` reads; Pillow refuses pictures with long ones."""
    at, kept, start = _SIGNATURE, list[bytes](), 0
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if kind in (*_TEXT, b"iCCP"):
            kept.append(data[start:at])
            start = end
        at = end
    return b"".join([*kept, data[start:]]) if kept else data


def _colours(data: Buffer) -> Iterator[Chunk]:
    # Each chunk may occur once; of several, the first counts.
    seen = set[bytes]()
    for kind, content in _chunks(data):
        if kind in _COLOURS and kind not in seen:
            seen.add(kind)
            yield kind, content


def _take(kind: bytes, content: bytes, described: dict[str, Any]) -> bool:
    """Whether a text is an XMP packet, or EXIF or XMP as ImageMagick writes them; then it is put into ``described``."""
    keyword, _, rest = content.partition(b"\0")
    if keyword == _XMP and kind == b"iTXt":
        compressed, words = rest[:1] == b"\1", rest[2:].split(b"\0", 2)
        packet = words[2] if len(words) == 3 else b""
        described.setdefault("xmp", _inflated(packet) if compressed else packet)
        return True
    name = keyword.removeprefix(_RAW)
    if keyword.startswith(_RAW) and name in (b"exif", b"APP1", b"xmp"):
        block = _raw(_inflated(rest[1:]) if kind == b"zTXt" else rest)
        if block.startswith(exif.PREFIX) or name == b"exif":
            described.setdefault("exif", exif.PREFIX + exif.block(block))
            return bool(block)
        if name == b"xmp" and block:
            described.setdefault("xmp", block)
            return True
    return False


def _inflated(data: bytes) -> bytes:
    with suppress(zlib.error):
        return zlib.decompressobj().decompress(data, _MOST_INFLATED)
    return b""


def _raw(text: bytes) -> bytes:
    """Data in hexadecimal after a name and a length, each on a line of its own."""
    lines = text.split(b"\n", 3)
    with suppress(ValueError):
        return bytes.fromhex(lines[3].decode("ascii")) if len(lines) == 4 else b""
    return b""


def with_metadata(encoded: bytes, metadata: Mapping[str, Any]) -> bytes:
    """A file of pixels with chunks of ``metadata``."""
    parts = list[Chunk]()
    tags: ColourTags = metadata.get("colour_tags") or ColourTags()
    parts += tags.png()
    if profile := metadata.get("icc_profile", b""):
        parts.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(profile)))
    if dpi := metadata.get("dpi"):
        parts.append((b"pHYs", struct.pack(">IIB", *(round(float(side) / 0.0254) for side in dpi), 1)))
    if block := exif.block(metadata.get("exif", b"")):
        parts.append((b"eXIf", block))
    if packet := metadata.get("xmp", b""):
        parts.append((b"iTXt", _XMP + bytes(5) + packet))
    given = metadata.get("chunks", ())
    parts += given
    if not any(kind in _TEXT and content.startswith(_COMMENT + b"\0") for kind, content in given):
        parts += [_text(comment) for comment in metadata.get("comments", ())]
    return encoded[:_HEAD] + b"".join(map(_packed, parts)) + encoded[_HEAD:]


def _packed(chunk: Chunk) -> bytes:
    kind, content = chunk
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _text(comment: bytes) -> Chunk:
    """A comment of a JPEG file, of unknown encoding: UTF-8 if it is valid, else Latin-1."""
    with suppress(UnicodeDecodeError):
        if not comment.decode("utf-8").isascii():
            return b"iTXt", _COMMENT + bytes(5) + comment.replace(b"\0", b" ")
    return b"tEXt", _COMMENT + b"\0" + comment.replace(b"\0", b" ")


def keyword(chunk: Chunk) -> str:
    """The keyword of a text, or the kind of another chunk."""
    kind, content = chunk
    return (content.partition(b"\0")[0] if kind in _TEXT else kind).decode("latin-1")


class Texts(NamedTuple):
    """The texts of a PNG file: its comments, and the keywords of all others."""

    comments: tuple[bytes, ...]
    keywords: tuple[str, ...]


def texts(metadata: Mapping[str, Any]) -> Texts:
    """The texts and further chunks among a picture's ``metadata``."""
    comments, keywords = list[bytes](), list[str]()
    for chunk in metadata.get("chunks", ()):
        if chunk[0] == b"tEXt" and chunk[1].startswith(_COMMENT + b"\0"):
            comments.append(chunk[1].partition(b"\0")[2])
        else:
            keywords.append(keyword(chunk))
    return Texts(tuple(comments), tuple(dict.fromkeys(keywords)))
