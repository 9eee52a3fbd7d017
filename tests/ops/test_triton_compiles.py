"""The Triton kernels compile ahead of time for each supported GPU, with 16-byte accesses and without spills."""

import csv
import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from zdce import cli
from zdce.bench import cuda_kernels, static
from zdce.bench.cases import Setting

FLOAT32_TARGETS = {*static.TARGETS, "gfx942"}
KERNELS = {f"{name}_{way}" for name in ("curve", "channel", "region", "statistics", "tv") for way in ("forward", "backward")}
PICTURES = {
    "denoise_forward",
    "details_forward",
    "flattest_forward",
    "guide_forward",
    "picture_forward",
    "reduce_forward",
    "sample_forward",
}  # of 3 bytes a pixel, which no wide access fits
STRENGTHS = {"scene_forward", "guided_forward"}
TERMS = {"terms_shares", "terms_forward", "terms_backward"}  # of the objective, on small grids
# Loads: of channel_backward's and region_backward's few means. Stores: of sums and means.
SMALL_LOADS = {"channel_backward", "region_backward"}
SMALL_STORES = {"channel_forward", "region_forward", "statistics_forward", "tv_forward", *STRENGTHS}
# 4 columns a thread whatever the type: 8 bytes in half types.
FOUR_COLUMNS = {"region_forward", "tv_forward", "tv_backward"}


@pytest.fixture(scope="module")
def triton_facts():
    """What Triton's compiler says of every kernel: in float32 for each target; the half types differ in conversions, groups of
    maps and bytes a thread, so that one target shows them. That they compile for AMD's, of which no registers are told, is
    shown with two steps of the curve, which are unrolled. Kernels that were compiled before come from Triton's cache."""
    pytest.importorskip("triton", reason="triton is not installed")
    requests = [{"dtypes": ["float32"], "targets": [target]} for target in static.TARGETS]
    requests.append({"dtypes": ["bfloat16", "float16"], "targets": ["sm_90"]})
    requests.append({"dtypes": ["float32"], "targets": ["gfx942"], "iterations": 2})
    return static.triton_facts([{**request, "size": 64} for request in requests])


TWICE = """
import json
from triton.backends.nvidia.compiler import CUDABackend
from zdce.bench import triton_kernels
from zdce.bench.cases import Setting
launch = next(l for l in triton_kernels.launches(Setting(height=64, width=64)) if l.kernel.__name__ == "channel_backward")
first = triton_kernels.compiled(launch, "sm_90")
del CUDABackend.add_stages  # nothing can be compiled now
print(json.dumps([first, triton_kernels.compiled(launch, "sm_90")]))
"""


def test_what_was_compiled_is_told_again_from_the_cache(tmp_path):
    pytest.importorskip("triton", reason="triton is not installed")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_DUMP_PTXAS_LOG": "1", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-P", "-c", TWICE], stdout=subprocess.PIPE, text=True, check=True, env=environment)
    first, again = json.loads(done.stdout)
    assert first == again
    assert first["registers"] > 0


@pytest.mark.heavy
@pytest.mark.parametrize(("dtype", "targets"), [("float32", FLOAT32_TARGETS), ("bfloat16", {"sm_90"}), ("float16", {"sm_90"})])
def test_kernels_compile_for_every_target(triton_facts, dtype, targets):
    facts = [fact for fact in triton_facts if fact["dtype"] == dtype]
    # Other kernels of pictures know nothing of the type.
    pictures = STRENGTHS | (PICTURES if dtype == "float32" else {"picture_forward"})
    assert {(fact["kernel"], fact["target"]) for fact in facts} == {
        (name, target) for name in KERNELS | TERMS | pictures for target in targets
    }
    for fact in facts:
        name = fact["kernel"]
        if fact["target"] == "gfx942":
            assert "hsaco" in fact["binary"]
            continue
        assert "cubin" in fact["binary"]
        assert fact["spills"] == 0
        wide = 8 if dtype != "float32" and name in FOUR_COLUMNS else 16
        if name not in PICTURES | TERMS | SMALL_LOADS:
            assert fact["widest_load"] == wide, name
        if name not in PICTURES | TERMS | SMALL_STORES:
            assert fact["widest_store"] == wide, name


@pytest.mark.heavy
def test_no_kernel_has_a_fault(triton_facts):
    for fact in triton_facts:
        if fact["target"] in static.TARGETS:
            assert static._faults({"provider": "triton", **fact}, Setting(dtype=fact["dtype"])) == []


@pytest.mark.heavy
def test_static_names_every_kernel_that_can_be_compiled_here(tmp_path, monkeypatch, triton_facts):
    # The compiler's words are those of this file's one run of it.
    def compiled(dtypes, targets, *_):
        return [fact for fact in triton_facts if fact["dtype"] in dtypes and fact["target"] in targets]

    monkeypatch.setattr(static, "triton_kernels", compiled)
    monkeypatch.setattr(cuda_kernels, "why_missing", lambda: "not in this test")
    monkeypatch.setattr(static, "TARGETS", ("sm_90",))
    result = CliRunner().invoke(cli.main, ["bench", "static", "--size", "64", "--csv", str(tmp_path / "rows.csv")])
    assert result.exit_code == 0, result.output
    assert "the CUDA kernels are left out: not in this test" in result.stderr
    assert all(name in result.stdout for name in ("H100 (sm_90), predicted", "curve_backward", "statistics_forward"))
    with (tmp_path / "rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["case"].split()[0] for row in rows} == KERNELS | PICTURES | STRENGTHS | TERMS | {"network"}
    assert set(static.WORK) >= KERNELS
    assert "base 1080p uint8" in result.stdout
    assert all(float(row["value"]) == 0 for row in rows if row["metric"] == "spills")
