"""Networks on a GPU, for enhancing: weights are cast once, pictures are whole, and repeated shapes use a CUDA graph."""

import copy
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from zdce.models import fused_network
from zdce.models.network import DCENet
from zdce.runtime import float32

# Types of the convolutions, by the name of the precision; ``tf32`` is float32 with factors of products rounded to 10 bits.
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# A graph keeps its feature maps' memory. It saves time of the host, which for larger pictures is hidden behind the GPU's.
_MOST_GRAPHS = 4
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
        self._model = copy.deepcopy(model).eval().requires_grad_(False)
        self._model.to(dtype=self.dtype, memory_format=self._layout)  # type: ignore[call-overload]
        self._graphs: OrderedDict[torch.Size, _Graph] = OrderedDict()
        self._once: set[torch.Size] = set()
        self._turn = threading.Lock()

    @contextmanager
    def logits(self, images: Tensor) -> Iterator[Tensor]:
        """The logits (B, C, h, w) of ``images`` (B, 3, h, w) in [0, 1]; work that reads them must be started inside the
        ``with``.

        The second call for a shape captures a graph, and later ones replay it.
        """
        with self._turn, torch.cuda.device(images.device) if images.is_cuda else nullcontext():
            graph = self._graph(images)
            if graph is None:
                yield self._computed(self._prepared(images))
                return
            try:
                yield graph.logits_of(images)
            finally:
                graph.release()

    def most_pixels(self) -> int:
        """Most pixels of a picture that is computed as a whole."""
        layers = self._model.variant.convolutions()
        channels = 3 + sum(outputs for _, outputs in layers) + 2 * max(inputs for inputs, _ in layers)
        device = next(self._model.parameters()).device
        memory = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 2**33
        return max(2**18, math.floor(_MEMORY_SHARE * memory / channels / self.dtype.itemsize))

    def _graph(self, images: Tensor) -> "_Graph | None":
        shape = images.shape
        if not images.is_cuda or shape[0] * shape[2] * shape[3] > _MOST_GRAPH_PIXELS:
            return None
        if shape in self._graphs:
            self._graphs.move_to_end(shape)
        elif shape in self._once:
            while len(self._graphs) >= _MOST_GRAPHS:
                self._graphs.popitem(last=False)
            self._graphs[shape] = _Graph(self._computed, self._prepared(images))
        else:
            self._once.add(shape)
        return self._graphs.get(shape)

    def _prepared(self, images: Tensor) -> Tensor:
        return images.to(self.dtype, memory_format=self._layout)

    def _computed(self, prepared: Tensor) -> Tensor:
        with float32.convolutions(self._convolutions):
            return self._model(prepared)


class _Graph:
    """A CUDA graph for one shape; its input and logits are always at the same address."""

    def __init__(self, compute: Callable[[Tensor], Tensor], images: Tensor) -> None:
        self._images = images.clone(memory_format=torch.preserve_format)
        current, beside = torch.cuda.current_stream(), torch.cuda.Stream()
        beside.wait_stream(current)
        with torch.cuda.stream(beside):
            compute(self._images)  # Libraries choose and allocate in the first call, which a capture forbids.
        current.wait_stream(beside)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads may continue with work that a capture forbids in this one.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._logits = compute(self._images)
        self._free = torch.cuda.Event()
        self._free.record()

    def logits_of(self, images: Tensor) -> Tensor:
        """The logits of ``images``, whose shape is the graph's, in its memory, which is reserved until ``release``."""
        current = torch.cuda.current_stream()
        current.wait_event(self._free)
        # A graph that gives way to another may still run on this stream when its input is freed on the one that made it.
        self._images.record_stream(current)
        self._images.copy_(images)
        self._graph.replay()
        return self._logits

    def release(self) -> None:
        """Work submitted to the current stream so far may still read the logits; later work may not."""
        self._free.record()
