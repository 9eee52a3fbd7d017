"""Charts of the rows of ``zdce bench ops``, ``zdce bench infer``, ``zdce bench layers`` and ``zdce bench train``."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from zdce.errors import InputError
from zdce.models.variants import VARIANTS
from zdce.runtime import atomic, packages

from .cases import CASES
from .engines import PICTURE
from .measuring import STREAMING
from .providers import PROVIDERS
from .rows import Row
from .steps import PARTS, STEP

SUFFIXES = (".png", ".svg")
_COLORS = dict(zip(PROVIDERS, ("#9a9a9a", "#5b8db8", "#d9822b", "#5a9e6f", "#8a63b5"), strict=True))


def check(path: Path) -> None:
    """Checks the file name and matplotlib before measurements.

    Raises:
        InputError: ``path`` is neither .png nor .svg, or matplotlib is missing.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"the plot must be a {' or '.join(SUFFIXES)} file, got {path.name!r}")
    packages.require("matplotlib", extra="bench")


# Of ``zdce bench infer``.
OURS = "zdce"
_LIBRARIES = {
    "torch": "PyTorch",
    "torch-channels-last": "PyTorch, channels last",
    "torch-graph": "PyTorch, CUDA graph",
    "torch-export": "torch.export",
    "torch-compile": "torch.compile",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "zdce-layers": "zdce, layer by layer",
}

# Draws on the given axes.
Panel = Callable[[Any], None]


def save(rows: Sequence[Row], path: Path) -> None:
    """Chart of forward and backward together: a panel for each case of the first suite, and for each case by image size."""
    timed = [row for row in rows if row.suite == rows[0].suite and (row.mode, row.metric) == ("both", "time")]
    scaled = [row for row in rows if (row.mode, row.metric) == ("both", "time_per_pixel")]
    panels: dict[str, Panel] = {}
    for draw, of, name in ((_bars, timed, "{}"), (_curves, scaled, "{}, by size")):
        for case in CASES:
            if own := [row for row in of if row.case == case]:
                panels[name.format(case)] = partial(draw, rows=own)
    first = rows[0]
    _save(panels, f"{first.shape} {first.dtype}, {first.threads} threads, {first.device}", path)


def save_engines(rows: Sequence[Row], path: Path) -> None:
    """Chart of milliseconds per picture: a panel for each network, size, precision, mode and number of threads.

    On a GPU it is milliseconds per batch, with a panel for each size of batches.
    """
    timed: dict[str, list[Row]] = {}
    for row in rows:
        if row.metric == "time":
            batch, _, height, width = row.shape.split("x")
            precision = "" if row.dtype == "float32" else f" {row.dtype}"
            mode = "" if row.mode == PICTURE else f" {row.mode}"
            how = f"batch {batch}" if row.threads is None else _of_threads(row)
            timed.setdefault(f"{row.case}{precision}{mode}, {width} x {height}, {how}", []).append(row)
    _save(
        {title: partial(_engine_bars, rows=own) for title, own in timed.items()},
        f"time of a {'batch' if rows[0].threads is None else 'picture'}, less is better\n({rows[0].device})",
        path,
    )


def save_steps(rows: Sequence[Row], path: Path) -> None:
    """Chart of milliseconds per training step by part: a panel for each variant and number of threads."""
    timed: dict[str, list[Row]] = {}
    for row in rows:
        if row.metric == "time":
            timed.setdefault(f"{row.case}, {_of_threads(row)}", []).append(row)
    panels: dict[str, Panel] = {title: partial(_step_bars, rows=own) for title, own in timed.items()}
    first = next(row for own in timed.values() for row in own)
    _save(panels, f"training steps: {first.shape}, {first.device}", path)


def save_layers(rows: Sequence[Row], names: Sequence[str], path: Path) -> None:
    """Chart of the engine's nanoseconds a pixel by layer, a panel for each of the variants ``names``.

    Of the rates it takes the 80th percentile: other programs on the machine only slow layers down.
    """
    rates = {row.case: row.p80 or row.value for row in rows if (row.mode, row.metric) == ("engine", "rate")}
    panels: dict[str, Panel] = {}
    for name in names:
        shapes = [] if VARIANTS[name].separable else VARIANTS[name].convolutions()
        # Multiply-adds a pixel over GMAC/s are nanoseconds.
        times = {
            f"{layer}: {inputs} to {outputs}": 9 * inputs * outputs / rates[f"{inputs} to {outputs}"]
            for layer, (inputs, outputs) in enumerate(shapes, 1)
            if f"{inputs} to {outputs}" in rates
        }
        if times:
            panels[f"{name}, {sum(times.values()):.3g} ns in all layers"] = partial(_layer_bars, times=times)
    _save(panels, f"ns a pixel in each layer, one thread, {rows[0].device}", path)


