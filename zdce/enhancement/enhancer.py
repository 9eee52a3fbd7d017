"""Whole pictures through a network: any size in bounded memory, 8 or 16 bits in and out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast, overload

import numpy as np
import torch
from torch import Tensor

from zdce import ops
from zdce.errors import InputError
from zdce.io.images import Pixels
from zdce.models import scene
from zdce.models.engine import Engine, why_unsupported
from zdce.models.network import DCENet
from zdce.ops import dispatch
from zdce.ops.denoise_picture import DENOISE_REACH
from zdce.ops.interleaved import fractions

PRECISIONS = ("fp32", "bf16")

# The scale of ``zdce enhance --fast``, from what ``zdce bench scales`` shows.
FAST_SCALE = 4

# Pixels of the strips that are denoised one after the other: each with its result is 25 MB of 16 bits, 50 of floats.
_STRIP = 2**21

# Side in pixels of the tiles that torch runs. One takes some 150 MB at 32 filters; the halo adds 4% of work.
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
        model: the network; it runs where its parameters are, with the weights that it has at the first call.
        precision: ``"fp32"``, or ``"bf16"`` for convolutions in bfloat16.
        scale: the curve is estimated on an image this many times smaller; 1 is exact, None is the variant's own.
        strength: scales the curve maps: 1 as trained, 0 gives the input back, above 1 stronger, negative darkens. Where a
            strength is sought for each scene, it multiplies that one, which for lit scenes is 0.
        brightness: the mean of [0, 1] that a dark scene is brought to, one of mean 0.05 to just this, by a strength found for
            each (``zdce.models.scene``); 0: the maps are as trained. None is the variant's own.
        noise: deviation of the pictures' noise, of [0, 1]: what the curve makes of it is smoothed
            (``zdce.ops.denoise_picture``); 0: nothing is. None is the variant's own.

    Raises:
        ValueError: an argument is not one of these.

    >>> enhancer = zdce.Enhancer(zdce.DCENet("iters4"))
    >>> enhancer(np.full((5, 7, 3), 20, np.uint8)).shape
    (5, 7, 3)
    """

    def __init__(
        self,
        model: DCENet,
        precision: str = "fp32",
        scale: int | None = None,
        strength: float = 1.0,
        brightness: float | None = None,
        noise: float | None = None,
    ) -> None:
        if precision not in PRECISIONS:
            raise InputError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
        if scale is not None and scale < 1:
            raise InputError(f"scale must be at least 1, got {scale}")
        self.model = model.eval()
        self.precision = precision
        self.scale = model.variant.scale if scale is None else scale
        self.strength = _checked_strength(strength)
        self.brightness = _checked_share("brightness", model.variant.brightness if brightness is None else brightness)
        self.noise = _checked_share("noise", model.variant.noise if noise is None else noise)
        self._packed: Engine | None = None

    def __getstate__(self) -> dict[str, object]:
        # Packed weights belong to a processor's instruction set: whoever unpickles packs anew.
        return {**self.__dict__, "_packed": None}

    def with_strength(self, strength: float) -> "Enhancer":
        """The same enhancer with another ``strength``; packed weights are shared.

        Raises:
            ValueError: ``strength`` is not finite.
        """
        return self._with(strength, self.noise)

    def with_noise(self, noise: float) -> "Enhancer":
        """The same enhancer for another ``noise``; packed weights are shared.

        Raises:
            ValueError: ``noise`` is not in [0, 1).
        """
        return self._with(self.strength, noise)

    def _with(self, strength: float, noise: float) -> "Enhancer":
        other = Enhancer(self.model, self.precision, self.scale, strength, self.brightness, noise)
        other._packed = self._engine
        return other

    @overload
    def __call__(self, image: Pixels) -> Pixels: ...

    @overload
    def __call__(self, image: Tensor) -> Tensor: ...

    @torch.inference_mode()
    def __call__(self, image: Pixels | Tensor) -> Pixels | Tensor:
        """The enhanced picture, of the shape and type of ``image``.

        Args:
            image: a picture as an array (H, W, 3), RGB, uint8 or uint16, any size and memory layout; or pictures as a float32
                tensor (B, 3, H, W) in [0, 1].

        Raises:
            TypeError: ``image`` is neither.
            ValueError: it has another shape, no pixels, or values that are not finite.
        """
        if isinstance(image, Tensor):
            _check_tensor(image)
            pictures = image.to(self._device).permute(0, 2, 3, 1)
            return torch.stack([self._enhanced(picture) for picture in pictures]).permute(0, 3, 1, 2).to(image.device)
        _check(image)
        return self._array(self._enhanced(self._picture(image)))

    @torch.inference_mode()
    def maps(self, image: Pixels) -> Tensor:
        """The curve maps of ``image`` (H, W, 3) at the enhancer's scale, (1, C, ceil(H / scale), ceil(W / scale)).

        They are in [-1, 1], times the strength that the scene wants where one is sought: what ``apply`` takes.

        Raises:
            TypeError, ValueError: as a call does.
        """
        _check(image)
        picture = self._picture(image)
        maps = self._maps(picture)
        return maps * self._wanted(picture) if self.brightness else maps

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
        picture = self._picture(image)
        return self._array(self._denoised(picture, self._applied(picture, maps, self.strength)))

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def _engine(self) -> Engine | None:
        """What runs the network on the CPU, its weights packed when first asked for; None where torch runs it."""
        if dispatch.choose(dispatch.requested(), self._device.type, torch.float32) != "cpp":
            return None
        if self._packed is None and why_unsupported(self.model, self.precision) is None:
            self._packed = Engine(self.model, self.precision)
        return self._packed

    def _picture(self, image: Pixels) -> Tensor:
        """The image (H, W, 3) as it is, on the model's device."""
        # Torch knows neither read-only arrays nor negative strides.
        usable = image.flags.writeable and min(image.strides) > 0 and not any(s % image.itemsize for s in image.strides)
        return torch.from_numpy(image if usable else image.copy()).to(self._device)

    def _array(self, picture: Tensor) -> Pixels:
        return cast(Pixels, picture.cpu().numpy())

    def _enhanced(self, picture: Tensor) -> Tensor:
        """``picture`` (H, W, 3), uint8, uint16 or float32, enhanced."""
        strength = self.strength and self.strength * self._wanted(picture)
        if strength == 0:
            return picture.clone(memory_format=torch.contiguous_format)
        return self._denoised(picture, self._brightened(picture, strength))

    def _wanted(self, picture: Tensor) -> float:
        """The strength that the scene of ``picture`` (H, W, 3) wants; 1 where none is sought."""
        if self.brightness == 0:
            return 1.0
        small = fractions(scene.thumbnail(picture.permute(2, 0, 1)[None])[0].permute(1, 2, 0)).contiguous()
        wanted = scene.strength(small, self._exact_maps(small), self.model.variant.iterations, self.brightness)
        return float(wanted)

    def _brightened(self, picture: Tensor, strength: float) -> Tensor:
        """``picture`` (H, W, 3) with its own curve, of that strength."""
        if self.scale > 1:
            return self._applied(picture, self._maps(picture), strength)
        if engine := self._engine:
            return engine.enhance(picture, strength)
        enhanced = torch.empty_like(picture, memory_format=torch.contiguous_format)
        for tile in _tiles(picture.shape[:2], _TILE, self.model.variant.receptive_field // 2):
            enhanced[tile.inner] = ops.enhance_picture(
                picture[tile.inner], self._logits(fractions(picture[tile.outer]))[..., *tile.inner_in_outer],
                self.model.variant.iterations, strength=strength, logits=True,
            )  # fmt: skip
        return enhanced

    def _applied(self, picture: Tensor, maps: Tensor, strength: float) -> Tensor:
        """``picture`` (H, W, 3) with the curves of ``maps`` (1, C, ceil(H / scale), ceil(W / scale)), of that strength."""
        return ops.enhance_picture(
            picture, maps, self.model.variant.iterations, scale=self.scale, strength=strength,
            align_corners=self.model.variant.scale > 1,
        )  # fmt: skip

    def _denoised(self, picture: Tensor, enhanced: Tensor) -> Tensor:
        """``enhanced`` (H, W, 3) without what the curve made of the noise of ``picture`` (H, W, 3), in the same memory."""
        if self.noise == 0 or self.strength == 0:
            return enhanced
        height, width, _ = enhanced.shape
        rows = max(2 * DENOISE_REACH, _STRIP // width)
        above = enhanced[:0]
        for top in range(0, height, rows):
            end, before = min(top + rows, height), len(above)
            strip = torch.cat([above, enhanced[top : end + DENOISE_REACH]])
            above = enhanced[end - DENOISE_REACH : end].clone()
            denoised = ops.denoise_picture(picture[top - before : end + DENOISE_REACH], strip, self.noise)
            enhanced[top:end] = denoised[before : before + end - top]
            del strip, denoised  # before the next ones are made
        return enhanced

    def _maps(self, picture: Tensor) -> Tensor:
        """Curve maps (1, C, ceil(H / scale), ceil(W / scale)) of ``picture`` (H, W, 3)."""
        if (engine := self._engine) and self.scale == 1:
            return engine.maps(picture)[None]
        return self._exact_maps(self._reduced(picture))

    def _exact_maps(self, small: Tensor) -> Tensor:
        """Curve maps (1, C, h, w) of an image (1, 3, h, w) in [0, 1]."""
        if engine := self._engine:
            return engine.maps(small[0].permute(1, 2, 0))[None]
        maps = small.new_empty(1, self.model.variant.maps, *small.shape[2:])
        for tile in _tiles(small.shape[2:], _TILE, self.model.variant.receptive_field // 2):
            maps[..., *tile.inner] = torch.tanh(self._logits(small[..., *tile.outer]).float())[..., *tile.inner_in_outer]
        return maps

    def _reduced(self, picture: Tensor) -> Tensor:
        """``picture`` (H, W, 3) made ``scale`` times smaller, (1, 3, ceil(H / scale), ceil(W / scale)), in [0, 1]."""
        if self.scale == 1:
            return fractions(picture)
        # As published, a network with a scale of its own takes bilinear samples.
        return ops.reduce_picture(picture, self.scale, antialias=self.model.variant.scale == 1)

    def _logits(self, image: Tensor) -> Tensor:
        """The network's logits (1, C, h, w) for ``image`` (1, 3, h, w) in [0, 1], by torch."""
        layout = torch.channels_last if self._device.type == "cuda" else torch.contiguous_format
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return self.model(image.contiguous(memory_format=layout))


def _checked_strength(strength: float) -> float:
    if not np.isfinite(strength):
        raise InputError(f"strength must be a finite number, got {strength}")
    return strength


def _checked_share(name: str, value: float) -> float:
    if not 0 <= value < 1:
        raise InputError(f"{name} must be at least 0 and below 1, got {value}")
    return value


def _check_tensor(image: Tensor) -> None:
    if image.dtype != torch.float32:
        raise TypeError(f"image must be a float32 tensor, got {image.dtype}")
    if image.dim() != 4 or image.shape[1] != 3 or 0 in image.shape:
        raise ValueError(f"image must be (B, 3, H, W) with B, H and W at least 1, got {tuple(image.shape)}")
    if not image.isfinite().all():
        raise ValueError("image must be finite, got values that are not")


def _check(image: Pixels) -> None:
    if not isinstance(image, np.ndarray) or image.dtype not in (np.uint8, np.uint16):
        got = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
        raise TypeError(f"image must be a uint8 or uint16 array or a float32 tensor, got {got}")
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"image must be (H, W, 3) with H and W at least 1, got {image.shape}")
