"""Whole pictures through a network: any size in bounded memory, 8 or 16 bits in and out."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Unpack, cast, overload

import numpy as np
import torch
from torch import Tensor

from zdce import ops
from zdce.enhancement import encodings
from zdce.io.images import Pixels
from zdce.models import darkness, guidance, guided_scene, scene
from zdce.models.engine import Engine, why_unsupported
from zdce.models.gpu_network import GpuNetwork
from zdce.models.network import DCENet
from zdce.ops import dispatch
from zdce.ops.denoise_picture import DENOISE_REACH
from zdce.ops.interleaved import fractions
from zdce.settings import LEVELS, EnhanceSettings, SettingsKeywords

# Pixels of the strips that are denoised one after the other: each with its result is 25 MB of 16 bits, 50 of floats.
_STRIP = 2**21

# Side in pixels of the tiles that torch runs on the CPU. One takes some 150 MB at 32 filters; the halo adds 4% of work.
_TILE = 512

# How far floating-point images may lie outside of [0, 1]: one level of 255, about as far as bfloat16 rounds.
_ROUNDING = 1 / 255


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
        settings: how; the defaults where it is left out.
        keywords: fields of ``EnhanceSettings``, in place of those in ``settings``.

    Attributes:
        model: the network.
        settings: the ``EnhanceSettings``, with the network's own values where those given were None.

    Raises:
        TypeError: a keyword is no setting.
        ValueError: a setting has a value that it does not take.

    >>> enhancer = zdce.Enhancer(zdce.DCENet("iters4"), strength=0.5)
    >>> enhancer(np.full((5, 7, 3), 20, np.uint8)).shape
    (5, 7, 3)
    """

    def __init__(self, model: DCENet, settings: EnhanceSettings | None = None, **keywords: Unpack[SettingsKeywords]) -> None:
        self.model = model.eval()
        self.settings = EnhanceSettings.of(settings, **keywords).for_variant(model.variant)
        self._packed: Engine | None = None
        self._cast: GpuNetwork | None = None

    def __getstate__(self) -> dict[str, object]:
        # Packed weights belong to a processor's instruction set: the process that unpickles packs anew.
        return {**self.__dict__, "_packed": None, "_cast": None}

    def with_settings(self, settings: EnhanceSettings | None = None, **keywords: Unpack[SettingsKeywords]) -> "Enhancer":
        """An enhancer with the same network and other settings; packed weights are shared.

        Args:
            settings: in place of this enhancer's own.
            keywords: fields of ``EnhanceSettings``, in place of those.

        Raises:
            TypeError, ValueError: as for a new one.

        >>> zdce.Enhancer(zdce.DCENet("iters4"), scale=4).with_settings(strength=0.5).settings.scale
        4
        """
        other = Enhancer(self.model, settings or self.settings, **keywords)
        if other.precision == self.precision:
            other._packed, other._cast = self._engine, self._gpu
        return other

    @property
    def scale(self) -> int:
        """How many times smaller the image is that the curve is estimated on."""
        return cast(int, self.settings.scale)

    @property
    def strength(self) -> float:
        """What the curve maps are multiplied by."""
        return self.settings.strength

    @property
    def precision(self) -> str:
        """Of the convolutions, "fp32" or "bf16"."""
        return self.settings.precision

    @property
    def brightness(self) -> float:
        """The mean that a scene with a mean of 0.05 is brought to; 0: none is sought."""
        return cast(float, self.settings.brightness)

    @property
    def noise(self) -> float:
        """The input's noise in 8-bit levels."""
        return cast(float, self.settings.noise)

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
            ValueError: it has another shape, no pixels, or values that are not finite, or outside of [0, 1] by
                more than rounding.
        """
        if isinstance(image, Tensor):
            _check_tensor(image)
            return self.pictures(image.to(self._device).permute(0, 2, 3, 1)).permute(0, 3, 1, 2).to(image.device)
        _check(image)
        if self._encoding is None:
            return self._array(self._enhanced(self._picture(image)))
        return encodings.through(self._encoding, image, lambda shown: self._array(self._enhanced(self._picture(shown))))

    @torch.inference_mode()
    def pictures(self, pictures: Tensor) -> Tensor:
        """Enhances pictures that lie where the network does, together as far as memory goes.

        On a GPU nothing is copied to the host, and where no strength is sought for each scene nothing is waited for.

        Args:
            pictures: interleaved, shape (B, H, W, 3), uint8, uint16, or float32 in [0, 1].

        Returns:
            The same shape and dtype, contiguous.
        """
        enhanced = torch.empty_like(pictures, memory_format=torch.contiguous_format)
        gpu, pixels = self._gpu, pictures[..., 0].numel()
        alone = self.brightness or self.settings.only_if_dark or self.model.variant.guided
        plain = self.scale == 1 and not alone
        alike = self._encoding is None and plain and self.strength != 0
        if gpu is None or not alike or pixels > gpu.most_pixels():
            for to, picture in zip(enhanced, pictures, strict=True):
                to.copy_(self._converted(picture))
            return enhanced
        values = torch.cat([fractions(picture) for picture in pictures])
        with gpu.logits(values) as logits:
            for to, picture, own in zip(enhanced, pictures, logits, strict=True):
                to.copy_(self._curved(picture, own[None], self.strength))
        for to, picture in zip(enhanced, pictures, strict=True):
            self._denoised(picture, to)
        return enhanced

    @torch.inference_mode()
    def maps(self, image: Pixels) -> Tensor:
        """The curve maps of ``image`` (H, W, 3) at the enhancer's scale, (1, C, ceil(H / scale), ceil(W / scale)).

        They are in [-1, 1], times the strength that the scene wants where one is sought: what ``apply`` takes.

        Raises:
            TypeError, ValueError: as a call does.
        """
        _check(image)
        picture = self._picture(self.srgb(image))
        maps = self._guided_maps(picture) if self.model.variant.guided else self._maps(picture)
        if not self._may_change(picture):
            return torch.zeros_like(maps)
        return maps * self._wanted(picture) if self.brightness and not self.model.variant.guided else maps

    @torch.inference_mode()
    def apply(self, image: Pixels, maps: Tensor) -> Pixels:
        """The curves of ``maps`` (1, C, ceil(H / scale), ceil(W / scale)) on ``image`` (H, W, 3): its shape and dtype.

        Raises:
            TypeError, ValueError: as a call does; ``maps`` are not of that shape.
        """
        _check(image)
        small = tuple(-(-side // self.scale) for side in image.shape[:2])
        shape = (1, self.model.variant.used_maps, *small)
        if tuple(maps.shape) != shape:
            raise ValueError(f"maps must be {shape} for this image, got {tuple(maps.shape)}")
        if self._encoding is None:
            return self._with_maps(image, maps)
        return encodings.through(self._encoding, image, lambda shown: self._with_maps(shown, maps))

    def srgb(self, image: Pixels) -> Pixels:
        """What the network sees: ``image`` (H, W, 3) itself, or in sRGB, 16 bits, where ``transfer`` is another encoding."""
        return image if self._encoding is None else encodings.srgb(self._encoding, image)

    @property
    def _encoding(self) -> encodings.Encoding | None:
        return encodings.ENCODINGS.get(self.settings.transfer)

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

    @property
    def _gpu(self) -> GpuNetwork | None:
        """The network as a GPU runs it, its weights cast when first asked for; None on the CPU."""
        if self._cast is None and self._device.type == "cuda":
            self._cast = GpuNetwork(self.model, self.precision)
        return self._cast

    def _picture(self, image: Pixels) -> Tensor:
        """The image (H, W, 3) as it is, on the model's device."""
        # Torch knows neither read-only arrays nor negative strides.
        usable = image.flags.writeable and min(image.strides) > 0 and not any(s % image.itemsize for s in image.strides)
        return torch.from_numpy(image if usable else image.copy()).to(self._device)

    def _array(self, picture: Tensor) -> Pixels:
        return cast(Pixels, picture.cpu().numpy())

    def _with_maps(self, image: Pixels, maps: Tensor) -> Pixels:
        picture = self._picture(image)
        return self._array(self._denoised(picture, self._applied(picture, maps, self.strength)))

    def _converted(self, picture: Tensor) -> Tensor:
        """``picture`` (H, W, 3) enhanced in the encoding that it has; all but sRGB is converted on the CPU."""
        if self._encoding is None:
            return self._enhanced(picture)
        array = picture.cpu().contiguous().numpy()
        enhanced = encodings.through(self._encoding, array, lambda shown: self._array(self._enhanced(self._picture(shown))))
        return torch.from_numpy(enhanced).to(picture.device)

    def _enhanced(self, picture: Tensor) -> Tensor:
        """``picture`` (H, W, 3), uint8, uint16 or float32, enhanced."""
        if not self._may_change(picture):
            return picture.clone(memory_format=torch.contiguous_format)
        if self.model.variant.guided and self.strength:
            maps = self._guided_maps(picture)
            if not maps.any():
                return picture.clone(memory_format=torch.contiguous_format)
            return self._denoised(picture, self._applied(picture, maps, self.strength))
        strength = self.strength and self.strength * self._wanted(picture)
        if strength == 0:
            return picture.clone(memory_format=torch.contiguous_format)
        return self._denoised(picture, self._brightened(picture, strength))

    def _may_change(self, picture: Tensor) -> bool:
        """Whether ``picture`` (H, W, 3) is one that ``only_if_dark`` lets change."""
        return not self.settings.only_if_dark or darkness.is_dark(picture.cpu().numpy())

    def _wanted(self, picture: Tensor) -> float:
        """The strength that the scene of ``picture`` (H, W, 3) wants; 1 where none is sought."""
        if self.brightness == 0:
            return 1.0
        small = fractions(scene.thumbnail(picture.permute(2, 0, 1)[None])[0].permute(1, 2, 0)).contiguous()
        wanted = scene.strength(small, self._exact_maps(small), self.model.variant.iterations, self.brightness)
        return float(wanted)

    def _guided_maps(self, picture: Tensor) -> Tensor:
        """Coefficients (1, 2, ceil(H / scale), ceil(W / scale)) for ``picture`` (H, W, 3), with the strength for its scene."""
        small = self._reduced(picture)
        coefficients = guidance.fit(small, self._exact_maps(small))
        if self.brightness == 0:
            return coefficients
        return coefficients * guided_scene.strength(small, coefficients, self.model.variant.iterations, self.brightness)

    def _brightened(self, picture: Tensor, strength: float) -> Tensor:
        """``picture`` (H, W, 3) with its own curve, of that strength."""
        if self.scale > 1:
            return self._applied(picture, self._maps(picture), strength)
        if engine := self._engine:
            return engine.enhance(picture, strength)
        enhanced = torch.empty_like(picture, memory_format=torch.contiguous_format)
        for tile in self._tiled(picture.shape[:2]):
            with self._logits(fractions(picture[tile.outer])) as logits:
                own = logits[..., *tile.inner_in_outer]
                enhanced[tile.inner] = self._curved(picture[tile.inner], own, strength)
        return enhanced

    def _curved(self, picture: Tensor, logits: Tensor, strength: float) -> Tensor:
        """``picture`` (H, W, 3) with the curve of ``logits`` (1, C, H, W), of that strength."""
        return ops.enhance_picture(picture, logits, self.model.variant.iterations, strength=strength, logits=True)

    def _tiled(self, size: Sequence[int]) -> Iterator[_Tile]:
        """What a picture of ``size`` (H, W) is computed in: on a GPU mostly the whole."""
        gpu = self._gpu
        side = _TILE if gpu is None else max(size) if math.prod(size) <= gpu.most_pixels() else math.isqrt(gpu.most_pixels())
        return _tiles(size, side, self.model.variant.receptive_field // 2)

    def _applied(self, picture: Tensor, maps: Tensor, strength: float) -> Tensor:
        """``picture`` (H, W, 3) with the curves of ``maps`` (1, C, ceil(H / scale), ceil(W / scale)), of that strength."""
        return ops.enhance_picture(
            picture, maps, self.model.variant.iterations, scale=self.scale, strength=strength,
            align_corners=self.model.variant.published_sampling,
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
            below = enhanced[top : end + DENOISE_REACH]
            strip = enhanced.new_empty(before + len(below), width, 3)
            strip[:before], strip[before:] = above, below  # torch.cat takes no uint16 on CUDA
            above = enhanced[end - DENOISE_REACH : end].clone()
            denoised = ops.denoise_picture(picture[top - before : end + DENOISE_REACH], strip, self.noise / LEVELS)
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
        for tile in self._tiled(small.shape[2:]):
            with self._logits(small[..., *tile.outer]) as logits:
                maps[..., *tile.inner] = torch.tanh(logits[..., *tile.inner_in_outer].float())
        return maps

    def _reduced(self, picture: Tensor) -> Tensor:
        """``picture`` (H, W, 3) made ``scale`` times smaller, (1, 3, ceil(H / scale), ceil(W / scale)), in [0, 1]."""
        if self.scale == 1:
            return fractions(picture)
        # As published, a network with a scale of its own takes bilinear samples.
        return ops.reduce_picture(picture, self.scale, antialias=not self.model.variant.published_sampling)

    @contextmanager
    def _logits(self, image: Tensor) -> Iterator[Tensor]:
        """The network's logits (1, C, h, w) for ``image`` (1, 3, h, w) in [0, 1], by torch: inside the ``with``."""
        if gpu := self._gpu:
            with gpu.logits(image) as logits:
                yield logits
            return
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            logits = self.model(image.contiguous())
        yield logits


def _check_tensor(image: Tensor) -> None:
    if image.dtype != torch.float32:
        raise TypeError(f"image must be a float32 tensor, got {image.dtype}")
    if image.dim() != 4 or image.shape[1] != 3 or 0 in image.shape:
        raise ValueError(f"image must be (B, 3, H, W) with B, H and W at least 1, got {tuple(image.shape)}")
    least, most = (value.item() for value in image.aminmax())
    if not (math.isfinite(least) and math.isfinite(most)):
        raise ValueError("image must be finite, got values that are not")
    if not (least >= -_ROUNDING and most <= 1 + _ROUNDING):
        hint = "; divide 8-bit values by 255, or give them as uint8" if least >= 0 and most <= 255 else "; clamp it before"
        raise ValueError(f"image must be in [0, 1], got values from {least:.4g} to {most:.4g}{hint}")


def _check(image: Pixels) -> None:
    if not isinstance(image, np.ndarray) or image.dtype not in (np.uint8, np.uint16):
        got = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
        raise TypeError(f"image must be a uint8 or uint16 array or a float32 tensor, got {got}")
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"image must be (H, W, 3) with H and W at least 1, got {image.shape}")
