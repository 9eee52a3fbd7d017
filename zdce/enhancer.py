"""Whole pictures through a network: any size in bounded memory, 8 or 16 bits in and out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from zdce import ops
from zdce.images import Pixels
from zdce.model import DCENet

PRECISIONS = ("fp32", "bf16")

# The scale of ``zdce enhance --fast``, from what ``zdce bench scales`` shows.
FAST_SCALE = 4

# Side of a tile in pixels. Feature maps of one tile take some 150 MB at 32 filters; the halo adds 4% of work.
_TILE = 512


@dataclass(frozen=True)
class _Tile:
    """A rectangle of an image, and the larger one that its network outputs depend on, cut at the image's border."""

    top: int
    bottom: int
    left: int
    right: int
    halo: int
    height: int
    width: int

    @property
    def inner(self) -> tuple[slice, slice]:
        return slice(self.top, self.bottom), slice(self.left, self.right)

    @property
    def outer(self) -> tuple[slice, slice]:
        rows = slice(max(0, self.top - self.halo), min(self.height, self.bottom + self.halo))
        return rows, slice(max(0, self.left - self.halo), min(self.width, self.right + self.halo))

    @property
    def inner_in_outer(self) -> tuple[slice, slice]:
        rows, columns = self.outer
        return (
            slice(self.top - rows.start, self.bottom - rows.start),
            slice(self.left - columns.start, self.right - columns.start),
        )


def _tiles(size: Sequence[int], side: int, halo: int) -> Iterator[_Tile]:
    """Squares of at most ``side`` pixels that make up an image of ``size`` (H, W)."""
    height, width = size
    for top in range(0, height, side):
        for left in range(0, width, side):
            yield _Tile(top, min(top + side, height), left, min(left + side, width), halo, height, width)


