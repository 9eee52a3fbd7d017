"""Low-light pictures with true references: well-lit photographs, made dark by a model of a camera with less light."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from zdce.srgb import light_of_srgb, srgb_of_light

Rgb = NDArray[np.uint8]  # (H, W, 3)

_ORDERS = tuple(permutations(range(3)))


@dataclass(frozen=True)
class DarkPictures:
    """Pictures named ``PHOTOGRAPH-NN``, each a crop of a photograph, made dark; the same at every call.

    Attributes:
        photographs: names of the photographs. Pictures of the last one are for validation: a scene that training does not see.
        load: function from a name to the photograph (H, W, 3).
        exposure: lower and upper bound of the remaining share of light, which is drawn log-uniformly.
        full_wells: numbers of electrons that make white, used in turn by the pictures of a photograph; small numbers model a
            small sensor at high gain.
        read_noise: standard deviation of the read noise, in electrons.
        per_photograph: number of pictures of each photograph.
        permuted: whether the pictures of a photograph have their colour channels in all six orders. Otherwise a network learns
            the common tint of few photographs, and removes it from every picture.
    """

    photographs: tuple[str, ...]
    load: Callable[[str], Rgb]
    exposure: tuple[float, float]
    full_wells: tuple[float, ...]
    read_noise: float = 4.0
    per_photograph: int = 32
    permuted: bool = False

    def names(self) -> list[str]:
        """The names of all pictures, photograph by photograph."""
        return [f"{photograph}-{i:02d}" for photograph in self.photographs for i in range(self.per_photograph)]

    def reference(self, name: str) -> Rgb:
        """The well-lit crop behind a picture, shape (H, W, 3)."""
        return self._colored(name, _crop(self.load(_photograph(name)), _random(name)))

    def darkened(self, name: str) -> Rgb:
        """A picture, shape (H, W, 3): the reference with less light, and therefore more noise."""
        random = _random(name)
        reference = self._colored(name, _crop(self.load(_photograph(name)), random))
        exposure = np.exp(random.uniform(*np.log(self.exposure)))
        return with_less_light(
            reference, exposure, self.full_wells[_number(name) % len(self.full_wells)], self.read_noise, random
        )

    def _colored(self, name: str, crop: Rgb) -> Rgb:
        # All orders occur with each full well before one is repeated.
        order = _ORDERS[_number(name) // len(self.full_wells) % len(_ORDERS)]
        return crop[..., order] if self.permuted else crop

    @cached_property
    def description(self) -> str:
        """Parameters that determine the pictures, in one line."""
        return f"{self.photographs} {self.exposure} {self.full_wells} {self.read_noise} {self.per_photograph} {self.permuted}"


def with_less_light(photograph: Rgb, exposure: float, full_well: float, read_noise: float, random: np.random.Generator) -> Rgb:
    """A photograph (H, W, 3) as a sensor sees it with less light.

    Args:
        exposure: the remaining share of light.
        full_well: the number of electrons that make white, with their shot noise.
        read_noise: standard deviation of the read noise, in electrons.
        random: draws the noise.
    """
    linear = light_of_srgb(photograph / 255.0)
    electrons = random.poisson(linear * exposure * full_well) + random.normal(0.0, read_noise, linear.shape)
    return np.rint(srgb_of_light(np.clip(electrons / full_well, 0.0, 1.0)) * 255.0).astype(np.uint8)


def _number(name: str) -> int:
    return int(name.rsplit("-", 1)[1])


def _photograph(name: str) -> str:
    return name.rsplit("-", 1)[0]


def _random(name: str) -> np.random.Generator:
    return np.random.default_rng(list(name.encode()))


def _crop(photograph: Rgb, random: np.random.Generator) -> Rgb:
    """A random window with 3/5 to all of the photograph's height and width; half of the windows are mirrored."""
    share = random.uniform(0.6, 1.0)
    height, width = (int(size * share) for size in photograph.shape[:2])
    top, left = (
        int(random.integers(0, size - kept + 1)) for size, kept in zip(photograph.shape[:2], (height, width), strict=True)
    )
    crop = photograph[top : top + height, left : left + width]
    return crop[:, ::-1] if random.random() < 0.5 else crop
