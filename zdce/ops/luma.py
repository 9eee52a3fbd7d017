"""Luma of tensors, with the weights of ``zdce.srgb``."""

from torch import Tensor

from zdce.srgb import LUMA


def luma(image: Tensor) -> Tensor:
    """Luma (B, 1, H, W) of images (B, 3, H, W); nothing is copied to a GPU."""
    red, green, blue = (weight * image[:, c : c + 1] for c, weight in enumerate(LUMA))
    return red + green + blue
