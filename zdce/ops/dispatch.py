"""Backends of the operators: the requirements of each, and the choice of one."""

import importlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from zdce import backends, compiled
from zdce.errors import BackendError

# Takes an operator's inputs, and its outputs, which it writes.
Launcher = Callable[[tuple[Any, ...], tuple[Any, ...]], None]


@dataclass(frozen=True)
class Operator:
    """Implementations of one operator.

    Attributes:
        reference: function in plain torch from its inputs to the operator's outputs.
        inputs: converts the operator's inputs to the reference's.
        kernels: the other backends that have a kernel of the operator's name.
        float32_only: whether the C++ kernel takes only float32 weights.
        float64_numbers: whether single numbers are float64 in every backend, and do not decide which one can run.
    """

    reference: Callable[..., Any]
    inputs: Callable[[tuple[Any, ...]], tuple[Any, ...]]
    kernels: frozenset[str]
    float32_only: bool = False
    float64_numbers: bool = False


# Operators by name; ``zdce.ops.operator.define`` adds them.
OPERATORS: dict[str, Operator] = {}


@dataclass(frozen=True)
class Backend:
    """One way to run the operators; ``missing`` returns why it can't run on a device with a dtype, or None."""

    missing: Callable[[str, torch.dtype], str | None]
    launcher: Callable[[str], Launcher]


def _kind(device: str) -> str:
    """Type of a device: ``cuda`` for ``cuda:1``."""
    return device.partition(":")[0]


# Lowest compute capability of GPUs that csrc/cuda/build.py and Triton compile for.
_CUDA_CAPABILITY, _TRITON_CAPABILITY = (8, 0), (7, 0)


def _too_old(device: str, least: tuple[int, int]) -> str | None:
    """Why the GPU is missing or too old, or None; ``cuda`` is the current GPU."""
    if not torch.cuda.is_available():
        return "torch finds no GPU"
    capability = torch.cuda.get_device_capability(device)
    if capability >= least:
        return None
    needed, got = (".".join(map(str, which)) for which in (least, capability))
    return f"it needs a GPU of compute capability {needed}, {device} has {got}"


def _never_missing(device: str, dtype: torch.dtype) -> str | None:
    return None


def _reference_launcher(operator: str) -> Launcher:
    compute = OPERATORS[operator].reference

    def launch(inputs: tuple[Any, ...], outputs: tuple[Any, ...]) -> None:
        device = next(value.device.type for value in inputs if isinstance(value, Tensor))
        with torch.autocast(device, enabled=False):  # kernels don't take part in it either
            results = compute(*(widened_all(value) for value in inputs))
        _copy(outputs, results if isinstance(results, tuple) else (results,))

    return launch


def kernel_launcher(kernel: Callable[..., None]) -> Launcher:
    """The launcher of a ``kernel`` that takes the inputs, then the outputs."""
    return lambda inputs, outputs: kernel(*inputs, *outputs)


def _copy(outputs: Iterable[Any], results: Iterable[Any]) -> None:
    """Copies results to outputs, which may be lists; outputs that are None or have no elements are skipped."""
    for output, result in zip(outputs, results, strict=True):
        if isinstance(output, list):
            _copy(output, result)
        elif output is not None and output.numel() > 0:
            output.copy_(result)


def widened_all(value: Any) -> Any:
    """``widened`` of a tensor, and of each in a list; else ``value``."""
    if isinstance(value, list):
        return [widened_all(one) for one in value]
    return widened(value) if isinstance(value, Tensor) else value


