"""CUDA graphs: work on a GPU that is captured once and then started by one call of the host."""

import threading
from collections.abc import Callable

import torch
from torch import Tensor

# A capture begins by waiting for the whole GPU, which is an error while another thread captures.
_CAPTURE = threading.Lock()


class CudaGraph:
    """Work on a GPU that is captured once and then started as a whole.

    Threads capture in turn. The captured function is not kept. What it allocates in the capture, its result included, stays at
    the same addresses, in memory that only this graph uses and that is freed with it.

    Args:
        device: the GPU.
        stream: that of the work before the capture, and of the capture. cuBLAS keeps a workspace for each stream, of 32 MB on
            some GPUs; graphs of the same stream share it, and must not run at once. None: a new stream.
    """

    def __init__(self, device: torch.device, stream: torch.cuda.Stream | None = None) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if stream is None else stream
        self._graph = torch.cuda.CUDAGraph()

    def warm_up(self, compute: Callable[[], Tensor]) -> Tensor:
        """The result of ``compute``, which runs now, between the earlier and the later work of the current stream.

        A function must have run so at least once before its capture: in the first call libraries choose kernels and allocate,
        which a capture forbids, and gradients and their accumulation belong to the stream in which they were first computed.
        """
        with torch.cuda.device(self._device):
            current = torch.cuda.current_stream()
            self._stream.wait_stream(current)
            with torch.cuda.stream(self._stream):
                result = compute()
            current.wait_stream(self._stream)
        return result

    def capture(self, compute: Callable[[], Tensor]) -> Tensor:
        """Where ``replay`` will leave the result of ``compute``, of which nothing runs now."""
        # Other threads may continue with work that a capture forbids in this one, such as allocating page-locked memory.
        with (
            _CAPTURE,
            torch.cuda.device(self._device),
            torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode="thread_local"),
        ):
            return compute()

    def replay(self) -> None:
        """Starts the captured work in the current stream of the device."""
        self._graph.replay()
