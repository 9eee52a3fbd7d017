"""Tables of the page, as data for HTML, Markdown and CSV."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from zdce.study.published import Published
from zdce.study.results import Average, Network, Results
from zdce.study.settings import BASE

MISSING = "-"


@dataclass(frozen=True)
class Cell:
    """Text of a cell, its number for sorting, and an interval or a spread shown beside it."""

    text: str
    value: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A table; ``strong`` are the indices of base's rows."""

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    strong: frozenset[int] = frozenset()

    def is_number(self, column: int) -> bool:
        return any(row[column].value is not None for row in self.rows)


# Heading and number of decimals of each measure.
_MEASURES = {
    "psnr_reference": ("PSNR, reference", 2),
    "ssim_reference": ("SSIM, reference", 3),
    "ciede2000_reference": ("CIEDE2000, reference", 2),
    "psnr_autocontrast": ("PSNR, autocontrast", 2),
    "ssim_autocontrast": ("SSIM, autocontrast", 3),
    "psnr_input": ("PSNR, original", 2),
    "ssim_input": ("SSIM, original", 3),
    "order_error": ("Order error", 1),
    "brightness": ("Brightness", 3),
    "contrast": ("Contrast", 3),
    "saturation": ("Saturation", 3),
    "yellowness": ("Yellow", 2),
    "noise": ("Noise", 2),
    "sharpness": ("Gradient", 2),
}


def number(value: float, digits: int) -> Cell:
    """Cell of a number; a dash for NaN, the sign of infinity for equal pictures."""
    if math.isnan(value):
        return Cell(MISSING, value)
    return Cell("∞" if math.isinf(value) else f"{value:.{digits}f}", value)


def cell(average: Average | None, measure: str) -> Cell:
    """Cell of a mean with its interval, or its spread between seeds."""
    if average is None:
        return Cell(MISSING, math.nan)
    digits = _MEASURES[measure][1]
    shown = number(average.means[measure], digits)
    if bounds := average.intervals.get(measure):
        return Cell(shown.text, shown.value, f"[{bounds[0]:.{digits}f}, {bounds[1]:.{digits}f}]")
    if spread := average.spread.get(measure):
        return Cell(shown.text, shown.value, f"± {spread:.{digits}f}")
    return shown


def measures(results: Results) -> list[str]:
    """Measures with values: some pictures have no references, and results of older versions have fewer measures."""
    return [m for m in _MEASURES if any(not math.isnan(getattr(row, m)) for row in results.measured)]


def _theirs(pair: tuple[float, float] | None, which: int) -> Cell:
    return Cell(MISSING, math.nan) if pair is None else number(pair[which], 3 if which else 2)


def _beside(average: Average | None, pair: tuple[float, float] | None, target: str) -> list[Cell]:
    """Cells of our PSNR, the report's PSNR, our SSIM, the report's SSIM."""
    names = (f"psnr_{target}", f"ssim_{target}")
    return [c for i, measure in enumerate(names) for c in (cell(average, measure), _theirs(pair, i))]


def _rest(results: Results) -> list[str]:
    likeness = ["psnr_reference", "ssim_reference"] if results.has_references else []
    return [*likeness, "order_error", "brightness"]


def course(results: Results, published: Published) -> Table:
    """Base by epoch, with the report's figures beside ours."""
    rows = []
    for epoch in sorted({*results.epochs, *published.base["autocontrast"]}):
        average = results.average(BASE, epoch)
        beside = [_beside(average, published.base[target].get(epoch), target) for target in ("autocontrast", "input")]
        rows.append((number(epoch, 0), *beside[0], *beside[1], *(cell(average, m) for m in _rest(results))))
    columns = [
        f"{measure}, {name}{whose}"
        for name in ("autocontrast", "original")
        for measure in ("PSNR", "SSIM")
        for whose in ("", ": the report")
    ]
    caption = "Base after each kept epoch. PSNR in dB. The report's pictures are others: compare the course, not single values."
    return Table("course", caption, ("Epoch", *columns, *(_MEASURES[m][0] for m in _rest(results))), tuple(rows))


def ablations(results: Results, published: Published, methods: Sequence[str], name: str) -> Table:
    """Variants after the last epoch, with the report's figures beside ours."""
    last = results.epochs[-1]
    rows = []
    for method in methods:
        average = results.average(method, last)
        theirs = published.base["autocontrast"].get(50) if method == BASE else published.ablations.get(method)
        extra = ["psnr_input", "ssim_input", *_rest(results)]
        rows.append((Cell(method), *_beside(average, theirs, "autocontrast"), *(cell(average, m) for m in extra)))
    columns = ("PSNR, autocontrast", "the report", "SSIM, autocontrast", "the report", "PSNR, original", "SSIM, original")
    headings = ("Variant", *columns, *(_MEASURES[m][0] for m in _rest(results)))
    strong = frozenset(i for i, method in enumerate(methods) if method == BASE)
    return Table(name, f"After {last} epochs. The report's figures are after 50.", headings, tuple(rows), strong)


def everything(results: Results, averages: Iterable[Average], name: str, caption: str, epochs: bool = False) -> Table:
    """All measures of ``averages``."""
    known = measures(results)
    rows, strong = [], set()
    for i, average in enumerate(averages):
        head = [Cell(average.method)] + ([number(average.epoch or math.nan, 0)] if epochs else [])
        rows.append((*head, *(cell(average, m) for m in known)))
        if average.method == BASE:
            strong.add(i)
    headings = ("Method", *(("Epoch",) if epochs else ()), *(_MEASURES[m][0] for m in known))
    return Table(name, caption, headings, tuple(rows), frozenset(strong))


def pictures(results: Results, method: str) -> Table:
    """Measures of all pictures for a method after the last epoch, first seed."""
    known = measures(results)
    rows = [
        (Cell(row.picture), *(number(getattr(row, m), _MEASURES[m][1]) for m in known))
        for row in results.rows(method, results.epochs[-1], 0)
    ]
    caption = f"{method} after {results.epochs[-1]} epochs" + (", seed 0" if len(results.seeds) > 1 else "")
    return Table(f"pictures-{method}", caption, ("Picture", *(_MEASURES[m][0] for m in known)), tuple(rows))


def networks(rows: Iterable[Network]) -> Table:
    """Properties and cost of each variant."""
    cells = tuple(
        (
            Cell(row.variant),
            Cell(row.summary),
            Cell(f"{row.parameters:,}", row.parameters),
            Cell(f"{row.macs:,}", row.macs),
            number(row.iterations, 0),
            number(row.milliseconds, 0),
        )
        for row in rows
    )
    columns = ("Variant", "What it is", "Parameters", "MACs a pixel", "Iterations", "ms a megapixel")
    caption = (
        "Multiply-accumulates and time for each pixel of the picture; time is the median of whole pictures, 8 bits in and out."
    )
    return Table("networks", caption, columns, cells, frozenset(i for i, row in enumerate(cells) if row[0].text == BASE))
