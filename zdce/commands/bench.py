"""`zdce bench` and its commands."""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch
from click.core import ParameterSource

import zdce
from zdce.bench import browser as browser_bench
from zdce.bench import (
    cases,
    engines,
    flicker,
    folder,
    infer,
    infer_gpu,
    layers,
    network_costs,
    ops,
    plot,
    providers,
    scales,
    startup,
    static,
    steps,
    threads,
)
from zdce.bench import live as live_bench
from zdce.bench import train as train_bench
from zdce.bench.processes import Outcome
from zdce.bench.rows import Row, to_csv
from zdce.commands import options
from zdce.commands.group import Commands
from zdce.commands.printing import print_json, print_table
from zdce.enhancement import batch, live, video
from zdce.errors import InputError
from zdce.io import images
from zdce.models.variants import CURVE, VARIANTS
from zdce.runtime import atomic, packages
from zdce.settings import EnhanceSettings


@click.group(cls=Commands)
def bench() -> None:
    """Measure speed and memory, where possible beside other libraries."""


def _several(
    name: str, argument: str, choices: Iterable[str], what: str, default: Sequence[str] = (), unset: str | None = None
) -> Callable[..., Any]:
    """Option that takes some of ``choices``; ``unset`` describes the default in its help."""
    text = f"{what}; may be repeated." + (f"  [default: {unset}]" if unset else "")
    given: dict[str, Any] = {"default": list(default), "show_default": unset is None} if default else {}
    return click.option(name, argument, type=click.Choice(list(choices)), multiple=True, help=text, **given)


def _save_rows(rows: list[Row], csv_path: Path | None, as_json: bool) -> None:
    try:
        if csv_path is not None:
            atomic.write_text(csv_path, to_csv(rows))
    except OSError:  # Measuring may have taken minutes.
        if not as_json:
            click.echo(to_csv(rows), nl=False)
        raise
    finally:
        if as_json:
            print_json([row.to_dict() for row in rows])


@bench.command("ops")
@click.option("--batch-size", "batch", type=click.IntRange(min=1), default=8, help="Number of images.")
@click.option("--size", callback=options.size, default="256", help="Side in pixels, or HEIGHTxWIDTH.")
@click.option("--iterations", type=click.IntRange(1, 16), default=8, help="Steps of the curve.")
@click.option("--dtype", type=click.Choice(list(cases.DTYPES)), default="float32", help="Type of the tensors.")
@click.option("--layout", type=click.Choice(list(cases.LAYOUTS)), default="contiguous", help="Memory layout of the tensors.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", help="Device to measure.")
@click.option("--threads", type=click.IntRange(min=1), help="Number of CPU threads.  [default: torch's own number]")
@_several("--case", "chosen", cases.CASES, "Operation to measure")
@_several("--provider", "peers", providers.PROVIDERS, "Library to measure")
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
    _save_rows(outcome.rows, csv_path, as_json)
    if plot_path is not None and outcome.rows:
        plot.save(outcome.rows, plot_path)
    if not as_json:
        _show_ops(outcome.rows)
    _end(outcome)


