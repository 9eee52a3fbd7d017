"""`zdce export`."""

from pathlib import Path

import click

import zdce
from zdce.commands import options
from zdce.convert import exporting


def _size(ctx: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, int] | None:
    return None if text is None else options.size(ctx, parameter, text)


@click.command(context_settings={"allow_extra_args": True})
@options.model
@click.option(
    "--out", "-o", "output", required=True, type=options.FILE,
    help="File to write: .onnx (the extra `export`), .pt2 for torch.export.load, .param for ncnn, with a .bin beside it (the "
    "extra `ncnn`), .dtmodel for darktable (the extra `export`), or .tflite for LiteRT (the extra `litert`).",
)  # fmt: skip
@click.option(
    "--precision", type=click.Choice(exporting.PRECISIONS), default="fp32", help="Precision of convolutions and weights."
)
@options.scale
@click.option(
    "--uint8", is_flag=True, help="Take and return uint8 pictures (B, H, W, 3) instead of float32 (B, 3, H, W) in [0, 1]."
)
@click.option(
    "--size", callback=_size, metavar="HEIGHTxWIDTH", help="Size of all images; needed for .tflite, whose files take one size."
)
def export(model: str, output: Path, precision: str, scale: int | None, uint8: bool, size: tuple[int, int] | None) -> None:
    """Write a network with its curve as a file for other programs, for any batch size, height and width.

    If the network adapts its strength to the scene and smooths noise, so does the exported file, with the noise of 1.4 levels
    that the network assumes at least: it measures none.

    The file is checked against the network at three sizes before it is written. ncnn and darktable can run networks that look
    at a few pixels around each pixel (base, iters4, zero-dce, ...), at scale 1; LiteRT those without scene strength and
    denoising.
    """
    if extra := click.get_current_context().args:
        raise click.UsageError(f"expected options alone, got {extra[0]}: a network is given by -m {extra[0]}")
    form = exporting.ExportOptions(precision, scale, uint8, size)
    worst = exporting.export(zdce.load(model), output, form)
    click.echo(
        f"checked {'at 3 sizes' if size is None else 'with 3 images'}: largest difference {worst:.2g} levels of 255", err=True
    )
    click.echo(output)
