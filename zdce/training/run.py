"""The training loop of a run, and the files in its folder."""

import copy
import math
import time
from collections import deque
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
from zdce.training import batches, checkpoints, state, tensorboard
from zdce.training.checkpoints import Checkpoint, Epoch
from zdce.training.clock import Clock
from zdce.training.config import Config
from zdce.training.errors import TrainingError, TrainingInterruptedError
from zdce.training.folder import LOG_FIELDS, RunFolder, log_text, read_log
from zdce.training.learner import Learner, Losses
from zdce.training.pictures import Pictures, load_pictures, some
from zdce.training.state import Position, State
from zdce.training.tensorboard import BeforeAfter

# Batches that are prepared during a step.
_AHEAD = 3

# Settings that do not affect the epochs that are done.
_FREE = ("epochs", "data", "device", "keep_every", "tensorboard")

# Kinds of work of the clock: steps, validation, and the time between steps (waiting for pictures, handing checkpoints over).
_STEPS, _VALIDATION, _REST = "steps", "validation", "rest"


@dataclass(frozen=True)
class _Session:
    """Objects of one call of ``train``.

    Attributes:
        pictures: training and validation pictures.
        batches: the batches of all remaining updates.
        steps: updates in an epoch.
        write: takes checkpoints to write.
        stop: set when a signal came.
        bar, task: progress display.
    """

    pictures: Pictures
    batches: Iterator[Tensor]
    steps: int
    write: prefetch.BackgroundWork[Checkpoint]
    stop: signals.StopEvent
    bar: Progress
    task: TaskID


