"""Everything that decides a run's result, as Python, TOML and the command line have it."""

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

# Weights are kept each time this many epochs are done, unless the configuration says otherwise.
KEEP_EVERY = 10

# Torch's generators take 64 bits. Larger pictures than that are no patches any more, and a batch of them fits nowhere.
MAX_SEED = 2**64 - 1
MAX_SIZE = 8192

SCHEDULES = ("constant", "cosine")
AUGMENTATIONS = ("none", "flips", "crops")

# What autocast computes in on each device; the gradients of float16 are scaled.
AMP = {"cuda": torch.float16, "cpu": torch.bfloat16}

# What a resumed run can't take anew: its network, how far an epoch is, and the schedule that its learning rate is on.
_FIXED = ("variant", "data", "batch_size", "accumulate", "size", "seed", "schedule")
# A cosine's learning rate in each epoch depends on both.
_FIXED_BY_COSINE = ("epochs", "lr")

# Tables of a run's config.toml that describe where it ran and are no settings.
_DESCRIPTIONS = ("versions", "machine")


@dataclass(frozen=True)
class Config:
    """Everything that decides a run's result. Defaults are the report's.

    Attributes:
        variant: a name of ``zdce.models.variants.VARIANTS``.
        data: a folder, "sample" or "open"; see ``zdce.data.datasets.collection``.
        epochs: how often every picture is seen.
        batch_size: pictures of one forward and backward.
        accumulate: so many of them make an update; an epoch's pictures that don't fill its last one are left out.
        size: side in pixels that pictures are resized to, at least 16.
        augment: "none"; "flips", mirrored left to right half of the time; or "crops", that and a random window.
        lr: Adam's learning rate.
        schedule: "constant", or "cosine": from ``lr`` towards 0, anew in each epoch.
        clip: the gradient's norm is at most this; 0 leaves it.
        ema: share that the average of the weights keeps at each update, in [0, 1); it is what is validated and kept then.
        activations: "float32", or "bfloat16" for feature maps in half the memory on the CPU; see ``zdce.DCENet``.
        amp: the network under torch's autocast, in float16 with scaled gradients on a GPU, in bfloat16 on the CPU.
        weights: what each loss counts.
        target: the brightness that exposure control pulls towards, in [0, 1].
        normalization: of the illumination term, "paper" or "keras".
        seed: of the first weights, of each epoch's order, and of augmentation.
        device: torch's name of it.
        keep_every: weights are kept each time this many epochs are done, and at the end.
        tensorboard: whether losses and pictures are written for TensorBoard too.
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
        """These settings but for those named, and the weights but for those named, for the same run to go on with.

        Raises:
            ValueError: the run would not be the same one any more.
        """
        cosine = self.schedule == "cosine"
        for name in (*_FIXED, *(_FIXED_BY_COSINE if cosine else ())):
            if name in settings and settings[name] != getattr(self, name):
                where = " with a cosine" if name in _FIXED_BY_COSINE else ""
                was, got = getattr(self, name), settings[name]
                raise InputError(f"{name} can't change in a run{where}: it was {was!r}, got {got!r}")
        return replace(self, **settings, weights=self.weights._replace(**weights))

    def for_another_run(self, settings: dict[str, Any], weights: dict[str, float]) -> "Config":
        """These settings but for those named; where they name another variant, with its own weights but for those named."""
        own = variants.variant(settings["variant"]).weights if "variant" in settings else self.weights
        return replace(self, **settings, weights=own._replace(**weights))

    def to_dict(self) -> dict[str, Any]:
        """As TOML and JSON take it."""
        return {**asdict(self), "weights": self.weights._asdict()}

    def to_toml(self) -> str:
        """With the versions and the machine, which ``from_toml`` passes over."""
        return tomli_w.dumps({**self.to_dict(), "versions": system.versions(), "machine": system.machine()})

    @classmethod
    def from_toml(cls, text: str) -> "Config":
        """Reads what ``to_toml`` wrote, or a part of it; settings that are not there have their defaults.

        Raises:
            ValueError: the text is no TOML, has other fields, or a value of the wrong type.
        """
        with library_call(InputError):
            loaded = tomllib.loads(text)
        values = {name: value for name, value in loaded.items() if name not in _DESCRIPTIONS}
        weights = values.pop("weights", {})
        values = _checked(values, {f.name: f.default for f in fields(cls) if f.name != "weights"}, "settings")
        own = variants.variant(values.get("variant", cls.variant)).weights
        return cls(**values, weights=own._replace(**_checked(weights, own._asdict(), "weights")))


def _checked(values: Any, defaults: dict[str, Any], called: str) -> dict[str, Any]:
    """``values`` in the types of ``defaults``."""
    if not isinstance(values, dict):
        raise InputError(f"{called} must be a table, got {values!r}")
    if unknown := set(values) - set(defaults):
        raise InputError(f"unknown {called}: {', '.join(sorted(unknown))}")
    for name, value in values.items():
        wanted = type(defaults[name])
        # True is an int to isinstance.
        if type(value) is not wanted and not (wanted is float and type(value) is int):
            raise InputError(f"{name} must be of type {wanted.__name__}, got {value!r}")
    return {name: type(defaults[name])(value) for name, value in values.items()}
