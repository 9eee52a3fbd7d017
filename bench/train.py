"""``zdce bench train``: whole training steps side by side, measured in processes of their own with the allocator's settings."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from zdce.errors import InputError

from . import memory
from .gpus import check_device
from .processes import KEEP_FREED_MEMORY, Outcome, measured
from .rows import Row
from .steps import LOOP_PROVIDER, PARTS, STEP, SUITE, Job, providers


@dataclass(frozen=True)
class Options:
    """Options of ``zdce bench train``; empty ``providers`` mean all of the device, empty ``threads`` torch's own number."""

    variants: tuple[str, ...] = ("base",)
    providers: tuple[str, ...] = ()
    batch: int = 16
    size: int = 256
    threads: tuple[int, ...] = ()
    seconds: float = 20.0
    curve: int = Job.curve
    compiled: bool = True
    device: str = "cpu"


def quick(options: Options) -> Options:
    """Options for a fraction of the time: two images, few rounds, short loss curves, and no compilation."""
    return replace(options, batch=2, seconds=0.1, curve=20, compiled=False)


def run(options: Options) -> Outcome:
    """Measures time with each number of threads, then memory and the loop of ``zdce train --augment crops``.

    Raises:
        InputError: the device is a GPU and torch sees none, or it has no such provider.
        ChildProcessError: a measuring process failed.
    """
    check_device(options.device)
    known = providers(options.device)
    names = options.providers or tuple(known)
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"providers must be among {', '.join(known)} on {options.device}, got {', '.join(unknown)}")
    chosen = tuple(name for name in names if options.compiled or not known[name].compiles)
    threads: tuple[int | None, ...] = tuple(sorted(set(options.threads))) or (None,)
    job = Job(
        "time", options.variants, chosen, options.batch, options.size, options.seconds, threads[-1], options.curve,
        options.device,
    )  # fmt: skip
    total = Outcome()
    for number in threads:
        # Loss curves are the same for every number of threads up to rounding, so one check is enough.
        timed = replace(job, threads=number, curve=options.curve if number == threads[-1] else 0)
        total.add(measured("steps", timed.to_json(), KEEP_FREED_MEMORY, "training steps (time)"))
    total.rows += scaling(total.rows)
    if reason := memory.why_missing(options.device):
        total.notes.append(f"extra memory is left out: {reason}")
    else:
        # Peak memory of a step beyond images and parameters.
        weighed = replace(job, work="memory").to_json()
        total.add(measured("steps", weighed, memory.ENVIRONMENT, "training steps (memory)"))
    if LOOP_PROVIDER in chosen and options.device == "cpu":
        total.add(measured("steps", replace(job, work="loop").to_json(), KEEP_FREED_MEMORY, "the training loop"))
    return total


def scaling(rows: Iterable[Row]) -> list[Row]:
    """Each provider's speed with more threads, relative to the fewest."""
    speeds: dict[tuple[str, str], dict[int | None, Row]] = {}
    for row in rows:
        if row.metric == "speed":
            speeds.setdefault((row.case, row.provider), {})[row.threads] = row
    found = []
    for of in speeds.values():
        fewest, *more = (of[threads] for threads in sorted(of, key=lambda threads: threads or 0))
        found += [
            replace(row, metric=SCALING, unit="ratio", value=row.value / fewest.value, p20=None, p80=None) for row in more
        ]
    return found


# The printed tables.

SCALING = "speed_over_fewest_threads"

COLUMNS = ("provider", *PARTS, STEP, "20-80 %", "images/s", "x eager", "x threads", "MiB")


def tables(rows: Iterable[Row]) -> dict[tuple[str, int | None], list[list[str]]]:
    """Tables by variant and number of threads: a line for each provider, with ``COLUMNS``."""
    found: dict[tuple[str, int | None], dict[str, dict[tuple[str, str], Row]]] = {}
    for row in rows:
        if row.unit not in ("tolerances", "of the loop"):
            found.setdefault((row.case, row.threads), {}).setdefault(row.provider, {})[row.mode, row.metric] = row
    return {case: [[name, *_cells(of)] for name, of in lines.items()] for case, lines in found.items()}


def _cells(found: dict[tuple[str, str], Row]) -> list[str]:
    def cell(metric: str, mode: str = STEP, digits: int = 1) -> str:
        row = found.get((mode, metric))
        return "" if row is None else f"{row.value:.{digits}f}"

    def part(mode: str) -> str:
        share = found.get((mode, "share"))
        return "" if share is None else f"{cell('time', mode)} ({share.value:.0%})"

    step = found.get((STEP, "time"))
    times = [*map(part, PARTS), cell("time"), "" if step is None else f"{step.p20:.1f}-{step.p80:.1f}"]
    return [*times, cell("speed"), cell("speed_over_eager", digits=2), cell(SCALING, digits=2), cell("extra_memory", digits=0)]


def loops(rows: Iterable[Row]) -> list[str]:
    """A line for each variant about the loop of ``zdce train --augment crops``."""
    return [
        f"zdce train --augment crops, {row.case}: {row.value:.1%} of the loop's time lies inside its steps"
        for row in rows
        if (row.suite, row.mode, row.unit) == (SUITE, STEP, "of the loop")
    ]
