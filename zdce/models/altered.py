"""Networks whose modules compute something else than the layers of their variant, which no engine repeats."""

import copy

import torch
from torch import nn

from zdce.errors import InputError
from zdce.models import stored
from zdce.models.network import Conv2d, DCENet, SeparableConv2d
from zdce.models.present_weights import present_weights, sets_weights
from zdce.models.variants import Variant


def why_altered(model: DCENet) -> str | None:
    """Why ``model`` computes something else than the layers of its variant with its present weights; None if it does not."""
    model = getattr(model, "_orig_mod", model)  # of torch.compile
    modules = dict(model.named_modules(remove_duplicate=False))
    with torch.device("meta"):
        plain = dict(DCENet(model.variant, model.activations).named_modules())
    for place, kind in _kinds(model.variant).items():
        if not _computes(modules.get(place), kind, plain[place]):
            return f"{place or 'the network'} is not a plain {kind.__name__}"
    try:
        present_weights(model, model.variant)
    except InputError as error:
        return str(error)
    return None


def with_plain_weights(model: DCENet) -> DCENet:
    """A copy of ``model`` whose parameters are its present weights, or a mere copy if ``model`` is altered."""
    if why_altered(model) is not None:
        return copy.deepcopy(model)
    with torch.device("meta"):  # draws no random numbers
        plain = DCENet(model.variant, model.activations)
    weights = present_weights(model, model.variant).items()
    plain.load_state_dict({name: values.clone() for name, values in weights}, assign=True)
    return plain


def _kinds(variant: Variant) -> dict[str, type[nn.Module]]:
    """The classes of a network's modules by their places."""
    kinds: dict[str, type[nn.Module]] = {"": DCENet}
    for name in stored.shapes(variant):
        layer = name.rpartition(".")[0]
        kinds[layer] = nn.Conv2d if variant.separable else Conv2d
        if variant.separable:
            kinds[layer.rpartition(".")[0]] = SeparableConv2d
    return kinds


# What ``forward`` reads beside the weights.
_READ = ("stride", "padding", "dilation", "groups", "padding_mode", "rectified", "kept")


def _computes(module: nn.Module | None, kind: type[nn.Module], plain: nn.Module) -> bool:
    """Whether calls of ``module`` compute what those of ``plain``, a layer of that ``kind``, do."""
    return (
        isinstance(module, kind)
        and all(getattr(type(module), name, None) is getattr(kind, name, None) for name in ("forward", "_conv_forward"))
        and "forward" not in vars(module)
        and all(getattr(module, name, None) == getattr(plain, name, None) for name in _READ)
        and not module._forward_hooks
        and all(map(sets_weights, module._forward_pre_hooks.values()))
    )
