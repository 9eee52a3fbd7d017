"""Running a study: the plan with its estimated time, the work, and the page."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from zdce.runtime import locks, packages, progress
from zdce.study.settings import Settings
from zdce.study.stages import Stage, Study

# Pixels of a batch up to which one thread trains fastest: on two cores a step took a seventh of the time with two threads,
# which wait for each other in busy loops, in forward and in backward.
_SMALL = 16 * 64 * 64


class Planned(NamedTuple):
    """One kind of work: number of stages done and left, and the estimated time of those left in seconds."""

    work: str
    done: int
    left: int
    seconds: float


def check_page() -> None:
    """Checks the packages for the page, before hours of work.

    Raises:
        InputError: a package is not installed.
    """
    packages.require("jinja2", "matplotlib", extra="study")


def use_threads_for(settings: Settings) -> None:
    """Sets torch to one thread for the rest of the process if the study's batches are small."""
    if settings.batch_size * settings.size**2 <= _SMALL:
        torch.set_num_threads(1)


def plan(study: Study, stages: Sequence[Stage]) -> list[Planned]:
    """Work that is done and left, by kind."""
    left = todo(study, stages)
    kinds = list(dict.fromkeys(stage.kind for stage in stages))
    planned = []
    for kind in kinds:
        these = [stage for stage in left if stage.kind == kind]
        done = sum(stage.kind == kind for stage in stages) - len(these)
        planned.append(Planned(kind, done, len(these), sum(stage.seconds for stage in these)))
    return planned


def todo(study: Study, stages: Sequence[Stage]) -> list[Stage]:
    """Stages that are not done, or were done with other inputs."""
    return [stage for stage in stages if not study.is_done(stage)]


def run(study: Study, stages: Sequence[Stage]) -> Path:
    """Does the remaining work, writes the results and the page, and returns the page's path.

    Raises:
        InputError: another process is using the folder.
        zdce.study.stages.StudyInterruptedError: a signal came; finished work is kept.
    """
    with locks.exclusive(study.folder.path):
        remaining = sum(stage.seconds for stage in todo(study, stages))
        for number, stage in enumerate(stages, 1):
            if study.is_done(stage):
                continue
            left = f"about {progress.duration(remaining)} left in total"
            progress.console.print(f"[{number}/{len(stages)}] {stage.label}, {left}", markup=False)
            study.run(stage)
            remaining = max(0.0, remaining - stage.seconds)
        study.results().save(study.folder.results)
        return report(study.folder.path)


def report(folder: Path) -> Path:
    """Writes the page of the results in ``folder`` and returns its path.

    Raises:
        FileNotFoundError: ``folder`` has no results.
        InputError: they are broken, or a package for the page is not installed.
    """
    check_page()
    from zdce.study import page

    return page.write(folder)


def publish(folder: Path, out: Path) -> Path:
    """Writes the results in ``folder`` as Markdown without pictures into ``out`` and returns its path; raises as ``report``."""
    check_page()
    from zdce.study import page

    return page.publish(folder, out)
