"""`zdce enhance`."""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import click

import zdce
from zdce import errors
from zdce.commands import options
from zdce.enhancement import batch
from zdce.enhancement.batch import Job
from zdce.enhancement.manifest import FAILED, KEPT, PARTLY, WRITTEN, Manifest
from zdce.io import images
from zdce.runtime import processes, signals
from zdce.settings import FAST_SCALE, EnhanceSettings


@click.command()
@click.argument("paths", nargs=-1, required=True)
@options.model
@click.option(
    "--out",
    "-o",
    "output",
    help="A file for one input, else a folder: one that exists, or a name that ends in / or has no suffix.  "
    "[default: NAME-enhanced beside the input]",
)
@click.option("--overwrite", is_flag=True, help="Replace results that exist; without it they are kept.")
@click.option(
    "--manifest",
    "manifest_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a CSV file of what became of every file, as it goes: source, target, status, reason.",
)
@options.device
@options.settings()
@click.option("--fast", is_flag=True, help=f"The same as --scale {FAST_SCALE}, unless the network's own is larger.")
def enhance(
    paths: tuple[str, ...],
    model: str,
    output: str | None,
    overwrite: bool,
    manifest_path: Path | None,
    device: str,
    settings: EnhanceSettings,
    fast: bool,
) -> None:
    """Brighten dark pictures and videos: files, folders (searched through), or patterns.

    Format, size, EXIF, XMP, colour profile and transparency of pictures are kept; timing, sound and rotation of videos; what
    a result lacks is told in one line. A video's curve is estimated on an image 12 times smaller unless --scale says
    otherwise. What can't be read is named and skipped, of a broken video what can be decoded is written; the exit code is 1
    then. What is there already is kept: the same command goes on where it was stopped. Under `torchrun --nproc-per-node N -m` N
    processes share the files out.
    """
    if fast and settings.scale is not None:
        raise click.UsageError("--fast and --scale exclude each other")
    with processes.process_group() as ranks, _stopping():
        network = zdce.load(model, device)
        settings = replace(settings, scale=max(FAST_SCALE, network.variant.scale)) if fast else settings
        work = batch.Work.of(network, settings)
        manifest = Manifest(manifest_path) if manifest_path else None
        jobs, others = ranks.broadcast_from_first(partial(_begin, paths, output, overwrite, manifest))
        counts = batch.run(jobs, work, ranks, manifest.add if manifest else None)
    if ranks.first:
        _summarize(counts + others, jobs)


@contextmanager
def _stopping() -> Iterator[None]:
    """Ctrl-C, and SIGTERM, which torchrun sends where a process ended, are one line."""
    try:
        with signals.as_interrupts():
            yield
    except KeyboardInterrupt as error:
        told = "stopped; what is written is whole, and the same command does the rest; an unfinished video starts anew"
        raise click.ClickException(told) from error


def _begin(
    paths: tuple[str, ...], output: str | None, overwrite: bool, manifest: Manifest | None
) -> tuple[list[Job], Counter[str]]:
    """What is to be done, and how many results are there and how many folders can't be searched."""
    others: Counter[str] = Counter()

    def unreadable(error: OSError) -> None:
        batch.tell_skipped(str(error), error)
        others[FAILED] += 1

    jobs = batch.plan(images.find(paths, batch.suffixes(), unreadable), output)
    todo, kept = batch.split(jobs, overwrite=overwrite)
    if manifest is not None:
        manifest.begin((str(job.target) for job in todo), (batch.row(job, KEPT) for job in kept))
    others[KEPT] = len(kept)
    return todo, others


def _summarize(counts: Counter[str], jobs: Sequence[Job]) -> None:
    """One line, and exit code 1 where something is missing, 70 where that is a bug's doing."""
    described = {
        WRITTEN: "written",
        PARTLY: "written as far as possible",
        KEPT: "kept as they were (--overwrite replaces them)",
        FAILED: "failed",
    }
    click.echo(", ".join(f"{counts[status]} {what}" for status, what in described.items() if counts[status]))
    if len(jobs) == 1 and not counts[FAILED]:
        click.echo(jobs[0].target)
    if counts[batch.BUGS]:
        click.echo(f"{counts[batch.BUGS]} of them failed by a bug of zdce. {errors.REPORT}", err=True)
        sys.exit(errors.BUG_EXIT_CODE)
    if counts[FAILED] or counts[PARTLY]:
        sys.exit(1)
