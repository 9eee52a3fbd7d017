"""picture_noise in Triton: details of each block, then of the flattest of them, so that nothing waits for the host."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from zdce import noise_constants
from zdce.interleaved import WHITE
from zdce.kernels.device import constant
from zdce.kernels.launch import launch

BLOCK_SIDE = constant(noise_constants.BLOCK_SIDE)
DARKEST = constant(noise_constants.DARKEST)
BRIGHTEST = constant(noise_constants.BRIGHTEST)
FEWEST_BLOCKS = constant(noise_constants.FEWEST_BLOCKS)
BLOCKS_PER_FLAT = constant(noise_constants.BLOCKS_PER_FLAT)
MOST_NOISE = constant(noise_constants.MOST_NOISE)


@triton.jit(do_not_specialize=["picture_ptr", "details_ptr", "picture_y", "columns", "down", "across", "blocks"])
def details_forward(picture_ptr, details_ptr, picture_y, columns, down, across, blocks, TOP: tl.constexpr):
    # Grid (blocks of BLOCK_SIDE x BLOCK_SIDE pixels, row by row). details_ptr (2, blocks): mean squares of the finest detail,
    # infinite for blocks that do not count, and of the other two.
    block, q = tl.program_id(0), tl.arange(0, BLOCK_SIDE * BLOCK_SIDE // 4)
    y = (block // columns * down).to(tl.int64) + 2 * (q // (BLOCK_SIDE // 2))
    at = picture_ptr + y * picture_y + 3 * (block % columns * across + 2 * (q % (BLOCK_SIDE // 2)))
    total, most = tl.zeros_like(q).to(tl.float32), tl.zeros_like(q).to(tl.float32)
    diagonal, others = total, total
    for colour in tl.static_range(3):
        a = tl.load(at + colour).to(tl.float32) * (255 / TOP)
        b = tl.load(at + colour + 3).to(tl.float32) * (255 / TOP)
        c = tl.load(at + colour + picture_y).to(tl.float32) * (255 / TOP)
        d = tl.load(at + colour + picture_y + 3).to(tl.float32) * (255 / TOP)
        total += (a + b) + (c + d)
        most = tl.maximum(most, tl.maximum(tl.maximum(a, b), tl.maximum(c, d)))
        finest, x, y_ = (a - b - c + d) / 2, (a - b + c - d) / 2, (a + b - c - d) / 2
        diagonal += finest * finest
        others += (x * x + y_ * y_) / 2
    counts = (tl.sum(total) / (3 * BLOCK_SIDE * BLOCK_SIDE) > DARKEST) & (tl.max(most) < BRIGHTEST)
    tl.store(details_ptr + block, tl.where(counts, tl.sum(diagonal) / (3 * BLOCK_SIDE * BLOCK_SIDE // 4), float("inf")))
    tl.store(details_ptr + blocks + block, tl.sum(others) / (3 * BLOCK_SIDE * BLOCK_SIDE // 4))


@triton.jit(do_not_specialize=["details_ptr", "levels_ptr", "blocks"])
def flattest_forward(details_ptr, levels_ptr, blocks, least, BLOCKS: tl.constexpr, AT_ONCE: tl.constexpr):
    # Grid (1). A block is among the flattest if few others come before it.
    i = tl.arange(0, BLOCKS)
    diagonal = tl.load(details_ptr + i, mask=i < blocks, other=float("inf"))
    others = tl.load(details_ptr + blocks + i, mask=i < blocks, other=0.0)
    before = tl.zeros_like(i)
    for first in range(0, blocks, AT_ONCE):
        j = first + tl.arange(0, AT_ONCE)
        other = tl.load(details_ptr + j, mask=j < blocks, other=float("inf"))
        earlier = (other[None, :] == diagonal[:, None]) & (j[None, :] < i[:, None])
        before += tl.sum(tl.where((other[None, :] < diagonal[:, None]) | earlier, 1, 0), axis=1)
    counts = diagonal < float("inf")
    counted = tl.sum(tl.where(counts, 1, 0))
    flattest = tl.maximum(counted // BLOCKS_PER_FLAT, FEWEST_BLOCKS)
    chosen = counts & (before < flattest)
    finest = tl.sum(tl.where(chosen, diagonal, 0.0)) / flattest
    variance = 2.0 * finest - tl.sum(tl.where(chosen, others, 0.0)) / flattest
    noise = tl.minimum(tl.sqrt(tl.maximum(variance, 0.0)), MOST_NOISE) / 255
    grain = tl.minimum(tl.sqrt(finest), MOST_NOISE) / 255
    enough = counted >= FEWEST_BLOCKS
    tl.store(levels_ptr, tl.maximum(tl.where(enough, noise, 0.0), least).to(tl.float64))
    tl.store(levels_ptr + 1, tl.where(enough, grain, 0.0).to(tl.float64))


# At most 21 blocks in a row and in a column.
BLOCKS, AT_ONCE = 512, 16


def picture_noise(picture: Tensor, least: float, levels: Tensor) -> None:
    """picture (H, W, 3); writes levels (2,): noise, at least ``least``, and grain."""
    height, width, _ = picture.shape
    down, across = noise_constants.block_distances(height, width)
    side = noise_constants.BLOCK_SIDE
    rows, columns = max(0, (height - side) // down + 1), max(0, (width - side) // across + 1)
    details = picture.new_empty(2, rows * columns, dtype=torch.float32)
    if rows * columns:
        launch(
            details_forward, (rows * columns,), picture, details, picture.stride(0), columns, down, across, rows * columns,
            TOP=WHITE[picture.dtype], num_warps=1,
        )  # fmt: skip
    launch(
        flattest_forward, (1,), details, levels, rows * columns, least, BLOCKS=BLOCKS, AT_ONCE=AT_ONCE, num_warps=4,
    )  # fmt: skip
