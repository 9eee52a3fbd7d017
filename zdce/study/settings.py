"""Settings of a study, and fingerprints of inputs that tell which work must be repeated."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from zdce import training
from zdce.data.datasets import DARKENED, SAMPLE, Item
from zdce.errors import InputError
from zdce.models import variants
from zdce.models.variants import VARIANTS
from zdce.ops import NORMALIZATIONS

# Base and its eight ablations, in the report's order.
REPORTED = tuple(variant.name for variant in VARIANTS.values() if variant.part != "beyond")
BASE = "base"


@dataclass(frozen=True)
class Settings:
    """All settings that determine a study's result. Defaults are those of the report.

    Attributes:
        data: a folder, or "sample"; see ``zdce.data.datasets.collection``.
        variants: names of ``zdce.models.variants.VARIANTS``, each trained and measured.
        seeds: number of trainings of each variant, with the seeds 0, 1, ...
        epochs, size, batch_size, lr, device: as in ``zdce.training.Config``.
        normalization: normalisation of the illumination term, "keras" as in the report, or "paper".
        measured: largest number of measured validation pictures, evenly spaced in their order; None: all.
        side: longer side in pixels that measured pictures are reduced to; None: full size.
        shown: number of pictures on the page, evenly spaced among the measured ones.
    """

    data: str = SAMPLE
    variants: tuple[str, ...] = REPORTED
    seeds: int = 1
    epochs: int = 50
    normalization: str = "keras"
    size: int = 256
    batch_size: int = 16
    lr: float = 1e-4
    device: str = "cpu"
    measured: int | None = None
    side: int | None = None
    shown: int = 6

    def __post_init__(self) -> None:
        if not self.variants:
            raise InputError("variants must name at least one")
        for name in self.variants:
            variants.variant(name)
        if self.normalization not in NORMALIZATIONS:
            raise InputError(f"normalization must be one of {', '.join(NORMALIZATIONS)}, got {self.normalization!r}")
        for name in ("seeds", "epochs", "shown"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def keep_every(self) -> int:
        """Number of epochs between weights that are kept and measured: ten, as in the report, or one in short studies."""
        return 10 if self.epochs >= 10 else 1

    @property
    def kept(self) -> tuple[int, ...]:
        """Epochs whose weights are measured."""
        whole = range(self.keep_every, self.epochs + 1, self.keep_every)
        return tuple(sorted({*whole, self.epochs}))

    def run_settings(self, variant: str, seed: int) -> dict[str, Any]:
        """Training settings of one run that may differ between studies."""
        return {
            "variant": variant,
            "data": self.data,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "size": self.size,
            "lr": self.lr,
            "weights": VARIANTS[variant].weights,
            "normalization": self.normalization,
            "seed": seed,
            "device": self.device,
            "keep_every": self.keep_every,
        }

    def config(self, variant: str, seed: int) -> training.Config:
        """Training settings of one run."""
        return training.Config(**self.run_settings(variant, seed))

    def to_dict(self) -> dict[str, Any]:
        """Dictionary for JSON."""
        return asdict(self)


def preset(data: str | None, *, quick: bool) -> Settings:
    """Default settings.

    Without ``data``, a complete study of the built-in sample that takes minutes: small pictures, and a learning rate with which
    300 steps train a network. ``quick`` does every part in about a minute, too little training for conclusions.
    """
    settings = Settings(data or SAMPLE)
    if data is None or data == SAMPLE:
        settings = replace(settings, size=64, lr=1e-3, measured=12, shown=3)
    if quick:
        settings = replace(settings, epochs=5, size=32, batch_size=8, lr=1e-3, measured=3, side=96, shown=2)
    return settings


def called(data: str) -> str:
    """Name of the data in results: a folder's name without its path, which may be private."""
    return data if data in DARKENED else f"{Path(data).name}/"


def fingerprint(*parts: Any) -> str:
    """Hash of ``parts``, which must fit into JSON."""
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=12).hexdigest()


def listing(items: Sequence[Item]) -> list[Any]:
    """Identity of a set of pictures without reading them: names, and each file's size and modification time."""
    if not any(item.files for item in items):
        return [[item.name, item.made_from] for item in items]
    stats = [[file.stat() for file in item.files] for item in items]
    return [[item.name, [[stat.st_size, stat.st_mtime_ns] for stat in own]] for item, own in zip(items, stats, strict=True)]


def file_fingerprint(path: Path) -> str:
    """Hash of a file's content."""
    return hashlib.blake2b(path.read_bytes(), digest_size=12).hexdigest()
