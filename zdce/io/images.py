"""Picture files: found, read upright in RGB whatever their mode, and written with what they carried."""

import glob
import io
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError, features

from zdce import errors
from zdce.errors import FileError, InputError, MissingFileError, ZdceError, library_call
from zdce.io import raw, sixteen_bit, untrusted
from zdce.runtime import atomic, packages

Pixels = NDArray[np.uint8] | NDArray[np.uint16]

_AVIF = frozenset({".avif"}) if features.check("avif") else frozenset()
_HEIF = frozenset({".heic", ".heif"}) if packages.missing("pillow_heif", extra="formats") is None else frozenset()
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}) | _AVIF | _HEIF

# Pillow's names of what is read from whoever sends it: its other decoders are old, or call other programs.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", *(["AVIF"] if _AVIF else []), *(["HEIF"] if _HEIF else []))

# Formats that hold several pictures of which the first is the photograph (phones append depth maps and previews), and what that
# one is.
_FIRST_OF_SEVERAL = {"MPO": "JPEG", "HEIF": "HEIF"}

_DEPTH_16_MODES = frozenset({"I;16", "I;16B", "I;16L", "I;16N", "I"})

# How many planes an SGI volume in a TIFF file has.
_DEPTH_TAG = 32997

# Tags of a TIFF's own directory that describe the photograph; the others say how its pixels were stored.
_DESCRIBING_TAGS = (
    ExifTags.Base.ImageDescription, ExifTags.Base.Make, ExifTags.Base.Model, ExifTags.Base.Software,
    ExifTags.Base.DateTime, ExifTags.Base.Artist, ExifTags.Base.Copyright,
)  # fmt: skip
_DESCRIBING_DIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)

# Where Pillow keeps EXIF as it lies in a file.
_EXIF_KEYS = ("exif", "Raw profile type exif")

# A panorama of a gigapixel takes 3 GB. Pillow's limit, meant against attacks, warns from 0.09 gigapixels on.
MOST_PIXELS = 1 << 30

# JPEG files have 16 bits for it; TIFF files may have 0/0, or more than any other format takes.
_MOST_DPI = 65535

_LOSSLESS_TIFF = frozenset({"raw", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "packbits", "zstd", "lzma"})


@dataclass(frozen=True)
class Picture:
    """A photograph in memory.

    Attributes:
        pixels: upright RGB, shape (H, W, 3), uint8, or uint16 for 16-bit files.
        grey: the file has one channel; the three of ``pixels`` are the same.
        alpha: opacity, shape (H, W), uint8 or uint16, where the file has one.
        metadata: what is written back with it, by Pillow's name: ``exif``, ``icc_profile``, ``xmp``, ``dpi``, ``compression``.
        format: Pillow's name of the format that it was read from, or nothing.
    """

    pixels: Pixels
    grey: bool = False
    alpha: Pixels | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    format: str = ""

    def with_pixels(self, pixels: Pixels) -> "Picture":
        """The same picture with other ``pixels`` (H, W, 3)."""
        return replace(self, pixels=pixels)


@dataclass(frozen=True)
class Found:
    """A picture file, and the folder that was searched, or None where the file itself was named."""

    path: Path
    folder: Path | None = None

    @property
    def place(self) -> Path:
        """Its path inside the folder, or its own name."""
        return Path(self.path.name) if self.folder is None else self.path.relative_to(self.folder)


def _refuse(error: OSError) -> None:
    raise error


def find(
    paths: Iterable[str], suffixes: frozenset[str] = SUFFIXES, unreadable: Callable[[OSError], object] = _refuse
) -> list[Found]:
    """Every picture that files, folders (searched through, hidden files left out) and patterns name, in order, each once.

    Args:
        suffixes: of what counts as one in folders and patterns; a file that is named is taken as it is.
        unreadable: is told of each folder that can't be read, by an error that names it.

    Raises:
        FileNotFoundError: a path or pattern names nothing.
        OSError: a folder can't be read, where ``unreadable`` is left out.
    """
    found: dict[Path, Found] = {}
    for text in paths:
        path = Path(text)
        # A file whose own name looks like a pattern, "IMG[1].jpg" say, is that file.
        matches = [path] if path.exists() else [Path(match) for match in sorted(glob.glob(text, recursive=True))]
        if not matches:
            raise MissingFileError(f"no such file or folder: {text}")
        for match in matches:
            if match.is_dir():
                found.update((inside, Found(inside, match)) for inside in in_folder(match, suffixes, unreadable))
            elif match == path or match.suffix.lower() in suffixes:
                found[match] = Found(match)
    return list(found.values())


