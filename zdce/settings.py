"""The settings of users, checked once: how pictures and videos are enhanced, and the weight of each loss.

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

# Metadata that written files leave out: the place, or everything but the colour profile.
STRIPS = ("gps", "all")

# The scale of ``zdce enhance --fast``, chosen from the figures of ``zdce bench scales``; the scale of videos is Zero-DCE++'s.
FAST_SCALE, VIDEO_SCALE = 4, 12

# Quality of JPEG, WebP, AVIF and HEIC files whose source has none.
QUALITY = 95

# White (1.0) in 8-bit levels: settings and variants give noise in levels, operations take fractions of white.
LEVELS = 255

# The effect of a setting: on pixels, on the frames of a video, or on how files of pictures, of videos or of both are written.
Effect = Literal["pixels", "frames", "picture files", "video files", "files"]
EFFECTS: tuple[Effect, ...] = ("pixels", "frames", "picture files", "video files", "files")

# The most steps of the curve that the kernels are compiled for, and the largest ``scale``.
MAX_ITERATIONS = 16
MAX_SCALE = 2**20

# Channels of guided maps: a slope and an offset for each pixel's luma.
GUIDED = 2


class LossWeights(NamedTuple):
    """The weight of each term in the objective's total. Defaults are Zero-DCE's, illumination smoothness on the paper's scale.

    >>> zdce.LossWeights(spatial=2.0).spatial
    2.0
    """

    illumination: float = 1600.0
    spatial: float = 1.0
    color: float = 5.0
    exposure: float = 10.0


@dataclass(frozen=True)
class Option:
    """Description of one setting. The command line, the server's schema and error messages are made from it.

    Attributes:
        help: one or two sentences that begin with a noun or a verb.
        kind: type of the values; ``bool`` is a switch.
        least, most: smallest and largest number.
        below: exclusive upper bound of the numbers.
        choices: allowed values of a ``str``.
        unit: unit of the numbers; empty for none.
        unset: meaning of None in words; empty where None is not allowed.
        of_network: whether None stands for the attribute of that name of the network's variant.
        effect: what the setting changes.
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
        """The allowed values, as the end of a sentence "NAME must be ..."."""
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
            ValueError: ``value`` is not allowed; the message names the setting, the allowed values and ``value``.
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


