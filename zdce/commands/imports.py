"""`zdce import`."""

from pathlib import Path

import click

from zdce.commands import options
from zdce.convert import importing


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", "-o", "output", required=True, type=options.FILE, help="The .safetensors file to write.")
def import_weights(file: Path, output: Path) -> None:
    """Convert weights of other programs: PyTorch checkpoints of Zero-DCE, Zero-DCE++ or SCI, or .h5 and .keras files of the
    Keras example (the extra `keras`).

    The kind of FILE is recognised by its content; code in it is not run. The weights that Zero-DCE's authors published are for
    academic use only.
    """
    if output.suffix != ".safetensors":
        raise click.BadParameter(f"expected a .safetensors file, got {str(output)!r}", param_hint="--out")
    found = importing.read(file)
    found.model.save(output)
    click.echo(f"{file}: {found.origin}")
    click.echo(f"Note: {found.licence}.", err=True)
    click.echo(output)
