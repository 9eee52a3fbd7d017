"""The objective in Triton: tanh, curve, region means, channel means and squared differences in one pass, and two small kernels
that make the scalars of them; backward is one small kernel and one pass.

Tensors are (B, C, H, W) with any strides. A program handles a tile of one colour, its image plane and T maps. With
channels_last, a program handles a narrower tile of all three colours, so that cache lines are read once and not for each
colour.
"""

import math

import triton
import triton.language as tl
from torch import Tensor

from zdce.kernels.device import device_function, hyperbolic_tangent, load, step, wide
from zdce.kernels.launch import launch
from zdce.kernels.tiles import (
    BACKWARD_ROWS,
    FORWARD_ROWS,
    WARPS,
    N,
    corner,
    gaps_along_x,
    inside,
    load_group,
    squares_along_x,
    store_group,
    store_sum,
    sums_of_4,
    tangent_beside,
    tile_columns,
)


@device_function
def store_regions(
    region_shares_ptr, gap_shares_ptr, enhanced, given, b, colour, y, across, height, width, ALL: tl.constexpr
):  # fmt: skip
    """Every fourth row y completes a row of regions, of which a colour's shares are stored: `enhanced` and `given` are the sums
    of both images so far, `across` the regions' first columns. Returns the sums that the next row goes on with."""
    regions = tl.num_programs(2) * (height // 4).to(tl.int64) * (width // 4)  # of one colour
    ends = (y + tl.zeros_like(across)) % 4 == 3
    to = colour * regions + (b * (height // 4) + y // 4) * (width // 4) + across // 4
    keep = ends & (across + 3 < width)  # incomplete regions at the border are dropped
    if ALL:
        keep = keep & (colour < 3)
    tl.store(region_shares_ptr + to, enhanced / 48, mask=keep)
    tl.store(gap_shares_ptr + to, (enhanced - given) / 48, mask=keep)
    return tl.where(ends, 0.0, enhanced), tl.where(ends, 0.0, given)


@triton.jit(do_not_specialize=["region_shares_ptr", "gap_shares_ptr", "sums_ptr", "height"])
def statistics_forward(
    image_ptr, logits_ptr, region_shares_ptr, gap_shares_ptr, sums_ptr, height, width,
    image_b, image_c, image_y, image_x, logits_b, logits_c, logits_y, logits_x,
    T: tl.constexpr, MAPS: tl.constexpr, GROUP: tl.constexpr, ALL: tl.constexpr, ROWS: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    # Grid (tiles, 3 colours, B); with ALL (tiles, 1, B). A program leaves its colour's share of each region's mean and gap at
    # *_shares_ptr (3, B, H // 4, W // 4), and three sums at sums_ptr (B, 3, tiles, 3): enhanced values, squares along y and x.
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
        enhanced_region, image_region = store_regions(
            region_shares_ptr, gap_shares_ptr, enhanced_region, image_region, b, colour, y, across, height, width, ALL
        )

    sums = sums_ptr + ((b * 3 + colour) * tl.num_programs(0) + tile) * 3
    store_sum(sums, channel, colour, ALL)
    store_sum(sums + 1, along_y, colour, ALL)
    store_sum(sums + 2, along_x, colour, ALL)


@device_function
def square_tile(program, down, across, SQUARES: tl.constexpr):
    """The image of a program's squares of 4 x 4 regions, and rows and columns of their regions (SQUARES, 16)."""
    blocks, bands = tl.cdiv(across, 4 * SQUARES), tl.cdiv(down, 4)
    region = tl.arange(0, 16)[None, :]
    y = program // blocks % bands * 4 + region // 4
    x = program % blocks * (4 * SQUARES) + 4 * tl.arange(0, SQUARES)[:, None] + region % 4
    return program // blocks // bands, y + tl.zeros_like(x), x


@device_function
def of_three(shares, at, here, regions):
    return load(shares + at, here) + load(shares + regions + at, here) + load(shares + 2 * regions + at, here)


@device_function
def complete_squares(y, x, down, across):
    """Whether all regions of each square exist, (SQUARES,)."""
    return tl.min(inside(y, x, down, across).to(tl.int32), axis=1) > 0


@triton.jit(do_not_specialize=["tiles", "batch", "down", "across", "pixels"])
def terms_shares(
    region_shares_ptr, gap_shares_ptr, sums_ptr, enhanced_regions_ptr, gaps_ptr, channel_means_ptr, partials_ptr,
    tiles, batch, down, across, pixels, target, SQUARES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    # Grid: (3 B + programs for the squares). The first 3 B each add up the tiles' sums of an image's colour, and leave the
    # squared differences along y and x at partials_ptr (programs, 2). The others write enhanced_regions_ptr and gaps_ptr
    # (B, down, across), and leave their share of the squares in the spatial and the exposure term.
    program = tl.program_id(0).to(tl.int64)
    partials = partials_ptr + 2 * program
    if program < 3 * batch:
        from_ = sums_ptr + program * tiles * 3
        channel = tl.zeros((BLOCK,), tl.float64)
        along_y, along_x = tl.zeros_like(channel), tl.zeros_like(channel)
        for begin in range(0, tiles, BLOCK):
            tile = begin + tl.arange(0, BLOCK)
            channel += load(from_ + 3 * tile, tile < tiles)
            along_y += load(from_ + 3 * tile + 1, tile < tiles)
            along_x += load(from_ + 3 * tile + 2, tile < tiles)
        tl.store(channel_means_ptr + program, tl.sum(channel) / pixels)
        tl.store(partials, tl.sum(along_y))
        tl.store(partials + 1, tl.sum(along_x))
    else:
        b, y, x = square_tile(program - 3 * batch, down, across, SQUARES)
        regions = batch.to(tl.int64) * down * across
        at, here = (b * down + y) * across + x, inside(y, x, down, across)
        enhanced, gap = of_three(region_shares_ptr, at, here, regions), of_three(gap_shares_ptr, at, here, regions)
        tl.store(enhanced_regions_ptr + at, enhanced, mask=here)
        tl.store(gaps_ptr + at, gap, mask=here)
        # Beyond the border there are zeros. A pair inside counts twice, one at the border once.
        has_right, has_below = inside(y, x + 1, down, across), inside(y + 1, x, down, across)
        dx, dy = (
            gap - of_three(gap_shares_ptr, at + 1, here & has_right, regions),
            gap - of_three(gap_shares_ptr, at + across, here & has_below, regions),
        )
        squares = tl.where(has_right, 2.0, 1.0) * dx * dx + tl.where(has_below, 2.0, 1.0) * dy * dy
        first = tl.where(x == 0, 1.0, 0.0) + tl.where(y == 0, 1.0, 0.0)
        tl.store(partials, tl.sum(tl.where(here, squares + first * gap * gap, 0.0)))
        off = tl.where(complete_squares(y, x, down, across), tl.sum(enhanced, axis=1) / 16 - target, 0.0)
        tl.store(partials + 1, tl.sum(off * off))


@device_function
def sums_of_pairs(pairs, number, BLOCK: tl.constexpr):
    """Both sums of `number` pairs."""
    first, second = tl.zeros((BLOCK,), tl.float64), tl.zeros((BLOCK,), tl.float64)
    for begin in range(0, number, BLOCK):
        i = begin + tl.arange(0, BLOCK)
        first += load(pairs + 2 * i, i < number)
        second += load(pairs + 2 * i + 1, i < number)
    return tl.sum(first), tl.sum(second)


@triton.jit(do_not_specialize=["programs", "batch"])
def terms_forward(
    partials_ptr, channel_means_ptr, total_ptr, illumination_ptr, spatial_ptr, color_ptr, exposure_ptr, programs, batch,
    along_y, along_x, of_spatial, of_color, of_exposure, illumination_weight, spatial_weight, color_weight, exposure_weight,
    BLOCK: tl.constexpr,
):  # fmt: skip
    # One program; what terms_shares left, of `programs` programs. of_*: the factors that make means of sums.
    tv_y, tv_x = sums_of_pairs(partials_ptr, 3 * batch, BLOCK)
    contrast, off = sums_of_pairs(partials_ptr + 6 * batch, programs - 3 * batch, BLOCK)
    colors = tl.zeros((BLOCK,), tl.float64)
    for begin in range(0, batch, BLOCK):
        b = begin + tl.arange(0, BLOCK)
        mean = channel_means_ptr + 3 * b
        red, green, blue = load(mean, b < batch), load(mean + 1, b < batch), load(mean + 2, b < batch)
        colors += (red - green) * (red - green) + (green - blue) * (green - blue) + (blue - red) * (blue - red)
    illumination, spatial = along_y * tv_y + along_x * tv_x, of_spatial * contrast
    color, exposure = of_color * tl.sum(colors), of_exposure * off
    tl.store(illumination_ptr, illumination)
    tl.store(spatial_ptr, spatial)
    tl.store(color_ptr, color)
    tl.store(exposure_ptr, exposure)
    tl.store(
        total_ptr,
        illumination_weight * illumination + spatial_weight * spatial + color_weight * color + exposure_weight * exposure,
    )


@device_function
def gradient(factor, weight, total_ptr, own_ptr):
    """`factor` times the gradient of a term, which has its own and a share of the total's; None is 0."""
    grad = factor * 0.0
    if total_ptr is not None:
        grad += factor * weight * tl.load(total_ptr)
    if own_ptr is not None:
        grad += factor * tl.load(own_ptr)
    return grad


@device_function
def pull(gap, at, distance, here, there):
    """The difference of a gap to its neighbour, where there is one; else half of the gap, as a pair beyond the border counts
    once and not twice."""
    return tl.where(there, 1.0, 0.5) * (gap - load(at + distance, here & there))


@triton.jit(do_not_specialize=["batch", "down", "across"])
def terms_backward(
    grad_total_ptr, grad_illumination_ptr, grad_spatial_ptr, grad_color_ptr, grad_exposure_ptr,
    enhanced_regions_ptr, gaps_ptr, channel_means_ptr, grad_regions_ptr, grad_channels_ptr, grad_tv_ptr, batch, down, across,
    along_y, along_x, of_spatial, of_color, of_exposure, illumination_weight, spatial_weight, color_weight, exposure_weight,
    target, SQUARES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    # Grid: (1 + programs for the squares). The first writes grad_channels_ptr (B, 3) and grad_tv_ptr (2,), the others
    # grad_regions_ptr (B, down, across). of_*: the factors of the terms' derivatives.
    program = tl.program_id(0).to(tl.int64)
    if program == 0:
        grad = gradient(of_color, color_weight, grad_total_ptr, grad_color_ptr)
        for begin in range(0, 3 * batch, BLOCK):
            i = begin + tl.arange(0, BLOCK)
            known, color = i < 3 * batch, channel_means_ptr + i // 3 * 3
            mean = load(channel_means_ptr + i, known)
            slope = (mean - load(color + (i + 1) % 3, known)) + (mean - load(color + (i + 2) % 3, known))
            tl.store(grad_channels_ptr + i, grad * slope, mask=known)
        tl.store(grad_tv_ptr, gradient(along_y, illumination_weight, grad_total_ptr, grad_illumination_ptr))
        tl.store(grad_tv_ptr + 1, gradient(along_x, illumination_weight, grad_total_ptr, grad_illumination_ptr))
    else:
        b, y, x = square_tile(program - 1, down, across, SQUARES)
        at, here = (b * down + y) * across + x, inside(y, x, down, across)
        gap = load(gaps_ptr + at, here)
        pulls = pull(gap, gaps_ptr + at, 1, here, inside(y, x + 1, down, across))
        pulls += pull(gap, gaps_ptr + at, -1, here, x > 0)
        pulls += pull(gap, gaps_ptr + at, across, here, inside(y + 1, x, down, across))
        pulls += pull(gap, gaps_ptr + at, -across, here, y > 0)
        slopes = gradient(of_spatial, spatial_weight, grad_total_ptr, grad_spatial_ptr) * pulls
        off = tl.sum(load(enhanced_regions_ptr + at, here), axis=1) / 16 - target
        off = tl.where(complete_squares(y, x, down, across), off, 0.0)
        slopes += gradient(of_exposure, exposure_weight, grad_total_ptr, grad_exposure_ptr) * off[:, None]
        tl.store(grad_regions_ptr + at, slopes, mask=here)


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


# Squares of 4 x 4 regions that a program adds up, 1024 regions; and how many sums it loads at once.
SQUARES = 64
BLOCK = 1024


def _square_programs(regions: Tensor) -> int:
    batch, down, across = regions.shape
    return batch * triton.cdiv(down, 4) * triton.cdiv(across, 4 * SQUARES)


def _counts(regions: Tensor) -> tuple[int, int]:
    """Numbers of regions and of whole squares in ``regions`` (B, h, w), at least 1."""
    batch, down, across = regions.shape
    return max(batch * down * across, 1), max(batch * (down // 4) * (across // 4), 1)


def objective(
    image: Tensor, logits: Tensor, iterations: int, along_y: float, along_x: float,
    illumination: float, spatial: float, color: float, exposure: float, target: float,
    total: Tensor, illumination_term: Tensor, spatial_term: Tensor, color_term: Tensor, exposure_term: Tensor,
    enhanced_regions: Tensor, gaps: Tensor, channel_means: Tensor,
) -> None:  # fmt: skip
    """image (B, 3, H, W), logits (B, 3T or 3, H, W); writes the total and its terms (), enhanced_regions and gaps
    (B, H // 4, W // 4), and channel_means (B, 3)."""
    batch, _, height, width = logits.shape
    tiling = _tiling(logits, FORWARD_ROWS)
    grid = _grid(logits, tiling)
    shares = [gaps.new_empty((3, *gaps.shape)) for _ in range(2)]
    sums = gaps.new_empty((batch, 3, grid[0], 3))
    launch(
        statistics_forward, grid,
        image, logits, *shares, sums, height, width, *image.stride(), *logits.stride(),
        T=iterations, **tiling,
    )  # fmt: skip
    programs = 3 * batch + _square_programs(gaps)
    partials = gaps.new_empty((programs, 2))
    launch(
        terms_shares, (programs,),
        *shares, sums, enhanced_regions, gaps, channel_means, partials,
        grid[0], batch, *gaps.shape[1:], height * width, target, SQUARES=SQUARES, BLOCK=BLOCK,
    )  # fmt: skip
    regions, squares = _counts(gaps)
    launch(
        terms_forward, (1,),
        partials, channel_means, total, illumination_term, spatial_term, color_term, exposure_term, programs, batch,
        along_y, along_x, 1 / regions, 1 / (math.sqrt(2) * batch), 1 / squares, illumination, spatial, color, exposure,
        BLOCK=BLOCK,
    )  # fmt: skip


def objective_backward(
    grad_total: Tensor | None, grad_illumination: Tensor | None, grad_spatial: Tensor | None, grad_color: Tensor | None,
    grad_exposure: Tensor | None, enhanced_regions: Tensor, gaps: Tensor, channel_means: Tensor, image: Tensor, logits: Tensor,
    iterations: int, along_y: float, along_x: float,
    illumination: float, spatial: float, color: float, exposure: float, target: float, grad_logits: Tensor,
) -> None:  # fmt: skip
    """Gradients of the total and its terms (), what forward left, image (B, 3, H, W), logits (B, 3T or 3, H, W); writes
    grad_logits, shaped as logits."""
    batch, _, height, width = logits.shape
    grad_regions, grad_channels, grad_tv = (gaps.new_empty(shape) for shape in (gaps.shape, (batch, 3), (2,)))
    regions, squares = _counts(gaps)
    launch(
        terms_backward, (1 + _square_programs(gaps),),
        grad_total, grad_illumination, grad_spatial, grad_color, grad_exposure, enhanced_regions, gaps, channel_means,
        grad_regions, grad_channels, grad_tv, batch, *gaps.shape[1:],
        along_y, along_x, 4 / regions, math.sqrt(2) / batch, 2 / (16 * squares), illumination, spatial, color, exposure, target,
        SQUARES=SQUARES, BLOCK=BLOCK,
    )  # fmt: skip
    tiling = _tiling(logits, BACKWARD_ROWS)
    launch(
        statistics_backward, _grid(logits, tiling),
        grad_regions, grad_channels, grad_tv, image, logits, grad_logits, height, width,
        *image.stride(), *logits.stride(), *grad_logits.stride(),
        T=iterations, **tiling,
    )  # fmt: skip
