"""Writing of picture files, in their source's own kind and with its metadata."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zdce.errors import InputError, ZdceError, library_call
from zdce.io import deep_heif, exif, formats, icc, isobmff, jpeg, png, sixteen_bit, stripping, tiff, xmp
from zdce.io.colour_spaces import D50, adapted, transfer
from zdce.io.colour_tags import ColourTags, Space
from zdce.io.formats import Format
from zdce.io.picture import Picture, Pixels, as_uint8
from zdce.runtime import atomic
from zdce.settings import QUALITY, EnhanceSettings

_LOSSLESS_TIFF = frozenset({"raw", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "packbits", "zstd", "lzma"})
_FAX = frozenset({"group3", "group4", "tiff_ccitt", "packbits"})

_NAMES = {
    "exif": "EXIF", "icc_profile": "the colour profile", "xmp": "XMP", "dpi": "the resolution",
    "photoshop": "IPTC and Photoshop's data", "iptc": "IPTC", "comments": "the comment",
    "segments": "makers' further segments", "colour_tags": "the colour tags",
}  # fmt: skip

# Most colours of a palette.
_PALETTE = 256


class Encoded(NamedTuple):
    """Bytes of a file, and a line about each thing of the picture that it does not hold."""

    data: bytes
    notes: list[str]


def write(picture: Picture, path: Path, settings: EnhanceSettings | None = None) -> list[str]:
    """Writes a picture in the format of ``path``'s suffix, completely or not at all.

    Args:
        settings: the settings, of which ``quality``, ``subsampling`` and ``strip`` are used; None stands for the defaults.

    Returns:
        A line about each thing of the picture that the file does not hold.

    Raises:
        OSError: the disk is full.
        ValueError: the format can't be written, or can't hold the picture's transparency or size.
    """
    # Encoded in memory first: when a disk fills up during a write, Pillow reports success.
    encoded = encode(picture, path, settings)
    atomic.write_bytes(path, encoded.data)
    return encoded.notes


def check(picture: Picture, path: Path) -> Format:
    """The format of ``path``'s suffix, which can hold ``picture``: to be asked before it is enhanced.

    Raises:
        ValueError: there is no such format, or it has no room for the picture's transparency, size or colours.
    """
    form = formats.of_suffix(path)
    if form is None:
        raise InputError(f"{path}: expected one of the formats {', '.join(sorted(formats.SUFFIXES))}")
    if missing := formats.why_missing(path):
        raise InputError(f"{path}: {missing}")
    if picture.alpha is not None and not form.alpha:  # Other programs ignore the opacity of Pillow's BMP files.
        raise InputError(f"{path}: {form.name} can't hold transparency; choose .png, .webp or .tiff")
    height, width = picture.pixels.shape[:2]
    if max(height, width) > form.side or 0 < form.pixels < height * width:
        most = f"{form.side} a side" + (f" and {form.pixels} in all" if form.pixels else "")
        raise InputError(f"{path}: {width} x {height} pixels can't be written as {form.name}: it holds {most}")
    space = _space(picture)
    if space and (space.is_hdr or space.narrow) and "colour_tags" not in form.holds:
        raise InputError(f"{path}: {form.name} can't hold {_encoding_name(space)}; choose .png" + (" or .avif" * space.is_hdr))
    return form


def _space(picture: Picture) -> Space | None:
    """The colour space in a file's tags, if it is neither sRGB nor given by a profile."""
    tags: ColourTags | None = picture.metadata.get("colour_tags")
    return tags.space(has_profile="icc_profile" in picture.metadata) if tags else None


def _encoding_name(space: Space) -> str:
    return str(space.transfer).upper() if space.is_hdr else "colours of a narrow range"


def encode(picture: Picture, path: Path, settings: EnhanceSettings | None = None) -> Encoded:
    """The bytes of the file that ``write`` writes; errors as for ``write``."""
    form, settings = check(picture, path), settings or EnhanceSettings()
    picture = stripping.stripped(picture, settings.strip)
    formats.plug_ins()
    try:
        return _ENCODERS[form.name](_fitted(picture, form), picture, settings)
    except ZdceError as error:
        height, width = picture.pixels.shape[:2]
        raise InputError(f"{path}: {width} x {height} pixels can't be written as {form.name}: {error}") from error


