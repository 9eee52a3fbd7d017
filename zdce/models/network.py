"""DCE-Net in all its variants, and their weights in files that contain the variant's description."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional

from zdce import backends, ops
from zdce.errors import InputError
from zdce.models import guided_scene, illumination, scene, stored, variants
from zdce.models.engine import computed_precision
from zdce.models.present_weights import present_weights
from zdce.models.scene import Curve
from zdce.models.stored import StoredNetwork
from zdce.models.variants import ILLUMINATION, Variant
from zdce.ops import dispatch, operator
from zdce.ops.arguments import check_scale
from zdce.ops.convolution import concatenated
from zdce.ops.denoise_picture import denoise
from zdce.ops.enhance_picture import guided_map
from zdce.runtime import atomic, devices
from zdce.settings import LEVELS

# Types of feature maps between layers and for backward, by the names that ``DCENet`` takes.
ACTIVATIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def _bfloat16_autocast() -> bool:
    """Whether torch's autocast to bfloat16 is on for the CPU."""
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16


def _runs_in_kernels(sources: Sequence[Tensor], weight: Tensor) -> bool:
    """Whether ``zdce.ops.convolution`` has kernels for it; compilers and exporters use torch's own operators."""
    return (
        not torch.compiler.is_compiling()
        and not operator.transformed()
        and (sources[0].device.type, weight.dtype) == ("cpu", torch.float32)
        and all(source.dtype in ACTIVATIONS.values() for source in sources)
        and torch.is_autocast_enabled("cpu") == _bfloat16_autocast()
        and backends.requested() in ("auto", "cpp")
        and dispatch.why_missing("cpp", operator="convolution") is None
    )


def _enlarged(maps: Tensor, scale: int, height: int, width: int) -> Tensor:
    """``maps`` (B, C, ceil(H / scale), ceil(W / scale)) at H x W: pixel y samples them at ``(y + 0.5) / scale - 0.5``."""
    if torch.onnx.is_in_onnx_export():
        # ONNX can resample by a factor or to a size, not by a factor to a size.
        return functional.interpolate(maps, scale_factor=float(scale), mode="bilinear")[..., :height, :width]
    # A program exported from the lines above would accept only sizes that the scale divides, or only others.
    return torch.ops.aten.upsample_bilinear2d.default(maps, [height, width], False, float(scale), float(scale))


def _reduced(image: Tensor, scale: int) -> Tensor:
    """Images (B, 3, H, W) made smaller by area means, (B, 3, ceil(H / scale), ceil(W / scale))."""
    # A window that reaches beyond the border is the mean of its pixels inside.
    return image if scale == 1 else functional.avg_pool2d(image, scale, ceil_mode=True, count_include_pad=False)


def _check_image(image: Tensor) -> None:
    if image.dim() != 4 or image.shape[1] != 3:
        raise InputError(f"image must be (B, 3, H, W), got {tuple(image.shape)}")


class Conv2d(nn.Conv2d):
    """A 3x3 convolution of concatenated inputs (B, C_i, H, W), with a ReLU if ``rectified``; the result is (B, o, H, W).

    ``kept`` is the result's dtype; if it is given, inputs may be bfloat16 with weights of any dtype. Under autocast to bfloat16
    the kernels round values before they multiply, and keep what is rectified in bfloat16.
    """

    def __init__(self, in_channels: int, out_channels: int, rectified: bool, kept: torch.dtype | None = None) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1)
        self.rectified = rectified
        self.kept = kept

    def forward(self, *sources: Tensor) -> Tensor:
        mixed = _bfloat16_autocast()
        takes = mixed or self.kept is not None or sources[0].dtype == self.weight.dtype
        if self.bias is not None and takes and _runs_in_kernels(sources, self.weight):
            kept = self.kept if self.kept is not None or not mixed else torch.bfloat16 if self.rectified else torch.float32
            return ops.convolution(sources, self.weight, self.bias, self.rectified, kept, mixed)
        x = concatenated(sources)
        x = super().forward(x if self.kept is None else x.to(self.weight.dtype))
        x = functional.relu(x) if self.rectified else x
        return x if self.kept is None else x.to(self.kept)


class SeparableConv2d(nn.Module):
    """A depthwise 3x3 and a pointwise 1x1 convolution (Zero-DCE++) of concatenated inputs, with a ReLU if ``rectified``.

    Under autocast to bfloat16 a CPU without a unit for it computes in float32: torch's bfloat16 is 20 times as slow with AVX2
    (not measured with the vectors of AVX512-BF16).
    """

    def __init__(self, in_channels: int, out_channels: int, rectified: bool) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1)
        self.rectified = rectified

    def forward(self, *sources: Tensor) -> Tensor:
        x = concatenated(sources)
        if x.device.type != "cpu" or not _bfloat16_autocast():
            return self._convolved(x)
        if torch.compiler.is_compiling() or computed_precision("bf16") == "bf16":
            # torch's depthwise convolutions of bfloat16 are slower than float32's in planes, and faster channels_last.
            return self._convolved(x.contiguous(memory_format=torch.channels_last))
        with torch.autocast("cpu", enabled=False):
            return self._convolved(x.to(self.pointwise.weight.dtype))

    def _convolved(self, x: Tensor) -> Tensor:
        x = self.pointwise(self.depthwise(x))
        return functional.relu(x) if self.rectified else x


