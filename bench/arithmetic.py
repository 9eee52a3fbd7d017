"""How fast multiply-adds are for this process: on registers, on all threads, with the instruction set of the kernels."""

import importlib
from collections.abc import Callable
from functools import partial

import torch

from zdce import backends

_library = torch.library.Library("zdce_cpp", "FRAGMENT")  # its definitions live as long as it does
_library.define("fma_peak(Tensor(a!) sums, int rounds) -> int")

# Some 20 ms: long against the start of threads.
_ROUNDS = 12_000_000


def why_missing() -> str | None:
    return backends.why_missing("cpp")


def multiply_adds(rounds: int = _ROUNDS) -> Callable[[], int]:
    """A pass on each of torch's threads that gives the number of float32 multiply-adds it did; needs the C++ extension."""
    importlib.import_module("zdce._C")
    return partial(torch.ops.zdce_cpp.fma_peak, torch.zeros(torch.get_num_threads(), 16), rounds)
