"""The loop of a run, and what it leaves in its folder."""

import copy
import math
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress, TaskID
from torch import Tensor

from zdce.errors import ExistingFileError, InputError
from zdce.ops import Objective
from zdce.runtime import atomic, prefetch, progress, signals
from zdce.runtime.processes import SINGLE_PROCESS, RankLostError, Ranks
from zdce.training import batches, board, checkpoints, state
from zdce.training.board import SHOWN, Views
from zdce.training.checkpoints import Checkpoint, Epoch
from zdce.training.clock import Clock
from zdce.training.config import Config
from zdce.training.errors import TrainingError, TrainingInterruptedError
from zdce.training.folder import LOG_FIELDS, RunFolder, log_text, read_log
from zdce.training.learner import Learner
from zdce.training.pictures import Pictures, load_pictures, some
from zdce.training.state import Position, State

# Batches that are prepared while a step runs.
_AHEAD = 3

# Settings that say nothing of how the epochs that are done came about.
_FREE = ("epochs", "data", "device", "keep_every", "tensorboard")

# What a clock's laps are spent on: steps, validation, and what holds steps up (waiting for pictures, handing checkpoints over).
_STEPS, _VALIDATION, _REST = "steps", "validation", "rest"


@dataclass(frozen=True)
class _Session:
    """What one call of ``train`` works with: its pictures, the updates' batches to come and how many make an epoch, where
    checkpoints go, whether a signal came, and what is shown."""

    pictures: Pictures
    coming: Iterator[Tensor]
    steps: int
    write: prefetch.BackgroundWork[Checkpoint]
    signalled: threading.Event
    bar: Progress
    task: TaskID


