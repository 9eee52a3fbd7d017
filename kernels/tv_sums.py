"""tv_sums in Triton: squared differences of neighbours in one read, and their gradient in one read and one write."""

import triton
import triton.language as tl
from torch import Tensor

from zdce.kernels.device import load
from zdce.kernels.launch import launch
from zdce.kernels.tiles import BACKWARD_ROWS, FORWARD_ROWS, WARPS, N, gaps_along_x, inside, squares_along_x


@triton.jit(do_not_specialize=["height"])
def tv_forward(
    maps_ptr, sums_ptr, height, width, maps_b, maps_c, maps_y, maps_x, ROWS: tl.constexpr, N: tl.constexpr
):  # fmt: skip
    # Grid (tiles of ROWS x 4N, C, B); a program leaves its two sums at sums_ptr (programs, 2).
    across = tl.cdiv(width, 4 * N)
    y0 = (tl.program_id(0) // across * ROWS).to(tl.int64)
    x0 = (tl.program_id(0) % across).to(tl.int64) * (4 * N)
    plane = maps_ptr + tl.program_id(2).to(tl.int64) * maps_b + tl.program_id(1).to(tl.int64) * maps_c
    first = x0 + 4 * tl.arange(0, N)
    x = x0 + 4 * tl.arange(0, N)[:, None] + tl.arange(0, 4)[None, :]
    above = load(plane + (y0 - 1) * maps_y + x * maps_x, inside(y0 - 1, x, height, width))
    along_y, along_x = tl.zeros((N, 4), tl.float32), tl.zeros((N,), tl.float32)
    for y in range(y0, tl.minimum(y0 + ROWS, height)):
        a = load(plane + y * maps_y + x * maps_x, inside(y, x, height, width))
        right = load(plane + y * maps_y + (first + 4) * maps_x, inside(y, first + 4, height, width))
        along_x += squares_along_x(a, right, first, width, N, False)
        dy = tl.where(inside(y - 1, x, height, width), a - above, 0.0)
        along_y += dy * dy
        above = a
    program = (tl.program_id(2) * tl.num_programs(1) + tl.program_id(1)).to(tl.int64) * tl.num_programs(0) + tl.program_id(0)
    tl.store(sums_ptr + 2 * program, tl.sum(along_y))
    tl.store(sums_ptr + 2 * program + 1, tl.sum(along_x))


@triton.jit(do_not_specialize=["height"])
def tv_backward(
    grad_ptr, maps_ptr, grad_maps_ptr, height, width,
    maps_b, maps_c, maps_y, maps_x, grad_maps_b, grad_maps_c, grad_maps_y, grad_maps_x, ROWS: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    # Grid as in forward; grad_ptr (2,).
    across = tl.cdiv(width, 4 * N)
    y0 = (tl.program_id(0) // across * ROWS).to(tl.int64)
    x0 = (tl.program_id(0) % across).to(tl.int64) * (4 * N)
    c, b = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    plane, grad_plane = maps_ptr + b * maps_b + c * maps_c, grad_maps_ptr + b * grad_maps_b + c * grad_maps_c
    first = x0 + 4 * tl.arange(0, N)
    x = x0 + 4 * tl.arange(0, N)[:, None] + tl.arange(0, 4)[None, :]
    grad_y, grad_x = 2 * tl.load(grad_ptr).to(tl.float32), 2 * tl.load(grad_ptr + 1).to(tl.float32)
    up = load(plane + (y0 - 1) * maps_y + x * maps_x, inside(y0 - 1, x, height, width))
    a = load(plane + y0 * maps_y + x * maps_x, inside(y0, x, height, width))
    for y in range(y0, tl.minimum(y0 + ROWS, height)):
        left = load(plane + y * maps_y + (first - 1) * maps_x, inside(y, first - 1, height, width))
        right = load(plane + y * maps_y + (first + 4) * maps_x, inside(y, first + 4, height, width))
        has_below = inside(y + 1, x, height, width)
        down = load(plane + (y + 1) * maps_y + x * maps_x, has_below)
        gap_y = tl.where(inside(y - 1, x, height, width), a - up, 0.0) + tl.where(has_below, a - down, 0.0)
        grad = grad_y * gap_y + grad_x * gaps_along_x(a, left, right, first, width, N, False)
        tl.store(grad_plane + y * grad_maps_y + x * grad_maps_x, grad, mask=inside(y, x, height, width))
        up, a = a, down


def tv_sums(maps: Tensor, sums: Tensor) -> None:
    """maps (B, C, H, W); writes sums (2,)."""
    batch, channels, height, width = maps.shape
    grid = (triton.cdiv(height, FORWARD_ROWS) * triton.cdiv(width, 4 * N), channels, batch)
    partials = sums.new_empty((grid[0] * channels * batch, 2))
    launch(tv_forward, grid, maps, partials, height, width, *maps.stride(), ROWS=FORWARD_ROWS, N=N, num_warps=WARPS)
    sums.copy_(partials.double().sum(0))


def tv_sums_backward(grad: Tensor, maps: Tensor, grad_maps: Tensor) -> None:
    """grad (2,), maps (B, C, H, W); writes grad_maps, shaped as maps."""
    batch, channels, height, width = maps.shape
    grid = (triton.cdiv(height, BACKWARD_ROWS) * triton.cdiv(width, 4 * N), channels, batch)
    launch(
        tv_backward, grid, grad, maps, grad_maps, height, width, *maps.stride(), *grad_maps.stride(),
        ROWS=BACKWARD_ROWS, N=N, num_warps=WARPS,
    )  # fmt: skip