def in_folder(
    folder: Path, suffixes: frozenset[str] = SUFFIXES, unreadable: Callable[[OSError], object] = _refuse
) -> list[Path]:
    """The files below ``folder`` with one of ``suffixes``, in the string order of their paths; hidden ones are left out.

    ``unreadable`` is told of each folder that can't be read; where it is left out that is an OSError.
    """

    def told(error: OSError) -> None:
        unreadable(OSError(f"{error.filename}: {error.strerror}"))

    pictures = []
    for place, folders, names in os.walk(folder, onerror=told):
        folders[:] = (name for name in folders if not name.startswith("."))
        for path in (Path(place, name) for name in names if not name.startswith(".")):
            # A link to what is not there is a picture that can't be read; pipes and devices are none.
            if path.suffix.lower() in suffixes and (path.is_file() or not path.exists()):
                pictures.append(path)
    return sorted(pictures, key=lambda path: path.relative_to(folder).as_posix())


class _NoLimit:
    """Pillow's own limit on pixels, which lies below what today's panoramas have, is off while anyone reads.

    It is one number for all threads: the first to come takes it away and the last to go puts it back.
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


@cache
def _plug_ins() -> None:
    """Makes Pillow know every format that it can read here."""
    Image.init()
    if _HEIF:
        import pillow_heif

        pillow_heif.register_heif_opener()


def is_not_written(suffix: str) -> bool:
    """Whether it is that of pictures in a format that Pillow knows and ``write`` does not write."""
    _plug_ins()
    return suffix in Image.registered_extensions() and suffix not in SUFFIXES


def read(path: Path) -> Picture:
    """Reads a picture of up to 2^30 pixels: turned upright, palettes and CMYK as RGB, 16 bits in full depth, RAW developed.

    Raises:
        OSError: the file can't be read or is broken, or it is an animation, a stack of pages, or of floating-point pixels; or
            what reads its kind is not installed.
    """
    if not raw.is_raw(path):
        return decode(path, str(path))
    with _named(str(path)):
        pixels = raw.read(path, MOST_PIXELS)
        return Picture(pixels, metadata=_with_exif({}, _describing_exif(raw.exif(path))))


def decode(
    source: Path | bytes,
    name: str,
    most_pixels: int = MOST_PIXELS,
    formats: tuple[str, ...] | None = None,
    *,
    deep_colour: bool = True,
) -> Picture:
    """Reads a picture as ``read`` does, but no RAW, from a file or from the bytes of one, which may be a stranger's.

    Args:
        name: what errors call it.
        most_pixels: no picture with more is decoded.
        formats: Pillow's names of those that are tried; None is all of them.
        deep_colour: whether 16-bit colour stays so, or becomes 8 bits.

    Raises:
        OSError: as ``read`` says, or it has more than ``most_pixels``.
    """
    _plug_ins()
    with _named(name), _no_limit, _opened(source, formats) as image:
        _check_kind(image, most_pixels)
        holds_deep = deep_colour and sixteen_bit.holds(image)
        with library_call():
            # Pillow turns TIFF files upright while it loads them.
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
            image.load()
        exif = _describing_exif(image.getexif(), image.format == "TIFF")
        for key in _EXIF_KEYS:  # else it is written anew while the picture is turned, broken tags and all
            image.info.pop(key, None)
        with library_call():
            ImageOps.exif_transpose(image, in_place=True)
        exif.pop(ExifTags.Base.Orientation, None)
        format_name = image.format or ""
        picture = _picture(image, exif)
        if holds_deep:
            # Only after Pillow has found nothing broken, which it is better at.
            picture = _deepened(picture, sixteen_bit.upright(sixteen_bit.read(source, format_name), orientation))
        return replace(picture, format=_FIRST_OF_SEVERAL.get(format_name, format_name))


def _opened(source: Path | bytes, formats: tuple[str, ...] | None) -> Image.Image:
    if isinstance(source, bytes):
        untrusted.check(source)
    with library_call():
        try:
            return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=formats)
        except UnidentifiedImageError:
            raise FileError("not a picture that can be read") from None


def _check_kind(image: Image.Image, most_pixels: int) -> None:
    if image.width * image.height > most_pixels:
        raise InputError(f"expected at most {most_pixels} pixels, got {image.width} x {image.height}")
    with library_call():
        # To count the pages of a TIFF takes time by their square, which whoever sends it would choose.
        several = getattr(image, "is_animated", False)
        depth = getattr(image, "tag_v2", {}).get(_DEPTH_TAG, 1)
        kind = image.getexif().get(ExifTags.Base.NewSubfileType, 0) if image.format == "TIFF" else 0
    if several and image.format not in _FIRST_OF_SEVERAL:
        raise InputError("expected one picture, got an animation or a stack of pages")
    if image.format == "TIFF" and depth != 1:
        raise InputError("expected one picture, got a volume of many")
    if kind == 1:
        raise InputError(f"expected a picture, got the small one inside of a RAW file ({', '.join(sorted(raw.SUFFIXES))})")


@contextmanager
def _named(name: str) -> Iterator[None]:
    """What is wrong with a picture becomes a FileError with its name; a bug passes as it is."""
    try:
        yield
    except Exception as error:
        if errors.is_lack_of_memory(error):
            raise FileError(f"{name}: there is not enough memory for it") from error
        if errors.explanation(error) is None:
            raise
        kind = MissingFileError if isinstance(error, FileNotFoundError) else FileError
        raise kind(f"{name}: {errors.one_line(error)}") from error


def _deepened(picture: Picture, pixels: NDArray[np.uint16]) -> Picture:
    """``picture`` with the full depth of its file's ``pixels`` (H, W, 1 to 4 channels)."""
    channels = pixels.shape[2]
    grey = channels <= 2
    # A fourth channel may be none of opacity, which Pillow knows.
    opaque = channels in (1, 3) or (channels == 4 and picture.alpha is None)
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
    picture = _picture(image, Image.Exif())
    exif = {"exif": image.info["exif"]} if "exif" in image.info else {}
    return replace(picture, metadata={**picture.metadata, **exif})


