"""guided_strength in Triton: the whole bisection of each image in one program; all that it reads more than once is in
registers."""

import triton
import triton.language as tl
from torch import Tensor

from zdce import scene_constants
from zdce.kernels.device import luma
from zdce.kernels.launch import launch
from zdce.kernels.scene_strength import WARPS, WHITE, brightest, colors_of, curved, share_above


@triton.jit
def guided_forward(
    image_ptr, maps_ptr, darker_half_ptr, limits_ptr, strengths_ptr,
    HIGHEST: tl.constexpr, HALVINGS: tl.constexpr, T: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    # Grid (B). image_ptr (B, 3, PIXELS), maps_ptr and darker_half_ptr (B, 1, PIXELS), limits_ptr (B, 3).
    b, p = tl.program_id(0).to(tl.int64), tl.arange(0, PIXELS)
    red, green, blue = colors_of(image_ptr + b * 3 * PIXELS + p, PIXELS)
    maps, weights = maps_ptr + b * PIXELS + p, tl.load(darker_half_ptr + b * PIXELS + p).to(tl.float32)
    counted = tl.maximum(tl.sum(weights), 1e-37)
    at = limits_ptr + b * 3
    highest, highest_darker, allowed = tl.load(at), tl.load(at + 1), tl.load(at + 2)
    found, width = 0.0, HIGHEST / 2
    for _ in range(HALVINGS):
        tried = found + width
        colors = curved(red, green, blue, maps, tried, T, 1, PIXELS)
        mean = tl.sum(colors[0] + colors[1] + colors[2]) / (3 * PIXELS)
        darker = tl.sum(luma(colors) * weights) / counted
        white = share_above(brightest(colors[0], colors[1], colors[2]), WHITE)
        found = tl.where(((mean <= highest) | (darker <= highest_darker)) & (white <= allowed), tried, found)
        width *= 0.5
    tl.store(strengths_ptr + b, found)


def guided_strength(
    image: Tensor, maps: Tensor, darker_half: Tensor, limits: Tensor, iterations: int, strengths: Tensor
) -> None:
    """image (B, 3, 64, 64), maps and darker_half (B, 1, 64, 64), limits (B, 3); writes strengths (B,)."""
    launch(
        guided_forward, (len(image),), image, maps, darker_half, limits, strengths,
        HIGHEST=scene_constants.HIGHEST_GUIDED_STRENGTH, HALVINGS=scene_constants.GUIDED_HALVINGS, T=iterations,
        PIXELS=image[0, 0].numel(), num_warps=WARPS,
    )  # fmt: skip
