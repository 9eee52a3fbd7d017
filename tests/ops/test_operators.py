"""An operator, its reference, its kernels' files, its tests and its benchmark all have the same name."""

import importlib
from pathlib import Path

import pytest
import torch

import zdce
from cases import assert_near, random_case
from zdce.bench.cases import CASES
from zdce.ops import dispatch

ROOT = Path(__file__).resolve().parents[2]
FORWARD = [name for name in dispatch.OPERATORS if not name.endswith("_backward")]

# Measured with whole networks (`zdce bench infer`, `bench train`, `bench layers`), not alone.
IN_NETWORKS = {"convolution", "denoise_picture", "enhance_picture", "picture_noise", "reduce_picture"}


@pytest.mark.parametrize("name", FORWARD)
def test_an_operator_is_defined_where_its_name_says(name):
    importlib.import_module(f"zdce.ops.{name}")
    module = (ROOT / "zdce" / "ops" / f"{name}.py").read_text()
    assert f'"{name}(' in module
    assert dispatch.OPERATORS[name].reference is getattr(zdce.reference, name)
    backward = dispatch.OPERATORS.get(f"{name}_backward")
    assert backward is None or backward.reference is getattr(zdce.reference, f"{name}_backward")


@pytest.mark.parametrize("name", FORWARD)
def test_a_kernel_of_each_backend_has_the_operators_name(name):
    kernels = dispatch.OPERATORS[name].kernels
    assert ("cpp" in kernels) == any("cuda" not in path.parts for path in (ROOT / "csrc").rglob(f"{name}.*"))
    assert ("triton" in kernels) == (ROOT / "kernels" / f"{name}.py").is_file()
    if "cuda" in kernels:
        assert any(f"{name}(" in path.read_text() for path in (ROOT / "csrc" / "cuda").glob("*.cu"))


def test_every_operation_is_measured():
    assert set(CASES) | IN_NETWORKS == {name for name in zdce.ops.__all__ if name.islower()}


# No square: two sides of one length are taken for one variable, and the next size would be compiled anew.
SIZES = [(16, 20), (17, 31), (40, 64)]


def every_operator(image, logits, weight, bias, picture):
    """Results of all operators: those with a gradient, and a picture."""
    operators = torch.ops.zdce
    maps = zdce.ops.convolution([image, logits], weight, bias).tanh()
    enhanced = zdce.ops.apply_curve(image, maps)
    objective = operators.objective(image.detach(), maps, 2, "paper", 1.0, 2.0, 3.0, 4.0, 0.6)
    regions = operators.region_contrast(enhanced, image, 4)
    sums = operators.channel_means(enhanced), operators.region_means(enhanced, 4), operators.tv_sums(maps)
    seen, few = image.detach(), maps[:, :3].detach()
    strength = operators.scene_strength(seen, few, 2, 0.4)
    strength = strength * operators.guided_strength(seen, few[:, :1], seen[:, :1], seen[:, :, 0, 0], 2)
    small = zdce.ops.reduce_picture(picture, 4)
    bright = zdce.ops.enhance_picture(picture, small, iterations=2, scale=4, strength=strength)
    noise = operators.picture_noise(picture, 0.004)
    return (*objective, *regions, *sums), zdce.ops.denoise_picture(picture, bright, noise)


def test_inductor_compiles_every_operator_with_dynamic_shapes():
    from torch._inductor.compile_fx import compile_fx  # takes two seconds

    torch._dynamo.reset()
    compiled_operators = set()

    def inductor(graph, inputs):
        compiled_operators.update(str(node.target) for node in graph.graph.nodes)
        return compile_fx(graph, inputs)

    compiled = torch.compile(every_operator, fullgraph=True, dynamic=True, backend=inductor)
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(6, 9, 3, 3, generator=generator) / 9, torch.randn(6, generator=generator) / 9
    for size in SIZES:
        image, logits, _ = random_case(size, 2, batch=1)
        picture = torch.randint(0, 60, (*size, 3), dtype=torch.uint8, generator=generator)
        results = []
        for function in (compiled, every_operator):
            leaves = [tensor.clone().requires_grad_() for tensor in (image, logits, weight, bias)]
            with torch.compiler.set_stance("default" if size == SIZES[0] else "fail_on_recompile"):
                values, bright = function(*leaves, picture)
            wanted = [value for value in values if value.requires_grad]
            directions = [torch.linspace(-1, 1, value.numel()).view_as(value) for value in wanted]
            grads = torch.autograd.grad(wanted, leaves, directions)
            results.append((bright, *(value.detach() for value in values), *grads))
        (bright, *got), (expected_bright, *expected) = results
        assert torch.equal(bright, expected_bright)
        for value, other in zip(got, expected, strict=True):
            assert_near(value, other.double(), 1e-5)  # tanh is Inductor's own, and gradients are added in another order
    assert {f"zdce.{name}" for name in FORWARD} <= compiled_operators
