"""Options that several commands have."""

from pathlib import Path

import click

from zdce.enhancement.enhancer import PRECISIONS
from zdce.enhancement.smoothing import SECONDS
from zdce.models import weights


def check_device(device: str) -> None:
    """Raises click.BadParameter where ``device`` can't be used here."""
    import torch

    from zdce.runtime import processes

    try:
        processes.use_own_gpu(device)
        torch.empty(1, device=device).cpu()  # "meta" has nothing to give back
    except (RuntimeError, AssertionError, ValueError) as error:  # how torch answers depends on what it was built with
        raise click.BadParameter(f"{device!r} can't be used here: {str(error).splitlines()[0]}") from None


def _usable_device(ctx: click.Context, parameter: click.Parameter, device: str) -> str:
    check_device(device)
    return device


model = click.option(
    "--model", "-m", default=weights.DEFAULT, help="A network that `zdce variants` lists with weights, or a .safetensors file."
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for a script.")
device = click.option("--device", default="cpu", callback=_usable_device, help="Where the network runs, as torch names it.")
scale = click.option(
    "--scale",
    type=click.IntRange(min=1),
    help="Estimate the curve on an image so many times smaller.  [default: the variant's]",
)
precision = click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="fp32",
    help="Of the convolutions: bf16 is faster on processors with AMX, and on GPUs.",
)
strength = click.option("--strength", type=float, default=1.0, help="1 as trained, or as its scene wants; 0 nothing.")
brightness = click.option(
    "--brightness",
    type=click.FloatRange(0, 1, max_open=True),
    help="The mean, of 1, that a scene with a mean of 0.05 is brought to; 0: as trained.  [default: the variant's]",
)
noise = click.option(
    "--noise",
    type=click.FloatRange(0, 255, max_open=True),
    metavar="LEVELS",
    callback=lambda ctx, parameter, levels: None if levels is None else levels / 255,
    help="Of 255, in the input: what the curve makes of it is smoothed; 0: nothing is.  [default: the variant's]",
)

smoothing = click.option(
    "--smoothing",
    type=click.FloatRange(min=0),
    default=SECONDS,
    metavar="SECONDS",
    help="Of videos: how slowly their curve and light may change; 0 is frame by frame.",
)


csv = click.option("--csv", "csv_path", type=click.Path(path_type=Path, dir_okay=False), help="Write the rows here.")


def data_source(ctx: click.Context, parameter: click.Parameter, data: str) -> str:
    return absolute(data)


def absolute(data: str) -> str:
    """A run is resumed from wherever the user stands then: its folder of pictures is kept as an absolute path."""
    from zdce.data.datasets import DARKENED

    return data if data in DARKENED else str(Path(data).absolute())