class _Fitted(NamedTuple):
    """The metadata of a picture that a format can hold, and a line about each that it can't."""

    metadata: dict[str, Any]
    notes: list[str]


def _fitted(picture: Picture, form: Format) -> _Fitted:
    given = dict(picture.metadata)
    texts = png.texts(given)
    left_out = [_NAMES[key] for key in _NAMES if given.get(key) and key not in form.holds and key != "colour_tags"]
    if "chunks" not in form.holds:
        left_out += [f"the text {keyword!r}" for keyword in texts.keywords]
        if texts.comments and "comments" in form.holds:
            given["comments"] = (*given.get("comments", ()), *texts.comments)
        elif texts.comments:
            left_out.append("the comment")
    if form.name != "JPEG" and given.get("xmp"):
        given["xmp"] = xmp.merged(given["xmp"], given.pop("extended_xmp", b""))
    _add_profile(picture, form, given, left_out)
    kept = {key: value for key, value in given.items() if key in form.holds}
    notes = [f"{what} left out: {form.name} has no place for it" for what in dict.fromkeys(left_out)]
    bits = _bits(picture)
    held = {"PNG": 16, "TIFF": 16, "HEIF": _heif_bits(picture)}.get(form.name, 8)
    if bits > held:
        notes.append(f"its {bits} bits became {held}")
    return _Fitted(kept, notes)


def _bits(picture: Picture) -> int:
    """Bits of a channel; AVIF and HEIC files have fewer than the uint16 that holds them."""
    if picture.pixels.dtype == np.uint8:
        return 8
    return picture.stored.bits if picture.stored.bits in deep_heif.DEPTHS else 16


def _heif_bits(picture: Picture) -> int:
    bits = _bits(picture)
    return bits if bits in (8, *deep_heif.DEPTHS) else deep_heif.USUAL_BITS


def _add_profile(picture: Picture, form: Format, given: dict[str, Any], left_out: list[str]) -> None:
    """Adds to ``given`` the colour profile that describes, in this format, the same as the source's tags."""
    space, tags = _space(picture), given.get("colour_tags") or ColourTags()
    if form.name == "PNG" and not tags.adobe_rgb:
        return
    if tags.cicp and given.pop("icc_profile", None):
        left_out.append("the colour profile, which cICP overrules")
    if space is None or (tags.cicp and "colour_tags" in form.holds):
        return
    if "icc_profile" in form.holds:
        given["icc_profile"] = icc.profile(adapted(space.primaries, D50), transfer(space).decode)
    else:
        left_out.append("the colour tags")


def _subsampling(picture: Picture, settings: EnhanceSettings, form: str) -> str:
    """The file's own if its format stays the same, else colour at full resolution, because noise differs by pixel."""
    own = picture.stored.subsampling if picture.format == form else ""
    return settings.subsampling or own or "4:4:4"


def _jpeg(fitted: _Fitted, picture: Picture, settings: EnhanceSettings) -> Encoded:
    stored, image, quality = picture.stored, _image(picture), settings.quality
    options: dict[str, Any] = {"progressive": stored.progressive} | _kept(fitted.metadata, "dpi")
    options["subsampling"] = _subsampling(picture, settings, "JPEG")
    tables = stored.quantization[: 1 if picture.grey else 2]
    if quality is None and tables and max(map(max, tables)) < 256:
        options["qtables"] = [list(table) for table in tables]
    else:
        options["quality"] = quality or QUALITY
    data, notes = jpeg.with_metadata(_saved(image, "JPEG", options), fitted.metadata)
    return Encoded(data, fitted.notes + notes)


