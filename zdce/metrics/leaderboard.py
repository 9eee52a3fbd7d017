"""Tables of several methods on several data sets, in Markdown."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from zdce.errors import InputError
from zdce.metrics.evaluation import Average
from zdce.metrics.registry import INPUT, METRICS, REFERENCE

BEGIN, END = "<!-- zdce eval: begin -->", "<!-- zdce eval: end -->"

# What a table over all sets shows of a set with references, and of one without.
_PAIRED, _ALONE = ("psnr", "ssim"), ("dark_half", "lit_half")


@dataclass(frozen=True)
class MeasuredSet:
    """The averages of all methods on one data set.

    Attributes:
        name: name of the data set in tables.
        description: what of it was measured, in words.
        metrics: names of the measures that were asked for.
    """

    name: str
    description: str
    metrics: tuple[str, ...]
    averages: tuple[Average, ...]

    @property
    def against(self) -> str:
        """The target that counts most: references where there are any, then the input."""
        targets = {average.against for average in self.averages}
        return next((target for target in (REFERENCE, INPUT) if target in targets), next(iter(targets)))

    @property
    def methods(self) -> dict[str, Average]:
        """The averages against that target, by method."""
        return {average.method: average for average in self.averages if average.against == self.against}

    @property
    def summary(self) -> list[str]:
        """Measures for a table over all sets."""
        chosen = _PAIRED if self.against == REFERENCE else _ALONE
        return [name for name in chosen if name in self.metrics] or list(self.metrics[:2])

    @property
    def known(self) -> list[str]:
        """Measures that are defined for at least one method."""
        return [n for n in self.metrics if any(average.knows(n) for average in self.methods.values())]


def over_all(sets: Sequence[MeasuredSet]) -> tuple[list[str], list[list[str]]]:
    """Heading and rows of one table over all data sets: a row for each method, two measures of each set."""
    heading = ["method"] + [f"{one.name}: {METRICS[name].heading}" for one in sets for name in one.summary]
    methods = list(dict.fromkeys(method for one in sets for method in one.methods))
    rows = [[m] + [cell(one.methods.get(m), name) for one in sets for name in one.summary] for m in methods]
    return heading, rows


def cell(average: Average | None, name: str, break_at: str = " ") -> str:
    """A mean with its confidence interval; - where nothing is known."""
    if average is None:
        return "-"
    metric, (low, high) = METRICS[name], average.intervals.get(name, (math.nan, math.nan))
    mean = metric.cell(average.values.get(name, math.nan))
    return mean if math.isnan(low) else f"{mean}{break_at}[{metric.cell(low)}, {metric.cell(high)}]"


def markdown(
    sets: Sequence[MeasuredSet], parameters: Mapping[str, int], names: Mapping[str, str] = MappingProxyType({})
) -> str:
    """One table over all sets if there are several, then one for each with all of its measures. The first of them has the
    methods' numbers of ``parameters``. ``names`` replace methods' own.
    """

    def described(method: str) -> list[str]:
        return [names.get(method, method), f"{parameters[method]:,}" if method in parameters else ""]

    parts = []
    if len(sets) > 1:
        heading, rows = over_all(sets)
        parts.append(_table([heading[0], "parameters", *heading[1:]], [[*described(row[0]), *row[1:]] for row in rows]))
    columns = 1 if len(sets) > 1 else 2
    for one in sets:
        known = one.known
        lines = [
            [*described(method)[:columns], *(cell(average, name) for name in known)] for method, average in one.methods.items()
        ]
        parts.append(f"{one.name}: {one.description}; against the {one.against}.\n")
        parts.append(_table([*["method", "parameters"][:columns], *(METRICS[name].heading for name in known)], lines))
    return "\n".join(parts)


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def placed(path: Path, text: str) -> str:
    """The content of the file ``path`` with ``text`` between the lines ``BEGIN`` and ``END``; ``text`` alone for a new file.

    Raises:
        InputError: the file exists without these lines.
    """
    if not path.is_file():
        return text
    try:
        content = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        content = ""  # no page of ours; anything else would lose its letters
    before, begin, rest = content.partition(f"{BEGIN}\n")
    _, end, after = rest.partition(f"{END}\n")
    if not begin or not end:
        raise InputError(f"{path} exists: expected a new file, or one with the lines {BEGIN} and {END}")
    return f"{before}{begin}{text}{end}{after}"
