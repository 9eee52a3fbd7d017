"""The loop of a run, and what it leaves in its folder."""

import math
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor

from zdce import atomic, progress
from zdce.formulas import Objective
from zdce.training import signals, state
from zdce.training.config import Config
from zdce.training.errors import TrainingError, TrainingInterruptedError
from zdce.training.folder import LOG_FIELDS, RunFolder, log_text, read_log
from zdce.training.learner import Learner
from zdce.training.pictures import Pictures, load_pictures
from zdce.training.state import Position


class Run:
    """One training run in a folder: made new by ``start``, gone on with by ``resume``."""

    def __init__(self, config: Config, folder: RunFolder) -> None:
        self.config = config
        self.folder = folder
        self.position = Position()
        self.rows: list[dict[str, Any]] = []
        self.learner = Learner(config)

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
        run.position = state.load(run.folder.state, run.learner)
        # A row that was written just before the run was killed, its state not yet: that epoch is done again.
        run.rows = [row for row in read_log(run.folder) if int(row["epoch"]) <= run.position.epoch]
        atomic.write_text(run.folder.config, config.to_toml())
        return run

    def train(self, pictures: Pictures | None = None) -> None:
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
        with signals.heard() as signalled, progress.bar() as bar:
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
        losses = self.learner.step(batch)
        if not all(map(math.isfinite, losses)):
            epoch = self.position.epoch
            raise TrainingError(
                f"the loss is not finite in epoch {epoch + 1}, step {self.position.step + 1}:"
                f" {_described(losses)};"
                f" {self.folder.path} keeps the state of epoch {epoch}; a smaller --lr may help"
            )
        return losses

    def _end_epoch(self, steps: int, validation: Tensor) -> None:
        position = self.position
        started = time.perf_counter()
        means = {"train": [total / steps for total in position.sums], "validation": self.learner.validate(validation)}
        seconds = {"train": position.seconds, "validation": time.perf_counter() - started}
        self.position = Position(epoch=position.epoch + 1)
        for split, values in means.items():
            row = (self.position.epoch, split, *values, round(seconds[split], 3))
            self.rows.append(dict(zip(LOG_FIELDS, row, strict=True)))
        # The state comes last: a run killed before it does the epoch again and writes the same.
        if self.position.epoch % self.config.keep_every == 0 or self.position.epoch == self.config.epochs:
            self.learner.model.save(self.folder.epoch(self.position.epoch))
        self.learner.model.save(self.folder.last)
        atomic.write_text(self.folder.log, log_text(self.rows))
        self._save_state()
        progress.console.print(
            f"epoch {self.position.epoch}/{self.config.epochs}  train {_described(means['train'])}"
            f"  validation {means['validation'][0]:.4g}  {sum(seconds.values()):.1f} s"
        )

    def _save_state(self) -> None:
        atomic.write_bytes(self.folder.state, state.packed(self.position, self.learner))


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
