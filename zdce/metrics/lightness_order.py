"""The order of lightness: whether what was lighter than something else still is."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zdce.metrics.pictures import Rgb

# Length of the shorter side of the reduced pictures.
_SHORTER = 50


def lightness_order_error(result: Rgb, image: Rgb) -> float:
    """LOE: mean number of pixels whose order of lightness with a pixel has changed (Wang et al., TIP 2013, eq. 10 to 12).

    With the lightness L = max(R, G, B) of ``image`` and L' of ``result``, both reduced by the ratio r = 50 / min(H, W) to m
    pixels, it is ``1/m sum over pixels x, y of [L(x) >= L(y)] xor [L'(x) >= L'(y)]``. Reduced lightness is rounded to 8 bits,
    as the authors' code has it; smaller pictures are not enlarged. How to reduce is not in the paper: here by area means.

    Returns:
        0 if no order has changed, at most m - 1; lower is better. For pictures of one shape only, as it grows with m.

    >>> image = np.repeat(np.uint8([[0, 100, 200]])[..., None], 3, axis=2)
    >>> lightness_order_error(image // 2, image), lightness_order_error(255 - image, image)
    (0.0, 2.0)
    """
    return changed_orders(*(_reduced(picture) for picture in (image, result)))


def _reduced(picture: Rgb) -> NDArray[np.uint8]:
    red, green, blue = np.moveaxis(picture, 2, 0)
    light = np.maximum(np.maximum(red, green), blue)
    ratio = min(1.0, _SHORTER / min(light.shape))
    height, width = (max(1, round(side * ratio)) for side in light.shape)
    return np.asarray(Image.fromarray(light).resize((width, height), Image.Resampling.BOX))


def changed_orders(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> float:
    """Mean number of pixels y for a pixel x with ``[before(x) >= before(y)] xor [after(x) >= after(y)]``."""
    # Counted over values, not pairs: a pixel of values (a, b) disagrees with those at most a or at most b, but not both.
    joint = np.zeros((256, 256), np.int64)
    np.add.at(joint, (before.ravel(), after.ravel()), 1)
    both = joint.cumsum(axis=0).cumsum(axis=1)
    changed = both[:, -1:] + both[-1:, :] - 2 * both
    return float((joint * changed).sum() / before.size)
