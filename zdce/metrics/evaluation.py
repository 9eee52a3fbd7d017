"""Comparison of results with references: networks beside simple methods, for every picture and on average."""

import csv
import io
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from zdce.data.datasets import Item
from zdce.errors import InputError
from zdce.metrics.baselines import BASELINES, USUAL, autocontrast
from zdce.metrics.pictures import Rgb
from zdce.metrics.registry import AUTOCONTRAST, INPUT, METRICS, REFERENCE, TARGETS
from zdce.metrics.registry import USUAL as USUAL_METRICS
from zdce.runtime import progress

# The name, as a method, of a network that is measured alone.
MODEL = "model"

Enhance = Callable[[Rgb], Rgb]
Interval = tuple[float, float]

# Bootstrap: number of samples, their seed, and the share of their means that an interval holds.
_SAMPLES, _SEED, _CONFIDENCE = 2000, 0, 0.95
_UNKNOWN: Interval = (math.nan, math.nan)


@dataclass(frozen=True)
class Score:
    """One result against one target.

    Attributes:
        name: name of the picture.
        method: name of a network or of a baseline.
        against: the target.
        values: values of the measures of ``METRICS`` that were asked for; NaN where one is undefined.
    """

    name: str
    method: str
    against: str
    values: Mapping[str, float]


@dataclass(frozen=True)
class Average:
    """Means of a method over all pictures that have the target.

    Attributes:
        values: means of the measures; NaN is left out, and the mean of nothing.
        intervals: 95 % confidence intervals of the means, bootstrapped over pictures; NaN for infinite means.
        images: number of pictures.
    """

    method: str
    against: str
    values: Mapping[str, float]
    images: int
    intervals: Mapping[str, Interval] = field(default_factory=dict)

    def knows(self, name: str) -> bool:
        """Whether the measure was asked for and is defined for a picture at least."""
        return not math.isnan(self.values.get(name, math.nan))

    def to_dict(self) -> dict[str, object]:
        """Dictionary for JSON with all measures; None where one is infinite, undefined or not measured."""
        values = {name: _finite(self.values.get(name, math.nan)) for name in METRICS}
        known = {name: list(both) for name, both in self.intervals.items() if not math.isnan(both[0])}
        return {"method": self.method, "against": self.against, **values, "images": self.images, "intervals": known}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


@dataclass(frozen=True)
class EvaluationOptions:
    """What is measured.

    Attributes:
        metrics: names of measures.
        against: names of targets; those that a picture lacks are left out.
        baselines: names of simple methods.
    """

    metrics: tuple[str, ...] = USUAL_METRICS
    against: tuple[str, ...] = TARGETS
    baselines: tuple[str, ...] = USUAL


