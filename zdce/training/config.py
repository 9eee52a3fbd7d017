"""All settings that determine a run's result, for Python, TOML and the command line."""

import math
import tomllib
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import tomli_w
import torch

from zdce.data.datasets import SAMPLE
from zdce.errors import InputError, library_call
from zdce.models import variants
from zdce.ops import NORMALIZATIONS
from zdce.runtime import system
from zdce.settings import LossWeights

# Default number of epochs between weights that are kept.
KEEP_EVERY = 10

# Seeds of torch's generators have 64 bits. Batches of larger pictures than MAX_SIZE would not fit into memory.
MAX_SEED = 2**64 - 1
MAX_SIZE = 8192

SCHEDULES = ("constant", "cosine")
AUGMENTATIONS = ("none", "flips", "crops")

# Type that autocast uses on each device; float16 needs scaled gradients.
AMP = {"cuda": torch.float16, "cpu": torch.bfloat16}

# Settings that a resumed run can't change: they determine its network, its position in an epoch, and its learning rate.
_FIXED = ("variant", "data", "batch_size", "accumulate", "size", "seed", "schedule")
# The learning rate of the cosine schedule depends on both.
_FIXED_BY_COSINE = ("epochs", "lr")

# Tables of a run's config.toml that describe the machine and are not settings.
_DESCRIPTIONS = ("versions", "machine")


