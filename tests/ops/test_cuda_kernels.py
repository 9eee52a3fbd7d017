"""What is true of the CUDA kernels alone. That their values and gradients are right, the other tests know: there the same
sources run on the CPU as backend ``cuda_on_host``.
"""

import itertools
import json
import re
import subprocess
from collections import Counter
from pathlib import Path

import cuda_on_host
import pytest
import torch

import compiled
import zdce
from cases import layouts, nan_filled_allocations, random_case
from zdce.bench import cuda_kernels, static
from zdce.bench.cases import Setting
from zdce.ops import dispatch

SOURCES = (*cuda_kernels.OPERATORS, "network")


@pytest.fixture
def on_host():
    if reason := zdce.ops.dispatch.why_missing("cuda_on_host"):
        pytest.skip(reason)
    with zdce.backend("cuda_on_host"), nan_filled_allocations():
        yield


@pytest.fixture(scope="module")
def nvcc_words():
    """Of each CUDA source what ptxas reported and the PTX."""
    if reason := cuda_kernels.why_missing():
        pytest.skip(reason)
    nvcc, *options = cuda_kernels.command()
    version = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    sources = [*compiled.cuda_sources(), Path(cuda_kernels.__file__), cuda_kernels.SOURCES / "build.py"]
    settings = (version, options, torch.__version__)
    words = compiled.kept(
        "nvcc.json", sources, settings, lambda path: path.write_text(json.dumps(cuda_kernels.nvcc_words(SOURCES)))
    )
    return json.loads(words.read_text())


def kernels_of(ptx):
    """Each kernel's mangled name and code."""
    return re.findall(r"\.entry (\w+)\((.*?)\n\}\n", ptx, re.DOTALL)


@pytest.mark.heavy
@pytest.mark.parametrize("source", SOURCES)
def test_nothing_spills_on_any_architecture(nvcc_words, source):
    report, _ = nvcc_words[source]
    functions = re.findall(
        r"Compiling entry function '(\w+)' for '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill",
        report,
        re.DOTALL,
    )
    architectures = Counter(architecture for _, architecture, *_ in functions)
    assert set(architectures) == set(static.TARGETS)
    assert len(set(architectures.values())) == 1
    assert [function for function in functions if function[2:] != ("0", "0", "0")] == []


@pytest.mark.heavy
def test_the_networks_registers_leave_room_for_its_warps(nvcc_words):
    # 12 warps, three of each quarter of 65,536 registers, or 8: tests/models/test_fused_network.py counts them.
    report, _ = nvcc_words["network"]
    kernels = re.findall(r"entry function '\w*network_forwardI\w+?Li(\d)E\w*' for.*?Used (\d+) registers", report, re.DOTALL)
    assert len(kernels) == 6 * len(static.TARGETS)  # 3 or 4 tiles, or separable layers, in two types
    for tiles, registers in kernels:
        assert int(registers) <= {"3": 168, "4": 255}[tiles]


@pytest.mark.heavy
@pytest.mark.parametrize("source", cuda_kernels.OPERATORS)
def test_packed_kernels_move_16_bytes_at_a_time(nvcc_words, source):
    # A mangled name ends in template arguments: the type of the maps (f: float), pixels a thread, then what else there is.
    packed = 0
    for name, code in kernels_of(nvcc_words[source][1]):
        arguments = re.search(r"_(forward|backward)I(f|6__half|13__nv_bfloat16)Li(\d+)E", name)
        if arguments is None or arguments[3] == "1":
            continue
        packed += 1
        accesses = Counter(re.findall(r"\b(ld|st)\.global(?:\.cg)?(?:\.(v[24]))?", code))
        assert accesses["ld", "v4"] > 0, name
        # Loads of single elements are halo columns and statistics; narrower ones are of the image.
        if name.startswith("_ZN4zdce4cuda17objective_forward"):
            assert accesses["st", "v4"] == 0, name
        else:
            assert accesses["st", "v4"] > 0, name
            assert accesses["st", ""] == 0, name
    # Own and shared maps, up to T = 8 and beyond, of three types; the curve's forward is one kernel for all of them.
    assert packed == {"apply_curve": 3 + 9, "objective": 9 + 9}[source]


@pytest.mark.heavy
@pytest.mark.parametrize("source", cuda_kernels.OPERATORS)
def test_whole_pixels_are_moved_16_bytes_at_a_time(nvcc_words, source):
    found = [(name, code) for name, code in kernels_of(nvcc_words[source][1]) if "_pixelsI" in name]
    assert len(found) == 2 * 3  # both ways, three types
    for name, code in found:
        accesses = Counter(re.findall(r"\b(ld|st)\.global(?:\.cg)?(?:\.(v[24]))?", code))
        assert accesses["ld", "v4"] >= 3, name
        assert (accesses["st", "v4"] >= 3) == ("backward" in name), name


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "crop"])
def test_equal_inputs_give_equal_bits(on_host, layout):
    image, logits, _ = (layouts(tensor)[layout] for tensor in random_case((37, 56)))
    results = []
    for _ in range(2):
        leaf = logits.clone(memory_format=torch.preserve_format).requires_grad_()
        objective = zdce.ops.zero_reference_objective(image, leaf)
        objective.total.backward()
        results.append([*(term.detach() for term in objective), leaf.grad])
    assert all(torch.equal(first, second) for first, second in zip(*results, strict=True))


