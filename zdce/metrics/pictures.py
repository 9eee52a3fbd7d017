"""What all measures take: 8-bit pictures, and their luma."""

import numpy as np
from numpy.typing import NDArray

from zdce.srgb import LUMA

Rgb = NDArray[np.uint8]  # (H, W, 3)
Plane = NDArray[np.float64]  # (H, W)


def luma(image: Rgb) -> Plane:
    """Luma (ITU-R BT.709) of ``image`` (H, W, 3), shape (H, W), in [0, 1]."""
    return image @ np.array(LUMA) / 255