class NetworkDefaults(Protocol):
    """The defaults of a network, for settings that are None: a variant of ``zdce.models.variants``."""

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
    """Settings of enhancement. ``zdce.Enhancer``, ``zdce.enhance``, ``zdce.transforms.Enhance``, ``zdce.ray_data``, the command
    line and the requests of ``zdce serve`` all take these names.

    Attributes:
        scale: the curve is estimated on an image this many times smaller; 1 is exact. None is the network's own scale (6 for
            ``local``, 12 for ``zero-dce-pp``, else 1), and for videos 12 if that is 1.
        strength: factor of the curve maps: 1 as trained, 0 returns the input, above 1 is stronger, below 0 darkens. Networks
            that find a strength for each scene multiply it by this one; in lit scenes theirs is 0.
        precision: precision of the convolutions, ``"fp32"`` or ``"bf16"``, which is for GPUs and for processors with AMX or
            Arm's BF16; others, where it would be slower, compute in float32.
        brightness: target mean, in [0, 1), of a dark scene whose mean is 0.05; darker scenes have a lower target
            (``zdce.models.scene``). 0 leaves the maps as trained. None is the network's own.
        noise: standard deviation of the input's noise in 8-bit levels, from 0 to below 255. The noise that the curve has
            amplified is smoothed and colours become paler where it is (``zdce.ops.denoise_picture``, which takes a fraction of
            white); 0 turns this off. None measures the noise of each picture and frame, and uses at least the network's own; it
            also measures and reduces the grain. With None, networks without noise of their own (all but ``local`` and
            ``adaptive``) don't smooth.
        shadows: how strongly shadows are lifted, from -1 (black stays black) over 0 (as the network does) to 1. The mean of a
            dark scene stays the same, unless nearly all of it is shadow, which stays dark towards -1; the darker half of a
            backlit scene is lifted from not at all (-1) to twice as far (1). For networks with guided maps, such as ``local``;
            without effect in lit scenes.
        highlights: how far lit parts keep their brightness, for the same networks: 1 completely, 0 lifts them like the rest.
        transfer: encoding of light in the pixel values. ``"srgb"``: a file's own colour profile, or sRGB where it has none.
            ``"linear"``: proportional to light. ``"log"``: ACEScct.
        only_if_dark: leave pictures that are not dark (``zdce.models.darkness``) as they are. Their files are copied byte for
            byte, unless the format changes or ``strip`` removes something. In videos, frames that are not dark stay as they
            are.
        smoothing: time constant, in seconds, of the filter over a video's curve maps; 0 enhances frame by frame.
        quality: quality of JPEG, WebP, AVIF and HEIC files, 1 to 100. None is a JPEG file's own, and 95 for all others.
        subsampling: chroma subsampling of JPEG, AVIF and HEIC files, ``"4:4:4"``, ``"4:2:2"`` or ``"4:2:0"``. None is the
            file's own if its format stays the same, else 4:4:4.
        strip: metadata to leave out of written files: ``"gps"``, the place; ``"all"``, everything but colours (profile or tags)
            and rotation. None leaves nothing out.
        crf: constant rate factor of video files, from 0 (lossless) to 51; each 6 more halve the size.
        deinterlace: make interlaced videos progressive, one frame from two fields. Without it they are refused.

    Raises:
        ValueError: a value is not allowed; the message names the setting, the allowed values and the value.

    >>> zdce.EnhanceSettings(scale=4, noise=3).noise
    3.0
    """

    scale: int | None = _option(
        None, "Estimate the curve on an image this many times smaller; 1 is exact.",
        kind=int, least=1, most=MAX_SCALE, unset=f"{_OWN}; for videos {VIDEO_SCALE} if that is 1", of_network=True,
    )  # fmt: skip
    strength: float = _option(1.0, "Strength of the curve: 1 as the network sets it, 0 changes nothing, below 0 darkens.")
    precision: str = _option(
        "fp32",
        "Precision of the convolutions: bf16 is faster on GPUs and processors with AMX or Arm's BF16; others compute in fp32.",
        kind=str,
        choices=PRECISIONS,
    )
    brightness: float | None = _option(
        None, "Mean brightness of the result for a scene with mean 0.05; 0 leaves the curve as trained.",
        least=0, below=1, unset=_OWN, of_network=True,
    )  # fmt: skip
    noise: float | None = _option(
        None, "Input noise to remove (standard deviation, 8-bit levels); 0 turns it off.",
        least=0, below=LEVELS, unit="levels",
        unset="measured in each picture, at least the network's own; 0 for networks without noise of their own",
    )  # fmt: skip
    shadows: float = _option(0.0, "How strongly shadows are lifted: -1 less, 0 as the network does, 1 more.", least=-1, most=1)
    highlights: float = _option(
        1.0, "How far lit parts keep their brightness: 1 completely, 0 lifts them like the rest.", least=0, most=1
    )
    transfer: str = _option(
        "srgb", "Encoding of light in the pixels: srgb (a file's own profile, else sRGB), linear, or log (ACEScct).",
        kind=str, choices=TRANSFERS,
    )  # fmt: skip
    only_if_dark: bool = _option(False, "Change only pictures and video frames that are dark.", kind=bool)
    smoothing: float = _option(
        0.5, "Time constant of the filter over a video's curves; 0 enhances frame by frame.",
        least=0, unit="seconds", effect="frames",
    )  # fmt: skip
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
        18, "Constant rate factor of video files: 0 is lossless, each 6 more halve the size.",
        kind=int, least=0, most=51, effect="video files",
    )  # fmt: skip
    deinterlace: bool = _option(
        False, "Make interlaced videos progressive, one frame from two fields; without it they are refused.",
        kind=bool, effect="video files",
    )  # fmt: skip

    def __post_init__(self) -> None:
        for name, option in options().items():
            object.__setattr__(self, name, option.checked(name, getattr(self, name)))

    @classmethod
    def of(cls, settings: "EnhanceSettings | None" = None, **changes: Unpack[SettingsKeywords]) -> "EnhanceSettings":
        """``settings``, or the defaults, with ``changes``.

        Raises:
            TypeError: ``settings`` is not an ``EnhanceSettings``, or a change names no setting.
            ValueError: a value is not allowed.

        >>> zdce.EnhanceSettings.of(zdce.EnhanceSettings(scale=4), strength=0.5).scale
        4
        """
        if not isinstance(settings, EnhanceSettings | None):
            raise TypeError(f"settings must be a zdce.EnhanceSettings, got {settings!r}")
        if unknown := [name for name in changes if name not in options()]:
            raise TypeError(f"settings are {', '.join(options())}, got {unknown[0]!r}")
        return replace(settings or cls(), **changes)

    def for_variant(self, variant: NetworkDefaults) -> "EnhanceSettings":
        """These settings, with the values of ``variant`` in place of None."""
        unset = [name for name, option in options().items() if option.of_network and getattr(self, name) is None]
        own: dict[str, Any] = {name: getattr(variant, name) for name in unset}
        return replace(self, **own)


def options(*effects: Effect) -> Mapping[str, Option]:
    """The settings' descriptions by name: all of them, or those with one of these ``effects``."""
    found = {one.name: one.metadata["option"] for one in fields(EnhanceSettings)}
    return {name: option for name, option in found.items() if option.effect in (effects or EFFECTS)}
