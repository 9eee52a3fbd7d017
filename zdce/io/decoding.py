"""Reading of picture files: upright, as RGB whatever their mode, with their metadata."""

import io
import re
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, JpegImagePlugin, TiffImagePlugin, UnidentifiedImageError

from zdce import errors
from zdce.errors import FileError, InputError, MissingFileError, library_call
from zdce.io import buffers, deep_heif, exif, formats, isobmff, jpeg, png, raw, sixteen_bit, tiff, untrusted, xmp
from zdce.io.buffers import Buffer
from zdce.io.colour_tags import ColourTags
from zdce.io.directories import VOLUME_DEPTH, Block
from zdce.io.picture import Picture, Stored, as_uint8

# Formats that hold several pictures, the first of which is the photograph (phones append depth maps and previews), and its
# name.
_FIRST_OF_SEVERAL = {"MPO": "JPEG", "HEIF": "HEIF"}

_DEPTH_16_MODES = frozenset({"I;16", "I;16B", "I;16L", "I;16N", "I"})

# Tags of TIFF files: whether a picture is a part of another, and how it is turned.
_SUBFILE_TAG, _ORIENTATION_TAG = 254, 274

# Keys under which Pillow keeps EXIF as it is in the file.
_EXIF_KEYS = ("exif", "Raw profile type exif")

# A panorama of a gigapixel takes 3 GB. Pillow's limit against attacks warns from 0.09 gigapixels on.
MOST_PIXELS = 1 << 30

# JPEG files have 16 bits for a resolution; TIFF files may have 0/0, or numbers too large for any other format.
_MOST_DPI = 65535

# Number of pixels that are copied at once; they fit into a second-level cache.
_BAND_PIXELS = 1 << 17

# Pillow's modes of colours that become RGB, with their names.
_OTHER_COLOURS = {"CMYK": "CMYK", "LAB": "Lab"}

_TRANSPOSED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip
_SUBSAMPLINGS = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}


