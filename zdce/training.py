"""Training without references: the loop, what it logs, and state that a stopped run goes on from, bit for bit."""

import csv
import io
import json
import math
import platform
import signal
import threading
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.torch
import tomli_w
import torch
from rich.progress import Progress
from torch import Tensor

from zdce import atomic, data, ops, progress, variants
from zdce.formulas import NORMALIZATIONS, Objective, Weights
from zdce.model import DCENet
from zdce.version import __version__

# Weights are kept each time this many epochs are done, unless the configuration says otherwise.
KEEP_EVERY = 10

# What a resumed run can't take anew: its network, and how far an epoch is.
_FIXED = frozenset({"variant", "data", "batch_size", "size", "seed"})

_LOG_FIELDS = ("epoch", "split", *Objective._fields, "seconds")


class TrainingError(Exception):
    """Training ended before its last epoch; the message says why and how to go on."""


class TrainingInterruptedError(TrainingError):
    """A signal asked for it; the state is saved."""


@dataclass(frozen=True)
class Config:
    """Everything that decides a run's result. Defaults are the report's.

    Attributes:
        variant: a name of ``zdce.variants.VARIANTS``.
        data: a folder, "sample" or "open"; see ``zdce.data.collection``.
        epochs, batch_size: an incomplete last batch is dropped.
        size: side in pixels that pictures are resized to, at least 16.
        lr: Adam's learning rate.
        weights: what each loss counts.
        target: the brightness that exposure control pulls towards, in [0, 1].
        normalization: of the illumination term, "paper" or "keras".
        seed: of the first weights and of each epoch's order.
        device: torch's name of it.
        keep_every: weights are kept each time this many epochs are done, and at the end.
    """

    variant: str = "base"
    data: str = data.SAMPLE
    epochs: int = 50
    batch_size: int = 16
    size: int = 256
    lr: float = 1e-4
    weights: Weights = Weights()  # noqa: RUF009 (immutable)
    target: float = 0.6
    normalization: str = "paper"
    seed: int = 0
    device: str = "cpu"
    keep_every: int = KEEP_EVERY

    def __post_init__(self) -> None:
        variants.variant(self.variant)
        for name, least in (("epochs", 1), ("batch_size", 1), ("size", 16), ("seed", 0), ("keep_every", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise ValueError(f"lr must be a positive number, got {self.lr}")
        if not 0 <= self.target <= 1:
            raise ValueError(f"target must be in [0, 1], got {self.target}")
        if self.normalization not in NORMALIZATIONS:
            raise ValueError(f"normalization must be one of {', '.join(NORMALIZATIONS)}, got {self.normalization!r}")

    def changed(self, settings: dict[str, Any], weights: dict[str, float]) -> "Config":
        """These settings but for those named, and the weights but for those named.

        Raises:
            ValueError: the run would not be the same one any more.
        """
        for name in _FIXED & settings.keys():
            if settings[name] != getattr(self, name):
                raise ValueError(f"{name} can't change in a run: it was {getattr(self, name)!r}, got {settings[name]!r}")
        return replace(self, **settings, weights=self.weights._replace(**weights))

    def to_dict(self) -> dict[str, Any]:
        """As TOML and JSON take it."""
        return {**asdict(self), "weights": self.weights._asdict()}

    def to_toml(self) -> str:
        versions = {"zdce": __version__, "torch": torch.__version__, "python": platform.python_version()}
        return tomli_w.dumps({**self.to_dict(), "versions": versions})

    @classmethod
    def from_toml(cls, text: str) -> "Config":
        """Reads what ``to_toml`` wrote.

        Raises:
            ValueError: the text is no TOML, or has other fields.
        """
        values = tomllib.loads(text)
        values.pop("versions", None)
        if unknown := set(values) - {f.name for f in fields(cls)}:
            raise ValueError(f"unknown settings: {', '.join(sorted(unknown))}")
        return cls(**{**values, "weights": Weights(**values.get("weights", {}))})


@dataclass
class Position:
    """How far a run is: whole epochs, then steps of the next one with their summed losses and seconds."""

    epoch: int = 0
    step: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0] * len(Objective._fields))
    seconds: float = 0.0


