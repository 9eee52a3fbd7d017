"""Check before measurements: values and gradients against the reference in float64."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from zdce import reference

from .cases import Case, Setting, gradients, value

# Tolerances relative to the largest true value. float32: each of 8 steps may double earlier errors, 2^8 roundings of 2^-24, and
# sums and backward add as much. Half types: the error of the eager reference, which rounds after every operation.
TOLERANCES = {"float64": 1e-11, "float32": 1e-4, "float16": 0.05, "bfloat16": 0.3}


def truth(case: Case, setting: Setting) -> list[Tensor]:
    """Value and gradients in float64, from inputs rounded to the setting's type."""
    exact = [tensor.detach().double().requires_grad_(tensor.requires_grad) for tensor in case.tensors(setting)]
    start = case.gradient(setting)
    return _results(getattr(reference, case.name), exact, None if start is None else start.double())


def error(case: Case, setting: Setting, function: Callable[..., Any], expected: Iterable[Tensor]) -> float:
    """Largest error of value and gradients, as a multiple of the tolerance: above 1, or NaN, is wrong."""
    got = _results(function, case.tensors(setting), case.gradient(setting))
    worst = torch.stack([_distance(a, b) for a, b in zip(got, expected, strict=True)]).max()
    return worst.item() / TOLERANCES[setting.dtype]


def _results(function: Callable[..., Any], tensors: list[Tensor], start: Tensor | None) -> list[Tensor]:
    result = value(function, tensors)
    return [result.detach(), *gradients(result, tensors, start)]


def _distance(got: Tensor, expected: Tensor) -> Tensor:
    return (got.double() - expected).abs().max() / expected.abs().max()
