"""The command line: each command (``zdce/commands``) reads its options, calls the package, and prints."""

import click

from zdce.commands.bench import bench
from zdce.commands.enhance import enhance
from zdce.commands.evaluate import evaluate
from zdce.commands.exports import export
from zdce.commands.facts import info, list_variants
from zdce.commands.group import Commands
from zdce.commands.imports import import_weights
from zdce.commands.photographs import list_photographs
from zdce.commands.serve import serve
from zdce.commands.study import report, run_study
from zdce.commands.train import train
from zdce.runtime import allocator
from zdce.version import __version__


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="zdce")
def main() -> None:
    """Zero-reference low-light image enhancement."""
    allocator.keep_freed_memory()


for _command in (
    train, evaluate, enhance, serve, run_study, report, bench, import_weights, export, list_variants, list_photographs, info,
):  # fmt: skip
    main.add_command(_command)

if __name__ == "__main__":
    main()
