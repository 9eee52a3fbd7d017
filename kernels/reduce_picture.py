"""reduce_picture in Triton: area means of an interleaved picture, read once, or bilinear samples."""

import triton
import triton.language as tl
from torch import Tensor

from zdce.interleaved import WHITE
from zdce.kernels.device import device_function, wide
from zdce.kernels.launch import launch


@triton.jit(do_not_specialize=["picture_ptr", "small_ptr", "height", "width", "down", "across", "picture_y", "scale"])
def reduce_forward(
    picture_ptr, small_ptr, height, width, down, across, picture_y, scale, TOP: tl.constexpr,
    AREAS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    # Grid (blocks of AREAS areas in a row of them x rows of areas); small_ptr (3, down, across).
    blocks = tl.cdiv(across, AREAS)
    area = (tl.program_id(0) % blocks).to(tl.int64) * AREAS + tl.arange(0, AREAS)
    row, plane = (tl.program_id(0) // blocks).to(tl.int64), wide(down) * across
    last = tl.minimum((row + 1) * scale, height)
    columns = tl.minimum((area + 1) * scale, width) - area * scale
    pixels = (tl.maximum(columns, 1) * (last - row * scale)).to(tl.float32) * TOP  # 0 for areas beyond the last one
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
    tl.store(to + plane, tl.sum(green, axis=1) / pixels, mask=area < across)
    tl.store(to + 2 * plane, tl.sum(blue, axis=1) / pixels, mask=area < across)


@device_function
def sampled(i, pixels, number):
    # Sample i of `number` lies at (i + 1/2) pixels / number - 1/2: a pixel, and the fraction of the way to the next one.
    at = (2 * i + 1) * pixels - number
    first = at // (2 * number)
    return first, (at - first * 2 * number).to(tl.float32) / (2 * number)


@triton.jit(do_not_specialize=["picture_ptr", "small_ptr", "height", "width", "down", "across", "picture_y"])
def sample_forward(picture_ptr, small_ptr, height, width, down, across, picture_y, TOP: tl.constexpr, SAMPLES: tl.constexpr):
    # Grid (blocks of SAMPLES samples in a row x rows of samples, 3 colours); small_ptr (3, down, across).
    blocks = tl.cdiv(across, SAMPLES)
    i = (tl.program_id(0) % blocks).to(tl.int64) * SAMPLES + tl.arange(0, SAMPLES)
    rows = (tl.program_id(0) // blocks).to(tl.int64) + tl.zeros_like(i)
    c, inside = tl.program_id(1).to(tl.int64), i < across
    y, below = sampled(rows, height, down)
    x, beside = sampled(i, width, across)
    upper = picture_ptr + y * picture_y + c
    lower = picture_ptr + tl.minimum(y + 1, height - 1) * picture_y + c
    right = 3 * tl.minimum(x + 1, width - 1)
    a = tl.load(upper + 3 * x, mask=inside, other=0).to(tl.float32)
    b = tl.load(upper + right, mask=inside, other=0).to(tl.float32)
    above = a + beside * (b - a)
    a = tl.load(lower + 3 * x, mask=inside, other=0).to(tl.float32)
    b = tl.load(lower + right, mask=inside, other=0).to(tl.float32)
    under = a + beside * (b - a)
    tl.store(small_ptr + (c * down + rows) * across + i, (above + below * (under - above)) / TOP, mask=inside)


# Pixels and samples per thread: 4 and 1.
WARPS = 4
PIXELS = 512
SAMPLES = 128


def reduce_picture(picture: Tensor, scale: int, antialias: bool, small: Tensor) -> None:
    """picture (H, W, 3); writes small (1, 3, ceil(H / scale), ceil(W / scale))."""
    height, width, _ = picture.shape
    _, _, down, across = small.shape
    if not antialias:
        launch(
            sample_forward, (triton.cdiv(across, SAMPLES) * down, 3),
            picture, small, height, width, down, across, picture.stride(0),
            TOP=WHITE[picture.dtype], SAMPLES=SAMPLES, num_warps=WARPS,
        )  # fmt: skip
        return
    scale = min(scale, max(height, width))  # a larger area has the same pixels
    columns = min(triton.next_power_of_2(scale), PIXELS)
    areas = PIXELS // columns
    launch(
        reduce_forward, (triton.cdiv(across, areas) * down,),
        picture, small, height, width, down, across, picture.stride(0), scale,
        TOP=WHITE[picture.dtype], AREAS=areas, COLUMNS=columns, num_warps=WARPS,
    )  # fmt: skip
