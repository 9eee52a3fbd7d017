"""Charts of the page: as SVG with the page's colours, and as PNG."""

import io
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from zdce.ops import Objective
from zdce.study.published import Published
from zdce.study.results import Results
from zdce.study.settings import BASE

# Each colour of a drawing is replaced by a variable of the page, which has a value for light and one for dark mode.
_INK, _RULE, _MUTED, _OURS, _OTHER = "#1d1b18", "#dedad2", "#76706a", "#b8620b", "#3a6ea5"
_PAGE_COLORS = {
    _INK: "currentColor",
    _RULE: "var(--rule)",
    _MUTED: "var(--muted)",
    _OURS: "var(--ours)",
    _OTHER: "var(--other)",
}

_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text, in the page's font
    "font.size": 8.5,
    "axes.edgecolor": _MUTED,
    "axes.labelcolor": _INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": _RULE,
    "grid.linewidth": 0.6,
    "text.color": _INK,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
}

# Ratio of largest to smallest total above which the axis is logarithmic.
_DECADES = 100
# Number of epochs from which on points have numbers beside them; with fewer epochs they lie too close.
_NUMBERED_FROM = 30

_TERMS = {
    "total": "total, weighted",
    "illumination": "illumination smoothness",
    "spatial": "spatial consistency",
    "color": "colour constancy",
    "exposure": "exposure control",
}
AGAINST = {"autocontrast": "autocontrast", "input": "the original", "reference": "true references"}


class Drawing(NamedTuple):
    """One figure in both forms."""

    svg: str
    png: bytes


