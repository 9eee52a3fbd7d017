"""`zdce bench` and its commands."""

import sys
from pathlib import Path
from typing import Any

import click
import torch

import zdce
from zdce.bench import cases, engines, flicker, folder, infer, layers, ops, plot, providers, scales, startup, static, steps
from zdce.bench import train as train_bench
from zdce.bench.processes import Outcome
from zdce.bench.rows import Row, to_csv
from zdce.commands import options
from zdce.commands.group import Commands
from zdce.commands.printing import print_json, print_table
from zdce.enhancement import batch, video
from zdce.errors import InputError
from zdce.io import images
from zdce.models.variants import VARIANTS
from zdce.runtime import atomic


@click.group(cls=Commands)
def bench() -> None:
    """How fast, how large, how near to what the machine can do."""


def _size(ctx: click.Context, parameter: click.Parameter, text: str) -> tuple[int, int]:
    """``256`` or ``480x640`` as height and width."""
    height, _, width = text.partition("x")
    try:
        return int(height), int(width or height)
    except ValueError:
        raise click.BadParameter(f"expected a side or HEIGHTxWIDTH in pixels, got {text!r}") from None


def _save_rows(rows: list[Row], csv_path: Path | None, as_json: bool) -> None:
    if csv_path is not None:
        atomic.write_text(csv_path, to_csv(rows))
    if as_json:
        print_json([row.to_dict() for row in rows])


@bench.command("ops")
@click.option("--batch", type=click.IntRange(min=1), default=8)
@click.option("--size", callback=_size, default="256", help="Side in pixels, or HEIGHTxWIDTH.")
@click.option("--iterations", type=click.IntRange(1, 16), default=8)
@click.option("--dtype", type=click.Choice(list(cases.DTYPES)), default="float32")
@click.option("--layout", type=click.Choice(list(cases.LAYOUTS)), default="contiguous")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu")
@click.option("--threads", type=click.IntRange(min=1), help="Of the CPU.  [default: torch's own number]")
@click.option(
    "--case", "chosen", type=click.Choice(list(cases.CASES)), multiple=True, help="Operation to measure; may be repeated."
)
@click.option(
    "--provider",
    "peers",
    type=click.Choice(list(providers.PROVIDERS)),
    multiple=True,
    help="Library to measure; may be repeated.",
)
@click.option("--quick", is_flag=True, help="Two images and few rounds, under a minute.")
@click.option("--default-allocator", is_flag=True, help="A second table, with the C library's allocator as it is.")
@click.option("--scaling", is_flag=True, help="Also time per pixel of one image from 1 to 12 megapixels.")
@click.option("--plot", "plot_path", type=click.Path(path_type=Path, dir_okay=False), help="Draw a .png or .svg.")
@options.csv
@options.as_json
def bench_ops(
    size: tuple[int, int], threads: int | None, chosen: tuple[str, ...], peers: tuple[str, ...], quick: bool,
    default_allocator: bool, scaling: bool, plot_path: Path | None, csv_path: Path | None, as_json: bool, **setting: Any,
) -> None:  # fmt: skip
    """The operations beside the eager reference and torch.compile of it.

    All are checked against float64 first; who fails is not timed, and the exit code is 1. Times are medians with the 20th and
    80th percentile. "streaming" reads and writes what the operation must, and does nothing else.
    """
    if plot_path is not None:
        plot.check(plot_path)
    height, width = size
    asked = ops.Options(
        cases.Setting(height=height, width=width, **setting), chosen, peers, threads,
        default_allocator=default_allocator, scaling=scaling,
    )  # fmt: skip
    outcome = ops.run(ops.quick(asked) if quick else asked)
    _save_rows(outcome.rows, csv_path, as_json)
    if plot_path is not None and outcome.rows:
        plot.save(outcome.rows, plot_path)
    if not as_json:
        _show_ops(outcome.rows)
    _end(outcome)


