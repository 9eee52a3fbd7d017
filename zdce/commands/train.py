"""`zdce train`."""

import itertools
import sys
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from zdce import training
from zdce.commands import options
from zdce.commands.group import PanelCommand
from zdce.data.datasets import SAMPLE
from zdce.errors import InputError, library_call
from zdce.models import variants
from zdce.models.network import ACTIVATIONS
from zdce.ops import NORMALIZATIONS
from zdce.runtime import locks, processes, signals
from zdce.settings import LossWeights


def _weights(ctx: click.Context, parameter: click.Parameter, text: str | None) -> dict[str, float]:
    """Text such as ``illumination=1600,color=0`` as a dictionary."""
    weights = {}
    for part in (text or "").split(",") if text else []:
        name, _, value = part.partition("=")
        if name.strip() not in LossWeights._fields:
            raise click.BadParameter(f"expected {'=..., '.join(LossWeights._fields)}=..., got {part!r}")
        try:
            weights[name.strip()] = options.Finite().convert(value, parameter, ctx)
        except click.BadParameter:
            raise click.BadParameter(f"{name.strip()} must be a finite number, got {value!r}") from None
    return weights


_PANELS = {
    "Run": ("out", "resume", "config_file", "tensorboard", "device"),
    "Network": ("variant", "activations", "amp", "seed"),
    "Pictures": ("data", "size", "augment", "batch_size"),
    "Losses": ("loss_weights", "target", "normalization"),
    "Optimization": ("epochs", "lr", "schedule", "accumulate", "clip", "ema"),
}


@click.command(cls=PanelCommand, panels=_PANELS)
@click.option("--variant", default="base", help="Network to train; `zdce variants` lists them.")
@click.option(
    "--data",
    default=SAMPLE,
    callback=options.data_source,
    help="Folder of pictures, or one in LOL's layout (low, high); `sample`: the built-in pictures; `open`: the photographs of"
    " `zdce photographs`.",
)
@click.option("--epochs", type=click.IntRange(min=1), default=50, help="Passes over all pictures.")
@click.option("--batch-size", type=click.IntRange(min=1), default=16, help="Pictures in a batch.")
@click.option("--accumulate", type=click.IntRange(min=1), default=1, help="Number of batches per update.")
@click.option(
    "--size", type=click.IntRange(16, training.MAX_SIZE), default=256, help="Side in pixels that pictures are resized to."
)
@click.option(
    "--augment",
    type=click.Choice(training.AUGMENTATIONS),
    default="none",
    help="Random changes, drawn again in each epoch: flips mirrors half of the pictures, crops also takes a window of each.",
)
@click.option("--lr", type=options.FiniteRange(min=0, min_open=True), default=1e-4, help="Adam's learning rate.")
@click.option(
    "--schedule", type=click.Choice(training.SCHEDULES), default="constant", help="Change of the learning rate over the epochs."
)
@click.option(
    "--clip",
    type=options.FiniteRange(min=0),
    default=0.0,
    metavar="NORM",
    help="Upper bound of the gradient's norm; 0 sets none.",
)
@click.option(
    "--ema",
    type=options.FiniteRange(0, 1, max_open=True),
    default=0.0,
    metavar="DECAY",
    help="Validate and save a moving average of the weights with this decay per update, such as 0.999; 0 turns it off.",
)
@click.option(
    "--activations",
    type=click.Choice(list(ACTIVATIONS)),
    default="float32",
    help="Type of feature maps on the CPU; bfloat16 halves their memory.",
)
@click.option(
    "--amp/--no-amp",
    help="Mixed precision: float16 on a GPU, bfloat16 on the CPU; without it, float32, also on a GPU (no TF32).",
)
@click.option(
    "--loss-weights",
    callback=_weights,
    metavar="NAME=WEIGHT,...",
    help="Weights of losses, such as illumination=1600,spatial=1.  [default: the variant's own]",
)
@click.option("--target", type=options.FiniteRange(0, 1), default=0.6, help="Mean brightness that the exposure loss aims at.")
@click.option(
    "--normalization", type=click.Choice(NORMALIZATIONS), default="paper", help="Normalisation of the illumination term."
)
@click.option(
    "--seed",
    type=click.IntRange(0, training.MAX_SEED),
    default=0,
    help="Seed of the initial weights, the order of pictures and augmentation.",
)
@options.device
@click.option(
    "--tensorboard/--no-tensorboard", help="Also write losses and pictures for TensorBoard (needs the extra `tensorboard`)."
)
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Read settings from this file, such as a run's config.toml; options on the command line take precedence.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the run.  [required without --config; with it, default: a new folder beside that file or its run]",
)
@click.option(
    "--resume", is_flag=True, help="Continue the run in --out with its settings; options on the command line take precedence."
)
@click.pass_context
def train(
    ctx: click.Context,
    /,
    out: Path | None,
    config_file: Path | None,
    resume: bool,
    loss_weights: dict[str, float],
    **settings: Any,
) -> None:
    """Train a network without reference images.

    Writes config.toml, log.csv, weights every 10 epochs (epoch-010.safetensors, ...) and the last weights (last.safetensors) to
    OUT. Ctrl-C saves the state and stops (exit code 130; SIGTERM: 143); --resume continues and ends with the same weights, bit
    for bit, as without the stop. The defaults are the settings of the report (docs/study.md), but for
    --normalization, which was keras. Under `torchrun --nproc-per-node
    N -m zdce train` N processes share each batch; --resume works with any number of processes.
    """
    if resume and config_file:
        raise click.UsageError("--config starts a new run, --resume continues one: give only one of them")
    given = {
        name: value
        for name, value in settings.items()
        if ctx.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT
    }
    try:
        with processes.process_group() as ranks:
            folder = ranks.broadcast_from_first(partial(_folder, ctx, out, config_file))
            config = _config(folder, resume, config_file, settings, given, loss_weights)
            with ExitStack() as held:
                ranks.broadcast_from_first(lambda: held.enter_context(locks.exclusive(folder)))
                run = (training.Run.resume if resume else training.Run.start)(config, folder, ranks)
                run.train()
            if ranks.first:
                click.echo(f"weights: {run.folder.last}")
    except training.TrainingError as error:
        click.echo(str(error), err=True)
        sys.exit(signals.exit_code(error) if isinstance(error, training.TrainingInterruptedError) else 1)


