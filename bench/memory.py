"""Peak memory of a call beyond its inputs."""

import gc
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor

from zdce.errors import FileError

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")

# With these settings every block above 64 KiB has its own pages, which are returned when it is freed: resident memory is memory
# in use, both of torch's tensors and of kernels' buffers.
ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "2"}


def why_missing(device: str) -> str | None:
    """Why peaks can't be measured here, or None."""
    if device != "cpu":
        return None
    try:
        _RESET.write_text("5")  # resets the peak; Linux 4.0 and later
    except OSError as error:
        return f"this system does not tell a process's peak memory ({error})"
    return None


def used(device: str) -> int:
    """Bytes in use now."""
    gc.collect()
    return _resident("VmRSS") if device == "cpu" else torch.cuda.memory_allocated()


def peak(call: Callable[[], Iterable[Tensor]], device: str, before: int | None = None) -> int:
    """Bytes that ``call`` needs at its peak, without the tensors that it returns, beyond ``before`` or what is in use now."""
    now = used(device)
    if device == "cpu":
        _RESET.write_text("5")
        results = list(call())
        highest = _resident("VmHWM")
    else:
        torch.cuda.reset_peak_memory_stats()
        results = list(call())
        highest = torch.cuda.max_memory_allocated()
    return max(0, highest - (now if before is None else before) - sum(tensor.nbytes for tensor in results))


def _resident(which: str) -> int:
    found = re.search(rf"^{which}:\s*(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    if found is None:
        raise FileError(f"{_STATUS} has no {which}")
    return int(found[1]) * 1024
