"""zdce: zero-reference low-light image enhancement.

Public names are imported when they are first used (PEP 562), so that ``import zdce`` does not wait for PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from zdce.version import __version__

if TYPE_CHECKING:
    from zdce import ops, reference
    from zdce.backends import backend
    from zdce.enhancement import ray_data, transforms
    from zdce.enhancement.enhance import enhance
    from zdce.enhancement.enhancer import Enhancer
    from zdce.models.network import DCENet, load
    from zdce.ops.formulas import Objective
    from zdce.settings import EnhanceSettings, LossWeights

# Where each public name is defined; a module stands for itself.
_HOMES = {
    "DCENet": "zdce.models.network",
    "EnhanceSettings": "zdce.settings",
    "Enhancer": "zdce.enhancement.enhancer",
    "LossWeights": "zdce.settings",
    "Objective": "zdce.ops.formulas",
    "backend": "zdce.backends",
    "enhance": "zdce.enhancement.enhance",
    "load": "zdce.models.network",
}
_MODULES = {
    "ops": "zdce.ops",
    "ray_data": "zdce.enhancement.ray_data",
    "reference": "zdce.reference",
    "transforms": "zdce.enhancement.transforms",
}

__all__ = [
    "DCENet",
    "EnhanceSettings",
    "Enhancer",
    "LossWeights",
    "Objective",
    "__version__",
    "backend",
    "enhance",
    "load",
    "ops",
    "ray_data",
    "reference",
    "transforms",
]


# Of these, what PyTorch is needed for.
_ON_TORCH = frozenset({"DCENet", "Objective", "load", "ops", "reference"})


def __getattr__(name: str) -> Any:
    if name in _ON_TORCH:
        import_module("zdce.runtime.packages").require("torch", extra="torch")
    if name in _MODULES:
        value: Any = import_module(_MODULES[name])
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'zdce' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
