"""What users can set, checked once: how pictures and videos are enhanced, and how much each loss counts.

Commands read this module for their help texts, so it imports neither PyTorch nor NumPy.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from numbers import Integral, Real
from typing import Any, Literal, NamedTuple, Protocol, TypedDict, Unpack

from zdce.errors import InputError

PRECISIONS = ("fp32", "bf16")
TRANSFERS = ("srgb", "linear", "log")
SUBSAMPLINGS = ("4:4:4", "4:2:2", "4:2:0")

# What is left out of a file's metadata: where it was taken, or all but the colour profile.
STRIPS = ("gps", "all")

# The scale of ``zdce enhance --fast``, from what ``zdce bench scales`` shows; and that of videos, Zero-DCE++'s own.
FAST_SCALE, VIDEO_SCALE = 4, 12

# Of JPEG, WebP, AVIF and HEIC files whose source has none of its own.
QUALITY = 95

# What 1.0 is in 8-bit levels: settings and variants give noise in levels, operations take fractions.
LEVELS = 255

# What a setting has an effect on: a picture's pixels; the frames of a video; how files of pictures, of videos or of both are
# written.
Effect = Literal["pixels", "frames", "picture files", "video files", "files"]
EFFECTS: tuple[Effect, ...] = ("pixels", "frames", "picture files", "video files", "files")

# Steps of the curve that the kernels are made for, and how many times smaller the image may be on which it is estimated.
MAX_ITERATIONS = 16
MAX_SCALE = 2**20

# Channels of guided maps: a slope and an offset for each pixel's luma.
GUIDED = 2


class LossWeights(NamedTuple):
    """What each term counts in the objective's total (Zero-DCE's own, illumination on the paper's scale)."""

    illumination: float = 1600.0
    spatial: float = 1.0
    color: float = 5.0
    exposure: float = 10.0


