"""`zdce eval`."""

from pathlib import Path

import click

import zdce
from zdce import atomic, evaluation, images
from zdce.commands import options
from zdce.commands.printing import print_json, print_table
from zdce.data import collection


@click.command("eval")
@click.argument("model")
@click.argument("data")
@click.option(
    "--split",
    type=click.Choice(["validation", "all"]),
    help="[default: validation where DATA has references, else all]",
)
@click.option("--csv", "csv_path", type=click.Path(path_type=Path, dir_okay=False), help="Write every picture's figures here.")
@options.as_json
@options.device
@options.scale
@options.strength
def evaluate(
    model: str,
    data: str,
    split: str | None,
    csv_path: Path | None,
    as_json: bool,
    device: str,
    scale: int | None,
    strength: float,
) -> None:
    """PSNR and SSIM of MODEL (a .safetensors file) on DATA (a folder, or `sample`).

    Against PIL's autocontrast of the input and the input itself, as in the report, and true references where DATA has them;
    beside it the input itself, autocontrast, gamma 0.4 and CLAHE.
    """
    network = zdce.load(model).to(device)
    pictures = collection(data)
    if split is None:
        split = "validation" if any(item.load_reference for item in pictures.items) else "all"
    items = pictures.items if split == "all" else pictures.validation_items()
    enhancer = zdce.Enhancer(network, scale=scale, strength=strength)
    scores = evaluation.evaluate(items, lambda image: images.as_uint8(enhancer(image)))
    averages = evaluation.averages(scores)
    if csv_path is not None:
        atomic.write_text(csv_path, evaluation.to_csv(scores))
    if as_json:
        print_json({"images": len(items), "rows": [average.to_dict() for average in averages]})
        return
    rows = [[a.against, a.method, f"{a.psnr:.2f}", f"{a.ssim:.3f}", str(a.images)] for a in averages]
    print_table(f"{model} on {data}, {split}", ["against", "method", "PSNR (dB)", "SSIM", "images"], rows)
