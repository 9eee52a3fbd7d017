"""XMP packets: kept except for what becomes wrong by enhancing.

Removed are references to pictures and videos that are left out, and previews, which would stay dark; the orientation changes.
"""

import codecs
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from xml.dom import minidom
from xml.parsers.expat import ExpatError

from zdce.errors import InputError

_GOOGLE = "http://ns.google.com/photos/1.0/"
_DYNAMIC_DEPTH = "http://ns.google.com/photos/dd/1.0/"

# Namespaces, or their beginnings, and what their properties refer to or describe.
_POINTERS = {
    "http://ns.adobe.com/hdr-gain-map/": "gain map",
    "http://ns.apple.com/HDRGainMap/": "gain map",
    "http://ns.apple.com/pixeldatainfo/": "gain map",
    _GOOGLE + "depthmap/": "depth map",
    _DYNAMIC_DEPTH: "depth map",
    _GOOGLE + "image/": "further picture",
    _GOOGLE + "audio/": "sound",
    _GOOGLE + "container/": "",
}
_CAMERA = _GOOGLE + "camera/"
_VIDEO = ("MotionPhoto", "MicroVideo")
_PREVIEWS = ("http://ns.adobe.com/xap/1.0/", "Thumbnails")
_NOTE = "http://ns.adobe.com/xmp/note/"
_TIFF, _EXIF = "http://ns.adobe.com/tiff/1.0/", "http://ns.adobe.com/exif/1.0/"

# Purposes of a container's items.
_SEMANTICS = {b"GainMap": "gain map", b"MotionPhoto": "motion photo's video", b"Depth": "depth map"}
_SEMANTIC = re.compile(rb'Semantic(?:="|>)(\w+)')

# Rectangles such as faces, as fractions of the picture's sides: centre and sides (Metadata Working Group, which also has the
# picture's size), or corner and sides (Microsoft).
_AREA, _DIMENSIONS = "http://ns.adobe.com/xmp/sType/Area#", "http://ns.adobe.com/xap/1.0/sType/Dimensions#"
_REGION = "http://ns.microsoft.com/photo/1.2/t/Region#"

_SIGNS = tuple(name.encode() for name in (*_POINTERS, _CAMERA, "Thumbnails"))
_TURNING = re.compile(rb"Orientation|PixelXDimension|ImageWidth|sType/Area#|photo/1\.2/t/Region#")

# Most elements of a packet: each takes a kilobyte of memory.
_MOST_TAGS = 100_000

# Placeholder of the digest, which only the writer of a file knows.
_ANY_DIGEST = b"0" * 32
_DIGEST = re.compile(rb"""(HasExtendedXMP(?:\s*=\s*["']|>\s*))[0-9A-Fa-f]{32}""")


def pointed_at(packet: bytes) -> dict[str, int]:
    """Names of what a packet says that its file contains beside the picture."""
    found = [what for name, what in _POINTERS.items() if what and name.encode() in packet]
    found += [_SEMANTICS[item] for item in _SEMANTIC.findall(packet) if item in _SEMANTICS]
    if any(re.search(rb":" + name.encode() + rb"""\s*(?:=\s*["']|>\s*)1""", packet) for name in _VIDEO):
        found.append("motion photo's video")
    return dict.fromkeys(found, 1)


def orientation(packet: bytes) -> int | None:
    """Orientation of the picture, 1 to 8, or None if the packet has none."""
    found = re.search(rb"""tiff:Orientation(?:\s*=\s*["']|>)\s*([1-8])""", packet)
    return int(found[1]) if found else None


def cleaned(packet: bytes, turn: int) -> bytes:
    """The packet of an enhanced picture that was turned by EXIF's orientation ``turn``; nothing where it can't be read.

    It is returned byte for byte if nothing in it is wrong.
    """
    if not any(sign in packet for sign in _SIGNS) and not (_TURNING.search(packet) and turn > 1):
        return packet

    def clean_and_turn(element: minidom.Element) -> None:
        _clean(element)
        if turn > 1:
            _turn(element, swap=turn >= 5)
            _turn_regions(element, turn)

    return _edited(packet, clean_and_turn)


def without_place(packet: bytes) -> bytes:
    """The packet without everything that has GPS in its name or prefix, of any namespace; nothing if it can't be read."""
    # In UTF-16 every second byte of these letters is 0.
    return _edited(packet, _remove_place) if b"gps" in packet.replace(b"\0", b"").lower() else packet


