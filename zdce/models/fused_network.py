"""A whole network and its curve in one CUDA kernel, on tensor cores: ``csrc/cuda/network.cuh``."""

from collections.abc import Sequence

import torch
from torch import Tensor

from zdce import backends
from zdce.models.altered import why_altered
from zdce.models.engine import network_plan
from zdce.models.network import DCENet
from zdce.models.present_weights import present_weights
from zdce.models.variants import CURVE, Variant
from zdce.ops import dispatch
from zdce.ops.operator import define_cuda_kernel

define_cuda_kernel(
    "run_network(Tensor pictures, Tensor weights, Tensor biases, Tensor plan, float strength, Tensor? strengths,"
    " bool to_maps, Tensor(a!) results) -> ()"
)
define_cuda_kernel("fits_network(Tensor like, Tensor plan) -> bool")

# Types of feature maps and weights that tensor cores multiply.
DTYPES = (torch.bfloat16, torch.float16)

# Inputs and outputs of one matrix product.
_INPUTS, _OUTPUTS = 16, 8

# Of a layer.
_MOST_OUTPUTS = 32

# Zeros behind the last layer's weights, because the kernel loads the weights of three taps ahead.
_WEIGHTS_AHEAD = 3 * _MOST_OUTPUTS * _INPUTS


def fused(model: DCENet, dtype: torch.dtype) -> "FusedNetwork | None":
    """``model`` for the kernel, with its present weights; None if the kernel can't run it, or another backend is requested."""
    device = next(model.parameters()).device
    if backends.requested() not in ("auto", "cuda") or dtype not in DTYPES or not takes(model.variant):
        return None
    if dispatch.why_missing("cuda", str(device), operator="apply_curve") is not None or why_altered(model) is not None:
        return None
    network = FusedNetwork(model, dtype)
    return network if torch.ops.zdce_cuda.fits_network(network.biases, network.plan) else None


def takes(variant: Variant) -> bool:
    """Whether the kernel has code for networks of ``variant``; the GPU decides whether their memory suffices."""
    first, *others = variant.sources
    return (
        variant.formula == CURVE
        and 2 <= len(variant.sources) <= 8
        and variant.filters in (16, 32)
        and variant.maps <= _MOST_OUTPUTS
        and first == (0,)
        and all(0 not in sources and len(sources) <= 2 for sources in others)
    )


class FusedNetwork:
    """A network with its weights in the order in which the kernel reads them.

    Args:
        model: a network of 16 or 32 filters, of which only the first convolution reads the image.
        dtype: type of feature maps and weights, one of ``DTYPES``; sums, depthwise filters and the curve are float32.
    """

    def __init__(self, model: DCENet, dtype: torch.dtype) -> None:
        parameters = [weight.float() for weight in present_weights(model, model.variant).values()]
        packed, floats = _separable(parameters) if model.variant.separable else _whole(parameters)
        packed.append(parameters[0].new_zeros(_WEIGHTS_AHEAD))
        self.weights = torch.cat([weight.flatten() for weight in packed]).to(dtype)
        self.biases = torch.cat([each.flatten() for each in floats])
        self.plan = torch.tensor(network_plan(model.variant, "fp32"))
        self._maps = model.variant.maps

    def enhanced(self, pictures: Tensor, strength: float | Tensor) -> Tensor:
        """``pictures`` (B, H, W, 3), uint8, uint16 or float32 in [0, 1], with their own curve of that strength, a number or
        float32 (B,) on their device: contiguous.
        """
        results = torch.empty_like(pictures, memory_format=torch.contiguous_format)
        number, strengths = (1.0, strength) if isinstance(strength, Tensor) else (strength, None)
        run_network(pictures, self.weights, self.biases, self.plan, number, strengths, False, results)
        return results

    def maps(self, images: Tensor) -> Tensor:
        """Curve maps (B, C, H, W) of ``images`` (B, 3, H, W) in [0, 1]; both are float32."""
        maps = images.new_empty(len(images), self._maps, *images.shape[2:])
        pixels = (tensor.permute(0, 2, 3, 1) for tensor in (images, maps))
        run_network(next(pixels), self.weights, self.biases, self.plan, 1.0, None, True, next(pixels))
        return maps