@dataclass(frozen=True)
class Config:
    """All settings that determine a run's result. Defaults are those of the report.

    Attributes:
        variant: a name of ``zdce.models.variants.VARIANTS``.
        data: a folder, "sample" or "open"; see ``zdce.data.datasets.collection``.
        epochs: passes over all pictures.
        batch_size: pictures of one forward and backward pass.
        accumulate: batches of one update; pictures of an epoch that do not fill its last update are left out.
        size: side in pixels that pictures are resized to, at least 16.
        augment: "none"; "flips", half of the pictures mirrored left to right; or "crops", flips and a random window of each.
        lr: Adam's learning rate.
        schedule: "constant", or "cosine": from ``lr`` towards 0, anew in each epoch.
        clip: upper bound of the gradient's norm; 0: none.
        ema: decay per update of a moving average of the weights, in [0, 1), which is then validated and saved; 0: no average.
        activations: "float32", or "bfloat16" for feature maps in half the memory on the CPU; see ``zdce.DCENet``.
        amp: whether the network runs under torch's autocast: float16 with scaled gradients on a GPU, bfloat16 on the CPU, where
            zdce's kernels keep feature maps in it, not logits, and on processors with AMX multiply in it. Without it, a GPU
            computes in true float32 too, not in TF32.
        weights: weight of each loss.
        target: mean brightness that exposure control aims at, in [0, 1].
        normalization: normalisation of the illumination term, "paper" or "keras".
        seed: seed of the first weights, of each epoch's order, and of augmentation.
        device: name of the device, as torch has it.
        keep_every: number of epochs between weights that are kept; the last ones are kept too.
        tensorboard: whether losses and pictures are also written for TensorBoard.
    """

    variant: str = "base"
    data: str = SAMPLE
    epochs: int = 50
    batch_size: int = 16
    accumulate: int = 1
    size: int = 256
    augment: str = "none"
    lr: float = 1e-4
    schedule: str = "constant"
    clip: float = 0.0
    ema: float = 0.0
    activations: str = "float32"
    amp: bool = False
    weights: LossWeights = LossWeights()  # noqa: RUF009 (immutable)
    target: float = 0.6
    normalization: str = "paper"
    seed: int = 0
    device: str = "cpu"
    keep_every: int = KEEP_EVERY
    tensorboard: bool = False

    def __post_init__(self) -> None:
        variants.variant(self.variant)
        for name, least in (("epochs", 1), ("batch_size", 1), ("accumulate", 1), ("keep_every", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name, least, most in (("size", 16, MAX_SIZE), ("seed", 0, MAX_SEED)):
            if not least <= getattr(self, name) <= most:
                raise InputError(f"{name} must be from {least} to {most}, got {getattr(self, name)}")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise InputError(f"lr must be a positive number, got {self.lr}")
        if not (math.isfinite(self.clip) and self.clip >= 0):
            raise InputError(f"clip must be a positive number, or 0 for none, got {self.clip}")
        if not 0 <= self.ema < 1:
            raise InputError(f"ema must be in [0, 1), got {self.ema}")
        if not 0 <= self.target <= 1:
            raise InputError(f"target must be in [0, 1], got {self.target}")
        for name, known in (("normalization", NORMALIZATIONS), ("schedule", SCHEDULES), ("augment", AUGMENTATIONS)):
            if getattr(self, name) not in known:
                raise InputError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        if not all(map(math.isfinite, self.weights)):
            raise InputError(f"weights must be finite numbers, got {self.weights}")
        if self.amp and self.device.partition(":")[0] not in AMP:
            raise InputError(f"amp needs one of the devices {', '.join(AMP)}, got {self.device!r}")

    @property
    def pictures_an_update(self) -> int:
        return self.batch_size * self.accumulate

    def changed(self, settings: dict[str, Any], weights: dict[str, float]) -> "Config":
        """These settings with the given ``settings`` and loss ``weights`` replaced, to continue the same run.

        Raises:
            InputError: a setting can't change within a run.
        """
        cosine = self.schedule == "cosine"
        for name in (*_FIXED, *(_FIXED_BY_COSINE if cosine else ())):
            if name in settings and settings[name] != getattr(self, name):
                where = " with a cosine schedule" if name in _FIXED_BY_COSINE else ""
                was, got = getattr(self, name), settings[name]
                raise InputError(f"{name} can't change in a run{where}: it was {was!r}, got {got!r}")
        return replace(self, **settings, weights=self.weights._replace(**weights))

    def for_another_run(self, settings: dict[str, Any], weights: dict[str, float]) -> "Config":
        """These settings with the given ones replaced, for a new run; with another variant, loss weights default to that
        variant's.
        """
        own = variants.variant(settings["variant"]).weights if "variant" in settings else self.weights
        return replace(self, **settings, weights=own._replace(**weights))

    def to_dict(self) -> dict[str, Any]:
        """Dictionary for TOML and JSON."""
        return {**asdict(self), "weights": self.weights._asdict()}

    def to_toml(self) -> str:
        """TOML text of the settings, the versions and the machine; ``from_toml`` ignores the latter two."""
        return tomli_w.dumps({**self.to_dict(), "versions": system.versions(), "machine": system.machine()})

    @classmethod
    def from_toml(cls, text: str) -> "Config":
        """Reads the text of ``to_toml``, or a part of it; missing settings have their defaults.

        Raises:
            InputError: the text is not TOML, or has unknown fields or a value of the wrong type.
        """
        with library_call(InputError):
            loaded = tomllib.loads(text)
        values = {name: value for name, value in loaded.items() if name not in _DESCRIPTIONS}
        weights = values.pop("weights", {})
        values = _checked(values, {f.name: f.default for f in fields(cls) if f.name != "weights"}, "settings")
        own = variants.variant(values.get("variant", cls.variant)).weights
        return cls(**values, weights=own._replace(**_checked(weights, own._asdict(), "weights")))


def _checked(values: Any, defaults: dict[str, Any], called: str) -> dict[str, Any]:
    """``values``, checked and converted to the types of ``defaults``."""
    if not isinstance(values, dict):
        raise InputError(f"{called} must be a table, got {values!r}")
    if unknown := set(values) - set(defaults):
        raise InputError(f"unknown {called}: {', '.join(sorted(unknown))}")
    for name, value in values.items():
        expected = type(defaults[name])
        # Not isinstance, for which True is an int.
        if type(value) is not expected and not (expected is float and type(value) is int):
            raise InputError(f"{name} must be of type {expected.__name__}, got {value!r}")
    return {name: type(defaults[name])(value) for name, value in values.items()}
