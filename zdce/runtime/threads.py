"""Number of threads of compiled code."""

import os
import sys
from typing import Any

from zdce import compiled


def number() -> int:
    """Number of threads that work on a picture."""
    torch, core = _torch(), compiled.core_or_none()
    if torch is not None:
        return int(torch.get_num_threads())
    return int(core.threads()) if core is not None else os.cpu_count() or 1


def use(threads: int) -> None:
    """Sets the number, also for PyTorch, whether it is imported already or later."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if (core := compiled.core_or_none()) is not None:
        core.set_threads(threads)
    if (torch := _torch()) is not None:
        torch.set_num_threads(threads)


def follow_torch() -> None:
    """Sets the core's number to that of PyTorch, if that is imported: it is 1 in the workers of a ``DataLoader``."""
    if (torch := _torch()) is not None and (core := compiled.core_or_none()) is not None:
        core.set_threads(torch.get_num_threads())


def _torch() -> Any:
    torch = sys.modules.get("torch")
    return torch if hasattr(torch, "get_num_threads") else None  # Another thread may be importing it.
