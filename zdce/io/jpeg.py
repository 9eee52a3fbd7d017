"""The structure of JPEG files: segments that describe the photograph, and data that phones append. (ITU-T T.81, annex B.)

Pillow's writer keeps only some of the segments.
"""

import hashlib
import re
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from zdce.io import exif, notes, photoshop, xmp
from zdce.io.buffers import Buffer

_EXIF = exif.PREFIX
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\0"
_PROFILE = b"ICC_PROFILE\0"
_PHOTOSHOP = b"Photoshop 3.0\0"
_FURTHER_PICTURES = b"MPF\0"
_GAIN_MAPS = (b"urn:iso:std:iso:ts:21496:-1\0", b"HDR_RI")
_CREDENTIALS = b"JP"

SCAN, _END, _COMMENT, _PROGRESSIVE = 0xDA, 0xD9, 0xFE, 0xC2
_APP = range(0xE0, 0xF0)

# Most bytes of a segment beside its length.
_ROOM = 65533

# Most bytes of a part of extended XMP in one segment. (XMP part 3, section 1.1.3.1.)
_XMP_PART = 65400

# Markers except stuffed bytes and restarts. If several 0xff precede one, the last is enough: a pattern that begins with one
# byte is found ten times as fast as one that begins with a repetition.
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])")

# Segments that describe how a file was encoded, which the new file has of its own, or that hold only previews.
_OWN = (b"JFIF\0", b"JFXX\0", b"AVI1", b"Adobe", b"Ducky", b"FPXR\0", b"SCALADO\0")


class Segment(NamedTuple):
    """A marker of a file, its data, and the position from which to search for the next marker."""

    marker: int
    content: bytes
    end: int


def segments(data: Buffer, at: int = 0) -> Iterator[Segment]:
    """Segments of the JPEG stream that begins at ``at``, to its end."""
    at += 2
    while found := _MARKER.search(data, at):
        marker, start = found[1][0], found.end()
        if marker in (_END, 0xD8):
            yield Segment(marker, b"", start)
            if marker == _END:
                return
            at = start
            continue
        length = int.from_bytes(data[start : start + 2])
        at = start + max(length, 2)
        yield Segment(marker, bytes(data[start + 2 : at]) if marker in _APP or marker == _COMMENT else b"", at)


def carried(data: Buffer) -> tuple[dict[str, Any], list[str]]:
    """The metadata of a file that are kept, and a line about each that is left out."""
    found = list(segments(data))
    contents = [segment.content for segment in found if segment.marker in _APP]
    metadata = _described(found, contents)
    left_out = Counter[str]()
    for content in contents:
        if content.startswith(_GAIN_MAPS):
            left_out["gain map"] = 1
        if content.startswith(_CREDENTIALS):
            left_out["content credentials (C2PA)"] = 1
    left_out |= Counter(xmp.pointed_at(metadata.get("xmp", b"") + metadata.get("extended_xmp", b"")))
    if found and found[-1].marker == _END:
        appended = _appended(data, found[-1].end)
        if left_out["gain map"] > appended["gain map"]:  # Only the photograph describes the pictures after it.
            appended["further picture"] -= 1
        left_out |= appended
    metadata["progressive"] = any(segment.marker == _PROGRESSIVE for segment in found)
    return metadata, notes.left_out(left_out)


def _described(found: Iterable[Segment], contents: Iterable[bytes]) -> dict[str, Any]:
    main, extended = b"", dict[bytes, bytes]()
    blocks, resources, others = b"", b"", list[tuple[int, bytes]]()
    for marker, content in ((segment.marker, segment.content) for segment in found if segment.marker in _APP):
        if content.startswith(_EXIF):
            blocks += content[len(_EXIF) :]
        elif content.startswith(_XMP):
            main = main or content[len(_XMP) :]
        elif content.startswith(_EXTENDED_XMP):
            digest, part = content[len(_EXTENDED_XMP) :][:32], content[len(_EXTENDED_XMP) + 40 :]
            extended[digest] = extended.get(digest, b"") + part
        elif content.startswith(_PHOTOSHOP):
            resources += content[len(_PHOTOSHOP) :]
        elif not content.startswith((_PROFILE, _FURTHER_PICTURES, _CREDENTIALS, *_GAIN_MAPS, *_OWN)) and content:
            others.append((marker, content))
    rest = next((part for digest, part in extended.items() if digest in main), b"")
    described = {
        "exif": blocks and _EXIF + blocks,
        "xmp": main,
        "extended_xmp": rest,
        "photoshop": photoshop.without_thumbnail(resources),
        "comments": tuple(segment.content for segment in found if segment.marker == _COMMENT and segment.content),
        "segments": tuple(others),
    }
    return {key: value for key, value in described.items() if value}


