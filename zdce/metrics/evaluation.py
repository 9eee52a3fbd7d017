"""Comparison of results with references: a network beside simple methods, for every picture and on average."""

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

# Parameters of ``flat_noise``: side of a block, share of blocks that count as flat, and sigma of the blur that removes slopes.
_BLOCK, _FLATTEST, _SLOPE_SIGMA = 16, 0.1, 2.0


def autocontrast(image: Rgb) -> Rgb:
    """Each channel stretched to the full range by Pillow; the report uses it as reference."""
    return np.asarray(ImageOps.autocontrast(Image.fromarray(image)))


def gamma(image: Rgb, exponent: float = 0.4) -> Rgb:
    """Every value raised to a power."""
    return np.rint((image / 255.0) ** exponent * 255.0).astype(np.uint8)


def clahe(image: Rgb) -> Rgb:
    """Contrast-limited adaptive histogram equalisation of HSV's value, scikit-image's defaults."""
    return np.rint(equalize_adapthist(image) * 255.0).astype(np.uint8)


def retinex(image: Rgb) -> Rgb:
    """Single-scale Retinex: divided by the light to the power 0.7, then blurred (sigma 1.2) against noise.

    The light is the blurred channel maximum (sigma 5); the power below 1 keeps some of the differences in light.
    """
    values = image / 255.0
    light = gaussian(values.max(axis=2), 5.0)
    # The bound, a quarter of a level of 255, prevents 0 / 0 where there is no light.
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
        psnr: PSNR in dB, infinite for equal pictures.
        ssim: SSIM; NaN for pictures smaller than 3x3.
        ciede2000: colour difference to a true reference; NaN for other targets.
        flat_noise: noise in flat regions of a true reference, at equal brightness; NaN for other targets and without flat
            regions.
        clipped: share of the result's pixels with a channel at 255.
        brisque: naturalness of the result, lower is better; NaN if not measured.
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
    """Means of a method over all pictures that have the target; NaN is left out."""

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
        """Dictionary for JSON; an infinite PSNR and NaN become None."""
        return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in asdict(self).items()}


def psnr(result: Rgb, target: Rgb) -> float:
    """Peak signal-to-noise ratio in dB of 8-bit pictures of equal shape; infinite for equal pictures."""
    error = float(np.mean(np.square(result.astype(np.float64) - target)))
    return 10 * math.log10(255.0**2 / error) if error else math.inf


