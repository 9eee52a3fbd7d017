"""Guided maps for a scene: they bring dark scenes, and the darker half of backlit ones, to the light of lit photographs."""

from typing import NamedTuple

import torch
from torch import Tensor

from zdce import ops
from zdce.models import guidance
from zdce.models.scene import Curve, in_one_kernel
from zdce.ops import guided_strength, operator
from zdce.ops.luma import luma
from zdce.ops.scene_strength import clipped
from zdce.scene_constants import (
    BACKLIT,
    BALANCE,
    BLACK,
    BLACK_STOPS,
    BRIGHTER_HALF,
    BRIGHTER_HALF_DEVIATION,
    BRIGHTEST,
    CLIPPED_SHARE,
    DIM_STOPS,
    GUIDED_TARGET_EXPONENT,
    HALF_BLACK,
    HIGHEST_TARGET,
    LAMPS,
    LAMPS_FROM,
    LEAST_LIGHT,
    LIT_HALF,
    LONGEST,
    MEANINGFUL_SHARE,
    NIGHT_BELOW,
    NIGHT_FROM,
    NIGHT_SHARE,
    NIGHT_STOPS,
    REFERENCE_MEAN,
    SHADOW_SHARE,
    SHORTEST_FALL,
    SIDE,
    TARGET_SHARE,
    WHOLLY_DARK,
)


class Scene(NamedTuple):
    """What decides how bright images become: statistics of their area means, each (B, 1, 1, 1) unless said."""

    image: Tensor
    """The area means, (B, 3, SIDE, SIDE)."""
    share: Tensor
    """Share of them that is not black."""
    mean: Tensor
    """Mean of those that are not black."""
    darker_half: Tensor
    """How much each counts in the darker half, (B, 1, SIDE, SIDE)."""
    darker: Tensor
    """Mean luma of the darker half."""
    brighter: Tensor
    """Mean luma of the brighter half."""
    brightest: Tensor
    """The mean of the largest values of any colour in the brightest thousandth of the image."""
    backlit: Tensor
    """From 0 to 1: the brighter half is lit, so that the darker half alone can be too dark.

    1 where the brighter half is as bright as that of the mean well-lit photograph, 0 one standard deviation below that.
    """
    night: Tensor
    """From 0 to 1: something is lit in the dark, so that what is black is no shadow to be brightened.

    Lit is what is as bright as in ``backlit``. It makes a night where black is two fifths (0) to half (1) of the scene, and
    also where it is 4.9 (0) to 5.3 (1) stops of light above the brighter half, as lamps are, and black is a tenth (0) to
    three tenths (1) of the scene.
    """
    fall: guidance.Fall
    """Where maps fall to 0: from 0.4 to white; in a backlit scene or a night from the mean of its darker half to its
    brighter's.
    """


def read(small: Tensor) -> Scene:
    """The scenes of images (B, 3, h, w) in [0, 1]."""
    image = thumbnail(small)
    visible = (image.amax(1, keepdim=True) > BLACK).to(image.dtype)
    share = _mean(visible)
    mean = _mean(image.mean(1, keepdim=True) * visible) / share.clamp(min=1 / visible[0].numel())
    # Black counts wholly where there is little of it, and not at all in a night.
    weights = torch.maximum(visible, ((share - NIGHT_SHARE) / (SHADOW_SHARE - NIGHT_SHARE)).clamp(0, 1))
    lumas, flat = luma(image), weights.flatten(1)
    order = lumas.flatten(1).sort(dim=1, stable=True).indices
    ascending = flat.gather(1, order)
    below = ascending.cumsum(1) - ascending
    darker_half = ascending * (below < ascending.sum(1, keepdim=True) / 2)
    darker_half = torch.zeros_like(flat).scatter(1, order, darker_half).view_as(lumas)
    darker, brighter = _weighted_mean(lumas, darker_half), _weighted_mean(lumas, weights - darker_half)
    brightest = image.amax(1).flatten(1).sort(dim=1, stable=True).values[:, -BRIGHTEST:].mean(1)[:, None, None, None]
    backlit, night = _lit(brighter), _night(share, brighter, brightest)
    fall = _fall(torch.maximum(backlit, night), darker, brighter)
    return Scene(image, share, mean, darker_half, darker, brighter, brightest, backlit, night, fall)


def _lit(value: Tensor) -> Tensor:
    """1 where ``value`` is as bright as the brighter half of the mean well-lit photograph, 0 one standard deviation below."""
    return (1 - (BRIGHTER_HALF - value) / BRIGHTER_HALF_DEVIATION).clamp(0, 1)


