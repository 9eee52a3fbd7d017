"""Conversion of pictures from their own encoding of light to sRGB, on which networks are trained, and back."""

import io
from dataclasses import replace
from functools import partial

import numpy as np
from PIL import Image, ImageCms

from zdce.enhancement import encodings
from zdce.enhancement.encodings import Encoding, Floats, codes, fractions, through
from zdce.enhancement.enhancer import Enhancer
from zdce.enhancement.transparency import enhance_visible, filled, opacity_within_border
from zdce.io import colour_spaces, images
from zdce.io.images import Picture, Pixels
from zdce.models import darkness
from zdce.runtime import packages
from zdce.settings import EnhanceSettings


def enhance(picture: Picture, enhancer: Enhancer) -> Picture:
    """The enhanced picture, in the encoding and with the colour profile of ``picture``; or ``picture`` itself if
    ``only_if_dark`` is set and it is not dark.

    If the enhancer's ``transfer`` is ``"srgb"``, a picture is converted by its own colour tags or RGB profile. Invisible pixels
    have no effect on the curve, and stay as they are.
    """
    if enhancer.settings.only_if_dark:
        if not is_dark(picture, enhancer.settings):
            return picture
        enhancer = enhancer.with_settings(only_if_dark=False)  # The enhancer would decide the same for arrays.
    encoding = _of_file(picture) if enhancer.settings.transfer == "srgb" else None

    def converted(pixels: Pixels) -> Pixels:
        return enhancer(pixels) if encoding is None else through(encoding, pixels, enhancer)

    return picture.with_pixels(enhance_visible(picture.pixels, picture.alpha, converted))


def is_dark(picture: Picture, settings: EnhanceSettings) -> bool:
    """Whether the visible part of ``picture`` inside its border, in sRGB, is dark (``zdce.models.darkness``)."""
    encoding = _of_file(picture) if settings.transfer == "srgb" else encodings.ENCODINGS[settings.transfer]
    pixels = filled(picture.pixels, opacity_within_border(picture.pixels, picture.alpha))
    return darkness.is_dark(pixels if encoding is None else encodings.srgb(encoding, pixels))


def srgb(picture: Picture) -> Picture:
    """The picture in sRGB with 8 bits and without profile, for screens."""
    metadata = {key: value for key, value in picture.metadata.items() if key not in PROFILES}
    pixels = images.as_uint8(picture.pixels)
    encoding = _of_file(replace(picture, pixels=pixels))
    if encoding is not None:
        pixels = images.as_uint8(codes(encoding.to_srgb(fractions(pixels)), pixels.dtype))
    return Picture(pixels, picture.grey, picture.alpha, metadata, picture.format)


# Metadata that describes the meaning of pixel values.
PROFILES = ("icc_profile", "colour_tags")


def _of_file(picture: Picture) -> Encoding | None:
    """The encoding that a file's tags or profile describe; None if that is sRGB or can't be used."""
    tags, profile = picture.metadata.get("colour_tags"), picture.metadata.get("icc_profile", b"")
    space = tags.space(has_profile=bool(profile)) if tags else None
    if space is not None:
        return Encoding(*colour_spaces.functions(space, picture.pixels.dtype))
    return None if tags and tags.cicp else _of_profile(profile)


def _of_profile(profile: bytes) -> Encoding | None:
    """The encoding of an RGB profile; None if that is sRGB, or if the profile is not one of RGB that works in both
    directions.
    """
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if opened.profile.xcolor_space.strip() != "RGB" or _is_srgb(profile):
            return None
        _converted_8_bits(np.zeros((1, 1, 3), np.float32), _SRGB, profile)
    except (OSError, ValueError, ImageCms.PyCMSError):  # A profile with a non-ASCII name of its colours raises ValueError.
        return None
    convert = _converted_8_bits if packages.missing("imagecodecs", extra="formats") else _converted
    return Encoding(partial(convert, source=profile, target=_SRGB), partial(convert, source=_SRGB, target=profile))


_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _is_srgb(profile: bytes) -> bool:
    """Whether the profile moves no colour by more than one level of 255. Most cameras' profiles are sRGB under different
    names.
    """
    levels = np.linspace(0, 1, 9, dtype=np.float32)
    colours = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(27, 27, 3)
    return bool(np.abs(_converted_8_bits(colours, profile, _SRGB) - colours).max() < 1.5 / 255)


def _converted(colours: Floats, source: bytes, target: bytes) -> Floats:
    """Converts in floating point, which keeps colours outside of the other profile's range."""
    import imagecodecs

    intent = int(ImageCms.Intent.RELATIVE_COLORIMETRIC)
    converted: Floats = imagecodecs.cms_transform(
        np.ascontiguousarray(colours), source, target, colorspace="rgb", outcolorspace="rgb", outdtype="f4", intent=intent
    )
    return converted


def _converted_8_bits(colours: Floats, source: bytes, target: bytes) -> Floats:
    """Converts with Pillow, which supports profiles in 8 bits only."""
    image = Image.fromarray(np.rint(colours.clip(0, 1) * 255).astype(np.uint8))
    before, after = (ImageCms.ImageCmsProfile(io.BytesIO(profile)) for profile in (source, target))
    converted = ImageCms.profileToProfile(image, before, after, ImageCms.Intent.RELATIVE_COLORIMETRIC)
    return fractions(np.asarray(converted, np.uint8))
