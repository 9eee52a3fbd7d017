"""How close results come to references: a network beside the simple methods, on every picture and on average."""

import csv
import io
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from skimage.exposure import equalize_adapthist
from skimage.metrics import structural_similarity

from zdce import progress
from zdce.data import Item

Rgb = NDArray[np.uint8]  # (H, W, 3)


def autocontrast(image: Rgb) -> Rgb:
    """Each channel stretched to the full range, as Pillow does: the report's stand-in for a reference."""
    return np.asarray(ImageOps.autocontrast(Image.fromarray(image)))


def gamma(image: Rgb, exponent: float = 0.4) -> Rgb:
    """Every value raised to a power."""
    return np.rint((image / 255.0) ** exponent * 255.0).astype(np.uint8)


def clahe(image: Rgb) -> Rgb:
    """Contrast-limited adaptive histogram equalisation of HSV's value, scikit-image's defaults."""
    return np.rint(equalize_adapthist(image) * 255.0).astype(np.uint8)


BASELINES: dict[str, Callable[[Rgb], Rgb]] = {
    "input": lambda image: image,
    "autocontrast": autocontrast,
    "gamma 0.4": gamma,
    "CLAHE": clahe,
}

MODEL = "model"


@dataclass(frozen=True)
class Score:
    """One result against one target: PSNR in dB (infinite where they are equal) and SSIM."""

    name: str
    method: str
    against: str
    psnr: float
    ssim: float


@dataclass(frozen=True)
class Average:
    """A method's mean over all pictures that have the target."""

    method: str
    against: str
    psnr: float
    ssim: float
    images: int

    def to_dict(self) -> dict[str, str | float | int | None]:
        """As JSON takes it, an infinite PSNR as None."""
        return {**asdict(self), "psnr": self.psnr if math.isfinite(self.psnr) else None}


def psnr(result: Rgb, target: Rgb) -> float:
    """Peak signal-to-noise ratio in dB of 8-bit pictures of one shape; infinite where they are equal."""
    error = float(np.mean(np.square(result.astype(np.float64) - target)))
    return 10 * math.log10(255.0**2 / error) if error else math.inf


def ssim(result: Rgb, target: Rgb) -> float:
    """Structural similarity, scikit-image's with its 7x7 window (smaller on smaller pictures; NaN below 3x3
    unless the pictures are equal)."""
    if np.array_equal(result, target):
        return 1.0  # known without the work
    window = min(7, (min(result.shape[:2]) - 1) // 2 * 2 + 1)
    if window < 3:
        return math.nan
    return float(structural_similarity(result, target, win_size=window, channel_axis=2, data_range=255))


def score(item: Item, image: Rgb, enhanced: Rgb) -> list[Score]:
    """All methods on the picture ``image`` of ``item``, the model's being ``enhanced``, against each target that it has.

    Raises:
        ValueError: its reference has another size.
    """
    results = {name: method(image) for name, method in BASELINES.items()} | {MODEL: enhanced}
    targets = {"autocontrast": results["autocontrast"], "input": image}
    if item.load_reference is not None:
        targets["reference"] = item.load_reference()
        if targets["reference"].shape != image.shape:
            raise ValueError(f"{item.name}: reference must be {image.shape}, got {targets['reference'].shape}")
    return [
        Score(item.name, method, against, psnr(result, target), ssim(result, target))
        for against, target in targets.items()
        for method, result in results.items()
    ]


def evaluate(items: Sequence[Item], enhance: Callable[[Rgb], Rgb]) -> list[Score]:
    """All methods on all pictures, in order, with progress shown."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [row for rows in progress.track(_scored(items, enhance, pool), len(items), "evaluating") for row in rows]


def _scored(items: Sequence[Item], enhance: Callable[[Rgb], Rgb], pool: Executor) -> Iterator[list[Score]]:
    # In turns: the network takes all cores for a few pictures, then their scores do; at once they would hinder each other.
    for first in range(0, len(items), 8):
        few = items[first : first + 8]
        pictures = [item.load() for item in few]
        yield from pool.map(score, few, pictures, [enhance(picture) for picture in pictures])


def averages(scores: Sequence[Score]) -> list[Average]:
    """The mean of every method against every target, in the order in which they first appear."""
    groups: dict[tuple[str, str], list[Score]] = {}
    for row in scores:
        groups.setdefault((row.method, row.against), []).append(row)
    return [
        Average(method, against, _mean([r.psnr for r in rows]), _mean([r.ssim for r in rows]), len(rows))
        for (method, against), rows in groups.items()
    ]


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if all(map(math.isfinite, values)) else max(values)


def to_csv(scores: Sequence[Score]) -> str:
    """One line a picture, method and target."""
    text = io.StringIO()
    writer = csv.DictWriter(text, ["name", "method", "against", "psnr", "ssim"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in scores)
    return text.getvalue()
