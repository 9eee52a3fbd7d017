"""The measuring process of ``zdce bench train``: whole training steps side by side, gradients and loss curves checked first.

``python -P -m zdce.bench.steps '{...}'``, the fields of Job; prints rows as JSON.
"""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from zdce import ops, reference
from zdce.models.network import DCENet
from zdce.ops import Objective, dispatch
from zdce.runtime import progress, system

from . import loop, memory
from .processes import Outcome
from .rows import Row, spread
from .timing import Clock, Timed, rounds

SUITE = "train"

# A step's parts: the network, the objective, each forward and back, and Adam.
PARTS = ("convolutions", "objective", "optimizer")
STEP = "step"

# Which part each lap of a step belongs to.
_LAPS = ("convolutions", "objective", "objective", "convolutions", "optimizer")

# A step of some hundred milliseconds finds nothing of the former one in the caches.
_LONG = 0.05

# Of a parameter's largest true gradient. float32: sums of a million terms in any order, through five to seven layers, and
# here and there a value so near 0 that rounding decides whether its ReLU passes it. bfloat16 keeps 8 bits of each value.
TOLERANCES = {"float32": 1e-3, "bfloat16": 0.3}

# The float64 gradients of two such images take a second.
_CHECKED_BATCH, _CHECKED_SIZE = 2, 64

# Of float64's loss, in 200 steps: Adam divides by a gradient's own size, so that rounding counts where gradients are small,
# and steps build on each other. In the largest network PyTorch's own float32 ends 3e-4 away, bf16 autocast 1.4e-3.
CURVE_TOLERANCES = {"float32": 1e-3, "bfloat16": 0.01}

# Whose loop of `zdce train --augment crops` is watched.
LOOP_PROVIDER = "zdce"

_LEAST_ROUNDS = 3


@dataclass(frozen=True)
class Job:
    """What one process measures.

    Attributes:
        work: ``time``, ``memory`` or ``loop``.
        variants, providers: names.
        batch, size: of the images, (batch, 3, size, size).
        seconds: of each variant's rounds.
        threads: None leaves torch's own number.
        curve: steps of the loss curves that are compared before anything is timed.
    """

    work: str
    variants: tuple[str, ...]
    providers: tuple[str, ...]
    batch: int = 16
    size: int = 256
    seconds: float = 20.0
    threads: int | None = None
    curve: int = 200

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Job":
        return cls(**json.loads(text))

    def image(self) -> Tensor:
        """Dark images (batch, 3, size, size)."""
        size = (self.batch, 3, self.size, self.size)
        return torch.rand(size, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.3, 0.25, 0.2])[:, None, None]


@dataclass(frozen=True)
class Provider:
    """A way to train: the objective's functions, the backend, how the network runs and what it keeps."""

    objective: Callable[..., Objective] = reference.zero_reference_objective
    backend: str = "reference"
    layout: torch.memory_format = torch.contiguous_format
    autocast: bool = False
    compiles: bool = False
    activations: str = "float32"

    @property
    def dtype(self) -> str:
        return "bfloat16" if self.autocast else self.activations


# Eager PyTorch with the losses as anyone writes them, what PyTorch has to make it faster, and zdce.
PROVIDERS = {
    "eager": Provider(),
    "channels_last": Provider(layout=torch.channels_last),
    "bf16_autocast": Provider(layout=torch.channels_last, autocast=True),
    "compiled": Provider(compiles=True),
    "zdce": Provider(ops.zero_reference_objective, backend="auto"),
    "zdce_bf16": Provider(ops.zero_reference_objective, backend="auto", activations="bfloat16"),
}


class Trainer:
    """A network, its optimiser and its images with one provider."""

    def __init__(self, provider: Provider, variant: str, image: Tensor) -> None:
        torch.manual_seed(0)
        self.provider = provider
        self.model = DCENet(variant, provider.activations)
        self.model.to(dtype=image.dtype, memory_format=provider.layout)  # type: ignore[call-overload]
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-4)
        self.image = image.to(memory_format=provider.layout)
        self._network: Callable[[Tensor], Tensor] = self.model
        self._loss = self._total
        if provider.compiles:
            # Shapes fixed and no break in the graphs: the best that torch.compile does without its autotuner. They part where
            # inductor, which calls a library for convolutions, fuses nothing.
            self._network, self._loss = (torch.compile(f, fullgraph=True, dynamic=False) for f in (self.model, self._total))

    def _total(self, logits: Tensor) -> Tensor:
        return self.provider.objective(self.image, logits, iterations=self.model.variant.iterations).total

    def _differentiate(self, lap: Callable[[], None]) -> Tensor:
        """Fills the gradients and gives the loss; ``lap`` is called where ``_LAPS`` change."""
        self.optimizer.zero_grad()
        with dispatch.backend(self.provider.backend):
            with torch.autocast("cpu", torch.bfloat16, enabled=self.provider.autocast):
                logits = self._network(self.image)
            lap()
            total = self._loss(logits.to(self.image.dtype))
            lap()
        logits.register_hook(lambda grad: lap())
        del logits  # or it would outlive the objective's part, and count as memory that a step needs
        total.backward()
        lap()
        return total.detach()

    def gradients(self) -> list[Tensor]:
        self._differentiate(lambda: None)
        return [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]

    def losses(self, steps: int) -> Tensor:
        """Of so many steps, (steps,)."""
        return torch.tensor([self.step().item() for _ in range(steps)], dtype=torch.float64)

    def step(self, lap: Callable[[], None] = lambda: None) -> Tensor:
        loss = self._differentiate(lap)
        self.optimizer.step()
        lap()
        return loss

    def timed(self, clock: Clock) -> Timed:
        def run() -> tuple[float, ...]:
            laps = clock.laps(self.step)
            return tuple(sum(lap for lap, of in zip(laps, _LAPS, strict=True) if of == part) for part in PARTS)

        return run


