"""What the commands of `zdce bench` have in common: options, and how they end."""

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click
import torch

from zdce.bench.processes import Outcome
from zdce.bench.rows import Row, to_csv
from zdce.commands import options
from zdce.commands.printing import print_json
from zdce.runtime import atomic


def several(
    name: str, argument: str, choices: Iterable[str], what: str, default: Sequence[str] = (), unset: str | None = None
) -> Callable[..., Any]:
    """Option that takes some of ``choices``; ``unset`` describes the default in its help."""
    text = f"{what}; may be repeated." + (f"  [default: {unset}]" if unset else "")
    given: dict[str, Any] = {"default": list(default), "show_default": unset is None} if default else {}
    return click.option(name, argument, type=click.Choice(list(choices)), multiple=True, help=text, **given)


def save_rows(rows: list[Row], csv_path: Path | None, as_json: bool) -> None:
    try:
        if csv_path is not None:
            atomic.write_text(csv_path, to_csv(rows))
    except OSError:  # Measuring may have taken minutes.
        if not as_json:
            click.echo(to_csv(rows), nl=False)
        raise
    finally:
        if as_json:
            print_json([row.to_dict() for row in rows])


def sizes(ctx: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    return tuple(options.size(ctx, parameter, text) for text in texts)


def thread_numbers(ctx: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, ...]:
    """Text such as ``1,2`` as numbers; by default one thread and torch's own number."""
    return numbers(ctx, parameter, text) or tuple(sorted({1, torch.get_num_threads()}))


def numbers(ctx: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, ...]:
    """Text such as ``1,2`` as numbers; empty by default."""
    if text is None:
        return ()
    parts = text.split(",")
    if not all(number.strip().isdecimal() and int(number) > 0 for number in parts):
        raise click.BadParameter(f"expected numbers above 0, separated by commas, got {text!r}")
    return tuple(map(int, parts))


each_threads = click.option(
    "--threads",
    callback=thread_numbers,
    help="Numbers of threads, separated by commas, such as 1,2.  [default: 1 and torch's own]",
)


def end(outcome: Outcome) -> None:
    """Prints notes on what was left out; exits with code 1 if a result was wrong."""
    for note in outcome.notes:
        click.echo(note, err=True)
    if outcome.wrong:
        sys.exit(1)
