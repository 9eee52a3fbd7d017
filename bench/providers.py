"""Providers of operations: the eager reference, torch.compile of it, and each backend of zdce."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from zdce import backends, ops, reference
from zdce.ops import dispatch

from .cases import DTYPES, Setting

# Function from an operation's name to its implementation.
Functions = Callable[[str], Callable[..., Any]]


@dataclass(frozen=True)
class Provider:
    """A provider; ``missing`` returns why it can't run, or None; ``compiles``: the first call for a shape compiles."""

    functions: Functions
    missing: Callable[[Setting], str | None] = lambda setting: None
    compiles: bool = False


def _reference(name: str) -> Callable[..., Any]:
    function: Callable[..., Any] = getattr(reference, name)
    return function


def _compiled(name: str) -> Callable[..., Any]:
    # Fixed shapes and no graph breaks: the fastest use of torch.compile without its autotuner.
    return torch.compile(_reference(name), fullgraph=True, dynamic=False)


def _zdce(backend: str) -> Provider:
    def functions(name: str) -> Callable[..., Any]:
        function = getattr(ops, name)

        def call(*tensors: Any) -> Any:
            with backends.backend(backend):
                return function(*tensors)

        return call

    def missing(setting: Setting) -> str | None:
        return dispatch.why_missing(backend, setting.device, DTYPES[setting.dtype])

    return Provider(functions, missing)


PROVIDERS = {
    "reference": Provider(_reference),
    "compiled": Provider(_compiled, compiles=True),
    **{f"zdce-{name}": _zdce(name) for name in ("cpp", "triton", "cuda")},
}
