"""Checks of arguments that operations share; each error names the argument, what was expected and what came."""

import torch
from torch import Tensor

from zdce.ops import operator
from zdce.settings import MAX_ITERATIONS, MAX_SCALE, LossWeights

NORMALIZATIONS = ("paper", "keras")

_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_PIXELS = (torch.uint8, torch.uint16, torch.float32)


def check_tensor(name: str, tensor: Tensor, channels: int | None, at_least: int = 1) -> None:
    """Checks that ``tensor`` is floating (B, channels, H, W); ``channels`` None: the 3T channels of curve maps."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(tensor).__name__}")
    if tensor.dtype not in _DTYPES:
        raise TypeError(f"{name} must be float64, float32, bfloat16 or float16, got {tensor.dtype}")
    shape, needed = tuple(tensor.shape), channels or "3T"
    if tensor.dim() != 4 or shape[1] != (channels or shape[1]):
        raise ValueError(f"{name} must be (B, {needed}, H, W), got {shape}")
    if shape[0] < 1 or min(shape[2:]) < at_least:
        least = "B, H and W at least 1" if at_least == 1 else f"B at least 1, H and W at least {at_least}"
        raise ValueError(f"{name} must be (B, {needed}, H, W) with {least}, got {shape}")


def check_alike(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    """Checks that batch, height, width and device are equal."""
    if tensor.device != other.device:
        raise ValueError(f"{name} must be on {other_name}'s device {other.device}, got {tensor.device}")
    if (tensor.shape[0], *tensor.shape[2:]) != (other.shape[0], *other.shape[2:]):
        raise ValueError(
            f"{name} must have {other_name}'s batch, height and width {tuple(other.shape)}, got {tuple(tensor.shape)}"
        )


def check_whole(name: str, number: int) -> None:
    if not (isinstance(number, int) or hasattr(number, "__index__")):
        raise TypeError(f"{name} must be a whole number, got {number!r}")


def check_iterations(name: str, maps: Tensor, iterations: int | None) -> int:
    """Checks maps (B, C, H, W) and ``iterations``, and returns the number of steps T."""
    channels = maps.shape[1]
    if iterations is not None:
        check_whole("iterations", iterations)
    steps = channels // 3 if iterations is None else iterations
    if channels < 3 or channels % 3 or (channels != 3 and channels != 3 * steps):
        raise ValueError(f"{name} must have 3 channels or 3 for each of T iterations, got {channels} for T = {steps}")
    if not 1 <= steps <= MAX_ITERATIONS:
        raise ValueError(f"iterations must be 1 to {MAX_ITERATIONS}, got {steps}")
    return steps


def check_picture(name: str, picture: Tensor) -> None:
    """Checks that ``picture`` is interleaved, (H, W, 3), and under no transform of torch.func, whose derivative would be 0."""
    if not isinstance(picture, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(picture).__name__}")
    if picture.dtype not in _PIXELS:
        raise TypeError(f"{name} must be uint8, uint16 or float32, got {picture.dtype}")
    if picture.dim() != 3 or picture.shape[2] != 3 or min(picture.shape) < 1:
        raise ValueError(f"{name} must be (H, W, 3) with H and W at least 1, got {tuple(picture.shape)}")
    if operator.transformed():
        raise ValueError(
            f"{name} must not be under torch.func or forward-mode differentiation: the operation has no derivatives"
        )


def check_scale(scale: int) -> None:
    check_whole("scale", scale)
    if not 1 <= scale <= MAX_SCALE:
        raise ValueError(f"scale must be 1 to {MAX_SCALE}, got {scale}")


def check_region(region: int) -> None:
    check_whole("region", region)
    if region < 1:
        raise ValueError(f"region must be at least 1, got {region}")


def check_target(target: float) -> None:
    if not 0 <= target <= 1:
        raise ValueError(f"target must be in [0, 1], got {target}")


def check_weights(weights: LossWeights) -> None:
    if not isinstance(weights, list | tuple) or len(weights) != len(LossWeights._fields):
        raise TypeError(f"weights must be zdce.LossWeights or {len(LossWeights._fields)} numbers, got {weights!r}")


def check_normalization(normalization: str) -> None:
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"normalization must be one of {', '.join(NORMALIZATIONS)}, got {normalization!r}")
