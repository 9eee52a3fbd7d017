"""Options that several commands have."""

import ipaddress
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import wraps
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click

from zdce.errors import ZdceError
from zdce.models import weights
from zdce.settings import MAX_SCALE, Effect, EnhanceSettings, Option
from zdce.settings import options as all_settings


def usable_device(device: str) -> str:
    """PyTorch's name of ``device``.

    Raises:
        click.BadParameter: it can't be used here.
    """
    from zdce.runtime import devices, processes

    try:
        name = str(devices.named(device))
        processes.use_own_gpu(name)
    except ZdceError as error:
        raise click.BadParameter(str(error)) from None
    return name


_NETWORK = "that `zdce variants` lists with weights, or a .safetensors file"
model = click.option("--model", "-m", default=weights.DEFAULT, help=f"Network {_NETWORK}.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for a script.")
device = click.option(
    "--device", default="cpu", callback=lambda ctx, parameter, name: usable_device(name),
    help="Device to run the network on: cpu, cuda, or another of PyTorch's names; auto takes the GPU if there is one.",
)  # fmt: skip
scale = click.option(
    "--scale",
    type=click.IntRange(1, MAX_SCALE),
    help="Estimate the curve on an image this many times smaller.  [default: the network's own]",
)
# Type of an option for a file to write.
FILE = click.Path(path_type=Path, dir_okay=False)
csv = click.option("--csv", "csv_path", type=FILE, help="Write the rows to this CSV file.")
plot = click.option("--plot", "plot_path", type=FILE, help="Write a chart to this .png or .svg file.")


class Finite(click.types.FloatParamType):
    """Type of an option that is a number; nan and inf are refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class FiniteRange(click.FloatRange, Finite):
    """Type of an option that is a number in a range."""


_Command = Callable[..., Any]


def models(purpose: str, default: tuple[str, ...] = (), note: str = "") -> Callable[[_Command], _Command]:
    """Adds ``--model`` for several networks, whose ``purpose`` begins the help text and ``note`` ends it."""
    text = f"{purpose}: one {_NETWORK}; may be repeated.{note}"
    return click.option("--model", "-m", "models", multiple=True, default=default, metavar="MODEL", help=text)


def listening(command: _Command) -> _Command:
    """Adds the options of servers: ``host``, ``port``, ``names`` and ``in_browser``."""
    for option in reversed(
        (
            click.option("--host", default="127.0.0.1", help="Address to listen on."),
            click.option("--port", type=click.IntRange(0, 65535), default=8000, help="Port to listen on; 0 takes a free one."),
            click.option(
                "--allow-host",
                "names",
                multiple=True,
                help="Host name that requests may use, beside IP addresses, localhost and --host; may be repeated.",
            ),
            click.option("--open", "in_browser", is_flag=True, help="Open the page in a browser."),
        )
    ):
        command = option(command)
    return command


def warn_of_visitors(host: str) -> None:
    """Prints a warning on stderr if other machines can reach a server at ``host``."""
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = host == "localhost"
    if not is_loopback:
        click.echo(f"warning: anyone who can reach {host} can use this server: it has no passwords and no encryption", err=True)


def settings(
    *effects: Effect, without: Collection[str] = (), unset: Mapping[str, str] = MappingProxyType({})
) -> Callable[[_Command], _Command]:
    """Adds an option for each setting with one of ``effects`` (by default all settings), except those ``without``.

    The command gets them as one argument, ``settings``, an ``EnhanceSettings``. ``unset`` says what None means there, if
    that differs.
    """
    chosen = {
        name: replace(option, unset=unset.get(name, option.unset))
        for name, option in all_settings(*effects).items()
        if name not in without
    }

    def decorate(command: _Command) -> _Command:
        @wraps(command)
        def gathered(*arguments: Any, **values: Any) -> Any:
            return command(*arguments, settings=EnhanceSettings(**{name: values.pop(name) for name in chosen}), **values)

        decorated: _Command = gathered
        for name, option in reversed(chosen.items()):
            decorated = _click_option(name, option)(decorated)
        return decorated

    return decorate


def _click_option(name: str, option: Option) -> Callable[[_Command], _Command]:
    text = f"{option.help}  [default: {option.unset}]" if option.unset else option.help
    default, name = getattr(EnhanceSettings(), name), name.replace("_", "-")
    if option.kind is bool:
        return click.option(f"--{name}", is_flag=True, default=default, help=text)
    return click.option(f"--{name}", type=_type(option), default=default, metavar=option.unit.upper() or None, help=text)


def _type(option: Option) -> Any:
    if option.choices:
        return click.Choice(option.choices)
    if option.kind is int:
        return click.IntRange(_whole(option.least), _whole(option.most))
    if option.least is None:
        return Finite()
    most, is_open = (option.most, False) if option.below is None else (option.below, True)
    return FiniteRange(option.least, most, max_open=is_open)


def _whole(bound: float | None) -> int | None:
    return None if bound is None else int(bound)


def data_source(ctx: click.Context, parameter: click.Parameter, data: str) -> str:
    return absolute(data)


def absolute(data: str) -> str:
    """Folder of pictures as an absolute path: a run may be resumed from another working directory."""
    from zdce.data.datasets import DARKENED

    return data if data in DARKENED else str(Path(data).absolute())


def size(ctx: click.Context, parameter: click.Parameter, text: str) -> tuple[int, int]:
    """Text such as ``256`` or ``480x640`` as height and width."""
    height, _, width = text.partition("x")
    try:
        return int(height), int(width or height)
    except ValueError:
        raise click.BadParameter(f"expected a side or HEIGHTxWIDTH in pixels, got {text!r}") from None
