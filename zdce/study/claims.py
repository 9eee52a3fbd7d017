"""Claims of the report, tested on our runs: one function per claim, from the results of one seed to a verdict with figures."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Literal, TypeVar

from zdce.metrics.evaluation import Interval, interval
from zdce.models.variants import VARIANTS
from zdce.study.results import Loss, Results, mean
from zdce.study.settings import BASE

Key = TypeVar("Key", int, str)
Verdict = Literal["holds", "does not hold", "not decidable"]

# Largest distance in epochs from an epoch that a claim names with "near" and "around".
_NEAR = 5
_AROUND = 10
# "Close to autocontrast", in dB of PSNR: a mean error of a tenth of the range.
_CLOSE = 20.0
# "Close" and "much lower" of losses, as shares.
_SAME = 0.05
_MUCH = 0.2
# Smallest number of pictures for an interval of their mean.
_ENOUGH = 6


class UndecidableError(Exception):
    """The runs can't decide a claim; the message says what is missing or too close."""


@dataclass(frozen=True)
class Finding:
    """A verdict and the figures behind it."""

    verdict: Verdict
    figure: str


@dataclass(frozen=True)
class Evidence:
    """Results of one seed; methods raise ``UndecidableError`` if something is missing."""

    results: Results
    seed: int

    @property
    def last(self) -> int:
        return self.results.epochs[-1]

    def need_epochs(self, least: int) -> None:
        if self.last < least:
            raise UndecidableError(f"it takes {least} epochs, these runs have {self.last}")

    def need_references(self) -> None:
        if not self.results.has_references:
            raise UndecidableError("these pictures have no true references")

    def by_picture(self, variant: str, measure: str, epoch: int | None = None) -> dict[str, float]:
        """Measure of each picture, after ``epoch`` or the last epoch."""
        rows = self.results.rows(variant, self.last if epoch is None else epoch, self.seed)
        if not rows:
            raise UndecidableError(f"{variant} was not trained")
        return {row.picture: getattr(row, measure) for row in rows}

    def value(self, variant: str, measure: str, epoch: int | None = None) -> float:
        """Mean of a measure over pictures."""
        return mean(list(self.by_picture(variant, measure, epoch).values()))

    def references(self, measure: str, otherwise: float) -> float:
        """Mean of a measure over the true references; ``otherwise`` if there are none."""
        rows = self.results.rows("reference", 0)
        return mean([getattr(row, measure) for row in rows]) if rows else otherwise

    def course(self, variant: str, measure: str) -> dict[int, float]:
        """Means of a measure by epoch."""
        return {epoch: self.value(variant, measure, epoch) for epoch in self.results.epochs}

    def losses(self, variant: str, split: str, term: str = "total") -> list[float]:
        """Losses by epoch, from the first one."""
        rows = [r for r in self.results.losses if (r.variant, r.seed, r.split) == (variant, self.seed, split)]
        if not rows:
            raise UndecidableError(f"{variant} was not trained")
        return [getattr(row, term) for row in sorted(rows, key=_epoch)]

    def gap(self, variant: str) -> list[float]:
        """Total of validation minus that of training, by epoch."""
        pairs = zip(self.losses(variant, "validation"), self.losses(variant, "train"), strict=True)
        return [validation - train for validation, train in pairs]

    def crossing(self, variant: str) -> int | None:
        """First epoch whose gap has another sign than that of epoch 1, or None."""
        gap = self.gap(variant)
        return next((i + 1 for i, g in enumerate(gap) if g * gap[0] < 0), None)

    def relative_gap(self, variant: str) -> float:
        """Absolute gap after the last epoch as a share of training's total."""
        return abs(self.gap(variant)[-1]) / self.losses(variant, "train")[-1]

    def difference(self, variant: str, measure: str, other: str = BASE) -> tuple[float, Interval]:
        """Mean difference of ``variant`` and ``other`` over pictures after the last epoch, and its interval."""
        own, others = self.by_picture(variant, measure), self.by_picture(other, measure)
        gaps = [own[name] - others[name] for name in own if math.isfinite(own[name] - others[name])]
        if len(gaps) < _ENOUGH:
            raise UndecidableError(f"it takes {_ENOUGH} pictures, there are {len(gaps)}")
        return fmean(gaps), interval(gaps)


def _epoch(row: Loss) -> int:
    return row.epoch


