"""`zdce train`."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from zdce import training, variants, weights
from zdce.commands import options
from zdce.data import SAMPLE
from zdce.formulas import NORMALIZATIONS, Weights


def _weights(ctx: click.Context, parameter: click.Parameter, text: str | None) -> dict[str, float]:
    """``illumination=1600,color=0`` as a dictionary."""
    weights = {}
    for part in (text or "").split(",") if text else []:
        name, _, value = part.partition("=")
        if name.strip() not in Weights._fields:
            raise click.BadParameter(f"expected {'=..., '.join(Weights._fields)}=..., got {part!r}")
        try:
            weights[name.strip()] = float(value)
        except ValueError:
            raise click.BadParameter(f"{name.strip()} must be a number, got {value!r}") from None
    return weights


@click.command()
@click.option("--variant", default="base", help="The network; `zdce variants` lists them.")
@click.option(
    "--data",
    default=SAMPLE,
    callback=options.data_source,
    help="A folder of pictures, LOL's layout, `sample` for the built-in ones, or `open` for those of `zdce photographs`.",
)
@click.option("--epochs", type=click.IntRange(min=1), default=50)
@click.option("--batch-size", type=click.IntRange(min=1), default=16)
@click.option("--size", type=click.IntRange(min=16), default=256, help="Side in pixels that pictures are resized to.")
@click.option("--lr", type=float, default=1e-4, help="Adam's learning rate.")
@click.option("--loss-weights", callback=_weights, help="illumination=1600,spatial=1,...  [default: the variant's own]")
@click.option("--target", type=click.FloatRange(0, 1), default=0.6, help="The brightness that the exposure loss pulls towards.")
@click.option("--normalization", type=click.Choice(NORMALIZATIONS), default="paper", help="Of the illumination term.")
@click.option("--seed", type=click.IntRange(min=0), default=0)
@options.device
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of the run.")
@click.option(
    "--recipe", help="Take the settings from here, but for those given: shipped weights by their name, or a run's config.toml."
)
@click.option("--resume", is_flag=True, help="Go on with the run in --out; its settings are kept, but for those given.")
@click.pass_context
def train(
    ctx: click.Context, /, out: Path, recipe: str | None, resume: bool, loss_weights: dict[str, float], **settings: Any
) -> None:  # fmt: skip
    """Train a network without references.

    OUT gets config.toml, log.csv, weights every 10 epochs (epoch-010.safetensors, ...) and the last ones (last.safetensors).
    Ctrl-C saves; --resume goes on, to the same weights bit for bit.
    """
    given = {
        name: value
        for name, value in settings.items()
        if ctx.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT
    }
    if recipe is not None and resume:
        raise click.UsageError("--recipe and --resume exclude each other")
    if resume:
        config_file = training.RunFolder(out).config
        if not config_file.is_file():
            raise click.ClickException(f"no run to resume in {out}")
        run = training.Run.resume(training.Config.from_toml(config_file.read_text()).changed(given, loss_weights), out)
    elif recipe is not None:
        config = training.Config.from_toml(weights.recipe(recipe).read_text())
        run = training.Run.start(replace(config, **given, weights=config.weights._replace(**loss_weights)), out)
    else:
        every = variants.variant(settings["variant"]).weights._replace(**loss_weights)
        run = training.Run.start(training.Config(**settings, weights=every), out)
    try:
        run.train()
    except training.TrainingError as error:
        click.echo(str(error), err=True)
        sys.exit(130 if isinstance(error, training.TrainingInterruptedError) else 1)
    click.echo(f"weights: {run.folder.last}")
