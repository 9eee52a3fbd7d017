"""Arithmetic of convolutions in float32 on a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def convolutions(precision: str) -> Iterator[None]:
    """Context in which cuDNN computes convolutions of float32 tensors in ``precision``, in all threads; also a decorator.

    Args:
        precision: ``"ieee"``, or ``"tf32"``, cuDNN's default, which rounds the factors of products to 10 bits.
    """
    settings: Any = getattr(torch.backends.cudnn, "conv")  # noqa: B009 (torch's types don't know it)
    before = settings.fp32_precision
    settings.fp32_precision = precision
    try:
        yield
    finally:
        settings.fp32_precision = before