def to_pillow(picture: Picture) -> Image.Image:
    """RGB, RGBA, L, LA or, of 16 bits, I;16; what is written with the picture stands in ``info``."""
    image = _image(picture, deep=True)
    image.info.update(picture.metadata)
    return image


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """The pixels of a picture, upright, shape (H, W, 3), 16-bit ones as 8, off by less than a level; errors as ``read``."""
    picture = read(path) if raw.is_raw(path) else decode(path, str(path), deep_colour=False)
    return as_uint8(picture.pixels)


def as_uint8(pixels: Pixels) -> NDArray[np.uint8]:
    """8-bit pixels; 16-bit ones are divided by 257, which takes 65535 to 255, and rounded."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8, copy=False)
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _picture(image: Image.Image, exif: Image.Exif) -> Picture:
    """From an upright image and its EXIF."""
    metadata = {key: image.info[key] for key in ("icc_profile", "xmp", "dpi", "compression") if image.info.get(key)}
    if not all(0 < float(side) <= _MOST_DPI for side in metadata.get("dpi", ())):
        del metadata["dpi"]
    metadata = _with_exif(metadata, exif)
    if image.mode in _DEPTH_16_MODES:
        levels = np.asarray(image)
        if levels.min() < 0 or levels.max() > 65535:
            raise InputError(f"expected pixels of 8 or 16 bits, got numbers from {levels.min()} to {levels.max()}")
        return Picture(np.repeat(levels.astype(np.uint16)[..., None], 3, axis=2), grey=True, metadata=metadata)
    if image.mode == "F":
        raise InputError("expected pixels of 8 or 16 bits, got floating-point ones")
    if image.mode == "CMYK":
        image = _rgb_of_cmyk(image, metadata.pop("icc_profile", None))
    grey = image.mode in ("1", "L", "LA", "La")
    with library_call(InputError):  # of modes that Pillow can't convert
        alpha = np.asarray(image.convert("RGBA").getchannel("A")) if image.has_transparency_data else None
        rgb = image.convert("L" if grey else "RGBA" if alpha is not None else "RGB").convert("RGB")
    return Picture(np.asarray(rgb), grey, alpha, metadata)


def _with_exif(metadata: dict[str, Any], exif: Image.Exif) -> dict[str, Any]:
    return {**metadata, "exif": exif.tobytes()} if len(exif) else metadata


def _describing_exif(exif: Image.Exif, of_tiff: bool = True) -> Image.Exif:
    """EXIF without tags whose values are not of their type, and where it is a TIFF's without what says how its pixels lie."""
    if not of_tiff and _can_be_written(exif):
        return exif
    kept = Image.Exif()
    _take(kept, exif, _DESCRIBING_TAGS if of_tiff else [tag for tag in exif if tag not in _DESCRIBING_DIRECTORIES], kept)
    for directory in _DESCRIBING_DIRECTORIES:
        if values := exif.get_ifd(directory):
            _take(kept.get_ifd(directory), values, values, kept)
    return kept


def _take(target: MutableMapping[int, Any], source: Mapping[int, Any], tags: Iterable[int], whole: Image.Exif) -> None:
    """Those of ``tags`` that ``source`` has, into ``target``, a part of ``whole``, which can be written with each of them."""
    for tag in tags:
        if tag in source:
            target[tag] = source[tag]
            if not _can_be_written(whole):
                del target[tag]


def _can_be_written(exif: Image.Exif) -> bool:
    try:
        exif.tobytes()
    except Exception:  # whatever a value of a wrong type leads to
        return False
    return True


