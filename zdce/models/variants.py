"""The networks, as data: one entry a variant."""

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from zdce.errors import InputError
from zdce.settings import GUIDED, MAX_ITERATIONS, MAX_SCALE, LossWeights, options

# The inputs of each convolution, concatenated in this order: 0 is the image, n the result of the n-th convolution.
Sources = tuple[tuple[int, ...], ...]

# Formulas that make a picture from the tanh of the network's logits.
CURVE, ILLUMINATION = FORMULAS = ("curve", "illumination")

# Fields that describe how a network is used; the others describe the network.
_USE = frozenset({"brightness", "noise", "guided", "formula"})

# Bounds for descriptions in files of weights; the largest network here has 32 filters in 7 layers.
MAX_FILTERS = 1024
MAX_LAYERS = 64

_CHAIN: Sources = ((0,), (1,), (2,), (3,), (4,))
_FIVE_LAYERS: Sources = ((0,), (1,), (2,), (3, 2), (4, 1))
_SEVEN_LAYERS: Sources = ((0,), (1,), (2,), (3,), (4, 3), (5, 2), (6, 1))
_PUBLISHED: Sources = ((0,), (1,), (2,), (3,), (3, 4), (2, 5), (1, 6))


@dataclass(frozen=True)
class Variant:
    """A curve-estimating network, and the weights of the losses for its training.

    Raises:
        ValueError: a field is out of range or of another type.

    Attributes:
        name: name on the command line.
        summary: difference to other variants, in a few words.
        part: the part of the report that it belongs to, or "beyond".
        sources: inputs of each 3x3 convolution; all but the last are followed by a ReLU.
        filters: channels of every hidden convolution.
        iterations: T, number of steps of the curve.
        shared_maps: one triplet of curve maps for all steps instead of one for each step.
        separable: depthwise 3x3 and pointwise 1x1 convolutions instead of full ones.
        scale: in enhancing, the curve is estimated on an image this many times smaller.
        weights: weights of the losses in training.
        brightness: in enhancing, target mean in [0, 1) of a dark scene whose mean is 0.05, from which the strength of the maps
            is found (``zdce.models.scene``); 0: the maps are applied as they are.
        noise: in enhancing, standard deviation of the input's noise in 8-bit levels, whose amplification is smoothed
            (``zdce.ops.denoise_picture``); 0: nothing is smoothed.
        guided: in enhancing, the mean of the maps becomes a local function of luma (``zdce.models.guidance``), one for all
            colours, which follows the picture's edges.
        formula: "curve": the network estimates curve maps. "illumination": it estimates the illumination by which the image is
            divided (``zdce.models.illumination``), with one iteration and without scene strength.
    """

    name: str
    summary: str
    part: str
    sources: Sources = _FIVE_LAYERS
    filters: int = 16
    iterations: int = 8
    shared_maps: bool = False
    separable: bool = False
    scale: int = 1
    weights: LossWeights = LossWeights()  # noqa: RUF009 (immutable)
    brightness: float = 0.0
    noise: float = 0.0
    guided: bool = False
    formula: str = CURVE

    def __post_init__(self) -> None:
        for field in ("name", "summary", "part"):
            if not isinstance(getattr(self, field), str):
                raise InputError(f"{field} must be a text, got {getattr(self, field)!r}")
        for field, most in (("filters", MAX_FILTERS), ("iterations", MAX_ITERATIONS), ("scale", MAX_SCALE)):
            if not (_is_whole(getattr(self, field)) and 1 <= getattr(self, field) <= most):
                raise InputError(f"{field} must be a whole number from 1 to {most}, got {getattr(self, field)!r}")
        for field in ("shared_maps", "separable", "guided"):
            if not isinstance(getattr(self, field), bool):
                raise InputError(f"{field} must be true or false, got {getattr(self, field)!r}")
        for name in ("brightness", "noise"):
            if getattr(self, name) is None:
                raise InputError(f"{name} must be {options()[name].expected}, got None")
            options()[name].checked(name, getattr(self, name))
        self._check_formula()
        if not all(_is_number(weight) and math.isfinite(weight) for weight in self.weights):
            raise InputError(f"weights must be finite numbers, got {tuple(self.weights)}")
        self._check_sources()

    def _check_formula(self) -> None:
        if self.formula not in FORMULAS:
            raise InputError(f"formula must be one of {', '.join(FORMULAS)}, got {self.formula!r}")
        if self.formula == ILLUMINATION and (self.iterations != 1 or self.guided or self.brightness):
            raise InputError(
                f"{self.name!r} must have 1 iteration, no brightness and no guided maps, as its formula is {ILLUMINATION!r},"
                f" got {self.iterations}, {self.brightness:g} and {self.guided}"
            )

    def _check_sources(self) -> None:
        if not 1 <= len(self.sources) <= MAX_LAYERS:
            raise InputError(f"sources must be of 1 to {MAX_LAYERS} convolutions, got {len(self.sources)}")
        for n, sources in enumerate(self.sources):
            # The n-th convolution, from 0, can read the image and the results of the n before it.
            if not 1 <= len(sources) <= n + 1 or not all(_is_whole(source) and 0 <= source <= n for source in sources):
                raise InputError(f"sources of convolution {n + 1} must be 1 to {n + 1} numbers from 0 to {n}, got {sources}")

    @property
    def maps(self) -> int:
        """Channels of the curve maps."""
        return 3 if self.shared_maps else 3 * self.iterations

    def convolutions(self) -> list[tuple[int, int]]:
        """(input channels, output channels) of each convolution."""
        outputs = [3] + [self.filters] * (len(self.sources) - 1) + [self.maps]
        return [(sum(outputs[s] for s in sources), out) for sources, out in zip(self.sources, outputs[1:], strict=True)]

    @property
    def used_maps(self) -> int:
        """Channels of the maps that are applied: those of the curve maps, or two coefficients of guided maps."""
        return GUIDED if self.guided else self.maps

    @property
    def published_sampling(self) -> bool:
        """Whether, as published, images are reduced to bilinear samples and maps enlarged with aligned corners."""
        return self.scale > 1 and not self.guided

    @property
    def parameters(self) -> int:
        """Trainable numbers."""
        return sum(10 * i + i * o + o if self.separable else 9 * i * o + o for i, o in self.convolutions())

    @property
    def macs(self) -> int:
        """Multiply-accumulates a pixel of the image that the network sees."""
        return sum(i * (9 + o) if self.separable else 9 * i * o for i, o in self.convolutions())

    @property
    def receptive_field(self) -> int:
        """Side in pixels of the square of input that one output pixel depends on."""
        return 2 * len(self.sources) + 1

    def to_dict(self) -> dict[str, Any]:
        """Dictionary for JSON, which ``from_dict`` reads. Fields about use are left out at their defaults, so that files stay
        the same when variants get further fields.
        """
        values = {**asdict(self), "weights": self.weights._asdict()}
        usual = {field.name: field.default for field in fields(self) if field.name in _USE}
        return {name: value for name, value in values.items() if name not in usual or value != usual[name]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Variant":
        """Reads the result of ``to_dict``. Fields about use may be missing; other programs don't write them.

        Raises:
            ValueError: a field is missing or unknown, or its value is not allowed.
        """
        if not isinstance(values, dict):
            raise InputError(f"a variant must be a table of its fields, got {values!r}")
        known = {field.name for field in fields(cls)}
        if not known - _USE <= set(values) <= known:
            raise InputError(f"a variant must have the fields {sorted(known)}, got {sorted(values)}")
        sources, weights = values["sources"], values["weights"]
        if not isinstance(sources, list | tuple) or not all(isinstance(step, list | tuple) for step in sources):
            raise InputError(f"sources must be a list of lists, got {sources!r}")
        if not isinstance(weights, dict) or set(weights) != set(LossWeights._fields):
            raise InputError(f"weights must be of {', '.join(LossWeights._fields)}, got {weights!r}")
        return cls(**{**values, "sources": tuple(map(tuple, sources)), "weights": LossWeights(**weights)})


def _is_whole(value: Any) -> bool:
    """Whether it is an int; isinstance accepts True, too."""
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_whole(value) or isinstance(value, float)


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("base", "the report's DCE-Net*", "1"),
        Variant("no-illumination", "no illumination smoothness", "2", weights=LossWeights(illumination=0.0)),
        Variant("no-spatial", "no spatial consistency", "2", weights=LossWeights(spatial=0.0)),
        Variant("no-color", "no colour constancy", "2", weights=LossWeights(color=0.0)),
        Variant("no-exposure", "no exposure control", "2", weights=LossWeights(exposure=0.0)),
        Variant("no-concat", "no skip connections", "3", sources=_CHAIN),
        Variant("iters4", "4 iterations", "3", iterations=4),
        Variant("filters32", "32 filters", "3", filters=32),
        Variant("layers7", "7 layers", "3", sources=_SEVEN_LAYERS),
        Variant("zero-dce", "the paper's network", "beyond", sources=_PUBLISHED, filters=32),
        Variant(
            "zero-dce-pp",
            "Zero-DCE++",
            "beyond",
            sources=_PUBLISHED,
            filters=32,
            shared_maps=True,
            separable=True,
            scale=12,
        ),
        Variant("adaptive", "base with a strength for each scene, and noise smoothed", "beyond", brightness=0.28, noise=1.4),
        Variant(
            "local",
            "dark regions brightened, with a strength for each scene, and noise smoothed",
            "beyond",
            shared_maps=True,
            scale=6,
            brightness=0.38,
            noise=1.4,
            guided=True,
        ),
        # The published residual h + conv(h) is the same as two sources of the last convolution, which adds up their results.
        Variant(
            "sci",
            "SCI: the picture divided by its illumination",
            "beyond",
            sources=((0,), (1,), (1, 2)),
            filters=3,
            iterations=1,
            formula=ILLUMINATION,
        ),
    )
}


def variant(name: str) -> Variant:
    """The variant of that name.

    Raises:
        ValueError: there is no such variant.
    """
    if not isinstance(name, str) or name not in VARIANTS:
        raise InputError(f"variant must be one of {', '.join(VARIANTS)}, got {name!r}")
    return VARIANTS[name]
