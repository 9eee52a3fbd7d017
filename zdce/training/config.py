"""Everything that decides a run's result, as Python, TOML and the command line have it."""

import math
import platform
import tomllib
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import tomli_w
import torch

from zdce import variants
from zdce.data import SAMPLE
from zdce.formulas import NORMALIZATIONS, Weights
from zdce.version import __version__

# Weights are kept each time this many epochs are done, unless the configuration says otherwise.
KEEP_EVERY = 10

# What a resumed run can't take anew: its network, and how far an epoch is.
_FIXED = frozenset({"variant", "data", "batch_size", "size", "seed"})


@dataclass(frozen=True)
class Config:
    """Everything that decides a run's result. Defaults are the report's.

    Attributes:
        variant: a name of ``zdce.variants.VARIANTS``.
        data: a folder, or "sample"; see ``zdce.data.collection``.
        epochs, batch_size: an incomplete last batch is dropped.
        size: side in pixels that pictures are resized to, at least 16.
        lr: Adam's learning rate.
        weights: what each loss counts.
        normalization: of the illumination term, "paper" or "keras".
        seed: of the first weights and of each epoch's order.
        device: torch's name of it.
        keep_every: weights are kept each time this many epochs are done, and at the end.
    """

    variant: str = "base"
    data: str = SAMPLE
    epochs: int = 50
    batch_size: int = 16
    size: int = 256
    lr: float = 1e-4
    weights: Weights = Weights()  # noqa: RUF009 (immutable)
    normalization: str = "paper"
    seed: int = 0
    device: str = "cpu"
    keep_every: int = KEEP_EVERY

    def __post_init__(self) -> None:
        variants.variant(self.variant)
        for name, least in (("epochs", 1), ("batch_size", 1), ("size", 16), ("seed", 0), ("keep_every", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise ValueError(f"lr must be a positive number, got {self.lr}")
        if self.normalization not in NORMALIZATIONS:
            raise ValueError(f"normalization must be one of {', '.join(NORMALIZATIONS)}, got {self.normalization!r}")

    def changed(self, settings: dict[str, Any], weights: dict[str, float]) -> "Config":
        """These settings but for those named, and the weights but for those named.

        Raises:
            ValueError: the run would not be the same one any more.
        """
        for name in _FIXED & settings.keys():
            if settings[name] != getattr(self, name):
                raise ValueError(f"{name} can't change in a run: it was {getattr(self, name)!r}, got {settings[name]!r}")
        return replace(self, **settings, weights=self.weights._replace(**weights))

    def to_dict(self) -> dict[str, Any]:
        """As TOML and JSON take it."""
        return {**asdict(self), "weights": self.weights._asdict()}

    def to_toml(self) -> str:
        versions = {"zdce": __version__, "torch": torch.__version__, "python": platform.python_version()}
        return tomli_w.dumps({**self.to_dict(), "versions": versions})

    @classmethod
    def from_toml(cls, text: str) -> "Config":
        """Reads what ``to_toml`` wrote.

        Raises:
            ValueError: the text is no TOML, or has other fields.
        """
        values = tomllib.loads(text)
        values.pop("versions", None)
        if unknown := set(values) - {f.name for f in fields(cls)}:
            raise ValueError(f"unknown settings: {', '.join(sorted(unknown))}")
        return cls(**{**values, "weights": Weights(**values.get("weights", {}))})