class Run:
    """One training run in a folder; ``start`` makes a new one, ``resume`` continues one.

    All processes of ``ranks`` train together; the first one writes the files.
    """

    def __init__(self, config: Config, folder: RunFolder, ranks: Ranks = SINGLE_PROCESS) -> None:
        if config.tensorboard:
            tensorboard.torch_tensorboard()
        ranks.part(config.batch_size)
        self.config = config
        self.folder = folder
        self.ranks = ranks
        self.position = Position()
        self.rows: list[dict[str, Any]] = []
        self.learner = Learner(config, ranks)
        self._clock = Clock()
        self._begun: deque[Losses] = deque()  # of updates that are not yet counted
        self._kept = str(self.position)  # position of the state in the folder

    @classmethod
    def start(cls, config: Config, out: Path, ranks: Ranks = SINGLE_PROCESS) -> "Run":
        """Makes a new run in ``out``.

        Raises:
            FileExistsError: ``out`` already holds a run.
            InputError: ``batch_size`` is not a multiple of the number of processes.
        """
        folder = RunFolder(out)
        if ranks.first and folder.state.exists():
            raise ExistingFileError(f"{out} already holds a run: resume it, or start the new one in another folder")
        run = cls(config, folder, ranks)
        if ranks.first:
            atomic.write_text(folder.config, config.to_toml())
            run._state().write(folder.state)
        return run

    @classmethod
    def resume(cls, config: Config, out: Path, ranks: Ranks = SINGLE_PROCESS) -> "Run":
        """Continues the run in ``out`` from its saved state, with the settings of ``config`` and any number of processes.

        Raises:
            FileNotFoundError: there is no run in ``out``.
            InputError: its state or log is broken or belongs to another network, ``config`` has fewer epochs than are done, or
                ``batch_size`` is not a multiple of the number of processes.
        """
        run = cls(config, RunFolder(out), ranks)
        run._restore(ranks.broadcast_from_first(lambda: state.read(run.folder.state, run.learner)))
        run._check_epochs()
        if not ranks.first:
            return run
        # The run may have been killed after it wrote an epoch's row and before it wrote the state: that epoch is repeated.
        run.rows = [row for row in read_log(run.folder) if int(row["epoch"]) <= run.position.epoch]
        if run.position.epoch < config.epochs or config.epochs != run._former().epochs:
            atomic.write_text(run.folder.config, config.to_toml())
        return run

    def _check_epochs(self) -> None:
        """Checks that config.toml will still describe the epochs that are done."""
        begun = self.position.epoch + (self.position.step > 0)
        if self.config.epochs < begun:
            raise InputError(f"epochs must be at least the {begun} that are done or begun, got {self.config.epochs}")
        if self.position.epoch == self.config.epochs:
            former = self._former()
            for field in fields(Config):
                was, got = getattr(former, field.name), getattr(self.config, field.name)
                if was != got and field.name not in _FREE:
                    raise InputError(f"{field.name} can't change after all epochs are done: it was {was!r}, got {got!r}")

    def _former(self) -> Config:
        """Settings of the run before it was resumed, from its folder."""
        return Config.from_toml(self.folder.config.read_text(encoding="utf-8"))

    @property
    def step_share(self) -> float:
        """Share of ``train``'s time that was spent in steps, in [0, 1]; the time of loading and validation does not count."""
        return self._clock.share(_STEPS, (_STEPS, _REST))

    def train(self, pictures: Pictures | None = None) -> None:
        """Trains to the last epoch and writes files into the folder during training.

        Args:
            pictures: result of ``load_pictures`` for these settings; None: they are loaded.

        Raises:
            TrainingInterruptedError: SIGINT or SIGTERM came; the state is saved.
            TrainingError: a loss is not finite, or the disk is full; the last saved state is kept.
            OSError: a picture can't be read.
            InputError: there are fewer pictures than one update needs, another number than when the epoch began, or resized
                ones where crops are needed.
        """
        try:
            self._train(pictures)
        except RankLostError as error:
            raise TrainingError(
                f"{error}; {self.folder.path} has the state of the last finished epoch; continue, with a number of processes"
                f" that divides the batch size {self.config.batch_size}, with: {self.folder.resumption}"
            ) from error

    def _train(self, pictures: Pictures | None) -> None:
        loaded = load_pictures(self.config, self.ranks) if pictures is None else pictures
        self._check_same(len(loaded.training))
        logs = self.config.tensorboard and self.ranks.first
        log = tensorboard.TensorBoardLog(self.folder.tensorboard, self.position.epoch) if logs else None
        with (
            checkpoints.written_in_background(self.folder, self._kept, log) as write,
            signals.stop_requested() as stop,
            progress.bar() as bar,
            prefetch.prefetched(batches.updates(self.config, loaded.training, self.position, self.ranks), _AHEAD) as prepared,
        ):
            steps = len(loaded.training) // self.config.pictures_an_update
            done = self.position.epoch * steps + self.position.step
            task = bar.add_task("training", total=self.config.epochs * steps, completed=done, status="")
            self._clock.start()
            self._epochs(_Session(loaded, prepared, steps, write, stop, bar, task))

    def _check_same(self, pictures: int) -> None:
        """Checks the number of pictures, which determines the order of an epoch that has begun."""
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
        """Makes the remaining updates of the epoch."""
        position = self.position
        while position.step + len(self._begun) < session.steps:
            batch = next(session.batches)
            position.seconds += self._clock.lap(_REST)
            self._begun.append(self.learner.begin_step(batch))
            self._read_losses(session, running=int(self.learner.asynchronous))
            position.seconds += self._clock.lap(_STEPS)
            session.write.check()
            self._stop_if_requested(session)
        if self._begun:
            self._read_losses(session)
            position.seconds += self._clock.lap(_STEPS)

    def _read_losses(self, session: _Session, running: int = 0) -> None:
        """Counts the updates begun, but for the last ``running``, whose losses are not waited for."""
        position = self.position
        while len(self._begun) > running:
            losses = self._finite(self._begun.popleft()(), f"step {position.step + 1}")
            position.sums = [total + loss for total, loss in zip(position.sums, losses, strict=True)]
            position.step += 1
            status = f"epoch {position.epoch + 1}/{self.config.epochs}  " + _described(losses)
            session.bar.update(session.task, advance=1, status=status)

    def _stop_if_requested(self, session: _Session) -> None:
        # All processes stop after the same step; otherwise one would wait for another's gradients.
        if self.ranks.summed(torch.tensor(int(session.stop.is_set()))):
            self._read_losses(session)
            if self.ranks.first:
                session.write(Checkpoint(self._state()))
                session.write.wait()
            self.ranks.wait()
            raise TrainingInterruptedError(
                f"stopped in epoch {self.position.epoch + 1} after {self.position.step} of {session.steps} steps;"
                f" continue with: {self.folder.resumption}"
            ) from session.stop.cause

    def _finite(self, losses: list[float], when: str) -> list[float]:
        if not all(map(math.isfinite, losses)):
            raise TrainingError(
                f"the loss is not finite in epoch {self.position.epoch + 1}, {when}: {_described(losses)};"
                f" {self.folder.path} has the state of {self._kept}; a smaller lr may help"
            )
        return losses

    def _end_epoch(self, session: _Session) -> None:
        # The last update may have made weights that are not finite: they are validated before they replace the saved ones.
        validation = self._finite(self._validate(session), "validation")
        means = {"train": [total / session.steps for total in self.position.sums], "validation": validation}
        rate = self.learner.rate
        milestone = self._is_milestone(self.position.epoch + 1)
        pictures = self._before_after(session) if milestone and self.config.tensorboard and self.ranks.first else None
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
        results = Epoch(number, network, milestone, log_text(self.rows), means, rate, pictures)
        session.write(Checkpoint(self._state(), results))
        progress.console.print(
            f"epoch {number}/{self.config.epochs}  train {_described(means['train'])}"
            f"  validation {means['validation'][0]:.4g}  {sum(seconds.values()):.1f} s"
        )

    def _is_milestone(self, epoch: int) -> bool:
        return epoch % self.config.keep_every == 0 or epoch == self.config.epochs

    def _validate(self, session: _Session) -> list[float]:
        self._clock.lap(_REST)
        with prefetch.prefetched(batches.in_order(self.config, session.pictures.validation, self.ranks), _AHEAD) as prepared:
            return self.learner.validate(self._until_stopped(prepared, session))

    def _until_stopped(self, prepared: Iterable[Tensor], session: _Session) -> Iterator[Tensor]:
        for batch in prepared:
            # Several processes may have different numbers of batches, so they can't communicate here.
            if self.ranks.world == 1:
                self._stop_if_requested(session)
            yield batch

    def _before_after(self, session: _Session) -> BeforeAfter:
        before = some(session.pictures.validation, tensorboard.LOGGED_PICTURES)
        return BeforeAfter(before, self.learner.enhance(before))

    def _state(self) -> State:
        return State.of(self.position, self.learner)

    def _restore(self, saved: State) -> None:
        self.position = Position(**saved.position)
        self.learner.load(saved.tensors, saved.numbers)
        self._kept = str(self.position)


def seconds_a_step(config: Config) -> float:
    """Seconds of one training step with ``config`` on this machine, measured on noise after steps to warm up."""
    run = Run(config, RunFolder(Path()))
    batch = torch.randint(256, (config.pictures_an_update, 3, config.size, config.size), dtype=torch.uint8)
    for _ in range(run.learner.warm_up):
        run.learner.begin_step(batch)()
    _wait_for_gpu(config)
    started = time.perf_counter()
    run.learner.begin_step(batch)()
    _wait_for_gpu(config)
    return time.perf_counter() - started


def _wait_for_gpu(config: Config) -> None:
    if torch.device(config.device).type == "cuda":
        torch.cuda.synchronize(config.device)


def _described(losses: list[float]) -> str:
    """Total and terms as text."""
    total, *values = losses
    terms = "  ".join(f"{name} {value:.3g}" for name, value in zip(Objective._fields[1:], values, strict=True))
    return f"{total:.4g} ({terms})"
