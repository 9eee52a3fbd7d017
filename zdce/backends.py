"""The requested backend, and whether C++ can be used. Does not import PyTorch; ``zdce.ops.dispatch`` chooses."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path

from zdce import compiled
from zdce.errors import InputError

# The names of ``zdce.ops.dispatch.BACKENDS``.
NAMES = ["reference", "cpp", "triton", "cuda"]

_forced: ContextVar[str | None] = ContextVar("zdce_backend", default=None)


def _checked(name: str, source: str) -> str:
    if name != "auto" and name not in NAMES:
        raise InputError(f"{source} must be one of auto, {', '.join(NAMES)}, got {name!r}")
    return name


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Forces the backend of all operators that this thread calls inside the ``with``, and of their backward passes.

    Args:
        name: ``"auto"``, ``"reference"``, ``"cpp"``, ``"triton"`` or ``"cuda"``. Outside of any ``with`` it is the environment
            variable ``ZDCE_BACKEND``, by default ``"auto"``.

    Raises:
        ValueError: there is no such backend.
        BackendError: an operator called inside finds that the backend can't run here; the message says why.

    >>> with zdce.backend("reference"):
    ...     zdce.ops.apply_curve(torch.full((1, 3, 1, 1), 0.25), torch.full((1, 3, 1, 1), -1.0)).flatten().tolist()
    [0.4375, 0.4375, 0.4375]
    """
    token = _forced.set(_checked(name, "backend"))
    try:
        yield
    finally:
        _forced.reset(token)


def requested() -> str:
    """The backend that is requested here: ``auto`` or a forced one."""
    forced = _forced.get()
    return _checked(os.environ.get("ZDCE_BACKEND") or "auto", "ZDCE_BACKEND") if forced is None else forced


@cache
def check_instruction_set() -> None:
    """Raises InputError if the environment variable ``ZDCE_ISA`` names an instruction set that is not there."""
    if os.environ.get("ZDCE_ISA") and (core := compiled.core_or_none()) is not None:
        try:
            core.instruction_set()
        except ValueError as error:
            raise InputError(str(error)) from None


def cpp_missing(module: str) -> str | None:
    """Why the C++ extension ``module``, ``zdce._core`` or ``zdce._C``, can't be used, or None.

    Raises:
        InputError: the environment variable ``ZDCE_ISA`` names an instruction set that is not there.
    """
    if error := compiled.import_error(module):
        reason = _not_built() or error
        return f"the C++ extension is not built ({reason}); reinstall zdce with a C++ compiler and without ZDCE_CPP=0"
    check_instruction_set()
    return None


def _not_built() -> str | None:
    """Why the installation has no C++ extensions, as recorded by ``csrc/build.py``; None if there is no record."""
    record = Path(__file__).with_name("_not_built.txt")
    return record.read_text().strip() if record.is_file() else None
