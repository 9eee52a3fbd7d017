"""``zdce bench layers``: each shape of the networks' convolutions, computed by every method, on one thread.

``direct`` multiplies as the definition says, rows of pixels side by side; ``one-axis`` is Winograd's F(4, 3) down the columns,
``two-axis`` the engine's F(4x4, 3x3), and ``colors`` its direct way with the picture's three channels. All take four rows from
six that stay in the second-level cache, and are checked against float64.
"""

from collections.abc import Iterable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from zdce.errors import InputError
from zdce.models.variants import VARIANTS
from zdce.ops import dispatch
from zdce.runtime import progress, system

from . import arithmetic
from .processes import Outcome
from .rows import Row, spread
from .timing import rounds

SUITE = "layers"

# Methods, with their numbers in csrc/core/rates.h.
WAYS = ("direct", "one-axis", "two-axis", "colors")
_COLORS = 3

# Columns of each row; rows, coefficients and products of the widest layer take 1.2 MB together.
_COLUMNS = 240

# Tolerance, as for the engine; outputs are sums of products whose absolute values add up to about 1.
TOLERANCE = 1e-5

# Multiply-adds of one measurement: a few milliseconds.
_WORK = 3e8

_library = torch.library.Library("zdce_cpp", "FRAGMENT")  # its definitions live as long as it does
_library.define("convolution_rate(Tensor rows, Tensor weight, Tensor bias, int way, int rounds, Tensor(a!) results) -> float")


def shapes(names: Iterable[str]) -> dict[tuple[int, int], list[str]]:
    """(input channels, output channels) of the 3x3 convolutions of the variants ``names``, each with its variants."""
    found: dict[tuple[int, int], list[str]] = {}
    for name in names:
        for shape in dict.fromkeys([] if VARIANTS[name].separable else VARIANTS[name].convolutions()):
            found.setdefault(shape, []).append(name)
    return found


def engines(inputs: int) -> str:
    """Method of the engine for layers with that many inputs."""
    return "colors" if inputs == _COLORS else "two-axis"


class Layer:
    """A convolution with random weights, and its inputs: ``rows`` (C, 6, columns + 2) for four rows of outputs."""

    def __init__(self, inputs: int, outputs: int, columns: int = _COLUMNS) -> None:
        random = torch.Generator().manual_seed(0)
        self.rows = torch.rand(inputs, 6, columns + 2, generator=random)
        self.weight = torch.randn(outputs, inputs, 3, 3, generator=random) / (9 * inputs)
        self.bias = torch.rand(outputs, generator=random) - 0.5
        self.macs = 9 * inputs * outputs * 4 * columns
        self.ways = [way for way in WAYS if way != "colors" or inputs == _COLORS]

    def run(self, way: str, times: int = 1) -> tuple[float, Tensor]:
        """Seconds of one of ``times`` runs, and the outputs (O, 4, columns), not negative for the method ``colors``."""
        results = torch.full((len(self.weight), 4, self.rows.shape[2] - 2), torch.nan)
        arguments = (self.rows, self.weight, self.bias, WAYS.index(way), times, results)
        return torch.ops.zdce_cpp.convolution_rate(*arguments), results

    def truth(self) -> Tensor:
        """The outputs in float64, (O, 4, columns)."""
        return functional.conv2d(self.rows[None].double(), self.weight.double(), self.bias.double())[0]

    def error(self, way: str) -> float:
        truth = self.truth()
        return (self.run(way)[1] - (truth.relu() if way == "colors" else truth)).abs().max().item()


def run(names: Sequence[str], seconds: float = 1.0, least: int = 7) -> Outcome:
    """Rates of all methods, in at least ``least`` rounds over those of a layer, for about ``seconds``.

    Raises:
        ValueError: the C++ extension is missing.
    """
    if reason := dispatch.why_missing("cpp"):
        raise InputError(f"layers are the C++ engine's: {reason}")
    outcome = Outcome()
    outcome.notes += [f"{name} is left out: its convolutions are separable" for name in names if VARIANTS[name].separable]
    found = shapes(names)
    for inputs, outputs in progress.track(found, len(found), SUITE):
        _measure(inputs, outputs, seconds, least, outcome)
    return outcome


def _measure(inputs: int, outputs: int, seconds: float, least: int, outcome: Outcome) -> None:
    layer = Layer(inputs, outputs)

    def row(way: str, metric: str, unit: str, values: list[float]) -> None:
        place = "engine" if way == engines(inputs) else "beside"
        outcome.rows.append(
            Row.of(
                SUITE, f"{inputs} to {outputs}", way, place, metric, unit, values, f"1x{inputs}x4x{_COLUMNS}", "float32", 1,
                system.processor(),
            )
        )  # fmt: skip

    right = []
    for way in layer.ways:
        error = layer.error(way)
        row(way, "error", "of 1", [error])
        if error <= TOLERANCE:
            right.append(way)
        else:
            outcome.wrong = True
            outcome.notes.append(f"{way} is wrong in {inputs} to {outputs} and not timed: it is {error:.3g} off")
    times = max(1, round(_WORK / layer.macs))
    peak = "fma-peak"
    measured = {way: partial(_seconds, layer, way, times) for way in right} | {peak: arithmetic.rate}
    taken = rounds(measured, seconds, least)
    most = spread([pace for (pace,) in taken[peak]])[0]
    for way in right:
        rates = [layer.macs / s for (s,) in taken[way]]
        row(way, "rate", "GMAC/s", [rate / 1e9 for rate in rates])
        row(way, "peak_share", "of the FMA peak", [rate / most for rate in rates])


def _seconds(layer: Layer, way: str, times: int) -> tuple[float]:
    return (layer.run(way, times)[0],)


COLUMNS = ("layer", "way", "", "GMAC/s", "20-80 %", "of the FMA peak", "error")


def table(rows: Iterable[Row]) -> list[list[str]]:
    """A line for each layer and method, with the values of ``COLUMNS``."""
    lines: dict[tuple[str, str, str], dict[str, Row]] = {}
    for row in rows:
        lines.setdefault((row.case, row.provider, row.mode), {})[row.metric] = row
    return [
        [case, way, mode if mode == "engine" else "", *_cells(of), f"{of['error'].value:.1e}"]
        for (case, way, mode), of in lines.items()
    ]


def _cells(found: dict[str, Row]) -> list[str]:
    if "rate" not in found:
        return ["", "", ""]
    rate = found["rate"]
    return [f"{rate.value:.1f}", f"{rate.p20:.1f}-{rate.p80:.1f}", f"{found['peak_share'].value:.2f}"]
