"""Output of commands: JSON for scripts, tables for people."""

import json
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))


# Width for files and pipes, where no cell needs to be shortened.
_UNLIMITED = 1000


def print_table(title: str, columns: list[str], rows: list[list[str]], least_width: int = 0) -> None:
    """Prints a title and a table.

    Args:
        least_width: smallest width of the table in a terminal, in characters; elsewhere it is as wide as its cells.
    """
    click.echo(title)
    table = Table(box=box.SIMPLE, pad_edge=False)
    for i, column in enumerate(columns):
        numeric = all(_is_number(row[i].partition("\n")[0]) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", no_wrap=i == 0)
    for row in rows:
        table.add_row(*map(escape, row))
    console = Console()
    Console(width=max(console.width, least_width) if console.is_terminal else _UNLIMITED).print(table)


def _is_number(text: str) -> bool:
    return text in ("-", "inf") or text.replace(",", "").replace(".", "").lstrip("-").isdigit()
