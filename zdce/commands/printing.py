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


def print_table(title: str, columns: list[str], rows: list[list[str]], least_width: int = 0) -> None:
    click.echo(title)
    table = Table(box=box.SIMPLE, pad_edge=False)
    for i, column in enumerate(columns):
        numeric = all(_is_number(row[i].partition("\n")[0]) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", no_wrap=i == 0)
    for row in rows:
        table.add_row(*map(escape, row))
    console = Console()
    Console(width=max(console.width, least_width)).print(table)


def _is_number(text: str) -> bool:
    return text in ("-", "inf") or text.replace(",", "").replace(".", "").lstrip("-").isdigit()
