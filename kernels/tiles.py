"""Shared parts of kernels that need neighbouring rows: tiles and their loads, differences, sums in a fixed order.

A thread has four neighbouring columns of a plane, (N, 4) in total: one 16-byte access in float32, differences along x that need
another thread for only one column, and complete 4 x 4 regions. With ALL, a tile is N pixels wide, and (N, 4) are its pixels and
their three colours with an unused fourth slot: three neighbouring values are 12 bytes, which allow no access wider than 4
bytes, and the columns beside the tile are loaded with all colours.
"""

import triton.language as tl

from zdce.kernels.device import device_function, hyperbolic_tangent, load


@device_function
def inside(y, x, height, width):
    # The row's index is a tensor like the columns': the interpreter can't broadcast the comparison of a scalar.
    rows = y + tl.zeros_like(x)
    return (rows >= 0) & (rows < height) & (x >= 0) & (x < width)


@device_function
def columns(a, N: tl.constexpr):
    """The four columns of an (N, 4) tile."""
    even, odd = tl.split(tl.reshape(a, (N, 2, 2)))
    a0, a2 = tl.split(even)
    a1, a3 = tl.split(odd)
    return a0, a1, a2, a3


@device_function
def tile_of(a0, a1, a2, a3, N: tl.constexpr):
    """The (N, 4) tile of four columns."""
    return tl.reshape(tl.join(tl.join(a0, a2), tl.join(a1, a3)), (N, 4))


