"""``zdce bench train``: whole training steps side by side, measured in processes of their own with the allocator's settings."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from . import memory
from .processes import KEEP_FREED_MEMORY, Outcome, measured
from .rows import Row
from .steps import PARTS, PROVIDERS, STEP, Job


@dataclass(frozen=True)
class Options:
    """What ``zdce bench train`` was asked for; no ``providers`` are all of them."""

    variants: tuple[str, ...] = ("base",)
    providers: tuple[str, ...] = ()
    batch: int = 16
    size: int = 256
    threads: int | None = None
    seconds: float = 20.0
    compiled: bool = True


def quick(options: Options) -> Options:
    """The same in a fraction of the time: two images, few rounds, and nothing compiled."""
    return replace(options, batch=2, seconds=0.1, compiled=False)


def run(options: Options) -> Outcome:
    """Measures time, then memory.

    Raises:
        ChildProcessError: a measuring process failed.
    """
    names = options.providers or tuple(PROVIDERS)
    chosen = tuple(name for name in names if options.compiled or not PROVIDERS[name].compiles)
    job = Job("time", options.variants, chosen, options.batch, options.size, options.seconds, options.threads)
    total = Outcome()
    total.add(measured("steps", job.to_json(), KEEP_FREED_MEMORY, "training steps (time)"))
    if reason := memory.why_missing("cpu"):
        total.notes.append(f"extra memory is left out: {reason}")
    else:
        # What a step needs beyond images and parameters, at its highest point.
        weighed = replace(job, work="memory").to_json()
        total.add(measured("steps", weighed, memory.ENVIRONMENT, "training steps (memory)"))
    return total


# The table on screen.

COLUMNS = ("provider", *PARTS, STEP, "20-80 %", "images/s", "x eager", "MiB")


def tables(rows: Iterable[Row]) -> dict[str, list[list[str]]]:
    """For each variant a line a provider, in ``COLUMNS``."""
    found: dict[str, dict[str, dict[tuple[str, str], Row]]] = {}
    for row in rows:
        if row.metric != "error":
            found.setdefault(row.case, {}).setdefault(row.provider, {})[row.mode, row.metric] = row
    return {case: [[name, *_cells(of)] for name, of in lines.items()] for case, lines in found.items()}


def _cells(found: dict[tuple[str, str], Row]) -> list[str]:
    def cell(metric: str, mode: str = STEP, digits: int = 1) -> str:
        row = found.get((mode, metric))
        return "" if row is None else f"{row.value:.{digits}f}"

    step = found.get((STEP, "time"))
    times = [*(cell("time", mode) for mode in (*PARTS, STEP)), "" if step is None else f"{step.p20:.1f}-{step.p80:.1f}"]
    return [*times, cell("speed"), cell("speed_over_eager", digits=2), cell("extra_memory", digits=0)]
