"""Pictures for the page: made smaller, and curve maps made visible."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from zdce.evaluation import Rgb

# Longer side of the pictures on the page, in pixels.
SHOWN_SIDE = 640
# Of curve maps: longer side of a tile, and the line above it.
_TILE_SIDE, _TILE_LINE = 240, 18


def reduced(pixels: Rgb, side: int | None) -> Rgb:
    """``pixels`` (H, W, 3) made so small that the longer side has ``side`` pixels, never larger."""
    height, width = pixels.shape[:2]
    if side is None or max(height, width) <= side:
        return pixels
    size = [max(1, round(length * side / max(height, width))) for length in (width, height)]
    return np.asarray(Image.fromarray(pixels).resize((size[0], size[1]), Image.Resampling.LANCZOS))


def of_maps(maps: Tensor) -> Rgb:
    """Curve maps (1, 3T, H, W) side by side, four a row: of each step -A (the paper's alpha) averaged over colours.

    Lighter brightens more. Each step is stretched to its own range, which stands above it: where smoothness is strong, a map
    varies by a hundredth of its mean and would look plain on a common scale.
    """
    steps = -maps[0].unflatten(0, (-1, 3)).mean(1).cpu().numpy()
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
