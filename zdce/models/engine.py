"""Inference engine for CPUs: a whole network on a picture in one fused pass, without feature maps in main memory."""

import importlib

import torch
from torch import Tensor

from zdce.models.network import DCENet
from zdce.models.variants import Variant
from zdce.ops import dispatch

# Upper bound of a convolution's blocks of 16 input channels, as in csrc/core/network.h; a source fills whole blocks.
_MOST_BLOCKS = 64


def why_unsupported(model: DCENet, precision: str) -> str | None:
    """Why the engine can't run ``model`` with ``precision`` ("fp32" or "bf16"); None where it can."""
    if missing := dispatch.why_missing("cpp", next(model.parameters()).device.type):
        return missing
    if model.variant.sources[0] != (0,) or any(0 in sources for sources in model.variant.sources[1:]):
        return "only the first convolution may read the image"
    blocks = [-(-outputs // 16) for _, outputs in model.variant.convolutions()]
    if any(sum(blocks[source - 1] for source in sources) > _MOST_BLOCKS for sources in model.variant.sources[1:]):
        return f"a convolution reads more than {_MOST_BLOCKS} blocks of 16 channels"
    if any(parameter.dtype != torch.float32 for parameter in model.parameters()):
        return "its weights are not float32"
    if precision == "bf16" and not importlib.import_module("zdce._C").has_bfloat16():
        return "the processor has no AMX"
    return None


def _plan(variant: Variant, precision: str) -> Tensor:
    """Description of the network for C++: separable, bfloat16, iterations, layers; per layer: outputs, number of sources,
    sources.
    """
    plan = [int(variant.separable), int(precision == "bf16"), variant.iterations, len(variant.sources)]
    for sources, (_, outputs) in zip(variant.sources, variant.convolutions(), strict=True):
        plan += [outputs, len(sources), *sources]
    return torch.tensor(plan)


class Engine:
    """A network with its weights packed for the engine.

    Args:
        model: a network for which ``why_unsupported`` returns None.
        precision: ``"fp32"``, or ``"bf16"`` for feature maps and weights in bfloat16; of separable layers only the 1x1 filters
            and their inputs.
    """

    def __init__(self, model: DCENet, precision: str = "fp32") -> None:
        self._plan = _plan(model.variant, precision)
        self._maps = model.variant.maps
        parameters = torch.cat([parameter.detach().float().flatten() for parameter in model.parameters()])
        self._packed = parameters.new_empty(torch.ops.zdce_cpp.packed_size(self._plan))
        torch.ops.zdce_cpp.pack_network(parameters, self._plan, self._packed)

    def enhance(self, picture: Tensor, strength: float) -> Tensor:
        """Enhanced ``picture`` (H, W, 3) in its dtype: uint8, uint16, or float32 in [0, 1]; ``strength`` scales the maps."""
        result = torch.empty_like(picture)
        torch.ops.zdce_cpp.run_network(picture, self._plan, self._packed, strength, False, result)
        return result

    def maps(self, picture: Tensor) -> Tensor:
        """Curve maps (C, H, W), float32 in [-1, 1], of ``picture`` (H, W, 3): uint8, uint16, or float32 in [0, 1]."""
        result = torch.empty((self._maps, *picture.shape[:2]))
        torch.ops.zdce_cpp.run_network(picture, self._plan, self._packed, 1.0, True, result)
        return result
