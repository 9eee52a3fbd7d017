"""Makes the pictures of docs/examples.md: `python docs/examples.py`, where `zdce photographs` has fetched the photographs."""

from pathlib import Path

import numpy as np
from PIL import Image

import zdce
from zdce.data import photographs
from zdce.data.darkening import with_less_light

FOLDER = Path(__file__).parent / "examples"

# Name, photograph, remaining light, and the electrons that make white: few of them are a small sensor at high gain. 1 and 0 is
# the photograph as it is.
EXAMPLES = (
    ("backlit", "dandelion", 1.0, 0),
    ("dusk", "sunset", 0.25, 64_000),
    ("indoor", "room", 0.04, 64_000),
    ("noisy", "brushes", 0.02, 4_000),
    ("lit", "coffee", 1.0, 0),
)

# Standard deviation of the read noise, in electrons.
READ_NOISE = 4.0

SIDE = 480


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, photograph, exposure, full_well in EXAMPLES:
        small = Image.fromarray(photographs.load(photograph))
        small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        before = np.asarray(small)
        if full_well:
            before = with_less_light(before, exposure, full_well, READ_NOISE, np.random.default_rng(0))
        pair = np.concatenate([before, zdce.enhance(before)], axis=1)
        Image.fromarray(pair).save(FOLDER / f"{name}.jpg", quality=85)


if __name__ == "__main__":
    main()
