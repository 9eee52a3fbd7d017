"""From a picture's own encoding of light to sRGB, which networks are trained on, and back."""

import io
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from zdce.enhancement.enhancer import Enhancer
from zdce.errors import InputError
from zdce.io import images
from zdce.io.images import Picture, Pixels
from zdce.runtime import packages
from zdce.srgb import light_of_srgb, srgb_of_light

Floats = NDArray[np.float32]


class Encoding(NamedTuple):
    """Colours (H, W, 3) as fractions of a file's white, to sRGB and back; light beyond sRGB's range lies beyond [0, 1]."""

    to_srgb: Callable[[Floats], Floats]
    from_srgb: Callable[[Floats], Floats]


# ACEScct, Academy S-2016-001 section 4.4: 17.52 stops, -9.72 is the exponent at 0; a line below 2^-7.
_LOG_STOPS, _LOG_OFFSET, _LOG_SLOPE, _LOG_BLACK = 17.52, 9.72, 10.5402377416545, 0.0729055341958355
_LOG_BREAK, _LOG_BREAK_CODE = 2.0**-7, 0.155251141552511


def _light_of_log(log: Floats) -> Floats:
    return np.where(log <= _LOG_BREAK_CODE, (log - _LOG_BLACK) / _LOG_SLOPE, np.exp2(log * _LOG_STOPS - _LOG_OFFSET))


def _log_of_light(light: Floats) -> Floats:
    stops = (np.log2(np.maximum(light, _LOG_BREAK)) + _LOG_OFFSET) / _LOG_STOPS
    return np.where(light <= _LOG_BREAK, _LOG_SLOPE * light + _LOG_BLACK, stops)


# What pixels' numbers may stand for. Primaries are taken for sRGB's.
_ENCODINGS = {
    "linear": Encoding(srgb_of_light, light_of_srgb),
    "log": Encoding(lambda log: srgb_of_light(_light_of_log(log)), lambda srgb: _log_of_light(light_of_srgb(srgb))),
}
TRANSFERS = ("srgb", *_ENCODINGS)


def enhance(picture: Picture, enhancer: Enhancer, transfer: str = "srgb") -> Picture:
    """The enhanced picture, in the encoding and with the colour profile of ``picture``.

    Args:
        transfer: how its numbers encode light. ``"srgb"``: by its own RGB profile, or as sRGB where it has none. ``"linear"``:
            proportionally. ``"log"``: as ACEScct. Light above sRGB's white, which curves leave where it is, stays as it was.

    Raises:
        ValueError: ``transfer`` is none of these.
    """
    check_transfer(transfer)
    encoding = _ENCODINGS.get(transfer) or _of_profile(picture.metadata.get("icc_profile", b""))
    if encoding is None:
        return picture.with_pixels(enhancer(picture.pixels))
    # Between conversions 16 bits of sRGB, as the engine takes them: a third of floats' memory.
    shown, pixels = np.empty(picture.pixels.shape, np.uint16), np.empty_like(picture.pixels)
    bands = [slice(top, top + _ROWS) for top in range(0, len(pixels), _ROWS)]
    for rows in bands:
        shown[rows] = _integers(encoding.to_srgb(_fractions(picture.pixels[rows])), shown.dtype)
    enhanced = enhancer(shown)
    for rows in bands:
        colours = _fractions(picture.pixels[rows])
        srgb = encoding.to_srgb(colours)
        # A curve leaves black and white where they are (denoising moves them a little): adding what lies beyond makes no step.
        beyond = srgb - srgb.clip(0, 1)
        before, after = (encoding.from_srgb(_fractions(codes[rows]) + beyond) for codes in (shown, enhanced))
        # What there and back alone would change, by rounding or for colours that sRGB lacks, is not the network's.
        pixels[rows] = _integers(colours + (after - before), pixels.dtype)
    return picture.with_pixels(pixels)


# Of a picture that are converted at once.
_ROWS = 256


def _fractions(pixels: Pixels) -> Floats:
    return np.divide(pixels, np.iinfo(pixels.dtype).max, dtype=np.float32)


def _integers(fractions: Floats, dtype: np.dtype[Any]) -> Pixels:
    nearest: Pixels = np.rint(fractions.clip(0, 1) * np.iinfo(dtype).max).astype(dtype)
    return nearest


def check_transfer(transfer: str) -> None:
    """Raises a ValueError where ``transfer`` is none of ``TRANSFERS``."""
    if transfer not in TRANSFERS:
        raise InputError(f"transfer must be one of {', '.join(TRANSFERS)}, got {transfer!r}")


def srgb(picture: Picture) -> Picture:
    """The picture in sRGB and without its profile, 8 bits, for a screen."""
    metadata = {key: value for key, value in picture.metadata.items() if key != "icc_profile"}
    pixels = images.as_uint8(picture.pixels)
    encoding = _of_profile(picture.metadata.get("icc_profile", b""))
    if encoding is not None:
        pixels = images.as_uint8(_integers(encoding.to_srgb(_fractions(pixels)), pixels.dtype))
    return Picture(pixels, picture.grey, picture.alpha, metadata, picture.format)


def _of_profile(profile: bytes) -> Encoding | None:
    """The encoding of an RGB profile; None where that is sRGB, or it is no RGB profile that can be used both ways."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if opened.profile.xcolor_space.strip() != "RGB" or _is_srgb(profile):
            return None
        _converted_8_bits(np.zeros((1, 1, 3), np.float32), _SRGB, profile)
    except (OSError, ValueError, ImageCms.PyCMSError):  # a name of its colours in other letters than ASCII's is a ValueError
        return None
    convert = _converted_8_bits if packages.missing("imagecodecs", extra="formats") else _converted
    return Encoding(partial(convert, source=profile, target=_SRGB), partial(convert, source=_SRGB, target=profile))


_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _is_srgb(profile: bytes) -> bool:
    """Whether it moves no colour by more than a level of 255: most cameras' profiles are sRGB under one name or another."""
    levels = np.linspace(0, 1, 9, dtype=np.float32)
    colours = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(27, 27, 3)
    return bool(np.abs(_converted_8_bits(colours, profile, _SRGB) - colours).max() < 1.5 / 255)


def _converted(colours: Floats, source: bytes, target: bytes) -> Floats:
    """In floating point, which keeps what the other profile's range does not hold."""
    import imagecodecs

    intent = int(ImageCms.Intent.RELATIVE_COLORIMETRIC)
    converted: Floats = imagecodecs.cms_transform(
        np.ascontiguousarray(colours), source, target, colorspace="rgb", outcolorspace="rgb", outdtype="f4", intent=intent
    )
    return converted


def _converted_8_bits(colours: Floats, source: bytes, target: bytes) -> Floats:
    """By Pillow, which knows profiles in 8 bits."""
    image = Image.fromarray(np.rint(colours.clip(0, 1) * 255).astype(np.uint8))
    before, after = (ImageCms.ImageCmsProfile(io.BytesIO(profile)) for profile in (source, target))
    converted = ImageCms.profileToProfile(image, before, after, ImageCms.Intent.RELATIVE_COLORIMETRIC)
    return _fractions(np.asarray(converted, np.uint8))
