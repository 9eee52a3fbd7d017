"""`zdce enhance`."""

import sys
from functools import partial, reduce
from operator import add
from pathlib import Path

import click

import zdce
from zdce import enhancing, images, ranks, video
from zdce.commands import options
from zdce.enhancer import FAST_SCALE


@click.command()
@click.argument("paths", nargs=-1, required=True)
@click.option("--model", "-m", required=True, help="A .safetensors file of `zdce train`.")
@click.option("--output", "-o", help="A file for one input, else a folder.  [default: NAME-enhanced beside the input]")
@click.option("--quality", type=click.IntRange(1, 100), default=95, help="Of JPEG and WebP.")
@click.option("--crf", type=click.IntRange(0, 51), default=video.CRF, help="Of videos: 0 is lossless, +6 halves the size.")
@options.smoothing
@click.option("--overwrite", is_flag=True, help="Replace results that exist; without it they are kept.")
@click.option(
    "--manifest",
    "manifest_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a CSV file of what became of every file, as it goes: source, target, status, reason.",
)
@options.device
@options.scale
@click.option("--fast", is_flag=True, help=f"The same as --scale {FAST_SCALE}.")
@options.strength
def enhance(
    paths: tuple[str, ...],
    model: str,
    output: str | None,
    quality: int,
    crf: int,
    smoothing: float,
    overwrite: bool,
    manifest_path: Path | None,
    device: str,
    scale: int | None,
    fast: bool,
    strength: float,
) -> None:
    """Brighten dark pictures and videos: files, folders (searched through), or patterns.

    Format, size, EXIF, colour profile and transparency of pictures are kept; timing, sound and rotation of videos. A video's
    curve is estimated on an image 12 times smaller unless --scale says otherwise. What can't be read is named and skipped, of a
    broken video what can be decoded is written; the exit code is 1 then. What is there already is kept: the same command goes
    on where it was stopped. Under `torchrun --nproc-per-node N -m` N processes share the files out.
    """
    if fast and scale is not None:
        raise click.UsageError("--fast and --scale exclude each other")
    jobs = enhancing.plan(images.find(paths, enhancing.suffixes()), output)
    manifest = None if manifest_path is None else enhancing.Manifest(manifest_path)
    with ranks.joined(device) as among:
        network = zdce.load(model).to(device)
        scale = FAST_SCALE if fast else scale
        enhancer = zdce.Enhancer(network, scale=scale, strength=strength)
        filming = zdce.Enhancer(network, scale=video.scale_for(network, scale), strength=strength)
        film = partial(video.enhance, enhancer=filming, options=video.Options(smoothing, crf))
        work = enhancing.Work(enhancer, film, quality)
        if manifest is not None and among.first:
            manifest.begin()
        among.same(None)  # nobody adds to the manifest before it is begun
        outcomes = among.gathered(enhancing.run(among.share(jobs), work, overwrite=overwrite, manifest=manifest))
    if among.first:
        for other in outcomes[1:]:
            enhancing.show_failed(other.failed)
        _summarize(reduce(add, outcomes))


def _summarize(outcome: enhancing.Outcome) -> None:
    """One line, and exit code 1 where something is missing."""
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
