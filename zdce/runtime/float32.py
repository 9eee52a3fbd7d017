"""Arithmetic of convolutions in float32 on a GPU."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_LOCK = threading.Lock()
_wanted: list[str] = []  # by the contexts that are open, in any thread
_before: list[str] = []  # cuDNN's own precision, while one is open


@contextmanager
def convolutions(precision: str) -> Iterator[None]:
    """Context in which cuDNN computes convolutions of float32 tensors in ``precision``; also a decorator.

    cuDNN has one setting for all threads. While contexts of several threads are open, it is ``"ieee"`` if one of them asks for
    that; when the last one closes, it is what it was before the first. A CUDA graph keeps the precision of its capture.

    Args:
        precision: ``"ieee"``, or ``"tf32"``, cuDNN's default, which rounds the factors of products to 10 bits.
    """
    settings: Any = getattr(torch.backends.cudnn, "conv")  # noqa: B009 (torch's types don't know it)
    with _LOCK:
        if not _wanted:
            _before[:] = [settings.fp32_precision]
        _wanted.append(precision)
        settings.fp32_precision = _strictest()
    try:
        yield
    finally:
        with _LOCK:
            _wanted.remove(precision)
            settings.fp32_precision = _strictest() if _wanted else _before[0]


def _strictest() -> str:
    return "ieee" if "ieee" in _wanted else _wanted[-1]
