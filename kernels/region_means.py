"""region_means in Triton: means over RGB and square regions."""

import triton
import triton.language as tl
from torch import Tensor

from zdce.kernels.device import load, wide
from zdce.kernels.launch import launch


@triton.jit(do_not_specialize=["down", "across"])
def region_forward(
    image_ptr, means_ptr, down, across, image_b, image_c, image_y, image_x,
    REGION: tl.constexpr, REGIONS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    # Grid (blocks of REGIONS regions in a row of them x rows of regions, B); means_ptr (B, down, across).
    blocks = tl.cdiv(across, REGIONS)
    r = (tl.program_id(0) % blocks).to(tl.int64) * REGIONS + tl.arange(0, REGIONS)
    row, b = (tl.program_id(0) // blocks).to(tl.int64), tl.program_id(1).to(tl.int64)
    image_c = wide(image_c)
    # The sum of a region has 3 REGION^2 terms; compensated summation (Kahan) keeps large sums accurate.
    total, lost = tl.zeros((REGIONS, COLUMNS), tl.float32), tl.zeros((REGIONS, COLUMNS), tl.float32)
    for y in range(REGION):
        for begin in range(0, REGION, COLUMNS):
            j = begin + tl.arange(0, COLUMNS)
            x = r[:, None] * REGION + j[None, :]
            inside = (r[:, None] < across) & (j[None, :] < REGION)
            from_ = image_ptr + b * image_b + (row * REGION + y) * image_y + x * image_x
            red, green, blue = load(from_, inside), load(from_ + image_c, inside), load(from_ + 2 * image_c, inside)
            term = ((red + green) + blue) - lost
            sum_ = total + term
            lost = (sum_ - total) - term
            total = sum_
    means = tl.sum(total, axis=1) / (3.0 * REGION * REGION)
    tl.store(means_ptr + (b * down + row) * across + r, means, mask=r < across)


@triton.jit(do_not_specialize=["height", "width"])
def region_backward(
    grad_ptr, grad_image_ptr, pixels, height, width, grad_image_b, grad_image_c, grad_image_p,
    REGION: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    # Grid (blocks of pixels, B). All three colours, so that channels_last lines are written once.
    p = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    b = tl.program_id(1).to(tl.int64)
    inside, y, x = p < pixels, p // width // REGION, p % width // REGION
    grad_image_c = wide(grad_image_c)
    down, across = height // REGION, width // REGION
    grad = load(grad_ptr + (b * down + y) * across + x, inside & (y < down) & (x < across)) / (3.0 * REGION * REGION)
    for c in tl.static_range(3):
        tl.store(grad_image_ptr + b * grad_image_b + c * grad_image_c + p * grad_image_p, grad, mask=inside)


# Values per thread: 4 in forward, 8 in backward.
WARPS = 4
VALUES = 512
BLOCK = 1024


def region_means(image: Tensor, region: int, means: Tensor) -> None:
    """image (B, 3, H, W); writes means (B, H // region, W // region)."""
    batch, down, across = means.shape
    if means.numel() == 0:
        return
    columns = min(triton.next_power_of_2(region), VALUES)
    regions = VALUES // columns
    launch(
        region_forward, (triton.cdiv(across, regions) * down, batch),
        image, means, down, across, *image.stride(), REGION=region, REGIONS=regions, COLUMNS=columns, num_warps=WARPS,
    )  # fmt: skip


def region_means_backward(grad: Tensor, region: int, height: int, width: int, grad_image: Tensor) -> None:
    """grad (B, height // region, width // region); writes grad_image (B, 3, height, width)."""
    planes = grad_image.flatten(2)
    pixels = height * width
    grid = (triton.cdiv(pixels, BLOCK), planes.shape[0])
    launch(
        region_backward, grid,
        grad, planes, pixels, height, width, *planes.stride(), REGION=region, BLOCK=BLOCK, num_warps=WARPS,
    )  # fmt: skip
