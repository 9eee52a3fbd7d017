"""Networks on PyTorch, for enhancing on GPUs, and on CPUs if the engine can't run them.

It does the same as ``zdce.models.engine`` with the operations of ``zdce.ops``; results differ by rounding.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from zdce import backends, ops
from zdce.interleaved import fractions
from zdce.models import guided_scene, illumination, scene
from zdce.models.engine import Array, PixelSettings, computed_precision
from zdce.models.gpu_copies import GpuCopies
from zdce.models.gpu_graphs import GpuGraphs
from zdce.models.gpu_network import GpuNetwork
from zdce.models.network import DCENet
from zdce.models.variants import ILLUMINATION
from zdce.ops.denoise_picture import DENOISE_REACH
from zdce.settings import LEVELS

# Pixels of the strips that are denoised one after the other: a strip with its result is 25 MB in 16 bits, 50 in floats. On a
# GPU a frame of 4K is one strip, with 200 MB of planes, so that fewer kernels start.
_STRIP, _GPU_STRIP = 2**21, 2**23

# Side in pixels of torch's tiles on the CPU. A tile takes about 150 MB with 32 filters; the halo adds 4% of work.
_TILE = 512


@dataclass(frozen=True)
class _Tile:
    """A rectangle of an image, and the larger one on which the network's outputs depend, clipped at the image's border."""

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
    """Squares of at most ``side`` pixels that cover an image of ``size`` (H, W)."""
    height, width = size
    for top in range(0, height, side):
        for left in range(0, width, side):
            yield _Tile(top, min(top + side, height), left, min(left + side, width), halo, height, width)


class TorchEngine:
    """A network where its parameters are.

    Tensors of pictures, maps and results are on the same device.

    Args:
        model: a network in eval mode.
        precision: precision of the convolutions, ``"fp32"`` or ``"bf16"``; a CPU without a unit for bfloat16 computes in
            float32.
    """

    def __init__(self, model: DCENet, precision: str) -> None:
        self._model, self.device = model, next(model.parameters()).device
        computed = computed_precision(precision) if self.device.type == "cpu" else precision
        self._rounded = computed == "bf16"
        # On a GPU, with the present weights of the model.
        self._gpu = GpuNetwork(model, precision) if self.device.type == "cuda" else None
        self._fused = None if self._gpu is None else self._gpu.fused
        self._copies = None if self._gpu is None else GpuCopies(self.device)
        self._fits = GpuGraphs()

    @torch.inference_mode()
    def enhance(self, picture: Array, settings: PixelSettings) -> Array:
        """The enhanced ``picture`` (H, W, 3) in its dtype: uint8, uint16, or float32 in [0, 1].

        On a GPU, copies and kernels of several threads overlap.
        """
        with self._stream():
            return self._array(self._enhanced(self._picture(picture), settings))

    @torch.inference_mode()
    def enhance_all(self, pictures: Tensor, settings: PixelSettings) -> Tensor:
        """The enhanced ``pictures`` (B, H, W, 3), contiguous, together as far as memory allows.

        On a GPU the host does not wait for them, except while a graph is captured, in the second call for a shape.
        """
        enhanced = torch.empty_like(pictures, memory_format=torch.contiguous_format)
        gpu, pixels = self._gpu, pictures[..., 0].numel()
        plain = settings.scale == 1 and not self._model.variant.guided and len(pictures) > 0
        if gpu is None or not plain or settings.strength == 0 or (self._fused is None and pixels > gpu.most_pixels()):
            for to, picture in zip(enhanced, pictures, strict=True):
                to.copy_(self._enhanced(picture, settings))
            return enhanced
        strengths = self._strengths(pictures, settings)
        if self._fused is not None:
            enhanced = self._fused.enhanced(pictures, strengths)
        else:
            values = torch.cat([fractions(picture) for picture in pictures])
            with gpu.logits(values) as logits:
                for i, (to, picture, own) in enumerate(zip(enhanced, pictures, logits, strict=True)):
                    strength = strengths[i] if isinstance(strengths, Tensor) else strengths
                    to.copy_(self._curved(picture, own[None], strength))
        for to, picture in zip(enhanced, pictures, strict=True):
            self._denoised(picture, to, settings)
        return enhanced

    @torch.inference_mode()
    def maps(self, picture: Array, settings: PixelSettings) -> Array:
        """Curve maps or coefficients of ``picture`` (H, W, 3) for ``apply``, times the strength for the scene.

        Returns:
            float32, (1, C, ceil(H / scale), ceil(W / scale)).
        """
        with self._stream():
            given = self._picture(picture)
            if self._model.variant.guided:
                return self._array(self._guided_maps(given, settings))
            maps = self._maps(self._reduced(given, settings.scale))
            return self._array(maps * self._found(given[None], settings) if settings.brightness else maps)

    @torch.inference_mode()
    def apply(self, picture: Array, maps: Array, settings: PixelSettings) -> Array:
        """``picture`` (H, W, 3) with the curves of ``maps`` (1, C, ceil(H / scale), ceil(W / scale)): its shape and dtype."""
        with self._stream():
            given = self._picture(picture)
            enhanced = self._applied(given, self._picture(maps), settings.scale, settings.strength)
            return self._array(self._denoised(given, enhanced, settings))

    def _stream(self) -> AbstractContextManager[None]:
        """A context for all work on an array."""
        return nullcontext() if self._copies is None else self._copies.stream()

    def _picture(self, image: Array) -> Tensor:
        """An array on the model's device."""
        # Torch supports neither read-only arrays nor negative strides.
        usable = image.flags.writeable and min(image.strides) > 0 and not any(s % image.itemsize for s in image.strides)
        tensor = torch.from_numpy(image if usable else image.copy())
        return tensor.to(self.device) if self._copies is None else self._copies.to_gpu(tensor)

    def _array(self, picture: Tensor) -> Array:
        pixels: Array = picture.cpu().numpy() if self._copies is None else self._copies.to_host(picture)
        return pixels

    def _enhanced(self, picture: Tensor, settings: PixelSettings) -> Tensor:
        """``picture`` (H, W, 3), uint8, uint16 or float32, enhanced."""
        if self._model.variant.guided and settings.strength:
            maps = self._guided_maps(picture, settings)
            if self._gpu is None and not maps.any():  # On a GPU the host doesn't wait; without maps the picture stays the same.
                return picture.clone(memory_format=torch.contiguous_format)
            return self._denoised(picture, self._applied(picture, maps, settings.scale, settings.strength), settings)
        strength = self._strengths(picture[None], settings) if settings.strength else 0.0
        if isinstance(strength, float) and strength == 0:
            return picture.clone(memory_format=torch.contiguous_format)
        return self._denoised(picture, self._brightened(picture, settings.scale, strength), settings)

    def _strengths(self, pictures: Tensor, settings: PixelSettings) -> float | Tensor:
        """The strength of the curve of ``pictures`` (B, H, W, 3): a number, or on a GPU (B,) if they are found for scenes.
        Without a GPU there is one picture.
        """
        if settings.brightness == 0:
            return float(settings.strength)
        found = self._found(pictures, settings)
        found = found if settings.strength == 1 else settings.strength * found
        return float(found) if self._gpu is None else found

    def _found(self, pictures: Tensor, settings: PixelSettings) -> Tensor:
        """The strengths (B,) for the scenes of ``pictures`` (B, H, W, 3)."""
        thumbnails = scene.thumbnail(pictures.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        small = torch.cat([fractions(thumbnail) for thumbnail in thumbnails]).contiguous()
        return scene.strength(small, self._maps(small), self._model.variant.iterations, settings.brightness).flatten()

    def _guided_maps(self, picture: Tensor, settings: PixelSettings) -> Tensor:
        """Coefficients (1, 2, ceil(H / scale), ceil(W / scale)) for ``picture`` (H, W, 3), with the strength for its scene."""
        small = self._reduced(picture, settings.scale)
        scale = guided_scene.seen_scale(picture.shape[0], picture.shape[1], settings.scale)
        seen = small if scale == settings.scale or settings.brightness == 0 else self._reduced(picture, scale)
        maps, of_scene = self._maps(small), (settings.brightness, settings.shadows, settings.highlights)

        def fit(small: Tensor, maps: Tensor, seen: Tensor) -> Tensor:
            return guided_scene.fit(small, maps, self._model.variant.iterations, *of_scene, seen=seen)

        if not small.is_cuda:
            return fit(small, maps, seen)
        # Some 300 kernels of a few microseconds, which the host takes longer to start one by one than the GPU to run.
        key = (small.shape, seen.shape, *of_scene, backends.requested())
        with self._fits.result(key, fit, small, maps, seen) as coefficients:
            return coefficients.clone()

    def _brightened(self, picture: Tensor, scale: int, strength: float | Tensor) -> Tensor:
        """``picture`` (H, W, 3) with its own curve, with that strength, a number or (1,)."""
        if scale > 1:
            return self._applied(picture, self._maps(self._reduced(picture, scale)), scale, strength)
        if self._fused is not None:
            return self._fused.enhanced(picture[None], strength)[0]
        enhanced = torch.empty_like(picture, memory_format=torch.contiguous_format)
        for tile in self._tiled(picture.shape[:2]):
            with self._logits(fractions(picture[tile.outer])) as logits:
                own = logits[..., *tile.inner_in_outer]
                enhanced[tile.inner] = self._curved(picture[tile.inner], own, strength)
        return enhanced

    def _curved(self, picture: Tensor, logits: Tensor, strength: float | Tensor) -> Tensor:
        """``picture`` (H, W, 3) with the curve or illumination of ``logits`` (1, C, H, W), with that strength."""
        if self._model.variant.formula == ILLUMINATION:
            return illumination.divided_picture(picture, torch.tanh(logits.float()), strength=strength)
        return ops.enhance_picture(picture, logits, self._model.variant.iterations, strength=strength, logits=True)

    def _tiled(self, size: Sequence[int]) -> Iterator[_Tile]:
        """The tiles of a picture of ``size`` (H, W): on a GPU usually one."""
        gpu = self._gpu
        side = _TILE if gpu is None else max(size) if math.prod(size) <= gpu.most_pixels() else math.isqrt(gpu.most_pixels())
        return _tiles(size, side, self._model.variant.receptive_field // 2)

    def _applied(self, picture: Tensor, maps: Tensor, scale: int, strength: float | Tensor) -> Tensor:
        """``picture`` (H, W, 3) with the curves or illumination of ``maps`` (1, C, ceil(H / scale), ceil(W / scale))."""
        corners = self._model.variant.published_sampling
        if self._model.variant.formula == ILLUMINATION:
            return illumination.divided_picture(picture, maps, scale, strength, corners)
        return ops.enhance_picture(
            picture, maps, self._model.variant.iterations, scale=scale, strength=strength, align_corners=corners,
        )  # fmt: skip

    def _denoised(self, picture: Tensor, enhanced: Tensor, settings: PixelSettings) -> Tensor:
        """``enhanced`` (H, W, 3), in place, without the noise of ``picture`` (H, W, 3) that the curve amplified."""
        found = self._noise(picture, settings) if settings.strength else 0.0
        if not isinstance(found, Tensor) and found == 0:
            return enhanced
        height, width, _ = enhanced.shape
        rows = max(2 * DENOISE_REACH, (_STRIP if self._gpu is None else _GPU_STRIP) // width)
        if rows >= height:
            return enhanced.copy_(ops.denoise_picture(picture, enhanced, found))
        above = enhanced[:0]
        for top in range(0, height, rows):
            end, before = min(top + rows, height), len(above)
            below = enhanced[top : end + DENOISE_REACH]
            strip = enhanced.new_empty(before + len(below), width, 3)
            strip[:before], strip[before:] = above, below  # torch.cat does not support uint16 on CUDA.
            above = enhanced[end - DENOISE_REACH : end].clone()
            denoised = ops.denoise_picture(picture[top - before : end + DENOISE_REACH], strip, found)
            enhanced[top:end] = denoised[before : before + end - top]
            del strip, denoised  # Before the next ones are made.
        return enhanced

    def _noise(self, picture: Tensor, settings: PixelSettings) -> float | Tensor:
        """The noise to smooth as ``zdce.ops.denoise_picture`` takes it; measured, it stays on the picture's device."""
        own = self._model.variant.noise
        if settings.noise is None and own:
            return ops.picture_noise(picture, own / LEVELS)
        return (settings.noise or 0.0) / LEVELS

    def _maps(self, small: Tensor) -> Tensor:
        """Curve maps (B, C, h, w) of images (B, 3, h, w) in [0, 1]."""
        if self._fused is not None:
            return self._fused.maps(small)
        maps = small.new_empty(len(small), self._model.variant.maps, *small.shape[2:])
        for tile in self._tiled(small.shape[2:]):
            with self._logits(small[..., *tile.outer]) as logits:
                maps[..., *tile.inner] = torch.tanh(logits[..., *tile.inner_in_outer].float())
        return maps

    def _reduced(self, picture: Tensor, scale: int) -> Tensor:
        """``picture`` (H, W, 3) made ``scale`` times smaller, (1, 3, ceil(H / scale), ceil(W / scale)), in [0, 1]."""
        if scale == 1:
            return fractions(picture)
        # As published, networks with a scale of their own take bilinear samples.
        return ops.reduce_picture(picture, scale, antialias=not self._model.variant.published_sampling)

    @contextmanager
    def _logits(self, image: Tensor) -> Iterator[Tensor]:
        """A context with the network's logits (B, C, h, w) for ``image`` (B, 3, h, w) in [0, 1]."""
        if self._gpu is not None:
            with self._gpu.logits(image) as logits:
                yield logits
            return
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._rounded):
            logits = self._model(image.to(next(self._model.parameters()).dtype).contiguous())
        yield logits.float()