def _appended(data: Buffer, end: int) -> Counter[str]:
    """Names of the data after the end of the picture."""
    left_out = Counter[str]()
    at = data.find(b"\xff\xd8\xff", end)
    while at >= 0:
        stop = next((segment.end for segment in segments(data, at) if segment.marker == _END), len(data))
        left_out[_kind(data, at, stop)] += 1
        end, at = stop, data.find(b"\xff\xd8\xff", stop)
    if data.find(b"ftyp", end) >= 0:
        left_out["motion photo's video"] = 1
    elif len(bytes(data[end : end + 64]).strip(b"\0\r\n")) > 1:
        left_out[f"{len(data) - end} bytes behind the picture's end"] = 1
    return left_out


def _kind(data: Buffer, start: int, stop: int) -> str:
    """Name of a further picture, from its own description."""
    for sign, kind in ((b"hdrgm", "gain map"), (b"hdrgainmap", "gain map"), (b"HDRGainMap", "gain map"),
                       (_GAIN_MAPS[0], "gain map"), (b"depth", "depth map"), (b"disparity", "depth map")):  # fmt: skip
        if data.find(sign, start, stop) >= 0:
            return kind
    return "further picture"


def with_metadata(encoded: bytes, metadata: Mapping[str, Any]) -> tuple[bytes, list[str]]:
    """A file of Pillow's with segments of ``metadata``, and a line about each that has no room."""
    parts, left_out = [], list[str]()
    if block := exif.block(metadata.get("exif", b"")):
        # Programs that support blocks of several segments join them; others read the first 64 KiB.
        parts += [(0xE1, _EXIF + piece) for piece in _pieces(block, _ROOM - len(_EXIF))]
    parts += _xmp_segments(metadata)
    if profile := metadata.get("icc_profile", b""):
        pieces = _pieces(profile, _ROOM - len(_PROFILE) - 2)
        if len(pieces) < 256:
            parts += [(0xE2, _PROFILE + bytes([n, len(pieces)]) + piece) for n, piece in enumerate(pieces, 1)]
        else:
            left_out.append(f"colour profile left out: {len(profile)} bytes are more than JPEG has room for")
    parts += [(0xED, _PHOTOSHOP + piece) for piece in _pieces(photoshop.resources(metadata), _ROOM - len(_PHOTOSHOP))]
    parts += metadata.get("segments", ())
    parts += [(_COMMENT, piece) for comment in metadata.get("comments", ()) for piece in _pieces(comment, _ROOM)]
    # After the segments that Pillow writes first: the start and JFIF's.
    at = 4 + int.from_bytes(encoded[4:6]) if encoded[2:4] == b"\xff\xe0" else 2
    inserted = b"".join(struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content for marker, content in parts)
    return encoded[:at] + inserted + encoded[at:], left_out


def _xmp_segments(metadata: Mapping[str, Any]) -> list[tuple[int, bytes]]:
    main, rest = metadata.get("xmp", b""), metadata.get("extended_xmp", b"")
    if len(main) > _ROOM - len(_XMP):
        main, rest = xmp.split(xmp.merged(main, rest))
    if not main:
        return []
    digest = hashlib.md5(rest, usedforsecurity=False).hexdigest().upper().encode()  # As the specification says.
    parts = [
        (0xE1, _EXTENDED_XMP + digest + struct.pack(">II", len(rest), n * _XMP_PART) + piece)
        for n, piece in enumerate(_pieces(rest, _XMP_PART))
    ]
    return [(0xE1, _XMP + xmp.with_digest(main, digest if rest else b"")), *parts]


def _pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]
