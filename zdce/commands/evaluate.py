"""`zdce eval`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

import zdce
from zdce.commands import options
from zdce.commands.group import PanelCommand
from zdce.commands.printing import print_json, print_table
from zdce.data.datasets import Item
from zdce.errors import InputError
from zdce.io import images
from zdce.metrics import evaluation, evaluation_sets, leaderboard, protocols, registry
from zdce.metrics.baselines import BASELINES, USUAL
from zdce.metrics.evaluation import MODEL, Enhance, EvaluationOptions, Score
from zdce.metrics.evaluation_sets import PAIRS, EvaluationSet
from zdce.metrics.leaderboard import MeasuredSet
from zdce.metrics.protocols import Protocol
from zdce.metrics.registry import METRICS, REFERENCE, TARGETS
from zdce.models import weights
from zdce.models.network import DCENet
from zdce.runtime import atomic
from zdce.settings import EnhanceSettings
from zdce.settings import options as settings_with
from zdce.study.pictures import Labelled, sheet

# Width in pixels of a picture in the grid of --worst.
_WIDTH = 320

# Options that --protocol replaces.
_OF_PROTOCOLS = ("metrics", "against", "split", "pairs", "unpaired")


def _metrics(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    try:
        return registry.USUAL if value is None else registry.named(value)
    except InputError as error:
        raise click.BadParameter(str(error)) from None


def _baselines(ctx: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    if value in ("all", "none"):
        return tuple(BASELINES) if value == "all" else ()
    names = tuple(name.strip() for name in value.split(","))
    for name in names:
        if name not in BASELINES:
            raise click.BadParameter(f"expected all, none, or some of {', '.join(BASELINES)}; got {name!r}")
    return names


_PANELS = {
    "Networks and pictures": ("models", "split", "pairs", "unpaired", "protocol_name", "freeze"),
    "Measures": ("metrics", "against", "baselines"),
    "Reports": ("as_json", "csv_path", "board", "worst", "below"),
    "Enhancement": (*settings_with("pixels"), "device"),
}


@click.command("eval", cls=PanelCommand, panels=_PANELS)
@click.argument("sources", metavar="DATA...", nargs=-1, required=True)
@options.models("Network to measure", default=(weights.DEFAULT,))
@click.option(
    "--metrics",
    callback=_metrics,
    metavar="NAMES",
    help=f"Measures, separated by commas, or all: {', '.join(METRICS)}.  [default: {', '.join(registry.USUAL)}]",
)
@click.option(
    "--against", type=click.Choice(TARGETS), multiple=True, help="Target to compare with; may be repeated.  [default: all]"
)
@click.option(
    "--baselines",
    callback=_baselines,
    default=",".join(USUAL),
    metavar="NAMES",
    help=f"Simple methods beside the network, separated by commas, all or none: {', '.join(BASELINES)}.",
)
@click.option(
    "--split",
    type=click.Choice(["all", "validation"]),
    default="all",
    help="Pictures to measure: all, or only those that `zdce train` keeps out of training (the last ones by name).",
)
@click.option("--unpaired", is_flag=True, help="Accept data in which only some pictures have a reference.")
@click.option(
    "--pairs",
    type=click.Choice(list(PAIRS)),
    default="all",
    help="Half of these pictures, by their index from 0: one half to choose a model on, the other to report.",
)
@click.option(
    "--protocol",
    "protocol_name",
    metavar="NAME",
    help=f"Protocol that decides pictures and measures: a TOML file, or {', '.join(protocols.PROTOCOLS)}.",
)
@click.option(
    "--freeze",
    type=options.FILE,
    help="Write the protocol with fingerprints of its pictures to this file, so that others can measure the same.",
)
@click.option(
    "--leaderboard",
    "board",
    type=options.FILE,
    help="Write the tables as Markdown to this file; if it exists, between its two marks (zdce eval: begin, end).",
)
@click.option("--csv", "csv_path", type=options.FILE, help="Write the figures of every picture to this CSV file.")
@click.option(
    "--worst",
    type=options.FILE,
    help="Draw the five pictures with the lowest PSNR (original, output, reference) to this picture file.",
)
@click.option(
    "--below",
    type=click.Choice(list(BASELINES)),
    help="Choose the pictures of --worst by how far their PSNR is below that of this method.",
)
@options.as_json
@options.device
@options.settings("pixels")
def evaluate(
    sources: tuple[str, ...],
    models: tuple[str, ...],
    protocol_name: str | None,
    freeze: Path | None,
    board: Path | None,
    csv_path: Path | None,
    worst: Path | None,
    below: str | None,
    as_json: bool,
    device: str,
    settings: EnhanceSettings,
    **choice: Any,
) -> None:
    """Measure PSNR, SSIM and more of networks on DATA.

    DATA is a folder, `sample` or `open` (photographs made dark), or `lit` (photographs that should stay as they are). Each
    output is compared with its reference if there is one and, as in the report (docs/study.md), with the input and with PIL's
    autocontrast of it. The table also has simple methods (--baselines) and, below each mean, its 95 % confidence interval.
    Several data sets end with a table over all.
    """
    named = _by_name(models)
    folders = list(dict.fromkeys(sources))
    for name in folders:
        if (name in weights.names() or Path(name).suffix == ".safetensors") and not Path(name).is_dir():
            raise click.UsageError(f"DATA must be data sets, got the network {name}: give it by -m {name}")
    protocol = None if protocol_name is None else protocols.read(protocol_name)
    networks = {name: zdce.load(path, device) for name, path in named.items()}
    sets = _sets(folders, choice) if protocol is None else _protocol_sets(protocol, folders, choice)
    _check(sets, networks, protocol, freeze, worst, below)
    if board is not None:
        leaderboard.placed(board, "")  # Raises before minutes of work if the file has no place for tables.
    enhance = {name: _enhance(zdce.Enhancer(network, settings)) for name, network in networks.items()}
    scores = {one.name: evaluation.evaluate(one.items, enhance, one.asked) for one in sets}
    measured = [MeasuredSet(s.name, s.description, s.asked.metrics, tuple(evaluation.averages(scores[s.name]))) for s in sets]
    frozen = None if protocol is None else protocol.frozen([one.items for one in sets])
    try:
        if csv_path is not None:
            atomic.write_text(csv_path, evaluation.to_csv(scores))
        if board is not None:
            names = {MODEL: Path(named[MODEL]).stem} if MODEL in named else {}
            tables = leaderboard.markdown(measured, _parameters(networks), names)
            atomic.write_text(board, leaderboard.placed(board, tables))
        if freeze is not None and frozen is not None:
            atomic.write_text(freeze, frozen.to_toml())
        if worst is not None:
            _draw_worst(worst, sets[0].items, evaluation.worst(scores[sets[0].name], below), enhance[MODEL])
    finally:  # Also if the disk is full: measuring may have taken minutes.
        if as_json:
            print_json(_report(sets, measured, named, networks, frozen, choice))
        else:
            _print(named, sets, measured, frozen)


def _by_name(paths: Sequence[str]) -> dict[str, str]:
    """The networks by their names as methods: a single one is "model", several have the names of their files."""
    if len(paths) == 1:
        return {MODEL: paths[0]}
    stems = [path if path in weights.names() else Path(path).stem for path in paths]
    named = dict(zip(stems if len(set(stems)) == len(stems) else paths, paths, strict=True))
    if len(named) < len(paths) or set(named) & set(BASELINES):
        raise click.UsageError(f"expected networks with names of their own, got {', '.join(paths)}")
    return named


def _sets(folders: Sequence[str], choice: Mapping[str, Any]) -> list[EvaluationSet]:
    asked = EvaluationOptions(choice["metrics"], choice["against"] or TARGETS, choice["baselines"])
    return [evaluation_sets.of_source(name, asked, choice["split"], choice["pairs"], choice["unpaired"]) for name in folders]


def _protocol_sets(protocol: Protocol, folders: Sequence[str], choice: Mapping[str, Any]) -> list[EvaluationSet]:
    if len(folders) > 1:
        raise click.UsageError(f"--protocol takes one folder, got {', '.join(folders)}")
    for name in _OF_PROTOCOLS:
        if click.get_current_context().get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
            raise click.UsageError(f"leave out --{name}: --protocol decides it")
    return evaluation_sets.of_protocol(protocol, folders[0], EvaluationOptions(baselines=choice["baselines"]))


def _check(
    sets: Sequence[EvaluationSet],
    networks: Mapping[str, DCENet],
    protocol: Protocol | None,
    freeze: Path | None,
    worst: Path | None,
    below: str | None,
) -> None:
    """Checks everything that can be checked before minutes of work.

    Raises:
        click.UsageError: options that don't fit each other.
        InputError: a package for a measure is missing, there is nothing to compare with, or the pictures of --worst can't be
            determined or written.
    """
    if below and worst is None:
        raise click.UsageError("--below needs --worst FILE, whose pictures it chooses")
    if freeze and protocol is None:
        raise click.UsageError("--freeze needs --protocol NAME, the protocol to write")
    for one in sets:
        registry.check(one.asked.metrics)
        if set(one.asked.against) == {REFERENCE} and not any(item.load_reference for item in one.items):
            raise InputError(f"--against reference: {one.name} has no references for these pictures")
    if worst is not None:
        if len(sets) > 1 or len(networks) > 1:
            raise click.UsageError("--worst takes one network and one data set")
        asked = sets[0].asked
        if "psnr" not in asked.metrics or REFERENCE not in asked.against or (below and below not in asked.baselines):
            raise click.UsageError("--worst compares PSNR to references: leave out --metrics, --against and --baselines")
        _check_worst(worst, sets[0].name, sets[0].items)


def _enhance(enhancer: zdce.Enhancer) -> Enhance:
    return lambda image: images.as_uint8(enhancer(image))


def _parameters(networks: Mapping[str, DCENet]) -> dict[str, int]:
    return {name: sum(weight.numel() for weight in network.parameters()) for name, network in networks.items()}


def _report(
    sets: Sequence[EvaluationSet],
    measured: Sequence[MeasuredSet],
    named: Mapping[str, str],
    networks: Mapping[str, DCENet],
    frozen: Protocol | None,
    choice: Mapping[str, Any],
) -> dict[str, Any]:
    """The output of --json, which begins with what was measured; a single data set's keys are also at the top level."""
    which = {"split": choice["split"], "pairs": choice["pairs"]} if frozen is None else {}
    of_sets = [
        {"data": one.name, "measured": one.description, **which, "note": one.note, "pictures": [i.name for i in one.items]}
        for one in sets
    ]
    parameters = _parameters(networks)
    return {
        "images": sum(len(one.items) for one in sets),
        **(of_sets[0] if len(of_sets) == 1 else {}),
        "sets": of_sets,
        "rows": [{**average.to_dict(), "data": one.name} for one in measured for average in one.averages],
        "models": [{"method": name, "model": path, "parameters": parameters[name]} for name, path in named.items()],
        "protocol": None if frozen is None else {"name": frozen.name, "digest": frozen.digest, "versions": frozen.versions},
    }