def _remove_place(element: minidom.Element) -> None:
    if "gps" in element.nodeName.lower() and element.parentNode is not None:
        element.parentNode.removeChild(element)
        return
    for attribute in list((element.attributes or {}).values()):
        # The declaration of a prefix contains no place, and other elements may need it.
        if "gps" in attribute.nodeName.lower() and not attribute.nodeName.startswith("xmlns"):
            element.removeAttributeNode(attribute)


def _edited(packet: bytes, edit: Callable[[minidom.Element], None]) -> bytes:
    """The packet after ``edit`` of each element; nothing where it can't be read."""
    if packet.count(b"<") > _MOST_TAGS:
        return b""
    # Zeros may pad a packet; in UTF-16 one of them belongs to the last letter.
    document = _document(packet.rstrip(b"\0") + b"\0" * packet.startswith(codecs.BOM_UTF16_LE))
    if document is None:
        return b""
    with suppress(InputError, RecursionError):  # elements may be nested too deeply
        for element in list(_elements(document)):
            edit(element)
        return _text(document)
    return b""


def _elements(node: minidom.Node) -> Iterator[minidom.Element]:
    for child in list(node.childNodes):
        if isinstance(child, minidom.Element):
            yield child
            yield from _elements(child)


def _document(packet: bytes) -> minidom.Document | None:
    """The packet's document, or None if it can't be read."""
    with suppress(ExpatError, ValueError, LookupError, RecursionError):
        return minidom.parseString(packet)
    return None


def _text(document: minidom.Document) -> bytes:
    """The document as a packet; nothing if it contains what XML has no form for."""
    with suppress(ValueError):
        return "\n".join(node.toxml() for node in document.childNodes).encode()
    return b""


def _is_stale(name: str | None, local: str | None) -> bool:
    space, local = name or "", local or ""
    return space.startswith(tuple(_POINTERS)) or (space == _CAMERA and local.startswith(_VIDEO)) or (space, local) == _PREVIEWS


def _clean(element: minidom.Element) -> None:
    if element.parentNode is not None and _is_stale(element.namespaceURI, element.localName):
        element.parentNode.removeChild(element)
        return
    for attribute in list((element.attributes or {}).values()):
        if _is_stale(attribute.namespaceURI, attribute.localName) or str(attribute.value).startswith(tuple(_POINTERS)):
            element.removeAttributeNode(attribute)


def _turn(element: minidom.Element, *, swap: bool) -> None:
    """Updates properties of the orientation and of the sides, in attributes and elements."""
    if (orientation := element.getAttributeNodeNS(_TIFF, "Orientation")) is not None:
        orientation.value = "1"
    if (element.namespaceURI, element.localName) == (_TIFF, "Orientation"):
        _set(element, "1")
    if swap:
        for space, names in ((_TIFF, ("ImageWidth", "ImageLength")), (_EXIF, ("PixelXDimension", "PixelYDimension"))):
            _exchange(element, space, names)


def _turn_regions(element: minidom.Element, turn: int) -> None:
    """Turns the rectangle that an element describes, by its attributes or child elements.

    Raises:
        InputError: its numbers can't be read.
    """
    area = [_property(element, _AREA, name) for name in "xywh"]
    if all(area[:2]):
        x, y = _numbers(",".join(_value(part) for part in area[:2]), 2)
        for part, value in zip(area, _turned(x, y, turn), strict=False):
            _give(part, f"{value:.6g}")
        if turn >= 5 and all(area[2:]):
            across, down = (_value(part) for part in area[2:])
            _give(area[2], down)
            _give(area[3], across)
    if turn >= 5:
        _exchange(element, _DIMENSIONS, ("w", "h"))
    if (corner := _property(element, _REGION, "Rectangle")) is not None:
        left, top, width, height = _numbers(_value(corner), 4)
        x, y = _turned(left + width / 2, top + height / 2, turn)
        width, height = (height, width) if turn >= 5 else (width, height)
        _give(corner, ", ".join(f"{value:.6g}" for value in (x - width / 2, y - height / 2, width, height)))


def _numbers(text: str, count: int) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        raise InputError(f"expected {count} numbers, got {text!r}")
    return numbers


