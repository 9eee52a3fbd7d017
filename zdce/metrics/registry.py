"""The measures: each is one entry of ``METRICS``; `zdce eval`, its JSON, its tables and protocols take it from there."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from zdce.errors import InputError
from zdce.metrics import halos, light, lightness_order, naturalness, noise, similarity
from zdce.metrics.pictures import Rgb

REFERENCE, INPUT, AUTOCONTRAST = "reference", "input", "autocontrast"
TARGETS = (AUTOCONTRAST, INPUT, REFERENCE)

Compare = Callable[[Rgb, Rgb], float]


@dataclass(frozen=True)
class Metric:
    """A measure of a result.

    Attributes:
        heading: heading of its column.
        digits: decimals in tables.
        compare: function of a result and a target, which are pictures (H, W, 3) of one shape; NaN where it is undefined.
        target: the one target that it takes: ``REFERENCE``, or ``INPUT`` for what is measured of the result alone or beside the
            picture that it was made from; empty for any target.
        needs: raises InputError where an optional package is missing.
        factor: multiplies values in tables.
        usual: whether it is measured where no measures are named.
        version: increased when values change; protocols name it.
    """

    heading: str
    digits: int
    compare: Compare
    target: str = ""
    needs: Callable[[], object] | None = None
    factor: int = 1
    usual: bool = True
    version: int = 1

    def takes(self, target: str) -> bool:
        """Whether it stands in the rows of ``target``; what needs the input stands in all."""
        return self.target != REFERENCE or target == REFERENCE

    def cell(self, value: float) -> str:
        """``value`` as tables show it; - for NaN."""
        return "-" if math.isnan(value) else f"{value * self.factor:.{self.digits}f}"


@cache
def _brisque() -> Callable[[Rgb], float]:
    return naturalness.brisque()


METRICS: dict[str, Metric] = {
    "psnr": Metric("PSNR (dB)", 2, similarity.psnr),
    "ssim": Metric("SSIM", 3, similarity.ssim),
    "psnr_gt_mean": Metric("PSNR, oracle mean (dB)", 2, similarity.psnr_gt_mean, REFERENCE),
    "ssim_gt_mean": Metric("SSIM, oracle mean", 3, similarity.ssim_gt_mean, REFERENCE, usual=False),
    "ciede2000": Metric("CIEDE2000", 2, similarity.ciede2000, REFERENCE),
    "flat_noise": Metric("noise (%)", 2, noise.flat_noise, REFERENCE, factor=100),
    "clipped": Metric("clipped (%)", 2, lambda result, _: light.clipped_share(result), INPUT, factor=100),
    "dark_half": Metric("dark half", 3, light.dark_half, INPUT),
    "lit_half": Metric("lit half", 3, light.lit_half, INPUT),
    "unchanged": Metric("unchanged (%)", 0, light.unchanged, INPUT, factor=100, usual=False),
    "loe": Metric("LOE", 0, lightness_order.lightness_order_error, INPUT, usual=False),
    "halo": Metric("halo (stops)", 3, halos.halo, INPUT, usual=False),
    "brisque": Metric("BRISQUE", 1, lambda result, _: _brisque()(result), INPUT, needs=naturalness.check, usual=False),
}

USUAL = tuple(name for name, metric in METRICS.items() if metric.usual)


def named(names: str) -> tuple[str, ...]:
    """Names of measures, separated by commas, in the order of ``METRICS``; "all" stands for all.

    Raises:
        InputError: there is no such measure.

    >>> named("ssim,psnr")
    ('psnr', 'ssim')
    """
    asked = [name.strip() for name in names.split(",")]
    if asked == ["all"]:
        return tuple(METRICS)
    unknown = [name for name in asked if name not in METRICS]
    if unknown:
        raise InputError(f"metrics must be of {', '.join(METRICS)}, or all; got {unknown[0]!r}")
    return tuple(name for name in METRICS if name in asked)


def check(names: Sequence[str]) -> None:
    """Checks that the measures ``names`` can be computed here.

    Raises:
        InputError: a package that one needs is not installed.
    """
    for name in names:
        needs = METRICS[name].needs
        if needs is not None:
            needs()