def _sizes(ctx: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    return tuple(options.size(ctx, parameter, text) for text in texts)


def _threads(ctx: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, ...]:
    """Text such as ``1,2`` as numbers; by default one thread and torch's own number."""
    return _numbers(ctx, parameter, text) or tuple(sorted({1, torch.get_num_threads()}))


def _numbers(ctx: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, ...]:
    """Text such as ``1,2`` as numbers; empty by default."""
    if text is None:
        return ()
    numbers = text.split(",")
    if not all(number.strip().isdecimal() and int(number) > 0 for number in numbers):
        raise click.BadParameter(f"expected numbers above 0, separated by commas, got {text!r}")
    return tuple(map(int, numbers))


_each_threads = click.option(
    "--threads", callback=_threads, help="Numbers of threads, separated by commas, such as 1,2.  [default: 1 and torch's own]"
)


def _end(outcome: Outcome) -> None:
    """Prints notes on what was left out; exits with code 1 if a result was wrong."""
    for note in outcome.notes:
        click.echo(note, err=True)
    if outcome.wrong:
        sys.exit(1)


@bench.command("infer")
@_several("--variant", "chosen", VARIANTS, "Variant to measure, with random weights", unset="base")
@options.models("Network to measure instead of --variant")
@click.option(
    "--size",
    "sizes",
    callback=_sizes,
    multiple=True,
    help="Size as HEIGHTxWIDTH; may be repeated.  [default: 480x640 and 900x1200, scale-12 2160x3840, video 720x1280;"
    " on a GPU 1080x1920 and 2160x3840]",
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", help="Device to measure.")
@click.option(
    "--batch-size",
    "batches",
    type=click.IntRange(min=1),
    multiple=True,
    help="Number of pictures at once, on a GPU; may be repeated.  [default: 1]",
)
@_each_threads
@_several("--precision", "precisions", infer.DTYPES, "Precision to measure", unset="fp32; on a GPU both")
@_several("--mode", "modes", engines.MODES, "Mode to measure", unset="all; on a GPU picture")
@click.option("--isa", type=click.Choice(list(infer.ISAS)), help="Limit the libraries that allow it to this instruction set.")
@_several("--provider", "peers", dict.fromkeys([*engines.ENGINES, *infer_gpu.PROVIDERS]), "Library to measure", unset="all")
@click.option(
    "--quick",
    is_flag=True,
    help="Measure pictures of the smaller size in few rounds, without torch.compile, in less than a minute.",
)
@options.plot
@options.csv
@options.as_json
@click.pass_context
def bench_infer(
    ctx: click.Context, chosen: tuple[str, ...], models: tuple[str, ...], sizes: tuple[tuple[int, int], ...], device: str,
    batches: tuple[int, ...], threads: tuple[int, ...], precisions: tuple[str, ...], modes: tuple[str, ...], isa: str | None,
    peers: tuple[str, ...], quick: bool, plot_path: Path | None, csv_path: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Measure whole networks beside other libraries.

    These are eager and compiled PyTorch, and programs that run the files of `zdce export`: torch.export and, with the extra
    `bench`, ONNX Runtime and OpenVINO. Each library runs in its own process, in turns with the others, after a check against
    float64; a wrong one is not timed, and the exit code is 1.

    Mode picture: uint8 array to uint8 array. Mode network: float tensor to float tensor. Mode scale-12: a picture whose curve
    is estimated on an image 12 times smaller (`zdce enhance --scale 12`), or at the network's own scale. Mode video: a clip of
    24 frames, decoded, enhanced and encoded (only zdce; FFmpeg chooses its own number of threads).

    "share" is the rate of multiply-adds, counted as in direct convolutions, over the measured FMA peak. It can exceed 1,
    because Winograd convolutions need fewer and bfloat16 is faster. "error" is the largest difference in levels of 255
    (pictures: without rounding; videos: the mean). "MiB" is the memory that the first call adds to a new process. In bf16, zdce
    and OpenVINO compute in float32 if the processor is slower in bfloat16.

    On a GPU (--device cuda) all are measured in one process, from uint8 pictures in its memory to the same, with events after
    a warm-up; copies to and from the host are not included. "zdce-layers" is zdce without its kernel for whole networks,
    "torch-graph" PyTorch as a CUDA graph; torch-compile is "max-autotune". "share" is of the measured rate of a matrix product
    in bfloat16. "least ms" is what `zdce bench static` predicts for the kernel. "MiB" is the GPU's memory beyond the pictures.
    """
    if plot_path is not None:
        plot.check(plot_path)
    if models and chosen:
        raise click.UsageError("--model includes its variant: --variant can't be given too")
    _check_for_device(ctx, device, peers)
    if device == "cuda":
        asked_of_gpu = _gpu_job(models, chosen, sizes, batches, precisions, peers, quick)
        outcome, tables, columns = infer_gpu.run(asked_of_gpu), infer_gpu.tables, infer_gpu.COLUMNS
    else:
        defaults = infer.quick() if quick else infer.Options()
        asked = infer.Options(
            models, chosen or defaults.variants, sizes or defaults.sizes, threads, precisions or defaults.precisions,
            modes or defaults.modes, tuple(name for name in engines.ENGINES if name in (peers or defaults.engines)), isa,
            defaults.seconds, defaults.least,
        )  # fmt: skip
        outcome, tables, columns = infer.run(asked), infer.tables, infer.COLUMNS
    _save_rows(outcome.rows, csv_path, as_json)
    if plot_path is not None and any(row.metric == "time" for row in outcome.rows):
        plot.save_engines(outcome.rows, plot_path)
    if not as_json:
        for title, lines in tables(outcome.rows).items():
            print_table(title, list(columns), lines, least_width=112)
        for line in infer.peaks(outcome.rows):
            click.echo(line)
    _end(outcome)


# Options that the other device has no use for.
_ONLY_FOR = {"cpu": {"threads": "--threads", "modes": "--mode", "isa": "--isa"}, "cuda": {"batches": "--batch-size"}}


def _check_for_device(ctx: click.Context, device: str, peers: tuple[str, ...]) -> None:
    """Refuses options and libraries that are not measured on ``device``."""
    for other, flags in _ONLY_FOR.items():
        for parameter, flag in flags.items():
            if other != device and ctx.get_parameter_source(parameter) is not ParameterSource.DEFAULT:
                raise click.UsageError(f"{flag} needs --device {other}")
    here: Iterable[str] = infer_gpu.PROVIDERS if device == "cuda" else engines.ENGINES
    if absent := [name for name in peers if name not in here]:
        raise click.UsageError(f"--provider {absent[0]} is not measured on {device}: expected {', '.join(here)}")


def _gpu_job(
    models: tuple[str, ...], variants: tuple[str, ...], sizes: tuple[tuple[int, int], ...], batches: tuple[int, ...],
    precisions: tuple[str, ...], providers: tuple[str, ...], quick: bool,
) -> infer_gpu.Job:  # fmt: skip
    usual = infer_gpu.quick() if quick else infer_gpu.Job()
    chosen = sizes or tuple(shape[1:] for shape in usual.shapes)
    return replace(
        usual,
        models=models,
        variants=variants or usual.variants,
        shapes=tuple((batch, *size) for batch in batches or (1,) for size in chosen),
        precisions=precisions or usual.precisions,
        providers=providers or usual.providers,
    )


@bench.command("layers")
@_several("--variant", "names", VARIANTS, "Variant whose layers are measured", list(VARIANTS), unset="all")
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
    _save_rows(outcome.rows, csv_path, as_json)
    if plot_path is not None and any(row.metric == "rate" for row in outcome.rows):
        plot.save_layers(outcome.rows, names, plot_path)
    if not as_json and outcome.rows:
        print_table(f"layers: one thread, {outcome.rows[0].device}", list(layers.COLUMNS), layers.table(outcome.rows))
    _end(outcome)


@bench.command("train")
@_several("--variant", "names", [n for n, v in VARIANTS.items() if v.formula == CURVE], "Variant to train", ["base"])
@click.option("--batch-size", "batch", type=click.IntRange(min=1), default=16, help="Number of images.")
@click.option("--size", type=click.IntRange(min=16), default=256, help="Side in pixels.")
@click.option(
    "--threads", callback=_numbers, help="Numbers of threads, separated by commas, such as 1,2.  [default: torch's own]"
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", help="Device to measure.")
@_several("--provider", "peers", steps.PROVIDERS | steps.GPU_PROVIDERS, "Library to measure")
@click.option(
    "--seconds",
    type=options.FiniteRange(min=0),
    default=20.0,
    help="Time to measure each variant for, in at least three rounds.",
)
@click.option(
    "--quick", is_flag=True, help="Measure two images in few rounds, with short loss curves and without torch.compile."
)
@options.plot
@options.csv
@options.as_json
def bench_train(
    names: tuple[str, ...], batch: int, size: int, threads: tuple[int, ...], device: str, peers: tuple[str, ...],
    seconds: float, quick: bool, plot_path: Path | None, csv_path: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Measure whole training steps beside PyTorch.

    PyTorch runs with the reference losses, eagerly and in faster ways. A step is the network ("convolutions"), the objective,
    their gradients, and Adam. First, gradients are checked against float64 and the losses of 200 steps against eager PyTorch's;
    a wrong provider is not timed, and the exit code is 1.

    Times are medians in milliseconds, "x threads" is the speed relative to the fewest threads, "MiB" the memory of a step
    beyond images and parameters. "zdce_bf16" keeps feature maps in bfloat16, "zdce_amp" also multiplies in it. At the end, a
    short `zdce train --augment crops` on 600x400 JPEGs shows the share of its loop, which decodes every picture, that is spent
    in steps.

    On a GPU, "zdce" and "zdce_amp" are steps of `zdce train` without and with --amp (float16): one CUDA graph, which is timed
    as a whole. "eager_graph" and "bf16_autocast_graph" are PyTorch's as one graph. Convolutions in float32 do not use TF32, and
    the loop is left out.
    """
    if plot_path is not None:
        plot.check(plot_path)
    asked = train_bench.Options(names, peers, batch, size, threads, seconds, device=device)
    asked = train_bench.quick(asked) if quick else asked
    outcome = train_bench.run(asked)
    _save_rows(outcome.rows, csv_path, as_json)
    if plot_path is not None and any(row.metric == "time" for row in outcome.rows):
        plot.save_steps(outcome.rows, plot_path)
    if not as_json:
        shape = f"{asked.batch}x3x{size}x{size}"
        for (case, number), lines in train_bench.tables(outcome.rows).items():
            title = f"{case}: {shape}, {number} threads, {outcome.rows[0].device} (ms)"
            print_table(title, list(train_bench.COLUMNS), lines, least_width=128)
        for line in train_bench.loops(outcome.rows):
            click.echo(line)
    _end(outcome)


@bench.command("folder")
@click.argument("pictures", type=click.Path(path_type=Path, file_okay=False, exists=True))
@options.model
@_each_threads
@click.option("--jobs", "at_once", type=click.IntRange(min=1), default=1, help="Number of pictures to work on at once.")
@options.device
@options.settings("pixels", "picture files", "files")
@options.csv
@options.as_json
def bench_folder(
    pictures: Path, model: str, threads: tuple[int, ...], at_once: int, device: str, settings: EnhanceSettings,
    csv_path: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Measure pictures per second of `zdce enhance PICTURES`.

    Decoding and encoding are included; "engine" is the enhancer's share of the time of each job. On a GPU that includes copies
    and waiting for other jobs' work there.
    """
    enhancer = zdce.Enhancer(zdce.load(model, device), settings)
    rows = [row for number in threads for row in folder.run(pictures, enhancer, number, at_once)]
    _save_rows(rows, csv_path, as_json)
    if not as_json:
        print_table(
            f"{model} on {pictures}: {rows[0].shape}, {rows[0].dtype}, {rows[0].device}",
            list(folder.COLUMNS),
            folder.table(rows),
        )


@bench.command("live")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path, dir_okay=False, exists=True))
@options.model
@click.option(
    "--length",
    "seconds",
    type=options.FiniteRange(min=1),
    default=20.0,
    metavar="SECONDS",
    help="Length of the generated films.",
)
@click.option("--threads", type=click.IntRange(min=1), help="Number of CPU threads.  [default: all]")
@options.settings("pixels", "frames")
@options.csv
@options.as_json
def bench_live(
    paths: tuple[Path, ...], model: str, seconds: float, threads: int | None, settings: EnhanceSettings,
    csv_path: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Measure the latency of `zdce live`.

    It plays the films PATHS, or two generated dark films of 720p and 1080p, in real time. The time of a frame begins when the
    frame is due and includes its decoding; "as JPEG" ends when it is encoded for the page. Jitter is the 95th percentile minus
    the median.
    """
    packages.require("av", extra="video")
    packages.require("fastapi", extra="serve")
    network = zdce.load(model)
    enhancer = zdce.Enhancer(network, live.settings_for(network.variant, settings))
    rows = list(live_bench.run(enhancer, threads or torch.get_num_threads(), seconds, paths))
    _save_rows(rows, csv_path, as_json)
    if not as_json:
        title = f"{model}: {rows[0].threads} threads, {rows[0].device}"
        print_table(title, list(live_bench.COLUMNS), live_bench.table(rows))


@bench.command("startup")
@click.option("--rounds", type=click.IntRange(min=1), default=5, help="Number of runs of each command.")
@options.csv
@options.as_json
def bench_startup(rounds: int, csv_path: Path | None, as_json: bool) -> None:
    """Measure time and memory of whole processes.

    These are `zdce --help`, imports and `zdce enhance`, beside Pillow decoding and encoding alone, and the engine alone.
    """
    rows = startup.run(rounds)
    _save_rows(rows, csv_path, as_json)
    if not as_json:
        print_table(f"startup: {rows[0].device}", list(startup.COLUMNS), startup.table(rows))


@bench.command("browser")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder that web/build has made.  [default: the one of `zdce serve`]",
)
@click.option(
    "--onnxruntime",
    "peer",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder of npm's package onnxruntime-web, to measure it on a file of `zdce export`.",
)
@click.option(
    "--size",
    "sizes",
    callback=_sizes,
    multiple=True,
    default=["900x1200", "3000x4000"],
    help="Size as HEIGHTxWIDTH; may be repeated.",
)
@_each_threads
@click.option("--rounds", type=click.IntRange(min=1), default=5, help="Number of runs of each.")
@options.csv
@options.as_json
def bench_browser(
    folder: Path | None, peer: Path | None, sizes: tuple[tuple[int, int], ...], threads: tuple[int, ...], rounds: int,
    csv_path: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Measure the engine for browsers in Chromium.

    Case picture: from RGBA to RGBA in memory, in turns with onnxruntime-web. Case file: from JPEG to JPEG, with the browser's
    decoder and encoder, as zdce's page does it. "load" is the size of what each library fetches first. Needs the extra
    `browser` and Chromium.
    """
    outcome = browser_bench.run(browser_bench.Options(folder or browser_bench.FOLDER, peer, sizes, threads, rounds))
    _save_rows(outcome.rows, csv_path, as_json)
    if not as_json and outcome.rows:
        print_table(f"browser: {outcome.rows[0].device}", list(browser_bench.COLUMNS), browser_bench.table(outcome.rows))
    _end(outcome)


@bench.command("static")
@click.option("--batch-size", "batch", type=click.IntRange(min=1), default=8, help="Number of images.")
@click.option("--size", type=click.IntRange(min=16), default=256, help="Side in pixels.")
@click.option("--iterations", type=click.IntRange(1, 16), default=8, help="Steps of the curve.")
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
    _save_rows([*outcome.rows, *measured], csv_path, as_json)
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


@bench.command("flicker")
@click.argument("paths", nargs=-1)
@options.model
@click.option("--fps", type=options.FiniteRange(min=0, min_open=True), default=30.0, help="Pictures per second of a burst.")
@options.device
@options.settings("pixels", "frames")
@options.csv
@options.as_json
def bench_flicker(
    paths: tuple[str, ...],
    model: str,
    fps: float,
    device: str,
    settings: EnhanceSettings,
    csv_path: Path | None,
    as_json: bool,
) -> None:
    """Measure the flicker of videos and bursts of pictures.

    It is measured in the input, enhanced frame by frame, and enhanced with smoothing. Without PATHS, four generated clips are
    measured: a moving lamp, passing headlights, a trembling light, and a cut. Pictures whose names differ only in their last
    number are one burst, in the order of that number.

    Flicker is the mean absolute change of the mean luminance between neighbouring frames, in levels of 255; excess is the
    flicker of the output minus that of the input. Swing is the difference between the brightest and the darkest state of the
    still parts of a scene, in percent; it is known for the generated clips only.
    """
    network = zdce.load(model, device)
    enhancer = zdce.Enhancer(network, video.settings_for(network.variant, settings))
    sequences = _sequences(paths, fps) if paths else flicker.built_in()
    rows = [row for sequence in sequences for row in flicker.measure(sequence, enhancer)]
    _save_rows(rows, csv_path, as_json)
    if not as_json:
        print_table("flicker (levels of 255)", list(flicker.COLUMNS), flicker.table(rows))


def _sequences(paths: tuple[str, ...], fps: float) -> list[flicker.FrameSequence]:
    found = images.find(paths, batch.suffixes())
    if not found:
        raise InputError(f"no videos or pictures found: expected {', '.join(sorted(batch.suffixes()))}")
    return flicker.sequences([f.path for f in found], fps)


@bench.command("scales")
@click.argument("paths", nargs=-1, default=("docs/dark.jpg",))
@options.model
@options.settings("pixels", without=("scale",))
@options.plot
@options.csv
@options.as_json
def bench_scales(
    paths: tuple[str, ...], model: str, settings: EnhanceSettings, plot_path: Path | None, csv_path: Path | None, as_json: bool
) -> None:  # fmt: skip
    """Measure accuracy and speed at each --scale.

    Accuracy is the PSNR to scale 1, speed is in pictures per second; both are measured on the pictures PATHS (by default
    docs/dark.jpg of a clone). Values are medians over the pictures with the 20th and 80th percentile; --csv and --json have
    each picture too.
    """
    if plot_path is not None:
        plot.check(plot_path)
    found = images.find(paths)
    if not found:
        raise InputError(f"no pictures found: expected {', '.join(sorted(images.SUFFIXES))}")
    rows = scales.run(zdce.load(model), [picture.path for picture in found], settings)
    _save_rows(rows, csv_path, as_json)
    if plot_path is not None:
        scales.plot(rows, plot_path)
    if not as_json:
        pictures = "1 picture" if len(found) == 1 else f"{len(found)} pictures"
        title = f"{model}: {pictures}, {rows[0].threads} threads, {rows[0].device}"
        print_table(title, list(scales.COLUMNS), scales.table(rows))


@bench.command("threads")
@options.models("Network to measure", default=("base", "zero-dce"))
@click.option(
    "--size",
    "sizes",
    multiple=True,
    type=click.Choice(list(threads.SIZES)),
    default=tuple(threads.SIZES),
    help="Size of the picture; may be repeated.",
)
@options.csv
@options.as_json
def bench_threads(models: tuple[str, ...], sizes: tuple[str, ...], csv_path: Path | None, as_json: bool) -> None:
    """Predict the engine's efficiency on 1 to 128 processors.

    The prediction is made from the times of tiles on one processor. Efficiency is the time of one thread divided by the sum of
    all processors' times until the last tile is done. All sizes of both networks take some minutes.
    """
    rows = threads.run(models, sizes)
    _save_rows(rows, csv_path, as_json)
    if not as_json:
        print_table(f"predicted efficiency by threads, {rows[0].device}", list(threads.COLUMNS), threads.table(rows))


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
