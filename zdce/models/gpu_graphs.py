"""CUDA graphs of computations that are repeated: the host submits one instead of many kernels."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property, partial

import torch
from torch import Tensor

from zdce.runtime.cuda_graph import CudaGraph

# Function from tensors to a tensor, on one device and with no work of the host that depends on their values.
Computation = Callable[..., Tensor]


class GpuGraphs:
    """Graphs of the computations that were used last. Threads and streams take turns.

    Args:
        most: number of graphs; each keeps the memory of its intermediate results.
    """

    def __init__(self, most: int = 4) -> None:
        self._most = most
        self._graphs: OrderedDict[Hashable, _Graph] = OrderedDict()
        self._once: set[Hashable] = set()
        self._turn = threading.Lock()
        self._shared = _SharedStream()

    @contextmanager
    def result(
        self, key: Hashable | None, compute: Computation, *inputs: Tensor, prepare: Computation = Tensor.contiguous
    ) -> Iterator[Tensor]:
        """The result of ``compute`` with the prepared ``inputs``; work that reads it must be started inside the ``with``.

        The second call for a key captures a graph, and later ones replay it.

        Args:
            key: of what the kernels and their arguments depend on, beside the values of ``inputs``: equal keys have inputs of
                equal shapes. None: the computation has no graph, as on CPUs.
            prepare: gives an input the type and layout that ``compute`` takes.
        """
        with self._turn, torch.cuda.device(inputs[0].device) if inputs[0].is_cuda else nullcontext():
            graph = None if key is None else self._graph(key, lambda: _Graph(compute, [*map(prepare, inputs)], self._shared))
            if graph is None:
                yield compute(*map(prepare, inputs))
                return
            try:
                yield graph.result_of(inputs)
            finally:
                graph.release()

    def _graph(self, key: Hashable, capture: "Callable[[], _Graph]") -> "_Graph | None":
        if key in self._graphs:
            self._graphs.move_to_end(key)
        elif key in self._once:
            while len(self._graphs) >= self._most:
                oldest, _ = self._graphs.popitem(last=False)
                self._once.discard(oldest)  # else many alternating keys would be captured at each call
            self._graphs[key] = capture()
        else:
            self._once.add(key)
        return self._graphs.get(key)


class _SharedStream:
    """What graphs that run one after the other share.

    They are captured in one stream, and so share cuBLAS's workspace and must not run at once: the next one waits until the
    event says that the last has run, and its result has been read.
    """

    @cached_property
    def stream(self) -> torch.cuda.Stream:
        return torch.cuda.Stream()

    @cached_property
    def free(self) -> torch.cuda.Event:
        return torch.cuda.Event()


class _Graph:
    """A CUDA graph; its inputs and its result are always at the same addresses."""

    def __init__(self, compute: Computation, inputs: Sequence[Tensor], shared: _SharedStream) -> None:
        self._inputs = [given.clone(memory_format=torch.preserve_format) for given in inputs]
        self._free = shared.free
        torch.cuda.current_stream().wait_event(self._free)
        self._graph = CudaGraph(inputs[0].device, shared.stream)
        work = partial(compute, *self._inputs)
        self._graph.warm_up(work)
        self._result = self._graph.capture(work)
        self._free.record()

    def result_of(self, inputs: Sequence[Tensor]) -> Tensor:
        """The result of ``inputs`` in the graph's memory, which is reserved until ``release``."""
        current = torch.cuda.current_stream()
        current.wait_event(self._free)
        for own, given in zip(self._inputs, inputs, strict=True):
            # A graph that gives way to another may still run on this stream when its input is freed on the one that made it.
            own.record_stream(current)
            own.copy_(given)
        self._graph.replay()
        return self._result

    def release(self) -> None:
        """Work submitted to the current stream so far may still read the result; later work may not."""
        self._free.record()
