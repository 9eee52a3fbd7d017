"""Where networks run, by name."""

import torch

from zdce.errors import InputError

# The GPU where PyTorch has one, else the CPU.
AUTO = "auto"


def named(name: str) -> torch.device:
    """The device that PyTorch calls ``name``, or of "auto".

    Raises:
        ValueError: there is none of that name here.
    """
    if name == AUTO:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type != "cpu":
            torch.empty(1, device=device).cpu()  # "meta" has nothing to give back
    except (RuntimeError, AssertionError, TypeError) as error:  # how torch answers depends on what it was built with
        raise InputError(
            f"device must be {AUTO}, cpu, cuda or another of PyTorch's that is here, got {name!r}: {str(error).splitlines()[0]}"
        ) from None
    return device