def _turned(x: float, y: float, turn: int) -> tuple[float, float]:
    """Position of a point of the stored picture, in fractions of its sides, in the upright picture."""
    if turn >= 5:
        x, y, turn = y, x, turn - 4
    return 1 - x if turn in (2, 3) else x, 1 - y if turn in (3, 4) else y


_Property = minidom.Attr | minidom.Element | None


def _property(element: minidom.Element, space: str, name: str) -> _Property:
    """A property of an element: its attribute, or a child element; None if it has none."""
    attribute = element.getAttributeNodeNS(space, name)
    if attribute is not None:
        return attribute
    found = [child for child in element.getElementsByTagNameNS(space, name) if child.parentNode is element]
    return found[0] if found else None


def _value(found: _Property) -> str:
    if isinstance(found, minidom.Attr):
        return str(found.value)
    return "" if found is None else "".join(node.data for node in found.childNodes if isinstance(node, minidom.Text))


def _give(found: _Property, text: str) -> None:
    if isinstance(found, minidom.Attr):
        found.value = text
    elif found is not None:
        _set(found, text)


def _exchange(element: minidom.Element, space: str, names: tuple[str, str]) -> None:
    first, second = (element.getAttributeNodeNS(space, name) for name in names)
    if first is not None and second is not None:
        first.value, second.value = second.value, first.value
    children = [child for name in names for child in element.getElementsByTagNameNS(space, name) if child.parentNode is element]
    if len(children) == 2:
        texts = ["".join(node.toxml() for node in child.childNodes) for child in children]
        for child, text in zip(children, reversed(texts), strict=True):
            _set(child, text)


def _set(element: minidom.Element, text: str) -> None:
    for child in list(element.childNodes):
        element.removeChild(child)
    if element.ownerDocument is not None:
        element.appendChild(element.ownerDocument.createTextNode(text))


def merged(main: bytes, rest: bytes) -> bytes:
    """One packet from the two of a JPEG file with more than 64 KiB of XMP."""
    if not rest and _NOTE.encode() not in main:
        return main
    if main.count(b"<") + rest.count(b"<") > _MOST_TAGS:
        return main
    document, other = _document(main.rstrip(b"\0")), _document(rest.rstrip(b"\0")) if rest else None
    if document is None or (rest and other is None):
        return main
    with suppress(RecursionError):
        for element in list(_elements(document)):
            if element.hasAttributeNS(_NOTE, "HasExtendedXMP"):
                element.removeAttributeNS(_NOTE, "HasExtendedXMP")
            elif (element.namespaceURI, element.localName) == (_NOTE, "HasExtendedXMP") and element.parentNode is not None:
                element.parentNode.removeChild(element)
        if other is None or _add(document, other):
            return _text(document) or main
    return main


_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"


def _add(document: minidom.Document, other: minidom.Document) -> bool:
    """Adds the descriptions of ``other`` to ``document``; returns whether both have a place for them."""
    places = [each.getElementsByTagNameNS(_RDF, "RDF") for each in (document, other)]
    if not all(places):
        return False
    target, source = (found[0] for found in places)
    above = [element for element in (other.documentElement, source) if element is not None]
    spaces = [attribute for element in above for attribute in (element.attributes or {}).values()]
    for description in list(source.childNodes):
        if isinstance(description, minidom.Element):
            for attribute in spaces:
                if attribute.name.startswith("xmlns:") and not description.hasAttribute(attribute.name):
                    description.setAttribute(attribute.name, attribute.value)
            target.appendChild(document.importNode(description, True))
    return True


_POINTING = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="%b"><rdf:Description rdf:about="" xmlns:xmpNote="%b" '
    b'xmpNote:HasExtendedXMP="%b"/></rdf:RDF></x:xmpmeta>'
)


def split(packet: bytes) -> tuple[bytes, bytes]:
    """A packet that refers to another, and that other one, which contains everything."""
    start, end = packet.find(b"<x:xmpmeta"), packet.rfind(b"</x:xmpmeta>")
    rest = packet[start : end + len(b"</x:xmpmeta>")] if 0 <= start < end else packet
    return _POINTING % (_RDF.encode(), _NOTE.encode(), _ANY_DIGEST), rest


def with_digest(main: bytes, digest: bytes) -> bytes:
    """A packet that refers to the rest by its ``digest``, if it has such a reference."""
    return _DIGEST.sub(lambda found: found[1] + digest, main) if digest else merged(main, b"")
