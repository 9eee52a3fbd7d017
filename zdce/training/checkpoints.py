"""What a run writes while it goes on: files made by a thread behind the loop, each whole or not at all."""

from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass

from zdce.models.network import DCENet
from zdce.runtime import atomic, prefetch
from zdce.training.board import Board, Views
from zdce.training.errors import TrainingError
from zdce.training.folder import RunFolder
from zdce.training.state import State

# Checkpoints that may wait to be written: the loop is held up only where the disk is slower than two epochs.
_WAITING = 2


@dataclass(frozen=True)
class Epoch:
    """What an epoch leaves beside its state.

    Attributes:
        number: from 1.
        network: a copy of the network to keep.
        milestone: whether it stays when the next epoch's network is written.
        log: the whole log.
        means: the mean total and terms by split.
        rate: its learning rate.
        views: pictures for TensorBoard.
    """

    number: int
    network: DCENet
    milestone: bool
    log: str
    means: dict[str, list[float]]
    rate: float
    views: Views | None


@dataclass(frozen=True)
class Checkpoint:
    """A state, and at the end of an epoch what that leaves."""

    state: State
    epoch: Epoch | None = None

    def write(self, folder: RunFolder, board: Board | None) -> None:
        """Replaces the files of ``folder``.

        Raises:
            OSError: the disk takes no more.
        """
        if self.epoch is not None:
            if self.epoch.milestone:
                self.epoch.network.save(folder.epoch(self.epoch.number))
            self.epoch.network.save(folder.last)
            atomic.write_text(folder.log, self.epoch.log)
            if board is not None:
                board.write(self.epoch.number, self.epoch.means, self.epoch.rate, self.epoch.views)
        # The state comes last: a run killed before it does the epoch again and writes the same.
        self.state.write(folder.state)


@contextmanager
def behind(folder: RunFolder, done: str, board: Board | None) -> Iterator[prefetch.BackgroundWork[Checkpoint]]:
    """Gives what checkpoints are handed to; ``done`` says how far the state in ``folder`` is.

    Raises:
        TrainingError: one can't be written, from the next call of what was given or from the end of the block. No later one is.
    """
    kept = done

    def write(checkpoint: Checkpoint) -> None:
        nonlocal kept
        try:
            checkpoint.write(folder, board)
        except OSError as error:
            raise TrainingError(
                f"{error}; the state of {kept} is kept; when there is room, go on with: zdce train --out {folder.path} --resume"
            ) from error
        kept = checkpoint.state.done

    with closing(board) if board else nullcontext(), prefetch.in_background(write, _WAITING) as hand_over:
        try:
            yield hand_over
        except Exception:
            # What is handed over is written, whatever ended the loop.
            hand_over.wait()
            raise
