"""Shows what a brighter dark half would cost pictures whose dark half is below 0.15: dark_halves.py FOLDER.

FOLDER holds dicm. Each picture's dark half is also brought to 0.25 by one curve of the network's kind, the same for all its
pixels. Writes the table of docs/local.md; takes 20 seconds on one quiet core.
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import zdce
from zdce.metrics.light import dark_half, lit_half
from zdce.metrics.pictures import Rgb, luma

PAGE = Path(__file__).resolve().parents[1] / "docs" / "local.md"
BEGIN, END = "<!-- dark halves: begin -->", "<!-- dark halves: end -->"
DARK, ASKED = 0.15, 0.25
ITERATIONS = 8
HEAD = (
    "| picture | dark half: input | `local` | lit half: input | `local` | levels of the dark half | level 1 becomes "
    "| noise (levels): input | `local` | at 0.25 |\n|---|---|---|---|---|---|---|---|---|---|"
)


def curve(image: NDArray[np.float64], strength: float) -> NDArray[np.float64]:
    """``image`` in [0, 1] after eight steps with the same map, ``-strength``, at all pixels."""
    for _ in range(ITERATIONS):
        image = image + strength * (image - image * image)
    return image


def brought(picture: Rgb, target: float) -> float:
    """The strength with which the curve brings the dark half of ``picture`` to ``target``."""
    low, high = 0.0, 1.0
    for _ in range(30):
        tried = (low + high) / 2
        after = np.rint(255 * curve(picture / 255, tried)).astype(np.uint8)
        low, high = (tried, high) if dark_half(after, picture) < target else (low, tried)
    return high


def noise(result: Rgb, picture: Rgb) -> float:
    """Standard deviation of luma in the dark half, in levels, from the differences of neighbours in a row."""
    light, before = 255 * luma(result), luma(picture).round(9)
    dark = before <= np.median(before)
    both = dark[:, 1:] & dark[:, :-1]
    return float(np.diff(light, axis=1)[both].std() / np.sqrt(2))


def row(path: Path, enhancer: zdce.Enhancer) -> str | None:
    picture = np.asarray(Image.open(path).convert("RGB"))
    if dark_half(picture, picture) >= DARK:
        return None
    enhanced = enhancer(picture)
    strength = brought(picture, ASKED)
    asked = np.rint(255 * curve(picture / 255, strength)).astype(np.uint8)
    light = luma(picture).round(9)
    most = np.percentile(picture[light <= np.median(light)], 95)
    halves = [f"{half(result, picture):.3f}" for half in (dark_half, lit_half) for result in (picture, enhanced)]
    level = 255 * curve(np.array(1 / 255), strength)
    noises = [f"{noise(result, picture):.1f}" for result in (picture, enhanced, asked)]
    return "| " + " | ".join([path.stem, *halves, f"0 to {most:.0f}", f"{level:.0f}", *noises]) + " |"


def main() -> None:
    enhancer = zdce.Enhancer(zdce.load("local"))
    rows = [row(path, enhancer) for path in sorted((Path(sys.argv[1]) / "dicm").iterdir())]
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text("\n".join([f"{before}{BEGIN}", HEAD, *filter(None, rows), f"{END}{after}"]))


main()
