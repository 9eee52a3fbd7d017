"""reduce_picture in Triton: area means of an interleaved picture, which is read once."""

import triton
import triton.language as tl
from torch import Tensor

from zdce.kernels.pictures import WHITE


@triton.jit
def reduce_forward(
    picture_ptr, small_ptr, height, width, across, picture_y, scale, TOP: tl.constexpr,
    AREAS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    # Grid (blocks of AREAS areas in a row of them, rows of areas); small_ptr (3, rows, across).
    area = tl.program_id(0).to(tl.int64) * AREAS + tl.arange(0, AREAS)
    row = tl.program_id(1).to(tl.int64)
    down = tl.num_programs(1)
    last = tl.minimum((row + 1) * scale, height)
    columns = tl.minimum((area + 1) * scale, width) - area * scale
    pixels = (tl.maximum(columns, 1) * (last - row * scale)).to(tl.float32) * TOP  # areas beyond the last have none
    red = tl.zeros((AREAS, COLUMNS), tl.float32)
    green, blue = tl.zeros_like(red), tl.zeros_like(red)
    for y in range(row * scale, last):
        for begin in range(0, scale, COLUMNS):
            j = begin + tl.arange(0, COLUMNS)
            inside = j[None, :] < columns[:, None]
            from_ = picture_ptr + y * picture_y + 3 * (area[:, None] * scale + j[None, :])
            red += tl.load(from_, mask=inside, other=0).to(tl.float32)
            green += tl.load(from_ + 1, mask=inside, other=0).to(tl.float32)
            blue += tl.load(from_ + 2, mask=inside, other=0).to(tl.float32)
    to = small_ptr + row * across + area
    tl.store(to, tl.sum(red, axis=1) / pixels, mask=area < across)
    tl.store(to + down * across, tl.sum(green, axis=1) / pixels, mask=area < across)
    tl.store(to + 2 * down * across, tl.sum(blue, axis=1) / pixels, mask=area < across)


# 4 pixels a thread.
WARPS = 4
PIXELS = 512


def reduce_picture(picture: Tensor, scale: int, small: Tensor) -> None:
    """picture (H, W, 3); writes small (1, 3, ceil(H / scale), ceil(W / scale))."""
    height, width, _ = picture.shape
    _, _, down, across = small.shape
    scale = min(scale, max(height, width))  # larger areas are the same one
    columns = min(triton.next_power_of_2(scale), PIXELS)
    areas = PIXELS // columns
    reduce_forward[triton.cdiv(across, areas), down](
        picture, small, height, width, across, picture.stride(0), scale,
        TOP=WHITE[picture.dtype], AREAS=areas, COLUMNS=columns, num_warps=WARPS,
    )  # fmt: skip
