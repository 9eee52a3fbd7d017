"""Inputs that the operators' tests share: random values, awkward memory layouts, poisoned outputs."""

import atexit
import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from zdce import reference
from zdce.ops import dispatch


@contextmanager
def nan_filled_allocations() -> Iterator[None]:
    """Fresh tensors hold NaN, so that an output that was not written shows."""
    before = torch.utils.deterministic.fill_uninitialized_memory, torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    try:
        yield
    finally:
        torch.utils.deterministic.fill_uninitialized_memory = before[0]
        torch.use_deterministic_algorithms(before[1])


def random_case(size, iterations=8, *, shared=False, batch=2, dtype=torch.float32, device="cpu", seed=0):
    """An image (B, 3, H, W) in [0, 1], maps (B, 3T or 3, H, W) in [-1, 1], and a gradient of the result."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(batch, 3, *size, generator=generator)
    maps = torch.rand(batch, 3 if shared else 3 * iterations, *size, generator=generator) * 2 - 1
    grad = torch.randn(batch, 3, *size, generator=generator)
    return tuple(tensor.to(device, dtype) for tensor in (image, maps, grad))


def two_pictures(seed=0, size=(20, 30)):
    """Two different pictures (H, W, 3) of random levels."""
    random = np.random.default_rng(seed)
    return [random.integers(0, 255, (*size, 3), np.uint8) for _ in range(2)]


def layouts(tensor):
    """The same values contiguous, channels_last, transposed in memory, as a crop and as channels of a wider tensor."""
    b, c, h, w = tensor.shape
    crop = tensor.new_zeros(b, c, h + 3, w + 5)
    crop[:, :, 1 : h + 1, 2 : w + 2] = tensor
    wider = tensor.new_zeros(b, c + 2, h, w).contiguous(memory_format=torch.channels_last)
    wider[:, 1 : c + 1] = tensor
    return {
        "contiguous": tensor.contiguous(),
        "channels_last": tensor.contiguous(memory_format=torch.channels_last),
        "transposed": tensor.transpose(2, 3).contiguous().transpose(2, 3),
        "crop": crop[:, :, 1 : h + 1, 2 : w + 2],
        "channels": wider[:, 1 : c + 1],
    }


# Tells its instruction set, then runs programs, a line of JSON each, and answers each with what went wrong.
_RUNNER = """
import contextlib, json, sys, traceback
import torch  # through which the extension finds its libraries
import zdce._C
print(zdce._C.isa(), flush=True)
for line in sys.stdin:
    problem = ""
    torch.manual_seed(0)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            exec(json.loads(line), {})
    except BaseException:
        problem = traceback.format_exc()
    print(json.dumps(problem), flush=True)
"""


@functools.cache
def _process_with_isa(isa: str) -> "subprocess.Popen[str]":
    """A process held to an instruction set, which serves all of a session's tests of it."""
    environment = {
        **os.environ,
        "ZDCE_ISA": isa,
        "PYTHONPATH": os.pathsep.join(str(Path(__file__).parent / folder) for folder in (".", "bench", "models", "ops")),
    }
    with tempfile.TemporaryFile("w+") as errors:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors}
        process = subprocess.Popen([sys.executable, "-c", _RUNNER], env=environment, text=True, **pipes)
        atexit.register(process.kill)
        if process.stdout.readline().strip() == isa:
            return process
        process.communicate()
        errors.seek(0)
        told = errors.read()
    if "is not supported by this processor" in told:
        pytest.skip(f"this processor has no {isa}")
    pytest.fail(f"no process with {isa}: {told}")


def run_with_isa(isa: str, program: str) -> None:
    """Runs ``program``, which may import the tests, in a process held to an instruction set, and fails where it does."""
    if reason := dispatch.why_missing("cpp"):
        pytest.skip(reason)
    process = _process_with_isa(isa)
    process.stdin.write(json.dumps(program) + "\n")
    process.stdin.flush()
    answer = process.stdout.readline()
    assert answer, f"the process ended with exit code {process.wait()}"
    assert answer == '""\n', json.loads(answer)


def skip_without_float64(backend, device):
    if reason := dispatch.why_missing(backend, device, torch.float64):
        pytest.skip(f"{backend}: {reason}")


