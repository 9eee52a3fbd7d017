"""Removal of metadata from written files: the place, or everything but colours."""

from collections.abc import MutableMapping
from dataclasses import replace

from zdce.io import exif, png, xmp
from zdce.io.picture import Picture

# Metadata that describe pixel values, and TIFF's compression; the orientation is applied to the pixels already.
_COLOURS = frozenset({"icc_profile", "colour_tags", "compression"})

# Parts of the names of PNG texts and video tags that contain a place.
_PLACE = ("gps", "location", "xyz")

# Tags of videos that players need to choose a stream, and that MKV needs for attachments.
_NEEDED = ("language", "filename", "mimetype")


def stripped(picture: Picture, what: str | None) -> Picture:
    """``picture`` without its GPS data (``"gps"``), or without all metadata but its colours (``"all"``).

    Metadata that can't be read is left out completely, because it may contain anything.
    """
    if what is None:
        return picture
    if what == "all":
        return replace(picture, metadata={key: value for key, value in picture.metadata.items() if key in _COLOURS})
    metadata = dict(picture.metadata)
    for key, without in (("exif", _exif), ("xmp", xmp.without_place), ("extended_xmp", xmp.without_place)):
        if given := metadata.pop(key, b""):
            metadata |= {key: left} if (left := without(given)) else {}
    if chunks := metadata.pop("chunks", ()):
        metadata["chunks"] = tuple(chunk for chunk in chunks if not _is_of_a_place(png.keyword(chunk)))
    return replace(picture, metadata=metadata)


def _exif(data: bytes) -> bytes:
    block = exif.without_place(exif.block(data))
    return exif.PREFIX + block if block else b""


def _is_of_a_place(name: str) -> bool:
    return any(word in name.lower() for word in _PLACE)


def strip_tags(tags: MutableMapping[str, str], what: str | None) -> None:
    """Removes from the ``tags`` of a video file or one of its streams what ``stripped`` removes from a picture."""
    for name in list(tags):
        if (what == "gps" and _is_of_a_place(name)) or (what == "all" and name.lower() not in _NEEDED):
            del tags[name]
