"""Photoshop's image resources, in which JPEG and TIFF files keep IPTC keywords and captions."""

import struct
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

_IPTC = 1028
_THUMBNAILS = (1033, 1036)


class _Resource(NamedTuple):
    identity: int
    whole: bytes
    content: bytes


def _parts(data: bytes) -> Iterator[_Resource]:
    at = 0
    while data[at : at + 4] == b"8BIM" and at + 12 <= len(data):
        (identity,) = struct.unpack_from(">H", data, at + 4)
        name = 1 + data[at + 6]
        start = at + 6 + name + name % 2
        if start + 4 > len(data):
            return
        (size,) = struct.unpack_from(">I", data, start)
        end = start + 4 + size + size % 2
        yield _Resource(identity, data[at:end], data[start + 4 : start + 4 + size])
        at = end


def without_thumbnail(data: bytes) -> bytes:
    """Resources without the thumbnail, which would stay dark; unchanged if they have none."""
    parts = list(_parts(data))
    if not any(part.identity in _THUMBNAILS for part in parts):
        return data
    return b"".join(part.whole for part in parts if part.identity not in _THUMBNAILS)


def iptc(metadata: Mapping[str, Any]) -> bytes:
    """IPTC's records, from resources or from a TIFF file's own tag."""
    found = (part.content for part in _parts(metadata.get("photoshop", b"")) if part.identity == _IPTC)
    return next(found, metadata.get("iptc", b""))


def resources(metadata: Mapping[str, Any]) -> bytes:
    """Resources with IPTC's records in them."""
    given, records = metadata.get("photoshop", b""), metadata.get("iptc", b"")
    if not records or any(part.identity == _IPTC for part in _parts(given)):
        return given
    return given + struct.pack(">4sHHI", b"8BIM", _IPTC, 0, len(records)) + records + bytes(len(records) % 2)