def run_network(
    pictures: Tensor,
    weights: Tensor,
    biases: Tensor,
    plan: Tensor,
    strength: float,
    strengths: Tensor | None,
    to_maps: bool,
    results: Tensor,
) -> None:
    """The kernel: pictures (B, H, W, 3) to results, the same or maps (B, H, W, C), which it writes. Maps are multiplied with
    ``strength``, and with that of each picture if there are ``strengths`` (B,).
    """
    torch.ops.zdce_cuda.run_network(pictures, weights, biases, plan, strength, strengths, to_maps, results)


def _padded(outputs: Tensor) -> Tensor:
    """(O, ...) with zeros for the outputs that a whole number of products has more."""
    return torch.cat([outputs, outputs.new_zeros(-len(outputs) % _OUTPUTS, *outputs.shape[1:])])


def _whole(parameters: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Weights and biases of 3x3 convolutions, as the kernel takes them."""
    weights, biases = parameters[::2], parameters[1::2]
    return [_packed_first(weights[0]), *map(_packed, weights[1:])], [_padded(bias) for bias in biases]


def _separable(parameters: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """The same of separable ones: weights of 1x1 filters; of each layer their biases, then the depthwise filters."""
    weights, floats = [], []
    layers = zip(*(parameters[i::4] for i in range(4)), strict=True)
    for number, (filters, filters_bias, weight, bias) in enumerate(layers):
        white = 255 if number == 0 else 1  # the image comes in 255ths
        weights.append(_packed(_in_blocks(weight.transpose(0, 1)).transpose(0, 1)))
        floats += [_padded(bias), _packed_filters(_in_blocks(filters / white), _in_blocks(filters_bias))]
    return weights, floats


def _in_blocks(inputs: Tensor) -> Tensor:
    """(I, ...) with zeros for the inputs that a whole number of blocks has more."""
    return torch.cat([inputs, inputs.new_zeros(-len(inputs) % _INPUTS, *inputs.shape[1:])])


# A lane 4 g + t of a warp has, for output g of eight, the inputs 2 t, 2 t + 1, 2 t + 8 and 2 t + 9 of sixteen.


def _packed(weight: Tensor) -> Tensor:
    """(O, I, rows, columns) as (blocks of 16 inputs and columns of taps, rows of taps and products ``_paired``)."""
    outputs, taps = _padded(weight), weight.shape[2:]
    split = outputs.view(-1, _OUTPUTS, weight.shape[1] // _INPUTS, 2, 4, 2, *taps)  # product, g, block, half, t, 2, row, column
    # A block's column of taps after the other, then what the kernel loads at once.
    return _paired(split.permute(2, 7, 6, 0, 1, 4, 3, 5).flatten(4).flatten(2, 3).flatten(0, 1))


def _packed_filters(filters: Tensor, bias: Tensor) -> Tensor:
    """(I, 1, 3, 3) and (I,) as (blocks of 16 channels, bias and 9 taps by columns, t, 4)."""
    values = torch.cat([bias[:, None], filters.transpose(2, 3).flatten(1)], 1)
    split = values.view(-1, 2, 4, 2, 10)  # block, half, t, 2, value
    return split.permute(0, 4, 2, 1, 3)


def _packed_first(weight: Tensor) -> Tensor:
    """(O, 3, 3, 3) as (1, rows of taps and products ``_paired``): sixteen inputs are four pixels of a row with four values
    each, of which the last are 0; the image comes in 255ths.
    """
    values = weight.new_zeros(len(weight), 3, 4, 4)  # output, row, pixel, colour
    values[:, :, :3, :3] = weight.permute(0, 2, 3, 1) / 255
    split = _padded(values).view(-1, _OUTPUTS, 3, 2, 4, 2)  # product, g, row, half, t, 2
    return _paired(split.permute(2, 0, 1, 4, 3, 5).flatten(2).flatten(0, 1)[None])


def _paired(products: Tensor) -> Tensor:
    """(groups, products, lanes * 4) with two neighbouring products of a lane side by side, so that it loads 16 bytes; the last
    of an odd number stays as it is.
    """
    split = products.unflatten(2, (-1, 4))
    even = products.shape[1] // 2 * 2
    pairs = split[:, :even].unflatten(1, (-1, 2)).transpose(2, 3)
    return torch.cat([pairs.flatten(1), split[:, even:].flatten(1)], 1)
