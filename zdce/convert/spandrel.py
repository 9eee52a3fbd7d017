"""zdce's networks as an architecture of spandrel, which recognises networks by the names of a file's parameters.

``register()`` adds it to spandrel's registry; then ``spandrel.ModelLoader`` loads zdce's ``.safetensors`` files. spandrel
passes on parameters without the file's description, so networks that come with zdce are recognised by their values, and others
by their shapes. ``descriptor`` takes a network loaded by ``zdce.load``, with its description.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from zdce.enhancement.enhancer import Enhancer
from zdce.errors import InputError
from zdce.models import network, stored, weights
from zdce.models.network import DCENet
from zdce.models.stored import StoredNetwork, Weights
from zdce.models.variants import VARIANTS, Variant
from zdce.runtime import packages

packages.require("spandrel", extra="spandrel")

from spandrel import MAIN_REGISTRY, Architecture, ArchRegistry, ArchSupport, ImageModelDescriptor, ModelTiling  # noqa: E402

ID = "zdce"

_FIRST_LAYER = ("convolutions.0.weight", "convolutions.0.depthwise.weight")


class ZdceArchitecture(Architecture[DCENet]):  # type: ignore[misc] # spandrel has no types
    """zdce's networks: RGB in and out at the same size, in float32."""

    def __init__(self) -> None:
        super().__init__(id=ID, name="Zero-DCE (zdce)", detect=_is_ours)

    def load(self, state_dict: Mapping[str, Tensor]) -> ImageModelDescriptor[DCENet]:
        """The network with these parameters.

        Raises:
            InputError: they are of no variant, or not finite.
        """
        found = {name: _array(name, values) for name, values in state_dict.items()}
        return _descriptor(self, network.of_stored(StoredNetwork(_variant(found), found)))


def descriptor(model: DCENet) -> ImageModelDescriptor[DCENet]:
    """A loaded network as spandrel's loader gives it.

    Args:
        model: from ``zdce.load``.

    Returns:
        A callable from images (1, 3, H, W), float32 in [0, 1], to the same, with the results of ``zdce.Enhancer``.
    """
    return _descriptor(ZdceArchitecture(), model)


def register(registry: ArchRegistry = MAIN_REGISTRY) -> None:
    """Adds the architecture to ``registry``, unless it is there."""
    registry.add(ArchSupport.from_architecture(ZdceArchitecture()), ignore_duplicates=True)


def _is_ours(state_dict: Mapping[str, Any]) -> bool:
    return any(name in state_dict for name in _FIRST_LAYER) and all(name.startswith("convolutions.") for name in state_dict)


def _array(name: str, values: Tensor) -> Weights:
    if not values.isfinite().all():
        raise InputError(f"{name} must be finite, got values that are not")
    return stored.without_subnormals(values.detach().float().cpu().numpy())


def _variant(found: Mapping[str, Weights]) -> Variant:
    """The variant of the shipped network with these weights, else the first variant with such shapes."""
    shapes = {name: values.shape for name, values in found.items()}
    fitting = [variant for variant in VARIANTS.values() if stored.shapes(variant) == shapes]
    if not fitting:
        raise InputError(f"expected the parameters of one of {', '.join(VARIANTS)}, got {len(shapes)} others")
    for variant in fitting:
        if variant.name in weights.names() and _equal(stored.read(variant.name).weights, found):
            return variant
    return fitting[0]


def _equal(known: Mapping[str, Weights], found: Mapping[str, Weights]) -> bool:
    return all(np.array_equal(values, found[name]) for name, values in known.items())


def _descriptor(architecture: ZdceArchitecture, model: DCENet) -> ImageModelDescriptor[DCENet]:
    variant = model.variant
    # Results that depend on the whole picture would differ from tile to tile; the engine itself needs little memory at any
    # size.
    tiled = variant.scale == 1 and not variant.brightness and not variant.noise
    return ImageModelDescriptor(
        model, model.state_dict(), architecture=architecture, purpose="Restoration", tags=[variant.name],
        supports_half=False, supports_bfloat16=False, scale=1, input_channels=3, output_channels=3,
        tiling=ModelTiling.SUPPORTED if tiled else ModelTiling.INTERNAL, call_fn=_enhanced,
    )  # fmt: skip


def _enhanced(model: DCENet, image: Tensor) -> Tensor:
    return Enhancer(model)(image)
