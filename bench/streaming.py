"""Speed of memory for this process: a pass on all threads that only reads and writes a number of bytes.

On the CPU, a loop in C++ reads one buffer and writes another, with ordinary stores and with stores past the caches; torch has
only ordinary stores, which read their cache line first. Other candidates are torch's fastest operations, a reduction with a
fill or a copy. All are measured, and the fastest is the one that operations are compared with.
"""

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from zdce.ops import dispatch

Pass = Callable[[], object]

_library = torch.library.Library("zdce_cpp", "FRAGMENT")  # its definitions live as long as it does
_library.define("stream(Tensor source, Tensor(a!) target, Tensor(b!) sum, bool past_caches) -> ()")

# Reductions, each one pass over its input.
_READS: dict[str, Callable[[Tensor], object]] = {
    "sum": torch.sum,
    "amax": torch.amax,
    "dot": lambda a: torch.dot(a, a),
}
_TRIALS = 7


@dataclass(frozen=True)
class Streaming:
    """The fastest pass, and its name."""

    run: Pass
    name: str


def streaming(read: int, written: int, device: str) -> Streaming:
    """The fastest pass that reads ``read`` bytes and writes ``written`` bytes; buffers are allocated before."""
    source = torch.ones(read // 4, device=device)
    target = torch.zeros(written // 4, device=device)
    ways = {f"torch {name}": partial(_torch_pass, source, target, name) for name in _READS}
    if device == "cpu" and dispatch.why_missing("cpp") is None:
        importlib.import_module("zdce._C")
        past_caches = {"C++": False, "C++ past caches": True}
        sum_ = torch.zeros(1)
        ways |= {name: partial(torch.ops.zdce_cpp.stream, source, target, sum_, past) for name, past in past_caches.items()}
        ways["torch dot, C++ past caches"] = partial(_apart, source, target, sum_)
    best = min(ways, key=lambda name: _seconds(ways[name], device))
    return Streaming(ways[best], best)


def _torch_pass(source: Tensor, target: Tensor, reduction: str) -> None:
    copied = min(source.numel(), target.numel())
    if copied:
        target[:copied].copy_(source[:copied])
    if source.numel() > copied:
        _READS[reduction](source[copied:])
    if target.numel() > copied:
        target[copied:].fill_(1.0)


def _apart(source: Tensor, target: Tensor, sum_: Tensor) -> None:
    torch.dot(source, source)
    torch.ops.zdce_cpp.stream(source[:0], target, sum_, True)


def _seconds(run: Pass, device: str) -> float:
    run()
    times = []
    for _ in range(_TRIALS):
        started = time.perf_counter()
        run()
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times)
