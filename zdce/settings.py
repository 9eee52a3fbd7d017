"""What users can set, checked once: how much each loss counts."""

from typing import NamedTuple

# Steps of the curve that the kernels are made for, and how many times smaller the image may be on which it is estimated.
MAX_ITERATIONS = 16
MAX_SCALE = 2**20


class LossWeights(NamedTuple):
    """What each term counts in the objective's total (Zero-DCE's own, illumination on the paper's scale)."""

    illumination: float = 1600.0
    spatial: float = 1.0
    color: float = 5.0
    exposure: float = 10.0
