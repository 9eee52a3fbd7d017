"""How natural a picture looks, judged with no reference (the extra `naturalness`)."""

from collections.abc import Callable

import numpy as np

from zdce.metrics.evaluation import Rgb
from zdce.runtime import packages

# A smaller picture, halved, is smaller than the window of 7 pixels and its neighbours.
_LEAST = 16


def brisque() -> Callable[[Rgb], float]:
    """BRISQUE (Mittal, Moorthy and Bovik, TIP 2012): a function from a picture (H, W, 3) to its score.

    0 is natural, 100 distorted; it knows blur, noise and compression, not darkness: a dark picture may have the best score.
    NaN of pictures that are of one colour or smaller than 16x16. Features and trained weights are those of the package
    `brisque`; nothing is downloaded.

    Raises:
        ValueError: the package, or OpenCV, which it needs, is not installed.
    """
    packages.require("brisque", extra="naturalness")
    from brisque import BRISQUE

    scorer = BRISQUE()
    scaled = scorer.scale_features
    # Features come as arrays of one value, which NumPy from 2.4 on refuses to take for numbers.
    scorer.scale_features = lambda features: scaled([np.ravel(feature)[0] for feature in features])

    def score(image: Rgb) -> float:
        if min(image.shape[:2]) < _LEAST:
            return float("nan")
        with np.errstate(all="ignore"):  # of a plain picture nothing is left to divide by
            return float(scorer.score(image))

    return score