def _of_threads(row: Row) -> str:
    return f"{row.threads} thread{'' if row.threads == 1 else 's'}"


def _save(panels: dict[str, Panel], title: str, path: Path) -> None:
    check(path)
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    across = min(3, len(panels))
    down = -(-len(panels) // across)
    figure = Figure(figsize=(4.5 * across, 2.6 * down), layout="constrained")
    FigureCanvasAgg(figure)
    for i, (name, draw) in enumerate(panels.items()):
        axes = figure.add_subplot(down, across, i + 1)
        axes.set_title(name, fontsize=10)
        draw(axes)
    figure.suptitle(title, fontsize=10)
    # White behind the text, on which it is read in dark pages too; no date, so that equal figures give equal files.
    metadata = {"Date": None} if path.suffix.lower() == ".svg" else None
    with atomic.replacing(path) as temporary, rc_context({"svg.hashsalt": "zdce"}):
        figure.savefig(temporary, dpi=150, facecolor="white", metadata=metadata)


def _engine_bars(axes: Any, rows: list[Row]) -> None:
    rows = sorted(rows, key=lambda row: row.value)
    ours = next((row.value for row in rows if row.provider == OURS), None)
    names = [_LIBRARIES.get(row.provider, row.provider) for row in rows]
    axes.barh(names, [row.value for row in rows], color=["#d9822b" if row.provider == OURS else "#8fa9bf" for row in rows])
    for name, row in zip(names, rows, strict=True):
        ratio = "" if ours is None or row.provider == OURS else f"  ({row.value / ours:.1f} x)"
        weight = "bold" if row.provider == OURS else "normal"
        axes.annotate(f" {row.value:.3g} ms{ratio}", (row.value, name), va="center", fontsize=9, weight=weight)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.45 * max(row.value for row in rows))
    axes.set_xticks([])
    axes.tick_params("y", length=0)
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def _step_bars(axes: Any, rows: list[Row]) -> None:
    providers = list(dict.fromkeys(row.provider for row in rows))
    ends = dict.fromkeys(providers, 0.0)
    # Steps that are one CUDA graph have no parts.
    whole = {row.provider for row in rows} - {row.provider for row in rows if row.mode in PARTS}
    for part, color in zip((*PARTS, STEP), ("#5b8db8", "#d9822b", "#9a9a9a", "#5a9e6f"), strict=True):
        widths = {row.provider: row.value for row in rows if row.mode == part and (part != STEP or row.provider in whole)}
        if widths:
            axes.barh(list(widths), list(widths.values()), left=[ends[name] for name in widths], color=color, label=part)
        ends |= {name: ends[name] + width for name, width in widths.items()}
    for row in rows:
        if row.mode == STEP:
            axes.annotate(f" {row.value:.4g}", (ends[row.provider], row.provider), va="center", fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.18 * max(ends.values()))
    axes.set_xlabel("ms a step", fontsize=8)
    axes.legend(fontsize=7, loc="lower right")


def _layer_bars(axes: Any, times: dict[str, float]) -> None:
    axes.barh(list(times), list(times.values()), color="#5b8db8")
    for name, value in times.items():
        axes.annotate(f" {value:.3g}", (value, name), va="center", fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.18 * max(times.values()))
    axes.set_xlabel("ns a pixel", fontsize=8)


def _labelled_bars(axes: Any, rows: list[Row], colors: list[str]) -> None:
    axes.barh([row.provider for row in rows], [row.value for row in rows], color=colors)
    for row in rows:
        axes.annotate(f" {row.value:.3g}", (row.value, row.provider), va="center", fontsize=8)
    axes.invert_yaxis()


def _bars(axes: Any, rows: list[Row]) -> None:
    providers = [row for row in rows if row.provider != STREAMING]
    _labelled_bars(axes, providers, [_COLORS.get(row.provider, "#444444") for row in providers])
    for row in rows:
        if row.provider == STREAMING:
            axes.axvline(row.value, color="black", linestyle="--", linewidth=1, label="streaming the same bytes")
            axes.legend(fontsize=7, loc="lower right")
    axes.set_xlim(0, 1.18 * max(row.value for row in rows))
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
