"""Pictures and videos enhanced one after another: where each result goes, and what happens to those that can't be done."""

import csv
import io
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from rich.markup import escape
from rich.progress import Progress

from zdce import atomic, images, progress, video
from zdce.images import Found, Pixels

_MARK = "-enhanced"


@dataclass(frozen=True)
class Job:
    """A picture or video file and the file that its enhanced version becomes."""

    source: Path
    target: Path


@dataclass
class Outcome:
    """What became of the jobs: written, kept because the target existed, or failed with a reason.

    ``partly`` holds the reasons why a video among the written ones is shorter than it should be, or damaged.
    """

    written: list[Path] = field(default_factory=list)
    kept: list[Path] = field(default_factory=list)
    partly: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def __add__(self, other: "Outcome") -> "Outcome":
        return Outcome(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


class Manifest:
    """A CSV file with a row a job, added when it is done: source, target, status and reason.

    The status is "written", "partly" (of a broken video what could be decoded), "kept" (the target existed) or "failed".
    Several processes may add to one file: each row is one write at its end.
    """

    FIELDS = ("source", "target", "status", "reason")

    def __init__(self, path: Path) -> None:
        self._path = path

    def begin(self) -> None:
        """Replaces the file by one without rows.

        Raises:
            OSError: it can't be written.
        """
        atomic.write_text(self._path, self._line(self.FIELDS))

    def add(self, job: Job, status: str, reason: str = "") -> None:
        """Raises OSError: the disk takes no more."""
        with self._path.open("ab", buffering=0) as file:
            file.write(self._line((job.source, job.target, status, reason)).encode())

    @staticmethod
    def _line(values: Iterable[object]) -> str:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(values)
        return text.getvalue()


def suffixes() -> frozenset[str]:
    """Of the files that are looked for: pictures, and videos where they can be read."""
    return images.SUFFIXES if video.why_missing() else images.SUFFIXES | video.SUFFIXES


def plan(found: Iterable[Found], output: str | None) -> list[Job]:
    """Where each picture's and video's result goes.

    Without ``output``, ``photo.jpg`` becomes ``photo-enhanced.jpg`` beside it, and what a folder ``F`` holds goes into
    ``F-enhanced``. With it, one named file becomes that file if it has a suffix of its kind; all else goes into that folder,
    what was in a folder at its place inside it.

    Raises:
        ValueError: there is nothing to do, two results have one place, a result would replace an input or be of the other kind,
            or videos can't be read here.
    """
    pictures = list(found)
    if not pictures:
        raise ValueError(f"no pictures found: expected {', '.join(sorted(suffixes()))}")
    reason = video.why_missing()
    for picture in pictures:
        if reason and video.is_video(picture.path):
            raise ValueError(f"{picture.path}: {reason}")
    if output is None:
        jobs = [Job(picture.path, _beside(picture)) for picture in pictures]
        # Results of a former run that a pattern matched as well are no inputs.
        results = {job.target for job in jobs}
        jobs = [job for job in jobs if job.source not in results]
    elif _is_file(output, pictures):
        jobs = [Job(pictures[0].path, Path(output))]
    else:
        folder = Path(output)
        inside = folder.resolve()
        jobs = [Job(p.path, folder / p.place) for p in pictures if p.folder is None or inside not in p.path.resolve().parents]
    _check(jobs)
    return jobs


def _beside(picture: Found) -> Path:
    if picture.folder is None:
        return picture.path.with_stem(picture.path.stem + _MARK)
    folder = picture.folder.resolve()
    return folder.with_name(folder.name + _MARK) / picture.place


def _is_file(output: str, pictures: list[Found]) -> bool:
    target = Path(output)
    if len(pictures) > 1 or pictures[0].folder is not None or output.endswith(os.sep) or target.is_dir():
        return False
    if target.suffix.lower() not in images.SUFFIXES | video.SUFFIXES:
        return False
    if video.is_video(target) != video.is_video(pictures[0].path):
        kinds = ("a video", "a picture") if video.is_video(pictures[0].path) else ("a picture", "a video")
        raise ValueError(f"{pictures[0].path} is {kinds[0]} and can't become {kinds[1]}, {output}")
    return True


def _check(jobs: list[Job]) -> None:
    sources = {job.source.resolve(): job.source for job in jobs}
    targets: dict[Path, Path] = {}
    for job in jobs:
        place = job.target.resolve()
        if place in sources:
            raise ValueError(f"{job.target} would replace an input; choose another output")
        if place in targets:
            raise ValueError(f"{targets[place]} and {job.source} would both become {job.target}")
        targets[place] = job.source


@dataclass(frozen=True)
class Work:
    """What is done to a file.

    Attributes:
        picture: gives the enhanced pixels of a picture.
        film: ``video.enhance`` for a source and a target, with its enhancer and options set.
        quality: of JPEG and WebP, 1 to 100.
    """

    picture: Callable[[Pixels], Pixels]
    film: Callable[..., video.Report]
    quality: int


def run(jobs: Sequence[Job], work: Work, *, overwrite: bool, manifest: Manifest | None = None) -> Outcome:
    """Does the jobs in order, with progress shown; what can't be done is named in one line and the rest goes on.

    Raises:
        OSError: the manifest can't be written.
    """
    outcome = Outcome()
    with progress.bar() as shown:
        task = shown.add_task("enhancing", total=len(jobs), status="")
        for job in jobs:
            if job.target.exists() and not overwrite:
                outcome.kept.append(job.target)
                status, reason = "kept", ""
            else:
                status, reason = _do(job, work, outcome, shown)
            if manifest is not None:
                manifest.add(job, status, reason)
            shown.advance(task)
    return outcome


def show_failed(reasons: Iterable[str]) -> None:
    """A line each."""
    for reason in reasons:
        progress.console.print(f"[red]skipped[/red] {escape(reason)}")


def _do(job: Job, work: Work, outcome: Outcome, shown: Progress) -> tuple[str, str]:
    """Gives the status and its reason."""
    fault = None
    try:
        if video.is_video(job.source):
            fault = _do_video(job, work, outcome, shown)
        else:
            picture = images.read(job.source)
            images.write(picture.with_pixels(work.picture(picture.pixels)), job.target, work.quality)
        outcome.written.append(job.target)
    except (OSError, ValueError, MemoryError) as error:
        reason = str(error) or f"{job.source}: {type(error).__name__}"
        outcome.failed.append(reason)
        show_failed([reason])
        return "failed", reason
    return ("partly", fault) if fault else ("written", "")


def _do_video(job: Job, work: Work, outcome: Outcome, shown: Progress) -> str | None:
    """Gives what is wrong with it."""
    with progress.frames(shown, job.source.name) as counted:
        report = work.film(job.source, job.target, shown=counted)
    pace = report.frames / report.seconds
    progress.console.print(f"{job.target}: {report.frames} frames, {pace:.1f} a second", markup=False)
    for note in report.notes:
        progress.console.print(f"{job.target}: {note}", markup=False)
    if report.fault:
        progress.console.print(report.fault, style="red", markup=False)
        outcome.partly.append(report.fault)
    return report.fault
