"""Launches of the Triton kernels: device, grid, and the number of compilations for a folder of sizes."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed")

import triton_launches
from torch._subclasses.fake_tensor import FakeTensorMode

import zdce
from cases import is_interpreted, random_case
from conftest import DEVICE
from zdce.kernels.apply_curve import curve_forward
from zdce.kernels.launch import MOST_PROGRAMS, launch

only_triton = pytest.mark.parametrize("backend", ["triton"], indirect=True)


def compiled_versions(*arguments, cache):
    """Of each kernel how many versions are compiled, in a process in which Triton is not the interpreter."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "gpu")]
    environment |= {"PYTHONPATH": os.pathsep.join(folders), "TRITON_CACHE_DIR": str(cache), "TRITON_DUMP_PTXAS_LOG": "1"}
    command = [sys.executable, "-P", "-m", "triton_launches", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=environment)
    assert done.returncode == 0
    return json.loads(done.stdout.splitlines()[-1])


class OnSecondGpu(torch.Tensor):
    """A tensor in the CPU's memory that reports a second GPU as its device, which the machine need not have."""

    device = torch.device("cuda:1")


def test_a_kernel_starts_on_the_device_of_its_tensors(monkeypatch):
    # Torch's switches between GPUs are recorded and not done.
    devices, found = [0], []

    def exchange(index):
        devices.append(index)
        return devices[-2]

    monkeypatch.setattr(torch.cuda, "_exchange_device", exchange)
    monkeypatch.setattr(torch.cuda, "_maybe_exchange_device", exchange)
    monkeypatch.setattr(type(curve_forward), "run", lambda *_, **__: found.append(devices[-1]))
    launch(curve_forward, (1,), torch.empty(1).as_subclass(OnSecondGpu))
    assert found == [1]
    assert devices[-1] == 0


def test_every_kernel_starts_so(monkeypatch):
    inside, found = [], {}

    @contextmanager
    def on_its_device():
        inside.append(True)
        yield
        inside.pop()

    monkeypatch.setattr(zdce.kernels.launch, "nullcontext", on_its_device)
    monkeypatch.setattr(type(curve_forward), "run", lambda kernel, *_, **__: found.update({kernel.__name__: bool(inside)}))
    triton_launches.start_every_kernel(48, 64)
    assert found == dict.fromkeys(triton_launches.KERNELS, True)


@pytest.mark.parametrize("size", [(70_000, 20), (1_100_000, 17)])
def test_grids_take_any_height(monkeypatch, size):
    grids = []
    monkeypatch.setattr(type(curve_forward), "run", lambda kernel, *_, grid, **__: grids.append(grid))
    with FakeTensorMode():
        triton_launches.start_every_kernel(*size)
    assert len(grids) >= len(triton_launches.KERNELS)
    assert max(programs for grid in grids for programs in grid[1:]) <= MOST_PROGRAMS


def test_more_images_than_a_grid_takes_are_refused():
    with pytest.raises(ValueError, match="at most 65535 images at a time"):
        launch(curve_forward, (1, MOST_PROGRAMS + 1), torch.empty(1))


def test_compute_sanitizers_program_starts_every_kernel_and_compiles_few(tmp_path):
    versions = compiled_versions("sanitized", cache=tmp_path)
    assert set(versions) == triton_launches.KERNELS
    assert max(versions.values()) == 1  # of each set of constants: compute-sanitizer has a GPU for two minutes


def test_a_folder_of_sizes_compiles_few_versions(tmp_path):
    # Rows that end on multiples of 16 bytes or not, planes as well, and sizes of one pixel: no more is told apart.
    sizes = [f"{height}x{width}" for height in (1, 40, 47, 64, 81) for width in (1, 40, 47, 64, 81, 96, 122)]
    versions = compiled_versions(*sizes, cache=tmp_path)
    assert set(versions) == triton_launches.KERNELS
    # No access is wide in any of them.
    pictures = {"denoise_forward", "details_forward", "flattest_forward", "guide_forward", "reduce_forward", "sample_forward"}
    assert {name: versions[name] for name in pictures} == dict.fromkeys(pictures, 1)
    assert max(versions.values()) <= 8


@pytest.mark.slow
def test_a_height_and_width_of_one_compile(tmp_path):
    versions = compiled_versions("compile", "1x1", cache=tmp_path)
    assert set(versions) == triton_launches.KERNELS


def far_channels(tensor):
    """The same values, the last channel more than 2^31 elements behind the first; the pages between are never touched."""
    _, channels, height, width = tensor.shape
    step = 2**31 // (channels - 1) + 16
    far = torch.empty((channels - 1) * step + height * width, dtype=tensor.dtype, device=tensor.device)
    far = far.as_strided(tensor.shape, (0, step, width, 1))
    return far.copy_(tensor)


@only_triton
def test_channels_beyond_32_bits(backend):
    if not is_interpreted(backend) and torch.cuda.mem_get_info()[0] < 24 * 2**30:
        pytest.skip("the GPU has less than 24 GB free")
    image, maps, grad = random_case((16, 16), 2, batch=1, dtype=torch.float16, device=DEVICE)
    picture = (255 * image[0].permute(1, 2, 0)).to(torch.uint8).contiguous()

    def results(far):
        given = far_channels(maps) if far else maps
        with zdce.backend(backend):
            leaf = given.detach().requires_grad_()
            zdce.ops.apply_curve(image, leaf).backward(grad)
            objective = zdce.ops.zero_reference_objective(image, leaf)
            (of_objective,) = torch.autograd.grad(objective.total, leaf)
            return [
                zdce.ops.apply_curve(image, given), leaf.grad, *(term.detach() for term in objective), of_objective,
                zdce.ops.enhance_picture(picture, given, 2, logits=True), zdce.ops.illumination_smoothness(given),
            ]  # fmt: skip

    for near, far in zip(results(far=False), results(far=True), strict=True):
        assert torch.equal(near, far)


@only_triton
def test_gradients_beyond_32_bits(backend):
    if not is_interpreted(backend):
        pytest.skip("done in virtual memory, by the interpreter")
    image, maps, grad = (tensor.flatten(2) for tensor in random_case((8, 12), 2, batch=1, dtype=torch.float16))
    expected, far = torch.empty_like(maps), far_channels(maps[..., None])[..., 0]
    launch_backward = zdce.ops.dispatch.BACKENDS[backend].launcher("apply_curve_backward")
    launch_backward((grad, image, maps, 2), (None, expected))
    launch_backward((grad, image, maps, 2), (None, far))
    assert torch.equal(far, expected)