@device_function
def corner(tile, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """The first row and column of a tile, 64-bit as its number."""
    across = tl.cdiv(width, COLUMNS)
    return tile // across * ROWS, tile % across * COLUMNS


@device_function
def tile_columns(x0, width, N: tl.constexpr, ALL: tl.constexpr):
    """The colour, the threads' first columns and the columns (N, 4); with ALL colours (1, 4) and twice the columns, beyond
    the image in the idle slot and on both sides of it."""
    if ALL:
        colour = tl.arange(0, 4)[None, :].to(tl.int64)
        x = tl.where(colour < 3, x0 + tl.arange(0, N)[:, None], width + 1)
        first = x
    else:
        colour = tl.program_id(1).to(tl.int64)
        first = x0 + 4 * tl.arange(0, N)
        x = x0 + 4 * tl.arange(0, N)[:, None] + tl.arange(0, 4)[None, :]
    return colour, first, x


@device_function
def load_group(
    at, step, stride, y, x0, x, height, width,
    t: tl.constexpr, MAPS: tl.constexpr, GROUP: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """Row y of the GROUP maps that t is one of, `step` elements apart: (N, 4) each, as it lies in memory but float32.

    Several at once are loaded 16 bytes a thread, of one map, and change hands: each thread wants fewer columns of all of them.
    """
    maps = ()
    if GROUP == 1:
        maps = (load(at + x * stride, inside(y, x, height, width)),)
    else:
        map_, columns_ = tl.arange(0, GROUP)[:, None], x0 + tl.arange(0, 4 * N)[None, :]
        here = inside(y, columns_, height, width) & (map_ < MAPS - t // GROUP * GROUP)
        together = tl.permute(tl.load(at + map_ * step + columns_ * stride, mask=here, other=0.0), (1, 0))
        if GROUP == 2:
            rows = tl.split(together)
        elif GROUP == 4:
            rows = columns(together, 4 * N)
        else:
            low, high = tl.split(tl.permute(tl.reshape(together, (4 * N, 2, 4)), (0, 2, 1)))
            rows = columns(low, 4 * N) + columns(high, 4 * N)
        for g in tl.static_range(GROUP):
            maps = maps + (tl.reshape(rows[g], (N, 4)).to(tl.float32),)
    return maps


@device_function
def store_group(
    to, step, stride, y, x0, x, height, width, maps,
    t: tl.constexpr, MAPS: tl.constexpr, GROUP: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """The reverse of load_group; t is the group's first, and `maps` are as many as there are."""
    if GROUP == 1:
        tl.store(to + x * stride, maps[0], mask=inside(y, x, height, width))
    else:
        map_, columns_ = tl.arange(0, GROUP)[:, None], x0 + tl.arange(0, 4 * N)[None, :]
        rows = ()
        for g in tl.static_range(GROUP):
            rows = rows + (tl.reshape(maps[g if t + g < MAPS else 0].to(to.dtype.element_ty), (4 * N,)),)
        if GROUP == 2:
            together = tl.join(rows[0], rows[1])
        else:
            together = tile_of(rows[0], rows[1], rows[2], rows[3], 4 * N)
        if GROUP == 8:
            high = tile_of(rows[4], rows[5], rows[6], rows[7], 4 * N)
            together = tl.reshape(tl.permute(tl.join(together, high), (0, 2, 1)), (4 * N, 8))
        here = inside(y, columns_, height, width) & (map_ < MAPS - t // GROUP * GROUP)
        tl.store(to + map_ * step + columns_ * stride, tl.permute(together, (1, 0)), mask=here)


@device_function
def tangent_beside(at, column, y, height, width, stride):
    return hyperbolic_tangent(load(at + column * stride, inside(y, column, height, width)))


@device_function
def sums_of_4(value, N: tl.constexpr, ALL: tl.constexpr):
    """Of four neighbouring pixels, (N,); with ALL (N / 4, 4), of every colour."""
    return tl.sum(tl.reshape(value, (N // 4, 4, 4)), axis=1) if ALL else tl.sum(value, axis=1)


@device_function
def store_sum(to, values, colour, ALL: tl.constexpr):
    """The sum of a program's values; with ALL of each colour's, at `to` (1, 4)."""
    if ALL:
        tl.store(to, tl.sum(values, axis=0)[None, :], mask=colour < 3)
    else:
        tl.store(to, tl.sum(values))


@device_function
def squares_along_x(a, right, x, width, N: tl.constexpr, ALL: tl.constexpr):
    """Squared differences (N,) of neighbouring columns; `right` is the column after the fourth, `x` the index of the first.
    With ALL (N, 4), of every colour."""
    if ALL:
        dx = tl.where(x + 1 < width, right - a, 0.0)
        squares = dx * dx
    else:
        a0, a1, a2, a3 = columns(a, N)
        d0 = tl.where(x + 1 < width, a1 - a0, 0.0)
        d1 = tl.where(x + 2 < width, a2 - a1, 0.0)
        d2 = tl.where(x + 3 < width, a3 - a2, 0.0)
        d3 = tl.where(x + 4 < width, right - a3, 0.0)
        squares = (d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3)
    return squares


@device_function
def gaps_along_x(a, left, right, x, width, N: tl.constexpr, ALL: tl.constexpr):
    """Sum of a value's differences to its two neighbours, (N, 4); a neighbour outside the image counts as equal."""
    if ALL:
        gaps = (a - tl.where(x > 0, left, a)) + (a - tl.where(x + 1 < width, right, a))
    else:
        a0, a1, a2, a3 = columns(a, N)
        left = tl.where(x > 0, left, a0)
        g0 = (a0 - left) + (a0 - tl.where(x + 1 < width, a1, a0))
        g1 = (a1 - a0) + (a1 - tl.where(x + 2 < width, a2, a1))
        g2 = (a2 - a1) + (a2 - tl.where(x + 3 < width, a3, a2))
        g3 = (a3 - a2) + (a3 - tl.where(x + 4 < width, right, a3))
        gaps = tile_of(g0, g1, g2, g3, N)
    return gaps


# One warp a program and 32 x 4 columns; rows follow one another in a loop that keeps the row above in registers. Rows and
# columns beside the tile are read as well: forward 17 x 129 values for 16 x 128 (1.07), backward 34 x 130 for 32 x 128 (1.08),
# and with ALL, where forward has twice the rows, 33 x 33 (1.06) and 34 x 34 (1.13) for 32 x 32: of all bytes, writes and image
# included, at most 1.10.
WARPS = 1
N = 32
FORWARD_ROWS = 16
BACKWARD_ROWS = 32