class Enhancer:
    """Enhances pictures with a trained network.

    Args:
        model: the network; it runs where its parameters are.
        precision: ``"fp32"``, or ``"bf16"`` for convolutions in bfloat16.
        scale: the curve is estimated on an image this many times smaller; 1 is exact, None is the variant's own.
        strength: scales the curve maps: 1 as trained, 0 gives the input back, above 1 stronger, negative darkens.

    Raises:
        ValueError: an argument is not one of these.

    >>> enhancer = zdce.Enhancer(zdce.DCENet("iters4"))
    >>> enhancer(np.full((5, 7, 3), 20, np.uint8)).shape
    (5, 7, 3)
    """

    def __init__(self, model: DCENet, precision: str = "fp32", scale: int | None = None, strength: float = 1.0) -> None:
        if precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
        if scale is not None and scale < 1:
            raise ValueError(f"scale must be at least 1, got {scale}")
        if not np.isfinite(strength):
            raise ValueError(f"strength must be a finite number, got {strength}")
        self.model = model.eval()
        self.precision = precision
        self.scale = model.variant.scale if scale is None else scale
        self.strength = strength

    @torch.inference_mode()
    def __call__(self, image: Pixels) -> Pixels:
        """The enhanced picture, shape (H, W, 3) and dtype as ``image``: RGB, uint8 or uint16, any size and memory layout.

        Raises:
            TypeError: ``image`` is no such array.
            ValueError: it has another shape.
        """
        _check(image)
        if self.scale > 1:
            return self.apply(image, self.maps(image))
        enhanced = np.empty(image.shape, image.dtype)
        for tile in _tiles(image.shape[:2], _TILE, self._halo):
            outer = self._to_tensor(image[tile.outer])
            maps, pixels = self._maps(outer)[..., *tile.inner_in_outer], outer[..., *tile.inner_in_outer]
            enhanced[tile.inner] = self._curve(pixels, maps, image.dtype)
        return enhanced

    @torch.inference_mode()
    def maps(self, image: Pixels) -> Tensor:
        """The curve maps of ``image`` (H, W, 3) at the enhancer's scale, (1, C, ceil(H / scale), ceil(W / scale)), in [-1, 1].

        Raises:
            TypeError, ValueError: as a call does.
        """
        _check(image)
        small = self._reduced(image)
        maps = small.new_empty(1, self.model.variant.maps, *small.shape[2:])
        for tile in _tiles(small.shape[2:], _TILE, self._halo):
            maps[..., *tile.inner] = self._maps(small[..., *tile.outer])[..., *tile.inner_in_outer]
        return maps

    @torch.inference_mode()
    def apply(self, image: Pixels, maps: Tensor) -> Pixels:
        """The curves of ``maps`` (1, C, ceil(H / scale), ceil(W / scale)) on ``image`` (H, W, 3): its shape and dtype.

        Raises:
            TypeError, ValueError: as a call does; ``maps`` are not of that shape.
        """
        _check(image)
        small = tuple(-(-side // self.scale) for side in image.shape[:2])
        if tuple(maps.shape) != (1, self.model.variant.maps, *small):
            raise ValueError(f"maps must be {(1, self.model.variant.maps, *small)} for this image, got {tuple(maps.shape)}")
        enhanced = ops.enhance_picture(
            self._picture(image), maps, self.model.variant.iterations, scale=self.scale, strength=self.strength,
            align_corners=self.model.variant.scale > 1,
        )  # fmt: skip
        return cast(Pixels, enhanced.cpu().numpy())

    @property
    def _halo(self) -> int:
        return self.model.variant.receptive_field // 2

    def _picture(self, image: Pixels) -> Tensor:
        """The image (H, W, 3) as it is, on the model's device."""
        # Torch knows neither read-only arrays nor negative strides.
        usable = image.flags.writeable and min(image.strides) > 0 and not any(s % image.itemsize for s in image.strides)
        return torch.from_numpy(image if usable else image.copy()).to(self._device)

    def _to_tensor(self, pixels: Pixels) -> Tensor:
        """(h, w, 3) integers as (1, 3, h, w) in [0, 1] on the model's device."""
        values = pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max)
        return torch.from_numpy(values).permute(2, 0, 1).contiguous()[None].to(self._device)

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _curve(self, pixels: Tensor, maps: Tensor, dtype: np.dtype[np.uint8] | np.dtype[np.uint16]) -> Pixels:
        """The curve of ``maps`` (1, C, h, w) on ``pixels`` (1, 3, h, w), as integers (h, w, 3)."""
        if self.strength != 1.0:
            maps = (maps * self.strength).clamp_(-1.0, 1.0)
        values = ops.apply_curve(pixels, maps, self.model.variant.iterations)[0].permute(1, 2, 0).cpu().numpy()
        scaled = np.rint(values * np.float32(np.iinfo(dtype).max))
        return scaled.astype(np.uint8) if dtype == np.uint8 else scaled.astype(np.uint16)

    def _maps(self, pixels: Tensor) -> Tensor:
        """Curve maps (1, C, h, w) of ``pixels`` (1, 3, h, w) at full resolution."""
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            logits = self.model(pixels)
        return torch.tanh(logits.float())

    def _reduced(self, image: Pixels) -> Tensor:
        """The image made ``scale`` times smaller, (1, 3, ceil(H / scale), ceil(W / scale))."""
        if self.scale == 1:
            return self._to_tensor(image)
        if self.model.variant.scale == 1:
            return ops.reduce_picture(self._picture(image), self.scale)
        # As published: bilinear with no antialiasing, whose samples need no sums over areas.
        size = [-(-side // self.scale) for side in image.shape[:2]]
        return functional.interpolate(self._to_tensor(image), size=size, mode="bilinear", align_corners=False)


def _check(image: Pixels) -> None:
    if not isinstance(image, np.ndarray) or image.dtype not in (np.uint8, np.uint16):
        got = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
        raise TypeError(f"image must be a uint8 or uint16 array, got {got}")
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"image must be (H, W, 3) with H and W at least 1, got {image.shape}")
