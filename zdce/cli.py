"""The command line: each command reads its options, calls the package, and prints."""

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import zdce
from zdce import allocator, atomic, enhancing, evaluation, images, system, training, variants, video
from zdce.backends import BackendError
from zdce.bench import cases, engines, flicker, folder, infer, ops, plot, providers, scales, static, steps
from zdce.bench import train as train_bench
from zdce.bench.processes import Outcome
from zdce.bench.rows import Row, to_csv
from zdce.data import SAMPLE, collection
from zdce.enhancer import FAST_SCALE
from zdce.formulas import NORMALIZATIONS, Weights
from zdce.smoothing import SECONDS
from zdce.study import conduct
from zdce.study.settings import REPORTED, preset
from zdce.study.stages import Study, StudyInterruptedError
from zdce.variants import VARIANTS
from zdce.version import __version__

# What a user's mistake may raise; anything else is a bug and shows its traceback.
_MISTAKES = (ValueError, OSError, BackendError)


class _Commands(click.Group):
    """Shows a user's mistake as one line on stderr, exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except _MISTAKES as error:
            raise click.ClickException(" ".join(str(error).split()) or type(error).__name__) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="zdce")
def main() -> None:
    """Zero-reference low-light image enhancement."""
    allocator.keep_freed_memory()


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))


def _print_table(title: str, columns: list[str], rows: list[list[str]], least_width: int = 0) -> None:
    click.echo(title)
    table = Table(box=box.SIMPLE, pad_edge=False)
    for i, column in enumerate(columns):
        numeric = all(row[i].replace(",", "").replace(".", "").lstrip("-").isdigit() for row in rows)
        table.add_column(column, justify="right" if numeric else "left", no_wrap=i == 0)
    for row in rows:
        table.add_row(*map(escape, row))
    console = Console()
    Console(width=max(console.width, least_width)).print(table)


def _usable_device(ctx: click.Context, parameter: click.Parameter, device: str) -> str:
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # how torch answers depends on what it was built with
        raise click.BadParameter(f"{device!r} can't be used here: {str(error).splitlines()[0]}") from None
    return device


_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for a script.")
_device = click.option("--device", default="cpu", callback=_usable_device, help="Where the network runs, as torch names it.")
_scale = click.option(
    "--scale",
    type=click.IntRange(min=1),
    help="Estimate the curve on an image so many times smaller.  [default: the variant's]",
)
_strength = click.option("--strength", type=float, default=1.0, help="1 as trained, 0 nothing, above 1 stronger.")


def _weights(ctx: click.Context, parameter: click.Parameter, text: str | None) -> dict[str, float]:
    """``illumination=1600,color=0`` as a dictionary."""
    weights = {}
    for part in (text or "").split(",") if text else []:
        name, _, value = part.partition("=")
        if name.strip() not in Weights._fields:
            raise click.BadParameter(f"expected {'=..., '.join(Weights._fields)}=..., got {part!r}")
        try:
            weights[name.strip()] = float(value)
        except ValueError:
            raise click.BadParameter(f"{name.strip()} must be a number, got {value!r}") from None
    return weights


def _source(ctx: click.Context, parameter: click.Parameter, data: str) -> str:
    """A run is resumed from wherever the user stands then: its folder of pictures is kept as an absolute path."""
    return data if data == SAMPLE else str(Path(data).absolute())


@main.command()
@click.option("--variant", default="base", help="The network; `zdce variants` lists them.")
@click.option(
    "--data", default=SAMPLE, callback=_source, help="A folder of pictures, LOL's layout, or `sample` for the built-in ones."
)
@click.option("--epochs", type=click.IntRange(min=1), default=50)
@click.option("--batch-size", type=click.IntRange(min=1), default=16)
@click.option("--size", type=click.IntRange(min=16), default=256, help="Side in pixels that pictures are resized to.")
@click.option("--lr", type=float, default=1e-4, help="Adam's learning rate.")
@click.option("--loss-weights", callback=_weights, help="illumination=1600,spatial=1,...  [default: the variant's own]")
@click.option("--normalization", type=click.Choice(NORMALIZATIONS), default="paper", help="Of the illumination term.")
@click.option("--seed", type=click.IntRange(min=0), default=0)
@_device
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of the run.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out; its settings are kept, but for those given.")
@click.pass_context
def train(ctx: click.Context, /, out: Path, resume: bool, loss_weights: dict[str, float], **settings: Any) -> None:
    """Train a network without references.

    OUT gets config.toml, log.csv, weights every 10 epochs (epoch-010.safetensors, ...) and the last ones (last.safetensors).
    Ctrl-C saves; --resume goes on, to the same weights bit for bit.
    """
    if resume:
        config_file = training.RunFolder(out).config
        if not config_file.is_file():
            raise click.ClickException(f"no run to resume in {out}")
        given = {
            name: value
            for name, value in settings.items()
            if ctx.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT
        }
        run = training.Run.resume(training.Config.from_toml(config_file.read_text()).changed(given, loss_weights), out)
    else:
        weights = variants.variant(settings["variant"]).weights._replace(**loss_weights)
        run = training.Run.start(training.Config(**settings, weights=weights), out)
    try:
        run.train()
    except training.TrainingError as error:
        click.echo(str(error), err=True)
        sys.exit(130 if isinstance(error, training.TrainingInterruptedError) else 1)
    click.echo(f"weights: {run.folder.last}")


@main.command("eval")
@click.argument("model")
@click.argument("data")
@click.option(
    "--split",
    type=click.Choice(["validation", "all"]),
    help="[default: validation where DATA has references, else all]",
)
@click.option("--csv", "csv_path", type=click.Path(path_type=Path, dir_okay=False), help="Write every picture's figures here.")
@_as_json
@_device
@_scale
@_strength
def evaluate(
    model: str,
    data: str,
    split: str | None,
    csv_path: Path | None,
    as_json: bool,
    device: str,
    scale: int | None,
    strength: float,
) -> None:
    """PSNR and SSIM of MODEL (a .safetensors file) on DATA (a folder, or `sample`).

    Against PIL's autocontrast of the input and the input itself, as in the report, and true references where DATA has them;
    beside it the input itself, autocontrast, gamma 0.4 and CLAHE.
    """
    network = zdce.load(model).to(device)
    pictures = collection(data)
    if split is None:
        split = "validation" if any(item.load_reference for item in pictures.items) else "all"
    items = pictures.items if split == "all" else pictures.validation_items()
    enhancer = zdce.Enhancer(network, scale=scale, strength=strength)
    scores = evaluation.evaluate(items, lambda image: images.as_uint8(enhancer(image)))
    averages = evaluation.averages(scores)
    if csv_path is not None:
        atomic.write_text(csv_path, evaluation.to_csv(scores))
    if as_json:
        _print_json({"images": len(items), "rows": [average.to_dict() for average in averages]})
        return
    rows = [[a.against, a.method, f"{a.psnr:.2f}", f"{a.ssim:.3f}", str(a.images)] for a in averages]
    _print_table(f"{model} on {data}, {split}", ["against", "method", "PSNR (dB)", "SSIM", "images"], rows)


_smoothing = click.option(
    "--smoothing",
    type=click.FloatRange(min=0),
    default=SECONDS,
    metavar="SECONDS",
    help="Of videos: how slowly their curve and light may change; 0 is frame by frame.",
)


@main.command()
@click.argument("paths", nargs=-1, required=True)
@click.option("--model", "-m", required=True, help="A .safetensors file of `zdce train`.")
@click.option("--output", "-o", help="A file for one input, else a folder.  [default: NAME-enhanced beside the input]")
@click.option("--quality", type=click.IntRange(1, 100), default=95, help="Of JPEG and WebP.")
@click.option("--crf", type=click.IntRange(0, 51), default=video.CRF, help="Of videos: 0 is lossless, +6 halves the size.")
@_smoothing
@click.option("--overwrite", is_flag=True, help="Replace results that exist; without it they are kept.")
@_device
@_scale
@click.option("--fast", is_flag=True, help=f"The same as --scale {FAST_SCALE}.")
@_strength
def enhance(
    paths: tuple[str, ...],
    model: str,
    output: str | None,
    quality: int,
    crf: int,
    smoothing: float,
    overwrite: bool,
    device: str,
    scale: int | None,
    fast: bool,
    strength: float,
) -> None:
    """Brighten dark pictures and videos: files, folders (searched through), or patterns.

    Format, size, EXIF, colour profile and transparency of pictures are kept; timing, sound and rotation of videos. A video's
    curve is estimated on an image 12 times smaller unless --scale says otherwise. What can't be read is named and skipped, of a
    broken video what can be decoded is written; the exit code is 1 then.
    """
    if fast and scale is not None:
        raise click.UsageError("--fast and --scale exclude each other")
    jobs = enhancing.plan(images.find(paths, enhancing.suffixes()), output)
    network = zdce.load(model).to(device)
    scale = FAST_SCALE if fast else scale
    enhancer = zdce.Enhancer(network, scale=scale, strength=strength)
    filming = zdce.Enhancer(network, scale=video.scale_for(network, scale), strength=strength)
    film = partial(video.enhance, enhancer=filming, options=video.Options(smoothing, crf))
    work = enhancing.Work(enhancer, film, quality)
    outcome = enhancing.run(jobs, work, overwrite=overwrite)
    counts = {
        "written": len(outcome.written) - len(outcome.partly),
        "written as far as possible": len(outcome.partly),
        "kept as they were (--overwrite replaces them)": len(outcome.kept),
        "failed": len(outcome.failed),
    }
    click.echo(", ".join(f"{count} {what}" for what, count in counts.items() if count))
    if len(outcome.written) == 1:
        click.echo(outcome.written[0])
    if outcome.failed or outcome.partly:
        sys.exit(1)


@main.group(cls=_Commands)
def bench() -> None:
    """How fast, how large, how near to what the machine can do."""


def _size(ctx: click.Context, parameter: click.Parameter, text: str) -> tuple[int, int]:
    """``256`` or ``480x640`` as height and width."""
    height, _, width = text.partition("x")
    try:
        return int(height), int(width or height)
    except ValueError:
        raise click.BadParameter(f"expected a side or HEIGHTxWIDTH in pixels, got {text!r}") from None


_csv = click.option("--csv", "csv_path", type=click.Path(path_type=Path, dir_okay=False), help="Write the rows here.")


def _save_rows(rows: list[Row], csv_path: Path | None, as_json: bool) -> None:
    if csv_path is not None:
        atomic.write_text(csv_path, to_csv(rows))
    if as_json:
        _print_json([row.to_dict() for row in rows])


@bench.command("ops")
@click.option("--batch", type=click.IntRange(min=1), default=8)
@click.option("--size", callback=_size, default="256", help="Side in pixels, or HEIGHTxWIDTH.")
@click.option("--iterations", type=click.IntRange(1, 16), default=8)
@click.option("--dtype", type=click.Choice(list(cases.DTYPES)), default="float32")
@click.option("--layout", type=click.Choice(list(cases.LAYOUTS)), default="contiguous")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu")
@click.option("--threads", type=click.IntRange(min=1), help="Of the CPU.  [default: torch's own number]")
@click.option("--only", "chosen", type=click.Choice(list(cases.CASES)), multiple=True, help="Case to measure; may be repeated.")
@click.option(
    "--provider", "peers", type=click.Choice(list(providers.PROVIDERS)), multiple=True, help="Who is measured; may be repeated."
)
@click.option("--quick", is_flag=True, help="Two images and few rounds, under a minute.")
@click.option("--default-allocator", is_flag=True, help="A second table, with the C library's allocator as it is.")
@click.option("--scaling", is_flag=True, help="Also time per pixel of one image from 1 to 12 megapixels.")
@click.option("--plot", "plot_path", type=click.Path(path_type=Path, dir_okay=False), help="Draw a .png or .svg.")
@_csv
@_as_json
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
    options = ops.Options(
        cases.Setting(height=height, width=width, **setting), chosen, peers, threads,
        default_allocator=default_allocator, scaling=scaling,
    )  # fmt: skip
    outcome = ops.run(ops.quick(options) if quick else options)
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
    if text is None:
        return tuple(sorted({1, torch.get_num_threads()}))
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
@click.option("--model", "-m", help="A .safetensors file instead.")
@click.option(
    "--size", "sizes", callback=_sizes, multiple=True, help="HEIGHTxWIDTH; may be repeated.  [default: 480x640 and 900x1200]"
)
@_each_threads
@click.option(
    "--precision", "precisions", type=click.Choice(list(infer.DTYPES)), multiple=True, default=["fp32"], help="May be repeated."
)
@click.option("--mode", "modes", type=click.Choice(engines.MODES), multiple=True, help="May be repeated.  [default: both]")
@click.option("--isa", type=click.Choice(list(infer.ISAS)), help="Hold all that can be held to an instruction set.")
@click.option(
    "--provider",
    "--only",
    "peers",
    type=click.Choice(list(engines.ENGINES)),
    multiple=True,
    help="Who is measured; may be repeated.  [default: all]",
)
@click.option("--quick", is_flag=True, help="The smaller size, pictures only, nothing compiled, few rounds: under a minute.")
@click.option("--plot", "plot_path", type=click.Path(path_type=Path, dir_okay=False), help="Draw a .png or .svg.")
@_csv
@_as_json
def bench_infer(
    chosen: tuple[str, ...], model: str | None, sizes: tuple[tuple[int, int], ...], threads: tuple[int, ...],
    precisions: tuple[str, ...], modes: tuple[str, ...], isa: str | None, peers: tuple[str, ...], quick: bool,
    plot_path: Path | None, csv_path: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Whole networks beside eager and compiled PyTorch, ONNX Runtime and OpenVINO (the extra `bench`).

    Picture: a uint8 array becomes another. Network: peers get and give float tensors, zdce its picture. Each runs in a process
    of its own, in turns with the others, after a check against float64; who fails that is not timed, and the exit code is 1.
    "share" is direct multiply-adds over the measured FMA peak: Winograd's fewer ones, or bfloat16, may pass 1. "error" is the
    largest, in levels of 255, for pictures beyond rounding. "MiB" is what the first picture adds to a fresh process.
    """
    if plot_path is not None:
        plot.check(plot_path)
    if model is not None and chosen:
        raise click.UsageError("--model has its own variant: --variant can't be given too")
    defaults = infer.quick() if quick else infer.Options()
    options = infer.Options(
        model, chosen or defaults.variants, sizes or defaults.sizes, threads, precisions, modes or defaults.modes,
        tuple(name for name in engines.ENGINES if name in (peers or defaults.engines)), isa, defaults.seconds, defaults.least,
    )  # fmt: skip
    outcome = infer.run(options)
    _save_rows(outcome.rows, csv_path, as_json)
    if plot_path is not None and any(row.metric == "time" for row in outcome.rows):
        plot.save_engines(outcome.rows, plot_path)
    if not as_json:
        for title, lines in infer.tables(outcome.rows).items():
            _print_table(title, list(infer.COLUMNS), lines, least_width=112)
        for line in infer.peaks(outcome.rows):
            click.echo(line)
    _end(outcome)


