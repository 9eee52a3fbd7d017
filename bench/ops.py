"""``zdce bench ops``: operations in several libraries, measured in separate processes with the allocator's settings.

Fresh pages are dear: glibc gives blocks above 32 MiB back to the kernel, and every eager operation gets new ones. So all are
measured with an allocator that keeps what was freed, as ``zdce train`` does, and once more without where asked.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import torch

from zdce.errors import InputError

from . import memory
from .cases import CASES, MODES, Setting
from .gpus import check_device
from .measuring import STREAMING, Job
from .processes import KEEP_FREED_MEMORY, Outcome, measured
from .providers import PROVIDERS
from .rows import Row

SUITE, DEFAULT_ALLOCATOR, SCALING = "ops", "ops-default-allocator", "ops-scaling"

# Cases that take long enough to show the growth of time with the image.
_SCALED = ("apply_curve", "zero_reference_objective")


@dataclass(frozen=True)
class Options:
    """Options of ``zdce bench ops``; empty ``cases`` or ``providers`` mean all."""

    setting: Setting = field(default_factory=Setting)
    cases: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    threads: int | None = None
    seconds: float = 3.0
    default_allocator: bool = False
    scaling: bool = False
    compiled_memory: bool = True


def quick(options: Options) -> Options:
    """Options for a fraction of the time: two images, few rounds, and no compilation to measure memory."""
    return replace(options, setting=replace(options.setting, batch=2), seconds=0.1, compiled_memory=False)


def run(options: Options) -> Outcome:
    """Runs the measuring processes and collects their rows and notes.

    Raises:
        InputError: the setting can't be measured.
        ChildProcessError: a measuring process failed.
    """
    _check(options)
    total = Outcome()
    for job, environment in _jobs(options):
        total.add(measured("measuring", job.to_json(), environment, f"{job.suite} ({job.work})"))
    if reason := memory.why_missing(options.setting.device):
        total.notes.append(f"extra memory is left out: {reason}")
    return total


def run_on_gpu(setting: Setting) -> list[Row]:
    """Rows for the operations of ``zdce`` on the GPU of this machine; empty without a GPU."""
    if not torch.cuda.is_available():
        return []
    providers = tuple(name for name in PROVIDERS if name.startswith("zdce-"))
    return run(Options(replace(setting, device="cuda"), providers=providers)).rows


def _check(options: Options) -> None:
    setting = options.setting
    if min(setting.height, setting.width) < 16:
        raise InputError(f"size must be at least 16 pixels, got {setting.height}x{setting.width}")
    check_device(setting.device)
    if setting.device != "cpu" and setting.dtype == "float64":
        raise InputError("dtype must be float32, bfloat16 or float16 on a GPU, got float64")


def _jobs(options: Options) -> list[tuple[Job, dict[str, str]]]:
    providers = options.providers or tuple(PROVIDERS)
    cases = options.cases or tuple(CASES)
    timed = Job("time", SUITE, options.setting, cases, providers, options.seconds, options.threads)
    jobs = [(timed, KEEP_FREED_MEMORY)]
    if memory.why_missing(options.setting.device) is None:
        weighed = tuple(name for name in providers if options.compiled_memory or not PROVIDERS[name].compiles)
        jobs.append((replace(timed, work="memory", providers=weighed), memory.ENVIRONMENT))
    if options.default_allocator:
        jobs.append((replace(timed, suite=DEFAULT_ALLOCATOR), {}))
    if options.scaling:
        # Eager code needs many gigabytes at 12 megapixels: it is measured only if named.
        scaled = options.providers or tuple(name for name in PROVIDERS if name.startswith("zdce-"))
        job = replace(timed, work="scaling", suite=SCALING, cases=options.cases or _SCALED, providers=scaled)
        jobs.append((job, KEEP_FREED_MEMORY))
    return jobs


# Columns of the printed table.

COLUMNS = ("provider", *MODES, "20-80 %", "GB/s", "share", "x eager", "x compiled", "MiB")


def suites(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(row.suite for row in rows))


def tables(rows: Iterable[Row], suite: str) -> dict[str, list[list[str]]]:
    """Tables by case: a line for each provider, with ``COLUMNS``; values without a mode are of both modes together."""
    found: dict[str, dict[str, dict[tuple[str, str], Row]]] = {}
    for row in rows:
        if row.suite == suite and row.metric != "error":
            found.setdefault(row.case, {}).setdefault(row.provider, {})[row.mode, row.metric] = row
    order = [*PROVIDERS, STREAMING]
    return {case: [[name, *_cells(lines[name])] for name in sorted(lines, key=order.index)] for case, lines in found.items()}


def _cells(found: dict[tuple[str, str], Row]) -> list[str]:
    def cell(metric: str, mode: str = "both") -> str:
        row = found.get((mode, metric))
        return "" if row is None else f"{row.value:.2f}"

    both = found.get(("both", "time"))
    times = [*(cell("time", mode) for mode in MODES), "" if both is None else f"{both.p20:.2f}-{both.p80:.2f}"]
    return [*times, *map(cell, ("bandwidth", "bandwidth_share", "speed_over_reference", "speed_over_compiled", "extra_memory"))]


SCALING_COLUMNS = ("case", "provider", "shape", *(f"{mode} ns/px" for mode in MODES))


def scaling_table(rows: Iterable[Row]) -> list[list[str]]:
    lines: dict[tuple[str, str, str], dict[str, str]] = {}
    for row in rows:
        if row.metric == "time_per_pixel":
            lines.setdefault((row.case, row.provider, row.shape), {})[row.mode] = f"{row.value:.2f}"
    return [[*which, *(modes[mode] for mode in MODES)] for which, modes in lines.items()]
