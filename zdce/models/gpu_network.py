"""Networks on a GPU, for enhancing: weights are cast once, pictures are whole, and repeated shapes use a CUDA graph."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from zdce.models import fused_network
from zdce.models.altered import with_plain_weights
from zdce.models.gpu_graphs import GpuGraphs
from zdce.models.network import DCENet
from zdce.runtime import float32

# Types of the convolutions, by the name of the precision; ``tf32`` is float32 with factors of products rounded to 10 bits.
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# A graph keeps its feature maps' memory. It saves time of the host, which for larger pictures is hidden behind the GPU's.
_MOST_GRAPH_PIXELS = 2**24

# Largest share of the GPU's memory for feature maps.
_MEMORY_SHARE = 0.25


class GpuNetwork:
    """A network as it runs on a GPU, with the weights that ``model`` has now.

    Threads and streams take turns. Without a GPU it computes the same without graphs.

    Attributes:
        fused: the network as one kernel; None if there is none for its layers, its precision or the GPU.

    Args:
        model: a network on the device on which to run it.
        precision: a name of ``DTYPES``.
    """

    def __init__(self, model: DCENet, precision: str) -> None:
        self.dtype = DTYPES[precision]
        self.fused = fused_network.fused(model, self.dtype)
        self._convolutions = "tf32" if precision == "tf32" else "ieee"
        # Tensor cores read pixels channel by channel; cuDNN's kernels for true float32 do not use them and prefer planes.
        self._layout = torch.contiguous_format if precision == "fp32" else torch.channels_last
        self._model = with_plain_weights(model).eval().requires_grad_(False)
        self._model.to(dtype=self.dtype, memory_format=self._layout)  # type: ignore[call-overload]
        self._graphs = GpuGraphs()

    @contextmanager
    def logits(self, images: Tensor) -> Iterator[Tensor]:
        """The logits (B, C, h, w) of ``images`` (B, 3, h, w) in [0, 1]; work that reads them must be started inside the
        ``with``.

        The second call for a shape captures a graph, and later ones replay it.
        """
        pixels = images.shape[0] * images.shape[2] * images.shape[3]
        key = images.shape if images.is_cuda and pixels <= _MOST_GRAPH_PIXELS else None
        with self._graphs.result(key, self._computed, images, prepare=self._prepared) as logits:
            yield logits

    def most_pixels(self) -> int:
        """Most pixels of a picture that is computed as a whole."""
        layers = self._model.variant.convolutions()
        channels = 3 + sum(outputs for _, outputs in layers) + 2 * max(inputs for inputs, _ in layers)
        device = next(self._model.parameters()).device
        memory = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 2**33
        return max(2**18, math.floor(_MEMORY_SHARE * memory / channels / self.dtype.itemsize))

    def _prepared(self, images: Tensor) -> Tensor:
        return images.to(self.dtype, memory_format=self._layout)

    def _computed(self, prepared: Tensor) -> Tensor:
        with float32.convolutions(self._convolutions):
            return self._model(prepared)
