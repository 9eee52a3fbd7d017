"""Operators and enhancer as part of a GPU's stream of work: other streams, CUDA graphs, compilers, autocast."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import zdce
from cases import random_case
from zdce import reference
from zdce.models.gpu_graphs import GpuGraphs
from zdce.training import step_graph
from zdce.training.step_graph import StepGraph

BACKENDS = ("triton", "cuda")

# A twentieth of a second or more on any GPU: code that does not wait for it ends long before.
DELAY = 100_000_000


@pytest.fixture(params=BACKENDS)
def backend(request, gpu):
    if reason := zdce.ops.dispatch.why_missing(request.param, gpu.type):
        pytest.skip(f"{request.param}: {reason}")
    with zdce.backend(request.param):
        yield request.param


def objective_and_gradient(image, logits):
    leaf = logits.detach().requires_grad_()
    objective = zdce.ops.zero_reference_objective(image, leaf)
    (grad,) = torch.autograd.grad(objective.total, leaf)
    return objective.total.detach(), grad


def test_work_waits_for_its_streams_past(backend, streams):
    image, logits, _ = random_case((40, 56), device=streams)
    expected = zdce.ops.apply_curve(image, logits), *objective_and_gradient(image, logits)
    given, maps = torch.full_like(image, float("nan")), torch.full_like(logits, float("nan"))
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(DELAY)
        given.copy_(image)
        maps.copy_(logits)
        got = zdce.ops.apply_curve(given, maps), *objective_and_gradient(given, maps)
    stream.synchronize()
    assert all(torch.equal(one, other) for one, other in zip(got, expected, strict=True))


def test_nothing_waits_for_the_gpu(backend, streams):
    image, logits, _ = random_case((40, 56), device=streams)
    objective_and_gradient(image, logits)
    torch.cuda.set_sync_debug_mode("error")
    try:
        zdce.ops.apply_curve(image, logits)
        objective_and_gradient(image, logits)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("noise", [1.4, None])
@pytest.mark.parametrize("name", ["base", "adaptive", "local"])
def test_nothing_waits_while_pictures_are_enhanced(backend, streams, name, noise, precision):
    enhancer = zdce.Enhancer(zdce.load(name).to(streams), precision=precision, noise=noise)
    dark = torch.randint(0, 40, (2, 150, 200, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).to(streams)
    for _ in range(3):  # compiles the kernels, and captures graphs for the second of a shape
        expected = enhancer.pictures(dark)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        got = enhancer.pictures(dark)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(got, expected)


def test_a_graph_gives_what_was_captured(backend, streams):
    image, logits, _ = random_case((40, 56), device=streams)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # compiles the kernels and sets the autograd up
        objective_and_gradient(image, logits)
        zdce.ops.apply_curve(image, logits)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = zdce.ops.apply_curve(image, logits), *objective_and_gradient(image, logits)
    for seed in (1, 2):
        other_image, other_logits, _ = random_case((40, 56), device=streams, seed=seed)
        image.copy_(other_image)
        logits.copy_(other_logits)
        graph.replay()
        expected = zdce.ops.apply_curve(other_image, other_logits), *objective_and_gradient(other_image, other_logits)
        assert all(torch.equal(one, other) for one, other in zip(captured, expected, strict=True))


def test_compiled_functions_give_the_same(backend, gpu):
    image, logits, _ = random_case((40, 56), device=gpu)

    def total(image, logits):
        return zdce.ops.zero_reference_objective(image, torch.tanh(logits)).total

    compiled = torch.compile(total, fullgraph=True)
    results = []
    for function in (total, compiled):
        leaf = logits.detach().requires_grad_()
        value = function(image, leaf)
        results.append((value.detach(), torch.autograd.grad(value, leaf)[0]))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_logits_go_in_as_they_are(backend, gpu, dtype):
    image, logits, _ = random_case((40, 56), device=gpu)
    weight = torch.randn(24, 24, 1, 1, device=gpu) / 24
    with torch.autocast(gpu.type, dtype):
        mixed = torch.nn.functional.conv2d(logits, weight)
        assert mixed.dtype == dtype
        objective = zdce.ops.zero_reference_objective(image, mixed)
    truth = reference.zero_reference_objective(image.double().cpu(), mixed.double().cpu())
    for got, expected in zip(objective, truth, strict=True):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got.double().cpu(), expected, rtol=1e-4, atol=1e-7)


def test_the_enhancer_works_on_any_stream(streams):
    enhancer = zdce.Enhancer(zdce.load("base").to(streams))
    pixels = np.random.default_rng(0).integers(0, 90, (64, 80, 3), np.uint8)
    expected = enhancer(pixels)
    for _ in range(3):  # eager, captured, replayed
        with torch.cuda.stream(torch.cuda.Stream()):
            torch.cuda._sleep(DELAY)
            np.testing.assert_array_equal(enhancer(pixels), expected)


def dark(size, seed=0):
    return np.random.default_rng(seed).integers(0, 90, (*size, 3), np.uint8)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["base", "adaptive", "local"])
def test_pictures_of_several_threads_are_each_their_own(streams, name, precision):
    enhancer = zdce.Enhancer(zdce.load(name).to(streams), precision=precision)
    pictures = [dark((64 + 8 * (seed % 5), 80), seed) for seed in range(40)]  # more shapes than there are graphs
    expected = [enhancer(pixels) for pixels in pictures]
    with ThreadPoolExecutor(4) as threads:
        for got, one in zip(threads.map(enhancer, pictures), expected, strict=True):
            # A captured graph may use other algorithms, so that some values fall to the other side of a level.
            assert np.abs(got.astype(int) - one).mean() < 0.1


def test_several_threads_capture_at_once(streams):
    def enhanced(number):
        graphs, found = GpuGraphs(), []
        with torch.cuda.stream(torch.cuda.Stream()):
            given = torch.full((64, 64), float(number), device=streams)
            for key in range(10):
                for _ in range(3):  # kernels, capture, replay
                    with graphs.result(key, torch.matmul, given, given + key) as result:
                        found.append((result - 64 * number * (number + key)).abs().max())
            return torch.stack(found).max().item()

    def trained(number):
        found, given = [], torch.full((64, 64), float(number), device=streams)
        for _ in range(4):  # torch has 32 streams
            graph = StepGraph(streams)
            for _ in range(step_graph.WARM_UP + 2):  # kernels, capture, replay
                found.append((graph.run(lambda batch: batch @ batch, given) - 64 * number**2).abs().max())
        return torch.stack(found).max().item()

    with ThreadPoolExecutor(6) as threads:
        running = [threads.submit(work, number) for number in (1, 2, 3) for work in (enhanced, trained)]
        assert [one.result() for one in running] == [0.0] * 6


def test_arrays_do_not_wait_for_work_of_others(streams):
    enhancer = zdce.Enhancer(zdce.load("base").to(streams))
    for _ in range(3):  # eager, captured, replayed
        expected = enhancer(dark((64, 80)))
    torch.cuda.synchronize()
    done = torch.cuda.Event()
    torch.cuda._sleep(30 * DELAY)  # tests of other processes may share the GPU
    done.record()
    got = enhancer(dark((64, 80)))
    assert not done.query()
    np.testing.assert_array_equal(got, expected)


def test_arrays_are_copied_through_page_locked_memory(streams):
    enhancer, pixels = zdce.Enhancer(zdce.load("base").to(streams)), dark((64, 80))
    enhancer(pixels)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        enhancer(pixels)
    copies = [event.name for event in profile.events() if "HtoD" in event.name or "DtoH" in event.name]
    if not copies:
        pytest.skip("torch's profiler records no copies here")
    assert not [name for name in copies if "Pageable" in name]


@pytest.mark.parametrize("tool", ["memcheck", "racecheck"])
@pytest.mark.parametrize("program", BACKENDS)
def test_the_sanitizer_finds_nothing(compute_sanitizer, program, tool):
    run = [sys.executable, "-P", str(Path(__file__).parent / "sanitized.py"), program]
    command = [compute_sanitizer, "--tool", tool, "--error-exitcode", "9", *run]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=150)
    if "Device not supported" in done.stdout + done.stderr:
        pytest.skip("compute-sanitizer does not support this device")
    assert done.returncode == 0, done.stdout + done.stderr