def ssim(result: Rgb, target: Rgb) -> float:
    """Structural similarity by scikit-image with a 7x7 window, smaller for smaller pictures.

    NaN for pictures smaller than 3x3, unless they are equal.
    """
    if np.array_equal(result, target):
        return 1.0  # saves the computation
    window = min(7, (min(result.shape[:2]) - 1) // 2 * 2 + 1)
    if window < 3:
        return math.nan
    # float32 differs from float64 by 1e-6 and takes three fifths of its time.
    one, other = result.astype(np.float32), target.astype(np.float32)
    return float(structural_similarity(one, other, win_size=window, channel_axis=2, data_range=255))


def luma(image: Rgb) -> NDArray[np.float64]:
    """Luma (ITU-R BT.709) of ``image`` (H, W, 3), shape (H, W), in [0, 1]."""
    return image @ np.array(LUMA) / 255


def ciede2000(result: Rgb, reference: Rgb) -> float:
    """Colour difference CIEDE2000 (Luo, Cui and Rigg, 2001), averaged over pixels; about 1 is just visible."""
    # float32 takes half the time; means differ in the seventh digit.
    one, other = (rgb2lab(image.astype(np.float32) / 255) for image in (result, reference))
    return float(np.mean(deltaE_ciede2000(other, one), dtype=np.float64))


def flat_noise(result: Rgb, reference: Rgb) -> float:
    """Noise in flat regions of ``reference``, relative to the brightness there, so that it does not grow with brightness.

    The noise of a block of 16x16 pixels is the standard deviation of the luma of ``result`` minus its Gaussian blur (sigma 2),
    divided by the mean luma of ``result`` in the block. The result is the median over the tenth of the blocks in which the luma
    of ``reference`` has the smallest standard deviation. Blocks where a pixel of ``reference`` is black or has a channel at 255
    are left out, because clipping removes noise, and so are incomplete blocks at the border. NaN if no block is left, or
    ``result`` is black in all of them.
    """
    flat = _flattest(reference)
    light = luma(result)
    details = _blocks(light - gaussian(light, _SLOPE_SIGMA))[flat].std(axis=1)
    brightness = _blocks(light)[flat].mean(axis=1)
    seen = brightness > 0
    return float(np.median(details[seen] / brightness[seen])) if seen.any() else math.nan


def _flattest(reference: Rgb) -> NDArray[np.int64]:
    """Indices of the flattest tenth of the blocks without clipped pixels; at least one if there is any."""
    cut_off = (reference == 255).any(axis=2) | (reference == 0).all(axis=2)
    whole = np.flatnonzero(~_blocks(cut_off).any(axis=1))
    deviation = _blocks(luma(reference))[whole].std(axis=1)
    return whole[np.argsort(deviation, kind="stable")[: math.ceil(len(whole) * _FLATTEST)]]


def _blocks(plane: NDArray[Any]) -> NDArray[Any]:
    """The complete blocks of ``plane`` (H, W), one row of 256 values each."""
    down, across = (length // _BLOCK for length in plane.shape)
    whole = plane[: down * _BLOCK, : across * _BLOCK].reshape(down, _BLOCK, across, _BLOCK)
    return whole.swapaxes(1, 2).reshape(-1, _BLOCK * _BLOCK)


def clipped_share(image: Rgb) -> float:
    """Share of pixels with a channel at 255."""
    return float((image == 255).any(axis=2).mean())


def score(item: Item, image: Rgb, enhanced: Rgb, naturalness: Callable[[Rgb], float] | None = None) -> list[Score]:
    """Scores of all methods on the picture ``image`` of ``item``, against each of its targets.

    Args:
        enhanced: result of the model.
        naturalness: ``zdce.metrics.naturalness.brisque()``; None: not measured.

    Raises:
        InputError: the reference has another size.
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
    """PSNR, SSIM, CIEDE2000 and noise; the latter two are measured only against a true reference."""
    true = against == "reference"
    return (
        psnr(result, target),
        ssim(result, target),
        ciede2000(result, target) if true else math.nan,
        flat_noise(result, target) if true else math.nan,
    )


def _alone(result: Rgb, naturalness: Callable[[Rgb], float] | None) -> tuple[float, float]:
    """Share of clipped pixels, and BRISQUE."""
    return clipped_share(result), naturalness(result) if naturalness else math.nan


def evaluate(
    items: Sequence[Item], enhance: Callable[[Rgb], Rgb], naturalness: Callable[[Rgb], float] | None = None
) -> list[Score]:
    """Scores of all methods on all pictures, in order, with a progress bar."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        scored = _scored(items, enhance, naturalness, pool)
        return [row for rows in progress.track(scored, len(items), "evaluating") for row in rows]


def _scored(
    items: Sequence[Item], enhance: Callable[[Rgb], Rgb], naturalness: Callable[[Rgb], float] | None, pool: Executor
) -> Iterator[list[Score]]:
    # The network and the scores use all cores in turns, for a few pictures each: at the same time they would slow each other
    # down.
    for first in range(0, len(items), 8):
        few = items[first : first + 8]
        pictures = [item.load() for item in few]
        yield from pool.map(score, few, pictures, [enhance(picture) for picture in pictures], repeat(naturalness))


def averages(scores: Sequence[Score]) -> list[Average]:
    """Means of every method against every target, in the order of their first score."""
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
    """Pictures with the model's lowest PSNR against references, worst first.

    Args:
        below: a baseline; the pictures are then those with the lowest difference of PSNR to it, each with its score.
        count: largest number of pictures.
    """
    of = {(row.name, row.method): row for row in scores if row.against == "reference"}
    pairs = [(row, of[row.name, below] if below else None) for row in of.values() if row.method == MODEL]
    return sorted(pairs, key=_lead)[:count]


def _lead(pair: tuple[Score, Score | None]) -> float:
    """Difference of the model's PSNR to the baseline's, or to 0."""
    mine, other = pair[0].psnr, pair[1].psnr if pair[1] else 0.0
    return 0.0 if mine == other else mine - other  # both may be infinite


def to_csv(scores: Sequence[Score]) -> str:
    """CSV with one line for each picture, method and target."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Score)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in scores)
    return text.getvalue()