def evaluate(items: Sequence[Item], models: Mapping[str, Enhance], asked: EvaluationOptions | None = None) -> list[Score]:
    """Scores of all methods on all pictures, picture by picture, with a progress bar.

    Args:
        models: networks as functions of a picture (H, W, 3), by the names that they have as methods.
        asked: what is measured; by default what `zdce eval` measures.

    Raises:
        InputError: a reference has another size than its picture.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        scored = _scored(items, models, asked or EvaluationOptions(), pool)
        return [row for rows in progress.track(scored, len(items), "evaluating") for row in rows]


def _scored(
    items: Sequence[Item], models: Mapping[str, Enhance], asked: EvaluationOptions, pool: ThreadPoolExecutor
) -> Iterator[list[Score]]:
    # As many pictures at a time as there are threads, and of these one method after the other, so that memory does not grow
    # with the number of either. Networks and measures take turns: at the same time they would slow each other down.
    few = os.cpu_count() or 1
    for first in range(0, len(items), few):
        chosen = items[first : first + few]
        beside = list(pool.map(partial(load_targets, against=asked.against), chosen))
        found: list[list[Score]] = [[] for _ in chosen]
        for method, results in _results(models, asked.baselines, [targets[INPUT] for targets in beside], pool):
            for rows, more in zip(found, pool.map(partial(_score, asked, method), chosen, results, beside), strict=True):
                rows.extend(more)
        yield from (sorted(rows, key=lambda row: asked.against.index(row.against)) for rows in found)


def _results(
    models: Mapping[str, Enhance], baselines: Sequence[str], pictures: Sequence[Rgb], pool: Executor
) -> Iterator[tuple[str, list[Rgb]]]:
    for name in baselines:
        yield name, list(pool.map(BASELINES[name], pictures))
    for name, enhance in models.items():
        yield name, [enhance(picture) for picture in pictures]


def load_targets(item: Item, against: Sequence[str]) -> dict[str, Rgb]:
    """The picture itself as ``INPUT``, and the targets in ``against`` that it has.

    Raises:
        InputError: its reference has another size.
    """
    targets = {INPUT: item.load()}
    if AUTOCONTRAST in against:
        targets[AUTOCONTRAST] = autocontrast(targets[INPUT])
    if REFERENCE in against and item.load_reference is not None:
        targets[REFERENCE] = item.load_reference()
        if targets[REFERENCE].shape != targets[INPUT].shape:
            raise InputError(f"{item.name}: reference must be {targets[INPUT].shape}, got {targets[REFERENCE].shape}")
    return targets


def _score(asked: EvaluationOptions, method: str, item: Item, result: Rgb, targets: Mapping[str, Rgb]) -> list[Score]:
    """Scores of one result against each target."""
    of_input = [name for name in asked.metrics if METRICS[name].target == INPUT]
    fixed = {name: METRICS[name].compare(result, targets[INPUT]) for name in of_input}
    rows = []
    for against in (target for target in asked.against if target in targets):
        compared = [name for name in asked.metrics if name not in fixed and METRICS[name].takes(against)]
        values = dict.fromkeys(asked.metrics, math.nan) | fixed
        values |= {name: METRICS[name].compare(result, targets[against]) for name in compared}
        rows.append(Score(item.name, method, against, values))
    return rows


def averages(scores: Sequence[Score]) -> list[Average]:
    """Means of every method against every target, in the order of their first score, with their confidence intervals."""
    groups: dict[tuple[str, str], list[Score]] = {}
    for row in scores:
        groups.setdefault((row.method, row.against), []).append(row)
    return [_average(method, against, rows) for (method, against), rows in groups.items()]


def _average(method: str, against: str, rows: Sequence[Score]) -> Average:
    columns = {name: [row.values[name] for row in rows] for name in rows[0].values}
    known = {name: [value for value in column if not math.isnan(value)] for name, column in columns.items()}
    means = {name: math.fsum(values) / len(values) if values else math.nan for name, values in known.items()}
    return Average(method, against, means, len(rows), {name: interval(values) for name, values in known.items()})


def interval(values: Sequence[float]) -> Interval:
    """95 % confidence interval of the mean of ``values``: percentiles of the means of 2000 samples with replacement.

    The percentile bootstrap (Efron, 1979), with a fixed seed: equal values give equal intervals, and two methods are measured
    on the same samples of pictures. It says how much the choice of pictures matters, not whether two methods differ.
    NaN for less than two values and for infinite ones.

    >>> low, high = interval([20.0, 21.0, 22.0, 25.0])
    >>> 20 < low < 22 < high < 25
    True
    """
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return _UNKNOWN
    chosen = np.random.default_rng(_SEED).integers(0, len(values), (_SAMPLES, len(values)))
    low, high = np.quantile(np.asarray(values)[chosen].mean(axis=1), [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
    return float(low), float(high)


def worst(scores: Sequence[Score], below: str | None = None, count: int = 5) -> list[tuple[Score, Score | None]]:
    """Pictures with the model's lowest PSNR against references, worst first.

    Args:
        below: a baseline; the pictures are then those with the lowest difference of PSNR to it, each with its score.
        count: largest number of pictures.
    """
    found = {(row.name, row.method): row for row in scores if row.against == REFERENCE}
    pairs = [(row, found[row.name, below] if below else None) for row in found.values() if row.method == MODEL]
    return sorted(pairs, key=_lead)[:count]


def _lead(pair: tuple[Score, Score | None]) -> float:
    """Difference of the model's PSNR to the baseline's, or to 0."""
    mine, other = pair[0].values["psnr"], pair[1].values["psnr"] if pair[1] else 0.0
    return 0.0 if mine == other else mine - other  # both may be infinite


def to_csv(sets: Mapping[str, Sequence[Score]]) -> str:
    """CSV with one line for each picture, method and target of each data set; a measure that was not asked for is nan."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "method", "against", *METRICS, "data"])
    for data, scores in sets.items():
        for row in scores:
            values = (row.values.get(name, math.nan) for name in METRICS)
            writer.writerow([row.name, row.method, row.against, *values, data])
    return text.getvalue()