def _png(fitted: _Fitted, picture: Picture, _settings: EnhanceSettings) -> Encoded:
    notes = list(fitted.notes)
    if picture.pixels.dtype == np.uint16 and not (picture.grey and picture.alpha is None):
        data = sixteen_bit.png(_channels(picture))
    else:
        data = _saved(_in_its_kind(picture, notes), "PNG", {})
    return Encoded(png.with_metadata(data, fitted.metadata), notes)


def _tiff(fitted: _Fitted, picture: Picture, _settings: EnhanceSettings) -> Encoded:
    notes, stored = list(fitted.notes), picture.metadata.get("compression", "raw")
    compression = stored if stored in _LOSSLESS_TIFF else "tiff_deflate"
    order = tiff.order(fitted.metadata)
    if picture.pixels.dtype == np.uint16 and not (picture.grey and picture.alpha is None):
        data = sixteen_bit.tiff(
            _channels(picture), order, compression, fitted.metadata.get("icc_profile"), fitted.metadata.get("dpi")
        )
    else:
        image = _in_its_kind(picture, notes)
        if image.mode.startswith("I;16") and order == ">":
            image = Image.frombytes("I;16B", image.size, _grey(picture.pixels).astype(">u2").tobytes())
        if image.mode == "1" and stored in _FAX:
            compression = stored
        data = _saved(image, "TIFF", {"compression": compression, **_kept(fitted.metadata, "icc_profile", "dpi")})
    whole, further = tiff.with_metadata(data, fitted.metadata)
    return Encoded(whole, notes + further)


def _webp(fitted: _Fitted, picture: Picture, settings: EnhanceSettings) -> Encoded:
    quality = settings.quality
    options = _kept(fitted.metadata, "exif", "icc_profile", "xmp")
    if picture.stored.lossless and quality is None:
        options |= {"lossless": True, "exact": True}
    else:
        options["quality"] = quality or QUALITY
    return Encoded(_saved(_image(picture), "WEBP", options), fitted.notes)


def _avif(fitted: _Fitted, picture: Picture, settings: EnhanceSettings) -> Encoded:
    options = _kept(fitted.metadata, "icc_profile", "xmp") | {
        "subsampling": _subsampling(picture, settings, "AVIF"),
        "quality": settings.quality or QUALITY,
    }
    notes, block = list(fitted.notes), exif.block(fitted.metadata.get("exif", b""))
    if block and exif.is_block(block):
        # Pillow would write a block with an orientation again.
        options["exif"] = exif.without_orientation(block)
    elif block:
        notes.append("EXIF left out: AVIF takes no broken one")
    data = _saved(_image(picture), "AVIF", options)
    return Encoded(isobmff.with_code_points(data, fitted.metadata.get("colour_tags")), notes)


def _heif(fitted: _Fitted, picture: Picture, settings: EnhanceSettings) -> Encoded:
    options = _kept(fitted.metadata, "exif", "icc_profile", "xmp") | {
        "chroma": int(_subsampling(picture, settings, "HEIF").replace(":", "")),
        "quality": settings.quality or QUALITY,
    }
    if picture.pixels.dtype == np.uint16:
        profile = options.pop("icc_profile", None)
        info = {"icc_profile": profile, "icc_profile_type": "prof"} if profile else {}
        channels = _channels(picture)
        channels = channels[..., [0, 0, 0, 1]] if channels.shape[2] == 2 else channels
        data = deep_heif.heif(channels, _heif_bits(picture), info, options)
    else:
        data = _saved(_image(picture), "HEIF", options)
    return Encoded(isobmff.with_code_points(data, fitted.metadata.get("colour_tags")), fitted.notes)


def _bmp(fitted: _Fitted, picture: Picture, _settings: EnhanceSettings) -> Encoded:
    notes = list(fitted.notes)
    return Encoded(_saved(_in_its_kind(picture, notes, deep=False), "BMP", _kept(fitted.metadata, "dpi")), notes)


_ENCODERS: dict[str, Callable[[_Fitted, Picture, EnhanceSettings], Encoded]] = {
    "JPEG": _jpeg, "PNG": _png, "TIFF": _tiff, "WEBP": _webp, "AVIF": _avif, "HEIF": _heif, "BMP": _bmp,
}  # fmt: skip