def losses(results: Results, variant: str) -> Drawing:
    """Total and terms by epoch, training and validation, mean over seeds, beside those of base."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(11, 2.4))
        panels = figure.subplots(1, len(Objective._fields))
        for axes, term in zip(panels, Objective._fields, strict=True):
            if variant != BASE:
                _loss(axes, results, BASE, term, _MUTED, "base")
            _loss(axes, results, variant, term, _OURS, variant)
            axes.set_title(_TERMS[term])
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 5, 10]))
            axes.ticklabel_format(axis="y", scilimits=(-3, 4))
            axes.yaxis.get_offset_text().set_fontsize(7)
        panels[-1].set_xlabel("epoch")
        # Totals with other loss weights may be far apart.
        totals = [value for line in panels[0].lines for value in line.get_ydata()]
        if min(totals) > 0 and max(totals) > _DECADES * min(totals):
            panels[0].set_yscale("log")
            panels[0].set_title("total, weighted (logarithmic)")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower left", ncols=4, fontsize=8, bbox_to_anchor=(0.03, -0.02))
        figure.subplots_adjust(left=0.04, right=0.995, top=0.84, bottom=0.25, wspace=0.3)
        return _drawn(figure, f"losses-{variant}")


def _loss(axes: Any, results: Results, variant: str, term: str, color: str, label: str) -> None:
    for split, line in (("train", "-"), ("validation", "--")):
        by_epoch: dict[int, list[float]] = {}
        for row in results.losses:
            if (row.variant, row.split) == (variant, split):
                by_epoch.setdefault(row.epoch, []).append(getattr(row, term))
        if not by_epoch:
            continue
        epochs = sorted(by_epoch)
        axes.plot(
            epochs,
            [sum(by_epoch[e]) / len(by_epoch[e]) for e in epochs],
            line,
            color=color,
            linewidth=1.0 if color == _MUTED else 1.5,
            label=f"{label}, {'training' if split == 'train' else split}",
        )


def course(results: Results, published: Published) -> Drawing:
    """Base's PSNR and SSIM by epoch against each target, with the report's beside ours."""
    targets = [t for t in AGAINST if t != "reference" or results.has_references]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(11, 4.4))
        panels = figure.subplots(2, len(targets), sharex=True, squeeze=False)
        for down, (measure, unit) in enumerate((("psnr", "PSNR, dB"), ("ssim", "SSIM"))):
            for across, target in enumerate(targets):
                axes = panels[down][across]
                _course(axes, results, f"{measure}_{target}")
                theirs = published.base.get(target, {})
                if theirs:
                    style = {"color": _OTHER, "markerfacecolor": "none", "label": "the report"}
                    axes.plot(list(theirs), [pair[down] for pair in theirs.values()], "s--", **style)
                axes.set_title(f"{unit} against {AGAINST[target]}")
                axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
                axes.margins(y=0.15)
        for axes in panels[1]:
            axes.set_xlabel("epoch")
        panels[0][0].legend(fontsize=8)
        figure.subplots_adjust(left=0.045, right=0.99, top=0.94, bottom=0.1, wspace=0.18, hspace=0.28)
        return _drawn(figure, "course")


def _course(axes: Any, results: Results, measure: str) -> None:
    averages = [a for epoch in results.epochs if (a := results.average(BASE, epoch))]
    epochs, values = [a.epoch for a in averages], [a.means[measure] for a in averages]
    axes.plot(epochs, values, "o-", color=_OURS, label="ours")
    bounds = [a.intervals[measure] for a in averages if measure in a.intervals]
    if bounds:
        axes.fill_between(epochs, [b[0] for b in bounds], [b[1] for b in bounds], color=_OURS, alpha=0.15, linewidth=0)
    for average, value in zip(averages, values, strict=True):
        if math.isfinite(value) and epochs[-1] >= _NUMBERED_FROM:
            text = f"{value:.1f}" if measure.startswith("psnr") else f"{value:.2f}"
            axes.annotate(text, (average.epoch, value), (0, 6), textcoords="offset points", ha="center", fontsize=7.5)


def comparison(results: Results, methods: Sequence[str], published: Published, name: str) -> Drawing:
    """A row for each of ``methods`` after the last epoch: PSNR and SSIM against autocontrast, ours and the report's, and
    against references."""
    last = results.epochs[-1]
    targets = [t for t in ("autocontrast", "reference") if t != "reference" or results.has_references]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(11, 0.75 + 0.27 * len(methods)))
        panels = figure.subplots(1, 2 * len(targets), sharey=True)
        titles = [(t, m, u) for t in targets for m, u in (("psnr", "PSNR, dB"), ("ssim", "SSIM"))]
        for axes, (target, measure, unit) in zip(panels, titles, strict=True):
            for y, method in enumerate(methods):
                _dot(axes, results, method, last, f"{measure}_{target}", y)
                theirs = published.ablations.get(method) or published.base["autocontrast"].get(last)
                if target == "autocontrast" and theirs and (method in published.ablations or method == BASE):
                    axes.plot(theirs[measure == "ssim"], y, "s", color=_OTHER, markerfacecolor="none", label="the report")
            axes.set_title(f"{unit} against {AGAINST[target]}")
            axes.set_yticks(range(len(methods)), methods)
            axes.grid(axis="x", visible=False)
        panels[0].invert_yaxis()
        handles = dict(zip(*reversed(panels[0].get_legend_handles_labels()), strict=True))
        panels[0].legend(handles.values(), handles.keys(), fontsize=7.5, loc="best")
        height = figure.get_figheight()
        figure.subplots_adjust(left=0.1, right=0.99, top=1 - 0.3 / height, bottom=0.3 / height, wspace=0.1)
        return _drawn(figure, name)


def _dot(axes: Any, results: Results, method: str, epoch: int, measure: str, y: int) -> None:
    average = results.average(method, epoch)
    if average is None:
        return
    if measure in average.intervals:
        axes.plot(average.intervals[measure], (y, y), "-", color=_OURS, alpha=0.5, linewidth=3, solid_capstyle="butt")
    axes.plot(average.means[measure], y, "o", color=_OURS, label="ours")


def _drawn(figure: Figure, name: str) -> Drawing:
    png, svg = io.BytesIO(), io.StringIO()
    FigureCanvasAgg(figure)
    figure.savefig(png, format="png", dpi=100, metadata={"Software": None})
    with mpl.rc_context({"svg.hashsalt": name}):  # reproducible ids that differ from those of other drawings
        figure.savefig(svg, format="svg", metadata={"Date": None})
    return Drawing(_inline(svg.getvalue(), name), png.getvalue())


def _inline(svg: str, name: str) -> str:
    """An SVG file as an element of a page: without declaration, fixed size and background, and with unique ids."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg [^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg [^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'<g id="patch_\d+">\s*<path [^>]*style="fill: #ffffff[^>]*/>\s*</g>', "", svg)
    svg = re.sub(r' id="([^"]+)"', rf' id="{name}-\1"', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", svg)
    for color, variable in _PAGE_COLORS.items():
        svg = svg.replace(color, variable)
    return svg.replace("<svg ", '<svg role="img" aria-hidden="true" ', 1)
