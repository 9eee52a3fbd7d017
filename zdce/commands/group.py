"""Common behaviour of commands: they are imported when used, show a user's mistake as one line and a bug as a traceback."""

import logging
import warnings
from collections.abc import Collection, Mapping
from importlib import import_module
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem

from zdce import errors
from zdce.errors import InputError
from zdce.runtime import packages, signals

# tifffile logs every oddity of a file; the file is read anyway, or reported as broken. A handler keeps Python from printing
# logs.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


class Lazy(NamedTuple):
    """A command that is not imported yet: its place as ``module:name``, a summary for the list of commands, and whether it
    needs PyTorch.
    """

    place: str
    summary: str
    on_torch: bool = False

    def load(self) -> click.Command:
        """The command.

        Raises:
            InputError: PyTorch is needed and not installed.
        """
        if self.on_torch and (reason := packages.missing("torch", "skimage", extra="torch")):
            raise InputError(reason)
        module, _, name = self.place.partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command


class PanelCommand(click.Command):
    """A command whose help lists its options in groups.

    Args:
        panels: the names of the parameters below each heading; other options are listed below "Options".
    """

    def __init__(self, *arguments: Any, panels: Mapping[str, Collection[str]], **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._panels = panels

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        placed = {name for names in self._panels.values() for name in names}
        found = {str(each.name): each for each in self.get_params(ctx) if isinstance(each, click.Option)}
        for heading, names in {**self._panels, "Options": [name for name in found if name not in placed]}.items():
            records = [found[name].get_help_record(ctx) for name in names]
            if records := [record for record in records if record is not None]:
                with formatter.section(heading):
                    formatter.write_dl(records)


class Commands(click.Group):
    """A group that imports the commands in ``lazy`` when they are used.

    A user's mistake is shown as one line with exit code 1, any other exception as a bug: its traceback, with exit code 70.
    Ctrl-C ends a command with exit code 130, SIGTERM with 143.
    """

    def __init__(self, *arguments: Any, lazy: Mapping[str, Lazy] | None = None, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.lazy = dict(lazy or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.lazy, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self.lazy:
            return self.lazy[cmd_name].load()
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if not self.lazy:
            super().format_commands(ctx, formatter)
            return
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.summary) for name, command in self.lazy.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        if not self.lazy:
            return super().shell_complete(ctx, incomplete)
        found = [CompletionItem(name, help=c.summary) for name, c in self.lazy.items() if name.startswith(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with warnings.catch_warnings(), signals.as_interrupts():
                # Pillow's warnings about broken files show lines of its code; such files are read, or reported as broken.
                warnings.filterwarnings("ignore", module=r"PIL\.")
                return super().invoke(ctx)
        except (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
            raise  # click shows its own exceptions; a closed pipe ends the command silently
        except KeyboardInterrupt as error:
            click.echo("stopped", err=True)
            ctx.exit(signals.exit_code(error))
        except Exception as error:
            line = errors.explanation(error)
            if line is None or errors.debugging():
                click.echo(errors.formatted(error), err=True)
            if line is None:
                click.echo(errors.REPORT, err=True)
                ctx.exit(errors.BUG_EXIT_CODE)
            raise click.ClickException(line) from error
