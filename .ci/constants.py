"""Measures what each constant of the default network is worth on pictures that it was not chosen on: constants.py FOLDER.

FOLDER holds lol/our485 and ladder. For each constant, the others being as they are, the value with the best mean PSNR on LOL
is measured on the ladders, and the other way round: as mean differences in PSNR to the shipped value, with 95 % confidence
intervals. Writes the table of docs/local.md; takes some five minutes on one quiet core.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

import zdce
from zdce import ops
from zdce.metrics.evaluation import interval
from zdce.metrics.similarity import psnr
from zdce.models import guidance, guided_scene
from zdce.settings import LEVELS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "local.md"
BEGIN, END = "<!-- constants: begin -->", "<!-- constants: end -->"
LOL, DARK, BACKLIT = "LOL", "ladders, dark", "ladders, backlit"

model = zdce.load("local")
torch.set_num_threads(1)

Psnrs = dict[str, NDArray[np.float64]]  # of each set


class Pair(NamedTuple):
    """A dark picture (H, W, 3) and its reference, uint8, with what does not depend on the constants."""

    picture: Tensor
    reference: NDArray[np.uint8]
    small: Tensor
    maps: Tensor
    noise: Tensor


class Constant(NamedTuple):
    """A constant: where it stands, its name in the table, its value, others, and what is stored for a value."""

    module: ModuleType | None
    attribute: str
    name: str
    own: float
    others: tuple[float, ...]
    stored: Callable[[float], Any] = float


CONSTANTS = (
    Constant(None, "brightness", "brightness", 0.38, (0.30, 0.33, 0.36, 0.40, 0.42, 0.45)),
    Constant(guided_scene, "GUIDED_TARGET_EXPONENT", "what stays of differences between scenes", 0.2, (0, 0.1, 0.3, 0.4)),
    Constant(guided_scene, "HIGHEST_TARGET", "highest target mean", 0.5, (0.4, 0.45, 0.55, 0.6)),
    Constant(guided_scene, "LIT_HALF", "lit darker half", 0.16, (0.145, 0.18, 0.2, 0.25)),
    Constant(guided_scene, "BACKLIT", "lit darker half, share of the brighter half", 0.3, (0.2, 0.25, 0.35, 0.4)),
    Constant(guided_scene, "BRIGHTER_HALF", "brighter half of backlit scenes", 0.58, (0.5, 0.54, 0.62, 0.66)),
    Constant(guided_scene, "BRIGHTER_HALF_DEVIATION", "the brighter half's deviation", 0.125, (0.03, 0.06, 0.18, 0.25)),
    Constant(
        guided_scene,
        "BALANCE",
        "balance of the halves",
        0.43,
        (0.33, 0.38, 0.48, 0.53),
        lambda value: value / model.variant.brightness,
    ),
    Constant(guided_scene, "WHOLLY_DARK", "wholly dark, share of a lit darker half", 0.875, (0.7, 0.8, 0.95)),
    Constant(guided_scene, "NIGHT_SHARE", "visible share of a night", 0.6, (0.55, 0.65, 0.7)),
    Constant(guided_scene, "HALF_BLACK", "visible share of a night without lamps", 0.5, (0.3, 0.4, 0.55)),
    Constant(guided_scene, "NIGHT_STOPS", "stops that a night becomes brighter", 2 / 3, (0.3, 1, 2)),
    Constant(guided_scene, "SHADOW_SHARE", "visible share of a scene", 0.8, (0.65, 0.7, 0.9)),
    Constant(guided_scene, "TARGET_SHARE", "visible share below which the target falls", 0.65, (0.55, 0.6, 0.7, 0.8)),
    Constant(guided_scene, "CLIPPED_SHARE", "share that may become white", 0.003, (0.001, 0.01)),
    Constant(guidance, "LIT", "luma from which maps fall", 0.4, (0.3, 0.5, 0.6)),
)


def pairs(low: Path, high: Path, pattern: str) -> list[Pair]:
    found = []
    for path in sorted(high.glob(pattern)):
        picture, reference = (np.asarray(Image.open(folder / path.name).convert("RGB")) for folder in (low, high))
        tensor = torch.from_numpy(picture.copy())
        small = ops.reduce_picture(tensor, model.variant.scale)
        with torch.no_grad():
            maps = torch.tanh(model(small))
        found.append(Pair(tensor, reference, small, maps, ops.picture_noise(tensor, model.variant.noise / LEVELS)))
    return found


def enhanced(pair: Pair, brightness: float) -> NDArray[np.uint8]:
    variant = model.variant
    coefficients = guided_scene.fit(pair.small, pair.maps, variant.iterations, brightness)
    if not coefficients.any():
        return pair.picture.numpy()
    bright = ops.enhance_picture(pair.picture, coefficients, variant.iterations, scale=variant.scale)
    return ops.denoise_picture(pair.picture, bright, pair.noise).numpy()


def measured(sets: dict[str, list[Pair]], chosen: dict[Constant, float]) -> Psnrs:
    """PSNR of all pairs of each set, with some constants changed."""
    before = [(constant, getattr(constant.module, constant.attribute)) for constant in chosen if constant.module]
    brightness = next((value for constant, value in chosen.items() if not constant.module), model.variant.brightness)
    for constant, value in chosen.items():
        if constant.module:
            setattr(constant.module, constant.attribute, constant.stored(value))
    try:
        return {
            name: np.array([psnr(enhanced(pair, brightness), pair.reference) for pair in of_set])
            for name, of_set in sets.items()
        }
    finally:
        for constant, value in before:
            setattr(constant.module, constant.attribute, value)


def best(trials: dict[float, Psnrs], names: tuple[str, ...], shipped: float) -> float:
    """The value with the highest mean PSNR over sets; of equal ones the shipped one."""
    worth = {value: np.mean([psnrs[name].mean() for name in names]) for value, psnrs in trials.items()}
    return max(worth, key=lambda value: (round(worth[value], 3), value == shipped))


def difference(after: NDArray[np.float64], before: NDArray[np.float64]) -> str:
    low, high = interval(list(after - before))
    return f"{(after - before).mean():+.2f} [{low:+.2f}, {high:+.2f}]"


def table(sets: dict[str, list[Pair]]) -> str:
    """Rows of Markdown: what the choice on LOL costs the ladders, and the choice on the ladders LOL."""
    shipped = measured(sets, {})
    of_lol: dict[Constant, float] = {}
    of_ladders: dict[Constant, float] = {}

    def row(name: str, own: str, lol: str, ladders: str, on_lol: Psnrs, on_ladders: Psnrs) -> str:
        dark, backlit = (difference(on_lol[key], shipped[key]) for key in (DARK, BACKLIT))
        return f"| {name} | {own} | {lol} | {dark} | {backlit} | {ladders} | {difference(on_ladders[LOL], shipped[LOL])} |"

    rows = [
        "| constant | value | best on LOL | its effect on ladders, dark (dB) | ladders, backlit (dB) | best on the ladders "
        "| it changes: LOL (dB) |",
        "|---|---|---|---|---|---|---|",
    ]
    for constant in CONSTANTS:
        trials = {constant.own: shipped} | {value: measured(sets, {constant: value}) for value in constant.others}
        for value, psnrs in trials.items():
            means = ", ".join(f"{name} {of.mean():.2f}" for name, of in psnrs.items())
            sys.stderr.write(f"{constant.name} {value:g}: {means}\n")
        lol, ladders = best(trials, (LOL,), constant.own), best(trials, (DARK, BACKLIT), constant.own)
        of_lol[constant], of_ladders[constant] = lol, ladders
        rows.append(row(constant.name, f"{constant.own:.3g}", f"{lol:.3g}", f"{ladders:.3g}", trials[lol], trials[ladders]))
    rows.append(row("all at once", "", "", "", measured(sets, of_lol), measured(sets, of_ladders)))
    return "\n".join(rows)


def main() -> None:
    folder = Path(sys.argv[1])
    lol, ladder = folder / "lol" / "our485", folder / "ladder"
    rows = table(
        {
            LOL: pairs(lol / "low", lol / "high", "*"),
            DARK: pairs(ladder / "low", ladder / "high", "*-dark.*"),
            BACKLIT: pairs(ladder / "low", ladder / "high", "*-backlit.*"),
        }
    )
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{rows}\n{END}{after}")


main()
