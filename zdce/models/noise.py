"""The noise and grain that are smoothed: as set, or as measured in the picture itself (``zdce/ops/picture_noise.py``)."""

from collections.abc import Callable
from typing import NamedTuple


class Noise(NamedTuple):
    """Standard deviations in 8-bit levels, as ``zdce._core.denoise_picture`` takes them."""

    deviation: float = 0.0
    grain: float = 0.0  # of the finest details in flat parts


def assumed(setting: float | None, own: float, measure: Callable[[], Noise]) -> Noise:
    """The noise to smooth: the ``setting``; else the measured noise, at least the network's ``own``, and the measured grain;
    none for networks without noise of their own.
    """
    if setting is not None:
        return Noise(setting)
    if not own:
        return Noise()
    found = measure()
    return found._replace(deviation=max(own, found.deviation))
