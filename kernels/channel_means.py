"""channel_means in Triton: mean colour of each image."""

import triton
import triton.language as tl
from torch import Tensor

from zdce.kernels.device import load, wide
from zdce.kernels.launch import launch


@triton.jit
def channel_forward(image_ptr, sums_ptr, pixels, image_b, image_c, image_p, STEPS: tl.constexpr, BLOCK: tl.constexpr):
    # Grid (runs of STEPS blocks of pixels, B); sums_ptr (B, 3, runs). All colours, so that channels_last lines are read once.
    b = tl.program_id(1).to(tl.int64)
    p = tl.program_id(0).to(tl.int64) * (STEPS * BLOCK) + tl.arange(0, BLOCK)
    image_c = wide(image_c)
    red = tl.zeros((BLOCK,), tl.float32)
    green, blue = tl.zeros_like(red), tl.zeros_like(red)
    for step in tl.static_range(STEPS):
        here = p + step * BLOCK
        from_, inside = image_ptr + b * image_b + here * image_p, here < pixels
        red += load(from_, inside)
        green += load(from_ + image_c, inside)
        blue += load(from_ + 2 * image_c, inside)
    runs = tl.num_programs(0)
    to = sums_ptr + b * 3 * runs + tl.program_id(0)
    tl.store(to, tl.sum(red))
    tl.store(to + runs, tl.sum(green))
    tl.store(to + 2 * runs, tl.sum(blue))


@triton.jit
def channel_backward(grad_ptr, grad_image_ptr, pixels, grad_image_b, grad_image_c, grad_image_p, BLOCK: tl.constexpr):
    # Grid (blocks of pixels, B); grad_ptr (B, 3). All three colours, so that channels_last lines are written once.
    p = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    b = tl.program_id(1).to(tl.int64)
    grad_image_c = wide(grad_image_c)
    for c in tl.static_range(3):
        grad = tl.load(grad_ptr + b * 3 + c) / pixels
        to = grad_image_ptr + b * grad_image_b + c * grad_image_c + p * grad_image_p
        tl.store(to, tl.zeros((BLOCK,), tl.float32) + grad, mask=p < pixels)


# 8 values per thread and step, two 16-byte accesses in float32; 8 steps, so that there are few partial sums.
WARPS = 4
BLOCK = 1024
STEPS = 8


def channel_means(image: Tensor, means: Tensor) -> None:
    """image (B, 3, H, W); writes means (B, 3)."""
    planes = image.flatten(2)
    batch, _, pixels = planes.shape
    runs = triton.cdiv(pixels, STEPS * BLOCK)
    sums = means.new_empty((batch, 3, runs))
    launch(channel_forward, (runs, batch), planes, sums, pixels, *planes.stride(), STEPS=STEPS, BLOCK=BLOCK, num_warps=WARPS)
    means.copy_(sums.double().sum(2) / pixels)


def channel_means_backward(grad: Tensor, height: int, width: int, grad_image: Tensor) -> None:
    """grad (B, 3); writes grad_image (B, 3, height, width)."""
    planes = grad_image.flatten(2)
    batch, _, pixels = planes.shape
    grid = (triton.cdiv(pixels, BLOCK), batch)
    launch(channel_backward, grid, grad, planes, pixels, *planes.stride(), BLOCK=BLOCK, num_warps=WARPS)
