"""Strength of guided maps for a scene: a factor that brings dark scenes to a target mean and leaves lit ones alone."""

import torch
from torch import Tensor

from zdce import ops
from zdce.models import guidance
from zdce.models.darkness import BACKLIT, BLACK, FULL_SHARE, LIT_HALF, NIGHT_SHARE, SIDE
from zdce.models.scene import Curve

# Upper bound of the strength, larger than that of other maps because guided ones are means of windows.
MOST = 4.0

# The target mean is `brightness * (mean / _REFERENCE_MEAN) ** _TARGET_EXPONENT`: a scene with this mean comes to `brightness`.
# Of another scene's distance in stops, 0.2 remain: a scene darker than others should stay darker.
_REFERENCE_MEAN, _TARGET_EXPONENT = 0.05, 0.2

# Upper bound of the target mean, unless `brightness` is higher.
_HIGHEST_TARGET = 0.5

# Scenes whose darker half has no more than this mean luma are wholly dark. From there to that of lit ones
# (``zdce.models.darkness``) the part of the way to the target falls linearly.
_DARK_HALF = 0.14

# Share of area means that the curve may make white in some colour, and the value that is white in 8 bits.
_CLIPPED_SHARE, _WHITE = 0.003, 254.5 / 255

# Share of area means that are not black below which the effect falls linearly, because few pixels say little about the scene.
# Below FULL_SHARE, black is a night around the scene, and the target falls with the square of the share, so that lamps and what
# they light do not make up for the black.
_MEANINGFUL_SHARE = 0.05

# Halvings of the interval from 0 to MOST. The remaining 4 / 2^16 change the brightness by a hundredth of a level.
_HALVINGS = 16


def strength(small: Tensor, coefficients: Tensor, iterations: int, brightness: float, curve: Curve = ops.apply_curve) -> Tensor:
    """Factor for the coefficients of each image's guided maps, (B, 1, 1, 1), from 0 to 4.

    It is found on SIDE x SIDE area means of the images and of their maps, so that no single pixel matters. With m the mean of
    those that are not black, s their share, d and l the mean luma of the darker and the brighter half, and b ``brightness``:

    * the target mean is ``b * (m / 0.05) ** 0.2``, at most ``max(b, 0.5)``, times ``min(1, s / 0.8) ** 2``;
    * the part of the way from the image's mean to the target falls linearly from 1 at ``d = 0.14`` to 0 at
      ``d = max(0.16, 0.3 * l)``, and is multiplied by ``min(1, s / 0.05)``;
    * the result, found by bisection, is the largest factor with which the mean goes no further than that and at most 0.3 % more
      of the means become white in some colour.

    Args:
        small: images (B, 3, h, w) in [0, 1].
        coefficients: of their guided maps, (B, 2, h, w) (``zdce.models.guidance``).
        iterations: T.
        brightness: target mean of a dark scene with a mean of 0.05, in (0, 1).
        curve: applies maps (B, 3, SIDE, SIDE) to an image in T steps.
    """
    image = thumbnail(small)
    maps = thumbnail(guidance.evaluate(small, coefficients)).expand(-1, 3, -1, -1)
    visible = (image.amax(1) > BLACK).to(image.dtype)
    share, before = visible.mean((1, 2)), image.mean((1, 2, 3))
    own = (image.mean(1) * visible).mean((1, 2)) / share.clamp(min=1 / visible[0].numel())
    target = (brightness * (own / _REFERENCE_MEAN) ** _TARGET_EXPONENT).clamp(max=max(brightness, _HIGHEST_TARGET))
    target = target * (share / FULL_SHARE).clamp(max=1) ** 2
    darker, brighter = halves(image, visible)
    lit = (BACKLIT * brighter).clamp(min=LIT_HALF)
    part = ((lit - darker) / (lit - _DARK_HALF)).clamp(0, 1)
    part = part * (share / _MEANINGFUL_SHARE).clamp(max=1)
    highest, allowed = before + part * (target - before), _clipped(image) + _CLIPPED_SHARE
    found = torch.zeros_like(before)
    for step in range(1, _HALVINGS + 1):
        tried = found + MOST / 2**step
        enhanced = curve(image, (maps * tried[:, None, None, None]).clamp(min=-1), iterations)
        found = torch.where((enhanced.mean((1, 2, 3)) <= highest) & (_clipped(enhanced) <= allowed), tried, found)
    # For a lit scene the last bits of two means do not decide.
    return torch.where(part > 0, found, 0)[:, None, None, None]


def _clipped(image: Tensor) -> Tensor:
    return (image.amax(1) >= _WHITE).to(image.dtype).mean((1, 2))


def halves(image: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
    """Mean luma (B) of the darker and of the brighter half of ``image`` (B, 3, h, w).

    Black pixels, where ``visible`` (B, h, w) is 0 and not 1, count wholly where they are few, and not at all in a night.
    """
    shadow = ((visible.mean((1, 2)) - NIGHT_SHARE) / (FULL_SHARE - NIGHT_SHARE)).clamp(0, 1)
    weights = torch.maximum(visible, shadow[:, None, None]).flatten(1)
    ascending, order = guidance.luma(image).flatten(1).sort(dim=1)
    weights = weights.gather(1, order)
    below = weights.cumsum(1) - weights
    darker = weights * (below < weights.sum(1, keepdim=True) / 2)

    def mean(counted: Tensor) -> Tensor:
        return (ascending * counted).sum(1) / counted.sum(1).clamp(min=torch.finfo(counted.dtype).tiny)

    return mean(darker), mean(weights - darker)


def thumbnail(image: Tensor) -> Tensor:
    """Area means of images (B, C, H, W), evenly spread, (B, C, SIDE, SIDE)."""
    rows, columns = (_overlaps(side, image) for side in (image.shape[2], image.shape[3]))
    return rows @ image @ columns.T


def _overlaps(side: int, like: Tensor) -> Tensor:
    """How much each of SIDE equal intervals takes of ``side`` pixels, (SIDE, side); rows sum to 1."""
    # In units of 1 / SIDE pixels, whole numbers: pixel i from i SIDE to (i + 1) SIDE, interval j from j side to (j + 1) side.
    pixels = SIDE * torch.arange(side, device=like.device)
    begin = side * torch.arange(SIDE, device=like.device)[:, None]
    overlap = torch.minimum(pixels + SIDE, begin + side) - torch.maximum(pixels, begin)
    return overlap.clamp(min=0).to(like.dtype) / side
