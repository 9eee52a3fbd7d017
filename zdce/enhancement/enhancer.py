"""``zdce.Enhancer``: whole pictures of any size in bounded memory; 8 bits, 16 bits or floating point."""

import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard, TypeVar, Union, Unpack, cast, overload

import numpy as np
from numpy.typing import NDArray

from zdce import backends
from zdce.enhancement import encodings
from zdce.errors import BackendError, InputError
from zdce.io.images import Pixels
from zdce.models import darkness, stored
from zdce.models.engine import Engine, PixelSettings, why_unsupported
from zdce.models.stored import StoredNetwork
from zdce.models.variants import CURVE, Variant
from zdce.runtime import devices, packages
from zdce.settings import EnhanceSettings, SettingsKeywords

if TYPE_CHECKING:
    from torch import Tensor

    from zdce.models.network import DCENet
    from zdce.models.torch_engine import TorchEngine

# A network in memory: as read from a file, for the CPU, or a PyTorch module.
Network: TypeAlias = Union[StoredNetwork, "DCENet"]

Floats: TypeAlias = NDArray[np.float32]
_Pixels = TypeVar("_Pixels", NDArray[np.uint8], NDArray[np.uint16], NDArray[np.float32], Pixels)

# Largest distance of floating-point images from [0, 1]: one level of 255, about the rounding of bfloat16.
_ROUNDING = 1 / 255


def load(path_or_name: str | Path, device: str = "cpu") -> Network:
    """The network that ``zdce.load`` loads, on the CPU without PyTorch.

    Raises:
        FileNotFoundError, ValueError: as ``zdce.load``; or ``device`` is not the CPU and PyTorch is not installed.
    """
    if devices.is_cpu(device):
        return stored.read(path_or_name)
    packages.require("torch", extra="torch")
    from zdce.models import network

    return network.load(path_or_name, device)


def moved(network: Network, device: str) -> Network:
    """``network`` on ``device``, as a PyTorch module unless that is the CPU.

    Raises:
        ValueError: there is no such device here.
    """
    if isinstance(network, StoredNetwork):
        if devices.is_cpu(device):
            return network
        from zdce.models.network import of_stored

        network = of_stored(network)
    return network.to(devices.named(device))


def is_tensor(value: object) -> "TypeGuard[Tensor]":
    """Whether ``value`` is a tensor; if PyTorch is not imported, it is not."""
    torch = sys.modules.get("torch")
    return hasattr(torch, "Tensor") and isinstance(value, torch.Tensor)  # type: ignore[union-attr]


def _network(model: Network | str | os.PathLike[str]) -> Network:
    if isinstance(model, str | os.PathLike):
        return load(Path(model) if isinstance(model, os.PathLike) else model)
    if isinstance(model, StoredNetwork):
        return model
    if not hasattr(model, "variant"):
        raise TypeError(f"model must be a network of zdce, its name or its file, got {type(model).__name__}")
    return model.eval()


@dataclass
class _Engines:
    """The engines of a network in one precision, each made when it is first used."""

    packed: Engine | None = None
    on_torch: "TorchEngine | None" = None