class _NoLimit:
    """Pillow's own limit on pixels, which lies below what today's panoramas have, is off while anyone reads.

    It is a global variable: the first of several threads removes the limit, and the last one restores it.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._kept: int | None = None

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._kept, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                Image.MAX_IMAGE_PIXELS = self._kept


_no_limit = _NoLimit()


def read(path: Path) -> Picture:
    """Reads a picture of up to 2^30 pixels: turned upright, palettes and CMYK as RGB, 16 bits in full depth, RAW developed.

    Raises:
        OSError: the file can't be read or is broken, or it is an animation, a stack of pages, or of floating-point pixels; or
            the package for its format is not installed.
    """
    if not raw.is_raw(path):
        return decode(path, str(path))
    with _named(str(path)):
        pixels = raw.read(path, MOST_PIXELS)
        # DNG and similar formats are TIFF files; only their further pictures mean something else, so notes are dropped.
        with buffers.opened(path) as data:
            file = tiff.opened(data)
            described, _ = tiff.carried(file) if file else ({}, [])
            turn = _turn(file) if file else 1
        return _with_description(Picture(pixels), described, turn)


def decode(
    source: Path | bytes,
    name: str,
    most_pixels: int = MOST_PIXELS,
) -> Picture:
    """Reads a picture as ``read`` does, but no RAW, from a file or from the bytes of one, which may be a stranger's.

    Args:
        name: name of the picture in errors.
        most_pixels: largest number of pixels; larger pictures are not decoded.

    Raises:
        OSError: as for ``read``, or it has more than ``most_pixels``.
    """
    with _named(name), _no_limit, buffers.opened(source) as data:
        if isinstance(source, bytes):
            untrusted.check(source)
        elif reason := formats.why_missing(source):
            raise InputError(reason)
        file = tiff.opened(data)
        if file is not None and (layout := tiff.odd_layout(file)):
            return _scaled_tiff(data, file, layout, most_pixels)
        whole = png.without_texts(data) if isinstance(data, bytes) and data.startswith(png.START) else data
        opened = io.BytesIO(whole) if isinstance(whole, bytes) or isinstance(source, bytes) else source
        with _opened(opened) as image:
            return _decoded(image, source, data, most_pixels)


def _opened(source: Path | io.BytesIO) -> Image.Image:
    with library_call():
        try:
            return Image.open(source, formats=formats.allowed())
        except UnidentifiedImageError:
            raise FileError("not a picture that can be read") from None


def _decoded(image: Image.Image, source: Path | bytes, data: Buffer, most_pixels: int) -> Picture:
    _check_kind(image, most_pixels)
    holds_deep = sixteen_bit.holds(image)
    format_name = _FIRST_OF_SEVERAL.get(image.format or "", image.format or "")
    described, notes = _carried(image, format_name, data)
    stored = _stored(image, format_name, described, data)
    turn = described.pop("turn", None) or _orientation(image, format_name, described)
    with library_call():
        image.load()
    for key in _EXIF_KEYS:  # Otherwise Pillow would write it again while it turns the picture, with all broken tags.
        image.info.pop(key, None)
    # Pillow turns TIFF files upright while it loads them, and libheif its own formats.
    if format_name not in ("TIFF", "HEIF") and turn > 1:
        image = image.transpose(_TRANSPOSED[turn])
    if image.mode in _OTHER_COLOURS:
        notes.append(f"its {_OTHER_COLOURS[image.mode]} colours became RGB")
    channels: int = getattr(image, "tag_v2", {}).get(TiffImagePlugin.SAMPLESPERPIXEL, 1)
    if format_name == "TIFF" and (further := channels - len(image.getbands())) > 0:
        notes.append(f"{further} of its {channels} channels left out")
    picture = _picture(image, format_name)
    if holds_deep:
        # Only after Pillow, which finds more faults, has found none.
        pixels = sixteen_bit.read(data if isinstance(data, bytes) else source, format_name)
        picture = _deepened(picture, sixteen_bit.upright(pixels, turn))
    bits = described.pop("bits", 8)
    deep = None
    if deep_heif.can_read(bits):
        deep = sixteen_bit.upright(deep_heif.read(data, format_name, bits), turn if format_name == "AVIF" else 1)
    # A file may name a part of its pixels, which only one of the two decoders supports.
    if deep is not None and deep.shape[:2] == picture.pixels.shape[:2]:
        picture, stored = _deepened(picture, deep), replace(stored, bits=bits)
    elif bits > 8:
        notes.append(f"its {bits} bits became 8")
    return _with_description(replace(picture, format=format_name, stored=stored, notes=tuple(notes)), described, turn)


def _with_description(picture: Picture, described: dict[str, Any], turn: int) -> Picture:
    """``picture``, turned from EXIF's orientation ``turn``, with what its file says of it as far as it is still right."""
    notes, metadata = list(picture.notes), {**picture.metadata, **described}
    height, width = picture.pixels.shape[:2]
    if "exif" in metadata:
        block = exif.upright(metadata.pop("exif"), turn, (width, height))
        metadata |= {"exif": exif.PREFIX + block} if block else {}
    for key in ("xmp", "extended_xmp"):
        if packet := metadata.pop(key, b""):
            packet = packet.encode() if isinstance(packet, str) else packet
            if cleaned := xmp.cleaned(packet, turn):
                metadata[key] = cleaned
            else:
                notes.append("XMP left out: it points at what is left out, and can't be read")
    if turn >= 5 and "dpi" in metadata:
        metadata["dpi"] = metadata["dpi"][::-1]
    if "icc_profile" not in metadata and "colour_tags" not in metadata and exif.is_adobe_rgb(metadata.get("exif", b"")):
        metadata["colour_tags"] = ColourTags(adobe_rgb=True)
    if tags := metadata.get("colour_tags"):
        tags.space(has_profile="icc_profile" in metadata)  # The error names the file if it can't be enhanced.
    return replace(picture, metadata=metadata, notes=tuple(dict.fromkeys(notes)))


def _carried(image: Image.Image, format_name: str, data: Buffer) -> tuple[dict[str, Any], list[str]]:
    """The metadata of a file that are kept, and a line about each that is left out."""
    described = {key: image.info[key] for key in ("exif", "xmp") if image.info.get(key)}
    if "exif" in described:
        described["exif"] = exif.PREFIX + exif.block(described["exif"])
    notes = list[str]()
    if format_name == "JPEG":
        described, notes = jpeg.carried(data)
    elif format_name == "PNG":
        described, notes = png.carried(data)
    elif format_name == "TIFF":
        described, notes = tiff.carried(Block(data))
    elif format_name in ("AVIF", "HEIF"):
        found, notes = isobmff.carried(data)
        if image.info.get("icc_profile"):  # A profile has priority over code points, which are then the encoder's.
            found.pop("colour_tags", None)
        if format_name == "AVIF" and found.pop("turn", 1) and "exif" in described:
            # If the rotation is not in EXIF, Pillow writes EXIF again.
            found["turn"] = exif.orientation(described["exif"]) or 1
        described |= found
    elif format_name == "BMP" and (profile := _bmp_profile(data)):
        described["icc_profile"] = profile
    if packet := described.get("xmp"):
        notes += [f"{what} left out" for what in xmp.pointed_at(packet) if not any(what in note for note in notes)]
    return described, notes