class DCENet(nn.Module):
    """The network that estimates light-enhancement curves, of any variant.

    Args:
        variant: a name in ``zdce.models.variants.VARIANTS``, or a ``Variant``.
        activations: type of feature maps and their gradients, between layers and for backward: ``"float32"``, or
            ``"bfloat16"`` with half the memory and 8 bits of precision; weights, arithmetic and logits stay float32.

    Raises:
        InputError: there is no variant of that name, or ``activations`` is "bfloat16" with separable layers, which run in
            torch.

    >>> zdce.DCENet("iters4")(torch.rand(1, 3, 20, 30)).shape
    torch.Size([1, 12, 20, 30])
    """

    def __init__(self, variant: str | Variant = "base", activations: str = "float32") -> None:
        super().__init__()
        self.variant = variant if isinstance(variant, Variant) else variants.variant(variant)
        if activations not in ACTIVATIONS:
            raise InputError(f"activations must be one of {', '.join(ACTIVATIONS)}, got {activations!r}")
        if self.variant.separable and activations != "float32":
            raise InputError(
                f"activations must be float32 where layers are separable, as in {self.variant.name}, got {activations!r}"
            )
        self.activations = activations
        self.convolutions = nn.ModuleList(self._layers())
        for parameter in self.parameters():
            if parameter.dim() == 4:
                nn.init.xavier_uniform_(parameter)
            else:
                nn.init.zeros_(parameter)

    def _layers(self) -> Iterator[nn.Module]:
        layers = self.variant.convolutions()
        for n, (inputs, outputs) in enumerate(layers, 1):
            hidden = n < len(layers)
            if self.variant.separable:
                yield SeparableConv2d(inputs, outputs, hidden)
            elif self.activations == "float32":
                yield Conv2d(inputs, outputs, hidden)
            else:
                # Logits are not rounded, because illumination smoothness takes differences of neighbours.
                yield Conv2d(inputs, outputs, hidden, ACTIVATIONS[self.activations] if hidden else torch.float32)

    def forward(self, image: Tensor) -> Tensor:
        """The logits of the curve maps.

        Args:
            image: images in [0, 1], shape (B, 3, H, W).

        Returns:
            Shape (B, 3T, H, W), or (B, 3, H, W) if the variant shares its maps; their tanh gives the curve maps. Under autocast
            they are float32 where zdce's kernels run, or separable layers without a unit for bfloat16, and otherwise, as in
            compiled code, of autocast's type.

        Raises:
            ValueError: ``image`` is not (B, 3, H, W).
        """
        _check_image(image)
        features = [image]
        for sources, convolution in zip(self.variant.sources, self.convolutions, strict=True):
            features.append(convolution(*(features[s] for s in sources)))
        return features[-1]

    def curve_maps(self, image: Tensor, scale: int | None = None) -> Tensor:
        """Curve maps in [-1, 1] for ``image``, as trained, whatever strength its scene wants.

        Args:
            image: images in [0, 1], shape (B, 3, H, W).
            scale: the maps are estimated on an image this many times smaller, as in ``zdce.Enhancer``; None: the variant's own
                scale.

        Returns:
            Shape (B, 3T, H, W), or (B, 3, H, W) if the variant shares its maps.

        Raises:
            TypeError, ValueError: ``image`` or ``scale`` is not as above.
        """
        scale = self.variant.scale if scale is None else scale
        check_scale(scale)
        if scale == 1:
            return torch.tanh(self(image))
        height, width = image.shape[2:]
        if not self.variant.published_sampling:
            return _enlarged(torch.tanh(self(_reduced(image, scale))), scale, height, width)
        # Zero-DCE++ as published: bilinear down without antialiasing, the maps up with their corners aligned.
        size = ((height + scale - 1) // scale, (width + scale - 1) // scale)  # ONNX would round -(-H // scale) towards 0
        small = functional.interpolate(image, size=size, mode="bilinear", align_corners=False)
        return functional.interpolate(torch.tanh(self(small)), size=(height, width), mode="bilinear", align_corners=True)

    def scene_strength(self, image: Tensor, curve: Curve = ops.apply_curve) -> Tensor:
        """The strength of the maps for the scene of each ``image`` (B, 3, H, W), (B, 1, 1, 1), without gradient.

        It is 1 for variants without scene strength.

        Args:
            curve: function that applies maps (B, 3T or 3, H, W) to an image (B, 3, H, W) in T steps.
        """
        if self.variant.brightness == 0:
            return image.new_ones(image.shape[0], 1, 1, 1)
        small = scene.thumbnail(image.detach())
        return scene.strength(small, torch.tanh(self(small)).detach(), self.variant.iterations, self.variant.brightness, curve)

    def enhance(
        self, image: Tensor, scale: int | None = None, curve: Curve = ops.apply_curve, levels: int | None = None
    ) -> Tensor:
        """The enhanced images in [0, 1].

        Everything except the curve is plain torch, and with ``zdce.reference.apply_curve`` the curve is too, as training and
        exporters need it. ``zdce.Enhancer`` has the same results and is faster.

        Args:
            image: images in [0, 1], shape (B, 3, H, W).
            scale: as for ``curve_maps``.
            curve: function that applies maps (B, 3T or 3, H, W) to an image (B, 3, H, W) in T steps.
            levels: white of integer pictures, such as 255: images are rounded to these levels before they are denoised, as in
                ``zdce.Enhancer`` for such pictures. None: they are not rounded.

        Returns:
            Shape (B, 3, H, W).

        Raises:
            TypeError, ValueError: ``image`` or ``scale`` is not as above.
        """
        _check_image(image)
        maps = self._own_maps(image, self.variant.scale if scale is None else scale, curve)
        enhanced = self.formed(image, maps, curve)
        if not self.variant.noise:
            return enhanced
        rounded = enhanced if levels is None else (enhanced * levels).round() / levels
        return denoise(image, rounded, self.variant.noise / LEVELS)

    def formed(self, image: Tensor, maps: Tensor, curve: Curve = ops.apply_curve) -> Tensor:
        """Result of the variant's formula for ``image`` (B, 3, H, W) and ``maps`` (B, 3T or 3, H, W): (B, 3, H, W) in [0,
        1].
        """
        if self.variant.formula == ILLUMINATION:
            return illumination.divided(image, maps)
        return curve(image, maps, self.variant.iterations)

    def guided_maps(self, small: Tensor, curve: Curve = ops.apply_curve, seen: Tensor | None = None) -> Tensor:
        """Coefficients of the guided maps, with the strength for each scene; for variants that have such maps.

        Args:
            small: images in [0, 1], (B, 3, h, w), made smaller by area means.
            curve: function that applies maps (B, 3, H, W) to an image (B, 3, H, W) in T steps.
            seen: the images that their scenes are read from, see ``zdce.models.guided_scene.fit``; None: ``small``.

        Returns:
            Shape (B, 2, h, w); see ``zdce.models.guidance``.
        """
        maps, brightness = torch.tanh(self(small)), self.variant.brightness
        return guided_scene.fit(small, maps, self.variant.iterations, brightness, curve=curve, seen=seen)

    def _own_maps(self, image: Tensor, scale: int, curve: Curve) -> Tensor:
        """Curve maps (B, 3T or 3, H, W) in [-1, 1] of ``image`` (B, 3, H, W), with the strength for its scene."""
        check_scale(scale)
        if self.variant.guided:
            seen = None
            if self.variant.brightness:
                seen = guided_scene.thumbnail(image, guided_scene.seen_scale(image.shape[2], image.shape[3], scale))
            coefficients = self.guided_maps(_reduced(image, scale), curve, seen)
            if scale > 1:
                coefficients = _enlarged(coefficients, scale, image.shape[2], image.shape[3])
            return guided_map(image, coefficients).expand(-1, 3, -1, -1)
        maps = self.curve_maps(image, scale)
        return (maps * self.scene_strength(image, curve)).clamp(-1, 1) if self.variant.brightness else maps

    def save(self, path: str | Path) -> None:
        """Writes the weights with the variant's description as a ``.safetensors`` file; an existing file is replaced.

        Of parametrized or pruned layers those weights are written that ``forward`` uses.

        Raises:
            ValueError: a layer was replaced by one without such weights.
        """
        tensors = {name: tensor.cpu().contiguous() for name, tensor in present_weights(self, self.variant).items()}
        metadata = {stored.VARIANT_KEY: json.dumps(self.variant.to_dict())}
        atomic.write_bytes(Path(path), safetensors.torch.save(tensors, metadata))


def load(path_or_name: str | Path, device: str = "cpu") -> DCENet:
    """A trained network, in eval mode; subnormal weights are 0.

    Args:
        path_or_name: a variant's name, for the weights that come with the package (``zdce variants`` shows which do); or a
            ``.safetensors`` file that ``DCENet.save`` or ``zdce train`` wrote.
        device: device of the network, as PyTorch names it; ``"auto"`` is the GPU if PyTorch has one, else the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file has no network of zdce, or one whose weights are not finite or do not fit the variant that it
            describes; the variant has no shipped weights; or there is no such device.

    >>> zdce.load("base").variant.name
    'base'
    """
    place = devices.named(device)
    return of_stored(stored.read(path_or_name)).to(place)


def of_stored(network: StoredNetwork) -> DCENet:
    """The network of a file on the CPU, in eval mode."""
    model = DCENet(network.variant)
    model.load_state_dict({name: torch.from_numpy(values) for name, values in network.weights.items()})
    return model.eval()


def to_stored(model: DCENet) -> StoredNetwork:
    """The present weights of ``model``, on the CPU.

    Raises:
        InputError: a layer was replaced by one without such weights.
    """
    weights = present_weights(model, model.variant).items()
    return StoredNetwork(model.variant, {name: values.float().cpu().numpy() for name, values in weights})
