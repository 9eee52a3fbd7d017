"""Well-lit photographs made dark as a camera would see them with less light: low-light pictures with true references."""

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
    """Pictures called ``PHOTOGRAPH-NN``, each a crop of a photograph made dark, and the same at every call.

    Attributes:
        photographs: their names. Pictures of the last are for validation: a scene that training never saw.
        load: gives the photograph of that name, (H, W, 3).
        exposure: share of the light that is left, drawn log-uniformly between these two.
        full_wells: so many electrons make white, a photograph's pictures taking these in turns; few are a small sensor's at
            high gain.
        read_noise: reading adds noise of this deviation, in electrons.
        per_photograph: pictures of each photograph.
        permuted: whether a photograph's pictures have their colour channels in all six orders: with few photographs, a network
            learns their common tint otherwise, and takes it out of every picture.
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
        """A picture, shape (H, W, 3): the reference with less light, and the noise that less light brings."""
        random = _random(name)
        linear = light_of_srgb(self._colored(name, _crop(self.load(_photograph(name)), random)) / 255.0)
        exposure = np.exp(random.uniform(*np.log(self.exposure)))
        full_well = self.full_wells[_number(name) % len(self.full_wells)]
        electrons = random.poisson(linear * exposure * full_well) + random.normal(0.0, self.read_noise, linear.shape)
        return np.rint(srgb_of_light(np.clip(electrons / full_well, 0.0, 1.0)) * 255.0).astype(np.uint8)

    def _colored(self, name: str, crop: Rgb) -> Rgb:
        # All orders with each full well before any comes again.
        order = _ORDERS[_number(name) // len(self.full_wells) % len(_ORDERS)]
        return crop[..., order] if self.permuted else crop

    @cached_property
    def description(self) -> str:
        """What the pictures depend on, in one line."""
        return f"{self.photographs} {self.exposure} {self.full_wells} {self.read_noise} {self.per_photograph} {self.permuted}"


def _number(name: str) -> int:
    return int(name.rsplit("-", 1)[1])


def _photograph(name: str) -> str:
    return name.rsplit("-", 1)[0]


def _random(name: str) -> np.random.Generator:
    return np.random.default_rng(list(name.encode()))


def _crop(photograph: Rgb, random: np.random.Generator) -> Rgb:
    """A window of 3/5 to all of the photograph's height and width, mirrored half of the time."""
    share = random.uniform(0.6, 1.0)
    height, width = (int(size * share) for size in photograph.shape[:2])
    top, left = (
        int(random.integers(0, size - kept + 1)) for size, kept in zip(photograph.shape[:2], (height, width), strict=True)
    )
    crop = photograph[top : top + height, left : left + width]
    return crop[:, ::-1] if random.random() < 0.5 else crop
