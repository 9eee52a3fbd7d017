"""`zdce enhance --watch`: files are enhanced as they arrive in folders."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import click

from zdce.commands.enhance_report import DESCRIBED, FileRequest, Report, end
from zdce.enhancement import batch, watching
from zdce.enhancement.batch import Job, Work
from zdce.enhancement.manifest import FAILED, KEPT
from zdce.errors import InputError
from zdce.io import images
from zdce.runtime import processes, progress, signals
from zdce.runtime.processes import Ranks


def check(request: FileRequest) -> None:
    """Raises click.UsageError if an input is not a folder, or if several processes would watch them."""
    if wrong := next((path for path in request.paths if not Path(path).is_dir()), None):
        raise click.UsageError(f"--watch expects folders, got {wrong}")
    if processes.several():
        raise click.UsageError("--watch is for one process; --jobs works on several pictures at once")


def run(request: FileRequest, work: Work, report: Report) -> None:
    """Enhances files in the folders and those that arrive, until Ctrl-C or SIGTERM; the current picture is finished then."""
    arrivals = watching.Arrivals([Path(path) for path in request.paths], batch.suffixes(), recursive=request.recursive)
    counts = Counter[str]()
    sources = _begin(request, report, counts)
    progress.console.print(f"watching {', '.join(request.paths)}; Ctrl-C ends it", markup=False)
    with signals.stop_requested() as stop:
        for found in watching.arriving(arrivals, stop):
            jobs = batch.plan_into_folder(found, request.output, request.form)
            todo, _ = batch.split(_with_places_of_their_own(jobs, sources, report, counts), overwrite=request.overwrite)
            counts += batch.run(todo, work, Ranks(), report.add, at_once=request.at_once, stop=stop)
    report.end(counts, DESCRIBED)
    end(counts)


def _begin(request: FileRequest, report: Report, counts: Counter[str]) -> dict[Path, Path]:
    """Checks the files that are there already, as a run without --watch does, and counts results that are kept. Returns the
    source of each result's path.
    """
    if inside := next((path for path in request.paths if request.output and _same(path, request.output)), None):
        raise InputError(f"results would go into {inside}, which is watched; choose another output")
    found = images.find(request.paths, batch.suffixes(), watching.pass_over, recursive=request.recursive)
    jobs = batch.plan_into_folder(found, request.output, request.form)
    batch.check(jobs)
    todo, kept = batch.split(jobs, overwrite=request.overwrite)
    report.begin(todo, kept)
    counts[KEPT] = len(kept)
    return {job.target: job.source for job in jobs}


def _same(path: str, other: str) -> bool:
    return os.path.realpath(path) == os.path.realpath(other)


def _with_places_of_their_own(
    jobs: Iterable[Job], sources: dict[Path, Path], report: Report, counts: Counter[str]
) -> list[Job]:
    """``jobs`` without those whose result's path belongs to another source; these are named and counted as failed."""
    left = []
    for job in jobs:
        if (source := sources.setdefault(job.target, job.source)) == job.source:
            left.append(job)
            continue
        reason = f"{job.source}: {job.target} is the result of {source}"
        batch.report_skipped(reason)
        report.add(batch.row(job, FAILED, reason))
        counts[FAILED] += 1
    return left
