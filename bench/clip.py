"""The video of ``zdce bench infer``: a dark scene that moves sideways, with the noise of a sensor."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from zdce.io.images import Pixels

FRAMES = 24
FPS = 30

# Highest level of 255, for a dark scene, and standard deviation of a sensor's noise.
_BRIGHTEST, _NOISE = 80, 2.0

# Movement of the scene per frame, in pixels.
_STEP = 4


def frames(height: int, width: int) -> Iterator[Pixels]:
    """The same ``FRAMES`` pictures (height, width, 3) at every call."""
    random = np.random.default_rng(0)
    coarse = torch.from_numpy(random.random((1, 3, 12, 24), np.float32))
    wide = functional.interpolate(coarse, (height, width + _STEP * FRAMES), mode="bicubic")[0].permute(1, 2, 0).numpy()
    for i in range(FRAMES):
        scene = _BRIGHTEST * wide[:, _STEP * i : _STEP * i + width]
        yield np.clip(scene + _NOISE * random.standard_normal(scene.shape, np.float32), 0, 255).astype(np.uint8)


def write(path: Path, height: int, width: int) -> None:
    """Writes the clip as MP4; its sides must be even."""
    encode(path, frames(height, width), height, width, {"crf": "18"})


def encode(path: Path, pictures: Iterable[Pixels], height: int, width: int, options: Mapping[str, str]) -> None:
    """Writes pictures (height, width, 3), ``FPS`` of them a second, as H.264 with ``options`` of the encoder x264."""
    import av

    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=FPS, width=width, height=height, pix_fmt="yuv420p", options=dict(options))
        for i, pixels in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.pts, frame.time_base = i, Fraction(1, FPS)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def read(path: Path) -> Iterator[tuple[Pixels, float]]:
    """Frames (H, W, 3) of a video, with their times in seconds."""
    from zdce.io.video_reader import DecodedFrame, Reader

    with Reader(path) as reader:
        yield from ((item.pixels, item.time) for item in reader if isinstance(item, DecodedFrame))


def checked(frames_or_maps: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """The first, middle and last of ``FRAMES`` arrays, stacked; empty for another number of arrays."""
    if len(frames_or_maps) != FRAMES:
        return np.empty((0,))
    return np.stack([frames_or_maps[0], frames_or_maps[FRAMES // 2], frames_or_maps[-1]])