def _kept(metadata: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: metadata[key] for key in keys if key in metadata}


def _saved(image: Image.Image, format_name: str, options: Mapping[str, Any]) -> bytes:
    encoded = io.BytesIO()
    with library_call(InputError):  # Encoders report what their format can't hold each in their own way.
        image.save(encoded, format_name, **options)
    return encoded.getvalue()


def _channels(picture: Picture) -> NDArray[np.uint16]:
    """Channels of 16 bits: grey or colour, and opacity if there is one, (H, W, 2 to 4)."""
    pixels = _grey(picture.pixels)[..., None] if picture.grey else picture.pixels
    if picture.alpha is None:
        return np.ascontiguousarray(pixels)
    alpha = picture.alpha if picture.alpha.dtype == np.uint16 else picture.alpha.astype(np.uint16) * 257
    return np.dstack([pixels, alpha])


def _grey(pixels: Pixels) -> Pixels:
    # The network changes channels differently; a grey picture must stay grey.
    return np.rint(pixels.mean(axis=2, dtype=np.float32)).astype(pixels.dtype)


def _image(picture: Picture, *, deep: bool = False) -> Image.Image:
    """The picture as an image of Pillow; ``deep`` grey without opacity keeps 16 bits."""
    pixels = picture.pixels if deep and picture.grey and picture.alpha is None else as_uint8(picture.pixels)
    image = Image.fromarray(_grey(pixels) if picture.grey else pixels)
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(as_uint8(picture.alpha)))
    return image


def _in_its_kind(picture: Picture, notes: list[str], *, deep: bool = True) -> Image.Image:
    """With 1 bit or a palette like its file, if that can hold every pixel; else with 8 bits, and a line in ``notes``."""
    image = _image(picture, deep=deep)
    if picture.stored.bits == 1 and picture.alpha is None:
        if set(np.unique(picture.pixels)) <= {0, 255}:
            return image.convert("1", dither=Image.Dither.NONE)
        notes.append("its 1 bit became 8")
    if picture.stored.bits in (2, 4):
        notes.append(f"its {picture.stored.bits} bits became 8")
    if picture.stored.palette and image.mode in ("RGB", "RGBA"):
        paletted = _with_palette(np.asarray(image))
        if paletted is not None:
            return paletted
        notes.append(f"its palette became full colour: there are more than {_PALETTE} now")
    return image


def _with_palette(pixels: NDArray[np.uint8]) -> Image.Image | None:
    """The image of ``pixels`` (H, W, 3 or 4) with a palette, if its colours fit into one; else None."""
    channels = pixels.shape[2]
    codes = np.zeros(pixels.shape[:2], np.uint32)
    for channel in range(channels):
        codes <<= 8
        codes |= pixels[..., channel]
    colours, places = np.unique(codes, return_inverse=True)
    if len(colours) > _PALETTE:
        return None
    table = np.stack([colours >> shift & 255 for shift in range(8 * (channels - 1), -1, -8)], -1).astype(np.uint8)
    image = Image.fromarray(places.reshape(codes.shape).astype(np.uint8), "P")
    image.putpalette(table[:, :3].tobytes(), "RGB")
    if channels == 4:
        image.info["transparency"] = table[:, 3].tobytes()
    return image


_KNOWN_TO_PILLOW = ("exif", "icc_profile", "xmp", "dpi", "compression")


def to_pillow(picture: Picture) -> Image.Image:
    """An image of mode RGB, RGBA, L, LA or (16 bits) I;16; its ``info`` has the metadata that Pillow can write."""
    image, space, metadata = _image(picture, deep=True), _space(picture), dict(picture.metadata)
    if space and (space.is_hdr or space.narrow):
        raise InputError(f"a Pillow image can't hold {_encoding_name(space)}; give a file for the result")
    if space:
        metadata["icc_profile"] = icc.profile(adapted(space.primaries, D50), transfer(space).decode)
    image.info.update(_kept(metadata, *_KNOWN_TO_PILLOW))
    return image
