"""The start of a Triton kernel: on the device of its tensors, within what a grid may be.

Kernels are compiled once for each combination of argument types, of whole numbers that are 1, and of those that multiples of 16
are. Only numbers that widen accesses (strides, rows' lengths) may count so; the others are named in `do_not_specialize`, or a
folder of mixed sizes would compile again and again.
"""

from contextlib import nullcontext
from typing import Any

import torch

# Of a grid's second and third axis; the first goes to 2^31 - 1.
MOST_PROGRAMS = 65535


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
    """Starts ``kernel`` over ``grid``; its first argument is a tensor on the device where all are.

    Raises:
        ValueError: the grid's second or third axis, the number of images, is too long.
    """
    if max(grid[1:], default=0) > MOST_PROGRAMS:
        raise ValueError(f"the Triton kernels take at most {MOST_PROGRAMS} images at a time, got a grid of {grid}")
    device = arguments[0].device
    # Triton starts kernels on the current device, whichever the tensors' is.
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        kernel[grid](*arguments, **options)
