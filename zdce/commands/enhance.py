"""`zdce enhance`."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import click

from zdce.commands import enhance_arriving, enhance_stream, options
from zdce.commands.enhance_report import DESCRIBED, PLANNED, UNREAD, FileRequest, Report, end, tell_unread
from zdce.commands.group import PanelCommand
from zdce.enhancement import batch
from zdce.enhancement.batch import Job, Work
from zdce.enhancement.enhancer import load
from zdce.enhancement.manifest import FAILED, KEPT, Manifest
from zdce.io import formats, images
from zdce.runtime import processes, signals
from zdce.runtime.processes import Ranks
from zdce.settings import FAST_SCALE, EnhanceSettings

_PANELS = {
    "Files": ("output", "overwrite", "recursive", "watch", "dry_run"),
    "Brightness": (
        "model",
        "only_if_dark",
        "strength",
        "brightness",
        "shadows",
        "highlights",
        "noise",
        "smoothing",
        "transfer",
    ),
    "How files are written": ("format_name", "quality", "subsampling", "strip", "crf", "deinterlace"),
    "Speed": ("fast", "scale", "at_once", "precision", "device"),
    "Reports": ("as_json", "manifest_path"),
}


@click.command(cls=PanelCommand, panels=_PANELS)
@click.argument("paths", nargs=-1, required=True, type=click.Path(allow_dash=True))
@options.model
@click.option(
    "--out",
    "-o",
    "output",
    type=click.Path(allow_dash=True),
    help="A file for one input, else a folder: one that exists, or a name that ends in / or has no suffix. - is standard "
    "output.  [default: NAME-enhanced beside the input; standard output for standard input]",
)
@click.option(
    "--format",
    "format_name",
    type=click.Choice(list(formats.BY_NAME)),
    help="Format of all pictures that are written.  [default: the input's own]",
)
@click.option("--overwrite", is_flag=True, help="Replace results that exist; without it they are kept.")
@click.option("--recursive/--no-recursive", default=True, help="Search folders inside of folders too.")
@click.option("--dry-run", is_flag=True, help="Print what would be written, and write nothing.")
@click.option("--watch", is_flag=True, help="Stay, and brighten the files that arrive in the folders PATHS, until Ctrl-C.")
@click.option(
    "--jobs", "at_once", type=click.IntRange(min=1), default=1, metavar="N", help="Number of pictures to work on at once."
)
@click.option(
    "--manifest",
    "manifest_path",
    type=options.FILE,
    help="Write a CSV file of what became of every file, as it goes: source, target, status, reason.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each file as it is done, then a summary.")
@options.device
@options.settings()
@click.option("--fast", is_flag=True, help=f"The same as --scale {FAST_SCALE}, unless the network's own is larger.")
def enhance(
    paths: tuple[str, ...],
    model: str,
    output: str | None,
    format_name: str | None,
    overwrite: bool,
    recursive: bool,
    dry_run: bool,
    watch: bool,
    at_once: int,
    manifest_path: Path | None,
    as_json: bool,
    device: str,
    settings: EnhanceSettings,
    fast: bool,
) -> None:
    """Brighten dark pictures and videos: files, folders (searched through), patterns, or - for standard input.

    Format, size, EXIF, XMP, colour profile and transparency of pictures are kept; timing, sound and rotation of videos; what
    a result lacks is told in one line. A video's curve is estimated on an image 12 times smaller unless --scale says
    otherwise. What can't be read is named and skipped, of a broken video what can be decoded is written; the exit code is 1
    then. What is there already is kept: the same command goes on where it was stopped. Under `torchrun --nproc-per-node N -m` N
    processes share the files out.
    """
    if fast and settings.scale is not None:
        raise click.UsageError("--fast and --scale exclude each other")
    request = FileRequest(paths, output, formats.BY_NAME.get(format_name or ""), overwrite, recursive, at_once)
    _check(request, {"--watch": watch, "--dry-run": dry_run, "--manifest": manifest_path is not None, "--json": as_json})
    report = Report(Manifest(manifest_path) if manifest_path and not dry_run else None, as_json, names_files=watch)

    def work() -> Work:
        network = load(model, device)
        return Work.of(network, replace(settings, scale=max(FAST_SCALE, network.variant.scale)) if fast else settings)

    with _stopping():
        if enhance_stream.is_stream(request):
            enhance_stream.run(request, work())
        elif watch:
            enhance_arriving.run(request, work(), report)
        elif dry_run:
            _plan(request, report)
        else:
            with processes.process_group() as ranks:
                _enhance_files(request, work(), report, ranks)


def _check(request: FileRequest, given: dict[str, bool]) -> None:
    """Raises click.UsageError where options exclude each other."""
    if enhance_stream.is_stream(request):
        enhance_stream.check(request, [option for option, is_given in given.items() if is_given])
    if given["--watch"]:
        if given["--dry-run"]:
            raise click.UsageError("--watch and --dry-run exclude each other")
        enhance_arriving.check(request)


@contextmanager
def _stopping() -> Iterator[None]:
    """Ctrl-C, and SIGTERM, which torchrun sends where a process ended, are one line."""
    try:
        with signals.as_interrupts():
            yield
    except KeyboardInterrupt as error:
        told = "stopped; what is written is whole, and the same command does the rest; an unfinished video starts anew"
        raise click.ClickException(told) from error


def _enhance_files(request: FileRequest, work: Work, report: Report, ranks: Ranks) -> None:
    jobs, others = ranks.broadcast_from_first(partial(_begin, request, report))
    counts = batch.run(jobs, work, ranks, report.add, at_once=request.at_once)
    if ranks.first:
        report.end(counts + others, DESCRIBED)
        if len(jobs) == 1 and not (counts + others)[FAILED] and not report.as_json:
            click.echo(jobs[0].target)
        end(counts + others)


def _begin(request: FileRequest, report: Report) -> tuple[list[Job], Counter[str]]:
    """What is to be done, and how many results are there and how many folders can't be searched."""
    todo, kept, others = _jobs(request)
    report.begin(todo, kept)
    others[KEPT] = len(kept)
    return todo, others


def _jobs(request: FileRequest) -> tuple[list[Job], list[Job], Counter[str]]:
    """What is to be done, whose results are there, and how many folders can't be searched and files' formats are not read."""
    others: Counter[str] = Counter()

    def unreadable(error: OSError) -> None:
        batch.tell_skipped(str(error), error)
        others[FAILED] += 1

    every = batch.suffixes() | formats.UNREAD_SUFFIXES
    found = images.find(request.paths, every, unreadable, recursive=request.recursive)
    # A file that is named is tried, whatever its name.
    unread = [one.path for one in found if one.folder is not None and one.path.suffix.lower() in formats.UNREAD_SUFFIXES]
    tell_unread(unread)
    others[UNREAD] = len(unread)
    passed = set(unread)
    jobs = batch.plan([one for one in found if one.path not in passed], request.output, request.form)
    return *batch.split(jobs, overwrite=request.overwrite), others


def _plan(request: FileRequest, report: Report) -> None:
    """Prints what would be done."""
    todo, kept, counts = _jobs(request)
    for job, status in [(job, PLANNED) for job in todo] + [(job, KEPT) for job in kept]:
        report.print(batch.row(job, status))
    counts += Counter({PLANNED: len(todo), KEPT: len(kept)})
    report.end(counts, {PLANNED: "would be written", KEPT: "would be kept", FAILED: "can't be read", UNREAD: DESCRIBED[UNREAD]})
    end(counts)