@dataclass(frozen=True)
class RunFolder:
    """The files of a run."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.toml"

    @property
    def log(self) -> Path:
        return self.path / "log.csv"

    @property
    def last(self) -> Path:
        return self.path / "last.safetensors"

    @property
    def state(self) -> Path:
        return self.path / "state.safetensors"

    def epoch(self, epoch: int) -> Path:
        return self.path / f"epoch-{epoch:03d}.safetensors"


class Pictures(NamedTuple):
    """What a run trains on and is validated with, both (N, 3, size, size) uint8."""

    training: Tensor
    validation: Tensor


def load_pictures(config: Config) -> Pictures:
    """The pictures of ``config.data``, resized.

    Raises:
        OSError: one can't be read.
        ValueError: there are fewer than one batch takes.
    """
    pictures = data.collection(config.data)
    items = pictures.training_items()
    if len(items) < config.batch_size:
        raise ValueError(f"batch_size must be at most the {len(items)} training pictures, got {config.batch_size}")
    return Pictures(
        data.load_resized(items, config.size, "loading training pictures"),
        data.load_resized(pictures.validation_items(), config.size, "loading validation pictures"),
    )


class Run:
    """One training run in a folder: made new by ``start``, gone on with by ``resume``."""

    def __init__(self, config: Config, folder: RunFolder) -> None:
        self.config = config
        self.folder = folder
        self.position = Position()
        self.rows: list[dict[str, Any]] = []
        torch.manual_seed(config.seed)
        self.model = DCENet(config.variant).to(config.device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config.lr)

    @classmethod
    def start(cls, config: Config, out: Path) -> "Run":
        """A new run in ``out``.

        Raises:
            FileExistsError: ``out`` holds a run already.
        """
        folder = RunFolder(out)
        if folder.state.exists():
            raise FileExistsError(f"{out} holds a run already: --resume goes on with it, another --out starts a new one")
        run = cls(config, folder)
        atomic.write_text(folder.config, config.to_toml())
        run._save_state()
        return run

    @classmethod
    def resume(cls, config: Config, out: Path) -> "Run":
        """The run in ``out``, where it was stopped, with the settings of ``config``.

        Raises:
            FileNotFoundError: there is no run in ``out``.
            ValueError: its state is broken or another network's.
        """
        run = cls(config, RunFolder(out))
        run._load_state()
        # A row that was written just before the run was killed, its state not yet: that epoch is done again.
        run.rows = [row for row in read_log(run.folder) if int(row["epoch"]) <= run.position.epoch]
        atomic.write_text(run.folder.config, config.to_toml())
        return run

    def train(self, pictures: "Pictures | None" = None) -> None:
        """Trains to the last epoch, writing into the folder as it goes.

        Args:
            pictures: what ``load_pictures`` gave for these settings; None loads them.

        Raises:
            TrainingInterruptedError: SIGINT or SIGTERM came; the state is saved.
            TrainingError: a loss is not finite any more; the last epoch's state is kept.
            ValueError: there are fewer pictures than one batch takes.
        """
        images, validation = load_pictures(self.config) if pictures is None else pictures
        steps = len(images) // self.config.batch_size
        with _signals() as signalled, progress.bar() as bar:
            done = self.position.epoch * steps + self.position.step
            task = bar.add_task("training", total=self.config.epochs * steps, completed=done, status="")
            while self.position.epoch < self.config.epochs:
                self._epoch(images, steps, signalled, bar, task)
                self._end_epoch(steps, validation)

    def _epoch(self, images: Tensor, steps: int, signalled: threading.Event, bar: Progress, task: Any) -> None:
        position, size = self.position, self.config.batch_size
        order = torch.from_numpy(np.random.default_rng([self.config.seed, position.epoch]).permutation(len(images)))
        while position.step < steps:
            started = time.perf_counter()
            batch = images[order[position.step * size : (position.step + 1) * size]]
            losses = self._step(batch)
            position.sums = [total + loss for total, loss in zip(position.sums, losses, strict=True)]
            position.step += 1
            position.seconds += time.perf_counter() - started
            status = f"epoch {position.epoch + 1}/{self.config.epochs}  " + _described(losses)
            bar.update(task, advance=1, status=status)
            if signalled.is_set():
                self._save_state()
                raise TrainingInterruptedError(
                    f"stopped in epoch {position.epoch + 1} after {position.step} of {steps} steps; go on with:"
                    f" zdce train --out {self.folder.path} --resume"
                )

    def _step(self, batch: Tensor) -> list[float]:
        """One update from ``batch`` (B, 3, size, size) uint8; gives the total and the terms."""
        self.optimizer.zero_grad()
        objective = self._objective(batch)
        losses = torch.stack(objective).tolist()
        if not all(map(math.isfinite, losses)):
            epoch = self.position.epoch
            raise TrainingError(
                f"the loss is not finite in epoch {epoch + 1}, step {self.position.step + 1}:"
                f" {_described(losses)};"
                f" {self.folder.path} keeps the state of epoch {epoch}; a smaller --lr may help"
            )
        objective.total.backward()
        self.optimizer.step()
        return losses

    def _objective(self, batch: Tensor) -> Objective:
        image = batch.to(self.config.device).float() / 255
        return ops.zero_reference_objective(
            image,
            self.model(image),
            self.config.weights,
            target=self.config.target,
            normalization=self.config.normalization,
            iterations=self.model.variant.iterations,
        )

    @torch.no_grad()
    def _validate(self, images: Tensor) -> list[float]:
        """The mean total and terms over ``images`` (N, 3, size, size) uint8."""
        sums = torch.zeros(len(Objective._fields), dtype=torch.float64)
        for batch in images.split(self.config.batch_size):
            sums += len(batch) * torch.stack(self._objective(batch)).double().cpu()
        return (sums / len(images)).tolist()

    def _end_epoch(self, steps: int, validation: Tensor) -> None:
        position = self.position
        started = time.perf_counter()
        means = {"train": [total / steps for total in position.sums], "validation": self._validate(validation)}
        seconds = {"train": position.seconds, "validation": time.perf_counter() - started}
        self.position = Position(epoch=position.epoch + 1)
        for split, values in means.items():
            row = (self.position.epoch, split, *values, round(seconds[split], 3))
            self.rows.append(dict(zip(_LOG_FIELDS, row, strict=True)))
        # The state comes last: a run killed before it does the epoch again and writes the same.
        if self.position.epoch % self.config.keep_every == 0 or self.position.epoch == self.config.epochs:
            self.model.save(self.folder.epoch(self.position.epoch))
        self.model.save(self.folder.last)
        self._write_log()
        self._save_state()
        progress.console.print(
            f"epoch {self.position.epoch}/{self.config.epochs}  train {_described(means['train'])}"
            f"  validation {means['validation'][0]:.4g}  {sum(seconds.values()):.1f} s"
        )

    def _write_log(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, _LOG_FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        atomic.write_text(self.folder.log, text.getvalue())

    def _save_state(self) -> None:
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        for i, values in self.optimizer.state_dict()["state"].items():
            tensors.update({f"adam.{i}.{key}": tensor for key, tensor in values.items()})
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        metadata = {"position": json.dumps(asdict(self.position))}
        atomic.write_bytes(self.folder.state, safetensors.torch.save(tensors, metadata))

    def _load_state(self) -> None:
        path = self.folder.state
        if not path.is_file():
            raise FileNotFoundError(f"no run to resume in {self.folder.path}")
        adam: dict[int, dict[str, Tensor]] = {}
        model: dict[str, Tensor] = {}
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                self.position = Position(**json.loads(file.metadata()["position"]))
                for name in file.keys():  # noqa: SIM118 (not a mapping)
                    kind, rest = name.split(".", 1)
                    if kind == "model":
                        model[rest] = file.get_tensor(name)
                    else:
                        i, key = rest.split(".")
                        adam.setdefault(int(i), {})[key] = file.get_tensor(name)
            self.model.load_state_dict(model)
        except (safetensors.SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"{path} is no state of this run: {' '.join(str(error).split())}") from error
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": adam})


def read_log(folder: RunFolder) -> list[dict[str, Any]]:
    """The rows of a run's log as text, by the names of their columns; none where no epoch is done."""
    if not folder.log.exists():
        return []
    with folder.log.open(newline="") as file:
        return list(csv.DictReader(file))


def seconds_a_step(config: Config) -> float:
    """What one training step with ``config`` takes here: measured on noise, after one step to warm up."""
    run = Run(config, RunFolder(Path()))
    batch = torch.randint(256, (config.batch_size, 3, config.size, config.size), dtype=torch.uint8)
    run._step(batch)
    started = time.perf_counter()
    run._step(batch)
    return time.perf_counter() - started


def _described(losses: list[float]) -> str:
    """The total and the terms in a few words."""
    total, *values = losses
    terms = "  ".join(f"{name} {value:.3g}" for name, value in zip(Objective._fields[1:], values, strict=True))
    return f"{total:.4g} ({terms})"


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; a second SIGINT raises KeyboardInterrupt. Only the main thread can listen."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def listen(number: int, frame: Any) -> None:
        event.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, listen) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
