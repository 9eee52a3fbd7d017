"""The operations in plain torch, in any floating type: the truth that tests and benchmarks compare with.

Shapes: image and enhanced (B, 3, H, W); maps and logits (B, 3T, H, W), or (B, 3, H, W) shared by all steps. Bytes are per
pixel in float32 with T = 8.
"""

import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn import grad as grad_of

from zdce import formulas
from zdce.formulas import Objective, Weights


def curve_steps(maps: Tensor, iterations: int | None = None) -> Iterator[Tensor]:
    """The T triplets of ``maps``, (B, 3, ...) each; the same one T times where ``maps`` has 3 channels."""
    steps = maps.shape[1] // 3 if iterations is None else iterations
    for t in range(steps):
        yield maps if maps.shape[1] == 3 else maps[:, 3 * t : 3 * t + 3]


def apply_curve(image: Tensor, maps: Tensor, iterations: int | None = None) -> Tensor:
    # Eager: every step reads x and one triplet and writes x, at best 36 bytes a pixel, 288 for T = 8.
    # Fused: image and maps are read once, the result is written once: 12 + 96 + 12 = 120.
    x = image
    for a in curve_steps(maps, iterations):
        x = x + a * (x * x - x)
    return x


def apply_curve_backward(grad: Tensor, image: Tensor, maps: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """The gradients of ``image`` and ``maps``, given ``grad`` (B, 3, H, W) of the enhanced image."""
    # Eager: autograd keeps every x_t, 12 bytes a step, and passes over them again.
    # Fused: grad, image and maps are read once, both gradients written once: 12 + 12 + 96 + 12 + 96 = 228.
    steps = list(curve_steps(maps, iterations))
    states = [image]
    for a in steps[:-1]:
        x = states[-1]
        states.append(x + a * (x * x - x))
    grad_steps = []
    for x, a in zip(reversed(states), reversed(steps), strict=True):
        grad_steps.append(grad * (x * x - x))
        grad = grad * (1 + a * (2 * x - 1))
    grad_steps.reverse()
    shared = maps.shape[1] == 3
    return grad, torch.stack(grad_steps).sum(0) if shared else torch.cat(grad_steps, dim=1)


def region_means(image: Tensor, region: int) -> Tensor:
    """Means over RGB and ``region`` x ``region`` pixels, (B, H // region, W // region); an incomplete border is left out."""
    # 12 bytes read, nearly nothing written.
    return functional.avg_pool2d(image.mean(1, keepdim=True), region).squeeze(1)


def region_means_backward(grad: Tensor, region: int, height: int, width: int) -> Tensor:
    """The gradient of the image (B, 3, height, width), given ``grad`` of its region means."""
    # 12 bytes written.
    inside = (grad / (3 * region**2)).repeat_interleave(region, 1).repeat_interleave(region, 2)
    border = (0, width - inside.shape[2], 0, height - inside.shape[1])
    return functional.pad(inside, border)[:, None].expand(-1, 3, -1, -1)


def channel_means(image: Tensor) -> Tensor:
    """Each image's mean colour, (B, 3)."""
    # 12 bytes read.
    return image.mean((2, 3))


def channel_means_backward(grad: Tensor, height: int, width: int) -> Tensor:
    """The gradient of the image (B, 3, height, width), given ``grad`` of its channel means."""
    # 12 bytes written.
    return (grad / (height * width))[:, :, None, None].expand(-1, -1, height, width)


def tv_sums(maps: Tensor) -> Tensor:
    """Squared differences of neighbours along y and along x, each summed over everything, (2,)."""
    # 96 bytes read; eager reads them several times and writes both differences.
    return torch.stack([maps.diff(dim=2).square().sum(), maps.diff(dim=3).square().sum()])


def tv_sums_backward(grad: Tensor, maps: Tensor) -> Tensor:
    """The gradient of ``maps``, given ``grad`` (2,) of their sums."""
    # 96 bytes read and 96 written, the neighbours coming from cache.
    grad_maps = torch.zeros_like(maps)
    for axis, grad_sum in zip((2, 3), grad, strict=True):
        slopes = 2 * grad_sum * maps.diff(dim=axis)
        size = maps.shape[axis] - 1
        grad_maps.narrow(axis, 1, size).add_(slopes)
        grad_maps.narrow(axis, 0, size).sub_(slopes)
    return grad_maps


def _alike(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    dtype = torch.promote_types(a.dtype, b.dtype)
    return a.to(dtype), b.to(dtype)


def objective_statistics(image: Tensor, logits: Tensor, iterations: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """4 x 4 region means of the enhanced image and of ``image``, channel means of the enhanced one, tv_sums of the maps."""
    # Eager: tanh, curve and statistics are passes of their own. Fused: image and logits are read once, 12 + 96.
    image, logits = _alike(image, logits)
    maps = torch.tanh(logits)
    enhanced = apply_curve(image, maps, iterations)
    return region_means(enhanced, 4), region_means(image, 4), channel_means(enhanced), tv_sums(maps)


def objective_statistics_backward(
    grad_regions: Tensor, grad_channels: Tensor, grad_tv: Tensor, image: Tensor, logits: Tensor, iterations: int
) -> Tensor:
    """The gradient of ``logits``, given those of the statistics that depend on them."""
    # Fused: image and logits are read once, the gradient is written once: 12 + 96 + 96 = 204.
    image, logits = _alike(image, logits)
    maps = torch.tanh(logits)
    size = image.shape[2:]
    grad = region_means_backward(grad_regions, 4, *size) + channel_means_backward(grad_channels, *size)
    grad_maps = apply_curve_backward(grad, image, maps, iterations)[1] + tv_sums_backward(grad_tv, maps)
    return grad_maps * (1 - maps * maps)


# Of a picture (H, W, 3), what 1 is in memory; floats are in [0, 1] as they are.
WHITE = {torch.uint8: 255, torch.uint16: 65535}


def fractions(picture: Tensor) -> Tensor:
    """The picture (H, W, 3) as (1, 3, H, W) in [0, 1]; integers become float32."""
    values = picture if picture.is_floating_point() else picture.to(torch.float32) / WHITE[picture.dtype]
    return values.permute(2, 0, 1)[None]


def reduce_picture(picture: Tensor, scale: int, antialias: bool = True) -> Tensor:
    """Means over ``scale`` x ``scale`` pixels, (1, 3, ceil(H / scale), ceil(W / scale)) in [0, 1]; over fewer at the border.

    Without ``antialias`` bilinear samples, corners not aligned.
    """
    # uint8: 3 bytes read, of samples 12 / scale^2, nearly nothing written. Eager makes floats of the picture first, 12 bytes
    # written and read.
    height, width, _ = picture.shape
    if not antialias:
        size = [-(-height // scale), -(-width // scale)]
        return functional.interpolate(fractions(picture), size=size, mode="bilinear", align_corners=False)
    side = min(scale, max(height, width))  # larger areas are the same one
    padded = functional.pad(fractions(picture), (0, -width % side, 0, -height % side))
    sums = padded.unflatten(3, (-1, side)).unflatten(2, (-1, side)).sum((3, 5))
    rows, columns = (
        (size - side * torch.arange(-(-size // side), device=picture.device)).clamp(max=side) for size in (height, width)
    )
    return sums / (rows[:, None] * columns)


def enhance_picture(
    picture: Tensor, maps: Tensor, iterations: int, scale: int, align_corners: bool, strength: float, logits: bool
) -> Tensor:
    """The picture (H, W, 3) enhanced by ``maps`` (1, 3T or 3, ceil(H / scale), ceil(W / scale)): its shape and type."""
    # uint8 fused: 3 bytes read and 3 written, and 96 / scale^2 of the maps. Eager also writes and reads full maps, 192 bytes,
    # and the curve's 288.
    maps = torch.tanh(maps) if logits else maps
    maps = (maps * strength).clamp(-1, 1)
    image = fractions(picture)
    size = image.shape[2:]
    if scale > 1 and align_corners:
        maps = functional.interpolate(maps, size=size, mode="bilinear", align_corners=True)
    elif scale > 1:
        maps = functional.interpolate(maps, scale_factor=float(scale), mode="bilinear", align_corners=False)
        maps = maps[..., : size[0], : size[1]]
    enhanced = apply_curve(*_alike(image, maps), iterations)[0].permute(1, 2, 0)
    return (enhanced * WHITE[picture.dtype]).round() if picture.dtype in WHITE else enhanced


# Of denoising: Rec. 709's luma; Gaussians of deviation 0.8 for the guide, 2 for the chroma and 1.2 for the neighbours; the
# brightness that keeps the slope of black finite; the added noise from which on all of the chroma's blur is taken; and the most
# that a colour is brought to which is not brighter already.
LUMA = (0.2126, 0.7152, 0.0722)
DENOISE_REACH, _RADIUS = 4, 2
_GUIDE, _CHROMA, _NEAR = 0.8, 2.0, 1.2
_BLACK = 1e-3
_BLURRED = 2 / 255
_NOT_BURNT = 254 / 255


def _blurred(planes: Tensor, deviation: float, radius: int) -> Tensor:
    """Planes (B, C, H, W) under a Gaussian cut at ``radius``, (B, C, H - 2 radius, W - 2 radius)."""
    kernel = torch.exp(-(torch.arange(-radius, radius + 1, dtype=planes.dtype, device=planes.device) ** 2) / (2 * deviation**2))
    kernel = (kernel / kernel.sum()).expand(planes.shape[1], 1, 1, -1)
    across = functional.conv2d(planes, kernel, groups=planes.shape[1])
    return functional.conv2d(across, kernel.transpose(2, 3), groups=planes.shape[1])


def denoise(image: Tensor, enhanced: Tensor, noise: float) -> Tensor:
    """``enhanced`` (B, 3, H, W) without what a curve made of the ``noise`` of ``image`` (B, 3, H, W), all in [0, 1].

    Noise of deviation n comes out of a curve of slope g as g n, a variance of (g^2 - 1) n^2 more. The slope is that of the
    curve y = a x / (1 + (a - 1) x) through the local means of luma, y (1 - y) / (x (1 - x)). Luma is averaged with neighbours
    whose smoothed luma differs by less than twice the deviation that came to it, by Tukey's biweight (as in Durand and Dorsey's
    bilateral filter, SIGGRAPH 2002). Chroma is blurred, the more the larger (g - 1) n, wholly from two levels of 255 on. What
    is no brighter stays as it is.
    """
    # uint8 fused: 6 bytes read and 3 written a pixel. Eager passes over the luma some 150 times.
    weights = enhanced.new_tensor(LUMA)[:, None, None]
    image, bright = (functional.pad(planes, [DENOISE_REACH] * 4, mode="replicate") for planes in (image, enhanced))
    before, luma = ((planes * weights).sum(1, keepdim=True) for planes in (image, bright))
    inner = (slice(None), slice(None), slice(DENOISE_REACH, -DENOISE_REACH), slice(DENOISE_REACH, -DENOISE_REACH))
    edge = DENOISE_REACH - _RADIUS
    means = [functional.avg_pool2d(planes[..., edge:-edge, edge:-edge], 2 * _RADIUS + 1, 1) for planes in (luma, before)]
    slope = means[0] * (1 - means[0]) / (means[1] * (1 - means[1]) + _BLACK)
    change = _smoothed(luma, (2 * 255 * noise) ** 2 * (slope**2 - 1).clamp(min=0))
    chroma = bright - luma
    change = change + (noise / _BLURRED * (slope - 1)).clamp(0, 1) * (_blurred(chroma, _CHROMA, DENOISE_REACH) - chroma[inner])
    # Averages of colours may be more than white: what was not burnt stays so.
    return (enhanced + change).clamp(min=0).minimum(enhanced.clamp(min=_NOT_BURNT))


def _smoothed(luma: Tensor, limit: Tensor) -> Tensor:
    """What averaging changes of ``luma`` (B, 1, H + 8, W + 8), (B, 1, H, W); ``limit``: of squares in levels."""
    guide, (height, width) = 255 * _blurred(luma, _GUIDE, _RADIUS), limit.shape[2:]
    own, own_guide = (
        luma[..., DENOISE_REACH : DENOISE_REACH + height, DENOISE_REACH : DENOISE_REACH + width],
        guide[..., _RADIUS:-_RADIUS, _RADIUS:-_RADIUS],
    )
    # The weights times limit^2, so that nothing is divided by a limit of 0; the constant leaves the pixel as it is then. In
    # levels of 255, so that exporters don't take the constant for 0.
    total, change = limit**2 + 1e-6, torch.zeros_like(own)
    for y, x in itertools.product(range(-_RADIUS, _RADIUS + 1), repeat=2):
        if (y, x) != (0, 0):
            at = slice(_RADIUS + y, _RADIUS + y + height), slice(_RADIUS + x, _RADIUS + x + width)
            weight = (limit - (guide[..., *at] - own_guide) ** 2).clamp(min=0) ** 2 * math.exp(
                -(y * y + x * x) / (2 * _NEAR**2)
            )
            total = total + weight
            change = change + weight * (luma[..., _RADIUS:-_RADIUS, _RADIUS:-_RADIUS][..., *at] - own)
    return change / total


def denoise_picture(picture: Tensor, enhanced: Tensor, noise: float) -> Tensor:
    """``enhanced`` (H, W, 3) without what a curve made of the noise of ``picture`` (H, W, 3): its shape and type."""
    denoised = denoise(fractions(picture), fractions(enhanced), noise)[0].permute(1, 2, 0)
    return (denoised * WHITE[picture.dtype]).round() if picture.dtype in WHITE else denoised


def convolution(sources: list[Tensor], weight: Tensor, bias: Tensor, rectified: bool) -> Tensor:
    """The 3x3 convolution of ``sources`` (B, C_i, H, W) concatenated, zeros around them, and where ``rectified`` a ReLU."""
    # Eager: the concatenation and the ReLU are passes of their own. Fused: 4 bytes read a channel in, 4 written a channel out.
    x = functional.conv2d(torch.cat(sources, 1) if len(sources) > 1 else sources[0], weight, bias, padding=1)
    return functional.relu(x) if rectified else x


def convolution_backward(
    grad: Tensor, sources: list[Tensor], weight: Tensor, output: Tensor | None
) -> tuple[list[Tensor], Tensor, Tensor]:
    """The gradients of sources, weight and bias, given ``grad`` and, where it was rectified, ``output`` (B, O, H, W)."""
    # Fused: 4 bytes read a channel of grad, of output and of each source, 4 written a channel of each source.
    grad = grad if output is None else torch.where(output <= 0, 0.0, grad)
    x = torch.cat(sources, 1) if len(sources) > 1 else sources[0]
    grad_x = grad_of.conv2d_input(x.shape, weight, grad, padding=1)
    grad_weight = grad_of.conv2d_weight(x, weight.shape, grad, padding=1)
    return list(grad_x.split([source.shape[1] for source in sources], 1)), grad_weight, grad.sum((0, 2, 3))


def illumination_smoothness(maps: Tensor, normalization: str = "paper") -> Tensor:
    return formulas.illumination_smoothness(tv_sums(maps), maps.shape, normalization)


def spatial_consistency(enhanced: Tensor, image: Tensor, region: int = 4) -> Tensor:
    return formulas.spatial_consistency(region_means(enhanced, region), region_means(image, region), tv_sums)


def color_constancy(enhanced: Tensor) -> Tensor:
    return formulas.color_constancy(channel_means(enhanced))


def exposure_control(enhanced: Tensor, target: float = 0.6, region: int = 16) -> Tensor:
    return formulas.exposure_control(region_means(enhanced, region), target)


def zero_reference_objective(
    image: Tensor,
    logits: Tensor,
    weights: Weights = Weights(),  # noqa: B008 (immutable)
    target: float = 0.6,
    normalization: str = "paper",
    iterations: int | None = None,
) -> Objective:
    # Eager: some forty passes. Fused: image and logits are read once, 12 + 96, and nothing image-sized is written.
    maps = torch.tanh(logits)
    enhanced = apply_curve(image, maps, iterations)
    return formulas.objective(
        weights,
        illumination=illumination_smoothness(maps, normalization),
        spatial=spatial_consistency(enhanced, image),
        color=color_constancy(enhanced),
        exposure=exposure_control(enhanced, target),
    )