@dataclass(frozen=True)
class Claim:
    """A sentence of the report and its check; ``rule`` says when it holds."""

    name: str
    part: str
    text: str
    rule: str
    check: Callable[[Evidence], Finding]


CLAIMS: list[Claim] = []


def claim(part: str, text: str) -> Callable[[Callable[[Evidence], Finding]], Callable[[Evidence], Finding]]:
    """Decorator that adds a check to ``CLAIMS``; its docstring is the rule."""

    def add(check: Callable[[Evidence], Finding]) -> Callable[[Evidence], Finding]:
        rule = " ".join((check.__doc__ or "").split())
        CLAIMS.append(Claim(check.__name__.strip("_").replace("_", "-"), part, text, rule, check))
        return check

    return add


@dataclass(frozen=True)
class Judged:
    """A claim and its verdict over all seeds."""

    claim: Claim
    finding: Finding


def judge(results: Results) -> list[Judged]:
    """Verdicts of all claims; a claim is not decidable if seeds disagree."""
    return [Judged(claim, _together([_checked(claim, Evidence(results, seed)) for seed in results.seeds])) for claim in CLAIMS]


def _checked(claim: Claim, evidence: Evidence) -> Finding:
    try:
        return claim.check(evidence)
    except UndecidableError as reason:
        return Finding("not decidable", str(reason))


def _together(findings: Sequence[Finding]) -> Finding:
    if len(findings) == 1:
        return findings[0]
    counts = Counter(finding.verdict for finding in findings)
    verdict = findings[0].verdict if len(counts) == 1 else "not decidable"
    says = ", ".join(f"{verdict} for {count}" for verdict, count in counts.items())
    return Finding(verdict, f"{says} of {len(findings)} seeds; seed 0: {findings[0].figure}")


def _finding(true: bool, figure: str) -> Finding:
    return Finding("holds" if true else "does not hold", figure)


def _peak(course: dict[Key, float]) -> Key:
    return max(course, key=course.__getitem__)


def _dB(course: dict[int, float]) -> str:  # noqa: N802 (the unit's name)
    return ", ".join(f"{value:.2f} dB at {epoch}" for epoch, value in course.items())


def _ssims(course: dict[int, float]) -> str:
    return ", ".join(f"{value:.3f} at {epoch}" for epoch, value in course.items())


def _contains_0(bounds: Interval) -> bool:
    return bounds[0] <= 0 <= bounds[1]


def _exceeds(evidence: Evidence, variant: str, measure: str, sign: int, unit: str = "") -> Finding:
    """Whether ``variant``'s measure lies above base's (``sign`` 1) or below it (-1), beyond chance."""
    difference, bounds = evidence.difference(variant, measure)
    own, base = evidence.value(variant, measure), evidence.value(BASE, measure)
    figure = (
        f"{own:.3g}{unit} against base's {base:.3g}{unit}; difference {difference:+.3g} [{bounds[0]:+.3g}, {bounds[1]:+.3g}]"
    )
    if _contains_0(bounds):
        raise UndecidableError(figure + " contains 0")
    return _finding(difference * sign > 0, figure)


def _better(evidence: Evidence, variant: str, other: str = BASE) -> tuple[bool, str]:
    """Whether ``variant`` comes closer to the true references than ``other``; both PSNR and SSIM must say the same."""
    evidence.need_references()
    (psnr, psnr_bounds), (ssim, ssim_bounds) = (
        evidence.difference(variant, measure, other) for measure in ("psnr_reference", "ssim_reference")
    )
    figure = (
        f"{variant} less {other} against references: {psnr:+.2f} dB [{psnr_bounds[0]:+.2f}, {psnr_bounds[1]:+.2f}],"
        f" SSIM {ssim:+.3f} [{ssim_bounds[0]:+.3f}, {ssim_bounds[1]:+.3f}]"
    )
    if _contains_0(psnr_bounds) or _contains_0(ssim_bounds) or psnr * ssim < 0:
        raise UndecidableError(figure)
    return psnr > 0, figure


def _lower_totals(evidence: Evidence, variant: str, share: float = 0.0) -> Finding:
    """Whether both of ``variant``'s last totals lie below base's by more than ``share``."""
    totals = {
        split: (evidence.losses(variant, split)[-1], evidence.losses(BASE, split)[-1]) for split in ("train", "validation")
    }
    figure = ", ".join(f"{split} {own:.3g} against base's {base:.3g}" for split, (own, base) in totals.items())
    return _finding(all(own < (1 - share) * base for own, base in totals.values()), figure)


