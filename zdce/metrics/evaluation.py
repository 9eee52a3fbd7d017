"""How close results come to references: a network beside the simple methods, on every picture and on average."""

import csv
import io
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.exposure import equalize_adapthist
from skimage.filters import gaussian
from skimage.metrics import structural_similarity

from zdce.data.datasets import Item
from zdce.errors import InputError
from zdce.runtime import progress
from zdce.srgb import LUMA

Rgb = NDArray[np.uint8]  # (H, W, 3)

# Of ``flat_noise``: the side of a block, the share of blocks that counts as flat, and the blur that takes slopes away.
_BLOCK, _FLATTEST, _SLOPE_SIGMA = 16, 0.1, 2.0


def autocontrast(image: Rgb) -> Rgb:
    """Each channel stretched to the full range, as Pillow does: the report's stand-in for a reference."""
    return np.asarray(ImageOps.autocontrast(Image.fromarray(image)))


def gamma(image: Rgb, exponent: float = 0.4) -> Rgb:
    """Every value raised to a power."""
    return np.rint((image / 255.0) ** exponent * 255.0).astype(np.uint8)


def clahe(image: Rgb) -> Rgb:
    """Contrast-limited adaptive histogram equalisation of HSV's value, scikit-image's defaults."""
    return np.rint(equalize_adapthist(image) * 255.0).astype(np.uint8)


def retinex(image: Rgb) -> Rgb:
    """Divided by its light to the power 0.7, the light being the blurred channel maximum (sigma 5), then blurred (sigma 1.2).

    A single-scale Retinex that leaves some of the light and smooths noise away.
    """
    values = image / 255.0
    light = gaussian(values.max(axis=2), 5.0)
    # The bound, a quarter of a level of 255, is for where there is no light at all: 0 / 0.
    brightened = values / np.maximum(light, 1e-3)[..., None] ** 0.7
    return np.rint(gaussian(brightened, 1.2, channel_axis=2).clip(0, 1) * 255.0).astype(np.uint8)


BASELINES: dict[str, Callable[[Rgb], Rgb]] = {
    "input": lambda image: image,
    "autocontrast": autocontrast,
    "gamma 0.4": gamma,
    "CLAHE": clahe,
    "retinex": retinex,
}

MODEL = "model"


@dataclass(frozen=True)
class Score:
    """One result against one target.

    Attributes:
        psnr: in dB, infinite where they are equal.
        ssim: NaN of pictures smaller than 3x3.
        ciede2000: the colour difference to a true reference; NaN where the target is another.
        flat_noise: noise where a true reference is flat, at equal brightness; NaN as ``ciede2000``, and where nothing is flat.
        clipped: the share of the result's pixels with a channel at 255.
        brisque: the result's naturalness, lower is better; NaN where it was not asked for.
    """

    name: str
    method: str
    against: str
    psnr: float
    ssim: float
    ciede2000: float = math.nan
    flat_noise: float = math.nan
    clipped: float = math.nan
    brisque: float = math.nan


MEASURES = tuple(field.name for field in fields(Score))[3:]


@dataclass(frozen=True)
class Average:
    """A method's means over all pictures that have the target, each measure's over those of which it is known."""

    method: str
    against: str
    psnr: float
    ssim: float
    ciede2000: float
    flat_noise: float
    clipped: float
    brisque: float
    images: int

    def to_dict(self) -> dict[str, str | float | int | None]:
        """As JSON takes it: an infinite PSNR and what is unknown as None."""
        return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in asdict(self).items()}


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
    # In float32, which is 1e-6 from float64 and takes three fifths of its time.
    one, other = result.astype(np.float32), target.astype(np.float32)
    return float(structural_similarity(one, other, win_size=window, channel_axis=2, data_range=255))


def luma(image: Rgb) -> NDArray[np.float64]:
    """Luma (ITU-R BT.709) of ``image`` (H, W, 3), shape (H, W), in [0, 1]."""
    return image @ np.array(LUMA) / 255


def ciede2000(result: Rgb, reference: Rgb) -> float:
    """The colour difference CIEDE2000 (Luo, Cui and Rigg, 2001), averaged over pixels; about 1 is just visible."""
    # In float32, half the time: means differ in the seventh digit.
    one, other = (rgb2lab(image.astype(np.float32) / 255) for image in (result, reference))
    return float(np.mean(deltaE_ciede2000(other, one), dtype=np.float64))


def flat_noise(result: Rgb, reference: Rgb) -> float:
    """Noise where ``reference`` is flat, as a share of the brightness there, so that a brighter result isn't a noisier one.

    The luma of ``result`` less its Gaussian blur of sigma 2: its standard deviation in a block of 16x16 pixels, divided by the
    mean luma of ``result`` in the block; the median over the tenth of the blocks in which the luma of ``reference`` deviates
    least. Left out are blocks where a pixel of ``reference`` is black or has a channel at 255, which cuts its noise off, and
    incomplete ones at the border. NaN where no block is left, or ``result`` is black in all of them.
    """
    flat = _flattest(reference)
    light = luma(result)
    details = _blocks(light - gaussian(light, _SLOPE_SIGMA))[flat].std(axis=1)
    brightness = _blocks(light)[flat].mean(axis=1)
    seen = brightness > 0
    return float(np.median(details[seen] / brightness[seen])) if seen.any() else math.nan


