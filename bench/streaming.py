"""How fast this machine's memory is for this process: a pass that reads and writes so many bytes and does nothing else.

torch has no operation that only moves bytes in and out, so that a pass is made of its fastest ones, each on all threads: bytes
are read by a reduction and written by a fill, or both at once by a copy. Which ways are fastest is tried on the spot, so
that the pass is the best that torch can do here.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Pass = Callable[[], object]

# Reductions of float32 that are one pass over their input.
_READS: dict[str, Callable[[Tensor], object]] = {
    "sum": torch.sum,
    "amax": torch.amax,
    "dot": lambda a: torch.dot(a, a),
}
_WRITES: dict[str, Callable[[Tensor], object]] = {"fill": lambda a: a.fill_(1.0), "zero": torch.zero_}
_TRIALS = 5


@dataclass(frozen=True)
class Streaming:
    """Buffers in fresh but touched memory, and the fastest ways over them."""

    run: Pass
    described: str


def streaming(read: int, written: int, device: str) -> Streaming:
    """A pass that reads ``read`` bytes and writes ``written`` bytes."""
    source = torch.ones(read // 4, device=device)
    target = torch.zeros(written // 4, device=device)
    apart = {
        f"{reads} + {writes}": _apart(source, target, reads, writes)
        for reads in (_READS if read else ["sum"])
        for writes in (_WRITES if written else ["fill"])
    }
    together = {f"copy, {rest}": _together(source, target, rest) for rest in (_READS if read > written > 0 else ())}
    ways = apart | together
    best = min(ways, key=lambda name: _seconds(ways[name], device))
    return Streaming(ways[best], best)


def _apart(source: Tensor, target: Tensor, reads: str, writes: str) -> Pass:
    def run() -> None:
        if source.numel():
            _READS[reads](source)
        if target.numel():
            _WRITES[writes](target)

    return run


def _together(source: Tensor, target: Tensor, rest: str) -> Pass:
    first, others = source[: target.numel()], source[target.numel() :]

    def run() -> None:
        target.copy_(first)
        _READS[rest](others)

    return run


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
