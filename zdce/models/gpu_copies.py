"""Copies between arrays and a GPU that overlap with the kernels and copies of other threads."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor


class GpuCopies:
    """Copies through page-locked memory, in a stream of each thread's own.

    Copies from and to ordinary memory would keep the GPU waiting, and work in a shared stream runs one after the other.

    Args:
        device: the GPU. Its work so far is waited for: it has written what all streams read, such as weights.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._own = device, threading.local()
        torch.cuda.current_stream(device).synchronize()

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Work inside the ``with`` is submitted to the thread's stream."""
        if not hasattr(self._own, "stream"):
            self._own.stream = torch.cuda.Stream(self._device)
        with torch.cuda.stream(self._own.stream):
            yield

    def to_gpu(self, tensor: Tensor) -> Tensor:
        """``tensor``, which is in the host's memory, on the GPU, contiguous; does not wait for the copy."""
        # Torch reuses page-locked memory when the streams' copies from it are done.
        return _page_locked(tensor).copy_(tensor).to(self._device, non_blocking=True)

    def to_host(self, tensor: Tensor) -> NDArray[Any]:
        """``tensor`` as an array, when the thread's stream has come so far."""
        host = _page_locked(tensor).copy_(tensor, non_blocking=True)
        torch.cuda.current_stream(self._device).synchronize()
        array: NDArray[Any] = host.numpy()
        return array


def _page_locked(like: Tensor) -> Tensor:
    return torch.empty(like.shape, dtype=like.dtype, pin_memory=True)