@dataclass(frozen=True)
class Option:
    """What one setting is and takes: the command line, the server's schema and error messages are made from it.

    Attributes:
        help: one or two sentences; a noun or a verb begins.
        kind: the type of its values; ``bool`` is a switch.
        least, most: the smallest and the largest number.
        below: a number that all values are smaller than.
        choices: the values of a text.
        unit: what the numbers count, or nothing.
        unset: what None stands for; empty where None is no value.
        of_network: whether None stands for what the network's variant has under the setting's name.
        effect: what it has an effect on.
    """

    help: str
    kind: type[int] | type[float] | type[str] | type[bool] = float
    least: float | None = None
    most: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()
    unit: str = ""
    unset: str = ""
    of_network: bool = False
    effect: Effect = "pixels"

    @property
    def expected(self) -> str:
        """What a value must be, for a sentence that goes on "must be"."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.kind is bool:
            return "True or False"
        number = "a whole number" if self.kind is int else "a number"
        if self.least is None:
            return "a finite number"
        if self.most is not None:
            return f"{number} from {self.least:.10g} to {self.most:.10g}"
        return f"{number} of at least {self.least:.10g}" + ("" if self.below is None else f" and below {self.below:.10g}")

    def checked(self, name: str, value: Any) -> Any:
        """``value`` as an ``int``, ``float``, ``str``, ``bool`` or None.

        Raises:
            ValueError: it is not what the setting takes.
        """
        if value is None and self.unset:
            return None
        if not self._takes(value):
            raise InputError(f"{name} must be {self.expected}, got {value!r}")
        return self.kind(value)

    def _takes(self, value: Any) -> bool:
        if self.kind is str:
            return value in self.choices
        if self.kind is bool:
            return isinstance(value, bool)
        if isinstance(value, bool) or not isinstance(value, Integral if self.kind is int else Real):
            return False
        number = float(value)
        return (
            math.isfinite(number)
            and (self.least is None or number >= self.least)
            and (self.most is None or number <= self.most)
            and (self.below is None or number < self.below)
        )


_OWN = "the network's own"


class OwnSettings(Protocol):
    """What a network has of its own, in place of settings that are None: a variant of ``zdce.models.variants``."""

    @property
    def scale(self) -> int: ...
    @property
    def brightness(self) -> float: ...
    @property
    def noise(self) -> float: ...


class SettingsKeywords(TypedDict, total=False):
    """The fields of ``EnhanceSettings``, for the types of functions that take them by keyword."""

    scale: int | None
    strength: float
    precision: str
    brightness: float | None
    noise: float | None
    shadows: float
    highlights: float
    transfer: str
    only_if_dark: bool
    smoothing: float
    quality: int | None
    subsampling: str | None
    strip: str | None
    crf: int
    deinterlace: bool


def _option(default: Any, text: str, **described: Any) -> Any:
    return field(default=default, metadata={"option": Option(text, **described)})


@dataclass(frozen=True)
class EnhanceSettings:
    """How pictures and videos are enhanced. Every way in takes these names: ``zdce.Enhancer``, ``zdce.enhance``,
    ``zdce.transforms.Enhance``, ``zdce.ray_data``, the command line and the requests of ``zdce serve``.

    Attributes:
        scale: the curve is estimated on an image this many times smaller, from 1 (exact) on; None is the network's own, and
            for videos 12.
        strength: scales the curve maps: 1 as trained, 0 gives the input back, above 1 stronger, below 0 darker. Where the
            network finds a strength for each scene, it multiplies that one, which for lit scenes is 0.
        precision: of the convolutions, ``"fp32"`` or ``"bf16"``.
        brightness: the mean of [0, 1] that a dark scene, of mean 0.05, is brought to, darker ones to less
            (``zdce.models.scene``); 0: the maps are as trained. None is the network's own.
        noise: standard deviation of the input's noise in 8-bit levels, from 0 to below 255: what the curve makes of it is
            smoothed (``zdce.ops.denoise_picture``, which takes a fraction of 1); 0 turns that off. None measures it in each
            picture and frame, and takes no less than the network's own; networks that have none don't smooth.
        shadows: how much more shadows are lifted than the rest, at the same mean of a dark scene: from -1, which leaves black
            as it is, over 0, as the network does, to 1. The darker half of a backlit scene goes from nowhere to twice as far.
            Of networks with guided maps, such as ``local``, in scenes that they brighten.
        highlights: how far what is lit keeps its light, of such networks: 1 wholly, 0 it is lifted as the rest.
        transfer: how the pixels' numbers encode light. ``"srgb"``: by a file's own colour profile, or as sRGB where it has
            none. ``"linear"``: proportionally. ``"log"``: as ACEScct.
        only_if_dark: pictures that are not dark (``zdce.models.darkness``) come out as they are; a file is copied byte for
            byte, unless it becomes one of another format, or ``strip`` leaves something out. Of videos, frames that are not
            dark get no curve.
        smoothing: of videos, the time constant in seconds of the curve maps' filter; 0 is frame by frame.
        quality: of JPEG, WebP, AVIF and HEIC files, 1 to 100; None is a JPEG file's own, and 95 for all else.
        subsampling: of the colours in JPEG, AVIF and HEIC files, ``"4:4:4"``, ``"4:2:2"`` or ``"4:2:0"``; None is the file's
            own where it is written in the same format again, else 4:4:4.
        strip: what written files don't tell: ``"gps"``, where the picture or video was taken; ``"all"``, everything but its
            colours (profile or tags), and how it lies. None leaves nothing out.
        crf: of video files, the encoder's constant rate factor from 0 (lossless) to 51; 6 more make half the size.
        deinterlace: whether interlaced videos become progressive, one frame of two fields; without it they are refused.

    Raises:
        ValueError: a value is not one of these; the message names it.

    >>> zdce.EnhanceSettings(scale=4, noise=3).noise
    3.0
    """

    scale: int | None = _option(
        None, "Estimate the curve on an image this many times smaller; 1 is exact.",
        kind=int, least=1, most=MAX_SCALE, unset=f"{_OWN}; {VIDEO_SCALE} for videos", of_network=True,
    )  # fmt: skip
    strength: float = _option(1.0, "Strength of the curve: 1 as trained or as the scene needs, 0 none, below 0 darker.")
    precision: str = _option(
        "fp32",
        "Precision of the convolutions: bf16 is faster on processors with AMX and on GPUs; Arm processors need BF16.",
        kind=str,
        choices=PRECISIONS,
    )
    brightness: float | None = _option(
        None, "Mean of [0, 1] that a scene with a mean of 0.05 is brought to; 0: the curve as trained.",
        least=0, below=1, unset=_OWN, of_network=True,
    )  # fmt: skip
    noise: float | None = _option(
        None, "Input noise to remove (standard deviation, 8-bit levels); 0 turns it off.",
        least=0, below=LEVELS, unit="levels", unset="measured in each picture, but no less than the network's own",
    )  # fmt: skip
    shadows: float = _option(
        0.0, "Lift of shadows beyond the rest's: -1 less, 0 as the network does, 1 more.", least=-1, most=1
    )
    highlights: float = _option(1.0, "How far highlights keep their light: 1 wholly, 0 not.", least=0, most=1)
    transfer: str = _option(
        "srgb", "Encoding of light in the pixels: srgb (a file's own profile, else sRGB), linear, or log (ACEScct).",
        kind=str, choices=TRANSFERS,
    )  # fmt: skip
    only_if_dark: bool = _option(
        False, "Leave pictures that are not dark as they are; their files are copied byte for byte.", kind=bool
    )
    smoothing: float = _option(
        0.5, "Time in which a video's curve follows its frames; 0 is frame by frame.", least=0, unit="seconds", effect="frames"
    )
    quality: int | None = _option(
        None, "Quality of JPEG, WebP, AVIF and HEIC files.",
        kind=int, least=1, most=100, unset=f"a JPEG file's own, else {QUALITY}", effect="picture files",
    )  # fmt: skip
    subsampling: str | None = _option(
        None, "Chroma subsampling of JPEG, AVIF and HEIC files.",
        kind=str, choices=SUBSAMPLINGS, unset="the file's own, else 4:4:4", effect="picture files",
    )  # fmt: skip
    strip: str | None = _option(
        None, "Metadata to leave out: gps (the place), or all (everything but colours and rotation).",
        kind=str, choices=STRIPS, unset="none", effect="files",
    )  # fmt: skip
    crf: int = _option(
        18, "Constant rate factor of video files: 0 is lossless, 6 more halve the size.",
        kind=int, least=0, most=51, effect="video files",
    )  # fmt: skip
    deinterlace: bool = _option(
        False, "Make interlaced videos progressive, one frame of two fields; without it they are refused.",
        kind=bool, effect="video files",
    )  # fmt: skip

    def __post_init__(self) -> None:
        for name, option in options().items():
            object.__setattr__(self, name, option.checked(name, getattr(self, name)))

    @classmethod
    def of(cls, settings: "EnhanceSettings | None" = None, **changes: Unpack[SettingsKeywords]) -> "EnhanceSettings":
        """``settings``, or the defaults, with ``changes``.

        Raises:
            TypeError: ``settings`` is something else, or a change has another name.
            ValueError: a change is not what the setting takes.
        """
        if not isinstance(settings, EnhanceSettings | None):
            raise TypeError(f"settings must be a zdce.EnhanceSettings, got {settings!r}")
        if unknown := [name for name in changes if name not in options()]:
            raise TypeError(f"settings are {', '.join(options())}, got {unknown[0]!r}")
        return replace(settings or cls(), **changes)

    def for_variant(self, variant: OwnSettings) -> "EnhanceSettings":
        """The same with the values of ``variant`` where these are None."""
        unset = [name for name, option in options().items() if option.of_network and getattr(self, name) is None]
        own: dict[str, Any] = {name: getattr(variant, name) for name in unset}
        return replace(self, **own)


def options(*effects: Effect) -> Mapping[str, Option]:
    """What each setting takes, by its name: all of them, or those with one of these ``effects``."""
    found = {one.name: one.metadata["option"] for one in fields(EnhanceSettings)}
    return {name: option for name, option in found.items() if option.effect in (effects or EFFECTS)}
