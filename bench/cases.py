"""Measured operations: each public one with random inputs, and the memory traffic that no implementation can avoid."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zdce.ops import Objective

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}

# Brightness of the channels: with equal channels, colour constancy would be the fourth power of rounding errors.
_TINT = (1.0, 0.8, 0.6)


@dataclass(frozen=True)
class Setting:
    """Shape, type and device of the inputs."""

    batch: int = 8
    height: int = 256
    width: int = 256
    iterations: int = 8
    dtype: str = "float32"
    layout: str = "contiguous"
    device: str = "cpu"

    @property
    def pixels(self) -> int:
        return self.batch * self.height * self.width

    @property
    def shape(self) -> str:
        layout = "" if self.layout == "contiguous" else f" {self.layout}"
        return f"{self.batch}x3x{self.height}x{self.width} T={self.iterations}{layout}"

    def tensor(self, name: str, seed: int) -> Tensor:
        """Shape of an input: ``image``, ``enhanced`` and ``grad`` have 3 channels, ``maps`` and ``logits`` 3 for each
        iteration.
        """
        generator = torch.Generator().manual_seed(seed)
        size = (self.batch, self.channels(name), self.height, self.width)
        draw = torch.rand if name in ("image", "enhanced") else torch.randn
        values = draw(size, generator=generator)
        if name in ("image", "enhanced"):
            values *= torch.tensor(_TINT)[:, None, None]
        if name == "maps":
            values = values.tanh()
        return values.to(self.device, DTYPES[self.dtype], memory_format=LAYOUTS[self.layout])

    def channels(self, name: str) -> int:
        return 3 * self.iterations if name in ("maps", "logits") else 3


@dataclass(frozen=True)
class Case:
    """An operation and the least that forward and backward must read and write; sums and small grids do not count.

    Attributes:
        name: name of the function in ``zdce.ops`` and ``zdce.reference``.
        inputs: its arguments, in order.
        wanted: arguments that get a gradient.
        kept: arguments that backward must read again.
        writes_image: whether the result is an image, and backward starts from the gradient of an image, not of a scalar.
    """

    name: str
    inputs: tuple[str, ...]
    wanted: tuple[str, ...]
    kept: tuple[str, ...]
    writes_image: bool = False

    def traffic(self, setting: Setting, mode: str) -> tuple[int, int]:
        """Least number of bytes read and written in ``mode``: forward, backward or both."""
        image = 3 if self.writes_image else 0
        forward = sum(map(setting.channels, self.inputs)), image
        backward = sum(map(setting.channels, self.kept)) + image, sum(map(setting.channels, self.wanted))
        both = forward[0] + backward[0], forward[1] + backward[1]
        read, written = {"forward": forward, "backward": backward, "both": both}[mode]
        bytes_a_channel = setting.pixels * DTYPES[setting.dtype].itemsize
        return read * bytes_a_channel, written * bytes_a_channel

    def tensors(self, setting: Setting) -> list[Tensor]:
        named = [(name, setting.tensor(name, seed)) for seed, name in enumerate(self.inputs)]
        return [tensor.requires_grad_(name in self.wanted) for name, tensor in named]

    def gradient(self, setting: Setting) -> Tensor | None:
        """Gradient that backward starts from; None for a scalar."""
        return setting.tensor("grad", seed=9) if self.writes_image else None


def value(function: Callable[..., Any], tensors: list[Tensor]) -> Tensor:
    """Result of forward; for the objective, its total."""
    result = function(*tensors)
    return result.total if isinstance(result, Objective) else result


def gradients(result: Tensor, tensors: list[Tensor], start: Tensor | None) -> tuple[Tensor, ...]:
    """Runs backward to the tensors that require a gradient."""
    return torch.autograd.grad(result, [tensor for tensor in tensors if tensor.requires_grad], start)


# The curve is measured with both gradients, its complete backward. The others have the gradients that training needs.
CASES = {
    case.name: case
    for case in (
        Case("apply_curve", ("image", "maps"), ("image", "maps"), ("image", "maps"), writes_image=True),
        Case("illumination_smoothness", ("maps",), ("maps",), ("maps",)),
        Case("spatial_consistency", ("enhanced", "image"), ("enhanced",), ()),
        Case("color_constancy", ("enhanced",), ("enhanced",), ()),
        Case("exposure_control", ("enhanced",), ("enhanced",), ()),
        Case("zero_reference_objective", ("image", "logits"), ("logits",), ("image", "logits")),
    )
}
MODES = ("forward", "backward", "both")
