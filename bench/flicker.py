"""``zdce bench flicker``: changes of a video's brightness between frames, before and after enhancement."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from zdce.enhancement import video
from zdce.enhancement.enhancer import Enhancer
from zdce.errors import InputError
from zdce.io import images
from zdce.io.images import Pixels
from zdce.runtime import progress, system
from zdce.srgb import LUMA

from . import clip, moving_lights
from .rows import Row, spread

SUITE = "flicker"
PROVIDERS = ("input", "frame by frame", "smoothed")

# Parts of a name: text before its last number, the number, and text after it.
_NUMBERED = re.compile(r"^(.*?)(\d+)(\D*)$")


@dataclass(frozen=True)
class FrameSequence:
    """A video or a burst.

    Attributes:
        read: gives each frame (H, W, 3) with the second that it is shown at.
        still: pixels (H, W) that stay the same within each scene, where these are known.
        scenes: the number of the first frame of each scene.
    """

    name: str
    read: Callable[[], Iterator[tuple[Pixels, float]]]
    still: NDArray[np.bool_] | None = None
    scenes: tuple[int, ...] = (0,)


def built_in() -> list[FrameSequence]:
    """Clips with a moving lamp, passing headlights, a trembling light, and a cut."""
    return [FrameSequence(made.name, made.frames, made.still, made.scenes) for made in moving_lights.clips()]


def flicker(levels: Sequence[float]) -> float:
    """Mean absolute change of the brightness between neighbouring frames.

    Args:
        levels: brightness of each frame.

    Raises:
        InputError: there are fewer than two frames.

    >>> flicker([10.0, 12.0, 11.0])
    1.5
    """
    return float(np.mean(_changes(levels)))


def _changes(levels: Sequence[float]) -> list[float]:
    if len(levels) < 2:
        raise InputError(f"flicker needs at least 2 frames, got {len(levels)}")
    return [abs(after - before) for before, after in pairwise(levels)]


def brightness(pixels: Pixels) -> float:
    """Mean luma of a frame (H, W, 3), in levels of 255."""
    means = pixels.mean(axis=(0, 1), dtype=np.float64) / np.iinfo(pixels.dtype).max
    return float(255 * means @ LUMA)


def swing(levels: Sequence[float], scenes: Sequence[int] = (0,)) -> float:
    """Difference of the brightest and the darkest frame of a scene, in percent of the mean; the largest of all scenes.

    Args:
        levels: each frame's brightness.
        scenes: the number of the first frame of each scene.

    >>> swing([10.0, 11.0, 9.0, 40.0, 40.0], scenes=(0, 3))
    20.0
    """
    ranges = [levels[first:last] for first, last in pairwise([*scenes, len(levels)])]
    return 100 * max((max(scene) - min(scene)) / max(float(np.mean(scene)), 1e-9) for scene in ranges)


def sequences(paths: Iterable[Path], fps: float) -> list[FrameSequence]:
    """Videos and bursts; a burst is the pictures of a folder whose names differ only in their last number, in that order.

    Raises:
        InputError: a picture is the only one of its burst.
    """
    films, bursts = [], dict[tuple[Path, str, str], list[tuple[int, Path]]]()
    for path in paths:
        if video.is_video(path):
            films.append(FrameSequence(path.name, partial(clip.read, path)))
        elif match := _NUMBERED.match(path.stem):
            bursts.setdefault((path.parent, match[1], match[3] + path.suffix), []).append((int(match[2]), path))
        else:
            raise InputError(f"{path}: expected a video, or pictures that are numbered")
    found = [_burst([path for _, path in sorted(burst)], fps) for burst in bursts.values()]
    return [*found, *films]


def _burst(paths: list[Path], fps: float) -> FrameSequence:
    if len(paths) < 2:
        raise InputError(f"{paths[0]}: a burst needs at least 2 pictures, got 1")
    return FrameSequence(
        f"{paths[0].name} ... {paths[-1].name}", lambda: ((images.read_rgb(path), i / fps) for i, path in enumerate(paths))
    )


def measure(sequence: FrameSequence, enhancer: Enhancer) -> list[Row]:
    """Flicker and excess of the input, of frames enhanced one by one, and of frames enhanced with the smoothing of the
    settings.

    Raises:
        ValueError: there is one frame only.
        OSError: a frame can't be read.
    """
    smoothing, size = video.smoothing_for(enhancer), (0, 0)
    levels: dict[str, list[float]] = {provider: [] for provider in PROVIDERS}
    backgrounds: dict[str, list[float]] = {provider: [] for provider in PROVIDERS}
    with progress.bar() as shown, progress.frames(shown, sequence.name) as counted:
        for pixels, time in sequence.read():
            maps = enhancer.maps(pixels)
            smooth = smoothing(maps, enhancer.srgb(pixels), time)
            outputs = (pixels, enhancer.apply(pixels, maps), enhancer.apply(pixels, smooth))
            for provider, output in zip(PROVIDERS, outputs, strict=True):
                levels[provider].append(brightness(output))
                if sequence.still is not None:
                    backgrounds[provider].append(brightness(output[sequence.still][None]))
            size = pixels.shape[:2]
            counted(len(levels["input"]), None)
    shape = f"{len(levels['input'])}x3x{size[0]}x{size[1]}"
    own = flicker(levels["input"])
    rows = []
    for provider in PROVIDERS:
        value, (_, p20, p80) = flicker(levels[provider]), spread(_changes(levels[provider]))
        rows += [
            _row(sequence, provider, "flicker", value, (p20, p80), shape),
            _row(sequence, provider, "excess", value - own, (None, None), shape),
            _row(sequence, provider, "brightness", float(np.mean(levels[provider])), (None, None), shape),
        ]
        if sequence.still is not None:
            swung = swing(backgrounds[provider], sequence.scenes)
            rows.append(_row(sequence, provider, "swing", swung, (None, None), shape, unit="%"))
    return rows


def _row(
    sequence: FrameSequence,
    provider: str,
    metric: str,
    value: float,
    bounds: tuple[float | None, float | None],
    shape: str,
    unit: str = "levels of 255",
) -> Row:
    return Row(
        SUITE, sequence.name, provider, "enhance", metric, unit, value, *bounds, shape, "uint8",
        torch.get_num_threads(), system.processor(),
    )  # fmt: skip


COLUMNS = ("frames", "", "flicker", "excess", "brightness", "swing of what is still")


def table(rows: Iterable[Row]) -> list[list[str]]:
    """A line for each sequence and provider, with the values of ``COLUMNS``."""
    lines: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        lines.setdefault((row.case, row.provider), {})[row.metric] = row.value
    return [
        [
            *which, f"{values['flicker']:.3f}", f"{values['excess']:+.3f}", f"{values['brightness']:.1f}",
            f"{values['swing']:.1f} %" if "swing" in values else "",
        ]
        for which, values in lines.items()
    ]  # fmt: skip