def _crosses_near(evidence: Evidence, variant: str, epoch: int) -> Finding:
    evidence.need_epochs(epoch + _NEAR)
    crossing = evidence.crossing(variant)
    gap = evidence.gap(variant)
    where = "never" if crossing is None else f"in epoch {crossing}"
    figure = f"they cross {where}; validation less training is {gap[0]:+.3g} at first, {gap[-1]:+.3g} at the end"
    return _finding(crossing is not None and abs(crossing - epoch) <= _NEAR, figure)


@claim("1", "PSNR against autocontrast peaks around epoch 30 and then falls")
def psnr_peaks(evidence: Evidence) -> Finding:
    """The highest mean among the kept epochs lies at 20, 30 or 40, and the last is lower."""
    evidence.need_epochs(50)
    course = evidence.course(BASE, "psnr_autocontrast")
    peak = _peak(course)
    return _finding(abs(peak - 30) <= _AROUND and course[evidence.last] < course[peak], _dB(course))


@claim("1", "SSIM against autocontrast peaks around epoch 40 and then falls")
def ssim_peaks(evidence: Evidence) -> Finding:
    """The highest mean among the kept epochs lies at 30, 40 or 50, and the last is lower."""
    evidence.need_epochs(50)
    course = evidence.course(BASE, "ssim_autocontrast")
    peak = _peak(course)
    return _finding(abs(peak - 40) <= _AROUND and course[evidence.last] < course[peak], _ssims(course))


@claim("1", "While both fall, the pictures get brighter")
def brighter_as_both_fall(evidence: Evidence) -> Finding:
    """From PSNR's peak on, mean brightness rises from each kept epoch to the next; there are epochs after the peak."""
    peak = _peak(evidence.course(BASE, "psnr_autocontrast"))
    light = {epoch: value for epoch, value in evidence.course(BASE, "brightness").items() if epoch >= peak}
    if len(light) < 2:
        raise UndecidableError(f"PSNR is highest at the last epoch, {peak}: nothing falls")
    rises = all(b > a for a, b in pairwise(light.values()))
    return _finding(rises, "mean brightness " + ", ".join(f"{value:.3f} at {epoch}" for epoch, value in light.items()))


@claim("1", "The gap between training and validation shrinks, and they cross near epoch 13")
def base_crosses_near_13(evidence: Evidence) -> Finding:
    """Validation's total less training's first changes its sign in one of the epochs 8 to 18."""
    return _crosses_near(evidence, BASE, 13)