class Enhancer:
    """Enhances pictures with a trained network.

    Args:
        model: the network: a ``DCENet``, which runs on the device of its parameters, with the weights that it has at the first
            call, pruned and parametrized ones as ``forward`` uses them; if its layers were replaced or have hooks, or are not
            float32, PyTorch runs it. Or the name of a shipped network, a ``.safetensors`` file or the result of
            ``zdce.models.stored.read``, which run on the CPU without PyTorch.
        settings: the settings; None stands for the defaults.
        keywords: fields of ``EnhanceSettings``, which replace those in ``settings``.

    Attributes:
        model: the network.
        settings: the ``EnhanceSettings``, with the network's own values in place of None, except for ``noise``.

    Raises:
        FileNotFoundError: there is no such network or file.
        TypeError: ``model`` is of another type, or a keyword is not a setting.
        ValueError: a value is not allowed, or the network has no such setting (``shadows``,
            ``highlights``, ``brightness``).

    >>> enhancer = zdce.Enhancer(zdce.DCENet("iters4"), strength=0.5)
    >>> enhancer(np.full((5, 7, 3), 20, np.uint8)).shape
    (5, 7, 3)
    """

    __slots__ = ("_engines", "model", "settings")  # Makes `enhancer.strength = 2` an error.

    def __init__(
        self,
        model: Network | str | os.PathLike[str],
        settings: EnhanceSettings | None = None,
        **keywords: Unpack[SettingsKeywords],
    ) -> None:
        self.model = _network(model)
        self.settings = EnhanceSettings.of(settings, **keywords).for_variant(self.model.variant)
        self._check_guided()
        if self.settings.brightness and self.variant.formula != CURVE:
            raise InputError(
                f"brightness needs a network of curves, such as base, got {self.settings.brightness:g} for {self.variant.name}"
            )
        self._engines = _Engines()

    def _check_guided(self) -> None:
        for name in ("shadows", "highlights"):
            value = getattr(self.settings, name)
            if value != getattr(EnhanceSettings, name) and not self.variant.guided:
                raise InputError(
                    f"{name} needs a network with guided maps, such as local, got {value:g} for {self.variant.name}"
                )

    def __reduce__(self) -> tuple[type["Enhancer"], tuple[Network, EnhanceSettings]]:
        # Packed weights depend on the processor's instruction set, so they are packed again after unpickling.
        return Enhancer, (self.model, self.settings)

    def with_settings(self, settings: EnhanceSettings | None = None, **keywords: Unpack[SettingsKeywords]) -> "Enhancer":
        """An enhancer with the same network and other settings. If the precision is the same, packed weights are shared.

        Args:
            settings: the settings; None stands for this enhancer's.
            keywords: fields of ``EnhanceSettings``, which replace those in ``settings``.

        Raises:
            TypeError, ValueError: as for a new enhancer.

        >>> zdce.Enhancer(zdce.DCENet("iters4"), scale=4).with_settings(strength=0.5).settings.scale
        4
        """
        other = Enhancer(self.model, settings or self.settings, **keywords)
        if other.precision == self.precision:
            other._engines = self._engines
        return other

    @property
    def variant(self) -> Variant:
        """The variant of the network."""
        return self.model.variant

    @property
    def scale(self) -> int:
        """The curve is estimated on an image this many times smaller."""
        return cast(int, self.settings.scale)

    @property
    def precision(self) -> str:
        """Precision of the convolutions that was asked for, "fp32" or "bf16"."""
        return self.settings.precision

    @overload
    def __call__(self, image: _Pixels) -> _Pixels: ...

    @overload
    def __call__(self, image: "Tensor") -> "Tensor": ...

    def __call__(self, image: Any) -> Any:
        """The enhanced picture, with the shape and type of ``image``.

        Args:
            image: a picture as an array (H, W, 3), RGB, uint8, uint16 or float32 in [0, 1], of any size and memory layout; or a
                batch of pictures as a float32 tensor (B, 3, H, W) in [0, 1].

        Raises:
            TypeError: ``image`` is neither.
            ValueError: ``image`` has another shape, no pixels, or values that are not finite or, by more than rounding, outside
                of [0, 1].
        """
        if is_tensor(image):
            _check_tensor(image)
            images = image.detach().to(self._device).permute(0, 2, 3, 1)
            return self.pictures(images).permute(0, 3, 1, 2).to(image.device)
        _check(image)
        return self._converted(image)

    def pictures(self, pictures: "Tensor") -> "Tensor":
        """Enhances pictures on the network's device, together as far as memory allows.

        On a GPU pictures are not copied to the host unless ``transfer`` is another encoding than sRGB or ``only_if_dark`` is
        set. The call is asynchronous if nothing is copied.

        Args:
            pictures: interleaved pictures, shape (B, H, W, 3), uint8, uint16, or float32 in [0, 1].

        Returns:
            The same shape and dtype, contiguous.

        Raises:
            TypeError, ValueError: ``pictures`` has another type or shape.
        """
        import torch

        _check_pictures(pictures)
        if self._engine is None and self._encoding is None and not self.settings.only_if_dark:
            return self._torch_engine.enhance_all(pictures, self._pixel_settings)
        with torch.inference_mode():
            enhanced = torch.empty_like(pictures, memory_format=torch.contiguous_format)
            for to, picture in zip(enhanced, pictures, strict=True):
                to.copy_(torch.from_numpy(self._converted(picture.detach().cpu().numpy())))
        return enhanced

    def maps(self, image: Pixels | Floats) -> Floats:
        """Curve maps of ``image`` at the enhancer's scale, or the coefficients of guided maps, to be applied by ``apply``.

        If the network finds a strength for each scene, the maps are multiplied by it; before that they are in [-1, 1].

        Args:
            image: a picture (H, W, 3) as in a call.

        Returns:
            float32, shape (1, C, ceil(H / scale), ceil(W / scale)).

        Raises:
            TypeError, ValueError: as for a call.

        >>> enhancer, image = zdce.Enhancer(zdce.DCENet("iters4"), scale=4), np.full((30, 40, 3), 20, np.uint8)
        >>> maps = enhancer.maps(image)
        >>> maps.shape, enhancer.with_settings(strength=0.5).apply(image, maps).shape
        ((1, 12, 8, 10), (30, 40, 3))
        """
        _check(image)
        shown = self.srgb(image)
        if self._may_change(shown):
            return self._runner.maps(shown, self._pixel_settings)
        return np.zeros(self._maps_shape(image), np.float32)

    def apply(self, image: _Pixels, maps: Floats) -> _Pixels:
        """``image`` with the curves of ``maps``, which ``maps`` returned for it.

        Args:
            image: a picture (H, W, 3) as in a call.
            maps: curve maps, float32, shape (1, C, ceil(H / scale), ceil(W / scale)).

        Returns:
            The enhanced picture, with the shape and dtype of ``image``.

        Raises:
            TypeError, ValueError: as for a call; or ``maps`` has another shape.
        """
        _check(image)
        shape = self._maps_shape(image)
        if tuple(maps.shape) != shape:
            raise ValueError(f"maps must be {shape} for this image, got {tuple(maps.shape)}")
        if self._encoding is None:
            return self._runner.apply(image, maps, self._pixel_settings)
        return encodings.through(self._encoding, image, lambda shown: self._runner.apply(shown, maps, self._pixel_settings))

    def srgb(self, image: NDArray[Any]) -> NDArray[Any]:
        """The network's input: ``image`` (H, W, 3), converted to sRGB if ``transfer`` is another encoding, then as uint16 for
        integers.
        """
        return image if self._encoding is None else encodings.srgb(self._encoding, image)

    def _converted(self, image: Any) -> Any:
        """``image`` (H, W, 3), enhanced in its own encoding."""
        return self._enhanced(image) if self._encoding is None else encodings.through(self._encoding, image, self._enhanced)

    def _enhanced(self, shown: Any) -> Any:
        """``shown`` (H, W, 3), in sRGB, enhanced."""
        return self._runner.enhance(shown, self._pixel_settings) if self._may_change(shown) else shown.copy()

    def _may_change(self, shown: NDArray[Any]) -> bool:
        """Whether ``only_if_dark`` allows ``shown`` (H, W, 3), in sRGB, to be changed."""
        return not self.settings.only_if_dark or darkness.is_dark(shown)

    def _maps_shape(self, image: NDArray[Any]) -> tuple[int, ...]:
        height, width = image.shape[:2]
        return 1, self.variant.used_maps, -(-height // self.scale), -(-width // self.scale)

    @property
    def _encoding(self) -> encodings.Encoding | None:
        return encodings.ENCODINGS.get(self.settings.transfer)

    @property
    def _pixel_settings(self) -> PixelSettings:
        given = self.settings
        brightness = cast(float, given.brightness)
        return PixelSettings(self.scale, given.strength, brightness, given.noise, given.shadows, given.highlights)

    @property
    def _device(self) -> str:
        return "cpu" if isinstance(self.model, StoredNetwork) else str(next(self.model.parameters()).device)

    @property
    def _runner(self) -> "Engine | TorchEngine":
        return self._engine or self._torch_engine

    @property
    def _engine(self) -> Engine | None:
        """The engine for the CPU, its weights packed at the first use; None if PyTorch runs the network."""
        if backends.requested() not in ("auto", "cpp") or not devices.is_cpu(self._device):
            return None
        if self._engines.packed is None and self._why_unsupported() is None:
            self._engines.packed = Engine(self._stored(), self.precision)
        return self._engines.packed

    def _why_unsupported(self) -> str | None:
        if reason := why_unsupported(self.variant):
            return reason
        if isinstance(self.model, StoredNetwork):
            return None
        from zdce.models.altered import why_altered

        others = {str(parameter.dtype) for parameter in self.model.parameters()} - {"torch.float32"}
        return f"its weights are {', '.join(sorted(others))}, not float32" if others else why_altered(self.model)

    def _stored(self) -> StoredNetwork:
        if isinstance(self.model, StoredNetwork):
            return self.model
        from zdce.models import network

        return network.to_stored(self.model)

    @property
    def _torch_engine(self) -> "TorchEngine":
        """The engine on PyTorch, made at the first use.

        Raises:
            BackendError: PyTorch is not installed.
        """
        if self._engines.on_torch is None:
            if lacking := packages.missing("torch", extra="torch"):
                reason = why_unsupported(self.variant) or f"backend {backends.requested()!r} was asked for"
                raise BackendError(f"the network can't run in the C++ core: {reason}; {lacking}")
            from zdce.models import network, torch_engine

            model = network.of_stored(self.model) if isinstance(self.model, StoredNetwork) else self.model
            self._engines.on_torch = torch_engine.TorchEngine(model, self.precision)
        return self._engines.on_torch


def _check_pictures(pictures: "Tensor") -> None:
    dtype = str(pictures.dtype).removeprefix("torch.") if is_tensor(pictures) else type(pictures).__name__
    if dtype not in ("uint8", "uint16", "float32"):
        raise TypeError(f"pictures must be a uint8, uint16 or float32 tensor, got {dtype}")
    if pictures.dim() != 4 or pictures.shape[3] != 3 or 0 in pictures.shape[1:]:
        raise ValueError(f"pictures must be (B, H, W, 3) with H and W at least 1, got {tuple(pictures.shape)}")


def _check_tensor(image: "Tensor") -> None:
    if str(image.dtype) != "torch.float32":
        raise TypeError(f"image must be a float32 tensor, got {image.dtype}")
    if image.dim() != 4 or image.shape[1] != 3 or 0 in image.shape:
        raise ValueError(f"image must be (B, 3, H, W) with B, H and W at least 1, got {tuple(image.shape)}")
    least, most = (value.item() for value in image.aminmax())
    _check_range(least, most)


def _check(image: Any) -> None:
    if not isinstance(image, np.ndarray) or image.dtype not in (np.uint8, np.uint16, np.float32):
        got = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
        raise TypeError(f"image must be a uint8, uint16 or float32 array or a float32 tensor, got {got}")
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"image must be (H, W, 3) with H and W at least 1, got {image.shape}")
    if image.dtype == np.float32:
        _check_range(float(image.min()), float(image.max()))


def _check_range(least: float, most: float) -> None:
    """Raises ValueError if the smallest or largest floating-point value is outside of [0, 1]."""
    if not (math.isfinite(least) and math.isfinite(most)):
        raise ValueError("image must be finite, got values that are not")
    if not (least >= -_ROUNDING and most <= 1 + _ROUNDING):
        hint = "; divide 8-bit values by 255, or give them as uint8" if least >= 0 and most <= 255 else "; clamp it before"
        raise ValueError(f"image must be in [0, 1], got values from {least:.4g} to {most:.4g}{hint}")
