"""How strong a scene's curve has to be: a strength for its maps that brings dark scenes to a brightness, and no others."""

from collections.abc import Callable

import torch
from torch import Tensor

from zdce import ops

# Takes an image (B, 3, H, W), maps (B, 3T or 3, H, W) and T.
Curve = Callable[[Tensor, Tensor, int], Tensor]

# Side of the thumbnail, of single pixels, that a strength is found on: noise and lamps count as in the picture itself.
SIDE = 64

# Pixels of two levels of 255 and less show nothing, however bright: the black of a night is no dark scene.
_BLACK = 2.5 / 255

# The mean of a scene that comes to just the wanted brightness. What sets others apart from it, in stops, stays in this part: a
# darker scene was darker before its camera, too.
_USUAL, _KEPT = 0.05, 0.4

# No scene is brought beyond it, where not even the usual one is.
_MIDDLE = 0.5

# Of the wanted brightness: darker scenes go all the way to theirs, from the second on scenes stay, and between them go in part.
_DARK, _LIT = 0.4, 0.9

# Strengths beyond it no longer brighten, they flatten: most maps are 1 then.
MOST = 2.0

# Share of pixels that the curve may make white in a colour, and what is white in 8 bits. So few of so many pixels make a share
# that is off by 0.1 %: the picture's stays below 0.5 %.
_BURNT, _WHITE = 0.003, 254.5 / 255

# Of pixels that show something: where there are fewer, they decide in part only; and with fewer than the second, what is black
# is the night around them, not a part of the scene.
_ENOUGH, _WHOLE = 0.05, 0.75

# Halvings: 2 / 2^15 is a hundredth of a level of brightness, so that who calculates otherwise comes to the same pictures.
_STEPS = 15


def thumbnail(image: Tensor) -> Tensor:
    """SIDE x SIDE pixels of images (B, 3, H, W), evenly spread, (B, 3, SIDE, SIDE); of small images some come often."""
    rows, columns = ((2 * torch.arange(SIDE, device=image.device) + 1) * side // (2 * SIDE) for side in image.shape[2:])
    return image.index_select(2, rows).index_select(3, columns)


def strength(image: Tensor, maps: Tensor, iterations: int, brightness: float, curve: Curve = ops.apply_curve) -> Tensor:
    """What to multiply each image's curve maps with, (B, 1, 1, 1), from 0 to 2.

    The strength, found by halving, takes the mean no further than a target, and burns no more than 0.3 % of the pixels. A
    scene's own mean is that of all but black pixels. The target is ``brightness * (own mean / 0.05) ** 0.4``, at most 0.5 or
    ``brightness``, for scenes darker than 0.4 of ``brightness``; those brighter than 0.9 of it are left alone; in between, and
    where less than 5 % of the pixels are more than black, a part of the way is gone. Where less than three quarters are more
    than black, the target is that much lower.

    Args:
        image: thumbnails (B, 3, h, w) in [0, 1].
        maps: their curve maps, (B, 3T or 3, h, w).
        iterations: T.
        brightness: the mean that a scene with a mean of 0.05 is brought to, in (0, 1).
        curve: applies maps (B, 3T or 3, h, w) to an image in T steps.
    """
    seen = (image.amax(1) > _BLACK).to(image.dtype)
    share = seen.mean((1, 2))

    def burnt(picture: Tensor) -> Tensor:
        return (picture.amax(1) >= _WHITE).to(image.dtype).mean((1, 2))

    given = image.mean((1, 2, 3))
    own = (image.mean(1) * seen).mean((1, 2)) / share.clamp(min=1 / seen[0].numel())
    dark = ((_LIT * brightness - own) / ((_LIT - _DARK) * brightness)).clamp(0, 1) * (share / _ENOUGH).clamp(max=1)
    wanted = (brightness * (own / _USUAL) ** _KEPT).clamp(max=max(brightness, _MIDDLE)) * (share / _WHOLE).clamp(max=1)
    target, allowed = given + dark * (wanted - given), burnt(image) + _BURNT
    found = torch.zeros_like(given)
    for step in range(1, _STEPS + 1):
        tried = found + MOST / 2**step
        enhanced = curve(image, (maps * tried[:, None, None, None]).clamp(-1, 1), iterations)
        found = torch.where((enhanced.mean((1, 2, 3)) <= target) & (burnt(enhanced) <= allowed), tried, found)
    return torch.where(share > 0, found, 0)[:, None, None, None]
