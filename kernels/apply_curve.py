"""apply_curve in Triton: every input read once, every output written once, the T steps in registers.

Tensors are (B, C, P) with any strides, P = H * W pixels. A program handles BLOCK pixels of one image in all three colours,
so that with channels_last, where colours and steps share cache lines, it still fetches each line once.
"""

import triton
import triton.language as tl
from torch import Tensor

from zdce.kernels.device import step, wide
from zdce.kernels.launch import launch


@triton.jit
def curve_forward(
    image_ptr, maps_ptr, enhanced_ptr, pixels,
    image_b, image_c, image_p, maps_b, maps_c, maps_p, enhanced_b, enhanced_c, enhanced_p,
    T: tl.constexpr, SHARED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    # Grid (blocks of pixels, B). Strides X_b, X_c, X_p are in elements; addresses are 64-bit: 4K x 24 maps x 11 overflows 32.
    p = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    b = tl.program_id(1).to(tl.int64)
    inside = p < pixels
    image_c, maps_c, enhanced_c = wide(image_c), wide(maps_c), wide(enhanced_c)
    for c in tl.static_range(3):
        x = tl.load(image_ptr + b * image_b + c * image_c + p * image_p, mask=inside).to(tl.float32)
        for t in tl.static_range(T):
            k = c if SHARED else 3 * t + c
            a = tl.load(maps_ptr + b * maps_b + k * maps_c + p * maps_p, mask=inside).to(tl.float32)
            x = step(x, a)
        tl.store(enhanced_ptr + b * enhanced_b + c * enhanced_c + p * enhanced_p, x, mask=inside)


@triton.jit
def curve_backward(
    grad_ptr, image_ptr, maps_ptr, grad_image_ptr, grad_maps_ptr, pixels,
    grad_b, grad_c, grad_p, image_b, image_c, image_p, maps_b, maps_c, maps_p,
    grad_image_b, grad_image_c, grad_image_p, grad_maps_b, grad_maps_c, grad_maps_p,
    T: tl.constexpr, SHARED: tl.constexpr, IMAGE_WANTED: tl.constexpr, MAPS_WANTED: tl.constexpr, PAIRED: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    # Grid and strides as in forward, whose steps are computed again: x_t and, as they lie in memory, a_t stay in registers.
    # PAIRED: threads load two maps at once, each thread twice the pixels of one of them, and then exchange them.
    p = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    b = tl.program_id(1).to(tl.int64)
    inside = p < pixels
    grad_c, image_c, maps_c = wide(grad_c), wide(image_c), wide(maps_c)
    grad_image_c, grad_maps_c = wide(grad_image_c), wide(grad_maps_c)
    for c in tl.static_range(3):
        x = tl.load(image_ptr + b * image_b + c * image_c + p * image_p, mask=inside).to(tl.float32)
        xs, maps = (), ()
        for t in tl.static_range(T):
            at = maps_ptr + b * maps_b + (3 * t + c) * maps_c
            if PAIRED:
                if t % 2 == 0:
                    which = tl.arange(0, 2)[:, None]
                    both = tl.load(at + which * 3 * maps_c + p[None, :] * maps_p, mask=inside[None, :] & (which < T - t))
                    pair = tl.split(tl.permute(both, (1, 0)))
                a = pair[t % 2]
            elif t == 0 or not SHARED:
                a = tl.load(at + p * maps_p, mask=inside)
            xs, maps = xs + (x,), maps + (a,)
            x = step(x, a.to(tl.float32))
        g = tl.load(grad_ptr + b * grad_b + c * grad_c + p * grad_p, mask=inside).to(tl.float32)
        shared = tl.zeros_like(x)
        for t in tl.static_range(T - 1, -1, -1):
            x, a = xs[t], maps[t].to(tl.float32)
            grad_map = g * (x * x - x)
            shared += grad_map
            g *= 1 + a * (2 * x - 1)
            if MAPS_WANTED and not SHARED:
                to = grad_maps_ptr + b * grad_maps_b + (3 * t + c) * grad_maps_c
                if not PAIRED:
                    tl.store(to + p * grad_maps_p, grad_map, mask=inside)
                elif t % 2 == 1 or t == T - 1:
                    after = grad_map
                if PAIRED and t % 2 == 0:
                    which = tl.arange(0, 2)[:, None]
                    both = tl.permute(tl.join(grad_map, after).to(grad_maps_ptr.dtype.element_ty), (1, 0))
                    inside_both = inside[None, :] & (which < T - t)
                    tl.store(to + which * 3 * grad_maps_c + p[None, :] * grad_maps_p, both, mask=inside_both)
        if MAPS_WANTED and SHARED:
            tl.store(grad_maps_ptr + b * grad_maps_b + c * grad_maps_c + p * grad_maps_p, shared, mask=inside)
        if IMAGE_WANTED:
            tl.store(grad_image_ptr + b * grad_image_b + c * grad_image_c + p * grad_image_p, g, mask=inside)


# With 4 warps a thread has 8 pixels in forward: two 16-byte accesses in float32, one in half types. Backward keeps T values and
# T maps per pixel, so that only 16 bytes of each map fit: 4 pixels in float32; in half types 8, or 4 with two maps per access
# if there are more than 8 maps.
WARPS = 4
FORWARD_BLOCK = 1024
BACKWARD_BYTES = 2048
MOST_MAPS = 8
BLOCK_FOR_MORE = 512


def apply_curve(image: Tensor, maps: Tensor, iterations: int, enhanced: Tensor) -> None:
    """image (B, 3, P), maps (B, 3T or 3, P); writes enhanced (B, 3, P)."""
    batch, _, pixels = image.shape
    grid = (triton.cdiv(pixels, FORWARD_BLOCK), batch)
    strides = (*image.stride(), *maps.stride(), *enhanced.stride())
    launch(
        curve_forward, grid,
        image, maps, enhanced, pixels, *strides,
        T=iterations, SHARED=maps.shape[1] == 3, BLOCK=FORWARD_BLOCK, num_warps=WARPS,
    )  # fmt: skip


def apply_curve_backward(
    grad: Tensor, image: Tensor, maps: Tensor, iterations: int, grad_image: Tensor | None, grad_maps: Tensor | None
) -> None:
    """grad, image (B, 3, P), maps (B, 3T or 3, P); writes grad_image and grad_maps, shaped as image and maps, where given."""
    batch, _, pixels = image.shape
    many = maps.shape[1] > 3 * MOST_MAPS
    block = BLOCK_FOR_MORE if many else BACKWARD_BYTES // maps.element_size()
    grid = (triton.cdiv(pixels, block), batch)
    # A gradient that is not needed gets a pointer that is not written.
    outputs = (image if grad_image is None else grad_image, maps if grad_maps is None else grad_maps)
    strides = [stride for tensor in (grad, image, maps, *outputs) for stride in tensor.stride()]
    launch(
        curve_backward, grid,
        grad, image, maps, *outputs, pixels, *strides,
        T=iterations, SHARED=maps.shape[1] == 3, IMAGE_WANTED=grad_image is not None, MAPS_WANTED=grad_maps is not None,
        PAIRED=many and maps.element_size() == 2, BLOCK=block, num_warps=WARPS,
    )  # fmt: skip
