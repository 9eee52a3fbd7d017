"""Naturalness of a picture, measured without a reference (extra `naturalness`).

By the package `brisque`, which brings the model's own coefficients; torchmetrics and piq have BRISQUE, NIQE or LPIPS only with
weights that they download when they are first used.
"""

import threading
from collections.abc import Callable

import numpy as np

from zdce.metrics.pictures import Rgb
from zdce.runtime import packages

# Smallest side: a smaller picture, halved, is smaller than BRISQUE's window of 7 pixels with its neighbours.
_LEAST = 16


# libsvm reads its models into memory that all threads share: two at a time corrupt the process.
_ALONE = threading.Lock()


def check() -> None:
    """Raises InputError where the package, or OpenCV, which it needs, is not installed."""
    packages.require("brisque", extra="naturalness")


def brisque() -> Callable[[Rgb], float]:
    """BRISQUE (Mittal, Moorthy and Bovik, TIP 2012): a function from a picture (H, W, 3) to its score.

    0 is natural, 100 distorted. It measures blur, noise and compression, not darkness: a dark picture may have the best score.
    The score is NaN for pictures of one colour and pictures smaller than 16x16. Features and weights are those of the package
    `brisque`; nothing is downloaded.

    Raises:
        InputError: the package, or OpenCV, which it needs, is not installed.
    """
    check()
    from brisque import BRISQUE

    with _ALONE:
        scorer = BRISQUE()
    scaled = scorer.scale_features
    # The package's features are arrays of one value, which NumPy 2.4 and later do not convert to numbers.
    scorer.scale_features = lambda features: scaled([np.ravel(feature)[0] for feature in features])

    def score(image: Rgb) -> float:
        if min(image.shape[:2]) < _LEAST:
            return float("nan")
        with _ALONE, np.errstate(all="ignore"):  # a picture of one colour leads to 0 / 0
            return float(scorer.score(image))

    return score
