"""Inference engine for CPUs: pictures through a network in one fused pass, without feature maps in main memory.

It is compiled code (``zdce._core``) on arrays; neither this module nor anything that it calls imports PyTorch.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from zdce import backends, compiled
from zdce.models import noise
from zdce.models.stored import StoredNetwork
from zdce.models.variants import CURVE, Variant
from zdce.runtime import threads

Array: TypeAlias = NDArray[Any]

# Upper bound of a convolution's blocks of 16 input channels, as in csrc/core/network.h; a source fills whole blocks.
_MOST_BLOCKS = 64


# Rows from top to bottom and columns from left to right: (top, bottom, left, right).
Tile = tuple[int, int, int, int]


class PixelSettings(NamedTuple):
    """Settings that affect pixels: fields of ``EnhanceSettings``, with the network's own values in place of None, except for
    ``noise``.
    """

    scale: int = 1
    strength: float = 1.0
    brightness: float = 0.0
    noise: float | None = 0.0  # None: measured in the picture, at least the network's own.
    shadows: float = 0.0
    highlights: float = 1.0


def why_unsupported(variant: Variant) -> str | None:
    """Why the engine can't run networks of ``variant``; None if it can."""
    if missing := backends.cpp_missing("zdce._core"):
        return missing
    if variant.formula != CURVE:
        return f"its formula is {variant.formula}, not {CURVE}"
    if variant.sources[0] != (0,) or any(0 in sources for sources in variant.sources[1:]):
        return "only the first convolution may read the image"
    blocks = [-(-outputs // 16) for _, outputs in variant.convolutions()]
    if any(sum(blocks[source - 1] for source in sources) > _MOST_BLOCKS for sources in variant.sources[1:]):
        return f"a convolution reads more than {_MOST_BLOCKS} blocks of 16 channels"
    return None


def computed_precision(precision: str) -> str:
    """The precision, "fp32" or "bf16", in which a CPU computes what is asked for in ``precision``: float32 is faster than
    bfloat16 where no unit multiplies matrices of it. Without the C++ core, which knows the units, it is ``precision``.
    """
    slow = backends.cpp_missing("zdce._core") is None and not compiled.core().has_bfloat16()
    return "fp32" if slow else precision


def network_plan(variant: Variant, precision: str) -> list[int]:
    """Description of the network for C++: separable, bfloat16, iterations, layers; per layer: outputs, number of sources,
    sources.
    """
    plan = [int(variant.separable), int(precision == "bf16"), variant.iterations, len(variant.sources)]
    for sources, (_, outputs) in zip(variant.sources, variant.convolutions(), strict=True):
        plan += [outputs, len(sources), *sources]
    return plan


class Engine:
    """A network with its weights packed for the engine.

    Args:
        network: a network of a variant for which ``why_unsupported`` returns None.
        precision: ``"fp32"``, or ``"bf16"`` for feature maps and weights in bfloat16; of separable layers only the 1x1 filters
            and their inputs. A processor without AMX (x86-64) or BF16 (Arm) computes in float32.

    Raises:
        ValueError: a weight is not finite.
    """

    def __init__(self, network: StoredNetwork, precision: str = "fp32") -> None:
        self.variant = network.variant
        plan = np.array(network_plan(self.variant, computed_precision(precision)), np.int64)
        self._network = compiled.core().make_network(
            plan, _joined(network.weights.values()), self.variant.scale, self.variant.guided
        )

    def enhance(self, picture: Array, settings: PixelSettings) -> Array:
        """The enhanced ``picture`` (H, W, 3) in its dtype: uint8, uint16, or float32 in [0, 1]."""
        picture, result = _interleaved(picture), np.empty(picture.shape, picture.dtype)
        threads.follow_torch()
        found = self._noise(picture, settings)
        compiled.core().enhance(
            self._network, picture, result, settings.strength, settings.brightness, found.deviation, settings.scale,
            settings.shadows, settings.highlights, found.grain,
        )  # fmt: skip
        return result

    def maps(self, picture: Array, settings: PixelSettings) -> Array:
        """Curve maps or coefficients of ``picture`` (H, W, 3) for ``apply``, times the strength for the scene.

        Returns:
            float32, (1, C, ceil(H / scale), ceil(W / scale)).
        """
        height, width = (-(-side // settings.scale) for side in picture.shape[:2])
        result = np.empty((self.variant.used_maps, height, width), np.float32)
        threads.follow_torch()
        compiled.core().used_maps(
            self._network, _interleaved(picture), settings.brightness, settings.scale, result,
            settings.shadows, settings.highlights,
        )  # fmt: skip
        return result[None]

    def apply(self, picture: Array, maps: Array, settings: PixelSettings) -> Array:
        """``picture`` (H, W, 3) with the curves of ``maps`` (1, C, ceil(H / scale), ceil(W / scale)): its shape and dtype."""
        picture, result = _interleaved(picture), np.empty(picture.shape, picture.dtype)
        threads.follow_torch()
        compiled.core().enhance_picture(
            picture, np.ascontiguousarray(maps[0], np.float32), self.variant.iterations, settings.scale,
            self.variant.published_sampling, settings.strength, result,
        )  # fmt: skip
        if settings.strength and (found := self._noise(picture, settings)).deviation:
            compiled.core().denoise_picture(picture, result, found.deviation, found.grain)
        return result

    def plan(self, height: int, width: int, threads: int) -> list[Tile]:
        """The tiles of a picture of ``height`` x ``width`` for this number of threads, in order."""
        tiles: list[Tile] = compiled.core().plan_tiles(self._network, height, width, threads)
        return tiles

    def run_tile(self, picture: Array, tile: Tile, result: Array) -> None:
        """Write one tile of ``picture`` (H, W, 3), with the network's curve at full size and strength 1, to ``result``, of the
        same shape, on this thread.
        """
        compiled.core().run_network_tile(self._network, _interleaved(picture), tile, result)

    def _noise(self, picture: Array, settings: PixelSettings) -> noise.Noise:
        return noise.assumed(settings.noise, self.variant.noise, lambda: noise.Noise(*compiled.core().measure_noise(picture)))


def _joined(weights: Iterable[Array]) -> Array:
    return np.concatenate([values.ravel() for values in weights]).astype(np.float32, copy=False)


def _interleaved(picture: Array) -> Array:
    """``picture`` (H, W, 3) itself if the pixels of each row are contiguous, else a copy; there may be gaps between rows."""
    size, (row, *inside) = picture.itemsize, picture.strides
    fits = picture.flags.aligned and row % size == 0 and inside == [3 * size, size]
    return picture if fits else picture.copy(order="C")
