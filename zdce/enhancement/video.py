"""Enhancement of videos: decoding, enhancing and encoding run side by side, and curves do not flicker."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from zdce.enhancement import borders, hdr
from zdce.enhancement.enhancer import Enhancer
from zdce.enhancement.smoothing import Smoothing
from zdce.errors import InputError
from zdce.io.colour_tags import Space
from zdce.io.images import Pixels
from zdce.models.variants import Variant
from zdce.runtime import atomic, packages, prefetch
from zdce.settings import VIDEO_SCALE, EnhanceSettings

# By a file's suffix, its format and encoder.
FORMATS = {
    ".mp4": ("mp4", "libx264"), ".m4v": ("mp4", "libx264"), ".mov": ("mov", "libx264"), ".mkv": ("matroska", "libx264"),
    ".webm": ("webm", "libvpx-vp9"),
}  # fmt: skip

# Formats that are only read; results are MP4 unless another name is given.
_READ_ONLY = frozenset(
    {".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".vob", ".3gp", ".3g2", ".wmv", ".flv", ".h264", ".264"}
)
SUFFIXES = frozenset(FORMATS) | _READ_ONLY

# Number of frames that wait before and after the enhancer; at 4K each takes 25 MB.
_WAITING = 3


@dataclass
class Report:
    """Result of enhancing a video.

    Attributes:
        frames: number of frames written.
        seconds: time that it took.
        fault: a line about the broken part of the input, or an empty string; the output has what could be decoded.
        notes: lines about what differs in the output, beside the enhancement.
    """

    frames: int = 0
    seconds: float = 0.0
    fault: str = ""
    notes: list[str] = field(default_factory=list)


def is_video(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def written(path: Path) -> Path:
    """The name of the result for a video at ``path``; with the suffix of MP4 if its own format is only read."""
    return path.with_suffix(".mp4") if path.suffix.lower() in _READ_ONLY else path


def why_missing() -> str | None:
    """Why videos can't be read here, or None."""
    return packages.missing("av", extra="video")


def own_scale(variant: Variant) -> int:
    """Default scale of videos: the network's own, or ``VIDEO_SCALE`` if that is 1."""
    return variant.scale if variant.scale > 1 else VIDEO_SCALE


def settings_for(variant: Variant, settings: EnhanceSettings) -> EnhanceSettings:
    """``settings`` with ``own_scale`` if they have no scale."""
    return replace(settings, scale=own_scale(variant)) if settings.scale is None else settings


def smoothing_for(enhancer: Enhancer) -> Smoothing:
    """A filter for the maps that ``enhancer`` applies."""
    return Smoothing(enhancer.with_settings(scale=1, noise=0, transfer="srgb").apply, enhancer.settings.smoothing)


def enhance(
    source: Path,
    target: Path,
    enhancer: Enhancer,
    shown: Callable[[int, int | None], object] = lambda frames, total: None,
) -> Report:
    """Writes the enhanced video ``source`` to ``target``, completely or not at all.

    Timestamps, sound, subtitles, rotation, colour tags, depth and chroma sampling are kept. Of a broken input, the part that
    can be decoded is written, and the report has a ``fault``.

    Args:
        enhancer: the enhancer, whose settings ``smoothing``, ``crf``, ``strip`` and ``deinterlace`` are used too. Its scale is
            used as it is; see ``settings_for`` for the default of videos.
        shown: called after every frame with the number of frames so far and the total, None if that is not known.

    Raises:
        ValueError: PyAV is missing, or ``target`` has no suffix of a video format.
        OSError: no frame of ``source`` can be decoded, it is interlaced and ``deinterlace`` is not set, or ``target`` can't be
            written.
    """
    if target.suffix.lower() not in FORMATS:
        raise InputError(f"{target}: expected one of the formats {', '.join(sorted(FORMATS))}")
    packages.require("av", extra="video")
    from zdce.io.video_reader import DecodedFrame, Reader
    from zdce.io.video_writer import Writer

    settings = enhancer.settings
    report, began = Report(), time.monotonic()
    with (
        Reader(source, deinterlace=settings.deinterlace) as reader,
        atomic.replacing(target) as temporary,
        Writer(temporary, reader, *FORMATS[target.suffix.lower()], settings.crf, str(target), settings.strip) as writer,
        prefetch.in_background(writer.write, _WAITING) as write,
        prefetch.prefetched(reader, _WAITING) as items,
    ):
        enhanced = FrameEnhancer(enhancer, reader.space)
        for item in items:
            if isinstance(item, DecodedFrame):
                write(item.with_pixels(enhanced(item.pixels, item.time)))
                report.frames += 1
                shown(report.frames, reader.frames)
            else:
                write(item)
        report.fault = reader.fault()
    report.notes = [*reader.notes, *writer.notes]
    report.seconds = time.monotonic() - began
    return report


class FrameEnhancer:
    """Frames of a film, enhanced one after another. HDR keeps light above diffuse white; a letterboxed film keeps its
    border.
    """

    def __init__(self, enhancer: Enhancer, space: Space | None) -> None:
        self._enhancer, self._space = enhancer, space if enhancer.settings.transfer == "srgb" else None
        self._smoothing, self._border = smoothing_for(enhancer), borders.FilmBorder()
        self._inside: tuple[slice, slice] | None = None
        self._hdr: hdr.FrameConverter | None = None

    def __call__(self, pixels: Pixels, moment: float, share: float = 1.0) -> Pixels:
        """The next frame (H, W, 3), shown at ``moment`` seconds, with this share of its curve."""
        before, self._inside = self._inside, self._border(pixels)
        if self._inside != before:  # The size of the maps has changed.
            self._smoothing = smoothing_for(self._enhancer)
        if self._inside is None:
            return self._enhanced(pixels, moment, share)
        result = pixels.copy()
        inside: Any = np.ascontiguousarray(pixels[self._inside])
        result[self._inside] = self._enhanced(inside, moment, share)
        return result

    def _enhanced(self, pixels: Pixels, moment: float, share: float) -> Pixels:
        if self._space is None:
            return self._curved(pixels, moment, share)
        if self._hdr is None:
            self._hdr = hdr.FrameConverter(self._space, pixels.dtype)
        return self._hdr.through(pixels, lambda shown: self._curved(shown, moment, share))

    def _curved(self, pixels: Pixels, moment: float, share: float) -> Pixels:
        maps = self._smoothing(self._enhancer.maps(pixels), self._enhancer.srgb(pixels), moment)
        return self._enhancer.apply(pixels, maps if share == 1 else maps * np.float32(share))
