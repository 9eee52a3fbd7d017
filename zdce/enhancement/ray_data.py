"""Enhancement with Ray Data: actors that each hold a network process rows of paths or pixels.

Needs the extra ``ray``. Ray decides where the work runs, and repeats it after the loss of a machine. Results are written
completely or not at all, and existing ones are kept, so the same call continues after an interruption.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zdce import errors
from zdce.enhancement import batch
from zdce.enhancement.batch import Job
from zdce.enhancement.enhance import Model
from zdce.enhancement.enhancer import Enhancer, Network, load, moved
from zdce.enhancement.manifest import KEPT
from zdce.io import images
from zdce.io.images import Pixels
from zdce.models import weights
from zdce.runtime import packages, progress
from zdce.settings import EnhanceSettings, options


def files(paths: Sequence[str], output: str | None = None) -> Any:
    """The files that ``zdce enhance`` would find and where it would put their results.

    Args:
        paths: files, folders (searched with the folders in them) or patterns.
        output: a folder, or a file for a single input; None writes results beside their inputs.

    Returns:
        A ``ray.data.Dataset`` with the columns ``source`` and ``target``.

    Raises:
        FileNotFoundError: a path or pattern matches nothing.
        ValueError: Ray Data is not installed, no file was found, two results would have the same path, or a result would
            replace a file of ``paths``.
    """
    jobs = batch.plan(images.find(paths, batch.suffixes()), output, overwrite=True)
    # Actors have different working directories.
    return _ray_data().from_items([{"source": str(j.source.absolute()), "target": str(j.target.absolute())} for j in jobs])


def enhance_files(
    dataset: Any,
    model: Model | None = None,
    settings: EnhanceSettings | None = None,
    *,
    overwrite: bool = False,
    device: str | None = None,
    **keywords: Any,
) -> Any:
    """Enhances files; files that fail do not stop the others.

    Args:
        dataset: a ``ray.data.Dataset`` with the columns ``source`` and ``target``: paths that all machines can access.
        model: a loaded network, or a name or path that ``zdce.load`` takes, which is read in this process; None is the default
            network, ``local``.
        settings: the settings; None stands for the defaults.
        overwrite: whether existing results are replaced.
        device: device of each actor's network, as for ``zdce.load``; None is the CPU, "cuda" needs ``num_gpus=1``.
        keywords: fields of ``zdce.EnhanceSettings``, which replace those in ``settings``; all others are passed to
            ``ray.data.Dataset.map``: ``compute=ray.data.ActorPoolStrategy(size=4)``, ``num_cpus=8``, ...

    Returns:
        A ``ray.data.Dataset`` with the columns of ``zdce enhance --manifest``: source, target, status and reason.

    Raises:
        FileNotFoundError, ValueError: there is no such network, a setting is out of range, or Ray Data is not installed.
    """
    asked, placement = _split_keywords(settings, keywords)
    return _map(dataset, _Files, model, device, (asked, overwrite), placement)


def enhance_images(
    dataset: Any,
    model: Model | None = None,
    settings: EnhanceSettings | None = None,
    *,
    column: str = "image",
    device: str | None = None,
    **keywords: Any,
) -> Any:
    """Enhances pictures in memory, such as those of ``ray.data.read_images(folder, mode="RGB")``.

    Args:
        dataset: a ``ray.data.Dataset`` with arrays (H, W, 3), RGB, uint8 or uint16, in ``column``; other columns are kept.
        column: name of the column of pictures.
        model, settings, device, keywords: as for ``enhance_files``.

    Returns:
        A ``ray.data.Dataset`` of the same rows with enhanced pictures.

    Raises:
        FileNotFoundError, ValueError: as for ``enhance_files``.
    """
    asked, placement = _split_keywords(settings, keywords)
    return _map(dataset, _Images, model, device, (asked, column), placement)


def _split_keywords(settings: EnhanceSettings | None, keywords: dict[str, Any]) -> tuple[EnhanceSettings, dict[str, Any]]:
    """The settings among ``keywords``, and the other keywords, which are Ray's."""
    changes: Any = {name: value for name, value in keywords.items() if name in options()}
    return EnhanceSettings.of(settings, **changes), {name: value for name, value in keywords.items() if name not in changes}


def _map(
    dataset: Any,
    kind: type,
    model: Model | None,
    device: str | None,
    arguments: tuple[Any, ...],
    placement: dict[str, Any],
) -> Any:
    _ray_data()
    chosen = weights.DEFAULT if model is None else model
    network = load(os.fspath(chosen)) if isinstance(chosen, str | os.PathLike) else chosen
    return dataset.map(kind, fn_constructor_args=(network, device or "cpu", *arguments), **placement)


class _Files:
    def __init__(self, network: Network, device: str, settings: EnhanceSettings, overwrite: bool) -> None:
        self._work = batch.Work.of(moved(network, device), settings)
        self._overwrite = overwrite

    def __call__(self, row: dict[str, str]) -> dict[str, str]:
        job = Job(Path(row["source"]), Path(row["target"]))
        kept = job.target.exists() and not self._overwrite
        # A progress bar that is not started shows nothing.
        outcome = batch.Outcome(KEPT) if kept else batch.do(job, self._work, progress.bar())
        if outcome.bug is not None:
            progress.console.print(errors.formatted(outcome.bug), markup=False)
        return batch.row(job, outcome.status, outcome.reason)._asdict()


class _Images:
    def __init__(self, network: Network, device: str, settings: EnhanceSettings, column: str) -> None:
        self._column, self._enhancer = column, Enhancer(moved(network, device), settings)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        picture: Pixels = row[self._column]
        return {**row, self._column: self._enhancer(picture)}


def _ray_data() -> Any:
    packages.require("ray.data", extra="ray")
    import ray.data

    return ray.data
