"""`zdce bench ops`, `static` and `layers`: parts of networks, measured and predicted."""

import sys
from pathlib import Path
from typing import Any

import click

from zdce.bench import cases, layers, network_costs, ops, plot, providers, static
from zdce.bench.rows import Row
from zdce.commands import bench_options, options
from zdce.commands.printing import print_table
from zdce.models.variants import VARIANTS
from zdce.settings import MAX_ITERATIONS


@click.command("ops")
@click.option("--batch-size", "batch", type=click.IntRange(min=1), default=8, help="Number of images.")
@click.option("--size", callback=options.size, default="256", help="Side in pixels, or HEIGHTxWIDTH.")
@click.option("--iterations", type=click.IntRange(1, MAX_ITERATIONS), default=8, help="Steps of the curve.")
@click.option("--dtype", type=click.Choice(list(cases.DTYPES)), default="float32", help="Type of the tensors.")
@click.option("--layout", type=click.Choice(list(cases.LAYOUTS)), default="contiguous", help="Memory layout of the tensors.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", help="Device to measure.")
@click.option("--threads", type=click.IntRange(min=1), help="Number of CPU threads.  [default: torch's own number]")
@bench_options.several("--case", "chosen", cases.CASES, "Operation to measure")
@bench_options.several("--provider", "peers", providers.PROVIDERS, "Library to measure")
@click.option("--quick", is_flag=True, help="Measure two images in few rounds, in less than a minute.")
@click.option("--default-allocator", is_flag=True, help="Also measure with the default settings of the C library's allocator.")
@click.option("--scaling", is_flag=True, help="Also measure the time per pixel of one image of 1 to 12 megapixels.")
@options.plot
@options.csv
@options.as_json
def bench_ops(
    size: tuple[int, int], threads: int | None, chosen: tuple[str, ...], peers: tuple[str, ...], quick: bool,
    default_allocator: bool, scaling: bool, plot_path: Path | None, csv_path: Path | None, as_json: bool, **setting: Any,
) -> None:  # fmt: skip
    """Measure operations beside eager and compiled PyTorch.

    All results are first checked against float64; a wrong one is not timed, and the exit code is 1. Times are medians with the
    20th and 80th percentile. "streaming" only reads and writes the bytes that the operation must read and write.
    """
    if plot_path is not None:
        plot.check(plot_path)
    height, width = size
    asked = ops.Options(
        cases.Setting(height=height, width=width, **setting), chosen, peers, threads,
        default_allocator=default_allocator, scaling=scaling,
    )  # fmt: skip
    outcome = ops.run(ops.quick(asked) if quick else asked)
    bench_options.save_rows(outcome.rows, csv_path, as_json)
    if plot_path is not None and outcome.rows:
        plot.save(outcome.rows, plot_path)
    if not as_json:
        _show_ops(outcome.rows)
    bench_options.end(outcome)


@click.command("static")
@click.option("--batch-size", "batch", type=click.IntRange(min=1), default=8, help="Number of images.")
@click.option("--size", type=click.IntRange(min=16), default=256, help="Side in pixels.")
@click.option("--iterations", type=click.IntRange(1, MAX_ITERATIONS), default=8, help="Steps of the curve.")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32", help="Type of the tensors.")
@click.option("--layout", type=click.Choice(list(cases.LAYOUTS)), default="contiguous", help="Memory layout of the tensors.")
@options.csv
@options.as_json
def bench_static(batch: int, size: int, iterations: int, dtype: str, layout: str, csv_path: Path | None, as_json: bool) -> None:
    """Compile the GPU kernels and show the compilers' reports.

    They are compiled for A100, H100 and B200; where there is a GPU, they are measured too. If a kernel spills registers or
    accesses too much memory, the exit code is 1. "touched" is the memory that a program accesses, halo included, divided by the
    minimum; "floor" is a prediction: the time of the minimum at the published bandwidth.

    For networks that are one kernel, a second table predicts the time of one picture by counting, in microseconds: "products"
    is the time of the tensor cores, "passes" that of the shared memory, "least" the longer of the two. "work" is the number of
    products, with those of the blocks' margins, divided by that without margins.
    """
    setting = cases.Setting(batch, size, size, iterations, dtype, layout)
    outcome = static.run(setting)
    measured = ops.run_on_gpu(setting)
    bench_options.save_rows([*outcome.rows, *measured], csv_path, as_json)
    if not as_json:
        for device, lines in static.tables(outcome.rows).items():
            columns = ["kernel", "by", *static.COLUMNS.values()]
            print_table(f"{device}, predicted: {setting.shape} {dtype}", columns, lines, least_width=160)
        for device, lines in network_costs.tables(outcome.rows).items():
            columns = ["network", *network_costs.COLUMNS.values()]
            print_table(f"{device}, predicted: networks as one kernel, bfloat16", columns, lines)
        _show_ops(measured)
    for line in (*outcome.notes, *outcome.faults):
        click.echo(line, err=True)
    if outcome.faults:
        sys.exit(1)


def _show_ops(rows: list[Row]) -> None:
    for suite in ops.suites(rows):
        own = next(row for row in rows if row.suite == suite)
        where = f"{own.dtype}, {own.threads} threads, {own.device}"
        if suite == ops.SCALING:
            print_table(f"{suite}: {where}", list(ops.SCALING_COLUMNS), ops.scaling_table(rows), least_width=112)
        else:
            click.echo(f"{suite}: {own.shape} {where}")
            for case, lines in ops.tables(rows, suite).items():
                print_table(f"{case} (ms)", list(ops.COLUMNS), lines, least_width=160)


@click.command("layers")
@bench_options.several("--variant", "names", VARIANTS, "Variant whose layers are measured", list(VARIANTS), unset="all")
@click.option("--quick", is_flag=True, help="Measure few rounds.")
@options.plot
@options.csv
@options.as_json
def bench_layers(names: tuple[str, ...], quick: bool, plot_path: Path | None, csv_path: Path | None, as_json: bool) -> None:
    """Measure each convolution of the networks on one core.

    It is computed directly, by Winograd's method along one axis, and along two axes as in the engine. All results are first
    checked against float64; a wrong one is not timed, and the exit code is 1. GMAC/s counts the
    multiplications of the direct method: Winograd needs fewer, so it can exceed the measured FMA peak. Rows stay in the
    second-level cache.
    """
    if plot_path is not None:
        plot.check(plot_path)
    outcome = layers.run(names, 0.0, 3) if quick else layers.run(names)
    bench_options.save_rows(outcome.rows, csv_path, as_json)
    if plot_path is not None and any(row.metric == "rate" for row in outcome.rows):
        plot.save_layers(outcome.rows, names, plot_path)
    if not as_json and outcome.rows:
        print_table(f"layers: one thread, {outcome.rows[0].device}", list(layers.COLUMNS), layers.table(outcome.rows))
    bench_options.end(outcome)
