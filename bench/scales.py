"""``zdce bench scales``: accuracy and speed with the curve estimated on a smaller image."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from zdce import Enhancer
from zdce.io import images
from zdce.metrics import similarity
from zdce.models.network import DCENet
from zdce.runtime import atomic, progress, system
from zdce.settings import EnhanceSettings

from .rows import Row, spread
from .timing import Clock, rounds

SUITE = "scales"
SCALES = (1, 2, 4, 8, 12, 16)


def run(model: DCENet, paths: Sequence[Path], settings: EnhanceSettings | None = None, seconds: float = 1.0) -> list[Row]:
    """Rows with PSNR to scale 1 and frames per second, of each picture at each scale, then of all pictures together.

    Args:
        model: the network.
        paths: pictures.
        settings: settings of enhancement; the scale is replaced.
        seconds: time to measure a picture for, at all scales together.

    Raises:
        OSError: a picture can't be read.
    """
    enhancers = {scale: Enhancer(model, settings, scale=scale) for scale in SCALES}
    clock, device = Clock("cpu"), system.processor()
    rows: list[Row] = []
    for path in progress.track(paths, len(paths), "scales"):
        picture = images.read_rgb(path)
        exact = images.as_uint8(enhancers[1](picture))
        measured = {str(s): partial(clock.intervals, partial(enhancer, picture)) for s, enhancer in enhancers.items()}
        times = rounds(measured, seconds)
        shape = f"{picture.shape[0]}x{picture.shape[1]}"
        for scale, enhancer in enhancers.items():
            rates = [1 / run[0] for run in times[str(scale)]]
            rows.append(_row(path.name, scale, "rate", "frames/s", spread(rates), shape, device))
            psnr = similarity.psnr(images.as_uint8(enhancer(picture)), exact)
            if math.isfinite(psnr):  # infinite for equal results: at scale 1, and of pictures of one colour
                rows.append(_row(path.name, scale, "psnr", "dB", (psnr, None, None), shape, device))
    return [*rows, *_all(rows, device)]


def _row(
    case: str, scale: int, metric: str, unit: str, value: tuple[float, float | None, float | None], shape: str, device: str
) -> Row:
    return Row(SUITE, case, f"scale {scale}", "both", metric, unit, *value, shape, "uint8", torch.get_num_threads(), device)


def _all(rows: list[Row], device: str) -> list[Row]:
    """Median and spread over the pictures, which may differ in size."""
    together = []
    for scale in SCALES:
        for metric, unit in (("psnr", "dB"), ("rate", "frames/s")):
            values = [row.value for row in rows if (row.provider, row.metric) == (f"scale {scale}", metric)]
            if values:
                together.append(_row("all", scale, metric, unit, spread(values), f"{len(values)} pictures", device))
    return together


COLUMNS = ("scale", "PSNR to scale 1 (dB)", "20-80 %", "frames/s", "x scale 1")


def table(rows: Sequence[Row]) -> list[list[str]]:
    """A line for each scale, over all pictures."""
    found = {(row.provider, row.metric): row for row in rows if row.case == "all"}
    first = found[f"scale {SCALES[0]}", "rate"].value
    lines = []
    for scale in SCALES:
        rate, psnr = found[f"scale {scale}", "rate"].value, found.get((f"scale {scale}", "psnr"))
        near = ["equal", ""] if psnr is None else [f"{psnr.value:.1f}", f"{psnr.p20:.1f}-{psnr.p80:.1f}"]
        lines.append([str(scale), *near, f"{rate:.2f}", f"{rate / first:.1f}"])
    return lines


def plot(rows: Sequence[Row], path: Path) -> None:
    """Chart of accuracy against speed: a point for each scale, with the spread over pictures."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = {(row.provider, row.metric): row for row in rows if row.case == "all"}
    figure = Figure(figsize=(5.5, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    points = [(found[f"scale {s}", "rate"], found[f"scale {s}", "psnr"], s) for s in SCALES if (f"scale {s}", "psnr") in found]
    rates, values = [rate.value for rate, _, _ in points], [psnr.value for _, psnr, _ in points]
    below = [psnr.value - (psnr.p20 or psnr.value) for _, psnr, _ in points]
    above = [(psnr.p80 or psnr.value) - psnr.value for _, psnr, _ in points]
    axes.errorbar(rates, values, yerr=[below, above], fmt="o-", capsize=3)
    for rate, value, (_, _, scale) in zip(rates, values, points, strict=True):
        axes.annotate(f" {scale}", (rate, value), fontsize=9)
    exact = found["scale 1", "rate"].value
    axes.axvline(exact, color="black", linestyle="--", linewidth=1, label="scale 1, exact")
    axes.set_xscale("log")
    axes.set_xlabel("frames a second")
    axes.set_ylabel("PSNR to scale 1, dB")
    axes.legend(fontsize=8)
    first = rows[0]
    figure.suptitle(f"{points[0][0].shape}, {first.threads} threads, {first.device}", fontsize=9)
    with atomic.replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)
