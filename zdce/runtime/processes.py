"""Several processes of one job, started by torchrun: their shares of the work, sums over them, and how they end together.

PyTorch is imported where there are several.
"""

import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from zdce.errors import InputError, ZdceError
from zdce.runtime import packages, threads

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

# Time limit for an answer of another process; a process that ended is noticed at once.
_TIMEOUT = timedelta(minutes=30)

# Words in the messages of PyTorch's backends when another process is gone: there is no exception type for it.
_GONE = re.compile(r"gloo|nccl|connection|peer|timed out", re.IGNORECASE)


class RankLostError(ZdceError, ConnectionError):
    """Another process of the job has ended or can't be reached."""


def several() -> bool:
    """Whether torchrun started more than one process for the job."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def first() -> bool:
    """Whether this is the only process, or that of rank 0, which writes files and shows progress for all."""
    return not several() or os.environ.get("RANK", "0") == "0"


def use_own_gpu(device: str) -> None:
    """If several processes use ``device`` "cuda", make it the GPU with this process's number on its machine.

    Raises:
        InputError: ``device`` names one GPU for all processes, or there are fewer GPUs than processes.
    """
    if device == "cpu":
        return
    import torch

    parsed = torch.device(device)
    if parsed.type != "cuda" or not several():
        return
    if parsed.index is not None:
        raise InputError("several processes must have device cuda, each its own GPU")
    number, gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if number >= gpus:
        raise InputError(f"several processes must have a GPU each, got {gpus} for process {number} (from 0)")
    torch.cuda.set_device(number)


@dataclass(frozen=True)
class Ranks:
    """Number of this process (``rank``) and of all processes (``world``) of the job; alone, nothing is communicated."""

    rank: int = 0
    world: int = 1
    # torch.distributed's store of numbers that all processes count up; a single process uses the Counter.
    _store: Any = field(default=None, repr=False, compare=False)
    _counts: Counter[str] = field(default_factory=Counter, repr=False, compare=False)

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Every ``world``-th of ``items``, starting with the ``rank``-th."""
        return items[self.rank :: self.world]

    def part(self, count: int) -> slice:
        """Slice of this process's part of ``count`` items.

        Raises:
            InputError: ``count`` is not a multiple of the number of processes.
        """
        if count % self.world:
            raise InputError(f"batch_size must be a multiple of the {self.world} processes, got {count}")
        size = count // self.world
        return slice(self.rank * size, (self.rank + 1) * size)

    def summed(self, values: "Tensor") -> "Tensor":
        """Sum of all processes' ``values`` (any shape, on the CPU).

        Raises:
            RankLostError: another process is gone.
        """
        if self.world > 1:
            import torch.distributed as dist

            with raising_rank_lost():
                dist.all_reduce(values)
        return values

    def broadcast_from_first(self, work: Callable[[], T]) -> T:
        """Result of ``work`` in the first process, the only one that calls it.

        Raises:
            RankLostError: another process is gone.
        """
        values: list[Any] = [work() if self.first else None]
        if self.world > 1:
            import torch.distributed as dist

            with raising_rank_lost():
                dist.broadcast_object_list(values)
        return values[0]

    def wait(self) -> None:
        """Return when all processes have called it.

        Raises:
            RankLostError: another process is gone.
        """
        if self.world > 1:
            import torch

            self.summed(torch.zeros(1))

    def count(self, name: str, more: int = 0) -> int:
        """Add ``more`` to a counter that all processes share, 0 at first, and return it; does not wait for other processes.

        >>> ranks = Ranks()
        >>> ranks.count("pictures", 2), ranks.count("pictures")
        (2, 2)
        """
        if self._store is not None:
            return self._store.add(f"zdce/{name}", more)
        self._counts[name] += more
        return self._counts[name]


SINGLE_PROCESS = Ranks()


@contextmanager
def raising_rank_lost() -> Iterator[None]:
    """Raise ``RankLostError`` instead of PyTorch's errors if another process is gone."""
    try:
        yield
    except RuntimeError as error:
        if several() and _tells_of_loss(error):
            raise RankLostError("another process of this job ended") from error
        raise


def _tells_of_loss(error: RuntimeError) -> bool:
    import torch.distributed as dist

    return isinstance(error, dist.DistError) or _GONE.search(str(error)) is not None


@contextmanager
def process_group() -> Iterator[Ranks]:
    """This process's ``Ranks`` among the processes that torchrun started; ``Ranks()`` for a single process.

    Processes communicate through gloo on the CPU and nccl on GPUs. If several processes fail, the first error is raised in its
    process; the other processes end with exit code 1.
    """
    if not several():
        yield Ranks()
        return
    packages.require("torch", extra="torch")
    import torch
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    # torchrun sets OMP_NUM_THREADS to 1 unless the user has set it.
    if os.environ.get("OMP_NUM_THREADS") == "1":
        threads.use(max(1, _cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    store, rank, world = next(rendezvous("env://"))
    cuda = torch.cuda.is_available() and dist.is_nccl_available()
    with _first_error_only(store):
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo", store=store, rank=rank, world_size=world, timeout=_TIMEOUT
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
        # The store went with the process that held it.
        return 0


def _cores() -> int:
    """Number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
