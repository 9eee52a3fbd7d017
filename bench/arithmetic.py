"""Rate of multiply-adds of this process: on registers, on all threads, with the instruction set of the kernels."""

import importlib
import time
from collections.abc import Callable
from functools import partial

import torch

from zdce.ops import dispatch

_library = torch.library.Library("zdce_cpp", "FRAGMENT")  # its definitions live as long as it does
_library.define("fma_peak(Tensor(a!) sums, int rounds) -> int")

# About 20 ms: long compared with the start of threads.
_ROUNDS = 12_000_000


def why_missing() -> str | None:
    return dispatch.why_missing("cpp")


def multiply_adds(rounds: int = _ROUNDS, threads: int | None = None) -> Callable[[], int]:
    """A pass on ``threads`` (default: torch's number) that returns its number of float32 multiply-adds; needs the C++
    extension.
    """
    importlib.import_module("zdce._C")
    return partial(torch.ops.zdce_cpp.fma_peak, torch.zeros(threads or torch.get_num_threads(), 16), rounds)


def rate() -> tuple[float]:
    """Multiply-adds per second of one thread, from a pass of a few milliseconds."""
    call = multiply_adds(_ROUNDS // 4, threads=1)
    started = time.perf_counter()
    done = call()
    return (done / (time.perf_counter() - started),)
