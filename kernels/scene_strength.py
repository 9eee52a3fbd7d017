"""scene_strength in Triton: the whole bisection of each image in one program, and nothing of it in memory.

The thumbnail stays in registers; maps are read again in each halving, 393 KB of 24 maps, from the GPU's cache. Every lane knows
the sums, so that the host takes part in no decision.
"""

import triton
import triton.language as tl
from torch import Tensor

from zdce import scene_constants
from zdce.kernels.device import clamped, constant, device_function, step
from zdce.kernels.launch import launch

WHITE = constant(scene_constants.WHITE)
BLACK = constant(scene_constants.BLACK)
CLIPPED_SHARE = constant(scene_constants.CLIPPED_SHARE)
MEANINGFUL_SHARE = constant(scene_constants.MEANINGFUL_SHARE)
FULL_SHARE = constant(scene_constants.FULL_SHARE)
DARK_BELOW = constant(scene_constants.DARK_BELOW)
LIT_ABOVE = constant(scene_constants.LIT_ABOVE)
REFERENCE_MEAN = constant(scene_constants.REFERENCE_MEAN)
TARGET_EXPONENT = constant(scene_constants.TARGET_EXPONENT)
HIGHEST_TARGET = constant(scene_constants.HIGHEST_TARGET)


@device_function
def map_at(pointers, strength):
    return clamped(tl.load(pointers).to(tl.float32) * strength, -1.0, 1.0)


@device_function
def curved(red, green, blue, maps_ptr, strength, T: tl.constexpr, CHANNELS: tl.constexpr, PIXELS: tl.constexpr):
    """The colours after T steps; maps_ptr of every pixel, CHANNELS planes: 3 for each step, 3 for all, or 1 for all colours."""
    if CHANNELS > 3:
        for t in range(T):  # not unrolled: the compiler would keep all maps in registers, of which there are too few
            at = maps_ptr + 3 * t * PIXELS
            red = step(red, map_at(at, strength))
            green = step(green, map_at(at + PIXELS, strength))
            blue = step(blue, map_at(at + 2 * PIXELS, strength))
    else:
        a = map_at(maps_ptr, strength)
        b, c = a, a
        if CHANNELS == 3:
            b, c = map_at(maps_ptr + PIXELS, strength), map_at(maps_ptr + 2 * PIXELS, strength)
        for _ in tl.static_range(T):
            red, green, blue = step(red, a), step(green, b), step(blue, c)
    return red, green, blue


@device_function
def share_above(value, level):
    """Share of the values that are `level` and more."""
    return tl.sum(tl.where(value >= level, 1.0, 0.0)) / value.shape[0]


@device_function
def brightest(red, green, blue):
    return tl.maximum(tl.maximum(red, green), blue)


@device_function
def colors_of(pointers, PIXELS: tl.constexpr):
    red, green, blue = tl.load(pointers), tl.load(pointers + PIXELS), tl.load(pointers + 2 * PIXELS)
    return red.to(tl.float32), green.to(tl.float32), blue.to(tl.float32)


@triton.jit
def scene_forward(
    image_ptr, maps_ptr, strengths_ptr, brightness,
    HIGHEST: tl.constexpr, HALVINGS: tl.constexpr, T: tl.constexpr, CHANNELS: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    # Grid (B). image_ptr (B, 3, PIXELS), maps_ptr (B, CHANNELS, PIXELS).
    b, p = tl.program_id(0).to(tl.int64), tl.arange(0, PIXELS)
    red, green, blue = colors_of(image_ptr + b * 3 * PIXELS + p, PIXELS)
    maps = maps_ptr + b * CHANNELS * PIXELS + p
    highest, allowed, seen = limits(red, green, blue, brightness, PIXELS)
    found, width = 0.0, HIGHEST / 2
    for _ in range(HALVINGS):
        tried = found + width
        r, g, b_ = curved(red, green, blue, maps, tried, T, CHANNELS, PIXELS)
        mean = tl.sum(r + g + b_) / (3 * PIXELS)
        keeps = (mean <= highest) & (share_above(brightest(r, g, b_), WHITE) <= allowed)
        found = tl.where(keeps, tried, found)
        width *= 0.5
    tl.store(strengths_ptr + b, tl.where(seen > 0.0, found, 0.0))


@device_function
def limits(red, green, blue, brightness, PIXELS: tl.constexpr):
    """The highest mean, the largest share of white, and the share that is not black."""
    most, sum_ = brightest(red, green, blue), red + green + blue
    visible = tl.where(most > BLACK, 1.0, 0.0)
    share, before = tl.sum(visible) / PIXELS, tl.sum(sum_) / (3 * PIXELS)
    own = tl.sum(sum_ * visible) / (3 * PIXELS) / tl.maximum(share, 1.0 / PIXELS)
    # A power of 0 would be no number.
    risen = brightness * tl.exp2(TARGET_EXPONENT * tl.log2(tl.maximum(own, 1e-30) / REFERENCE_MEAN))
    target = tl.minimum(risen, tl.maximum(brightness, HIGHEST_TARGET)) * tl.minimum(share / FULL_SHARE, 1.0)
    part = (LIT_ABOVE * brightness - own) / ((LIT_ABOVE - DARK_BELOW) * brightness)
    part = tl.minimum(tl.maximum(part, 0.0), 1.0) * tl.minimum(share / MEANINGFUL_SHARE, 1.0)
    return before + part * (target - before), share_above(most, WHITE) + CLIPPED_SHARE, share


# 8 pixels a thread, of which 48 registers hold the colours: those of the thumbnail, and those of the curve.
WARPS = 16


def scene_strength(image: Tensor, maps: Tensor, iterations: int, brightness: float, strengths: Tensor) -> None:
    """image (B, 3, 64, 64), maps (B, 3T or 3, 64, 64); writes strengths (B,)."""
    batch, channels = maps.shape[:2]
    launch(
        scene_forward, (batch,), image, maps, strengths, float(brightness),
        HIGHEST=scene_constants.HIGHEST_STRENGTH, HALVINGS=scene_constants.HALVINGS,
        T=iterations, CHANNELS=channels, PIXELS=image[0, 0].numel(), num_warps=WARPS,
    )  # fmt: skip
