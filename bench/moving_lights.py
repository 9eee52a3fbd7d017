"""The generated clips of ``zdce bench flicker``: still scenes in which a light moves, trembles or passes, or the scene
changes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from zdce.io.images import Pixels

FRAMES, FPS = 90, 30
HEIGHT, WIDTH = 180, 320

# In levels of 255: noise of the sensor, and largest change by a moving light of a pixel that still counts as still background.
_NOISE, _STRAY = 1.0, 0.25

Light = NDArray[np.float32]


@dataclass(frozen=True)
class Clip:
    """A clip of ``FRAMES`` frames.

    Attributes:
        scenes: where each of its still scenes begins.
        light: the light of frame i without noise, (HEIGHT, WIDTH, 3), in levels of 255.
        still: where nothing but what the clip is about changes, (HEIGHT, WIDTH).
    """

    name: str
    scenes: tuple[int, ...]
    light: Callable[[int], Light]
    still: NDArray[np.bool_]

    def frames(self) -> Iterator[tuple[Pixels, float]]:
        """Each frame (HEIGHT, WIDTH, 3) and its time in seconds; the same at every call."""
        random = np.random.default_rng(0)
        for i in range(FRAMES):
            noisy = self.light(i) + _NOISE * random.standard_normal((HEIGHT, WIDTH, 3), np.float32)
            yield np.clip(np.rint(noisy), 0, 255).astype(np.uint8), i / FPS


def _room(seed: int, brightest: float) -> Light:
    """A dark scene of blocks of different brightness and colour."""
    random = np.random.default_rng(seed)
    blocks = random.random((9, 16, 3), np.float32) * np.linspace(1, 0.3, 9, dtype=np.float32)[:, None, None]
    return (brightest * np.kron(blocks, np.ones((HEIGHT // 9, WIDTH // 16, 1), np.float32))).astype(np.float32)


def _glow(x: float, y: float, radius: float, level: float) -> Light:
    """A lamp and the halo around it, (HEIGHT, WIDTH, 1)."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    away = np.sqrt((columns - x) ** 2 + (rows - y) ** 2) / radius
    return (level * np.where(away < 1, 1, np.exp(-3 * (away - 1)))).astype(np.float32)[..., None]


def _lamp(room: Light, i: int) -> Light:
    """A lamp that is carried back and forth, at times behind a door."""
    x = WIDTH * (0.5 + 0.65 * np.sin(2 * np.pi * i / 60))
    return room + _glow(float(x), 0.6 * HEIGHT, 16, 240)


def _headlights(room: Light, i: int) -> Light:
    """Headlights that approach, light the lower half of the scene, and disappear."""
    near = max(0.0, np.sin(np.pi * (i - 15) / 60)) if 15 <= i < 75 else 0.0
    x, radius = WIDTH * (i - 15) / 60, 4 + 10 * near
    lit = room * (1 + 3 * near * np.linspace(-1, 1, HEIGHT, dtype=np.float32).clip(0)[:, None, None])
    lamps = _glow(x - 2 * radius, 0.7 * HEIGHT, radius, 250) + _glow(x + 2 * radius, 0.7 * HEIGHT, radius, 250)
    return lit + (lamps if near > 0 else 0)


def _trembling(room: Light, i: int) -> Light:
    """The light of the whole scene trembles, like that of a failing lamp."""
    return room * np.float32(1 + 0.04 * np.random.default_rng(i).standard_normal())


def _cut(before: Light, after: Light, i: int) -> Light:
    return before if i < FRAMES // 2 else after


def _still(light: Callable[[int], Light], room: Light) -> NDArray[np.bool_]:
    """Pixels that in no frame get light from outside the room."""
    stray = np.max([np.abs(light(i) - room).max(axis=2) for i in range(FRAMES)], axis=0)
    return np.asarray(stray < _STRAY)


def clips() -> list[Clip]:
    """A moving lamp, passing headlights, a trembling light, and a cut."""
    room, street = _room(0, 40), _room(1, 30)
    whole = np.ones((HEIGHT, WIDTH), bool)
    lamp, headlights = partial(_lamp, room), partial(_headlights, street)
    return [
        Clip("moving lamp", (0,), lamp, _still(lamp, room)),
        Clip("passing headlights", (0,), headlights, _still(headlights, street)),
        Clip("trembling light", (0,), partial(_trembling, room), whole),
        Clip("cut", (0, FRAMES // 2), partial(_cut, room, 2 * street), whole),
    ]
