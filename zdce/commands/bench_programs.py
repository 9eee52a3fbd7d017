"""`zdce bench folder`, `live`, `startup`, `browser` and `flicker`: whole programs on files and films."""

from pathlib import Path

import click
import torch

import zdce
from zdce.bench import browser as browser_bench
from zdce.bench import flicker, folder, startup
from zdce.bench import live as live_bench
from zdce.commands import bench_options, options
from zdce.commands.printing import print_table
from zdce.enhancement import batch, live, video
from zdce.errors import InputError
from zdce.io import images
from zdce.runtime import packages
from zdce.settings import EnhanceSettings


@click.command("folder")
@click.argument("pictures", type=click.Path(path_type=Path, file_okay=False, exists=True))
@options.model
@bench_options.each_threads
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
    bench_options.save_rows(rows, csv_path, as_json)
    if not as_json:
        print_table(
            f"{model} on {pictures}: {rows[0].shape}, {rows[0].dtype}, {rows[0].device}",
            list(folder.COLUMNS),
            folder.table(rows),
        )


@click.command("live")
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
    bench_options.save_rows(rows, csv_path, as_json)
    if not as_json:
        title = f"{model}: {rows[0].threads} threads, {rows[0].device}"
        print_table(title, list(live_bench.COLUMNS), live_bench.table(rows))


@click.command("startup")
@click.option("--rounds", type=click.IntRange(min=1), default=5, help="Number of runs of each command.")
@options.csv
@options.as_json
def bench_startup(rounds: int, csv_path: Path | None, as_json: bool) -> None:
    """Measure time and memory of whole processes.

    These are `zdce --help`, imports and `zdce enhance`, beside Pillow decoding and encoding alone, and the engine alone.
    """
    rows = startup.run(rounds)
    bench_options.save_rows(rows, csv_path, as_json)
    if not as_json:
        print_table(f"startup: {rows[0].device}", list(startup.COLUMNS), startup.table(rows))


@click.command("browser")
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
    callback=bench_options.sizes,
    multiple=True,
    default=["900x1200", "3000x4000"],
    help="Size as HEIGHTxWIDTH; may be repeated.",
)
@bench_options.each_threads
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
    bench_options.save_rows(outcome.rows, csv_path, as_json)
    if not as_json and outcome.rows:
        print_table(f"browser: {outcome.rows[0].device}", list(browser_bench.COLUMNS), browser_bench.table(outcome.rows))
    bench_options.end(outcome)


@click.command("flicker")
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
    bench_options.save_rows(rows, csv_path, as_json)
    if not as_json:
        print_table("flicker (levels of 255)", list(flicker.COLUMNS), flicker.table(rows))


def _sequences(paths: tuple[str, ...], fps: float) -> list[flicker.FrameSequence]:
    found = images.find(paths, batch.suffixes())
    if not found:
        raise InputError(f"no videos or pictures found: expected {', '.join(sorted(batch.suffixes()))}")
    return flicker.sequences([f.path for f in found], fps)
