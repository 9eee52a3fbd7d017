"""`zdce eval`."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import numpy as np
from PIL import Image

import zdce
from zdce.commands import options
from zdce.commands.printing import print_json, print_table
from zdce.data.datasets import Item, collection
from zdce.errors import InputError
from zdce.io import images
from zdce.metrics import evaluation, naturalness
from zdce.metrics.evaluation import BASELINES, Average, Rgb, Score
from zdce.runtime import atomic
from zdce.settings import EnhanceSettings
from zdce.study.pictures import Labelled, sheet

_PAIRS = {"all": slice(None), "odd": slice(1, None, 2), "even": slice(0, None, 2)}
# Width of a picture in the grid of the worst, in pixels.
_WIDTH = 320
# Of each measure its heading, its decimals, and by what it is multiplied.
_COLUMNS = {
    "psnr": ("PSNR (dB)", 2, 1),
    "ssim": ("SSIM", 3, 1),
    "ciede2000": ("CIEDE2000", 2, 1),
    "flat_noise": ("noise (%)", 2, 100),
    "clipped": ("clipped (%)", 2, 100),
    "brisque": ("BRISQUE", 1, 1),
}


@click.command("eval")
@click.argument("model")
@click.argument("data")
@click.option(
    "--split",
    type=click.Choice(["all", "validation"]),
    default="all",
    help="validation: only the pictures that `zdce train` keeps out of training, the last ones in the order of their names.",
)
@click.option("--unpaired", is_flag=True, help="Measure pictures without a reference too where others have one.")
@click.option(
    "--pairs",
    type=click.Choice(list(_PAIRS)),
    default="all",
    help="Of these pictures, those of odd or even index, from 0: one half to choose a model on, the other to report.",
)
@click.option("--csv", "csv_path", type=click.Path(path_type=Path, dir_okay=False), help="Write every picture's figures here.")
@click.option("--naturalness", "natural", is_flag=True, help="BRISQUE too, a score without reference: the extra `naturalness`.")
@click.option(
    "--worst",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Draw the five pictures with the lowest PSNR here: original, output, reference.",
)
@click.option(
    "--below",
    type=click.Choice(list(BASELINES)),
    help="Of --worst: those furthest below this method's PSNR.",
)
@options.as_json
@options.device
@options.settings("pixels")
def evaluate(
    model: str,
    data: str,
    split: str,
    unpaired: bool,
    pairs: str,
    csv_path: Path | None,
    natural: bool,
    worst: Path | None,
    below: str | None,
    as_json: bool,
    device: str,
    settings: EnhanceSettings,
) -> None:
    """PSNR and SSIM of MODEL (shipped weights by their name, or a .safetensors file) on DATA (a folder, `sample` or `open`).

    All pictures of DATA are measured, against PIL's autocontrast and the input itself, as in the report, and true references;
    beside it the input itself, autocontrast, gamma 0.4, CLAHE and a Retinex. Also the share of clipped pixels, and against true
    references CIEDE2000 and the noise where they are flat, as a share of the brightness there.
    """
    if below and worst is None:
        raise click.UsageError("--below says which pictures --worst draws: give --worst FILE too")
    network = zdce.load(model, device)
    pictures = collection(data)
    items = (pictures.items if split == "all" else pictures.validation_items())[_PAIRS[pairs]]
    if not unpaired:
        pictures.check_paired(items, "; --unpaired measures what there is")
    measured = _described(len(items), len(pictures.items), sum(item.load_reference is not None for item in items), split, pairs)
    if worst is not None:
        _check_worst(worst, data, items)
    brisque = naturalness.brisque() if natural else None
    enhancer = zdce.Enhancer(network, settings)

    def enhance(image: Rgb) -> Rgb:
        return images.as_uint8(enhancer(image))

    scores = evaluation.evaluate(items, enhance, brisque)
    averages = evaluation.averages(scores)
    if csv_path is not None:
        atomic.write_text(csv_path, evaluation.to_csv(scores))
    if worst is not None:
        _draw_worst(worst, items, evaluation.worst(scores, below), enhance)
    if as_json:
        which = {"data": data, "measured": measured, "split": split, "pairs": pairs, "pictures": [item.name for item in items]}
        print_json({"images": len(items), "rows": [average.to_dict() for average in averages], **which})
        return
    _print(f"{model} on {data}: {measured}", averages)


def _described(count: int, total: int, references: int, split: str, pairs: str) -> str:
    """What is measured, in words: how many, and which."""
    chosen = [word for word in (split, pairs) if word != "all"]
    which = f"{count} of {total} pictures ({', '.join(chosen)})" if chosen else f"all {total} pictures"
    return f"{which}, {references or 'none'} with a reference"


def _print(title: str, averages: Sequence[Average]) -> None:
    """The table, without the measures that nothing was measured by."""
    known = [name for name in _COLUMNS if any(not math.isnan(getattr(a, name)) for a in averages)]
    rows = [[a.against, a.method, *(_cell(a, name) for name in known), str(a.images)] for a in averages]
    print_table(title, ["against", "method", *(_COLUMNS[name][0] for name in known), "images"], rows, least_width=112)


def _cell(average: Average, name: str) -> str:
    _, digits, factor = _COLUMNS[name]
    value = getattr(average, name)
    return "-" if math.isnan(value) else f"{value * factor:.{digits}f}"


def _check_worst(path: Path, data: str, items: Sequence[Item]) -> None:
    """To be asked before minutes of work.

    Raises:
        ValueError: the worst can't be told, or not written.
    """
    if not any(item.load_reference for item in items):
        raise InputError(f"--worst needs true references, and {data} has none for these pictures")
    if path.suffix.lower() not in images.SUFFIXES:
        raise InputError(f"{path}: expected one of the formats {', '.join(sorted(images.SUFFIXES))}")


def _draw_worst(
    path: Path, items: Sequence[Item], chosen: Sequence[tuple[Score, Score | None]], enhance: Callable[[Rgb], Rgb]
) -> None:
    named = {item.name: item for item in items}
    rows = [_row(named[mine.name], mine, other, enhance) for mine, other in chosen]
    images.write(images.Picture(np.asarray(sheet(rows, _WIDTH))), path)


def _row(item: Item, mine: Score, other: Score | None, enhance: Callable[[Rgb], Rgb]) -> list[Labelled]:
    """Original, output, the other method's if there is one, reference."""
    picture = item.load()
    shown = [(picture, item.name), (enhance(picture), f"output, {mine.psnr:.2f} dB")]
    if other is not None:
        shown.append((BASELINES[other.method](picture), f"{other.method}, {other.psnr:.2f} dB"))
    if item.load_reference is not None:
        shown.append((item.load_reference(), "reference"))
    return [Labelled(Image.fromarray(pixels), label) for pixels, label in shown]
