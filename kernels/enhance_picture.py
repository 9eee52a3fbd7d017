"""enhance_picture in Triton: everything after the last convolution, from logits or maps to a picture, in one kernel.

A program handles ROWS x COLUMNS pixels between the same two rows of the maps, (C, h, w) with any strides. For each column the
four samples are loaded, converted to maps (tanh, strength) and interpolated along x once, for all rows of the tile. Guided
maps, of two channels, are multiplied with the pixel's luma after that.
"""

import triton
import triton.language as tl
from torch import Tensor

from zdce.interleaved import WHITE
from zdce.kernels.device import clamped, device_function, hyperbolic_tangent, load, luma, step, wide
from zdce.kernels.launch import launch


@device_function
def map_values(pointers, mask, strength, GUIDED: tl.constexpr, LOGITS: tl.constexpr):
    """Values that are interpolated: coefficients of guided maps, or maps for the curve: the tanh of logits, times the strength,
    clamped to [-1, 1]."""
    a = load(pointers, mask)
    if LOGITS:
        a = hyperbolic_tangent(a)
    if not GUIDED:
        a = clamped(a * strength, -1.0, 1.0)
    return a


@device_function
def sampled(
    plane, upper, lower, left, right, weight_x, weight_y, mask, strength,
    GUIDED: tl.constexpr, INTERPOLATED: tl.constexpr, LOGITS: tl.constexpr,
):  # fmt: skip
    """A plane's values (ROWS, COLUMNS) between its rows `upper` and `lower` and its columns `left` and `right`; or (1, COLUMNS)
    of `upper` and `left` alone."""
    above = map_values(plane + upper + left, mask, strength, GUIDED, LOGITS)
    if INTERPOLATED:
        above += weight_x * (map_values(plane + upper + right, mask, strength, GUIDED, LOGITS) - above)
        below = map_values(plane + lower + left, mask, strength, GUIDED, LOGITS)
        below += weight_x * (map_values(plane + lower + right, mask, strength, GUIDED, LOGITS) - below)
        values = above[None, :] + weight_y[:, None] * (below - above)[None, :]
    else:
        values = above[None, :]
    return values


@device_function
def fraction(pointers, mask, TOP: tl.constexpr):
    """Colours of pixels, as fractions of white."""
    return tl.load(pointers, mask=mask, other=0).to(tl.float32) / TOP


