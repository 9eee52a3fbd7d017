"""Rows of ``zdce bench ops`` as a picture."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zdce import atomic

from .cases import CASES
from .measuring import STREAMING
from .providers import PROVIDERS
from .rows import Row

SUFFIXES = (".png", ".svg")
_COLORS = dict(zip(PROVIDERS, ("#9a9a9a", "#5b8db8", "#d9822b", "#5a9e6f", "#8a63b5"), strict=True))


def check(path: Path) -> None:
    """To be asked before anything is measured.

    Raises:
        ValueError: ``path`` is neither .png nor .svg, or matplotlib is missing.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"the plot must be a {' or '.join(SUFFIXES)} file, got {path.name!r}")
    try:
        importlib.import_module("matplotlib")
    except ImportError as error:
        raise ValueError(f"a plot needs matplotlib ({error}): pip install 'zdce[bench]'") from error


def save(rows: Sequence[Row], path: Path) -> None:
    """Forward and backward together, a panel for each case of the first suite, and one for each that was scaled."""
    check(path)
    backend, figures = (importlib.import_module(f"matplotlib.{part}") for part in ("backends.backend_agg", "figure"))
    timed = [row for row in rows if row.suite == rows[0].suite and (row.mode, row.metric) == ("both", "time")]
    scaled = [row for row in rows if (row.mode, row.metric) == ("both", "time_per_pixel")]
    panels = [(_bars, timed, case) for case in CASES if any(row.case == case for row in timed)]
    panels += [(_curves, scaled, case) for case in CASES if any(row.case == case for row in scaled)]
    across = min(3, len(panels))
    down = -(-len(panels) // across)
    figure = figures.Figure(figsize=(4.5 * across, 2.6 * down), layout="constrained")
    backend.FigureCanvasAgg(figure)
    for i, (draw, of, case) in enumerate(panels):
        axes = figure.add_subplot(down, across, i + 1)
        axes.set_title(case, fontsize=10)
        draw(axes, [row for row in of if row.case == case])
    first = rows[0]
    figure.suptitle(f"{first.shape} {first.dtype}, {first.threads} threads, {first.device}", fontsize=10)
    with atomic.replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _bars(axes: Any, rows: list[Row]) -> None:
    providers = [row for row in rows if row.provider != STREAMING]
    names = [row.provider for row in providers]
    axes.barh(names, [row.value for row in providers], color=[_COLORS.get(name, "#444444") for name in names])
    for row in providers:
        axes.annotate(f" {row.value:.3g}", (row.value, row.provider), va="center", fontsize=8)
    for row in rows:
        if row.provider == STREAMING:
            axes.axvline(row.value, color="black", linestyle="--", linewidth=1, label="streaming the same bytes")
            axes.legend(fontsize=7, loc="lower right")
    axes.set_xlim(0, 1.18 * max(row.value for row in rows))
    axes.invert_yaxis()
    axes.set_xlabel("forward + backward, ms", fontsize=8)


def _curves(axes: Any, rows: list[Row]) -> None:
    for name in dict.fromkeys(row.provider for row in rows):
        own = [row for row in rows if row.provider == name]
        axes.plot([_megapixels(row) for row in own], [row.value for row in own], "o-", label=name, color=_COLORS.get(name))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("megapixels", fontsize=8)
    axes.set_ylabel("ns a pixel", fontsize=8)
    axes.legend(fontsize=7)


def _megapixels(row: Row) -> float:
    _, _, height, width = map(int, row.shape.split()[0].split("x"))
    return height * width / 1e6
