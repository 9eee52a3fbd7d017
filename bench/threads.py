"""``zdce bench threads``: predicted efficiency of the engine on many processors, from tiles measured on one."""

import heapq
import statistics
import time
from collections.abc import Sequence

import numpy as np

from zdce.errors import InputError
from zdce.models import stored
from zdce.models.engine import Engine, Tile
from zdce.runtime import progress, system

from .rows import Row

SUITE = "threads"
THREADS = (1, 2, 4, 8, 16, 32, 64, 128)
SIZES = {"VGA": (480, 640), "1 MP": (900, 1200), "4K": (2160, 3840), "108 MP": (9000, 12000)}

# Pixels of surroundings that a measured tile has: more than any network sees.
_AROUND = 64


def run(names: Sequence[str], sizes: Sequence[str] = tuple(SIZES), repeats: int = 3) -> list[Row]:
    """Rows of the predicted efficiency: one thread's time for the whole picture, over all processors' until the last tile.

    Each form of a tile is run ``repeats`` times on one thread, and the median of its processor time counts. Then threads take
    the plan's tiles one by one, as the engine's do. What processors share - memory, the third-level cache, heat - is not in it.

    Args:
        names: networks, by name or path.
        sizes: keys of SIZES.
        repeats: times to run each form of a tile.

    Raises:
        InputError: a network estimates its curve on a smaller picture, which is not worked on in such tiles.
        MissingFileError: there is no such network.
    """
    device, rows = system.processor(), []
    cases = [(name, size) for name in names for size in sizes]
    for name, size in progress.track(cases, len(cases), "threads"):
        engine, (height, width) = Engine(stored.read(name)), SIZES[size]
        if engine.variant.guided or engine.variant.scale > 1:
            raise InputError(f"model must be a network that estimates its curve at full size, got {name}")
        plans = {threads: [_form(tile, height, width) for tile in engine.plan(height, width, threads)] for threads in THREADS}
        seconds = _measured(engine, {form for forms in plans.values() for form in forms}, repeats)
        alone = sum(seconds[form] for form in plans[1])
        for threads, forms in plans.items():
            share = alone / (threads * makespan([seconds[form] for form in forms], threads))
            for metric, unit, value in (("efficiency", "of all processors", share), ("tiles", "", float(len(forms)))):
                rows.append(
                    Row.of(SUITE, f"{name} {size}", "zdce", "predicted", metric, unit, [value], f"{height}x{width}", "uint8",
                           threads, device)
                )  # fmt: skip
    return rows


def makespan(times: Sequence[float], threads: int) -> float:
    """Time at which the last of the tasks with these ``times`` ends, if each thread takes the next one when it has finished
    one.

    >>> makespan([3.0, 1.0, 1.0, 2.0], 2)
    4.0
    """
    ends = [0.0] * threads
    for seconds in times:
        heapq.heappush(ends, heapq.heappop(ends) + seconds)
    return max(ends)


# Rows and columns of a tile, and of its surroundings above, below, left and right: tiles of one form take the same time.
_Form = tuple[int, int, int, int, int, int]


def _form(tile: Tile, height: int, width: int) -> _Form:
    top, bottom, left, right = tile
    above, below, before, behind = (_AROUND if there else 0 for there in (top, height - bottom, left, width - right))
    return bottom - top, right - left, above, below, before, behind


def _measured(engine: Engine, forms: set[_Form], repeats: int) -> dict[_Form, float]:
    """Median seconds of processor time; measured in rounds, so that a slow moment does not affect one form alone."""
    random = np.random.default_rng(0)
    times: dict[_Form, list[float]] = {form: [] for form in sorted(forms)}
    for _ in range(repeats + 1):
        for (rows, columns, above, below, before, behind), taken in times.items():
            picture = random.integers(0, 64, (above + rows + below, before + columns + behind, 3), np.uint8)
            tile, result = (above, above + rows, before, before + columns), np.empty_like(picture)
            begun = time.thread_time()
            engine.run_tile(picture, tile, result)
            taken.append(time.thread_time() - begun)
    return {form: statistics.median(taken[1:]) for form, taken in times.items()}


COLUMNS = ("network and size", *(f"{threads}" for threads in THREADS))


def table(rows: Sequence[Row]) -> list[list[str]]:
    """A line for each network and size, with the efficiency for each number of threads."""
    lines: dict[str, list[str]] = {}
    for row in rows:
        if row.metric == "efficiency":
            lines.setdefault(row.case, []).append(f"{row.value:.2f}")
    return [[case, *values] for case, values in lines.items()]
