"""Halos: gain that changes towards an edge, on one side of it or both."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter, uniform_filter

from zdce.metrics.pictures import Plane, Rgb, luma

_Small = NDArray[np.float32]

# Longest side that is measured; radius in pixels of the band along edges, and of the neighbourhood it is compared with.
_LONGEST, _BAND, _FAR = 256, 4, 24
# Range of log luma within the band's radius that makes an edge, and width of a bin of luma: both in stops.
_EDGE, _BIN = 2.0, 0.25
# Luma that is added before logarithms: below about two levels of 255 gain is noise.
_FLOOR = 0.01
# Least share of a neighbourhood's pixels that must be comparable.
_PEERS = 0.01


def halo(result: Rgb, image: Rgb) -> float:
    """Overshoot of the gain along edges of ``image``, in stops: 0 is none, 0.1 is visible on a close look, 0.5 at first sight.

    With the luma Y (ITU-R BT.709) of ``image`` and Y' of ``result``, both reduced by area means to at most 256 pixels, the gain
    is ``g = log2(Y' + 0.01) - log2(Y + 0.01)``. Along edges, that is within 4 pixels of a change of 2 stops, it is compared
    with the mean gain of those pixels within 24 that have the same Y (a quarter of a stop) and are at no edge. A curve of Y
    makes no difference, nor does a gain that differs between the two sides of an edge. A gain that changes slowly counts only
    by its change over 12 pixels. Where light is blurred across an edge, the lighter side is too light along it and the darker
    side too dark. So the measure is ``mean of s (g - mean gain)`` over the band, with s = 1 on the lighter side of an edge and
    -1 on the darker. A negative value says that the edge is weaker than its surroundings are apart. Noise cancels.

    The definition is this project's; compare the overshoot of an unsharp mask, or the reversal of gradients in Farbman et al.,
    SIGGRAPH 2008.

    Returns:
        The overshoot in stops; NaN for pictures without edges that have comparable pixels nearby.

    >>> image = np.repeat(np.repeat(np.uint8([[20, 160]]), 60, axis=1).repeat(80, axis=0)[..., None], 3, axis=2)
    >>> abs(halo(np.uint8(255 * (image / 255) ** 0.5), image)) < 0.001  # a curve has no halos
    True
    """
    light = _log(image)
    gain = _log(result) - light
    lightest, darkest = (extreme(light, 2 * _BAND + 1, mode="nearest") for extreme in (maximum_filter, minimum_filter))
    band = lightest - darkest >= _EDGE
    usual, peers = _usual_gain(light, gain, ~band)
    compared = band & (peers >= _PEERS)
    if not compared.any():
        return math.nan
    side = np.sign(light - (lightest + darkest) / 2)
    return float(np.mean((side * (gain - usual))[compared]))


def _log(image: Rgb) -> Plane:
    """Logarithm to base 2 of luma, reduced by means of k x k pixels; incomplete ones at the border are left out."""
    light = luma(image)
    k = -(-max(light.shape) // _LONGEST)
    height, width = (max(1, side // k) for side in light.shape)
    whole = light[: height * k, : width * k]
    blocks = whole.reshape(height, whole.shape[0] // height, width, whole.shape[1] // width)
    return np.log2(blocks.mean(axis=(1, 3)) + _FLOOR)


def _usual_gain(light: Plane, gain: Plane, plain: NDArray[np.bool_]) -> tuple[_Small, _Small]:
    """Mean gain of the ``plain`` pixels around each pixel that have its luma, and their share of the neighbourhood.

    Each pixel counts in two bins of luma, by its distance to their centres, and takes the mean from the same two.
    """
    position = ((light - light.min()) / _BIN).astype(np.float32)
    plain_gain, window = gain.astype(np.float32) * plain, 2 * _FAR + 1
    sums, shares = np.zeros_like(position), np.zeros_like(position)
    for number in range(int(position.max()) + 2):
        weight = np.maximum(1 - abs(position - number), 0)
        sums += weight * uniform_filter(weight * plain_gain, window, mode="nearest")
        shares += weight * uniform_filter(weight * plain, window, mode="nearest")
    return sums / np.maximum(shares, 1e-9), shares