def check_operator(operator, inputs, others=(), *, tolerance, wanted=None):
    """An operator's values and gradients against the float64 reference of the same name, every output poisoned before it
    is written. ``tolerance`` relates to the largest value of each; ``wanted`` tells which inputs get a gradient (all)."""
    wanted = [True] * len(inputs) if wanted is None else wanted

    def run(function, tensors):
        leaves = [tensor.detach().requires_grad_(want) for tensor, want in zip(tensors, wanted, strict=True)]
        outputs = function(*leaves, *others)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        generator = torch.Generator().manual_seed(1)
        grads = [torch.randn(output.shape, generator=generator).to(output) for output in outputs]
        pairs = [pair for pair in zip(outputs, grads, strict=True) if pair[0].requires_grad]
        targets = [leaf for leaf in leaves if leaf.requires_grad]
        return outputs, torch.autograd.grad([o for o, _ in pairs], targets, [g for _, g in pairs])

    with nan_filled_allocations():
        outputs, grads = run(getattr(torch.ops.zdce, operator), inputs)
    expected, expected_grads = run(getattr(reference, operator), [tensor.double().cpu() for tensor in inputs])
    wide = any(tensor.dtype == torch.float64 for tensor in inputs)
    for output, truth in zip(outputs, expected, strict=True):
        assert output.dtype == (torch.float64 if wide else torch.float32)
        assert_near(output, truth, tolerance)
    leaves = [tensor for tensor, want in zip(inputs, wanted, strict=True) if want]
    for grad, truth, leaf in zip(grads, expected_grads, leaves, strict=True):
        assert grad.dtype == leaf.dtype
        stored = torch.finfo(leaf.dtype).eps if leaf.dtype != outputs[0].dtype else 0.0
        assert_near(grad, truth, tolerance + stored)


def opcheck(operator, arguments, backend, device):
    """``torch.library.opcheck`` of an operator on a backend. How torch traces it into a graph, by far the most work, is
    registered for all backends alike, and examined with the one that ``auto`` takes."""
    utilities = ["test_schema", "test_autograd_registration", "test_faketensor"]
    if backend == dispatch.choose("auto", str(device), torch.float32):
        utilities.append("test_aot_dispatch_dynamic")
    torch.library.opcheck(operator, arguments, test_utils=utilities)


def assert_near(value, truth, tolerance):
    """Within ``tolerance`` of the largest true value, or a step of the smallest numbers of its type, everywhere."""
    scale = truth.abs().max().item() if truth.numel() else 1.0
    step = torch.finfo(value.dtype).smallest_normal * torch.finfo(value.dtype).eps
    torch.testing.assert_close(value.detach().double().cpu(), truth.detach(), rtol=0, atol=tolerance * scale + step)


def is_interpreted(backend):
    return backend == "triton" and os.environ.get("TRITON_INTERPRET") == "1"


def skip_where_interpreted(backend, size, limit=40):
    """Triton's interpreter takes 30 microseconds an operation and a row: small images only."""
    if is_interpreted(backend) and max(size) > limit:
        pytest.skip("too slow in Triton's interpreter")


# What a drawn tensor (B, C, H, W) of random values becomes.
VALUES = {
    "random": lambda t: t,
    "black": torch.zeros_like,
    "white": torch.ones_like,
    "constant": lambda t: torch.full_like(t, 0.3),
    "grey": lambda t: t[:, :1].expand_as(t).contiguous(),
    "tiny": lambda t: 1e-6 * t,
    "ends": torch.sign,
}
IMAGES = ("random", "black", "white", "constant", "grey", "tiny")
DRAWN_LAYOUTS = ("contiguous", "channels_last", "transposed", "crop")
DRAWN_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def draw(backend, check, **drawn):
    """Calls ``check`` with what hypothesis draws, and with the sides that ``drawn`` gives as (least, most).

    Where kernels are interpreted or emulated six small cases as they come, elsewhere 40, the same in every run.
    """
    slow = is_interpreted(backend) or backend == "cuda_on_host"
    strategies = {
        name: st.integers(what[0], min(what[1], what[0] + 7) if slow else what[1]) if isinstance(what, tuple) else what
        for name, what in drawn.items()
    }
    phases = [Phase.generate] if slow else list(Phase)
    setting = settings(max_examples=6 if slow else 40, phases=phases, deadline=None, derandomize=True, database=None)
    setting(given(**strategies)(check))()
