"""Import of compiled code, which may not be built or may not load here."""

import importlib
from functools import cache
from typing import Any


@cache
def import_error(module: str) -> str | None:
    """Why ``module`` can't be imported, in one line, or None."""
    try:
        importlib.import_module(module)
    except Exception as error:  # whatever a broken library raises, it can't be used
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return None


def core() -> Any:
    """The C++ core without PyTorch, ``zdce._core``; for where ``backends.cpp_missing`` says that it can be used."""
    return importlib.import_module("zdce._core")


def core_or_none() -> Any:
    """The C++ core without PyTorch, or None where it can't be imported."""
    return None if import_error("zdce._core") else core()
