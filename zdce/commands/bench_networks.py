"""`zdce bench infer`, `train`, `scales` and `threads`: whole networks."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import click
from click.core import ParameterSource

import zdce
from zdce.bench import engines, infer, infer_gpu, plot, scales, steps, threads
from zdce.bench import train as train_bench
from zdce.commands import bench_options, options
from zdce.commands.printing import print_table
from zdce.errors import InputError
from zdce.io import images
from zdce.models.variants import CURVE, VARIANTS
from zdce.settings import EnhanceSettings


@click.command("infer")
@bench_options.several("--variant", "chosen", VARIANTS, "Variant to measure, with random weights", unset="base")
@options.models("Network to measure instead of --variant")
@click.option(
    "--size",
    "sizes",
    callback=bench_options.sizes,
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
@bench_options.each_threads
@bench_options.several("--precision", "precisions", infer.DTYPES, "Precision to measure", unset="fp32; on a GPU both")
@bench_options.several("--mode", "modes", engines.MODES, "Mode to measure", unset="all; on a GPU picture")
@click.option("--isa", type=click.Choice(list(infer.ISAS)), help="Limit the libraries that allow it to this instruction set.")
@bench_options.several(
    "--provider", "peers", dict.fromkeys([*engines.ENGINES, *infer_gpu.PROVIDERS]), "Library to measure", unset="all"
)
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
    bench_options.save_rows(outcome.rows, csv_path, as_json)
    if plot_path is not None and any(row.metric == "time" for row in outcome.rows):
        plot.save_engines(outcome.rows, plot_path)
    if not as_json:
        for title, lines in tables(outcome.rows).items():
            print_table(title, list(columns), lines, least_width=112)
        for line in infer.peaks(outcome.rows):
            click.echo(line)
    bench_options.end(outcome)


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


@click.command("train")
@bench_options.several(
    "--variant", "names", [n for n, v in VARIANTS.items() if v.formula == CURVE], "Variant to train", ["base"]
)
@click.option("--batch-size", "batch", type=click.IntRange(min=1), default=16, help="Number of images.")
@click.option("--size", type=click.IntRange(min=16), default=256, help="Side in pixels.")
@click.option(
    "--threads",
    callback=bench_options.numbers,
    help="Numbers of threads, separated by commas, such as 1,2.  [default: torch's own]",
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", help="Device to measure.")
@bench_options.several("--provider", "peers", steps.PROVIDERS | steps.GPU_PROVIDERS, "Library to measure")
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
    bench_options.save_rows(outcome.rows, csv_path, as_json)
    if plot_path is not None and any(row.metric == "time" for row in outcome.rows):
        plot.save_steps(outcome.rows, plot_path)
    if not as_json:
        shape = f"{asked.batch}x3x{size}x{size}"
        for (case, number), lines in train_bench.tables(outcome.rows).items():
            title = f"{case}: {shape}, {number} threads, {outcome.rows[0].device} (ms)"
            print_table(title, list(train_bench.COLUMNS), lines, least_width=128)
        for line in train_bench.loops(outcome.rows):
            click.echo(line)
    bench_options.end(outcome)


@click.command("scales")
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
    bench_options.save_rows(rows, csv_path, as_json)
    if plot_path is not None:
        scales.plot(rows, plot_path)
    if not as_json:
        pictures = "1 picture" if len(found) == 1 else f"{len(found)} pictures"
        title = f"{model}: {pictures}, {rows[0].threads} threads, {rows[0].device}"
        print_table(title, list(scales.COLUMNS), scales.table(rows))


@click.command("threads")
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
    bench_options.save_rows(rows, csv_path, as_json)
    if not as_json:
        print_table(f"predicted efficiency by threads, {rows[0].device}", list(threads.COLUMNS), threads.table(rows))
