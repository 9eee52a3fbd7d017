"""Statistics of the objective in Triton: tanh, curve, region means, channel means and squared differences in one pass.

Tensors are (B, C, H, W) with any strides. A program handles a tile of one colour, its image plane and T maps. With
channels_last, a program handles a narrower tile of all three colours, so that cache lines are read once and not for each
colour.
"""

import triton
import triton.language as tl
from torch import Tensor

from zdce.kernels.apply_curve import step
from zdce.kernels.launch import launch
from zdce.kernels.tiles import (
    BACKWARD_ROWS,
    FORWARD_ROWS,
    WARPS,
    N,
    corner,
    gaps_along_x,
    hyperbolic_tangent,
    inside,
    load,
    load_group,
    squares_along_x,
    store_group,
    store_sum,
    sums_of_4,
    tangent_beside,
    tile_columns,
    wide,
)


@triton.jit(do_not_specialize=["enhanced_regions_ptr", "image_regions_ptr", "sums_ptr", "height"])
def statistics_forward(
    image_ptr, logits_ptr, enhanced_regions_ptr, image_regions_ptr, sums_ptr, height, width,
    image_b, image_c, image_y, image_x, logits_b, logits_c, logits_y, logits_x,
    T: tl.constexpr, MAPS: tl.constexpr, GROUP: tl.constexpr, ALL: tl.constexpr, ROWS: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    # Grid (tiles, 3 colours, B); with ALL (tiles, 1, B). A program leaves each region's share of its colour at *_regions_ptr
    # (3, B, H // 4, W // 4) and three sums at sums_ptr (B, 3, tiles, 3): enhanced values, squares along y, along x.
    # MAPS: T, or 1 for a map that all steps share.
    tile, b = tl.program_id(0).to(tl.int64), tl.program_id(2).to(tl.int64)
    y0, x0 = corner(tile, width, ROWS, N if ALL else 4 * N)
    colour, first, x = tile_columns(x0, width, N, ALL)
    image, logits = image_ptr + b * image_b + colour * image_c, logits_ptr + b * logits_b + colour * logits_c
    step_c = 3 * wide(logits_c)  # from a map to the next of its colour
    above = ()
    for t in tl.static_range(0, MAPS, GROUP):
        at = logits + t * step_c + (y0 - 1) * logits_y
        raw = load_group(at, step_c, logits_x, y0 - 1, x0, x, height, width, t, MAPS, GROUP, N)
        for g in tl.static_range(GROUP):
            if t + g < MAPS:
                above = above + (hyperbolic_tangent(raw[g]),)

    regions = tl.num_programs(2) * (height // 4).to(tl.int64) * (width // 4)  # of one colour
    across = (x0 + 4 * tl.arange(0, N // 4)[:, None]) if ALL else first  # a region's first column
    enhanced_region = tl.zeros((N // 4, 4) if ALL else (N,), tl.float32)
    image_region, channel = tl.zeros_like(enhanced_region), tl.zeros_like(enhanced_region)
    along_y, along_x = tl.zeros((N, 4), tl.float32), tl.zeros((N, 4) if ALL else (N,), tl.float32)
    for y in range(y0, tl.minimum(y0 + ROWS, height)):
        here, has_above = inside(y, x, height, width), inside(y - 1, x, height, width)
        value = load(image + y * image_y + x * image_x, here)
        image_region += sums_of_4(value, N, ALL)
        current = ()
        row_y, row_x = tl.zeros_like(along_y), tl.zeros_like(along_x)
        for t in tl.static_range(T):
            if t < MAPS:
                at = logits + t * step_c + y * logits_y
                if t % GROUP == 0:
                    raw = load_group(at, step_c, logits_x, y, x0, x, height, width, t, MAPS, GROUP, N)
                a = hyperbolic_tangent(raw[t % GROUP])
                right = tangent_beside(at, first + (1 if ALL else 4), y, height, width, logits_x)
                row_x += squares_along_x(a, right, first, width, N, ALL)
                dy = tl.where(has_above, a - above[t], 0.0)
                row_y += dy * dy
                current = current + (a,)
            value = step(value, current[t if MAPS > 1 else 0])
        above = current
        along_y += row_y
        along_x += row_x
        enhanced = sums_of_4(value, N, ALL)  # 0 outside the image, where image and maps are read as 0
        channel += enhanced
        enhanced_region += enhanced
        # Every fourth row completes a row of regions; incomplete regions at the border are dropped.
        ends = (y + tl.zeros_like(across)) % 4 == 3
        to = colour * regions + (b * (height // 4) + y // 4) * (width // 4) + across // 4
        keep = ends & (across + 3 < width)
        if ALL:
            keep = keep & (colour < 3)
        tl.store(enhanced_regions_ptr + to, enhanced_region / 48, mask=keep)
        tl.store(image_regions_ptr + to, image_region / 48, mask=keep)
        enhanced_region = tl.where(ends, 0.0, enhanced_region)
        image_region = tl.where(ends, 0.0, image_region)

    sums = sums_ptr + ((b * 3 + colour) * tl.num_programs(0) + tile) * 3
    store_sum(sums, channel, colour, ALL)
    store_sum(sums + 1, along_y, colour, ALL)
    store_sum(sums + 2, along_x, colour, ALL)


@triton.jit(do_not_specialize=["grad_regions_ptr", "grad_channels_ptr", "grad_tv_ptr", "height"])
def statistics_backward(
    grad_regions_ptr, grad_channels_ptr, grad_tv_ptr, image_ptr, logits_ptr, grad_logits_ptr, height, width,
    image_b, image_c, image_y, image_x, logits_b, logits_c, logits_y, logits_x,
    grad_logits_b, grad_logits_c, grad_logits_y, grad_logits_x,
    T: tl.constexpr, MAPS: tl.constexpr, GROUP: tl.constexpr, ALL: tl.constexpr, ROWS: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    # Grid as in forward; grad_regions_ptr (B, H // 4, W // 4), grad_channels_ptr (B, 3), grad_tv_ptr (2,), contiguous.
    # The tanh values of a row and of its neighbours stay in registers from row to row.
    tile, b = tl.program_id(0).to(tl.int64), tl.program_id(2).to(tl.int64)
    y0, x0 = corner(tile, width, ROWS, N if ALL else 4 * N)
    colour, first, x = tile_columns(x0, width, N, ALL)
    image, logits = image_ptr + b * image_b + colour * image_c, logits_ptr + b * logits_b + colour * logits_c
    grad_logits = grad_logits_ptr + b * grad_logits_b + colour * grad_logits_c
    # The fourth slot beside three colours repeats the third; it is not stored.
    grad_channel = tl.load(grad_channels_ptr + b * 3 + tl.minimum(colour, 2)).to(tl.float32) / (height.to(tl.float32) * width)
    grad_y, grad_x = 2 * tl.load(grad_tv_ptr).to(tl.float32), 2 * tl.load(grad_tv_ptr + 1).to(tl.float32)
    step_c, grad_step_c = 3 * wide(logits_c), 3 * wide(grad_logits_c)  # from a map to the next of its colour
    above, current = (), ()
    for t in tl.static_range(0, MAPS, GROUP):
        at = logits + t * step_c + y0 * logits_y
        up = load_group(at - logits_y, step_c, logits_x, y0 - 1, x0, x, height, width, t, MAPS, GROUP, N)
        raw = load_group(at, step_c, logits_x, y0, x0, x, height, width, t, MAPS, GROUP, N)
        for g in tl.static_range(GROUP):
            if t + g < MAPS:
                above, current = above + (hyperbolic_tangent(up[g]),), current + (hyperbolic_tangent(raw[g]),)

    for y in range(y0, tl.minimum(y0 + ROWS, height)):
        here, has_above, has_below = (
            inside(y, x, height, width),
            inside(y - 1, x, height, width),
            inside(y + 1, x, height, width),
        )
        value = load(image + y * image_y + x * image_x, here)
        values = ()
        for t in tl.static_range(T):
            values = values + (value,)
            value = step(value, current[t if MAPS > 1 else 0])
        # One pointer moves from map to map: a separate address for each map would occupy registers.
        at = logits + y * logits_y + MAPS * step_c
        to = grad_logits + y * grad_logits_y + MAPS * grad_step_c
        region = grad_regions_ptr + (b * (height // 4) + y // 4) * (width // 4) + first // 4
        of_region = load(region, inside(y // 4, first // 4, height // 4, width // 4)) / 48
        grad = grad_channel + (of_region if ALL else of_region[:, None]) + tl.zeros((N, 4), tl.float32)
        below, pending = (), ()
        shared = tl.zeros((N, 4), tl.float32)
        for t in tl.static_range(T - 1, -1, -1):
            if t < MAPS:
                at -= step_c
                to -= grad_step_c
                # The last map of a group comes first; it loads the whole group.
                if t % GROUP == GROUP - 1 or t == MAPS - 1:
                    group = at - t % GROUP * step_c
                    down = load_group(group + logits_y, step_c, logits_x, y + 1, x0, x, height, width, t, MAPS, GROUP, N)
            a = current[t if MAPS > 1 else 0]
            value = values[t]
            grad_map = grad * (value * value - value)
            grad *= 1 + a * (2 * value - 1)
            if MAPS < T:
                shared += grad_map
                grad_map = shared
            if t < MAPS:
                left = tangent_beside(at, first - 1, y, height, width, logits_x)
                right = tangent_beside(at, first + (1 if ALL else 4), y, height, width, logits_x)
                lower = hyperbolic_tangent(down[t % GROUP])
                gap_y = tl.where(has_above, a - above[t], 0.0) + tl.where(has_below, a - lower, 0.0)
                gap_x = gaps_along_x(a, left, right, first, width, N, ALL)
                pending = ((grad_map + grad_y * gap_y + grad_x * gap_x) * (1 - a * a),) + pending
                if t % GROUP == 0:
                    store_group(to, grad_step_c, grad_logits_x, y, x0, x, height, width, pending, t, MAPS, GROUP, N)
                    pending = ()
                below = (lower,) + below
        above = current
        current = below


# With more maps, three rows of 4 columns do not fit into a thread's registers: four warps share a tile, with one column per
# thread. The same applies to tiles of all three colours, in which neighbouring columns allow no wider access.
MOST_MAPS = 8
WARPS_FOR_MORE = 4


def _tiling(logits: Tensor, rows: int) -> dict[str, int]:
    """Constants of a program's tile on logits (B, 3T or 3, H, W), and its warps; `rows` is for tiles of one colour."""
    maps, together = logits.shape[1] // 3, logits.stride(1) < logits.stride(3)
    warps = WARPS_FOR_MORE if maps > MOST_MAPS or together else WARPS
    # Number of maps that make 16 bytes for the columns of a thread.
    group = 1 if maps == 1 or together else 4 * warps // logits.element_size()
    rows = BACKWARD_ROWS if together else rows
    return {"MAPS": maps, "GROUP": group, "ALL": together, "ROWS": rows, "N": N, "num_warps": warps}


def _grid(logits: Tensor, tiling: dict[str, int]) -> tuple[int, int, int]:
    batch, _, height, width = logits.shape
    columns, colours = (N, 1) if tiling["ALL"] else (4 * N, 3)
    return triton.cdiv(height, tiling["ROWS"]) * triton.cdiv(width, columns), colours, batch


def objective_statistics(
    image: Tensor, logits: Tensor, iterations: int,
    enhanced_regions: Tensor, image_regions: Tensor, channel_means: Tensor, tv_sums: Tensor,
) -> None:  # fmt: skip
    """image (B, 3, H, W), logits (B, 3T or 3, H, W); writes both region means (B, H // 4, W // 4), channel_means (B, 3) and
    tv_sums (2,)."""
    batch, _, height, width = logits.shape
    tiling = _tiling(logits, FORWARD_ROWS)
    grid = _grid(logits, tiling)
    shares = enhanced_regions.new_empty((2, 3, *enhanced_regions.shape))
    sums = channel_means.new_empty((batch, 3, grid[0], 3))
    launch(
        statistics_forward, grid,
        image, logits, shares[0], shares[1], sums, height, width, *image.stride(), *logits.stride(),
        T=iterations, **tiling,
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
    height, width = logits.shape[2:]
    tiling = _tiling(logits, BACKWARD_ROWS)
    launch(
        statistics_backward, _grid(logits, tiling),
        grad_regions, grad_channels, grad_tv, image, logits, grad_logits, height, width,
        *image.stride(), *logits.stride(), *grad_logits.stride(),
        T=iterations, **tiling,
    )  # fmt: skip