def _night(share: Tensor, brighter: Tensor, brightest: Tensor) -> Tensor:
    """``Scene.night``."""
    black = (NIGHT_FROM - share) / (NIGHT_FROM - NIGHT_BELOW)
    half_black = (NIGHT_SHARE - share) / (NIGHT_SHARE - HALF_BLACK)
    stops = torch.log2((_light(brightest) / _light(brighter).clamp(min=LEAST_LIGHT)).clamp(min=1))
    lamps = (stops - LAMPS_FROM) / (LAMPS - LAMPS_FROM)
    return _lit(brightest) * torch.maximum(black.clamp(0, 1) * lamps.clamp(0, 1), half_black.clamp(0, 1))


def _fall(kept: Tensor, darker: Tensor, brighter: Tensor) -> guidance.Fall:
    """``Scene.fall`` of scenes that are backlit or nights as far as ``kept``, from 0 to 1."""
    start, end = (of + kept * (own - of) for of, own in ((guidance.LIT, darker), (1.0, brighter)))
    return guidance.Fall(start, torch.maximum(end, start + SHORTEST_FALL))


def seen_scale(height: int, width: int, scale: int) -> int:
    """How many times smaller than pictures of ``height`` x ``width`` the image is that their scene is read from.

    It is ``scale``, the network's, but less where that leaves fewer than 2 SIDE rows or columns: area means would be
    interpolated between so few pixels, and the lamps of a night be lost in the black around them. Of a strip it leaves no more
    than 8192 pixels along the longer side, unless ``scale`` does.
    """
    shorter, longer = torch.sym_min(height, width), torch.sym_max(height, width)
    return torch.sym_min(scale, torch.sym_max(torch.sym_max(1, shorter // (2 * SIDE)), longer // LONGEST))


def fit(
    small: Tensor,
    maps: Tensor,
    iterations: int,
    brightness: float,
    shadows: float = 0.0,
    highlights: float = 1.0,
    curve: Curve = ops.apply_curve,
    seen: Tensor | None = None,
) -> Tensor:
    """Coefficients (B, 2, h, w) of guided maps (``zdce.models.guidance``), of the strength that each scene wants.

    Args:
        small: images (B, 3, h, w) in [0, 1].
        maps: their curve maps, (B, C, h, w).
        iterations: T.
        brightness: see ``strength``; 0 leaves scenes out of account.
        shadows: see ``guidance.fit``.
        highlights: see ``guidance.fit``.
        curve: see ``strength``.
        seen: the same images at ``seen_scale`` or their area means, which the scene is read from; None: ``small``.
    """
    if brightness == 0:
        return guidance.fit(small, maps, shadows, highlights)
    scene = read((small if seen is None else seen).detach())
    # The strength is that of maps which brighten the black of a night, and no lit parts: nothing else is to make up for the
    # one, and the dark parts are not to stay darker for the other.
    own = guidance.evaluate(small, guidance.fit(small, maps, shadows, 1.0, scene.fall)).detach()
    found = strength(scene, own, iterations, brightness, shadows, curve)
    return found * guidance.fit(small, maps * shown(small, scene), shadows, highlights, scene.fall)


def shown(small: Tensor, scene: Scene) -> Tensor:
    """Factors of the maps of images (B, 3, h, w), (B, 1, h, w), that leave the black of a night black.

    They are 1 for pixels that are less than 7 stops of light below the brightest area means, and where ``scene.night`` is 0.
    For those that are 9 stops and more below it they are ``1 - scene.night``; between the two they fall linearly.
    """
    light = _light(scene.brightest)
    black, dim = (_srgb(light / 2**stops) for stops in (BLACK_STOPS, DIM_STOPS))
    return 1 - scene.night * ((dim - small.amax(1, keepdim=True)) / (dim - black).clamp(min=LEAST_LIGHT)).clamp(0, 1)


def strength(
    scene: Scene, maps: Tensor, iterations: int, brightness: float, shadows: float = 0.0, curve: Curve = ops.apply_curve
) -> Tensor:
    """Factor for each image's guided maps, (B, 1, 1, 1), from 0 to 4.

    It is found on the SIDE x SIDE area means of images and maps, so that no single pixel matters. With m the mean of those that
    are not black, s their share, d and l the mean luma of the darker and the brighter half, b ``brightness``, and p the part
    that falls linearly from 1 at ``d = 0.875 * e`` to 0 at ``d = e = max(0.16, 0.3 * l)``, times ``min(1, s / 0.05)``, it is
    the largest factor that makes at most 0.3 % more of the means white in some colour, and with which one of these holds:

    * the image's mean goes no further than p of the way to ``b * (m / 0.05) ** 0.2``, at most ``max(b, 0.5)``, times
      ``min(1, s / 0.65) ** 3``. In a night (``Scene.night``) it goes to two thirds of a stop more light, and in a backlit scene
      (``Scene.backlit``), whose mean says little, nowhere;
    * the darker half's mean luma goes no further than ``p * (1 + shadows)`` of the way to ``0.43 * l * (b / 0.38)``.

    Args:
        scene: what is known of the images.
        maps: their guided maps, (B, 1, h, w).
        iterations: T.
        brightness: target mean of a dark scene with a mean of 0.05, in (0, 1).
        shadows: how much further the darker half of a backlit scene goes, from -1 (nowhere) to 1 (twice as far).
        curve: applies maps (B, 3, SIDE, SIDE) to an image in T steps.
    """
    image, maps = scene.image, thumbnail(maps)
    target = (brightness * (scene.mean / REFERENCE_MEAN) ** GUIDED_TARGET_EXPONENT).clamp(max=max(brightness, HIGHEST_TARGET))
    target = target * (scene.share / TARGET_SHARE).clamp(max=1) ** 3
    lit = (BACKLIT * scene.brighter).clamp(min=LIT_HALF)
    part = ((lit - scene.darker) / ((1 - WHOLLY_DARK) * lit)).clamp(0, 1) * (scene.share / MEANINGFUL_SHARE).clamp(max=1)
    before = _mean(image)
    target = target + scene.night * (_srgb(2**NIGHT_STOPS * _light(before)) - target)
    highest = before + part * (1 - scene.backlit) * (target - before)
    balance = BALANCE * brightness * scene.brighter
    highest_darker = scene.darker + part * (1 + shadows) * (balance - scene.darker)
    allowed = clipped(image) + CLIPPED_SHARE
    limits = torch.stack([highest.flatten(), highest_darker.flatten(), allowed], 1)
    if in_one_kernel(image, curve):
        found = operator.call("guided_strength", image, maps, scene.darker_half, limits, iterations).to(image.dtype)
    else:
        found = guided_strength.strength_with(image, maps, scene.darker_half, limits, iterations, curve)
    # For a lit scene the last bits of two means do not decide.
    return torch.where(part > 0, found[:, None, None, None], 0)


def _light(srgb: Tensor) -> Tensor:
    """``zdce.srgb.light_of_srgb`` of tensors."""
    return torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4)


def _srgb(light: Tensor) -> Tensor:
    """``zdce.srgb.srgb_of_light`` of tensors."""
    return torch.where(light <= 0.0031308, 12.92 * light, 1.055 * light.clamp(min=0.0031308) ** (1 / 2.4) - 0.055)


def _mean(image: Tensor) -> Tensor:
    return image.mean((1, 2, 3), keepdim=True)


def _weighted_mean(plane: Tensor, weights: Tensor) -> Tensor:
    return _sum(plane * weights) / _sum(weights).clamp(min=torch.finfo(weights.dtype).tiny)


def _sum(plane: Tensor) -> Tensor:
    return plane.sum((1, 2, 3), keepdim=True)


def thumbnail(image: Tensor, scale: int = 1) -> Tensor:
    """Area means, evenly spread, (B, C, SIDE, SIDE), of images (B, C, H, W) made ``scale`` times smaller by area means."""
    rows, columns = (_overlaps(side, scale, image) for side in (image.shape[2], image.shape[3]))
    return rows @ image @ columns.T


def _overlaps(side: int, scale: int, like: Tensor) -> Tensor:
    """How much each of SIDE equal intervals takes of ``side`` pixels in blocks of ``scale``, (SIDE, side); rows sum to 1."""
    block = torch.arange(side, device=like.device) // scale
    blocks = (side + scale - 1) // scale
    # In units of 1 / SIDE blocks, whole numbers: block i from i SIDE to (i + 1) SIDE, interval j from j * blocks, as wide.
    begin = blocks * torch.arange(SIDE, device=like.device)[:, None]
    overlap = torch.minimum(SIDE * (block + 1), begin + blocks) - torch.maximum(SIDE * block, begin)
    pixels = (side - scale * block).clamp(max=scale)  # of a block; fewer in the last one
    return overlap.clamp(min=0).to(like.dtype) / (blocks * pixels)
