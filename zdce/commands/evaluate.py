"""`zdce eval`."""

from pathlib import Path

import click

import zdce
from zdce import atomic, evaluation, images
from zdce.commands import options
from zdce.commands.printing import print_json, print_table
from zdce.data import collection

_PAIRS = {"all": slice(None), "odd": slice(1, None, 2), "even": slice(0, None, 2)}


@click.command("eval")
@click.argument("model")
@click.argument("data")
@click.option(
    "--split",
    type=click.Choice(["validation", "all"]),
    help="[default: validation where DATA has references, else all]",
)
@click.option(
    "--pairs",
    type=click.Choice(list(_PAIRS)),
    default="all",
    help="Of these pictures, those of odd or even index, from 0: one half to choose a model on, the other to report.",
)
@click.option("--csv", "csv_path", type=click.Path(path_type=Path, dir_okay=False), help="Write every picture's figures here.")
@options.as_json
@options.device
@options.scale
@options.strength
@options.brightness
@options.noise
def evaluate(
    model: str,
    data: str,
    split: str | None,
    pairs: str,
    csv_path: Path | None,
    as_json: bool,
    device: str,
    scale: int | None,
    strength: float,
    brightness: float | None,
    noise: float | None,
) -> None:
    """PSNR and SSIM of MODEL (shipped weights by their name, or a .safetensors file) on DATA (a folder, `sample` or `open`).

    Against PIL's autocontrast of the input and the input itself, as in the report, and true references where DATA has them;
    beside it the input itself, autocontrast, gamma 0.4 and CLAHE.
    """
    network = zdce.load(model).to(device)
    pictures = collection(data)
    if split is None:
        split = "validation" if any(item.load_reference for item in pictures.items) else "all"
    items = (pictures.items if split == "all" else pictures.validation_items())[_PAIRS[pairs]]
    enhancer = zdce.Enhancer(network, "fp32", scale, strength, brightness, noise)
    scores = evaluation.evaluate(items, lambda image: images.as_uint8(enhancer(image)))
    averages = evaluation.averages(scores)
    if csv_path is not None:
        atomic.write_text(csv_path, evaluation.to_csv(scores))
    if as_json:
        print_json({"images": len(items), "rows": [average.to_dict() for average in averages]})
        return
    rows = [[a.against, a.method, f"{a.psnr:.2f}", f"{a.ssim:.3f}", str(a.images)] for a in averages]
    print_table(
        f"{model} on {data}, {split}" + ("" if pairs == "all" else f", {pairs} pairs"),
        ["against", "method", "PSNR (dB)", "SSIM", "images"],
        rows,
    )