@dataclass(frozen=True)
class Truth:
    """What float64 gives, and how far a provider is from it in multiples of what is tolerated: above 1, or NaN, is wrong.

    Attributes:
        gradients: of the first step, one a parameter.
        losses: of the first steps, (steps,).
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
        """Of the gradients, each against its parameter's largest."""
        got = Trainer(provider, self.variant, self.image).gradients()
        distances = [
            (value.double() - truth).abs().max() / truth.abs().max() for value, truth in zip(got, self.gradients, strict=True)
        ]
        return torch.stack(distances).max().item() / TOLERANCES[provider.dtype]

    def curve_error(self, provider: Provider) -> float:
        """Of the loss curve, each step's loss against the true one."""
        got = Trainer(provider, self.variant, self.image).losses(len(self.losses))
        return ((got - self.losses).abs() / self.losses).max().item() / CURVE_TOLERANCES[provider.dtype]


class Measurement:
    """One job at work. Providers are an argument, so that a test may bring a wrong one."""

    def __init__(self, job: Job, providers: Mapping[str, Provider] = PROVIDERS) -> None:
        self.job, self.outcome = job, Outcome()
        if job.threads is not None:
            torch.set_num_threads(job.threads)
        self.providers = {name: providers[name] for name in job.providers}
        self.device = system.processor()

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
        """The providers that pass the checks."""
        small, passed = replace(self.job, batch=_CHECKED_BATCH, size=_CHECKED_SIZE), []
        truth = Truth.of(variant, small.image(), self.job.curve)
        for name, provider in self.providers.items():
            try:
                found = {"error": truth.error(provider)}
                if self.job.curve:
                    found["curve_error"] = truth.curve_error(provider)
            except Exception as problem:  # a compiler that fails must not take the other providers along
                self._left_out(variant, name, problem)
                continue
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
        clock, image = Clock("cpu"), self.job.image()
        trainers = {name: Trainer(self.providers[name], variant, image) for name in self._correct(variant)}
        times = rounds(
            {name: trainer.timed(clock) for name, trainer in trainers.items()}, self.job.seconds, _LEAST_ROUNDS, _LONG
        )
        steps = {name: [sum(parts) for parts in each] for name, each in times.items()}
        for name, each in times.items():
            for i, part in enumerate(PARTS):
                self._row(variant, name, part, "time", "ms", [1e3 * parts[i] for parts in each])
                self._row(variant, name, part, "share", "of the step", [sum(parts[i] for parts in each) / sum(steps[name])])
            self._row(variant, name, STEP, "time", "ms", [1e3 * seconds for seconds in steps[name]])
            self._row(variant, name, STEP, "speed", "images/s", [self.job.batch / seconds for seconds in steps[name]])
            if "eager" in steps and name != "eager":
                ratio = spread(steps["eager"])[0] / spread(steps[name])[0]
                self._row(variant, name, STEP, "speed_over_eager", "ratio", [ratio])

    def _left_out(self, variant: str, name: str, problem: Exception) -> None:
        first = next(iter(str(problem).splitlines()), "")
        self.outcome.notes.append(f"{name} is left out of {variant}: {type(problem).__name__}: {first}")

    def _memory(self, variant: str) -> None:
        for name, provider in self.providers.items():
            try:
                self._memory_of(variant, name, provider)
            except Exception as problem:  # as above
                self._left_out(variant, name, problem)

    def _memory_of(self, variant: str, name: str, provider: Provider) -> None:
        # Threads, code and Adam's state are there before the step that counts; a compiler works on that very shape.
        warm = self.job if provider.compiles else replace(self.job, batch=1, size=32)
        trainer = Trainer(provider, variant, warm.image())
        trainer.step()
        trainer.image = self.job.image().to(memory_format=provider.layout)
        most = memory.peak(lambda: [trainer.step()], "cpu") / 2**20
        self._row(variant, name, STEP, "extra_memory", "MiB", [most])

    def _loop(self, variant: str) -> None:
        with TemporaryDirectory() as folder:
            share = loop.step_share(variant, self.job.batch, self.job.size, Path(folder))
        self._row(variant, LOOP_PROVIDER, STEP, "share", "of the loop", [share])
        self._row(variant, LOOP_PROVIDER, "data", "share", "of the loop", [1 - share])


def main() -> None:
    outcome = Measurement(Job.from_json(sys.argv[1])).run()
    print(json.dumps({**asdict(outcome), "rows": [row.to_dict() for row in outcome.rows]}))  # noqa: T201 (the answer)


if __name__ == "__main__":
    main()
