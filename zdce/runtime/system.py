"""Facts about this installation and machine: versions, instruction set, threads, GPU."""

import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

from zdce import compiled
from zdce.runtime import packages, threads
from zdce.version import __version__

_LIBRARIES = ("torch", "triton", "numpy", "pillow", "scikit-image")


def facts() -> dict[str, Any]:
    """Versions, instruction set, how the CPU computes in bfloat16, compiler, threads and GPU, for JSON."""
    return {
        "zdce": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: _version(name) for name in _LIBRARIES},
        "instruction set": _instruction_set(),
        "bfloat16": _bfloat16(),
        "compiler": _compiler(),
        "threads": threads.number(),
        "gpu": _gpu(),
    }


def versions() -> dict[str, str]:
    """Versions of everything that a trained network's bits depend on, for TOML."""
    libraries = {name: version for name in _LIBRARIES if (version := _version(name))}
    return {"zdce": __version__, "python": platform.python_version(), **libraries}


def machine() -> dict[str, str | int]:
    """Machine that a network is trained on, for TOML."""
    found = {"processor": processor(), "instruction set": _instruction_set(), "gpu": _gpu()}
    return {"platform": platform.platform(), "threads": threads.number(), **{k: v for k, v in found.items() if v}}


def _gpu() -> str | None:
    if packages.missing("torch", extra="torch"):
        return None
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _compiler() -> str | None:
    """Compiler of the C++ kernels; None if they are not built."""
    core = compiled.core_or_none()
    return core and core.compiler()


def _instruction_set() -> str | None:
    """Instruction set of the C++ kernels; None if they are not built."""
    core = compiled.core_or_none()
    return core and core.instruction_set()


def _bfloat16() -> str | None:
    """How the C++ kernels compute networks in bfloat16; None if they are not built."""
    core = compiled.core_or_none()
    return core and ("by a matrix unit" if core.has_bfloat16() else "in float32")


def processor() -> str:
    """Name of the CPU on Linux, its architecture elsewhere."""
    try:
        models = re.findall(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        models = []
    return models[0] if models else platform.machine()