def _bmp_profile(data: Buffer) -> bytes:
    """The colour profile in a BMP file whose header is of version 5."""
    if len(data) < 138 or int.from_bytes(data[14:18], "little") < 124 or data[70:74] != b"DEBM":
        return b""
    place, size = struct.unpack_from("<II", data, 126)
    return bytes(data[14 + place : 14 + place + size])


def _orientation(image: Image.Image, format_name: str, described: dict[str, Any]) -> int:
    """Orientation of the stored picture, from EXIF or else from XMP."""
    if format_name == "TIFF":
        tags: Any = getattr(image, "tag_v2", {})
        turn = tags.get(_ORIENTATION_TAG, 1)
        return turn if turn in range(1, 9) else 1
    if format_name == "HEIF":
        return 1
    return exif.orientation(described.get("exif", b"")) or xmp.orientation(described.get("xmp", b"")) or 1


def _stored(image: Image.Image, format_name: str, described: dict[str, Any], data: Buffer) -> Stored:
    progressive = described.pop("progressive", False)
    if format_name == "JPEG" and image.mode in ("L", "RGB"):
        tables: dict[int, Any] = getattr(image, "quantization", {})
        sampling = _SUBSAMPLINGS.get(JpegImagePlugin.get_sampling(image), "")
        return Stored(tuple(tuple(tables[n]) for n in sorted(tables)), sampling, progressive)
    if format_name == "WEBP":
        return Stored(lossless=bytes(data[12:16]) == b"VP8L" or (data[12:16] == b"VP8X" and data.find(b"VP8L", 20) >= 0))
    if format_name in ("AVIF", "HEIF"):
        return Stored(subsampling=described.pop("subsampling", ""))
    return Stored(bits=_grey_bits(image), palette=image.mode == "P")


def _grey_bits(image: Image.Image) -> int:
    """Bits of a channel of an opened picture that is not loaded yet, if Pillow will make 8 of fewer."""
    if image.mode == "1":
        return 1
    told = next((str(tile[3]) for tile in getattr(image, "tile", ())), "")
    return next((bits for bits in (2, 4) if re.search(rf"\bL;{bits}", told)), 8)


def _turn(file: Block) -> int:
    """Orientation of the picture of a TIFF file."""
    entry = file.find(file.first, _ORIENTATION_TAG)
    turn = file.number(entry, 1) if entry else 1
    return turn if turn in range(1, 9) else 1


def _scaled_tiff(data: Buffer, file: Block, layout: tiff.Layout, most_pixels: int) -> Picture:
    """Pixels of a TIFF file of 10, 12 or 14 bits and the like, in 16 bits."""
    if layout.width * layout.height > most_pixels:
        raise InputError(f"expected at most {most_pixels} pixels, got {layout.width} x {layout.height}")
    described, notes = tiff.carried(file)
    turn = _turn(file)
    profile = file.find(file.first, 34675)
    if profile:
        described["icc_profile"] = file.bytes(profile)
    pixels = sixteen_bit.upright(tiff.read(data, file, layout), turn)
    picture = _deepened(Picture(np.zeros((1, 1, 3), np.uint8), format="TIFF"), pixels, has_alpha=pixels.shape[2] in (2, 4))
    if layout.bits < 16:
        notes.append(f"its {layout.bits} bits became 16")
    return _with_description(replace(picture, metadata={"compression": "tiff_deflate"}, notes=tuple(notes)), described, turn)