@pytest.mark.parametrize("layout", ["channels_last", "crop"])
def test_packed_kernels_agree_with_those_of_other_layouts(on_host, layout):
    # Other tiles, another order of summing: only rounding differs.
    image, logits, _ = random_case((40, 264), batch=1)
    settings = "paper", 1.0, 1.0, 1.0, 1.0, 0.6
    packed = torch.ops.zdce.objective(image, logits, 8, *settings)
    found = torch.ops.zdce.objective(*(layouts(tensor)[layout] for tensor in (image, logits)), 8, *settings)
    for one, other in zip(packed, found, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-6, atol=1e-6)


@pytest.mark.heavy
def test_the_cuda_kernels_have_no_faults(nvcc_words):
    found = [cuda_kernels.facts(*nvcc_words[name]) for name in cuda_kernels.OPERATORS]
    facts = [{"provider": "cuda", **fact} for of_source in found for fact in of_source]
    kernels = {f"{name}_{way}" for name in ("curve", "objective") for way in ("forward", "backward")}
    kernels |= {f"{kernel}_pixels" for kernel in kernels} | {"objective_terms", "objective_slopes"}
    assert {(fact["kernel"], fact["target"]) for fact in facts} == {(k, target) for k in kernels for target in static.TARGETS}
    for dtype, iterations in itertools.product(("float32", "bfloat16", "float16"), (8, 16)):
        setting = Setting(dtype=dtype, iterations=iterations)
        served = [fact for fact in facts if fact["dtype"] == dtype and static.shipped(fact, setting)]
        assert len(served) == 4 * len(static.TARGETS)
        assert [fault for fact in facts for fault in static._faults(fact, setting)] == []
        setting = Setting(dtype=dtype, iterations=iterations, layout="channels_last")
        served = {fact["kernel"] for fact in facts if fact["dtype"] == dtype and static.shipped(fact, setting)}
        assert len(served) == 4
        assert all(kernel.endswith("_pixels") == (iterations == 8) for kernel in served)
        assert [fault for fact in facts for fault in static._faults(fact, setting)] == []


def test_the_sums_of_100_megapixels_keep_float32():
    if reason := zdce.ops.dispatch.why_missing("cuda_on_host"):
        pytest.skip(reason)
    # What 2 images of 100 megapixels leave: 24,576 tiles of 128 x 32 pixels each, brightness near 0.6, in float32.
    tiles, pixels = 24_576, 24_576 * 4096
    partials = 4096 * (0.6 + 0.1 * torch.rand(5, 2, tiles))
    means, scalars = torch.full((2, 3), float("nan")), [torch.full((), float("nan")) for _ in range(5)]
    cuda_on_host.objective_terms(partials, pixels, (0.5, 0.25, 1, 1, 1, 1, 0.6), scalars, means)
    exact = partials.double().sum(2)
    torch.testing.assert_close(means.double(), (exact[:3] / pixels).T, rtol=1e-7, atol=0)
    along_y, along_x = exact[3:].sum(1)
    torch.testing.assert_close(scalars[1].double(), along_y / 2 + along_x / 4, rtol=1e-7, atol=0)
    assert scalars[2] == scalars[4] == 0


def test_the_cuda_backend_says_why_it_cannot_run():
    image, maps, _ = random_case((4, 4))
    message = "backend 'cuda' was asked for but can't run: it runs on CUDA tensors, not on cpu"
    with pytest.raises(RuntimeError, match=message), zdce.backend("cuda"):
        zdce.ops.apply_curve(image, maps)


class TestAGpuThatIsNotThere:
    """What the backends say of a GPU, of which only torch's answers are given here."""

    @pytest.fixture(autouse=True)
    def gpus(self, monkeypatch):
        self.capabilities = {"cuda": (9, 0), "cuda:0": (9, 0), "cuda:1": (7, 5)}
        self.broken = {}
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_capability", self.capabilities.__getitem__)
        monkeypatch.setattr("zdce.compiled.import_error", self.broken.get)

    def test_every_backend_runs_on_a_new_one(self):
        for operator in (None, "apply_curve", "region_means"):
            assert dispatch.why_missing("cuda", "cuda", operator=operator) is None
            assert dispatch.why_missing("triton", "cuda:0", operator=operator) is None
            assert dispatch.choose("auto", "cuda", torch.float32, operator=operator) == "cuda"

    def test_cuda_needs_what_it_was_compiled_for(self):
        message = "it needs a GPU of compute capability 8.0, cuda:1 has 7.5"
        assert dispatch.why_missing("cuda", "cuda:1") == message
        assert dispatch.choose("auto", "cuda:1", torch.float32, operator="apply_curve") == "triton"
        with pytest.raises(dispatch.BackendError, match=message):
            dispatch.choose("cuda", "cuda:1", torch.float32, operator="apply_curve")

    def test_triton_needs_a_gpu_that_it_compiles_for(self):
        self.capabilities["cuda"] = (6, 1)
        assert dispatch.why_missing("triton", "cuda") == "it needs a GPU of compute capability 7.0, cuda has 6.1"
        assert dispatch.choose("auto", "cuda", torch.float32, operator="apply_curve") == "reference"

    def test_cuda_needs_triton_where_the_operator_is_tritons(self):
        self.broken["triton"] = "ModuleNotFoundError: No module named 'triton'"
        reason = "most of its operators are Triton's: triton is not installed (ModuleNotFoundError: No module named 'triton')"
        assert dispatch.why_missing("cuda", "cuda") == reason
        assert dispatch.why_missing("cuda", "cuda", operator="region_means") == reason
        assert dispatch.why_missing("cuda", "cuda", operator="objective_backward") is None
        assert dispatch.choose("auto", "cuda", torch.float32, operator="objective") == "cuda"
        assert dispatch.choose("auto", "cuda", torch.float32, operator="denoise_picture") == "reference"
