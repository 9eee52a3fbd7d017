"""denoise_picture in Triton: removes noise that a curve has amplified, and keeps edges.

Two kernels with float32 planes between them: the first computes luma, luma with less grain, guide, slope and blurred chroma,
the second averages. The planes reach two pixels beyond the picture, whose border is repeated there, because the guide of such
pixels differs from that of the border. Per pixel of a uint8 picture, the first reads 6 bytes and writes 24, the second reads
these and 3 and writes 3; neighbours are read from caches. The first loads 14 pixels of three bytes for each of its own, 17.5
with the rows above its own.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from zdce import noise_constants
from zdce.interleaved import WHITE
from zdce.kernels.device import BLUE, GREEN, RED, constant, device_function, luma
from zdce.kernels.launch import launch

BLACK_TERM = constant(noise_constants.BLACK_TERM)
FLAT_TERM = constant(noise_constants.FLAT_TERM)
OWN_WEIGHT = constant(noise_constants.OWN_WEIGHT)
FULL_BLUR = constant(noise_constants.FULL_BLUR)
COLOR = constant(noise_constants.COLOR)
COLOR_ERROR = constant(noise_constants.COLOR_ERROR)
BELOW_WHITE = constant(noise_constants.BELOW_WHITE)


@device_function
def row_of(picture_ptr, stride, y, height):
    """The first pixel of row `y`, clamped to the picture."""
    return picture_ptr + tl.minimum(tl.maximum(y, 0), height - 1) * stride


@device_function
def levels(row_ptr, x, width):
    """The three colours at column `x`, clamped to the picture, as they are stored."""
    at = row_ptr + 3 * tl.minimum(tl.maximum(x, 0), width - 1)
    return tl.load(at).to(tl.float32), tl.load(at + 1).to(tl.float32), tl.load(at + 2).to(tl.float32)


@device_function
def rows_and_columns(width, PIXELS: tl.constexpr):
    """Rows and columns of a program's pixels, in rows of `width`. Only the first pixel needs a slow 64-bit division."""
    begin = tl.program_id(0).to(tl.int64) * PIXELS
    row = begin // width
    x = (begin - row * width).to(tl.int32) + tl.arange(0, PIXELS)
    return row + x // width, x % width


@device_function
def guide_weight(i: tl.constexpr):
    """Gaussian of standard deviation 0.8, normalised over 5 pixels, at distance `i`."""
    return 0.49911642 if i == 0 else (0.22851215 if i * i == 1 else 0.02192964)


@device_function
def chroma_weight(i: tl.constexpr):
    """Gaussian of standard deviation 2, normalised over 9 pixels, at distance `i`."""
    near = 0.20416369 if i == 0 else (0.18017382 if i * i == 1 else 0.12383154)
    return near if i * i < 9 else (0.06628225 if i * i == 9 else 0.02763055)


@device_function
def near_weight(squared: tl.constexpr):
    """Gaussian of standard deviation 1.2, 1 in the middle, by the squared distance."""
    near = 0.70664828 if squared == 1 else (0.49935179 if squared == 2 else 0.24935221)
    return near if squared < 5 else (0.17620431 if squared == 5 else 0.06217652)


@device_function
def sums_along_row(of_picture, of_enhanced, column, width, TOP: tl.constexpr):
    """Of a row's pixels: luma as it is in the enhanced picture, its Gaussian and sum over 5 pixels, red and blue chroma blurred
    over 9; and of the picture luma, and the sums over 5 pixels of it and of its square, as fractions of white."""
    zero = tl.zeros_like(column).to(tl.float32)
    light, guide, bright, red, blue = zero, zero, zero, zero, zero
    pixel, dark, power = zero, zero, zero
    for j in tl.static_range(-4, 5):
        colors = levels(of_enhanced, column - 2 + j, width)
        near = luma(colors)
        red += chroma_weight(j) * (colors[0] - near)
        blue += chroma_weight(j) * (colors[2] - near)
        if j == 0:
            light = near
        if j * j <= 4:
            guide += guide_weight(j) * near
            bright += near
            given = luma(levels(of_picture, column - 2 + j, width)) / TOP
            dark += given
            power += given * given
            if j == 0:
                pixel = given
    return light, guide, bright, red, blue, pixel, dark, power


@device_function
def slope_and_lost(after, before, squares, pixel, grain):
    """The curve's slope, by the means of luma `after` and `before` it; and what the picture's luma `pixel` loses of a grain of
    this variance, by the mean of the squares before."""
    variance = tl.maximum(squares - before * before, 0.0)
    slope = after * (1.0 - after) / (before * (1.0 - before) + BLACK_TERM)
    lost = grain / (variance + (grain + FLAT_TERM)) * (pixel - before)
    return slope, tl.where(slope > 1.0, tl.minimum(slope - 1.0, 1.0) * slope * lost, 0.0)


