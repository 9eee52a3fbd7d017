"""Files that a run writes during training: a thread writes them in the background, each whole or not at all."""

from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass

from zdce.models.network import DCENet
from zdce.runtime import atomic, prefetch
from zdce.training.errors import TrainingError
from zdce.training.folder import RunFolder
from zdce.training.state import State
from zdce.training.tensorboard import BeforeAfter, TensorBoardLog

# Checkpoints that may wait to be written: the loop waits only if the disk takes longer than two epochs.
_WAITING = 2


@dataclass(frozen=True)
class Epoch:
    """Results of an epoch beside its state.

    Attributes:
        number: number of the epoch, from 1.
        network: a copy of the network to save.
        milestone: whether its file is kept when later networks are written.
        log: text of the whole log.
        means: mean total and terms by split.
        rate: learning rate.
        pictures: pictures for TensorBoard.
    """

    number: int
    network: DCENet
    milestone: bool
    log: str
    means: dict[str, list[float]]
    rate: float
    pictures: BeforeAfter | None


@dataclass(frozen=True)
class Checkpoint:
    """A state, and at the end of an epoch its results."""

    state: State
    epoch: Epoch | None = None

    def write(self, folder: RunFolder, log: TensorBoardLog | None) -> None:
        """Replaces the files of ``folder``.

        Raises:
            OSError: the disk is full.
        """
        if self.epoch is not None:
            if self.epoch.milestone:
                self.epoch.network.save(folder.epoch(self.epoch.number))
            self.epoch.network.save(folder.last)
            atomic.write_text(folder.log, self.epoch.log)
            if log is not None:
                log.write(self.epoch.number, self.epoch.means, self.epoch.rate, self.epoch.pictures)
        # The state is written last: a run that is killed before repeats the epoch and writes the same files.
        self.state.write(folder.state)


@contextmanager
def written_in_background(
    folder: RunFolder, done: str, log: TensorBoardLog | None
) -> Iterator[prefetch.BackgroundWork[Checkpoint]]:
    """A function that takes checkpoints to write; ``done`` describes the position of the state in ``folder``.

    Raises:
        TrainingError: a checkpoint can't be written; raised by the next call or at the end of the block. Later ones are
            dropped.
    """
    kept = done

    def write(checkpoint: Checkpoint) -> None:
        nonlocal kept
        try:
            checkpoint.write(folder, log)
        except OSError as error:
            raise TrainingError(
                f"{error}; the state of {kept} is saved; when there is space, continue with: {folder.resumption}"
            ) from error
        kept = checkpoint.state.done

    with closing(log) if log else nullcontext(), prefetch.in_background(write, _WAITING) as hand_over:
        try:
            yield hand_over
        except Exception:
            # Checkpoints that were handed over are written, whatever ended the loop.
            hand_over.wait()
            raise
