"""What every command does: a user's mistake is one line, never a traceback."""

import logging
import warnings
from typing import Any

import click

from zdce.ops.dispatch import BackendError
from zdce.runtime import signals

# What a user's mistake may raise; anything else is a bug and shows its traceback.
_MISTAKES = (ValueError, OSError, BackendError)

# It tells of every oddity of a file, which is read all the same or named as broken. A handler keeps Python from printing that.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


class Commands(click.Group):
    """Shows a user's mistake as one line on stderr, exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            # Where SIGTERM ends a command, half-written files and processes of its own go as at Ctrl-C.
            with warnings.catch_warnings(), signals.as_interrupts():
                # Of a broken file Pillow warns, with a line of its own code, whether it can be read or is named as broken.
                warnings.filterwarnings("ignore", module=r"PIL\.")
                return super().invoke(ctx)
        except BrokenPipeError:
            raise  # click ends quietly where nobody reads any more
        except _MISTAKES as error:
            raise click.ClickException(" ".join(str(error).split()) or type(error).__name__) from error
