"""Launch of a Triton kernel: on the device of its tensors, within the limits of a grid.

Triton compiles a kernel for each combination of argument types, of integers equal to 1, and of integers that are multiples of
16. Only integers that allow wider accesses (strides, lengths of rows) should be specialised in this way. The others are named
in `do_not_specialize`; otherwise a folder of pictures of many sizes would compile kernels again and again.
"""

from contextlib import nullcontext
from typing import Any

import torch

# Largest size of a grid's second and third axis; that of the first is 2^31 - 1.
MOST_PROGRAMS = 65535


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
    """Starts ``kernel`` over ``grid``; its first tensor among the arguments is on the device where all are.

    Raises:
        ValueError: the grid's second or third axis, the number of images, is too long.
    """
    if max(grid[1:], default=0) > MOST_PROGRAMS:
        raise ValueError(f"the Triton kernels take at most {MOST_PROGRAMS} images at a time, got a grid of {grid}")
    device = next(argument.device for argument in arguments if isinstance(argument, torch.Tensor))
    # Triton starts kernels on the current device, which may differ from that of the tensors.
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        kernel[grid](*arguments, **options)
