"""Every kernel of a GPU backend on small shapes, as compute-sanitizer's target: ``python -P sanitized.py triton`` or ``cuda``.

Triton's shapes and types are few, because it takes seconds to compile a kernel for each; a first run without the sanitizer
fills its cache. There two steps of the curve reach all code that eight do; CUDA C++ has kernels of its own for eight steps in
channels_last, and for aligned rows. A line a part says how far the run has come.
"""

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

import zdce
from zdce.bench.infer import random_network
from zdce.models import fused_network

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

# Rows and columns that fill no block, and of which a 4 x 4 and a 16 x 16 region leave some out.
SIZE = 19, 37
STEPS = 2

# For CUDA C++: strided kernels, whole pixels, packs.
SIZES_AND_STEPS = ((SIZE, STEPS), (SIZE, 8), ((16, 32), 8))

# More columns than one strip of the kernel for whole networks.
WIDE = 23, 101


def _drawn(
    channels: int, dtype: torch.dtype = torch.float32, layout: Any = torch.contiguous_format, size: tuple[int, int] = SIZE
) -> torch.Tensor:
    values = torch.rand(1, channels, *size, generator=torch.Generator().manual_seed(channels))
    return values.to(DEVICE, dtype).to(memory_format=layout).requires_grad_()


def _picture(size: tuple[int, int] = SIZE, dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    levels = torch.randint(0, 90, (*size, 3), generator=torch.Generator().manual_seed(0)).to(DEVICE)
    return levels / 255 if dtype == torch.float32 else (levels if dtype == torch.uint8 else 257 * levels).to(dtype)


def _differentiate(result: torch.Tensor, *inputs: torch.Tensor) -> None:
    torch.autograd.grad(result, inputs, torch.ones_like(result))


def _curve(
    dtype: torch.dtype = torch.float32, layout: Any = torch.contiguous_format, size: tuple[int, int] = SIZE, steps: int = STEPS
) -> None:
    image, maps = _drawn(3, dtype, layout, size), _drawn(3 * steps, dtype, layout, size)
    _differentiate(zdce.ops.apply_curve(image, maps), image, maps)


def _objective(
    dtype: torch.dtype = torch.float32, layout: Any = torch.contiguous_format, size: tuple[int, int] = SIZE, steps: int = STEPS
) -> None:
    image, logits = _drawn(3, dtype, layout, size).detach(), _drawn(3 * steps, dtype, layout, size)
    _differentiate(zdce.ops.zero_reference_objective(image, logits).total, logits)


def _means_and_sums() -> None:
    image = _drawn(3)
    _differentiate(zdce.ops.illumination_smoothness(image), image)
    _differentiate(zdce.ops.exposure_control(image), image)
    _differentiate(zdce.ops.color_constancy(image), image)


def _pictures() -> None:
    picture = _picture()
    for scale, channels, corners in ((1, 3 * STEPS, False), (4, 3, True), (4, 2, False)):
        for antialias in (False, True):
            small = zdce.ops.reduce_picture(picture, scale, antialias)
        maps = torch.zeros(1, channels, *small.shape[2:], device=DEVICE)
        enhanced = zdce.ops.enhance_picture(picture, maps, STEPS, scale=scale, align_corners=corners)
    zdce.ops.denoise_picture(picture, enhanced, zdce.ops.picture_noise(picture, 0.01))


def _scenes() -> None:
    image, plane = torch.full((1, 3, 64, 64), 0.1, device=DEVICE), torch.full((1, 1, 64, 64), -0.1, device=DEVICE)
    torch.ops.zdce.scene_strength(image, plane.expand(-1, 3 * STEPS, -1, -1).contiguous(), STEPS, 0.3)
    torch.ops.zdce.guided_strength(image, plane, plane + 1, torch.full((1, 3), 0.2, device=DEVICE), STEPS)


def _every_kernel(operation: Callable[..., None]) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        for layout in (torch.contiguous_format, torch.channels_last):
            for size, steps in SIZES_AND_STEPS:
                operation(dtype, layout, size, steps)


def _network(name: str, dtype: torch.dtype) -> None:
    network = fused_network.fused(random_network(name).to(DEVICE), dtype)
    if network is None:
        assert DEVICE == "cpu", f"{name} does not run as one kernel on this GPU"
        return
    for pixels in (torch.uint8, torch.uint16, torch.float32):
        network.enhanced(_picture(WIDE, pixels)[None], torch.full((1,), 0.5, device=DEVICE))
    network.maps(_picture(WIDE, torch.float32).permute(2, 0, 1)[None].contiguous())


PARTS: dict[str, dict[str, Callable[[], None]]] = {
    "triton": {
        "curve": _curve, "objective": _objective, "means and sums": _means_and_sums, "pictures": _pictures, "scenes": _scenes,
    },
    "cuda": {
        "curve": lambda: _every_kernel(_curve),
        "objective": lambda: _every_kernel(_objective),
        **{
            f"network {name}": lambda name=name, dtype=dtype: _network(name, dtype)
            for name, dtype in (("base", torch.bfloat16), ("zero-dce-pp", torch.float16), ("zero-dce", torch.bfloat16))
        },
    },
}  # fmt: skip


def run(backend: str) -> None:
    started, parts = time.monotonic(), PARTS[backend]
    for number, (name, part) in enumerate(parts.items(), 1):
        with zdce.backend(backend if zdce.ops.dispatch.why_missing(backend, DEVICE) is None else "reference"):
            part()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        print(f"{backend} {name}: part {number} of {len(parts)}, {time.monotonic() - started:.0f} s", flush=True)  # noqa: T201


if __name__ == "__main__":
    os.environ.setdefault("PYTORCH_NO_CUDA_MEMORY_CACHING", "1")  # each tensor an allocation of its own, with an end
    backend = sys.argv[1]
    if DEVICE == "cuda" and (reason := zdce.ops.dispatch.why_missing(backend, DEVICE)):
        sys.exit(f"{backend}: {reason}")
    try:
        run(backend)
    except KeyboardInterrupt:
        sys.exit(f"{backend}: stopped")
