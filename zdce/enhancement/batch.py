"""Batches of picture and video files: the path of each result, and errors that do not stop the other files."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, NamedTuple

from zdce import errors
from zdce.enhancement import colour, picture_files, video
from zdce.enhancement.enhancer import Enhancer, Network
from zdce.enhancement.manifest import BRIGHT, FAILED, PARTLY, STATUSES, WRITTEN, Row
from zdce.errors import InputError
from zdce.io import formats, images, raw
from zdce.io.formats import Format
from zdce.io.images import Found, Picture
from zdce.runtime import progress
from zdce.runtime.processes import Ranks
from zdce.settings import FAST_SCALE, EnhanceSettings

if TYPE_CHECKING:
    from rich.progress import Progress

_MARK = "-enhanced"

# Key of ``run``'s counts, beside the statuses: number of files that failed because of a bug of zdce.
BUGS = "bugs"
_COUNTED = (*STATUSES, BUGS)

# Seconds between updates of the progress of other processes.
_PAUSE = 0.1


@dataclass(frozen=True)
class Job:
    """A picture or video file and the path of its result."""

    source: Path
    target: Path


def suffixes() -> frozenset[str]:
    """Suffixes of files to look for. They include formats whose package is not installed; such files are then named in an
    error.
    """
    return images.SUFFIXES | video.SUFFIXES | raw.SUFFIXES


def plan(found: Iterable[Found], output: str | None, form: Format | None = None, *, overwrite: bool = False) -> list[Job]:
    """Jobs for the found files, with the path of each result.

    Without ``output``, the result of ``photo.jpg`` is ``photo-enhanced.jpg`` beside it, and the results of a folder ``F`` go
    into ``F-enhanced``. With an ``output`` that names a file, a single input becomes that file. Any other ``output`` is a
    folder, in which the files of a folder keep their relative paths. A name with a suffix is a folder only if that folder
    exists or the name ends in a slash.

    Without ``output``, found files that are results of others are not inputs: an earlier run wrote them.

    Args:
        form: format of the resulting pictures; None keeps each picture's own.
        overwrite: whether existing results are replaced. Files that were named are inputs then even if they are results of
            others, which is an error.

    Raises:
        ValueError: no file was found; two results would have the same path; a result would replace an input, or a picture
            become a video or the reverse; or ``output`` has an unknown suffix, one of another format than ``form``, or a suffix
            although there are several files.
    """
    pictures = list(found)
    if not pictures:
        raise InputError(f"no pictures found: expected {', '.join(sorted(suffixes()))}")
    if output is None:
        planned = [(picture, Job(picture.path, _beside(picture, form))) for picture in pictures]
        results = {_real(job.target) for _, job in planned}
        # In a folder also those of an earlier run, in any format, that was given its files.
        earlier = {_real(one.path.with_name(one.path.stem + _MARK)) for one in pictures}
        jobs = [
            job
            for one, job in planned
            if (one.named and overwrite)
            or (_real(job.source) not in results and (one.folder is None or _real(one.path.with_suffix("")) not in earlier))
        ]
    elif _is_file(output, pictures):
        check_format(Path(output), form)
        jobs = [Job(pictures[0].path, Path(output))]
    else:
        jobs = plan_into_folder(pictures, output, form)
        if not jobs:
            raise InputError(f"all pictures found lie in {output}, where results would go; choose another output")
    check(jobs)
    return jobs


def plan_into_folder(pictures: Iterable[Found], output: str | None, form: Format | None) -> list[Job]:
    """As ``plan``, for an ``output`` that is a folder, or None if all pictures were found in folders. Files inside of it are
    not inputs.

    Raises:
        ValueError: ``output`` is a file, or empty.
    """
    if output is None:
        return [Job(picture.path, _beside(picture, form)) for picture in pictures]
    if not output:  # as of a shell's variable that is not set; it is not the current folder
        raise InputError("output must be the name of a file or a folder, got ''")
    folder = Path(output)
    if os.path.lexists(folder) and not folder.is_dir():
        raise InputError(f"{output} is a file, where a folder is expected for results")
    inside = _real(folder)
    return [
        Job(p.path, folder / written(p.place, form))
        for p in pictures
        if p.folder is None or inside not in _real(p.path).parents
    ]


def _beside(picture: Found, form: Format | None) -> Path:
    if picture.folder is None:
        return written(picture.path.with_stem(picture.path.stem + _MARK), form)
    folder = _real(picture.folder)
    return folder.with_name(folder.name + _MARK) / written(picture.place, form)


def written(path: Path, form: Format | None) -> Path:
    """The name of the result of a file called ``path``: a picture's in the format ``form``, or its own where that is None.

    RAW files become TIFF, and videos of formats that are only read become MP4.
    """
    if form is not None and not video.is_video(path):
        return formats.renamed(path, form)
    return path.with_suffix(".tif") if raw.is_raw(path) else video.written(path)


def check_format(target: Path, form: Format | None) -> None:
    """Raises ValueError if the name ``target`` does not belong to the format ``form``; with None any name does."""
    if form is not None and formats.of_suffix(target) is not form:
        raise InputError(f"{target}: expected a name ending in {' or '.join(form.suffixes)} for the format {form.name}")


def _real(path: Path) -> Path:
    """The path without links; a link to itself has no such path and is returned unchanged."""
    return Path(os.path.realpath(path))


def _is_file(output: str, pictures: list[Found]) -> bool:
    """Whether ``output`` names a file: it has a suffix, and there is no folder of that name."""
    target = Path(output)
    if output.endswith((os.sep, "/")) or target.is_dir() or not target.suffix:
        return False
    if target.suffix.lower() not in images.SUFFIXES | frozenset(video.FORMATS):
        formats = ", ".join(sorted(images.SUFFIXES | frozenset(video.FORMATS)))
        raise InputError(f"{output}: expected a folder (end its name in {os.sep}) or one of the formats {formats}")
    if len(pictures) > 1 or pictures[0].folder is not None:
        kind = "file" if os.path.lexists(target) else f"file's name (end it in {os.sep})"
        raise InputError(f"{output} is a {kind}, where a folder is expected for results")
    if video.is_video(target) != video.is_video(pictures[0].path):
        kinds = ("a video", "a picture") if video.is_video(pictures[0].path) else ("a picture", "a video")
        raise InputError(f"{pictures[0].path} is {kinds[0]} and can't become {kinds[1]}, {output}")
    return True


def check(jobs: Iterable[Job]) -> None:
    """Raises ValueError if a result would replace an input or another result."""
    jobs = list(jobs)
    sources = {_real(job.source): job.source for job in jobs}
    targets: dict[Path, Path] = {}
    for job in jobs:
        place = _real(job.target)
        if place in sources:
            raise InputError(f"{job.source}: its result {job.target} would replace an input; choose another output")
        if place in targets:
            raise InputError(f"{targets[place]} and {job.source} would both become {job.target}")
        targets[place] = job.source


@dataclass(frozen=True)
class Work:
    """The work on a file.

    Attributes:
        picture: ``colour.enhance`` for a picture, with its enhancer set.
        film: ``video.enhance`` for a source and a target, with its enhancer set.
        settings: how files are written.
    """

    picture: Callable[[Picture], Picture]
    film: Callable[..., video.Report]
    settings: EnhanceSettings

    @classmethod
    def of(cls, network: Network, settings: EnhanceSettings, *, fast: bool = False) -> "Work":
        """Work with ``network``; pictures and videos have their own scale if ``settings`` has none.

        Args:
            fast: raise the scale of pictures to at least ``FAST_SCALE``; that of videos is larger already.
        """
        still = Enhancer(network, replace(settings, scale=max(FAST_SCALE, network.variant.scale)) if fast else settings)
        film = Enhancer(network, video.settings_for(network.variant, settings))
        return cls(partial(colour.enhance, enhancer=still), partial(video.enhance, enhancer=film), settings)


def split(jobs: Iterable[Job], *, overwrite: bool) -> tuple[list[Job], list[Job]]:
    """Jobs to do, and jobs whose results exist and are kept."""
    todo: list[Job] = []
    kept: list[Job] = []
    for job in jobs:
        (kept if job.target.exists() and not overwrite else todo).append(job)
    return todo, kept


def run(
    jobs: Sequence[Job],
    work: Work,
    ranks: Ranks,
    tell: Callable[[Row], None] | None = None,
    *,
    at_once: int = 1,
    stop: Event | None = None,
) -> Counter[str]:
    """Does the jobs and shows progress. Files that fail are named in one line, and the others are done.

    Each of several processes does its share of ``jobs``.

    Args:
        ranks: the processes that share the work.
        tell: called with a row for each file when it is done.
        at_once: number of pictures to work on at once; with 1 files are done in their order, otherwise videos come last.
        stop: no further job is started once it is set.

    Returns:
        Numbers of files by status (``manifest.STATUSES``), and under ``BUGS`` the number of files that failed because of a bug
        of zdce: in the first process, which waits for the others, those of all processes, in others their own.
    """
    counts: Counter[str] = Counter()
    told: set[tuple[str, str, int]] = set()
    with progress.bar() as shown:
        task = shown.add_task("enhancing", total=len(jobs), status="")
        for job, outcome in _outcomes(ranks.share(jobs), work, shown, at_once, stop or Event()):
            if outcome.bug is not None:
                counts[BUGS] += 1
                _report_bug(outcome.bug, told)
            if tell is not None:
                tell(row(job, outcome.status, outcome.reason))
            counts[outcome.status] += 1
            shown.update(task, completed=ranks.count("done", 1))
        for counted in _COUNTED:
            ranks.count(counted, counts[counted])
        ranks.count("finished", 1)
        while ranks.first and ranks.count("finished") < ranks.world:
            time.sleep(_PAUSE)
            shown.update(task, completed=ranks.count("done"))
    return Counter({counted: ranks.count(counted) for counted in _COUNTED}) if ranks.first else counts


def _outcomes(jobs: Sequence[Job], work: Work, shown: "Progress", at_once: int, stop: Event) -> Iterator[tuple[Job, "Outcome"]]:
    """Each job with its outcome, when it is done."""
    pictures = [job for job in jobs if not video.is_video(job.source)] if at_once > 1 else []
    if pictures:
        yield from _outcomes_of_threads(pictures, work, shown, at_once, stop)
    for job in (job for job in jobs if not pictures or video.is_video(job.source)):
        if stop.is_set():
            return
        yield job, do(job, work, shown)


def _outcomes_of_threads(
    jobs: Iterable[Job], work: Work, shown: "Progress", at_once: int, stop: Event
) -> Iterator[tuple[Job, "Outcome"]]:
    # No more jobs are submitted than run at once: after an interrupt only these are waited for, and their files are complete.
    with ThreadPoolExecutor(at_once) as threads:
        running: dict[Future[Outcome], Job] = {}
        for job in jobs:
            if stop.is_set():
                break
            running[threads.submit(do, job, work, shown)] = job
            if len(running) == at_once:
                yield from _ended(running)
        while running:
            yield from _ended(running)


def _ended(running: dict[Future["Outcome"], Job]) -> Iterator[tuple[Job, "Outcome"]]:
    for future in wait(running, return_when=FIRST_COMPLETED).done:
        yield running.pop(future), future.result()


def row(job: Job, status: str, reason: str = "") -> Row:
    """The row of a manifest."""
    return Row(str(job.source), str(job.target), status, reason)


class Outcome(NamedTuple):
    """Outcome of a job: its status, the reason if there is one, and the bug if one was the reason."""

    status: str
    reason: str = ""
    bug: Exception | None = None


def do(job: Job, work: Work, shown: "Progress") -> Outcome:
    """Does one job. Errors and bugs are named in one line and become the outcome, so that the other files are still done."""
    try:
        return _do_video(job, work, shown) if video.is_video(job.source) else _do_picture(job, work)
    except Exception as error:
        if errors.is_lack_of_memory(error):
            reason = f"{job.source}: there is not enough memory for it"
        elif (known := errors.explanation(error)) is not None:
            named = str(job.source) in known or str(job.target) in known
            reason = known if named else f"{job.source}: {known}"
        else:
            reason = f"{job.source}: a bug of zdce, {type(error).__name__}: {errors.one_line(error)}"
            report_skipped(reason)
            return Outcome(FAILED, reason, error)
        report_skipped(reason, error)
        return Outcome(FAILED, reason)


def _do_picture(job: Job, work: Work) -> Outcome:
    result = picture_files.write(job.source, job.target, work.settings, work.picture)
    for note in result.notes:
        progress.console.print(f"{job.target}: {note}", markup=False)
    return Outcome(BRIGHT if result.bright else WRITTEN, "; ".join(result.notes))


def report_skipped(reason: str, error: BaseException | None = None) -> None:
    """Prints one line on stderr, and the traceback of ``error`` if ``ZDCE_DEBUG`` is set."""
    if error is not None and errors.debugging():
        progress.console.print(errors.formatted(error), markup=False)
    progress.console.print(f"[red]skipped[/red] {progress.escaped(reason)}")


def _report_bug(bug: Exception, told: set[tuple[str, str, int]]) -> None:
    """Prints the traceback of a bug on stderr, once for all files with the same bug."""
    if errors.place(bug) not in told:
        told.add(errors.place(bug))
        progress.console.print(errors.formatted(bug), markup=False)


def _do_video(job: Job, work: Work, shown: "Progress") -> Outcome:
    if reason := video.why_missing():
        raise InputError(f"{job.source}: {reason}")
    with progress.frames(shown, job.source.name) as counted:
        report = work.film(job.source, job.target, shown=counted)
    pace = report.frames / report.seconds
    progress.console.print(f"{job.target}: {report.frames} frames, {pace:.1f} a second", markup=False)
    for note in report.notes:
        progress.console.print(f"{job.target}: {note}", markup=False)
    if report.fault:
        progress.console.print(report.fault, style="red", markup=False)
        return Outcome(PARTLY, "; ".join([report.fault, *report.notes]))
    return Outcome(WRITTEN, "; ".join(report.notes))
