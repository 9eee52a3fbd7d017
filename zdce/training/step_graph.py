"""Training steps on a GPU as one CUDA graph: the host starts all kernels of a step by one call."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from zdce.runtime.cuda_graph import CudaGraph

# Steps before the capture. In them libraries choose and allocate, Adam and the gradient scaler make their state, and the moving
# average becomes different from the weights; the second one shows what the first left behind.
WARM_UP = 2

# Set to 0, steps run kernel by kernel.
VARIABLE = "ZDCE_STEP_GRAPH"


class StepGraph:
    """A training step as one CUDA graph, for batches of one shape.

    The first ``WARM_UP`` steps run kernel by kernel, as do all whose batch has another shape than that of the capture.

    It does not keep the step's owner, so that owner and graph are freed together, with the graph's memory.

    Args:
        device: the GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._graph = CudaGraph(device)
        self._warm = 0
        self._batch: Tensor | None = None
        self._losses: Tensor | None = None

    def run(self, step: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
        """One step, and its losses, which the next step may overwrite.

        Args:
            step: function of a batch on the device that makes an update and returns its losses, the same in each call. What
                changes from step to step it must read from tensors that stay where they are: numbers of Python are those of the
                capture forever.
            batch: in page-locked memory or on the device.
        """
        if self._warm < WARM_UP or (self._batch is not None and self._batch.shape != batch.shape):
            self._warm += 1
            # In the current stream: page-locked memory is given back after an event in each stream that read it, and during a
            # capture in the graph's stream such an event would belong to the graph.
            return self._graph.warm_up(partial(step, batch.to(self._device, non_blocking=True)))
        if self._batch is None:
            self._batch = torch.empty_like(batch, device=self._device)
            self._losses = self._captured(partial(step, self._batch))
        assert self._losses is not None
        self._batch.copy_(batch, non_blocking=True)
        self._graph.replay()
        return self._losses

    def _captured(self, compute: Callable[[], Tensor]) -> Tensor:
        try:
            return self._graph.capture(compute)
        except Exception as error:
            error.add_note(f"It came while a training step was captured as a CUDA graph; {VARIABLE}=0 trains without.")
            raise
