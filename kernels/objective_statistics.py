"""The objective's statistics in Triton: tanh, curve, region means, channel means and squared differences in one pass.

Tensors are (B, C, H, W) with any strides. A program handles one colour of a tile, its image plane and T maps; with
channels_last the three colours' programs share cache lines, which L2 keeps for them.
"""

import triton
import triton.language as tl
from torch import Tensor

from zdce.kernels.apply_curve import step
from zdce.kernels.tiles import (
    BACKWARD_ROWS,
    FORWARD_ROWS,
    WARPS,
    N,
    gaps_along_x,
    hyperbolic_tangent,
    inside,
    load,
    squares_along_x,
)


@triton.jit
def statistics_forward(
    image_ptr, logits_ptr, enhanced_regions_ptr, image_regions_ptr, sums_ptr, height, width,
    image_b, image_c, image_y, image_x, logits_b, logits_c, logits_y, logits_x,
    T: tl.constexpr, MAPS: tl.constexpr, ROWS: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    # Grid (tiles of ROWS x 4N, 3 colours, B). A program leaves each region's share of its colour at *_regions_ptr
    # (3, B, H // 4, W // 4) and three sums at sums_ptr (B, 3, tiles, 3): enhanced values, squares along y, along x.
    # MAPS: T, or 1 that all steps share.
    across = tl.cdiv(width, 4 * N)
    tile, c, b = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    y0, x0 = tile // across * ROWS, tile % across * (4 * N)
    first = x0 + 4 * tl.arange(0, N)
    x = x0 + 4 * tl.arange(0, N)[:, None] + tl.arange(0, 4)[None, :]
    image, logits = image_ptr + b * image_b + c * image_c, logits_ptr + b * logits_b + c * logits_c
    above = ()
    for t in tl.static_range(MAPS):
        from_ = logits + 3 * t * logits_c + (y0 - 1) * logits_y
        above = above + (hyperbolic_tangent(load(from_ + x * logits_x, inside(y0 - 1, x, height, width))),)

    regions = tl.num_programs(2) * (height // 4).to(tl.int64) * (width // 4)  # of one colour
    enhanced_region, image_region = tl.zeros((N,), tl.float32), tl.zeros((N,), tl.float32)
    channel, along_y, along_x = tl.zeros((N,), tl.float32), tl.zeros((N, 4), tl.float32), tl.zeros((N,), tl.float32)
    for y in range(y0, tl.minimum(y0 + ROWS, height)):
        here, has_above = inside(y, x, height, width), inside(y - 1, x, height, width)
        has_right = inside(y, first + 4, height, width)
        value = load(image + y * image_y + x * image_x, here)
        image_region += tl.sum(value, axis=1)
        current = ()
        row_y, row_x = tl.zeros((N, 4), tl.float32), tl.zeros((N,), tl.float32)
        for t in tl.static_range(T):
            if t < MAPS:
                from_ = logits + 3 * t * logits_c + y * logits_y
                a = hyperbolic_tangent(load(from_ + x * logits_x, here))
                right = hyperbolic_tangent(load(from_ + (first + 4) * logits_x, has_right))
                row_x += squares_along_x(a, right, first, width, N)
                dy = tl.where(has_above, a - above[t], 0.0)
                row_y += dy * dy
                current = current + (a,)
            value = step(value, current[t if MAPS > 1 else 0])
        above = current
        along_y += row_y
        along_x += row_x
        enhanced = tl.sum(value, axis=1)  # 0 outside the image, where image and maps are read as 0
        channel += enhanced
        enhanced_region += enhanced
        # Every fourth row ends a row of regions; an incomplete one at the border is dropped.
        ends = (y + tl.zeros_like(first)) % 4 == 3
        to = c * regions + (b * (height // 4) + y // 4) * (width // 4) + first // 4
        store = ends & (first + 3 < width)
        tl.store(enhanced_regions_ptr + to, enhanced_region / 48, mask=store)
        tl.store(image_regions_ptr + to, image_region / 48, mask=store)
        enhanced_region = tl.where(ends, 0.0, enhanced_region)
        image_region = tl.where(ends, 0.0, image_region)

    sums = sums_ptr + ((b * 3 + c) * tl.num_programs(0) + tile) * 3
    tl.store(sums, tl.sum(channel))
    tl.store(sums + 1, tl.sum(along_y))
    tl.store(sums + 2, tl.sum(along_x))


@triton.jit
def statistics_backward(
    grad_regions_ptr, grad_channels_ptr, grad_tv_ptr, image_ptr, logits_ptr, grad_logits_ptr, height, width,
    image_b, image_c, image_y, image_x, logits_b, logits_c, logits_y, logits_x,
    grad_logits_b, grad_logits_c, grad_logits_y, grad_logits_x,
    T: tl.constexpr, MAPS: tl.constexpr, KEEP: tl.constexpr, ROWS: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    # Grid as in forward; grad_regions_ptr (B, H // 4, W // 4), grad_channels_ptr (B, 3), grad_tv_ptr (2,), contiguous. With
    # KEEP the tanh values of a row and of its neighbours stay in registers from row to row, else they are taken again.
    across = tl.cdiv(width, 4 * N)
    tile, c, b = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    y0, x0 = tile // across * ROWS, tile % across * (4 * N)
    first = x0 + 4 * tl.arange(0, N)
    x = x0 + 4 * tl.arange(0, N)[:, None] + tl.arange(0, 4)[None, :]
    image, logits = image_ptr + b * image_b + c * image_c, logits_ptr + b * logits_b + c * logits_c
    grad_logits = grad_logits_ptr + b * grad_logits_b + c * grad_logits_c
    grad_channel = tl.load(grad_channels_ptr + b * 3 + c).to(tl.float32) / (height.to(tl.float32) * width)
    grad_y, grad_x = 2 * tl.load(grad_tv_ptr).to(tl.float32), 2 * tl.load(grad_tv_ptr + 1).to(tl.float32)
    above, current = (), ()
    for t in tl.static_range(MAPS):
        if KEEP:
            start = logits + 3 * t * logits_c + y0 * logits_y + x * logits_x
            above = above + (hyperbolic_tangent(load(start - logits_y, inside(y0 - 1, x, height, width))),)
            current = current + (hyperbolic_tangent(load(start, inside(y0, x, height, width))),)

    for y in range(y0, tl.minimum(y0 + ROWS, height)):
        here, has_above, has_below = (
            inside(y, x, height, width),
            inside(y - 1, x, height, width),
            inside(y + 1, x, height, width),
        )
        has_left, has_right = inside(y, first - 1, height, width), inside(y, first + 4, height, width)
        value = load(image + y * image_y + x * image_x, here)
        # Pointers walk from map to map: one that is a sum of its own for each map would stay in registers.
        from_, to = logits + y * logits_y, grad_logits + y * grad_logits_y
        maps = ()
        for t in tl.static_range(MAPS):
            if KEEP:
                maps = maps + (current[t],)
            else:
                maps = maps + (hyperbolic_tangent(load(from_ + x * logits_x, here)),)
            from_ += 3 * logits_c
            to += 3 * grad_logits_c
        values = ()
        for t in tl.static_range(T):
            values = values + (value,)
            value = step(value, maps[t if MAPS > 1 else 0])
        region = grad_regions_ptr + (b * (height // 4) + y // 4) * (width // 4) + first // 4
        of_region = load(region, inside(y // 4, first // 4, height // 4, width // 4)) / 48
        grad = grad_channel + of_region[:, None] + tl.zeros((N, 4), tl.float32)
        below = ()
        shared = tl.zeros((N, 4), tl.float32)
        for back in tl.static_range(T):
            value, a = values[T - 1 - back], maps[T - 1 - back if MAPS > 1 else 0]
            grad_map = grad * (value * value - value)
            grad *= 1 + a * (2 * value - 1)
            if MAPS < T:
                shared += grad_map
                grad_map = shared
            if T - 1 - back < MAPS:
                from_ -= 3 * logits_c
                to -= 3 * grad_logits_c
                left = hyperbolic_tangent(load(from_ + (first - 1) * logits_x, has_left))
                right = hyperbolic_tangent(load(from_ + (first + 4) * logits_x, has_right))
                down = hyperbolic_tangent(load(from_ + logits_y + x * logits_x, has_below))
                if KEEP:
                    up = above[T - 1 - back]
                else:
                    up = hyperbolic_tangent(load(from_ - logits_y + x * logits_x, has_above))
                gap_y = tl.where(has_above, a - up, 0.0) + tl.where(has_below, a - down, 0.0)
                gap_x = gaps_along_x(a, left, right, first, width, N)
                grad_logit = (grad_map + grad_y * gap_y + grad_x * gap_x) * (1 - a * a)
                tl.store(to + x * grad_logits_x, grad_logit, mask=here)
                if KEEP:
                    below = (down,) + below
        if KEEP:
            above = current
            current = below


# Three rows of T = 16 maps don't fit into a thread's registers: rows are read from cache again, and a thread has one column.
KEPT_MAPS = 8
WARPS_FOR_MORE = 4


def objective_statistics(
    image: Tensor, logits: Tensor, iterations: int,
    enhanced_regions: Tensor, image_regions: Tensor, channel_means: Tensor, tv_sums: Tensor,
) -> None:  # fmt: skip
    """image (B, 3, H, W), logits (B, 3T or 3, H, W); writes both region means (B, H // 4, W // 4), channel_means (B, 3) and
    tv_sums (2,)."""
    batch, maps, height, width = logits.shape
    tiles = triton.cdiv(height, FORWARD_ROWS) * triton.cdiv(width, 4 * N)
    shares = enhanced_regions.new_empty((2, 3, *enhanced_regions.shape))
    sums = channel_means.new_empty((batch, 3, tiles, 3))
    statistics_forward[tiles, 3, batch](
        image, logits, shares[0], shares[1], sums, height, width, *image.stride(), *logits.stride(),
        T=iterations, MAPS=maps // 3, ROWS=FORWARD_ROWS, N=N, num_warps=WARPS,
    )  # fmt: skip
    enhanced_regions.copy_(shares[0].sum(0))
    image_regions.copy_(shares[1].sum(0))
    totals = sums.double().sum(2)
    channel_means.copy_(totals[:, :, 0] / (height * width))
    tv_sums.copy_(totals[:, :, 1:].sum((0, 1)))


def objective_statistics_backward(
    grad_regions: Tensor, grad_channels: Tensor, grad_tv: Tensor, image: Tensor, logits: Tensor, iterations: int,
    grad_logits: Tensor,
) -> None:  # fmt: skip
    """grad_regions (B, H // 4, W // 4), grad_channels (B, 3), grad_tv (2,), image (B, 3, H, W), logits (B, 3T or 3, H, W);
    writes grad_logits, shaped as logits."""
    batch, maps, height, width = logits.shape
    tiles = triton.cdiv(height, BACKWARD_ROWS) * triton.cdiv(width, 4 * N)
    strides = (*image.stride(), *logits.stride(), *grad_logits.stride())
    keep = maps // 3 <= KEPT_MAPS
    statistics_backward[tiles, 3, batch](
        grad_regions, grad_channels, grad_tv, image, logits, grad_logits, height, width, *strides,
        T=iterations, MAPS=maps // 3, KEEP=keep, ROWS=BACKWARD_ROWS, N=N,
        num_warps=WARPS if keep else WARPS_FOR_MORE,
    )  # fmt: skip