def _sizes(ctx: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    return tuple(_size(ctx, parameter, text) for text in texts)


def _threads(ctx: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, ...]:
    """``1,2`` as numbers; one thread and all that torch uses where nothing is said."""
    return _numbers(ctx, parameter, text) or tuple(sorted({1, torch.get_num_threads()}))


def _numbers(ctx: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, ...]:
    """``1,2`` as numbers; none where nothing is said."""
    if text is None:
        return ()
    numbers = text.split(",")
    if not all(number.strip().isdecimal() and int(number) > 0 for number in numbers):
        raise click.BadParameter(f"expected numbers above 0 with commas between, got {text!r}")
    return tuple(map(int, numbers))


_each_threads = click.option(
    "--threads", callback=_threads, help="Numbers with commas between, 1,2 say.  [default: 1 and torch's own]"
)


def _end(outcome: Outcome) -> None:
    """What was left out, and exit code 1 where somebody failed the check."""
    for note in outcome.notes:
        click.echo(note, err=True)
    if outcome.wrong:
        sys.exit(1)


@bench.command("infer")
@click.option(
    "--variant",
    "chosen",
    type=click.Choice(list(VARIANTS)),
    multiple=True,
    help="With random weights; may be repeated.  [default: base]",
)
@click.option(
    "--model",
    "-m",
    "models",
    multiple=True,
    help="Weights to measure, by name or as a .safetensors file, instead of --variant.",
)
@click.option(
    "--size",
    "sizes",
    callback=_sizes,
    multiple=True,
    help="HEIGHTxWIDTH; may be repeated.  [default: 480x640 and 900x1200, scale-12 2160x3840, video 720x1280]",
)
@_each_threads
@click.option(
    "--precision", "precisions", type=click.Choice(list(infer.DTYPES)), multiple=True, default=["fp32"], help="May be repeated."
)
@click.option("--mode", "modes", type=click.Choice(engines.MODES), multiple=True, help="May be repeated.  [default: all]")
@click.option("--isa", type=click.Choice(list(infer.ISAS)), help="Hold all that can be held to an instruction set.")
@click.option(
    "--provider",
    "peers",
    type=click.Choice(list(engines.ENGINES)),
    multiple=True,
    help="Library to measure; may be repeated.  [default: all]",
)
@click.option("--quick", is_flag=True, help="The smaller size, pictures only, nothing compiled, few rounds: under a minute.")
@click.option("--plot", "plot_path", type=click.Path(path_type=Path, dir_okay=False), help="Draw a .png or .svg.")
@options.csv
@options.as_json
def bench_infer(
    chosen: tuple[str, ...], models: tuple[str, ...], sizes: tuple[tuple[int, int], ...], threads: tuple[int, ...],
    precisions: tuple[str, ...], modes: tuple[str, ...], isa: str | None, peers: tuple[str, ...], quick: bool,
    plot_path: Path | None, csv_path: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Whole networks beside eager and compiled PyTorch, and beside what reads the files of `zdce export`: torch, and with the
    extra `bench` ONNX Runtime and OpenVINO.

    Picture: a uint8 array becomes another. Network: a float tensor does. Scale-12: a picture, its curve from an image 12 times
    smaller (`zdce enhance --scale 12`), or by the network's own scale. Video: a clip of 24 frames decoded, enhanced and encoded
    (zdce alone; FFmpeg takes the threads that it likes). Each runs in a process of its own, in turns with the others, after a
    check against float64; who fails that is not timed, and the exit code is 1.
    "share" is the network's direct multiply-adds over the measured FMA peak: Winograd's fewer ones, or bfloat16, may pass 1.
    "error" is the largest, in levels of 255, for pictures beyond rounding; of videos the mean. "MiB" is what the first call
    adds to a fresh process.
    """
    if plot_path is not None:
        plot.check(plot_path)
    if models and chosen:
        raise click.UsageError("--model has its own variant: --variant can't be given too")
    defaults = infer.quick() if quick else infer.Options()
    asked = infer.Options(
        models, chosen or defaults.variants, sizes or defaults.sizes, threads, precisions, modes or defaults.modes,
        tuple(name for name in engines.ENGINES if name in (peers or defaults.engines)), isa, defaults.seconds, defaults.least,
    )  # fmt: skip
    outcome = infer.run(asked)
    _save_rows(outcome.rows, csv_path, as_json)
    if plot_path is not None and any(row.metric == "time" for row in outcome.rows):
        plot.save_engines(outcome.rows, plot_path)
    if not as_json:
        for title, lines in infer.tables(outcome.rows).items():
            print_table(title, list(infer.COLUMNS), lines, least_width=112)
        for line in infer.peaks(outcome.rows):
            click.echo(line)
    _end(outcome)


@bench.command("layers")
@click.option(
    "--variant",
    "names",
    type=click.Choice(list(VARIANTS)),
    multiple=True,
    default=list(VARIANTS),
    show_default=False,
    help="Whose layers; may be repeated.  [default: all]",
)
@click.option("--quick", is_flag=True, help="Few rounds.")
@options.csv
@options.as_json
def bench_layers(names: tuple[str, ...], quick: bool, csv_path: Path | None, as_json: bool) -> None:
    """The networks' convolutions on one core: direct, with Winograd's along one axis, and along two as the engine has it.

    All are checked against float64 first; who fails is not timed, and the exit code is 1. GMAC/s counts what the direct way
    multiplies: Winograd's fewer multiplications may pass the measured FMA peak. Rows stay in the second-level cache.
    """
    outcome = layers.run(names, 0.0, 3) if quick else layers.run(names)
    _save_rows(outcome.rows, csv_path, as_json)
    if not as_json and outcome.rows:
        print_table(f"layers: one thread, {outcome.rows[0].device}", list(layers.COLUMNS), layers.table(outcome.rows))
    _end(outcome)


@bench.command("train")
@click.option("--variant", "names", type=click.Choice(list(VARIANTS)), multiple=True, default=["base"], help="May be repeated.")
@click.option("--batch", type=click.IntRange(min=1), default=16)
@click.option("--size", type=click.IntRange(min=16), default=256, help="Side in pixels.")
@click.option("--threads", callback=_numbers, help="Numbers with commas between, 1,2 say.  [default: torch's own]")
@click.option(
    "--provider", "peers", type=click.Choice(list(steps.PROVIDERS)), multiple=True, help="Library to measure; may be repeated."
)
@click.option(
    "--seconds", type=click.FloatRange(min=0), default=20.0, help="Of each variant's rounds, which are three at least."
)
@click.option("--quick", is_flag=True, help="Two images, few rounds, short loss curves, nothing compiled.")
@click.option("--plot", "plot_path", type=click.Path(path_type=Path, dir_okay=False), help="Draw a .png or .svg.")
@options.csv
@options.as_json
def bench_train(
    names: tuple[str, ...], batch: int, size: int, threads: tuple[int, ...], peers: tuple[str, ...], seconds: float,
    quick: bool, plot_path: Path | None, csv_path: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Whole training steps beside eager PyTorch with the reference losses and what makes it faster, on the CPU.

    A step is the network ("convolutions") and the objective, their gradients, and Adam. Gradients are checked against float64
    and 200 steps' losses against eager's first; who fails is not timed, and the exit code is 1. Times are medians in
    milliseconds, "x threads" the speed over that with the fewest threads, MiB what a step needs beyond images and parameters.
    "zdce_bf16" keeps feature maps in bfloat16. Last, a short `zdce train --augment crops` on 600x400 JPEGs: how much of its
    loop, which decodes each of them, lies inside steps.
    """
    if plot_path is not None:
        plot.check(plot_path)
    asked = train_bench.Options(names, peers, batch, size, threads, seconds)
    asked = train_bench.quick(asked) if quick else asked
    outcome = train_bench.run(asked)
    _save_rows(outcome.rows, csv_path, as_json)
    if plot_path is not None and any(row.metric == "time" for row in outcome.rows):
        plot.save_steps(outcome.rows, plot_path)
    if not as_json:
        device, shape = outcome.rows[0].device, f"{asked.batch}x3x{size}x{size}"
        for (case, number), lines in train_bench.tables(outcome.rows).items():
            title = f"{case}: {shape}, {number} threads, {device} (ms)"
            print_table(title, list(train_bench.COLUMNS), lines, least_width=128)
        for line in train_bench.loops(outcome.rows):
            click.echo(line)
    _end(outcome)


@bench.command("folder")
@click.argument("pictures", type=click.Path(path_type=Path, file_okay=False, exists=True))
@options.model
@_each_threads
@click.option("--precision", type=click.Choice(list(infer.DTYPES)), default="fp32")
@options.csv
@options.as_json
def bench_folder(
    pictures: Path, model: str, threads: tuple[int, ...], precision: str, csv_path: Path | None, as_json: bool
) -> None:
    """Pictures a second of `zdce enhance PICTURES`, decoding and encoding included.

    "engine" is the enhancer's share of the time.
    """
    enhancer = zdce.Enhancer(zdce.load(model), precision)
    rows = [row for number in threads for row in folder.run(pictures, enhancer, number)]
    _save_rows(rows, csv_path, as_json)
    if not as_json:
        print_table(
            f"{model} on {pictures}: {rows[0].shape}, {rows[0].dtype}, {rows[0].device}",
            list(folder.COLUMNS),
            folder.table(rows),
        )


@bench.command("startup")
@click.option("--rounds", type=click.IntRange(min=1), default=5, help="Runs of each command.")
@options.csv
@options.as_json
def bench_startup(rounds: int, csv_path: Path | None, as_json: bool) -> None:
    """Time and memory of whole processes: help, imports, and `zdce enhance` beside Pillow that only decodes and encodes."""
    rows = startup.run(rounds)
    _save_rows(rows, csv_path, as_json)
    if not as_json:
        print_table(f"startup: {rows[0].device}", list(startup.COLUMNS), startup.table(rows))


@bench.command("static")
@click.option("--batch", type=click.IntRange(min=1), default=8)
@click.option("--size", type=click.IntRange(min=16), default=256, help="Side in pixels.")
@click.option("--iterations", type=click.IntRange(1, 16), default=8)
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32")
@click.option("--layout", type=click.Choice(list(cases.LAYOUTS)), default="contiguous")
@options.csv
@options.as_json
def bench_static(batch: int, size: int, iterations: int, dtype: str, layout: str, csv_path: Path | None, as_json: bool) -> None:
    """What is known of the GPU kernels without a GPU; with one, they are measured as well.

    Compiled for A100, H100 and B200: a kernel that spills registers or touches too much makes the exit code 1. "touched" is
    what a program reads and writes, halo included, over the least; "floor" is the time that the least takes at the published
    bandwidth, a prediction.
    """
    setting = cases.Setting(batch, size, size, iterations, dtype, layout)
    outcome = static.run(setting)
    measured = ops.run_on_gpu(setting)
    _save_rows([*outcome.rows, *measured], csv_path, as_json)
    if not as_json:
        for device, lines in static.tables(outcome.rows).items():
            columns = ["kernel", "by", *static.COLUMNS.values()]
            print_table(f"{device}, predicted: {setting.shape} {dtype}", columns, lines, least_width=160)
        _show_ops(measured)
    for line in (*outcome.notes, *outcome.faults):
        click.echo(line, err=True)
    if outcome.faults:
        sys.exit(1)


@bench.command("flicker")
@click.argument("paths", nargs=-1, required=True)
@options.model
@click.option("--fps", type=click.FloatRange(min=0, min_open=True), default=30.0, help="Pictures a second of a burst.")
@options.device
@options.scale
@options.strength
@options.smoothing
@options.csv
@options.as_json
def bench_flicker(
    paths: tuple[str, ...],
    model: str,
    fps: float,
    device: str,
    scale: int | None,
    strength: float,
    smoothing: float,
    csv_path: Path | None,
    as_json: bool,
) -> None:
    """How much videos, and bursts of pictures, flicker: as they are, enhanced frame by frame, and smoothed.

    Flicker is the mean absolute change of the mean luminance between neighbouring frames, in levels of 255; excess is that of
    the output less that of the input. Pictures whose names differ in their last number are one burst, in that order.
    """
    network = zdce.load(model).to(device)
    enhancer = zdce.Enhancer(network, scale=video.scale_for(network, scale), strength=strength)
    found = images.find(paths, batch.suffixes())
    if not found:
        raise InputError(f"no videos or pictures found: expected {', '.join(sorted(batch.suffixes()))}")
    rows = [
        row
        for sequence in flicker.sequences([f.path for f in found], fps)
        for row in flicker.measure(sequence, enhancer, smoothing)
    ]
    _save_rows(rows, csv_path, as_json)
    if not as_json:
        print_table("flicker (levels of 255)", list(flicker.COLUMNS), flicker.table(rows))


@bench.command("scales")
@click.argument("paths", nargs=-1, default=("docs/dark.jpg",))
@options.model
@click.option("--plot", "plot_path", type=click.Path(path_type=Path, dir_okay=False), help="Draw a .png or .svg.")
@options.csv
@options.as_json
def bench_scales(
    paths: tuple[str, ...], model: str, plot_path: Path | None, csv_path: Path | None, as_json: bool
) -> None:  # fmt: skip
    """What a smaller image for the curve costs and saves: PSNR to scale 1, and frames a second, on pictures of yours.

    Medians over the pictures with the 20th and 80th percentile; --csv and --json have each picture too.
    """
    if plot_path is not None:
        plot.check(plot_path)
    found = images.find(paths)
    if not found:
        raise InputError(f"no pictures found: expected {', '.join(sorted(images.SUFFIXES))}")
    rows = scales.run(zdce.load(model), [picture.path for picture in found])
    _save_rows(rows, csv_path, as_json)
    if plot_path is not None:
        scales.plot(rows, plot_path)
    if not as_json:
        pictures = "1 picture" if len(found) == 1 else f"{len(found)} pictures"
        title = f"{model}: {pictures}, {rows[0].threads} threads, {rows[0].device}"
        print_table(title, list(scales.COLUMNS), scales.table(rows))


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