def _flattest(reference: Rgb) -> NDArray[np.int64]:
    """Places of the flattest tenth of the blocks in which nothing is cut off, at least one, if there is any."""
    cut_off = (reference == 255).any(axis=2) | (reference == 0).all(axis=2)
    whole = np.flatnonzero(~_blocks(cut_off).any(axis=1))
    deviation = _blocks(luma(reference))[whole].std(axis=1)
    return whole[np.argsort(deviation, kind="stable")[: math.ceil(len(whole) * _FLATTEST)]]


def _blocks(plane: NDArray[Any]) -> NDArray[Any]:
    """The complete blocks of ``plane`` (H, W), each a row of 256."""
    down, across = (length // _BLOCK for length in plane.shape)
    whole = plane[: down * _BLOCK, : across * _BLOCK].reshape(down, _BLOCK, across, _BLOCK)
    return whole.swapaxes(1, 2).reshape(-1, _BLOCK * _BLOCK)


def clipped_share(image: Rgb) -> float:
    """The share of pixels with a channel at 255."""
    return float((image == 255).any(axis=2).mean())


def score(item: Item, image: Rgb, enhanced: Rgb, naturalness: Callable[[Rgb], float] | None = None) -> list[Score]:
    """All methods on the picture ``image`` of ``item``, the model's being ``enhanced``, against each target that it has.

    Args:
        naturalness: ``zdce.metrics.naturalness.brisque()``, where that is to be measured.

    Raises:
        ValueError: its reference has another size.
    """
    results = {name: method(image) for name, method in BASELINES.items()} | {MODEL: enhanced}
    targets = {"autocontrast": results["autocontrast"], "input": image}
    if item.load_reference is not None:
        targets["reference"] = item.load_reference()
        if targets["reference"].shape != image.shape:
            raise InputError(f"{item.name}: reference must be {image.shape}, got {targets['reference'].shape}")
    alone = {name: _alone(result, naturalness) for name, result in results.items()}
    return [
        Score(item.name, method, against, *_beside(result, target, against), *alone[method])
        for against, target in targets.items()
        for method, result in results.items()
    ]


def _beside(result: Rgb, target: Rgb, against: str) -> tuple[float, float, float, float]:
    """PSNR, SSIM, CIEDE2000 and noise; the latter two say something only beside a true reference."""
    true = against == "reference"
    return (
        psnr(result, target),
        ssim(result, target),
        ciede2000(result, target) if true else math.nan,
        flat_noise(result, target) if true else math.nan,
    )


def _alone(result: Rgb, naturalness: Callable[[Rgb], float] | None) -> tuple[float, float]:
    """The share of clipped pixels, and BRISQUE."""
    return clipped_share(result), naturalness(result) if naturalness else math.nan


def evaluate(
    items: Sequence[Item], enhance: Callable[[Rgb], Rgb], naturalness: Callable[[Rgb], float] | None = None
) -> list[Score]:
    """All methods on all pictures, in order, with progress shown."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        scored = _scored(items, enhance, naturalness, pool)
        return [row for rows in progress.track(scored, len(items), "evaluating") for row in rows]


def _scored(
    items: Sequence[Item], enhance: Callable[[Rgb], Rgb], naturalness: Callable[[Rgb], float] | None, pool: Executor
) -> Iterator[list[Score]]:
    # In turns: the network takes all cores for a few pictures, then their scores do; at once they would hinder each other.
    for first in range(0, len(items), 8):
        few = items[first : first + 8]
        pictures = [item.load() for item in few]
        yield from pool.map(score, few, pictures, [enhance(picture) for picture in pictures], repeat(naturalness))


def averages(scores: Sequence[Score]) -> list[Average]:
    """The mean of every method against every target, in the order in which they first appear."""
    groups: dict[tuple[str, str], list[Score]] = {}
    for row in scores:
        groups.setdefault((row.method, row.against), []).append(row)
    return [
        Average(method, against, images=len(rows), **{m: _mean([getattr(r, m) for r in rows]) for m in MEASURES})
        for (method, against), rows in groups.items()
    ]


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan


def worst(scores: Sequence[Score], below: str | None = None, count: int = 5) -> list[tuple[Score, Score | None]]:
    """Where the model fails: its lowest PSNR against references, worst first.

    Args:
        below: a baseline; then those where the model is furthest below it, or least above, each with the baseline's score.
        count: of pictures, at most.
    """
    of = {(row.name, row.method): row for row in scores if row.against == "reference"}
    pairs = [(row, of[row.name, below] if below else None) for row in of.values() if row.method == MODEL]
    return sorted(pairs, key=_lead)[:count]


def _lead(pair: tuple[Score, Score | None]) -> float:
    """By how much the model's PSNR is above the other's, or above 0."""
    mine, other = pair[0].psnr, pair[1].psnr if pair[1] else 0.0
    return 0.0 if mine == other else mine - other  # both may be infinite


def to_csv(scores: Sequence[Score]) -> str:
    """One line a picture, method and target."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Score)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in scores)
    return text.getvalue()
