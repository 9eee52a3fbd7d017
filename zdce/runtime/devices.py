"""Devices for networks, by name."""

from zdce.errors import InputError
from zdce.runtime import packages

# Name of the GPU if PyTorch has one, otherwise of the CPU.
AUTO = "auto"


def is_cpu(name: str) -> bool:
    """Whether the device of that name, or what "auto" is here, is the CPU; only "auto" imports PyTorch, where there is one."""
    return name == "cpu" or (name == AUTO and named(AUTO) == "cpu")


def named(name: str) -> str:
    """PyTorch's name of a device, or of what "auto" is here.

    Raises:
        InputError: there is no such device here, or it needs PyTorch, which is not installed.
    """
    if name == "cpu" or (name == AUTO and packages.missing("torch", extra="torch")):
        return "cpu"
    packages.require("torch", extra="torch")
    import torch

    if name == AUTO:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type != "cpu":
            torch.empty(1, device=device).cpu()  # fails for "meta", which has no data
    except (RuntimeError, AssertionError, TypeError) as error:  # the type depends on how torch was built
        reason = str(error).splitlines()[0].partition(". ")[0]  # PyTorch goes on with lists of its backends
        raise InputError(
            f"device must be {AUTO}, cpu, cuda or another of PyTorch's that is here, got {name!r}: {reason}"
        ) from None
    return str(device)
