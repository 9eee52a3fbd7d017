"""Number of threads of compiled code."""

import importlib
import os
import sys
from typing import Any


def number() -> int:
    """Number of threads that work on a picture."""
    torch, core = _torch(), cpp_core()
    if torch is not None:
        return int(torch.get_num_threads())
    return int(core.threads()) if core is not None else os.cpu_count() or 1


def use(threads: int) -> None:
    """Sets the number, also for PyTorch, whether it is imported already or later."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if (core := cpp_core()) is not None:
        core.set_threads(threads)
    if (torch := _torch()) is not None:
        torch.set_num_threads(threads)


def follow_torch() -> None:
    """Sets the core's number to that of PyTorch, if that is imported: it is 1 in the workers of a ``DataLoader``."""
    if (torch := _torch()) is not None and (core := cpp_core()) is not None:
        core.set_threads(torch.get_num_threads())


def _torch() -> Any:
    torch = sys.modules.get("torch")
    return torch if hasattr(torch, "get_num_threads") else None  # Another thread may be importing it.


def cpp_core() -> Any:
    """The core without PyTorch, or None if it is not built."""
    try:
        return importlib.import_module("zdce._core")
    except ImportError:
        return None
