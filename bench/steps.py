"""Measuring process of ``zdce bench train``: whole training steps by several providers, after checks of gradients and losses.

``python -P -m zdce.bench.steps '{...}'``, the fields of Job; prints rows as JSON.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from zdce import backends, ops, reference
from zdce.models.network import DCENet
from zdce.ops import Objective
from zdce.runtime import float32, progress, system
from zdce.training import step_graph
from zdce.training.config import AMP, Config
from zdce.training.learner import Learner
from zdce.training.step_graph import StepGraph

from . import loop, memory
from .processes import JsonJob, Outcome
from .rows import Row, spread
from .timing import Clock, Timed, rounds

SUITE = "train"

# Parts of a step: network and objective, each forward and backward, and Adam.
PARTS = ("convolutions", "objective", "optimizer")
STEP = "step"

# Part of each lap of a step.
_LAPS = ("convolutions", "objective", "objective", "convolutions", "optimizer")

# A step takes some hundred milliseconds: caches do not need to be cleared before it.
_LONG = 0.05

# Tolerances relative to a parameter's largest true gradient. float32: sums of a million terms in any order, five to seven
# layers, and values so close to 0 that rounding decides about their ReLU. bfloat16: 8 bits for each value; float16: 11.
TOLERANCES = {"float32": 1e-3, "bfloat16": 0.3, "float16": 0.05}

# Checked images: the float64 gradients take a second.
_CHECKED_BATCH, _CHECKED_SIZE = 2, 64

# Tolerances relative to float64's loss, over 200 steps: Adam divides by the size of a gradient, so that rounding errors of
# small gradients count, and steps depend on each other. In the largest network PyTorch's float32 differs by 3e-4, bf16 autocast
# by 1.4e-3.
CURVE_TOLERANCES = {"float32": 1e-3, "bfloat16": 0.01, "float16": 0.01}

_LEARNING_RATE = 1e-4

# Variant whose loop of `zdce train --augment crops` is measured.
LOOP_PROVIDER = "zdce"

_LEAST_ROUNDS = 3


@dataclass(frozen=True)
class Job(JsonJob):
    """Work of one process.

    Attributes:
        work: ``time``, ``memory`` or ``loop``.
        variants, providers: names.
        batch, size: of the images, (batch, 3, size, size).
        seconds: time to measure each variant for.
        threads: number of threads; None: torch's own number.
        curve: steps of the loss curves that are compared before measurements.
        device: ``cpu`` or ``cuda``.
    """

    work: str
    variants: tuple[str, ...]
    providers: tuple[str, ...]
    batch: int = 16
    size: int = 256
    seconds: float = 20.0
    threads: int | None = None
    curve: int = 200
    device: str = "cpu"

    def image(self) -> Tensor:
        """Dark images (batch, 3, size, size), of 8 bits."""
        size = (self.batch, 3, self.size, self.size)
        image = torch.rand(size, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.3, 0.25, 0.2])[:, None, None]
        return ((image * 255).round() / 255).to(self.device)


@dataclass(frozen=True)
class Provider:
    """A way to train.

    Attributes:
        objective, backend: function of the objective, and the backend of its operators.
        layout: of weights and images.
        autocast: type of torch's autocast; None: it is off.
        compiles: whether torch.compile is used.
        activations: as for ``DCENet``.
        graph: whether a step is one CUDA graph, and Adam one kernel; only on GPUs.
        learner: whether steps are those of ``zdce train``, with the same images in the GPU's memory; only on GPUs. The other
            attributes then only describe it.
    """

    objective: Callable[..., Objective] = reference.zero_reference_objective
    backend: str = "reference"
    layout: torch.memory_format = torch.contiguous_format
    autocast: torch.dtype | None = None
    compiles: bool = False
    activations: str = "float32"
    graph: bool = False
    learner: bool = False

    @property
    def dtype(self) -> str:
        return str(self.autocast).removeprefix("torch.") if self.autocast else self.activations

    @property
    def warm_up(self) -> int:
        """Number of the first steps that take longer than later ones."""
        return step_graph.WARM_UP + 1 if self.graph or self.learner else 1


# Eager PyTorch with straightforward losses, and PyTorch's ways to make it faster.
_TORCH = {
    "eager": Provider(),
    "channels_last": Provider(layout=torch.channels_last),
    "bf16_autocast": Provider(layout=torch.channels_last, autocast=torch.bfloat16),
    "compiled": Provider(compiles=True),
}

PROVIDERS = {
    **_TORCH,
    "zdce": Provider(ops.zero_reference_objective, backend="auto"),
    "zdce_bf16": Provider(ops.zero_reference_objective, backend="auto", activations="bfloat16"),
    "zdce_amp": Provider(ops.zero_reference_objective, backend="auto", autocast=AMP["cpu"]),
}

# On a GPU, where PyTorch can start a step at once as well.
GPU_PROVIDERS = {
    **_TORCH,
    "eager_graph": Provider(graph=True),
    "bf16_autocast_graph": Provider(layout=torch.channels_last, autocast=torch.bfloat16, graph=True),
    "zdce": Provider(learner=True),
    "zdce_amp": Provider(autocast=AMP["cuda"], learner=True),
}


def providers(device: str) -> Mapping[str, Provider]:
    """The ways to train on ``device``, by name."""
    return GPU_PROVIDERS if device == "cuda" else PROVIDERS


class Trainer:
    """A network, its optimiser and its images, for one provider."""

    def __init__(self, provider: Provider, variant: str, image: Tensor) -> None:
        torch.manual_seed(0)
        self.provider = provider
        self.model = DCENet(variant, provider.activations)
        self.model.to(image.device, dtype=image.dtype, memory_format=provider.layout)  # type: ignore[call-overload]
        at_once = {"fused": True, "capturable": True} if provider.graph else {}
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=_LEARNING_RATE, **at_once)  # type: ignore[arg-type]
        self.image = image.to(memory_format=provider.layout)
        self._graph = StepGraph(image.device) if provider.graph else None
        self._network: Callable[[Tensor], Tensor] = self.model
        self._loss = self._total
        if provider.compiles:
            # Fixed shapes and no graph breaks: the fastest use of torch.compile without its autotuner. Two graphs, because
            # inductor calls a library for convolutions and fuses nothing across them.
            self._network, self._loss = (torch.compile(f, fullgraph=True, dynamic=False) for f in (self.model, self._total))

    def _total(self, image: Tensor, logits: Tensor) -> Tensor:
        return self.provider.objective(image, logits, iterations=self.model.variant.iterations).total

    def _differentiate(self, image: Tensor, lap: Callable[[], None]) -> Tensor:
        """Computes gradients and returns the loss; ``lap`` is called at the end of each of ``_LAPS``."""
        self.optimizer.zero_grad()
        autocast = self.provider.autocast
        with backends.backend(self.provider.backend):
            with torch.autocast(image.device.type, autocast or torch.bfloat16, enabled=autocast is not None):
                logits = self._network(image)
            lap()
            total = self._loss(image, logits.to(image.dtype))
            lap()
        logits.register_hook(lambda grad: lap())
        del logits  # frees it at the end of the objective's part; otherwise it would count as memory of a step
        total.backward()
        lap()
        return total.detach()

    def gradients(self) -> list[Tensor]:
        self._differentiate(self.image, lambda: None)
        return [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]

    def losses(self, steps: int) -> Tensor:
        """Losses of the first ``steps`` steps, (steps,)."""
        return torch.tensor([self.step().item() for _ in range(steps)], dtype=torch.float64)

    def step(self) -> Tensor:
        return self._step(self.image) if self._graph is None else self._graph.run(self._step, self.image)

    def _step(self, image: Tensor, lap: Callable[[], None] = lambda: None) -> Tensor:
        loss = self._differentiate(image, lap)
        self.optimizer.step()
        lap()
        return loss

    def timed(self, clock: Clock) -> Timed:
        """A function that returns the seconds of each of ``PARTS``, or of a step that is a graph."""
        if self._graph is not None:
            return partial(clock.intervals, self.step)

        def run() -> tuple[float, ...]:
            laps = clock.laps(partial(self._step, self.image))
            return tuple(sum(lap for lap, of in zip(laps, _LAPS, strict=True) if of == part) for part in PARTS)

        return run


class LearnerTrainer:
    """Steps of ``zdce train``, for a provider that has them."""

    def __init__(self, provider: Provider, variant: str, image: Tensor) -> None:
        batch, _, size, _ = image.shape
        amp = provider.autocast is not None
        self._learner = Learner(
            Config(variant, batch_size=batch, size=size, lr=_LEARNING_RATE, amp=amp, device=str(image.device))
        )  # fmt: skip
        self._batch = (image * 255).round().to(torch.uint8)

    def gradients(self) -> list[Tensor]:
        scale = self._learner.scaler.get_scale()
        self._learner.differentiate(self._batch)
        return [parameter.grad / scale for parameter in self._learner.model.parameters() if parameter.grad is not None]

    def losses(self, steps: int) -> Tensor:
        """Losses of the first ``steps`` steps, (steps,)."""
        return torch.tensor([self._learner.step(self._batch)[0] for _ in range(steps)], dtype=torch.float64)

    def step(self) -> None:
        self._learner.begin_step(self._batch)

    def timed(self, clock: Clock) -> Timed:
        """A function that returns the seconds of a step."""
        return partial(clock.intervals, self.step)


def trainer(provider: Provider, variant: str, image: Tensor) -> Trainer | LearnerTrainer:
    """A network of ``variant`` and its training on ``image`` (B, 3, size, size) as ``provider`` does it."""
    return (LearnerTrainer if provider.learner else Trainer)(provider, variant, image)


@dataclass(frozen=True)
class Truth:
    """Results in float64, and the error of a provider as a multiple of the tolerance: above 1, or NaN, is wrong.

    Attributes:
        gradients: gradients of the first step, one for each parameter.
        losses: losses of the first steps, (steps,).
    """

    variant: str
    image: Tensor
    gradients: list[Tensor]
    losses: Tensor

    @classmethod
    def of(cls, variant: str, image: Tensor, steps: int) -> "Truth":
        eager, double = PROVIDERS["eager"], image.double()
        gradients = Trainer(eager, variant, double).gradients()
        return cls(variant, image, gradients, Trainer(eager, variant, double).losses(steps))

    def error(self, provider: Provider) -> float:
        """Error of the gradients, relative to the largest gradient of each parameter."""
        got = trainer(provider, self.variant, self.image).gradients()
        distances = [
            (value.double() - truth).abs().max() / truth.abs().max() for value, truth in zip(got, self.gradients, strict=True)
        ]
        return torch.stack(distances).max().item() / TOLERANCES[provider.dtype]

    def curve_error(self, provider: Provider) -> float:
        """Error of the loss curve, relative to the true loss of each step."""
        got = trainer(provider, self.variant, self.image).losses(len(self.losses))
        return ((got - self.losses).abs() / self.losses).max().item() / CURVE_TOLERANCES[provider.dtype]


class Measurement:
    """Measurement of one job; ``known`` providers are an argument, so that tests can pass a wrong one."""

    def __init__(self, job: Job, known: Mapping[str, Provider] | None = None) -> None:
        self.job, self.outcome = job, Outcome()
        if job.threads is not None:
            torch.set_num_threads(job.threads)
        known = providers(job.device) if known is None else known
        self.providers = {name: known[name] for name in job.providers}
        self.device = system.processor() if job.device == "cpu" else torch.cuda.get_device_name(job.device)

    def run(self) -> Outcome:
        work = {"time": self._time, "memory": self._memory, "loop": self._loop}[self.job.work]
        for variant in progress.track(self.job.variants, len(self.job.variants), f"{SUITE}, {self.job.work}"):
            torch.compiler.reset()
            work(variant)
        return self.outcome

    def _row(
        self, variant: str, provider: str, mode: str, metric: str, unit: str, values: list[float], job: Job | None = None
    ) -> None:
        job = job or self.job
        shape = f"{job.batch}x3x{job.size}x{job.size}"
        dtype = self.providers[provider].dtype
        self.outcome.rows.append(
            Row.of(
                SUITE, variant, provider, mode, metric, unit, values, shape, dtype, torch.get_num_threads(), self.device
            )
        )  # fmt: skip

    def _correct(self, variant: str) -> list[str]:
        """Providers that pass the checks."""
        small, passed = replace(self.job, batch=_CHECKED_BATCH, size=_CHECKED_SIZE), []
        truth = Truth.of(variant, small.image(), self.job.curve)
        for name, provider in self.providers.items():
            with self.outcome.leaving_out(f"{name} is left out of {variant}"):
                found = {"error": truth.error(provider)}
                if self.job.curve:
                    found["curve_error"] = truth.curve_error(provider)
                for metric, value in found.items():
                    self._row(variant, name, STEP, metric, "tolerances", [value], small)
                    if not value <= 1:
                        self.outcome.wrong = True
                        what = f"its {metric.replace('_', ' ')} is {value:.3g} times what is tolerated"
                        self.outcome.notes.append(f"{name} is wrong in {variant}: {what}")
                if all(value <= 1 for value in found.values()):
                    passed.append(name)
        return passed

    def _time(self, variant: str) -> None:
        clock, image = Clock(self.job.device), self.job.image()
        trainers = {name: trainer(self.providers[name], variant, image) for name in self._correct(variant)}
        for name, made in trainers.items():
            for _ in range(self.providers[name].warm_up - 1):
                made.step()
        times = rounds({name: made.timed(clock) for name, made in trainers.items()}, self.job.seconds, _LEAST_ROUNDS, _LONG)
        steps = {name: [sum(parts) for parts in each] for name, each in times.items()}
        for name, each in times.items():
            for i, part in enumerate(PARTS if len(each[0]) == len(PARTS) else ()):
                self._row(variant, name, part, "time", "ms", [1e3 * parts[i] for parts in each])
                self._row(variant, name, part, "share", "of the step", [sum(parts[i] for parts in each) / sum(steps[name])])
            self._row(variant, name, STEP, "time", "ms", [1e3 * seconds for seconds in steps[name]])
            self._row(variant, name, STEP, "speed", "images/s", [self.job.batch / seconds for seconds in steps[name]])
            if "eager" in steps and name != "eager":
                ratio = spread(steps["eager"])[0] / spread(steps[name])[0]
                self._row(variant, name, STEP, "speed_over_eager", "ratio", [ratio])

    def _memory(self, variant: str) -> None:
        for name, provider in self.providers.items():
            with self.outcome.leaving_out(f"{name} is left out of {variant}"):
                self._memory_of(variant, name, provider)

    def _memory_of(self, variant: str, name: str, provider: Provider) -> None:
        # First steps, not measured, start threads and make Adam's state; compilers and graphs need the same shape. Of a graph
        # it is the capture that is measured: the graph keeps its memory.
        graph = provider.warm_up > 1
        warm = self.job if provider.compiles or graph else replace(self.job, batch=1, size=32)
        made = trainer(provider, variant, warm.image())
        for _ in range(provider.warm_up - 1 if graph else 1):
            made.step()
        if isinstance(made, Trainer):
            made.image = self.job.image().to(memory_format=provider.layout)

        def step() -> list[Tensor]:
            made.step()
            return []

        self._row(variant, name, STEP, "extra_memory", "MiB", [memory.peak(step, self.job.device) / 2**20])

    def _loop(self, variant: str) -> None:
        with TemporaryDirectory() as folder:
            share = loop.step_share(variant, self.job.batch, self.job.size, Path(folder))
        self._row(variant, LOOP_PROVIDER, STEP, "share", "of the loop", [share])
        self._row(variant, LOOP_PROVIDER, "data", "share", "of the loop", [1 - share])


def main() -> None:
    with float32.convolutions("ieee"):
        outcome = Measurement(Job.from_json(sys.argv[1])).run()
    print(outcome.to_json())  # noqa: T201 (the answer)


if __name__ == "__main__":
    main()
