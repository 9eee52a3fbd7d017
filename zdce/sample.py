"""A built-in set of low-light photographs with true references: scikit-image's own, made dark as a camera would see them.

The photographs are in the public domain (astronaut, rocket: NASA, SpaceX) or CC0 (chelsea, coffee) and come with the wheel.
"""

from functools import cache

import numpy as np
import skimage.data
from numpy.typing import NDArray

# The last one is for validation: a scene that training never saw.
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")
PICTURES_PER_PHOTOGRAPH = 32

# Share of the light that is left, drawn log-uniformly.
EXPOSURE = (0.05, 0.3)
# A small sensor at high gain: this many electrons make white, and reading adds noise of this deviation.
FULL_WELL = 2000.0
READ_NOISE = 4.0


def names() -> list[str]:
    """The names of all pictures, photograph by photograph."""
    return [f"{photograph}-{i:02d}" for photograph in PHOTOGRAPHS for i in range(PICTURES_PER_PHOTOGRAPH)]


def reference(name: str) -> NDArray[np.uint8]:
    """The well-lit crop behind a picture, shape (H, W, 3)."""
    return _crop(name, _random(name))


def darkened(name: str) -> NDArray[np.uint8]:
    """A picture, shape (H, W, 3): the reference with less light, and the noise that less light brings."""
    random = _random(name)
    linear = to_linear(_crop(name, random) / 255.0)
    exposure = np.exp(random.uniform(*np.log(EXPOSURE)))
    electrons = random.poisson(linear * exposure * FULL_WELL) + random.normal(0.0, READ_NOISE, linear.shape)
    return np.rint(to_srgb(np.clip(electrons / FULL_WELL, 0.0, 1.0)) * 255.0).astype(np.uint8)


def _random(name: str) -> np.random.Generator:
    return np.random.default_rng(list(name.encode()))


@cache
def _photograph(name: str) -> NDArray[np.uint8]:
    photograph: NDArray[np.uint8] = getattr(skimage.data, name)()
    photograph.flags.writeable = False  # shared by all of its crops
    return photograph


def _crop(name: str, random: np.random.Generator) -> NDArray[np.uint8]:
    """A window of 3/5 to all of the photograph's height and width, mirrored half of the time."""
    photograph = _photograph(name.rsplit("-", 1)[0])
    share = random.uniform(0.6, 1.0)
    height, width = (int(size * share) for size in photograph.shape[:2])
    top, left = (
        int(random.integers(0, size - kept + 1)) for size, kept in zip(photograph.shape[:2], (height, width), strict=True)
    )
    crop = photograph[top : top + height, left : left + width]
    return crop[:, ::-1] if random.random() < 0.5 else crop


def to_linear(srgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """sRGB values in [0, 1] as linear light (IEC 61966-2-1)."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def to_srgb(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear light in [0, 1] as sRGB values (IEC 61966-2-1)."""
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
