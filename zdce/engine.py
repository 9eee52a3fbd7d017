"""The CPU's inference engine: a whole network on a picture in one fused pass, no feature map in main memory."""

import torch
from torch import Tensor

from zdce import backends, registry  # noqa: F401 (registers the engine)
from zdce.model import DCENet
from zdce.variants import Variant


def why_unsupported(model: DCENet) -> str | None:
    """Why the engine can't run ``model``; None where it can."""
    if missing := backends.why_missing("cpp", next(model.parameters()).device.type):
        return missing
    if model.variant.sources[0] != (0,) or any(0 in sources for sources in model.variant.sources[1:]):
        return "only the first convolution may read the image"
    return None


def _plan(variant: Variant) -> Tensor:
    """The network as numbers: separable, iterations, layers, then each layer's outputs, number of sources, and sources."""
    plan = [int(variant.separable), variant.iterations, len(variant.sources)]
    for sources, (_, outputs) in zip(variant.sources, variant.convolutions(), strict=True):
        plan += [outputs, len(sources), *sources]
    return torch.tensor(plan)


class Engine:
    """A network with its weights packed once.

    Args:
        model: a network that ``why_unsupported`` has nothing against.
    """

    def __init__(self, model: DCENet) -> None:
        self._plan = _plan(model.variant)
        self._maps = model.variant.maps
        parameters = torch.cat([parameter.detach().float().flatten() for parameter in model.parameters()])
        self._packed = parameters.new_empty(torch.ops.zdce_cpp.packed_size(self._plan))
        torch.ops.zdce_cpp.pack_network(parameters, self._plan, self._packed)

    def enhance(self, picture: Tensor, strength: float) -> Tensor:
        """The enhanced picture, as ``picture`` (H, W, 3): uint8, uint16, or float32 in [0, 1]; the maps scaled by ``strength``."""
        result = torch.empty_like(picture)
        torch.ops.zdce_cpp.run_network(picture, self._plan, self._packed, strength, False, result)
        return result

    def maps(self, picture: Tensor) -> Tensor:
        """The curve maps (C, H, W), float32 in [-1, 1], of ``picture`` (H, W, 3): uint8, uint16, or float32 in [0, 1]."""
        result = torch.empty((self._maps, *picture.shape[:2]))
        torch.ops.zdce_cpp.run_network(picture, self._plan, self._packed, 1.0, True, result)
        return result
