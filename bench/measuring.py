"""Measuring process: started by ``zdce.bench.ops`` with the allocator's settings in its environment, prints rows as JSON.

Providers with wrong results are reported and not timed. ``python -P -m zdce.bench.measuring '{...}'``, the fields of Job.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from zdce.runtime import progress, system

from . import correctness, memory
from .cases import CASES, MODES, Case, Setting, gradients, value
from .processes import JsonJob, Outcome
from .providers import PROVIDERS, Provider
from .rows import Row, spread
from .streaming import streaming
from .timing import Clock, Timed, rounds

STREAMING = "streaming"


@dataclass(frozen=True)
class Job(JsonJob):
    """Work of one process.

    Attributes:
        work: ``time``, ``memory`` or ``scaling``.
        suite: suite of the rows.
        setting: setting of the inputs.
        cases, providers: names.
        seconds: time to measure each case for.
        threads: number of threads; None: torch's own number.
    """

    work: str
    suite: str
    setting: Setting = field(default_factory=Setting)
    cases: tuple[str, ...] = tuple(CASES)
    providers: tuple[str, ...] = tuple(PROVIDERS)
    seconds: float = 3.0
    threads: int | None = None

    @classmethod
    def _values(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {**super()._values(values), "setting": Setting(**values["setting"])}


class Measurement:
    """Measurement of one job; providers are an argument, so that tests can pass a wrong one."""

    def __init__(self, job: Job, providers: Mapping[str, Provider] = PROVIDERS) -> None:
        self.job, self.outcome = job, Outcome()
        if job.threads is not None:
            torch.set_num_threads(job.threads)
        self.device = system.processor() if job.setting.device == "cpu" else torch.cuda.get_device_name(job.setting.device)
        self.providers = {name: providers[name] for name in job.providers if self._can_run(name, providers[name])}

    def _can_run(self, name: str, provider: Provider) -> bool:
        reason = provider.missing(self.job.setting)
        if reason is not None:
            self.outcome.notes.append(f"{name} is left out: {reason}")
        return reason is None

    def run(self) -> Outcome:
        work = {"time": self._time, "memory": self._memory, "scaling": self._scaling}[self.job.work]
        for name in progress.track(self.job.cases, len(self.job.cases), f"{self.job.suite}, {self.job.work}"):
            if any(provider.compiles for provider in self.providers.values()):  # or the compiler would be imported for nothing
                torch.compiler.reset()
            work(CASES[name])
        return self.outcome

    def _row(
        self,
        case: Case,
        provider: str,
        mode: str,
        metric: str,
        unit: str,
        values: list[float],
        setting: Setting | None = None,
    ) -> None:
        setting = setting or self.job.setting
        self.outcome.rows.append(
            Row.of(
                self.job.suite, case.name, provider, mode, metric, unit, values, setting.shape, setting.dtype,
                torch.get_num_threads(), self.device,
            )
        )  # fmt: skip

    # Correctness.

    def _correct(self, case: Case, setting: Setting) -> dict[str, Callable[..., Any]]:
        """Functions of the providers that pass the check."""
        expected = correctness.truth(case, setting)
        functions = {}
        for name, provider in self.providers.items():
            with self.outcome.leaving_out(f"{name} is left out of {case.name}"):
                function = provider.functions(case.name)
                error = correctness.error(case, setting, function, expected)
                self._row(case, name, "both", "error", "tolerances", [error], setting)
                if error <= 1:
                    functions[name] = function
                else:
                    self.outcome.wrong = True
                    found = f"its error is {error:.3g} times what is tolerated"
                    self.outcome.notes.append(f"{name} is wrong in {case.name}: {found}")
        return functions

    # Time.

    def _time(self, case: Case) -> None:
        setting = self.job.setting
        functions = self._correct(case, setting)
        tensors, start, clock = case.tensors(setting), case.gradient(setting), Clock(setting.device)
        measured = {name: _timed(clock, function, tensors, start) for name, function in functions.items()}
        traffic = {mode: case.traffic(setting, mode) for mode in MODES}
        passes = {mode: streaming(*traffic[mode], setting.device) for mode in MODES}
        measured |= {f"{STREAMING} {mode}": _clocked(clock, passes[mode].run) for mode in MODES}
        times = rounds(measured, self.job.seconds)
        medians: dict[tuple[str, str], float] = {}
        for name, mode, seconds in _by_mode(functions, times):
            medians[name, mode] = spread(seconds)[0]
            self._row(case, name, mode, "time", "ms", [1e3 * s for s in seconds])
        for name, mode, seconds in _by_mode(functions, times):
            moved = sum(traffic[mode])
            if moved:
                self._row(case, name, mode, "bandwidth", "GB/s", [moved / s / 1e9 for s in seconds])
            self._ratios(case, name, mode, medians)

    def _ratios(self, case: Case, name: str, mode: str, medians: dict[tuple[str, str], float]) -> None:
        own = medians[name, mode]
        if name == STREAMING:
            return
        self._row(case, name, mode, "bandwidth_share", "of streaming", [medians[STREAMING, mode] / own])
        for peer in ("reference", "compiled"):
            if (peer, mode) in medians and peer != name:
                self._row(case, name, mode, f"speed_over_{peer}", "ratio", [medians[peer, mode] / own])

    # Memory.

    def _memory(self, case: Case) -> None:
        for name, provider in self.providers.items():
            with self.outcome.leaving_out(f"{name} is left out of {case.name}"):
                self._memory_of(case, name, provider)

    def _memory_of(self, case: Case, name: str, provider: Provider) -> None:
        setting = self.job.setting
        function = provider.functions(case.name)
        # A first call, not measured, starts threads and fills small caches; compilers need the same shape.
        warm = setting if provider.compiles else replace(setting, batch=1, height=32, width=32)
        _both(function, case.tensors(warm), case.gradient(warm))
        tensors, start = case.tensors(setting), case.gradient(setting)
        calls = {"forward": partial(_forward, function, tensors), "both": partial(_both, function, tensors, start)}
        for mode, call in calls.items():
            self._row(case, name, mode, "extra_memory", "MiB", [memory.peak(call, setting.device) / 2**20])

    # Scaling.

    def _scaling(self, case: Case) -> None:
        sizes = [replace(self.job.setting, batch=1, height=height, width=width) for height, width in SIZES]
        functions = self._correct(case, replace(self.job.setting, batch=1))
        for setting in sizes:
            tensors, start, clock = case.tensors(setting), case.gradient(setting), Clock(setting.device)
            measured = {name: _timed(clock, function, tensors, start) for name, function in functions.items()}
            # Larger images have more cache and page table misses: memory is slower per pixel.
            passes = [streaming(*case.traffic(setting, mode), setting.device).run for mode in ("forward", "backward")]
            measured[STREAMING] = partial(clock.intervals, *passes)
            times = rounds(measured, self.job.seconds)
            for name, mode, seconds in _by_mode(measured, times):
                each = [1e9 * s / setting.pixels for s in seconds]
                self._row(case, name, mode, "time_per_pixel", "ns", each, setting)


# Sizes of 1, 2, 4, 8 and 12 megapixels, 4:3, like cameras.
SIZES = ((864, 1152), (1224, 1632), (1728, 2304), (2448, 3264), (3000, 4000))


def _timed(clock: Clock, function: Callable[..., Any], tensors: list[Tensor], start: Tensor | None) -> Timed:
    """Forward with autograd's records, then backward; results are freed after the time is taken."""

    def run() -> tuple[float, ...]:
        kept: list[Any] = []
        return clock.intervals(
            lambda: kept.append(value(function, tensors)),
            lambda: kept.append(gradients(kept[0], tensors, start)),
        )

    return run


def _clocked(clock: Clock, step: Callable[[], object]) -> Timed:
    return lambda: clock.intervals(step)


def _by_mode(functions: Mapping[str, Any], times: dict[str, list[tuple[float, ...]]]) -> Iterator[tuple[str, str, list[float]]]:
    """(provider, mode, seconds): runs of forward and backward give all three modes; streaming is timed for each mode."""
    for name in functions:
        for mode, pick in zip(MODES, (lambda t: t[0], lambda t: t[1], sum), strict=True):
            yield name, mode, [pick(run) for run in times[name]]
    for mode in MODES:
        if f"{STREAMING} {mode}" in times:
            yield STREAMING, mode, [run[0] for run in times[f"{STREAMING} {mode}"]]


def _both(function: Callable[..., Any], tensors: list[Tensor], start: Tensor | None) -> tuple[Tensor, ...]:
    return gradients(value(function, tensors), tensors, start)


def _forward(function: Callable[..., Any], tensors: list[Tensor]) -> tuple[Tensor, ...]:
    return (value(function, tensors),)


def main() -> None:
    outcome = Measurement(Job.from_json(sys.argv[1])).run()
    print(outcome.to_json())  # noqa: T201 (the answer)


if __name__ == "__main__":
    main()
