"""zdce: zero-reference low-light image enhancement."""

from zdce import ops, reference, transforms
from zdce.backends import backend
from zdce.enhancer import Enhancer
from zdce.formulas import Objective, Weights
from zdce.in_kind import enhance
from zdce.model import DCENet, load
from zdce.version import __version__

__all__ = [
    "DCENet",
    "Enhancer",
    "Objective",
    "Weights",
    "__version__",
    "backend",
    "enhance",
    "load",
    "ops",
    "reference",
    "transforms",
]
