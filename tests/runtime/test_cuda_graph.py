"""Captures of CUDA graphs, with recordings in place of CUDA's; on a GPU tests/gpu/test_streams.py has them."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from zdce.models.gpu_graphs import GpuGraphs
from zdce.runtime.cuda_graph import CudaGraph
from zdce.training import step_graph
from zdce.training.step_graph import StepGraph


def train(compute):
    graph = StepGraph(torch.device("cpu"))
    for number in range(step_graph.WARM_UP + 1):
        assert torch.equal(graph.run(compute, torch.full((2,), float(number))), torch.full((2,), 2.0 * number))


def enhance(compute):
    graphs = GpuGraphs()
    for number in range(2):
        with graphs.result("key", compute, torch.full((2,), float(number))) as result:
            assert torch.equal(result, torch.full((2,), 2.0 * number))


@pytest.mark.parametrize(("first", "second"), [(train, enhance), (enhance, train), (train, train), (enhance, enhance)])
def test_one_thread_captures_at_a_time(cuda, first, second):
    warm_ups = {train: step_graph.WARM_UP, enhance: 1}
    begun = []

    def double(values):
        if cuda.log[-1:] == ["capture"] and not begun:
            begun.append(threads.submit(second, lambda values: 2 * values))
            ends = time.monotonic() + 60
            while cuda.log.count("beside") < warm_ups[first] + warm_ups[second] and time.monotonic() < ends:
                time.sleep(0.001)
            time.sleep(0.1)  # the other thread captures now, if it may
            assert cuda.log[-1] == "beside"
        return 2 * values

    with ThreadPoolExecutor(1) as threads:
        first(double)
        begun[0].result()
    assert cuda.log.count("capture") == 2


def test_a_capture_that_fails_lets_others_capture(cuda):
    with pytest.raises(ZeroDivisionError):
        CudaGraph(torch.device("cpu")).capture(lambda: 1 // 0)
    graph = CudaGraph(torch.device("cpu"))
    result = graph.capture(lambda: torch.ones(1))
    graph.replay()
    assert result == 1