@bench.command("train")
@click.option("--variant", "names", type=click.Choice(list(VARIANTS)), multiple=True, default=["base"], help="May be repeated.")
@click.option("--batch", type=click.IntRange(min=1), default=16)
@click.option("--size", type=click.IntRange(min=16), default=256, help="Side in pixels.")
@click.option("--threads", type=click.IntRange(min=1), help="Of the CPU.  [default: torch's own number]")
@click.option(
    "--provider", "peers", type=click.Choice(list(steps.PROVIDERS)), multiple=True, help="Who is measured; may be repeated."
)
@click.option("--quick", is_flag=True, help="Two images, few rounds, nothing compiled.")
@_csv
@_as_json
def bench_train(
    names: tuple[str, ...], batch: int, size: int, threads: int | None, peers: tuple[str, ...], quick: bool,
    csv_path: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Whole training steps beside eager PyTorch with the reference losses and what makes it faster, on the CPU.

    A step is the network and the objective, their gradients, and Adam. Gradients are checked against float64 first; who fails
    is not timed, and the exit code is 1. Times are medians in milliseconds; memory is what a step needs beyond images and
    parameters.
    """
    options = train_bench.Options(names, peers, batch, size, threads)
    outcome = train_bench.run(train_bench.quick(options) if quick else options)
    _save_rows(outcome.rows, csv_path, as_json)
    if not as_json:
        for case, lines in train_bench.tables(outcome.rows).items():
            own = next(row for row in outcome.rows if row.case == case and row.metric != "error")
            title = f"{case}: {own.shape}, {own.threads} threads, {own.device} (ms)"
            _print_table(title, list(train_bench.COLUMNS), lines, least_width=112)
    _end(outcome)


@bench.command("folder")
@click.argument("pictures", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--model", "-m", required=True, help="A .safetensors file of `zdce train`.")
@_each_threads
@click.option("--precision", type=click.Choice(list(infer.DTYPES)), default="fp32")
@_csv
@_as_json
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
        _print_table(
            f"{model} on {pictures}: {rows[0].shape}, {rows[0].dtype}, {rows[0].device}",
            list(folder.COLUMNS),
            folder.table(rows),
        )


@bench.command("static")
@click.option("--batch", type=click.IntRange(min=1), default=8)
@click.option("--size", type=click.IntRange(min=16), default=256, help="Side in pixels.")
@click.option("--iterations", type=click.IntRange(1, 16), default=8)
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32")
@_csv
@_as_json
def bench_static(batch: int, size: int, iterations: int, dtype: str, csv_path: Path | None, as_json: bool) -> None:
    """What is known of the GPU kernels without a GPU; with one, they are measured as well.

    Compiled for A100, H100 and B200: a kernel that spills registers or touches too much makes the exit code 1. "touched" is
    what a program reads and writes, halo included, over the least; "floor" is the time that the least takes at the published
    bandwidth, a prediction.
    """
    setting = cases.Setting(batch, size, size, iterations, dtype)
    outcome = static.run(setting)
    measured = ops.run_on_gpu(setting)
    _save_rows([*outcome.rows, *measured], csv_path, as_json)
    if not as_json:
        for device, lines in static.tables(outcome.rows).items():
            columns = ["kernel", "by", *static.COLUMNS.values()]
            _print_table(f"{device}, predicted: {setting.shape} {dtype}", columns, lines, least_width=160)
        _show_ops(measured)
    for line in (*outcome.notes, *outcome.faults):
        click.echo(line, err=True)
    if outcome.faults:
        sys.exit(1)


@bench.command("flicker")
@click.argument("paths", nargs=-1, required=True)
@click.option("--model", "-m", required=True, help="A .safetensors file of `zdce train`.")
@click.option("--fps", type=click.FloatRange(min=0, min_open=True), default=30.0, help="Pictures a second of a burst.")
@_device
@_scale
@_strength
@_smoothing
@_csv
@_as_json
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
    found = images.find(paths, enhancing.suffixes())
    rows = [
        row
        for sequence in flicker.sequences([f.path for f in found], fps)
        for row in flicker.measure(sequence, enhancer, smoothing)
    ]
    _save_rows(rows, csv_path, as_json)
    if not as_json:
        _print_table("flicker (levels of 255)", list(flicker.COLUMNS), flicker.table(rows))


@bench.command("scales")
@click.argument("paths", nargs=-1, default=("docs/dark.jpg",))
@click.option("--model", "-m", required=True, help="A .safetensors file of `zdce train`.")
@click.option("--plot", "plot_path", type=click.Path(path_type=Path, dir_okay=False), help="Draw a .png or .svg.")
@_csv
@_as_json
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
        raise ValueError(f"no pictures found: expected {', '.join(sorted(images.SUFFIXES))}")
    rows = scales.run(zdce.load(model), [picture.path for picture in found])
    _save_rows(rows, csv_path, as_json)
    if plot_path is not None:
        scales.plot(rows, plot_path)
    if not as_json:
        pictures = "1 picture" if len(found) == 1 else f"{len(found)} pictures"
        title = f"{model}: {pictures}, {rows[0].threads} threads, {rows[0].device}"
        _print_table(title, list(scales.COLUMNS), scales.table(rows))


def _show_ops(rows: list[Row]) -> None:
    for suite in ops.suites(rows):
        own = next(row for row in rows if row.suite == suite)
        where = f"{own.dtype}, {own.threads} threads, {own.device}"
        if suite == ops.SCALING:
            _print_table(f"{suite}: {where}", list(ops.SCALING_COLUMNS), ops.scaling_table(rows), least_width=112)
        else:
            click.echo(f"{suite}: {own.shape} {where}")
            for case, lines in ops.tables(rows, suite).items():
                _print_table(f"{case} (ms)", list(ops.COLUMNS), lines, least_width=160)


@main.command("study")
@click.option(
    "--data",
    callback=lambda ctx, parameter, data: data and _source(ctx, parameter, data),
    help="A folder of pictures, LOL's layout, or `sample`.  [default: a small study of the built-in sample]",
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of the study.")
@click.option("--only", "chosen", type=click.Choice(list(VARIANTS)), multiple=True, help="A variant of it; may be repeated.")
@click.option("--epochs", type=click.IntRange(min=1), help="[default: 50, or 5 with --quick]")
@click.option("--objective", type=click.Choice(NORMALIZATIONS), default="keras", help="Normalisation of the illumination term.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, help="Train each variant so many times.")
@click.option("--quick", is_flag=True, help="Every part in about a minute, too little for conclusions.")
@click.option("--plan", "only_plan", is_flag=True, help="Show what would be done and how long it takes, and do nothing.")
@_device
def run_study(
    data: str | None,
    out: Path,
    chosen: tuple[str, ...],
    epochs: int | None,
    quick: bool,
    only_plan: bool,
    **given: Any,
) -> None:
    """The whole report: train base and its eight ablations, measure them, judge the report's claims, write the page.

    OUT gets report.html, report.md, results (CSV, JSON), and the runs. Done work is not done again unless what it was made from
    has changed; Ctrl-C keeps it, and the same command goes on.
    """
    conduct.check_page()
    settings = replace(preset(data, quick=quick), variants=chosen or REPORTED, **given)
    conduct.use_threads_for(settings)
    study = Study(settings if epochs is None else replace(settings, epochs=epochs), out)
    stages = study.stages()
    lines = [
        [p.work, str(p.done), str(p.left), conduct.duration(p.seconds) if p.left else ""] for p in conduct.plan(study, stages)
    ]
    _print_table(f"{out}: {len(study.collection.items)} pictures", ["work", "done", "left", "estimated"], lines)
    if only_plan:
        return
    try:
        click.echo(f"report: {conduct.run(study, stages)}")
    except (StudyInterruptedError, training.TrainingError) as error:
        click.echo(str(error), err=True)
        sys.exit(130 if isinstance(error, StudyInterruptedError) else 1)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
def report(folder: Path) -> None:
    """Write the page of the finished study in FOLDER anew, from its results and pictures alone."""
    click.echo(f"report: {conduct.report(folder)}")


@main.command("variants")
@_as_json
def list_variants(as_json: bool) -> None:
    """The networks that can be trained."""
    rows = [
        {
            "name": v.name,
            "part": v.part,
            "parameters": v.parameters,
            "macs_per_pixel": v.macs,
            "receptive_field": v.receptive_field,
            "iterations": v.iterations,
            "scale": v.scale,
            "weights": v.weights._asdict(),
            "summary": v.summary,
        }
        for v in VARIANTS.values()
    ]
    if as_json:
        _print_json(rows)
        return
    columns = {"name": "name", "part": "part", "parameters": "parameters", "macs_per_pixel": "MACs/px", "iterations": "T"}
    columns |= {"scale": "scale", "summary": "what it is"}
    cells = [[f"{row[c]:,}" if isinstance(row[c], int) else str(row[c]) for c in columns] for row in rows]
    _print_table("Variants", list(columns.values()), cells)


@main.command()
@_as_json
def info(as_json: bool) -> None:
    """Versions, backends and why one is missing, instruction set, threads."""
    facts = system.facts()
    if as_json:
        _print_json(facts)
        return
    _print_table("zdce", ["what", "here"], [[key, str(value)] for key, value in facts.items() if key != "backends"])
    rows = [[b["name"], b["device"], "yes" if b["available"] else "no", b["reason"] or ""] for b in facts["backends"]]
    _print_table("Backends", ["backend", "device", "runs", "why not"], rows)


if __name__ == "__main__":
    main()
