"""Devices for networks, by name."""

import torch

from zdce.errors import InputError

# Name of the GPU if PyTorch has one, otherwise of the CPU.
AUTO = "auto"


def named(name: str) -> torch.device:
    """Device with PyTorch's ``name``, or for "auto".

    Raises:
        InputError: there is no such device here.
    """
    if name == AUTO:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type != "cpu":
            torch.empty(1, device=device).cpu()  # fails for "meta", which has no data
    except (RuntimeError, AssertionError, TypeError) as error:  # the type depends on how torch was built
        raise InputError(
            f"device must be {AUTO}, cpu, cuda or another of PyTorch's that is here, got {name!r}: {str(error).splitlines()[0]}"
        ) from None
    return device
