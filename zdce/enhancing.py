"""Picture files enhanced one after another: where each result goes, and what happens to those that can't be done."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from zdce import images, progress
from zdce.images import Found, Pixels

_MARK = "-enhanced"


@dataclass(frozen=True)
class Job:
    """A picture file and the file that its enhanced version becomes."""

    source: Path
    target: Path


@dataclass
class Outcome:
    """What became of the jobs: written, kept because the target existed, or failed with a reason."""

    written: list[Path] = field(default_factory=list)
    kept: list[Path] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def plan(found: Iterable[Found], output: str | None) -> list[Job]:
    """Where each picture's result goes.

    Without ``output``, ``photo.jpg`` becomes ``photo-enhanced.jpg`` beside it, and what a folder ``F`` holds goes into
    ``F-enhanced``. With it, one named file becomes that file if it has a picture's suffix; all else goes into that folder,
    pictures of a folder at their place inside it.

    Raises:
        ValueError: there are no pictures, two results have one place, or a result would replace an input.
    """
    pictures = list(found)
    if not pictures:
        raise ValueError(f"no pictures found: expected {', '.join(sorted(images.SUFFIXES))}")
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
    return (
        len(pictures) == 1
        and pictures[0].folder is None
        and not output.endswith(os.sep)
        and not Path(output).is_dir()
        and Path(output).suffix.lower() in images.SUFFIXES
    )


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


def run(jobs: list[Job], enhance: Callable[[Pixels], Pixels], *, quality: int, overwrite: bool) -> Outcome:
    """Does the jobs in order, with progress shown; a picture that can't be done is named in one line and the rest goes on."""
    outcome = Outcome()
    for job in progress.track(jobs, len(jobs), "enhancing"):
        if job.target.exists() and not overwrite:
            outcome.kept.append(job.target)
            continue
        try:
            picture = images.read(job.source)
            images.write(picture.with_pixels(enhance(picture.pixels)), job.target, quality)
            outcome.written.append(job.target)
        except (OSError, ValueError, MemoryError) as error:
            outcome.failed.append(str(error) or f"{job.source}: {type(error).__name__}")
            progress.console.print(f"[red]skipped[/red] {outcome.failed[-1]}", markup=True)
    return outcome
