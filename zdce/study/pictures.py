"""Pictures for the page: reduced, in sheets, and of curve maps."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from zdce.metrics.pictures import Rgb

# Longer side of the pictures on the page, in pixels.
SHOWN_SIDE = 640
# Height in pixels of a line of labels in a sheet.
_LINE = 26
# Longer side of a tile of curve maps, and height of the line above it.
_TILE_SIDE, _TILE_LINE = 240, 18


def reduced(pixels: Rgb, side: int | None) -> Rgb:
    """``pixels`` (H, W, 3), reduced to ``side`` pixels along the longer side; smaller pictures are unchanged."""
    height, width = pixels.shape[:2]
    if side is None or max(height, width) <= side:
        return pixels
    size = [max(1, round(length * side / max(height, width))) for length in (width, height)]
    return np.asarray(Image.fromarray(pixels).resize((size[0], size[1]), Image.Resampling.LANCZOS))


class Labelled(NamedTuple):
    """A picture and the label above it."""

    image: Image.Image
    label: str


def sheet(rows: Sequence[Sequence[Labelled]], width: int = 240) -> Image.Image:
    """Rows of pictures, each ``width`` pixels wide; the first picture of a row determines its height."""
    heights = [width * row[0].image.height // row[0].image.width for row in rows]
    drawn = Image.new("RGB", (max(map(len, rows)) * width, sum(heights) + len(rows) * _LINE), "white")
    top = 0
    for row, height in zip(rows, heights, strict=True):
        for column, picture in enumerate(row):
            drawn.paste(_cell(picture, width, height), (column * width, top))
        top += height + _LINE
    return drawn


def _cell(picture: Labelled, width: int, height: int) -> Image.Image:
    """Picture and label, which is cut off at the picture's width."""
    cell = Image.new("RGB", (width, height + _LINE), "white")
    ImageDraw.Draw(cell).text((2, 6), picture.label, "black", ImageFont.load_default(13))
    cell.paste(picture.image.convert("RGB").resize((width - 4, max(1, height - 4))), (2, _LINE))
    return cell


def of_maps(maps: NDArray[np.float32]) -> Rgb:
    """Curve maps (1, 3T, H, W) in rows of four: -A (the paper's alpha) of each step, averaged over colours.

    Lighter pixels are brightened more. Each step is stretched to its own range, which is written above it: with strong
    smoothness a map varies by a hundredth of its mean, and would be of one colour on a common scale.
    """
    steps = -maps[0].reshape(-1, 3, *maps.shape[2:]).mean(1)
    tiles = [_tile(step) for step in steps]
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % 4 if len(tiles) > 4 else 0)
    return np.vstack([np.hstack(tiles[i : i + 4]) for i in range(0, len(tiles), 4)])


def _tile(step: NDArray[np.float32]) -> Rgb:
    low, high = (float(value) for value in np.quantile(step, (0.005, 0.995)))
    grey = np.rint(255 * np.clip((step - low) / max(high - low, 1e-6), 0, 1)).astype(np.uint8)
    small = reduced(np.repeat(grey[..., None], 3, axis=2), _TILE_SIDE)
    tile = Image.fromarray(np.pad(small, ((_TILE_LINE, 0), (0, 4), (0, 0)), constant_values=255))
    font = ImageFont.load_default(_TILE_LINE - 6)
    ImageDraw.Draw(tile).text((2, 2), f"{low:+.3f} to {high:+.3f}", "black", font)
    return np.asarray(tile)