def _rgb_of_cmyk(image: Image.Image, profile: bytes | None) -> Image.Image:
    """CMYK as sRGB, by its own profile where it has a valid one."""
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            return converted if converted is not None else image.convert("RGB")
        except (OSError, ImageCms.PyCMSError):  # it is no profile, or none of CMYK
            pass
    return image.convert("RGB")


def write(picture: Picture, path: Path, quality: int = 95) -> None:
    """Writes a picture in the format of ``path``'s suffix, whole or not at all.

    Args:
        quality: of JPEG, WebP, AVIF and HEIC, 1 to 100.

    Raises:
        OSError: the disk takes no more.
        ValueError: the format can't be written, or can't hold the picture's transparency or size.
    """
    # By way of memory: when a disk fills up in the middle of a write, Pillow takes the part for the whole.
    atomic.write_bytes(path, encode(picture, path, quality))


def encode(picture: Picture, path: Path, quality: int = 95) -> bytes:
    """The bytes of the file that ``write`` writes; errors as there."""
    _plug_ins()
    format_name = Image.registered_extensions().get(path.suffix.lower())
    if path.suffix.lower() not in SUFFIXES or format_name is None:
        raise InputError(f"{path}: expected one of the formats {', '.join(sorted(SUFFIXES))}")
    if picture.alpha is not None and format_name in ("JPEG", "BMP"):  # others read Pillow's BMP files as opaque
        raise InputError(f"{path}: {format_name} can't hold transparency; choose .png, .webp or .tiff")
    try:
        return _encoded(picture, format_name, _save_options(picture.metadata, format_name, quality))
    except ZdceError as error:
        height, width = picture.pixels.shape[:2]
        raise InputError(f"{path}: {width} x {height} pixels can't be written as {format_name}: {error}") from error


def _encoded(picture: Picture, format_name: str, options: dict[str, Any]) -> bytes:
    # Pillow has grey of 16 bits, but neither colour nor transparency.
    if format_name in _DEEP and picture.pixels.dtype == np.uint16 and not (picture.grey and picture.alpha is None):
        return _DEEP[format_name](_channels(picture), options)
    image = _image(picture, deep=format_name in _DEEP)
    encoded = io.BytesIO()
    with library_call(InputError):  # encoders refuse each in its own way what their format has no room for
        image.save(encoded, format_name, **options)
    return encoded.getvalue()


_DEEP = {"PNG": sixteen_bit.png, "TIFF": sixteen_bit.tiff}


def _channels(picture: Picture) -> NDArray[np.uint16]:
    """16 bits of grey or colour, and of opacity where there is one, (H, W, 2 to 4)."""
    pixels = _grey(picture.pixels)[..., None] if picture.grey else picture.pixels
    if picture.alpha is None:
        return np.ascontiguousarray(pixels)
    alpha = picture.alpha if picture.alpha.dtype == np.uint16 else picture.alpha.astype(np.uint16) * 257
    return np.dstack([pixels, alpha])


def _grey(pixels: Pixels) -> Pixels:
    # The network colours each channel alone; a grey picture stays grey.
    return np.rint(pixels.mean(axis=2, dtype=np.float32)).astype(pixels.dtype)


def _image(picture: Picture, deep: bool) -> Image.Image:
    """As Pillow can hold it; ``deep`` grey without transparency keeps 16 bits."""
    pixels = picture.pixels if deep and picture.grey and picture.alpha is None else as_uint8(picture.pixels)
    image = Image.fromarray(_grey(pixels) if picture.grey else pixels)
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(as_uint8(picture.alpha)))
    return image


def _save_options(metadata: dict[str, Any], format_name: str, quality: int) -> dict[str, Any]:
    keys = {
        "JPEG": ("exif", "icc_profile", "xmp", "dpi"),
        "PNG": ("exif", "icc_profile", "dpi"),
        "WEBP": ("exif", "icc_profile", "xmp"),
        "AVIF": ("exif", "icc_profile", "xmp"),
        "HEIF": ("exif", "icc_profile", "xmp"),
        "TIFF": ("exif", "icc_profile", "dpi"),
        "BMP": ("dpi",),
    }[format_name]
    options = {key: metadata[key] for key in keys if key in metadata}
    if format_name == "JPEG":
        # Colour at full resolution: what was dark has its colour noise in single pixels, and halving it smears.
        options.update(quality=quality, subsampling="4:4:4")
    elif format_name == "WEBP":
        options.update(quality=quality)
    elif format_name == "AVIF":
        options.update(quality=quality, subsampling="4:4:4")
    elif format_name == "HEIF":
        options.update(quality=quality, chroma=444)
    elif format_name == "TIFF":
        stored = metadata.get("compression", "raw")
        options.update(compression=stored if stored in _LOSSLESS_TIFF else "tiff_deflate")
    return options