def widened(tensor: Tensor) -> Tensor:
    """float16 and bfloat16 as float32, the type in which all backends compute; other types unchanged."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _cpp_missing(device: str, dtype: torch.dtype) -> str | None:
    if _kind(device) != "cpu":
        return f"it runs on CPU tensors, not on {device}"
    return backends.cpp_missing("zdce._C")


def _cpp_launcher(operator: str) -> Launcher:
    return kernel_launcher(getattr(torch.ops.zdce_cpp, operator).default)


def _triton_missing(device: str, dtype: torch.dtype) -> str | None:
    if error := compiled.import_error("triton"):
        return f"triton is not installed ({error})"
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if _kind(device) != "cuda" and not interpreted:
        return f"it runs on CUDA tensors, not on {device} (TRITON_INTERPRET=1 set before Python starts interprets it)"
    if dtype == torch.float64:
        return "it takes float32, bfloat16 and float16, not float64"
    return _too_old(device, _TRITON_CAPABILITY) if _kind(device) == "cuda" else None


def _triton_launcher(operator: str) -> Launcher:
    module = importlib.import_module(f"zdce.kernels.{operator.removesuffix('_backward')}")
    return kernel_launcher(getattr(module, operator))


def _cuda_missing(device: str, dtype: torch.dtype) -> str | None:
    if _kind(device) != "cuda":
        return f"it runs on CUDA tensors, not on {device}"
    if error := compiled.import_error("zdce._cuda"):
        return f"the CUDA extension is not built ({error}); reinstall zdce with ZDCE_CUDA=1 and nvcc"
    if dtype == torch.float64:
        return "it takes float32, bfloat16 and float16, not float64"
    return _too_old(device, _CUDA_CAPABILITY)


def _cuda_launcher(operator: str) -> Launcher:
    # Operators without a CUDA C++ kernel use Triton's.
    if "cuda" not in OPERATORS[operator].kernels:
        return _triton_launcher(operator)
    return kernel_launcher(getattr(torch.ops.zdce_cuda, operator).default)


def _kernel_missing(operator: Operator, backend: str, dtype: torch.dtype) -> str | None:
    """Why ``backend`` has no kernel of ``operator`` for ``dtype``, or None."""
    if backend == "reference":
        return None
    if not operator.kernels & ({"cuda", "triton"} if backend.startswith("cuda") else {backend}):
        return "it has no kernel of this operator"
    if operator.float32_only and dtype != torch.float32:
        return f"its kernel takes float32, not {str(dtype).removeprefix('torch.')}"
    return None


BACKENDS = {
    "reference": Backend(_never_missing, _reference_launcher),
    "cpp": Backend(_cpp_missing, _cpp_launcher),
    "triton": Backend(_triton_missing, _triton_launcher),
    "cuda": Backend(_cuda_missing, _cuda_launcher),
}

# Backends that ``auto`` tries, best first; on other devices it uses the reference.
_AUTO = {"cpu": ("cpp", "reference"), "cuda": ("cuda", "triton", "reference")}


def why_missing(
    backend: str, device: str = "cpu", dtype: torch.dtype = torch.float32, *, operator: str | None = None
) -> str | None:
    """Why ``backend`` can't run ``operator`` (None: most of them) on ``device`` with ``dtype``, or None."""
    if operator is not None and (reason := _kernel_missing(OPERATORS[operator], backend, dtype)):
        return reason
    if reason := BACKENDS[backend].missing(device, dtype):
        return reason
    if backend == "cuda" and (operator is None or "cuda" not in OPERATORS[operator].kernels):
        reason = _triton_missing(device, dtype)
        return reason and f"most of its operators are Triton's: {reason}"
    return None


def choose(backend: str, device: str, dtype: torch.dtype, *, operator: str | None = None) -> str:
    """The backend that runs where ``backend`` is requested: the best one for ``auto``, otherwise itself.

    Raises:
        BackendError: the forced backend can't run here.
    """
    if backend == "auto":
        candidates = _AUTO.get(_kind(device), ("reference",))
        return next(candidate for candidate in candidates if why_missing(candidate, device, dtype, operator=operator) is None)
    if reason := why_missing(backend, device, dtype, operator=operator):
        raise BackendError(f"backend {backend!r} was asked for but can't run: {reason}")
    return backend


def launch(operator: str, backend: str, inputs: tuple[object, ...], outputs: tuple[Tensor | None, ...]) -> None:
    """Runs ``operator`` on the requested ``backend`` and writes ``outputs``; outputs that are None are not computed."""
    tensors = [value for value in inputs if isinstance(value, Tensor)]
    dtypes = {tensor.dtype for tensor in (tensors[:1] if OPERATORS[operator].float64_numbers else tensors)}
    if torch.float64 in dtypes:
        dtype = torch.float64
    elif OPERATORS[operator].float32_only and torch.float32 not in dtypes:  # with float32 weights, feature maps may be bfloat16
        dtype = tensors[0].dtype
    else:
        dtype = torch.float32
    _launcher(operator, backend, str(tensors[0].device), dtype)(inputs, outputs)


@cache
def _launcher(operator: str, backend: str, device: str, dtype: torch.dtype) -> Launcher:
    return BACKENDS[choose(backend, device, dtype, operator=operator)].launcher(operator)