# No access is wide: 3 values of a pixel, or one of neighbouring pixels, whose rows may end anywhere in a program. Sizes are
# therefore not specialised.
@triton.jit(
    do_not_specialize=[
        "picture_ptr", "enhanced_ptr", "luma_ptr", "averaged_ptr", "guide_ptr", "slope_ptr", "red_ptr", "blue_ptr",
        "levels_ptr", "height", "width", "picture_y", "enhanced_y",
    ]
)  # fmt: skip
def guide_forward(
    picture_ptr, enhanced_ptr, luma_ptr, averaged_ptr, guide_ptr, slope_ptr, red_ptr, blue_ptr,
    levels_ptr, height, width, picture_y, enhanced_y,
    TOP: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    # Grid (blocks of the planes' columns x blocks of ROWS rows). A program goes down its rows and keeps the sums along x of the
    # last four; with those of a fifth it has the sums of 5 x 5 pixels. red_ptr and blue_ptr get the chroma blurred along the
    # row.
    grain = tl.minimum(tl.load(levels_ptr), tl.load(levels_ptr + 1)).to(tl.float32)
    grain = grain * grain
    blocks = tl.cdiv(width + 4, COLUMNS)
    column = tl.program_id(0) % blocks * COLUMNS + tl.arange(0, COLUMNS)
    begin = (tl.program_id(0) // blocks).to(tl.int64) * ROWS
    end = tl.minimum(begin + ROWS, height + 4)
    zero = tl.zeros((COLUMNS,), tl.float32)
    guides, brights = (zero, zero, zero, zero), (zero, zero, zero, zero)
    darks, powers = (zero, zero, zero, zero), (zero, zero, zero, zero)  # of the picture's luma, and of its square
    lights, pixels = (zero, zero), (zero, zero)  # luma of the last two rows' own pixels
    for first in range(begin - 4, end, 5):  # after five rows none of the sums kept is one from before
        for i in tl.static_range(5):
            y = first + i
            of_enhanced, of_picture = row_of(enhanced_ptr, enhanced_y, y, height), row_of(picture_ptr, picture_y, y, height)
            light, guide, bright, red, blue, pixel, dark, power = sums_along_row(of_picture, of_enhanced, column, width, TOP)
            # The square that ends with row y has its middle in row y - 2, which is row y of the planes.
            square = guide_weight(2) * (guides[0] + guide) + guide_weight(1) * (guides[1] + guides[3])
            square += guide_weight(0) * guides[2]
            after = (brights[0] + brights[1] + brights[2] + brights[3] + bright) * (0.04 / TOP)
            before = (darks[0] + darks[1] + darks[2] + darks[3] + dark) * 0.04
            squares = (powers[0] + powers[1] + powers[2] + powers[3] + power) * 0.04
            slope, lost = slope_and_lost(after, before, squares, pixels[0], grain)
            averaged = lights[0] * (1 / TOP) - lost
            guides = (guides[1], guides[2], guides[3], guide)
            brights = (brights[1], brights[2], brights[3], bright)
            darks, powers = (darks[1], darks[2], darks[3], dark), (powers[1], powers[2], powers[3], power)
            lights, pixels = (lights[1], light), (pixels[1], pixel)
            rows = y + tl.zeros_like(column)  # a tensor: the interpreter can't broadcast the comparison of a scalar
            to, inside = y * (width + 4) + column, (column < width + 4) & (rows >= begin) & (rows < end)
            tl.store(guide_ptr + to, square * (255 / TOP), mask=inside)
            tl.store(slope_ptr + to, slope, mask=inside)
            tl.store(averaged_ptr + to, averaged, mask=inside)
            to, inside = to + 2 * (width + 4), (column < width + 4) & (rows + 2 >= begin) & (rows + 2 < end)
            tl.store(luma_ptr + to, light * (1 / TOP), mask=inside)
            tl.store(red_ptr + to, red * (1 / TOP), mask=inside)
            tl.store(blue_ptr + to, blue * (1 / TOP), mask=inside)


@triton.jit(
    do_not_specialize=[
        "enhanced_ptr", "luma_ptr", "averaged_ptr", "guide_ptr", "slope_ptr", "red_ptr", "blue_ptr", "denoised_ptr",
        "levels_ptr", "height", "width", "enhanced_y", "denoised_y",
    ]
)  # fmt: skip
def denoise_forward(
    enhanced_ptr, luma_ptr, averaged_ptr, guide_ptr, slope_ptr, red_ptr, blue_ptr, denoised_ptr,
    levels_ptr, height, width, enhanced_y, denoised_y,
    TOP: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    # Grid (blocks of the picture's pixels). levels_ptr: noise and grain.
    noise = tl.load(levels_ptr).to(tl.float32)
    cutoff, error = 510.0 * noise, tl.minimum(noise, COLOR_ERROR) / COLOR
    limit, chroma, color_error = cutoff * cutoff, noise / FULL_BLUR, error * error
    y, x = rows_and_columns(width, PIXELS)
    inside, pitch = y < height, width + 4
    y = tl.minimum(y, height - 1)
    at = (y + 2) * pitch + x + 2
    slope, own, own_guide = tl.load(slope_ptr + at), tl.load(luma_ptr + at), tl.load(guide_ptr + at)
    added = tl.maximum(slope * slope - 1.0, 0.0)
    limits = limit * added
    total = limits * limits + OWN_WEIGHT
    change = total * (tl.load(averaged_ptr + at) - own)
    red, blue = tl.zeros_like(change), tl.zeros_like(change)
    for i in tl.static_range(-4, 5):
        near = at + (tl.minimum(tl.maximum(y + i, 0), height - 1) - y) * pitch
        red += chroma_weight(i) * tl.load(red_ptr + near)
        blue += chroma_weight(i) * tl.load(blue_ptr + near)
    for i in tl.static_range(-2, 3):
        for j in tl.static_range(-2, 3):
            if i != 0 or j != 0:
                near = at + i * pitch + j
                away = tl.load(guide_ptr + near) - own_guide
                left = tl.maximum(limits - away * away, 0.0)
                weight = left * left * near_weight(i * i + j * j)
                total += weight
                change += weight * (tl.load(averaged_ptr + near) - own)
    red_level, green_level, blue_level = levels(row_of(enhanced_ptr, enhanced_y, y, height), x, width)
    colors = red_level / TOP, green_level / TOP, blue_level / TOP
    share, pale = tl.minimum(tl.maximum(chroma * (slope - 1.0), 0.0), 1.0), 1.0 / (1.0 + color_error * added)
    light = change / total
    red, blue = share * (pale * red - (colors[0] - own)), share * (pale * blue - (colors[2] - own))
    green = -(RED * red + BLUE * blue) / GREEN
    to = denoised_ptr + y * denoised_y + 3 * x
    store(to, colors[0], light + red, inside, TOP)
    store(to + 1, colors[1], light + green, inside, TOP)
    store(to + 2, colors[2], light + blue, inside, TOP)


@device_function
def store(to, own, change, inside, TOP: tl.constexpr):
    value = tl.minimum(tl.maximum(own + change, 0.0), tl.maximum(own, BELOW_WHITE))
    # Changes that are NaN, from a neighbour that is, change nothing.
    value = tl.where(change == change, value, own)  # noqa: PLR0124
    if TOP > 1:
        value = tl.floor(value * TOP + 0.5).to(tl.int32)
    tl.store(to, value, mask=inside)


# Four pixels per thread; one on the way down GUIDE_ROWS rows, four more of which are read.
WARPS = 4
PIXELS = 512
GUIDE_ROWS, GUIDE_COLUMNS = 16, 128


def denoise_picture(picture: Tensor, enhanced: Tensor, levels: Tensor, denoised: Tensor) -> None:
    """picture, enhanced (H, W, 3), levels (2,) of noise and grain; writes denoised (H, W, 3)."""
    height, width, _ = picture.shape
    planes = picture.new_empty(6, height + 4, width + 4, dtype=torch.float32)
    top = WHITE[picture.dtype]
    launch(
        guide_forward, (triton.cdiv(height + 4, GUIDE_ROWS) * triton.cdiv(width + 4, GUIDE_COLUMNS),),
        picture, enhanced, *planes, levels, height, width, picture.stride(0), enhanced.stride(0),
        TOP=top, ROWS=GUIDE_ROWS, COLUMNS=GUIDE_COLUMNS, num_warps=WARPS,
    )  # fmt: skip
    launch(
        denoise_forward, (triton.cdiv(height * width, PIXELS),),
        enhanced, *planes, denoised, levels, height, width, enhanced.stride(0), denoised.stride(0),
        TOP=top, PIXELS=PIXELS, num_warps=WARPS,
    )  # fmt: skip
