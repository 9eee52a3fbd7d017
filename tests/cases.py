"""Inputs that the operators' tests share: random values, awkward memory layouts, poisoned outputs."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from zdce import backends


@contextmanager
def nan_filled_allocations() -> Iterator[None]:
    """Fresh tensors hold NaN, so that an output that was not written shows."""
    before = torch.utils.deterministic.fill_uninitialized_memory, torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    try:
        yield
    finally:
        torch.utils.deterministic.fill_uninitialized_memory = before[0]
        torch.use_deterministic_algorithms(before[1])


def random_case(size, iterations=8, *, shared=False, batch=2, dtype=torch.float32, device="cpu", seed=0):
    """An image (B, 3, H, W) in [0, 1], maps (B, 3T or 3, H, W) in [-1, 1], and a gradient of the result."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(batch, 3, *size, generator=generator)
    maps = torch.rand(batch, 3 if shared else 3 * iterations, *size, generator=generator) * 2 - 1
    grad = torch.randn(batch, 3, *size, generator=generator)
    return tuple(tensor.to(device, dtype) for tensor in (image, maps, grad))


def layouts(tensor):
    """The same values contiguous, channels_last, transposed in memory, as a crop and as channels of a wider tensor."""
    b, c, h, w = tensor.shape
    crop = tensor.new_zeros(b, c, h + 3, w + 5)
    crop[:, :, 1 : h + 1, 2 : w + 2] = tensor
    wider = tensor.new_zeros(b, c + 2, h, w).contiguous(memory_format=torch.channels_last)
    wider[:, 1 : c + 1] = tensor
    return {
        "contiguous": tensor.contiguous(),
        "channels_last": tensor.contiguous(memory_format=torch.channels_last),
        "transposed": tensor.transpose(2, 3).contiguous().transpose(2, 3),
        "crop": crop[:, :, 1 : h + 1, 2 : w + 2],
        "channels": wider[:, 1 : c + 1],
    }


def skip_without_float64(backend, device):
    if reason := backends.why_missing(backend, device, torch.float64):
        pytest.skip(f"{backend}: {reason}")
