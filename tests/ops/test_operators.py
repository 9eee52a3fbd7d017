"""One operation, one name: the operator, its reference, its kernels' files, its tests and its benchmark are all found by it."""

import importlib
from pathlib import Path

import pytest

import zdce
from zdce.bench.cases import CASES
from zdce.ops import dispatch

ROOT = Path(__file__).resolve().parents[2]
FORWARD = [name for name in dispatch.OPERATORS if not name.endswith("_backward")]

# Measured with whole networks (`zdce bench infer`, `bench train`, `bench layers`), not alone.
IN_NETWORKS = {"convolution", "denoise_picture", "enhance_picture", "reduce_picture"}


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
    assert [path for path in (ROOT / "csrc").rglob(f"{name}.*") if "cuda" not in path.parts]
    assert ("triton" in kernels) == (ROOT / "kernels" / f"{name}.py").is_file()
    if "cuda" in kernels:
        assert any(f"{name}(" in path.read_text() for path in (ROOT / "csrc" / "cuda").glob("*.cu"))


def test_every_operation_is_measured():
    assert set(CASES) | IN_NETWORKS == {name for name in zdce.ops.__all__ if name.islower()}
