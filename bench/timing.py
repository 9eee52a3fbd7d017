"""Measurement of time in rounds over everything that is compared, so that noise of the machine affects all equally."""

import itertools
import math
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

# Returns times in seconds, for instance of forward and of backward.
Timed = Callable[[], tuple[float, ...]]

_LEAST_ROUNDS, _MOST_ROUNDS = 5, 200

# Bytes written before each measurement, more than any GPU's second-level cache, so that inputs are read from memory.
_FLUSHED = 256 * 2**20

# Cycles that a GPU waits before each measurement, about two milliseconds, in which the host submits the work: otherwise a
# kernel of a tenth of a millisecond would be measured with the Python that starts it.
_HEAD_START = 4_000_000


class Clock:
    """Time of one device: of the host, or recorded in a GPU's stream."""

    def __init__(self, device: str) -> None:
        self.gpu = device != "cpu"
        self.cache = torch.empty(_FLUSHED, dtype=torch.uint8, device=device) if self.gpu else None

    def intervals(self, *steps: Callable[[], object]) -> tuple[float, ...]:
        """Seconds of each step; steps run one after the other."""

        def run(lap: Callable[[], None]) -> None:
            for step in steps:
                step()
                lap()

        return self.laps(run)

    def laps(self, run: Callable[[Callable[[], None]], object]) -> tuple[float, ...]:
        """Seconds between calls of the function that ``run`` gets, the first from the start of ``run``."""
        if self.cache is not None:
            self.cache.zero_()
            torch.cuda._sleep(_HEAD_START)
        ticks = [self._tick()]
        run(lambda: ticks.append(self._tick()))
        if self.gpu:
            torch.cuda.synchronize()
            return tuple(a.elapsed_time(b) / 1000 for a, b in itertools.pairwise(ticks))
        return tuple(b - a for a, b in itertools.pairwise(ticks))

    def _tick(self) -> Any:
        if not self.gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def rounds(
    measured: Mapping[str, Timed], seconds: float, least: int = _LEAST_ROUNDS, long: float = math.inf
) -> dict[str, list[tuple[float, ...]]]:
    """Times of each, from as many rounds as fit into ``seconds``, at least ``least``, each in another order.

    In a round each runs twice, and the second run counts: the caches then hold its own data, not its predecessor's. Those that
    take more than ``long`` seconds, for which the caches hardly matter, run once.
    """
    shuffled = random.Random(0)
    names = list(measured)
    times: dict[str, list[tuple[float, ...]]] = {name: [] for name in names}
    started = time.perf_counter()
    for done in range(_MOST_ROUNDS):
        if done >= least and time.perf_counter() - started > seconds:
            break
        shuffled.shuffle(names)
        for name in names:
            if not times[name] or sum(times[name][-1]) <= long:
                measured[name]()
            times[name].append(measured[name]())
    return times