# Only rows of maps are read with wide accesses; other sizes are not specialised.
@triton.jit(
    do_not_specialize=[
        "picture_ptr", "enhanced_ptr", "height", "maps_height", "maps_width", "picture_y", "enhanced_y",
        "factor_y", "offset_y", "divisor_y", "factor_x", "offset_x", "divisor_x", "tiles", "strength_ptr",
    ]
)  # fmt: skip
def picture_forward(
    picture_ptr, maps_ptr, enhanced_ptr, height, width, maps_height, maps_width, picture_y, enhanced_y, maps_c, maps_y, maps_x,
    factor_y, offset_y, divisor_y, factor_x, offset_x, divisor_x, tiles, strength, strength_ptr, TOP: tl.constexpr,
    T: tl.constexpr, SHARED: tl.constexpr, GUIDED: tl.constexpr, INTERPOLATED: tl.constexpr, LOGITS: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    # Grid (blocks of columns x `tiles` for each band of rows). Row y samples the maps at (y factor_y + offset_y) / divisor_y,
    # and band b has the rows from b to b + 1 there; the first, -1, is what the upper border clamps. Columns likewise.
    # The strength is multiplied with that at strength_ptr, unless it is None.
    if strength_ptr is not None:
        strength *= tl.load(strength_ptr)
    blocks = tl.cdiv(width, COLUMNS)
    tile = tl.program_id(0) // blocks
    band = (tile // tiles).to(tl.int64) - 1
    begin = tl.maximum((divisor_y * band - offset_y + factor_y - 1) // factor_y, 0)
    end = tl.maximum((divisor_y * (band + 1) - offset_y + factor_y - 1) // factor_y, 0)
    y = begin + tile % tiles * ROWS + tl.arange(0, ROWS)
    x = (tl.program_id(0) % blocks).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    inside = ((y < end) & (y < height))[:, None] & (x < width)[None, :]
    upper, lower = tl.maximum(band, 0) * maps_y, tl.minimum(band + 1, maps_height - 1) * maps_y
    if INTERPOLATED:
        at = tl.maximum(x * factor_x + offset_x, 0)
        left = tl.minimum(at // divisor_x, maps_width - 1)
        right = tl.minimum(left + 1, maps_width - 1) * maps_x
        left = left * maps_x
        weight_x = (at % divisor_x).to(tl.float32) / divisor_x
        weight_y = (y * factor_y + offset_y - divisor_y * band).to(tl.float32) / divisor_y
    else:
        left = x * maps_x  # shows the compiler that pixels are neighbours
        right, weight_x, weight_y = left, 0.0, 0.0
    valid, maps_c = x < width, wide(maps_c)
    if GUIDED:
        maps = maps_ptr
        a = sampled(maps, upper, lower, left, right, weight_x, weight_y, valid, strength, GUIDED, INTERPOLATED, LOGITS)
        own = picture_ptr + y[:, None] * picture_y + 3 * x[None, :]
        a *= luma((fraction(own, inside, TOP), fraction(own + 1, inside, TOP), fraction(own + 2, inside, TOP)))
        maps += maps_c
        a += sampled(maps, upper, lower, left, right, weight_x, weight_y, valid, strength, GUIDED, INTERPOLATED, LOGITS)
        a = clamped(strength * clamped(a, -1.0, 0.0), -1.0, 1.0)
    for c in tl.static_range(3):
        v = fraction(picture_ptr + y[:, None] * picture_y + 3 * x[None, :] + c, inside, TOP)
        for t in tl.static_range(T):
            if not GUIDED and (t == 0 or not SHARED):
                maps = maps_ptr + (c if SHARED else 3 * t + c) * maps_c
                a = sampled(maps, upper, lower, left, right, weight_x, weight_y, valid, strength, GUIDED, INTERPOLATED, LOGITS)
            v = step(v, a)
        if TOP > 1:
            v = tl.floor(v * TOP + 0.5).to(tl.int32)
        tl.store(enhanced_ptr + y[:, None] * enhanced_y + 3 * x[None, :] + c, v, mask=inside)


# Four rows share the samples of their columns, and the common scales 4, 8 and 12 are multiples of four; 8 pixels per thread.
WARPS = 4
MOST_ROWS = 4
PIXELS = 1024


def enhance_picture(
    picture: Tensor,
    maps: Tensor,
    iterations: int,
    scale: int,
    align_corners: bool,
    strength: float,
    logits: bool,
    factor: Tensor | None,
    enhanced: Tensor,
) -> None:
    """picture (H, W, 3), maps (1, 3T, 3 or 2, ceil(H / scale), ceil(W / scale)), factor of the strength (one number or None);
    writes enhanced (H, W, 3)."""
    height, width, _ = picture.shape
    maps_height, maps_width = maps.shape[2:]
    down, across = _sampling(height, maps_height, scale, align_corners), _sampling(width, maps_width, scale, align_corners)
    band = -(-down[2] // down[0])
    rows = min(MOST_ROWS, triton.next_power_of_2(band))
    tiles = triton.cdiv(band, rows)
    columns = PIXELS // rows
    launch(
        picture_forward, (triton.cdiv(width, columns) * (maps_height + 1) * tiles,),
        picture, maps, enhanced, height, width, maps_height, maps_width, picture.stride(0), enhanced.stride(0),
        *maps.stride()[1:], *down, *across, tiles, strength, factor, TOP=WHITE[picture.dtype], T=iterations,
        SHARED=maps.shape[1] == 3,
        GUIDED=maps.shape[1] == 2, INTERPOLATED=scale > 1, LOGITS=logits, ROWS=rows, COLUMNS=columns, num_warps=WARPS,
    )  # fmt: skip


def _sampling(pixels: int, maps: int, scale: int, align_corners: bool) -> tuple[int, int, int]:
    """Factor, offset and divisor of a pixel's sample position: integers, so that it is exact."""
    if not align_corners:
        return 2, 1 - scale, 2 * scale
    return (maps - 1, 0, pixels - 1) if maps > 1 else (1, 0, pixels)