def _config(
    folder: Path,
    resume: bool,
    config_file: Path | None,
    settings: dict[str, Any],
    given: dict[str, Any],
    weights: dict[str, float],
) -> training.Config:
    if resume:
        saved = training.RunFolder(folder).config
        if not saved.is_file():
            raise click.ClickException(f"no run to resume in {folder}")
        config = _read(saved).changed(given, weights)
    elif config_file:
        config = _read(config_file).for_another_run(given, weights)
    else:
        own = variants.variant(settings["variant"]).weights
        config = training.Config(**settings, weights=own._replace(**weights))
    options.usable_device(config.device)
    if not resume:
        # Before the folder is made, so that an error leaves none behind.
        training.check_pictures(config)
    return config


def _read(file: Path) -> training.Config:
    try:
        with library_call(InputError):
            text = file.read_text(encoding="utf-8")
        config = training.Config.from_toml(text)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    return replace(config, data=options.absolute(config.data))


def _folder(ctx: click.Context, out: Path | None, config_file: Path | None) -> Path:
    if out is not None:
        return out
    if config_file is None:
        raise click.MissingParameter(param=next(p for p in ctx.command.params if p.name == "out"), ctx=ctx)
    return _beside(config_file)


def _beside(config_file: Path) -> Path:
    """A new folder: ``runs/base-2`` for the run of ``runs/base/config.toml``; ``x`` for an ``x.toml`` of no run."""
    run = config_file.absolute().parent
    first = run if training.RunFolder(run).state.exists() else config_file.with_suffix("")
    numbered = (first.with_name(f"{first.name}-{n}") for n in itertools.count(2))
    return next(folder for folder in itertools.chain([first], numbered) if not folder.exists())