@claim("1", "After 10 to 20 epochs pictures are close to autocontrast, but for dimly lit scenes")
def close_to_autocontrast(evidence: Evidence) -> Finding:
    """At 10 and 20 the mean PSNR is at least 20 dB, and the darkest quarter of the inputs lies below the other pictures."""
    evidence.need_epochs(20)
    light = {row.picture: row.brightness for row in evidence.results.rows("input", 0)}
    if len(light) < 2:
        raise UndecidableError(f"it takes two measured pictures, there are {len(light)}")
    dim = set(sorted(light, key=light.__getitem__)[: max(1, len(light) // 4)])
    parts = []
    true = True
    for epoch in (10, 20):
        values = evidence.by_picture(BASE, "psnr_autocontrast", epoch)
        dark, other = (mean([v for name, v in values.items() if (name in dim) == side]) for side in (True, False))
        true = true and mean(list(values.values())) >= _CLOSE and dark < other
        parts.append(f"{mean(list(values.values())):.2f} dB at {epoch} (darkest quarter {dark:.2f}, others {other:.2f})")
    return _finding(true, ", ".join(parts))


@claim("1", "Total, illumination and exposure losses fall over epochs while spatial and colour losses rise")
def losses_fall_and_rise(evidence: Evidence) -> Finding:
    """Of each the last epoch's training loss is compared with the first's."""
    signs = {"total": -1, "illumination": -1, "exposure": -1, "spatial": 1, "color": 1}
    ends = {term: (values := evidence.losses(BASE, "train", term))[:1] + values[-1:] for term in signs}
    true = all((ends[term][-1] - ends[term][0]) * sign > 0 for term, sign in signs.items())
    return _finding(true, ", ".join(f"{term} {first:.3g} to {last:.3g}" for term, (first, last) in ends.items()))


@claim("1", "Most of the total at first is illumination")
def illumination_dominates_at_first(evidence: Evidence) -> Finding:
    """Its weighted share of the first epoch's training total is above one half."""
    weighted = VARIANTS[BASE].weights.illumination * evidence.losses(BASE, "train", "illumination")[0]
    share = weighted / evidence.losses(BASE, "train")[0]
    return _finding(share > 0.5, f"{share:.0%} of the first epoch's total")


@claim("2", "Without illumination smoothing pictures look grey and flat")
def no_illumination_is_grey_and_flat(evidence: Evidence) -> Finding:
    """Both contrast (deviation of luma) and saturation lie below base's, beyond chance."""
    found = [_exceeds(evidence, "no-illumination", measure, -1) for measure in ("contrast", "saturation")]
    figure = f"contrast {found[0].figure}; saturation {found[1].figure}"
    return _finding(all(f.verdict == "holds" for f in found), figure)


@claim("2", "Without colour constancy pictures have a yellow cast")
def no_color_is_yellow(evidence: Evidence) -> Finding:
    """The mean of CIELAB's b* lies above base's, beyond chance, and above the references' (without any, above 0: grey)."""
    found = _exceeds(evidence, "no-color", "yellowness", 1)
    neutral = evidence.references("yellowness", otherwise=0.0)
    cast = evidence.value("no-color", "yellowness") > neutral
    return _finding(found.verdict == "holds" and cast, f"b* {found.figure}; neutral {neutral:.3g}")


@claim("2", "Without exposure control pictures are darker")
def no_exposure_is_darker(evidence: Evidence) -> Finding:
    """Mean brightness lies below base's, beyond chance."""
    return _exceeds(evidence, "no-exposure", "brightness", -1)


@claim("2", "Without exposure control PSNR against autocontrast is higher than base's")
def no_exposure_has_higher_psnr(evidence: Evidence) -> Finding:
    """At the end, beyond chance."""
    return _exceeds(evidence, "no-exposure", "psnr_autocontrast", 1, " dB")


@claim("2", "Without illumination smoothing the total drops")
def no_illumination_has_lower_total(evidence: Evidence) -> Finding:
    """At the end, of both training and validation, against base's."""
    return _lower_totals(evidence, "no-illumination")


@claim("2", "Without spatial consistency the total drops")
def no_spatial_has_lower_total(evidence: Evidence) -> Finding:
    """At the end, of both training and validation, against base's."""
    return _lower_totals(evidence, "no-spatial")


@claim("2", "Without illumination smoothing training and validation never cross")
def no_illumination_never_crosses(evidence: Evidence) -> Finding:
    """Validation's total less training's keeps the first epoch's sign throughout 50 epochs."""
    evidence.need_epochs(50)
    crossing = evidence.crossing("no-illumination")
    gap = evidence.gap("no-illumination")
    figure = "they never cross" if crossing is None else f"they cross in epoch {crossing}"
    return _finding(
        crossing is None, f"{figure}; validation less training is {gap[0]:+.3g} at first, {gap[-1]:+.3g} at the end"
    )


@claim("2", "Without colour constancy training and validation part late")
def no_color_parts_late(evidence: Evidence) -> Finding:
    """The size of their gap, as a share of training's total, is larger over the last fifth of the epochs than over the middle
    fifth."""
    evidence.need_epochs(25)
    shares = [abs(g) / t for g, t in zip(evidence.gap("no-color"), evidence.losses("no-color", "train"), strict=True)]
    fifth = len(shares) // 5
    middle, late = fmean(shares[2 * fifth : 3 * fifth]), fmean(shares[-fifth:])
    return _finding(late > middle, f"the gap is {middle:.1%} of the total midway, {late:.1%} at the end")


@claim("2", "Without exposure control training and validation meet near epoch 18")
def no_exposure_crosses_near_18(evidence: Evidence) -> Finding:
    """Validation's total less training's first changes its sign in one of the epochs 13 to 23."""
    return _crosses_near(evidence, "no-exposure", 18)


@claim("3", "No concatenation: a much lower total")
def no_concat_has_much_lower_total(evidence: Evidence) -> Finding:
    """At the end, of both training and validation, by more than a fifth of base's."""
    return _lower_totals(evidence, "no-concat", _MUCH)


@claim("3", "No concatenation: the total is close to validation's")
def no_concat_is_close_to_validation(evidence: Evidence) -> Finding:
    """At the end they differ by at most a twentieth."""
    share = evidence.relative_gap("no-concat")
    return _finding(share <= _SAME, f"they differ by {share:.1%}")


@claim("3", "No concatenation: PSNR against autocontrast is higher than base's")
def no_concat_has_higher_psnr(evidence: Evidence) -> Finding:
    """At the end, beyond chance."""
    return _exceeds(evidence, "no-concat", "psnr_autocontrast", 1, " dB")


@claim("3", "No concatenation: worse pictures than base's")
def no_concat_is_worse(evidence: Evidence) -> Finding:
    """At the end PSNR and SSIM against the true references are both lower, beyond chance."""
    better, figure = _better(evidence, "no-concat")
    return _finding(not better, figure)


@claim("3", "4 iterations: training and validation cross at epoch 10")
def iters4_crosses_near_10(evidence: Evidence) -> Finding:
    """Validation's total less training's first changes its sign in one of the epochs 5 to 15."""
    return _crosses_near(evidence, "iters4", 10)


@claim("3", "4 iterations: noisier pictures than base's")
def iters4_is_noisier(evidence: Evidence) -> Finding:
    """At the end Immerkaer's noise level lies above base's, beyond chance."""
    return _exceeds(evidence, "iters4", "noise", 1, " levels")


@claim("3", "4 iterations: PSNR against autocontrast is higher than base's at epoch 50")
def iters4_has_higher_psnr(evidence: Evidence) -> Finding:
    """After 50 epochs, beyond chance."""
    evidence.need_epochs(50)
    return _exceeds(evidence, "iters4", "psnr_autocontrast", 1, " dB")


@claim("3", "32 filters: a lower total")
def filters32_has_lower_total(evidence: Evidence) -> Finding:
    """At the end, of both training and validation, against base's."""
    return _lower_totals(evidence, "filters32")


@claim("3", "32 filters: over-sharp pictures")
def filters32_is_over_sharp(evidence: Evidence) -> Finding:
    """At the end the mean gradient lies above base's, beyond chance, and above the references' where there are any."""
    found = _exceeds(evidence, "filters32", "sharpness", 1)
    true = evidence.references("sharpness", otherwise=0.0)
    over = evidence.value("filters32", "sharpness") > true
    return _finding(found.verdict == "holds" and over, f"{found.figure}; references {true:.3g}" if true else found.figure)


@claim("3", "More layers: training and validation are close")
def layers7_is_close_to_validation(evidence: Evidence) -> Finding:
    """At the end they differ by at most a twentieth."""
    share = evidence.relative_gap("layers7")
    return _finding(share <= _SAME, f"they differ by {share:.1%}")


@claim("3", "More layers: the total drops a second time near epoch 35")
def layers7_drops_again_near_35(evidence: Evidence) -> Finding:
    """Training's total falls more from epoch 30 to 40 than from 20 to 30."""
    evidence.need_epochs(40)
    totals = evidence.losses("layers7", "train")
    before, then = totals[19] - totals[29], totals[29] - totals[39]
    return _finding(then > max(before, 0.0), f"it falls by {before:.3g} from 20 to 30, by {then:.3g} from 30 to 40")


@claim("3", "More layers: the best pictures")
def layers7_is_best(evidence: Evidence) -> Finding:
    """At the end PSNR and SSIM against the true references both lie above those of whichever other variant comes next in PSNR,
    beyond chance."""
    evidence.need_references()
    means = {name: evidence.value(name, "psnr_reference") for name in evidence.results.variants}
    if "layers7" not in means or len(means) < 2:
        raise UndecidableError("layers7 and another variant were not both trained")
    rival = _peak({name: value for name, value in means.items() if name != "layers7"})
    better, figure = _better(evidence, "layers7", rival)
    return _finding(better, figure)


@claim("over all", "Skip connections help, no concatenation hurts")
def skip_connections_help(evidence: Evidence) -> Finding:
    """At the end base comes closer to the true references than no-concat, in PSNR and SSIM, beyond chance."""
    better, figure = _better(evidence, "no-concat")
    return _finding(not better, figure)


@claim("over all", "More filters help")
def more_filters_help(evidence: Evidence) -> Finding:
    """At the end filters32 comes closer to the true references than base, in PSNR and SSIM, beyond chance."""
    return _finding(*_better(evidence, "filters32"))


@claim("over all", "Fewer iterations hurt")
def fewer_iterations_hurt(evidence: Evidence) -> Finding:
    """At the end iters4 is farther from the true references than base, in PSNR and SSIM, beyond chance."""
    better, figure = _better(evidence, "iters4")
    return _finding(not better, figure)