def _print(
    named: Mapping[str, str], sets: Sequence[EvaluationSet], measured: Sequence[MeasuredSet], frozen: Protocol | None
) -> None:
    """A table for each data set, then one over all."""
    for asked, one in zip(sets, measured, strict=True):
        _print_set(f"{', '.join(named.values())} on {one.name}: {one.description}", one)
        if asked.note:
            click.echo(f"Note: {asked.note}.")
    if len(measured) > 1:
        heading, rows = leaderboard.over_all(measured)
        _print_wide("All data sets", heading, rows)
    if frozen is not None:
        versions = ", ".join(f"{name} {version}" for name, version in (frozen.versions or {}).items())
        click.echo(f"protocol {frozen.name} {frozen.digest} (versions: {versions})")


def _print_set(title: str, measured: MeasuredSet) -> None:
    """Prints the table of one data set, without measures that no picture has."""
    known = [name for name in measured.metrics if any(average.knows(name) for average in measured.averages)]
    rows = [
        [average.against, average.method, *(leaderboard.cell(average, name, "\n") for name in known), str(average.images)]
        for average in measured.averages
    ]
    _print_wide(title, ["against", "method", *(METRICS[name].heading for name in known), "images"], rows)


def _print_wide(title: str, heading: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table that is wide enough for its longest words."""
    columns = zip(heading, *rows, strict=True)
    width = sum(4 + max(len(word) for cell in column for word in cell.split("\n")) for column in columns)
    print_table(title, list(heading), [list(row) for row in rows], least_width=width)


def _check_worst(path: Path, data: str, items: Sequence[Item]) -> None:
    """Called before minutes of work.

    Raises:
        ValueError: there are no references, or the file's format can't be written.
    """
    if not any(item.load_reference for item in items):
        raise InputError(f"--worst needs true references, and {data} has none for these pictures")
    if path.suffix.lower() not in images.SUFFIXES:
        raise InputError(f"{path}: expected one of the formats {', '.join(sorted(images.SUFFIXES))}")


def _draw_worst(path: Path, items: Sequence[Item], chosen: Sequence[tuple[Score, Score | None]], enhance: Enhance) -> None:
    named = {item.name: item for item in items}
    rows = [_row(named[mine.name], mine, other, enhance) for mine, other in chosen]
    images.write(images.Picture(np.asarray(sheet(rows, _WIDTH))), path)


def _row(item: Item, mine: Score, other: Score | None, enhance: Enhance) -> list[Labelled]:
    """Original, output, the other method's result if there is one, reference."""
    picture = item.load()
    shown = [(picture, item.name), (enhance(picture), f"output, {mine.values['psnr']:.2f} dB")]
    if other is not None:
        shown.append((BASELINES[other.method](picture), f"{other.method}, {other.values['psnr']:.2f} dB"))
    if item.load_reference is not None:
        shown.append((item.load_reference(), "reference"))
    return [Labelled(Image.fromarray(pixels), label) for pixels, label in shown]
