"""A filter for VapourSynth for clips of any format, with smoothed curves as for videos."""

import threading
from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from zdce.enhancement import video
from zdce.enhancement.enhance import Model, enhancer_for
from zdce.enhancement.enhancer import Enhancer, Floats
from zdce.errors import InputError
from zdce.runtime import packages
from zdce.settings import EnhanceSettings, SettingsKeywords

# Number of earlier frames whose maps are kept: so many frames may be in progress in any order, and after a jump smoothing
# starts this many frames earlier.
_BEFORE = 24

# Number of kept maps, for frames that are requested again.
_HELD = 4 * _BEFORE

# VapourSynth's numbers of matrices: RGB, unknown, BT.709 and BT.601; and the height from which on unknown means BT.709.
_UNKNOWN, _BT709, _BT601, _HD = 2, 1, 6, 720

# Duration of a frame in seconds if neither the clip nor the frame has one.
_USUAL = 1 / 25


def enhance(
    clip: Any,
    model: Model | None = None,
    settings: EnhanceSettings | None = None,
    *,
    device: str | None = None,
    **keywords: Unpack[SettingsKeywords],
) -> Any:
    """The ``clip`` (``vapoursynth.VideoNode``) enhanced as ``zdce enhance`` does with a video, in its own format.

    Read from its first frame on, the clip has the same frames for any number of threads; after a jump, smoothing starts 24
    frames before the requested one.

    Args:
        clip: clip of constant size and format: YUV, grey or RGB, integers or floating point.
        model: a loaded network, or a name or path that ``zdce.load`` takes; None is the default network, ``local``.
        settings: as for ``zdce.Enhancer``; settings of files have no effect.
        device: device of a network given by name or path, as for ``zdce.load``; None is the CPU.
        keywords: fields of ``EnhanceSettings``, which replace those in ``settings``.

    Raises:
        TypeError: a keyword is not a setting.
        ValueError: VapourSynth is missing, ``clip`` has a variable format, the value of a setting is not allowed, or
            ``device`` is given with a loaded network.
        OSError: there is no such ``model``.
    """
    packages.require("vapoursynth", extra="vapoursynth")
    import vapoursynth

    if clip.format is None or not clip.width:
        raise InputError("clip must have a constant format and size, got a variable one")
    asked = EnhanceSettings.of(settings, **keywords)
    whole = enhancer_for(model, asked, device)
    enhancer = whole.with_settings(video.settings_for(whole.variant, asked))
    narrow = clip.format.sample_type == vapoursynth.INTEGER and clip.format.bits_per_sample == 8
    colours = _colours(clip, vapoursynth)
    to_rgb = {"matrix_in": colours["matrix"]} if "matrix" in colours else {}
    rgb = clip.resize.Bicubic(format=vapoursynth.RGB24 if narrow else vapoursynth.RGB48, **to_rgb)
    filtered = rgb.std.ModifyFrame(clips=_with_earlier(rgb), selector=_Filter(enhancer, clip.fps))
    return filtered.resize.Bicubic(format=clip.format.id, **colours)


def _colours(clip: Any, vapoursynth: Any) -> dict[str, Any]:
    """Arguments that convert RGB back to a clip like this one: colour matrix, range and chroma location of its first frame."""
    props = dict(clip.get_frame(0).props)  # VapourSynth's mapping warns when a former name is looked up.
    found: dict[str, Any] = {}
    if clip.format.color_family != vapoursynth.RGB:
        matrix = int(props.get("_Matrix", _UNKNOWN))
        known = _BT709 if clip.height >= _HD else _BT601
        found["matrix"] = known if matrix in (0, _UNKNOWN) else matrix
    # 1 is full in ``_Range``, and 0 is full in ``_ColorRange``, its former name.
    if "_Range" in props or "_ColorRange" in props:
        full = props["_Range"] == 1 if "_Range" in props else props["_ColorRange"] == 0
        found["range_s"] = "full" if full else "limited"
    if "_ChromaLocation" in props:
        found["chromaloc"] = int(props["_ChromaLocation"])
    return found


def _with_earlier(clip: Any) -> list[Any]:
    """The clip, and clips delayed by one frame, two frames, and so on; their first frames repeat the clip's first."""
    return [clip, *(clip[0] * k + clip[:-k] for k in range(1, min(_BEFORE, len(clip) - 1) + 1))]


class _Filter:
    """The function that VapourSynth calls for each frame, in any order and from any thread."""

    def __init__(self, enhancer: Enhancer, rate: Any) -> None:
        self._enhancer, self._frame = enhancer, float(1 / rate) if rate else 0.0
        self._smoothing = video.smoothing_for(enhancer)
        self._next, self._time = 0, 0.0
        self._maps: dict[int, Floats] = {}
        self._lock = threading.Lock()

    def __call__(self, n: int, f: Any) -> Any:
        """Frame ``n`` enhanced.

        Args:
            f: the frame and those before it, the nearest first.
        """
        frames: Sequence[Any] = f if isinstance(f, list) else [f]
        with self._lock:
            if n not in self._maps:
                self._advance(n, frames)
            maps = self._maps[n]
        result = frames[0].copy()
        enhanced = self._enhancer.apply(_pixels(frames[0]), maps)
        for plane in range(3):
            np.asarray(result[plane])[:] = enhanced[:, :, plane]
        return result

    def _advance(self, n: int, frames: Sequence[Any]) -> None:
        """Continues to frame ``n``, or starts again if it is too far away."""
        begin = self._next
        if not begin <= n < begin + len(frames):
            begin = max(0, n + 1 - len(frames))
            self._smoothing = video.smoothing_for(self._enhancer)
        for i in range(begin, n + 1):
            frame = frames[n - i]
            pixels = _pixels(frame)
            self._maps.pop(i, None)  # The newest is the last.
            self._maps[i] = self._smoothing(self._enhancer.maps(pixels), self._enhancer.srgb(pixels), self._time)
            self._time += self._seconds(frame)
        self._next = n + 1
        for i in list(self._maps)[:-_HELD]:
            del self._maps[i]

    def _seconds(self, frame: Any) -> float:
        """Duration of a frame."""
        duration, base = frame.props.get("_DurationNum", 0), frame.props.get("_DurationDen", 0)
        return duration / base if duration and base else self._frame or _USUAL


def _pixels(frame: Any) -> NDArray[Any]:
    """An RGB frame's pixels (H, W, 3)."""
    return np.stack([np.asarray(frame[plane]) for plane in range(3)], axis=2)
