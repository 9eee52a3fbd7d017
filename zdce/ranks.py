"""The processes that torchrun started for one job: who does what, and what they tell each other."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")

# A process that says nothing for so long is given up; one that died is noticed at once.
_PATIENCE = timedelta(minutes=10)

# How PyTorch's backends begin to say that another process is gone: they have no type of error of their own for it.
_GONE = re.compile(r"gloo|nccl|connection|peer|timed out", re.IGNORECASE)


class RankLostError(Exception):
    """Another process of the job ended, or can't be reached."""


def first() -> bool:
    """Whether this is the job's only process, or that of rank 0, which writes and speaks for all."""
    return os.environ.get("RANK", "0") == "0"


@dataclass(frozen=True)
class Ranks:
    """One process's place among those of its job. Alone, nothing is said to anybody."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Every ``world``-th of ``items``, from the ``rank``-th on."""
        return items[self.rank :: self.world]

    def part(self, count: int) -> slice:
        """Where this process's part of ``count`` things begins and ends.

        Raises:
            ValueError: they can't be shared out evenly.
        """
        if count % self.world:
            raise ValueError(f"batch_size must be a multiple of the {self.world} processes, got {count}")
        size = count // self.world
        return slice(self.rank * size, (self.rank + 1) * size)

    def summed(self, values: Tensor) -> Tensor:
        """The sum of all processes' ``values`` (any shape, on the CPU).

        Raises:
            RankLostError: one of them is gone.
        """
        if self.world > 1:
            with telling_of_lost():
                dist.all_reduce(values)
        return values

    def same(self, value: T) -> T:
        """What ``value`` is in the first process.

        Raises:
            RankLostError: one of them is gone.
        """
        told: list[Any] = [value]
        if self.world > 1:
            with telling_of_lost():
                dist.broadcast_object_list(told)
        return told[0]

    def gathered(self, value: T) -> list[T]:
        """Every process's ``value``, in order, in each of them.

        Raises:
            RankLostError: one of them is gone.
        """
        values: list[Any] = [value] * self.world
        if self.world > 1:
            with telling_of_lost():
                dist.all_gather_object(values, value)
        return values


ALONE = Ranks()


@contextmanager
def telling_of_lost() -> Iterator[None]:
    """Turns what PyTorch raises where another process is gone into a ``RankLostError``."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or _GONE.search(str(error)):
            raise RankLostError("another process of this job ended") from error
        raise


@contextmanager
def joined(device: str = "cpu") -> Iterator[Ranks]:
    """This process's place among those that torchrun started; ``ALONE`` where it did not.

    They talk through gloo on the CPU, and nccl between the tensors of GPUs, of which each process takes the one of its number
    on its machine.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    cuda = torch.device(device).type == "cuda"
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=_PATIENCE)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
