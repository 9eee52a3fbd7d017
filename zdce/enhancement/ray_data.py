"""Enhancement with Ray Data: actors that each hold a network process rows of paths or pixels.

Needs the extra ``ray``; what runs where, and again where a machine is lost, is Ray's. Results appear whole or not at all, and
those that are there are kept: the same call does the rest.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zdce import errors
from zdce.enhancement import batch
from zdce.enhancement.batch import Job
from zdce.enhancement.enhancer import Enhancer, Network, load, moved
from zdce.enhancement.manifest import KEPT
from zdce.io import images
from zdce.io.images import Pixels
from zdce.runtime import packages, progress
from zdce.settings import EnhanceSettings, options


def files(paths: Sequence[str], output: str | None = None) -> Any:
    """The files that ``zdce enhance`` would find and where it would put their results.

    Args:
        paths: files, folders (searched through) or patterns.
        output: a folder, or a file for one input; None: beside each input.

    Returns:
        A ``ray.data.Dataset`` with the columns ``source`` and ``target``.

    Raises:
        FileNotFoundError: a path or pattern names nothing.
        ValueError: Ray Data is not installed, there is nothing to do, or two results have one place.
    """
    jobs = batch.plan(images.find(paths, batch.suffixes()), output)
    # Actors have different working directories.
    return _ray_data().from_items([{"source": str(j.source.absolute()), "target": str(j.target.absolute())} for j in jobs])


def enhance_files(
    dataset: Any,
    network: Network | str | Path,
    settings: EnhanceSettings | None = None,
    *,
    overwrite: bool = False,
    device: str = "cpu",
    **keywords: Any,
) -> Any:
    """Enhances files; files that fail do not stop the others.

    Args:
        dataset: a ``ray.data.Dataset`` with the columns ``source`` and ``target``, paths that all machines see.
        network: a network, or the name or file of one as ``zdce.load`` takes it, which is read here.
        settings: how; the defaults where it is left out.
        overwrite: whether results that are there are made anew.
        device: where an actor's network runs, as ``zdce.load`` takes it; "cuda" with ``num_gpus=1``.
        keywords: fields of ``zdce.EnhanceSettings``, in place of those in ``settings``; all others go to
            ``ray.data.Dataset.map``: ``compute=ray.data.ActorPoolStrategy(size=4)``, ``num_cpus=8``, ...

    Returns:
        A ``ray.data.Dataset`` with the columns of ``zdce enhance --manifest``: source, target, status and reason.

    Raises:
        FileNotFoundError, ValueError: there is no such network, a setting is out of range, or Ray Data is not installed.
    """
    asked, placement = _parted(settings, keywords)
    return _map(dataset, _Files, network, device, (asked, overwrite), placement)


def enhance_images(
    dataset: Any,
    network: Network | str | Path,
    settings: EnhanceSettings | None = None,
    *,
    column: str = "image",
    device: str = "cpu",
    **keywords: Any,
) -> Any:
    """Enhances pictures in memory, such as ``ray.data.read_images(folder, mode="RGB")`` reads.

    Args:
        dataset: a ``ray.data.Dataset`` with arrays (H, W, 3), RGB, uint8 or uint16, in ``column``, and whatever columns else.
        network, settings, device, keywords: as ``enhance_files`` has them.

    Returns:
        A ``ray.data.Dataset`` of the same rows, their pictures enhanced.

    Raises:
        FileNotFoundError, ValueError: as ``enhance_files`` does.
    """
    asked, placement = _parted(settings, keywords)
    return _map(dataset, _Images, network, device, (asked, column), placement)


def _parted(settings: EnhanceSettings | None, keywords: dict[str, Any]) -> tuple[EnhanceSettings, dict[str, Any]]:
    """The settings among ``keywords``, and the other keywords, which are Ray's."""
    changes: Any = {name: value for name, value in keywords.items() if name in options()}
    return EnhanceSettings.of(settings, **changes), {name: value for name, value in keywords.items() if name not in changes}


def _map(
    dataset: Any, kind: type, network: Network | str | Path, device: str, arguments: tuple[Any, ...], placement: dict[str, Any]
) -> Any:
    _ray_data()
    loaded = load(str(network)) if isinstance(network, str | Path) else network
    return dataset.map(kind, fn_constructor_args=(loaded, device, *arguments), **placement)


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