def _check_kind(image: Image.Image, most_pixels: int) -> None:
    if image.width * image.height > most_pixels:
        raise InputError(f"expected at most {most_pixels} pixels, got {image.width} x {image.height}")
    with library_call():
        # Counting the pages of a TIFF takes quadratic time, which an attacker could exploit.
        several = getattr(image, "is_animated", False)
        tags: Any = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
        depth, part = tags.get(VOLUME_DEPTH, 1), tags.get(_SUBFILE_TAG, 0)
    if several and image.format not in _FIRST_OF_SEVERAL:
        raise InputError("expected one picture, got an animation or a stack of pages")
    if depth != 1:
        raise InputError("expected one picture, got a volume of many")
    if part == 1:
        raise InputError(f"expected a picture, got the small one inside of a RAW file ({', '.join(sorted(raw.SUFFIXES))})")


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Turns errors about a picture into FileErrors that name it; bugs pass unchanged."""
    try:
        yield
    except Exception as error:
        if errors.is_lack_of_memory(error):
            raise FileError(f"{name}: there is not enough memory for it") from error
        if errors.explanation(error) is None:
            raise
        kind = MissingFileError if isinstance(error, FileNotFoundError) else FileError
        raise kind(f"{name}: {errors.one_line(error)}") from error


def _deepened(picture: Picture, pixels: NDArray[np.uint16], *, has_alpha: bool = False) -> Picture:
    """``picture`` with the full depth of its file's ``pixels`` (H, W, 1 to 4 channels)."""
    channels = pixels.shape[2]
    grey = channels <= 2
    # A fourth channel may not be opacity; Pillow knows.
    opaque = channels in (1, 3) or (channels == 4 and picture.alpha is None and not has_alpha)
    alpha = None if opaque else pixels[..., channels - 1]
    colours = np.repeat(pixels[..., :1], 3, axis=2) if grey else np.ascontiguousarray(pixels[..., :3])
    return replace(picture, pixels=colours, grey=grey, alpha=alpha)


def from_pillow(image: Image.Image) -> Picture:
    """An image in memory as it stands, its rows not turned; modes as ``read`` takes them.

    Raises:
        ValueError: it has no pixels, or floating-point ones.
    """
    if 0 in image.size:
        raise InputError(f"image must have at least one pixel, got {image.width} x {image.height}")
    picture = _picture(image, "")
    metadata = {key: image.info[key] for key in ("exif", "xmp") if image.info.get(key)}
    if tags := ColourTags.of_pillow(image.info):
        metadata["colour_tags"] = tags
    return replace(picture, metadata={**picture.metadata, **metadata})


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """The pixels of a picture, upright, shape (H, W, 3), uint8; 16-bit ones are rounded. Errors as for ``read``."""
    return as_uint8(read(path).pixels)


def _picture(image: Image.Image, format_name: str) -> Picture:
    """The picture of an upright image."""
    metadata = {key: image.info[key] for key in ("icc_profile", "dpi", "compression") if image.info.get(key)}
    if not all(0 < float(side) <= _MOST_DPI for side in metadata.get("dpi", ())):
        del metadata["dpi"]
    if image.mode in _DEPTH_16_MODES:
        levels = np.asarray(image)
        if levels.min() < 0 or levels.max() > 65535:
            raise InputError(f"expected pixels of 8 or 16 bits, got numbers from {levels.min()} to {levels.max()}")
        if image.mode == "I" and format_name == "TIFF":  # Their white is not known.
            raise InputError("expected pixels of 8 or 16 bits, got 32 bits or numbers with a sign")
        return Picture(np.repeat(levels.astype(np.uint16)[..., None], 3, axis=2), grey=True, metadata=metadata)
    if image.mode == "F":
        raise InputError("expected pixels of 8 or 16 bits, got floating-point ones")
    if image.mode in _OTHER_COLOURS:  # Their profile describes those, not RGB.
        profile = metadata.pop("icc_profile", None)
        image = _rgb_of_cmyk(image, profile) if image.mode == "CMYK" else image
    grey = image.mode in ("1", "L", "LA", "La")
    alpha = np.asarray(_in_mode(image, "RGBA").getchannel("A")) if image.has_transparency_data else None
    rgb = _in_mode(_in_mode(image, "L" if grey else "RGBA" if alpha is not None else "RGB"), "RGB")
    return Picture(_rgb_array(rgb), grey, alpha, metadata)


def _rgb_array(image: Image.Image) -> NDArray[np.uint8]:
    """The pixels (H, W, 3) of an RGB image, some rows at a time, because Pillow makes two copies of what it passes to NumPy."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    rows = -(-_BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        pixels[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)))
    return pixels


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """``image`` itself if it has the mode, because Pillow would copy it."""
    if image.mode == mode:
        return image
    with library_call(InputError):  # There are modes that Pillow can't convert.
        return image.convert(mode)


def _rgb_of_cmyk(image: Image.Image, profile: bytes | None) -> Image.Image:
    """CMYK as sRGB, by its own profile if that is valid."""
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            return converted if converted is not None else image.convert("RGB")
        except (OSError, ImageCms.PyCMSError):  # It is not a profile, or not one of CMYK.
            pass
    return image.convert("RGB")