class Run:
    """One training run in a folder: made new by ``start``, gone on with by ``resume``.

    All processes of ``ranks`` train together, and the first one writes.
    """

    def __init__(self, config: Config, folder: RunFolder, ranks: Ranks = SINGLE_PROCESS) -> None:
        if config.tensorboard:
            board.found()
        ranks.part(config.batch_size)
        self.config = config
        self.folder = folder
        self.ranks = ranks
        self.position = Position()
        self.rows: list[dict[str, Any]] = []
        self.learner = Learner(config, ranks)
        self._clock = Clock()
        self._kept = str(self.position)  # what the state in the folder is of

    @classmethod
    def start(cls, config: Config, out: Path, ranks: Ranks = SINGLE_PROCESS) -> "Run":
        """A new run in ``out``.

        Raises:
            FileExistsError: ``out`` holds a run already.
            ValueError: a batch can't be shared out evenly.
        """
        folder = RunFolder(out)
        if ranks.first and folder.state.exists():
            raise ExistingFileError(f"{out} holds a run already: --resume goes on with it, another --out starts a new one")
        run = cls(config, folder, ranks)
        if ranks.first:
            atomic.write_text(folder.config, config.to_toml())
            run._state().write(folder.state)
        return run

    @classmethod
    def resume(cls, config: Config, out: Path, ranks: Ranks = SINGLE_PROCESS) -> "Run":
        """The run in ``out``, where it was stopped, with the settings of ``config``, by however many processes.

        Raises:
            FileNotFoundError: there is no run in ``out``.
            ValueError: its state or its log is broken or another network's, ``config`` has fewer epochs than are done, or a
                batch can't be shared out evenly.
        """
        run = cls(config, RunFolder(out), ranks)
        run._take_over(ranks.broadcast_from_first(run._saved))
        run._check_epochs()
        if not ranks.first:
            return run
        # A row that was written just before the run was killed, its state not yet: that epoch is done again.
        run.rows = [row for row in read_log(run.folder) if int(row["epoch"]) <= run.position.epoch]
        if run.position.epoch < config.epochs or config.epochs != run._former().epochs:
            atomic.write_text(run.folder.config, config.to_toml())
        return run

    def _check_epochs(self) -> None:
        """Of what is done, config.toml goes on saying by which settings."""
        begun = self.position.epoch + (self.position.step > 0)
        if self.config.epochs < begun:
            raise InputError(f"epochs must be at least the {begun} that are done or begun, got {self.config.epochs}")
        if self.position.epoch == self.config.epochs:
            former = self._former()
            for field in fields(Config):
                was, got = getattr(former, field.name), getattr(self.config, field.name)
                if was != got and field.name not in _FREE:
                    raise InputError(f"{field.name} can't change where all epochs are done: it was {was!r}, got {got!r}")

    def _former(self) -> Config:
        """The settings in the folder."""
        return Config.from_toml(self.folder.config.read_text(encoding="utf-8"))

    @property
    def step_share(self) -> float:
        """The share of ``train``'s time that was spent inside steps, in [0, 1]; loading and validation are left out of both."""
        return self._clock.share(_STEPS, (_STEPS, _REST))

    def train(self, pictures: Pictures | None = None) -> None:
        """Trains to the last epoch, writing into the folder as it goes.

        Args:
            pictures: what ``load_pictures`` gave for these settings; None loads them.

        Raises:
            TrainingInterruptedError: SIGINT or SIGTERM came; the state is saved.
            TrainingError: a loss is not finite any more, or the disk is full; the last state that was written is kept.
            OSError: a picture can't be read.
            ValueError: there are fewer pictures than one update takes, or not as many as when the epoch began, or crops are
                asked of resized ones.
        """
        try:
            self._train(pictures)
        except RankLostError as error:
            raise TrainingError(
                f"{error}; {self.folder.path} keeps the state of the last epoch that was done; go on, with as many processes as"
                f" share a batch of {self.config.batch_size} evenly, with: zdce train --out {self.folder.path} --resume"
            ) from error

    def _train(self, pictures: Pictures | None) -> None:
        loaded = load_pictures(self.config, self.ranks) if pictures is None else pictures
        self._check_same(len(loaded.training))
        shows = self.config.tensorboard and self.ranks.first
        shown = board.Board(self.folder.board, self.position.epoch) if shows else None
        with (
            checkpoints.behind(self.folder, self._kept, shown) as write,
            signals.stop_requested() as signalled,
            progress.bar() as bar,
            prefetch.prefetched(batches.to_come(self.config, loaded.training, self.position, self.ranks), _AHEAD) as coming,
        ):
            steps = len(loaded.training) // self.config.pictures_an_update
            done = self.position.epoch * steps + self.position.step
            task = bar.add_task("training", total=self.config.epochs * steps, completed=done, status="")
            self._clock.start()
            self._epochs(_Session(loaded, coming, steps, write, signalled, bar, task))

    def _check_same(self, pictures: int) -> None:
        """An epoch's order follows from the number of its pictures: what is done of it holds for that number only."""
        before = self.position.pictures
        if self.position.step and before not in (0, pictures):
            raise InputError(
                f"{self.config.data} must hold the {before} training pictures that the epoch began with, got {pictures}"
            )
        self.position.pictures = pictures

    def _epochs(self, session: _Session) -> None:
        while self.position.epoch < self.config.epochs:
            self._steps(session)
            self._end_epoch(session)
        session.write.wait()
        self._clock.lap(_REST)

    def _steps(self, session: _Session) -> None:
        """What is left of the epoch."""
        position = self.position
        while position.step < session.steps:
            batch = next(session.coming)
            position.seconds += self._clock.lap(_REST)
            losses = self._step(batch)
            position.seconds += self._clock.lap(_STEPS)
            position.sums = [total + loss for total, loss in zip(position.sums, losses, strict=True)]
            position.step += 1
            status = f"epoch {position.epoch + 1}/{self.config.epochs}  " + _described(losses)
            session.bar.update(session.task, advance=1, status=status)
            session.write.check()
            self._stop_where_asked(session)

    def _stop_where_asked(self, session: _Session) -> None:
        # All processes stop after the same step, or one would wait for another's gradients.
        if self.ranks.summed(torch.tensor(int(session.signalled.is_set()))):
            if self.ranks.first:
                session.write(Checkpoint(self._state()))
                session.write.wait()
            self.ranks.wait()
            raise TrainingInterruptedError(
                f"stopped in epoch {self.position.epoch + 1} after {self.position.step} of {session.steps} steps; go on with:"
                f" zdce train --out {self.folder.path} --resume"
            )

    def _step(self, batch: Tensor) -> list[float]:
        """One update from ``batch`` (accumulate * B, 3, size, size) uint8; gives the mean total and terms."""
        return self._finite(self.learner.step(batch), f"step {self.position.step + 1}")

    def _finite(self, losses: list[float], when: str) -> list[float]:
        if not all(map(math.isfinite, losses)):
            raise TrainingError(
                f"the loss is not finite in epoch {self.position.epoch + 1}, {when}: {_described(losses)};"
                f" {self.folder.path} keeps the state of {self._kept}; a smaller --lr may help"
            )
        return losses

    def _end_epoch(self, session: _Session) -> None:
        # An epoch's last update may have spoilt the weights: what they give is looked at before they replace the former ones.
        validation = self._finite(self._validate(session), "validation")
        means = {"train": [total / session.steps for total in self.position.sums], "validation": validation}
        rate = self.learner.rate
        milestone = self._is_milestone(self.position.epoch + 1)
        views = self._views(session) if milestone and self.config.tensorboard and self.ranks.first else None
        seconds = {"train": self.position.seconds, "validation": self._clock.lap(_VALIDATION)}
        self.learner.end_epoch()
        self.position = Position(epoch=self.position.epoch + 1, pictures=self.position.pictures)
        number, self._kept = self.position.epoch, str(self.position)
        for split, values in means.items():
            row = (number, split, *values, round(seconds[split], 3))
            self.rows.append(dict(zip(LOG_FIELDS, row, strict=True)))
        if not self.ranks.first:
            return
        network = copy.deepcopy(self.learner.kept)
        left = Epoch(number, network, milestone, log_text(self.rows), means, rate, views)
        session.write(Checkpoint(self._state(), left))
        progress.console.print(
            f"epoch {number}/{self.config.epochs}  train {_described(means['train'])}"
            f"  validation {means['validation'][0]:.4g}  {sum(seconds.values()):.1f} s"
        )

    def _is_milestone(self, epoch: int) -> bool:
        return epoch % self.config.keep_every == 0 or epoch == self.config.epochs

    def _validate(self, session: _Session) -> list[float]:
        self._clock.lap(_REST)
        with prefetch.prefetched(batches.in_order(self.config, session.pictures.validation, self.ranks), _AHEAD) as coming:
            return self.learner.validate(self._until_asked(coming, session))

    def _until_asked(self, coming: Iterable[Tensor], session: _Session) -> Iterator[Tensor]:
        for batch in coming:
            # Processes with unequal shares can't ask each other here.
            if self.ranks.world == 1:
                self._stop_where_asked(session)
            yield batch

    def _views(self, session: _Session) -> Views:
        before = some(session.pictures.validation, SHOWN)
        return Views(before, self.learner.enhance(before))

    def _state(self) -> State:
        return State.of(self.position, self.learner)

    def _saved(self) -> State:
        self.position = state.load(self.folder.state, self.learner)
        return self._state()

    def _take_over(self, saved: State) -> None:
        self.position = Position(**saved.position)
        self.learner.load(saved.tensors, saved.numbers)
        self._kept = str(self.position)


def seconds_a_step(config: Config) -> float:
    """What one training step with ``config`` takes here: measured on noise, after one step to warm up."""
    run = Run(config, RunFolder(Path()))
    batch = torch.randint(256, (config.pictures_an_update, 3, config.size, config.size), dtype=torch.uint8)
    run._step(batch)
    started = time.perf_counter()
    run._step(batch)
    return time.perf_counter() - started


def _described(losses: list[float]) -> str:
    """The total and the terms in a few words."""
    total, *values = losses
    terms = "  ".join(f"{name} {value:.3g}" for name, value in zip(Objective._fields[1:], values, strict=True))
    return f"{total:.4g} ({terms})"
