"""Light in a film's frames: HDR's curve, and HDR metadata that encoders write."""

import struct
from fractions import Fraction
from typing import Any

import av
from av.sidedata.sidedata import Type as SideDataType

from zdce.errors import FileError, InputError
from zdce.io.colour_tags import ColourTags, Space

# AVColorTransferCharacteristic of HDR, numbered as in ITU-T H.273; and the primaries of HDR films that name none, BT.2020's.
_HDR = (16, 18)
_NOT_SPECIFIED, _BT2020 = 2, 9

_MASTERING, _CONTENT_LIGHT = SideDataType.MASTERING_DISPLAY_METADATA, SideDataType.CONTENT_LIGHT_LEVEL

# Metadata that change from frame to frame, which no encoder here writes.
_LEFT_OUT = {SideDataType.DYNAMIC_HDR_PLUS: "HDR10+ metadata", SideDataType.DOVI_METADATA: "Dolby Vision metadata"}

# AVMasteringDisplayMetadata: chromaticities (x, y) of red, green, blue and white, least and most light, each a fraction; and
# whether there are chromaticities and lights.
_SCREEN = struct.Struct("=20i2i")

# AVContentLightMetadata: light of the brightest pixel and of the brightest frame.
_CONTENT = struct.Struct("=2I")

# Of an encoder: its option, its name of the content's light, its format of numbers, and its units of chromaticity and light.
# x264 takes integers, as in SMPTE ST 2086.
_ENCODERS = {
    "libx264": ("x264-params", "cll", "{:.0f}", 50_000, 10_000),
    "libsvtav1": ("svtav1-params", "content-light", "{:.6f}", 1, 1),
}


def space_of(frame: av.VideoFrame) -> Space | None:
    """Colour space of HDR frames as RGB of the full range; None for SDR.

    Raises:
        OSError: they have primaries that are not known.
    """
    if frame.color_trc not in _HDR:
        return None
    primaries = _BT2020 if frame.color_primaries == _NOT_SPECIFIED else frame.color_primaries
    try:
        return ColourTags((primaries, frame.color_trc, 0, 1)).space(has_profile=False)
    except InputError as error:
        raise FileError(str(error)) from None


def encoder_options(frame: av.VideoFrame, codec: str) -> dict[str, str]:
    """Encoder options that write the mastering display and the content's light of ``frame``."""
    if codec not in _ENCODERS:
        return {}
    option, content_name, form, chromaticity, light = _ENCODERS[codec]
    data: Any = frame.side_data
    parts = []
    if _MASTERING in data and (screen := _screen(bytes(data[_MASTERING]))):
        parts.append(f"mastering-display={_described(screen, form, chromaticity, light)}")
    if _CONTENT_LIGHT in data:
        brightest, frames = _CONTENT.unpack(bytes(data[_CONTENT_LIGHT]))
        parts.append(f"{content_name}={brightest},{frames}")
    return {option: ":".join(parts)} if parts else {}


def left_out(frame: av.VideoFrame, codec: str) -> list[str]:
    """A line about light metadata that an encoder does not write, or nothing."""
    data: Any = frame.side_data
    names = [name for kind, name in _LEFT_OUT.items() if kind in data]
    written = encoder_options(frame, codec)
    if _MASTERING in data and not any("mastering-display" in option for option in written.values()):
        names.append("mastering display")
    if _CONTENT_LIGHT in data and not written:
        names.append("content light level")
    return [f"its {' and '.join(names)} {'was' if len(names) == 1 else 'were'} left out"] if names else []


def _screen(data: bytes) -> list[Fraction] | None:
    """The ten numbers of a mastering display; None if it is incomplete, because encoders need all."""
    *numbers, has_primaries, has_light = _SCREEN.unpack(data[: _SCREEN.size])
    if not (has_primaries and has_light) or 0 in numbers[1::2]:
        return None
    return [Fraction(above, below) for above, below in zip(numbers[::2], numbers[1::2], strict=True)]


def _described(screen: list[Fraction], form: str, chromaticity: int, light: int) -> str:
    """The text for x264 and SVT-AV1, in these units."""
    red, green, blue, white = (
        ",".join(form.format(float(value * chromaticity)) for value in screen[n : n + 2]) for n in range(0, 8, 2)
    )
    least, most = (form.format(float(value * light)) for value in screen[8:])
    return f"G({green})B({blue})R({red})WP({white})L({most},{least})"
