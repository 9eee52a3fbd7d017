"""`zdce enhance`."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click

from zdce.commands import enhance_arriving, enhance_stream, options
from zdce.commands.enhance_report import DESCRIBED, PLANNED, UNREAD, FileRequest, Report, end, report_passed_over
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
    help="File for a single input; a folder if one of that name exists, or if the name ends in / or has no suffix. - is "
    "standard output.  [default: NAME-enhanced beside the input; standard output for standard input]",
)
@click.option(
    "--format",
    "format_name",
    type=click.Choice(list(formats.BY_NAME)),
    help="Format of the written pictures.  [default: the input's own]",
)
@click.option("--overwrite", is_flag=True, help="Replace existing results; without it they are kept.")
@click.option("--recursive/--no-recursive", default=True, help="Search folders inside folders too.")
@click.option("--dry-run", is_flag=True, help="Print what would be written, and write nothing.")
@click.option("--watch", is_flag=True, help="Keep running, and brighten files that arrive in the folders PATHS, until Ctrl-C.")
@click.option(
    "--jobs", "at_once", type=click.IntRange(min=1), default=1, metavar="N", help="Number of pictures to work on at once."
)
@click.option(
    "--manifest",
    "manifest_path",
    type=options.FILE,
    help="Write a CSV file with a row for each file when it is done: source, target, status, reason.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each file when it is done, then a summary.")
@options.device
@options.settings()
@click.option("--fast", is_flag=True, help=f"Use scale {FAST_SCALE} for pictures, if the network's own is smaller.")
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
    """Brighten dark pictures and videos: files, folders, patterns, or - for standard input.

    Pictures keep their format, size, EXIF, XMP, colour profile and transparency; videos keep their timing, sound and rotation.
    One line names what could not be kept. --only-if-dark copies the files of lit pictures byte for byte. Unless
    --scale is given, a video's curve is estimated on an image 12 times smaller, or at the network's own scale.

    Files that can't be read are named and skipped; of a broken video, the part that can be decoded is written. The exit code is
    1 in both cases. Existing results are kept, so the same command continues where it was stopped (by Ctrl-C
    with exit code 130, by SIGTERM with 143). Under `torchrun --nproc-per-node N -m zdce enhance` N processes share the files.
    """
    if fast and settings.scale is not None:
        raise click.UsageError("--fast and --scale exclude each other")
    request = FileRequest(paths, output, formats.BY_NAME.get(format_name or ""), overwrite, recursive, at_once)
    _check(request, {"--watch": watch, "--dry-run": dry_run, "--manifest": manifest_path is not None, "--json": as_json})
    report = Report(Manifest(manifest_path) if manifest_path and not dry_run else None, as_json, names_files=watch)

    def work() -> Work:
        return Work.of(load(model, device), settings, fast=fast)

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
    """Raises click.UsageError if options exclude each other."""
    if enhance_stream.is_stream(request):
        enhance_stream.check(request, [option for option, is_given in given.items() if is_given])
    if given["--watch"]:
        if given["--dry-run"]:
            raise click.UsageError("--watch and --dry-run exclude each other")
        enhance_arriving.check(request)


@contextmanager
def _stopping() -> Iterator[None]:
    """Turns Ctrl-C, and the SIGTERM that torchrun sends when a process has ended, into one line."""
    try:
        with signals.as_interrupts():
            yield
    except KeyboardInterrupt as error:
        message = "stopped; all written files are complete, and the same command does the rest; unfinished videos start again"
        click.echo(message, err=True)
        raise click.exceptions.Exit(signals.exit_code(error)) from error


def _enhance_files(request: FileRequest, work: Work, report: Report, ranks: Ranks) -> None:
    jobs, others = ranks.broadcast_from_first(partial(_begin, request, report))
    counts = batch.run(jobs, work, ranks, report.add, at_once=request.at_once)
    if ranks.first:
        report.end(counts + others, DESCRIBED)
        if len(jobs) == 1 and not (counts + others)[FAILED] and not report.as_json:
            click.echo(jobs[0].target)
        end(counts + others)


def _begin(request: FileRequest, report: Report) -> tuple[list[Job], Counter[str]]:
    """The jobs to do, and the numbers of existing results, unsearchable folders and files of unread formats."""
    todo, kept, others = _jobs(request)
    report.begin(todo, kept)
    others[KEPT] = len(kept)
    return todo, others


def _jobs(request: FileRequest) -> tuple[list[Job], list[Job], Counter[str]]:
    """The jobs to do, those whose results exist, and the numbers of unsearchable folders and of files of unread formats."""
    others: Counter[str] = Counter()

    def unreadable(error: OSError) -> None:
        batch.report_skipped(str(error), error)
        others[FAILED] += 1

    every = batch.suffixes() | formats.UNREAD_SUFFIXES
    found = images.find(request.paths, every, unreadable, recursive=request.recursive)
    # A file that the user names is tried, whatever its suffix.
    unread = [one.path for one in found if one.folder is not None and one.path.suffix.lower() in formats.UNREAD_SUFFIXES]
    report_passed_over(unread, "these formats are not read")
    others[UNREAD] = len(unread)
    passed = set(unread)
    taken = [one for one in found if one.path not in passed]
    jobs = batch.plan(taken, request.output, request.form, overwrite=request.overwrite)
    sources = {job.source for job in jobs}
    beside = request.output is None  # else a folder's files that are left out lie in the output
    passed_over = [one.path for one in taken if (one.named or (beside and one.folder)) and one.path not in sources]
    report_passed_over(passed_over, "results of other inputs")
    return *batch.split(jobs, overwrite=request.overwrite), others


def _plan(request: FileRequest, report: Report) -> None:
    """Prints what would be done."""
    todo, kept, counts = _jobs(request)
    for job, status in [(job, PLANNED) for job in todo] + [(job, KEPT) for job in kept]:
        report.print(batch.row(job, status))
    counts += Counter({PLANNED: len(todo), KEPT: len(kept)})
    report.end(counts, {PLANNED: "would be written", KEPT: "would be kept", FAILED: "can't be read", UNREAD: DESCRIBED[UNREAD]})
    end(counts)
