"""Weights of a network in PyTorch as its forward pass uses them: parametrized, pruned, without biases."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from zdce.errors import InputError
from zdce.models import stored
from zdce.models.variants import Variant


def present_weights(model: nn.Module, variant: Variant) -> dict[str, Tensor]:
    """The weights by the names of ``stored.shapes(variant)`` and in their order, without gradient; a bias of None is zeros.

    Raises:
        InputError: a layer has no such weight.
    """
    with torch.no_grad():
        return {name: _weight(model, name, shape) for name, shape in stored.shapes(variant).items()}


def sets_weights(hook: object) -> bool:
    """Whether a hook before ``forward`` only sets the layer's weights: pruning, spectral and weight normalization of torch."""
    return isinstance(hook, prune.BasePruningMethod) or type(hook).__module__.startswith("torch.nn.utils.")


def _weight(model: nn.Module, name: str, shape: tuple[int, ...]) -> Tensor:
    place, _, kind = name.rpartition(".")
    layer = _layer(model, place)
    with _evaluated(layer):
        for hook in layer._forward_pre_hooks.values():
            if sets_weights(hook):
                hook(layer, ())
        value: Any = getattr(layer, kind, layer)
    if value is None and kind == "bias":
        return next(model.parameters()).new_zeros(shape)
    if not isinstance(value, Tensor) or tuple(value.shape) != shape:
        got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise InputError(f"{name} must be a tensor of shape {shape}, got {got}")
    return value.detach()


@contextmanager
def _evaluated(layer: nn.Module) -> Iterator[None]:
    """Turns off training of ``layer``: in training, reading a spectral norm changes it."""
    training = [module for module in layer.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _layer(model: nn.Module, place: str) -> nn.Module:
    try:
        return model.get_submodule(place)
    except AttributeError as error:
        raise InputError(f"the network must have a layer {place}: {error}") from error
