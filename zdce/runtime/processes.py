"""The processes that torchrun started for one job: who does what, what they tell each other, and how they end together."""

import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from zdce.errors import InputError, ZdceError

T = TypeVar("T")

# A process that says nothing for so long is given up; one that died is noticed at once.
_PATIENCE = timedelta(minutes=30)

# How PyTorch's backends begin to say that another process is gone: they have no type of error of their own for it.
_GONE = re.compile(r"gloo|nccl|connection|peer|timed out", re.IGNORECASE)


class RankLostError(ZdceError, ConnectionError):
    """Another process of the job ended, or can't be reached."""


def several() -> bool:
    """Whether torchrun started more processes than this one for the job."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def first() -> bool:
    """Whether this is the job's only process, or that of rank 0, which writes and shows progress for all."""
    return not several() or os.environ.get("RANK", "0") == "0"


def use_own_gpu(device: str) -> None:
    """Makes torch's "cuda" the GPU of this process's number on its machine, where several share ``device``.

    Raises:
        ValueError: ``device`` is one GPU for all of them.
        RuntimeError: there are fewer GPUs than processes.
    """
    wanted = torch.device(device)
    if wanted.type != "cuda" or not several():
        return
    if wanted.index is not None:
        raise InputError("several processes must have device cuda, each its own GPU")
    torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))


@dataclass(frozen=True)
class Ranks:
    """One process's place among those of its job. Alone, nothing is said to anybody."""

    rank: int = 0
    world: int = 1
    # torch.distributed's, where numbers are that all processes count up; alone they are in a Counter.
    _store: Any = field(default=None, repr=False, compare=False)
    _counts: Counter[str] = field(default_factory=Counter, repr=False, compare=False)

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
            raise InputError(f"batch_size must be a multiple of the {self.world} processes, got {count}")
        size = count // self.world
        return slice(self.rank * size, (self.rank + 1) * size)

    def summed(self, values: Tensor) -> Tensor:
        """The sum of all processes' ``values`` (any shape, on the CPU).

        Raises:
            RankLostError: one of them is gone.
        """
        if self.world > 1:
            with raising_rank_lost():
                dist.all_reduce(values)
        return values

    def broadcast_from_first(self, work: Callable[[], T]) -> T:
        """What ``work`` gives in the first process, the only one to do it.

        Raises:
            RankLostError: one of them is gone.
        """
        told: list[Any] = [work() if self.first else None]
        if self.world > 1:
            with raising_rank_lost():
                dist.broadcast_object_list(told)
        return told[0]

    def wait(self) -> None:
        """Returns when all processes have come here.

        Raises:
            RankLostError: one of them is gone.
        """
        self.summed(torch.zeros(1))

    def count(self, name: str, more: int = 0) -> int:
        """Adds ``more`` to a number of that name, 0 at first, that all processes share, and gives it. Waits for none of them.

        >>> ranks = Ranks()
        >>> ranks.count("pictures", 2), ranks.count("pictures")
        (2, 2)
        """
        if self._store is not None:
            return self._store.add(f"zdce/{name}", more)
        self._counts[name] += more
        return self._counts[name]


ALONE = Ranks()


@contextmanager
def raising_rank_lost() -> Iterator[None]:
    """Turns what PyTorch raises where another process is gone into a ``RankLostError``; alone nobody can be."""
    try:
        yield
    except RuntimeError as error:
        if several() and (isinstance(error, dist.DistError) or _GONE.search(str(error))):
            raise RankLostError("another process of this job ended") from error
        raise


@contextmanager
def process_group() -> Iterator[Ranks]:
    """This process's place among those that torchrun started, or alone where it started no others.

    They talk through gloo on the CPU, and nccl between the tensors of GPUs. Of several processes that fail, by the same mistake
    or because the first one did, only that one's error is raised; the others end with exit code 1.
    """
    if not several():
        yield Ranks()
        return
    # torchrun's own choice, whatever the machine has, where OMP_NUM_THREADS was not set.
    if os.environ.get("OMP_NUM_THREADS") == "1":
        torch.set_num_threads(max(1, _cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    store, rank, world = next(rendezvous("env://"))
    cuda = torch.cuda.is_available() and dist.is_nccl_available()
    with _first_error_only(store):
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo", store=store, rank=rank, world_size=world, timeout=_PATIENCE
        )
        yield Ranks(rank, world, store)
        dist.destroy_process_group()


@contextmanager
def _first_error_only(store: Any) -> Iterator[None]:
    try:
        yield
    except Exception:
        if _earlier_errors(store):
            sys.exit(1)
        raise


def _earlier_errors(store: Any) -> int:
    try:
        earlier: int = store.add("zdce/errors", 1) - 1
        return earlier
    except RuntimeError:
        # The process that held the store is gone with it.
        return 0


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
