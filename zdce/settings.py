"""What users can set, checked once: how much each loss counts."""

from typing import NamedTuple


class LossWeights(NamedTuple):
    """What each term counts in the objective's total (Zero-DCE's own, illumination on the paper's scale)."""

    illumination: float = 1600.0
    spatial: float = 1.0
    color: float = 5.0
    exposure: float = 10.0
