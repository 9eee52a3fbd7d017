"""`zdce enhance`."""

import sys
from functools import partial

import click

import zdce
from zdce import enhancing, images, video
from zdce.commands import options
from zdce.enhancer import FAST_SCALE


@click.command()
@click.argument("paths", nargs=-1, required=True)
@options.model
@click.option("--output", "-o", help="A file for one input, else a folder.  [default: NAME-enhanced beside the input]")
@click.option("--quality", type=click.IntRange(1, 100), default=95, help="Of JPEG and WebP.")
@click.option("--crf", type=click.IntRange(0, 51), default=video.CRF, help="Of videos: 0 is lossless, +6 halves the size.")
@options.smoothing
@click.option("--overwrite", is_flag=True, help="Replace results that exist; without it they are kept.")
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
