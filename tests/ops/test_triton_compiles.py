"""The Triton kernels compile ahead of time for each GPU that is promised, with 16-byte accesses and no spills."""

import csv

import pytest
from click.testing import CliRunner

from zdce import cli
from zdce.bench import cuda_kernels, static
from zdce.bench.cases import Setting

FLOAT32_TARGETS = {*static.TARGETS, "gfx942"}
KERNELS = {f"{name}_{way}" for name in ("curve", "channel", "region", "statistics", "tv") for way in ("forward", "backward")}
PICTURES = {
    "denoise_forward",
    "guide_forward",
    "picture_forward",
    "reduce_forward",
    "sample_forward",
}  # of 3 bytes a pixel, which no wide access fits
# Loads: of channel_backward's and region_backward's few means. Stores: of sums and means.
SMALL_LOADS = {"channel_backward", "region_backward"}
SMALL_STORES = {"channel_forward", "region_forward", "statistics_forward", "tv_forward"}
# 4 columns a thread whatever the type: 8 bytes in half types.
FOUR_COLUMNS = {"region_forward", "tv_forward", "tv_backward"}


@pytest.fixture(scope="module")
def triton_facts(tmp_path_factory):
    """What Triton's compiler says of every kernel: in float32 for each target; the half types differ in conversions, groups of
    maps and bytes a thread, so that one target shows them."""
    pytest.importorskip("triton", reason="triton is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
        found = static.triton_kernels(["float32"], [*static.TARGETS, "gfx942"], size=64)
        return found + static.triton_kernels(["bfloat16", "float16"], ["sm_90"], size=64)


@pytest.mark.parametrize(("dtype", "targets"), [("float32", FLOAT32_TARGETS), ("bfloat16", {"sm_90"}), ("float16", {"sm_90"})])
def test_kernels_compile_for_every_target(triton_facts, dtype, targets):
    facts = [fact for fact in triton_facts if fact["dtype"] == dtype]
    pictures = PICTURES if dtype == "float32" else {"picture_forward"}  # the others know nothing of the type
    assert {(fact["kernel"], fact["target"]) for fact in facts} == {
        (name, target) for name in KERNELS | pictures for target in targets
    }
    for fact in facts:
        name = fact["kernel"]
        if fact["target"] == "gfx942":
            assert "hsaco" in fact["binary"]
            continue
        assert "cubin" in fact["binary"]
        assert fact["spills"] == 0
        wide = 8 if dtype != "float32" and name in FOUR_COLUMNS else 16
        if name not in PICTURES | SMALL_LOADS:
            assert fact["widest_load"] == wide, name
        if name not in PICTURES | SMALL_STORES:
            assert fact["widest_store"] == wide, name


def test_no_kernel_has_a_fault(triton_facts):
    for fact in triton_facts:
        if fact["target"] in static.TARGETS:
            assert static._faults({"provider": "triton", **fact}, Setting(dtype=fact["dtype"])) == []


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
    pictures = {"denoise_forward", "guide_forward", "picture_forward", "reduce_forward", "sample_forward"}
    assert {row["case"].split()[0] for row in rows} == pictures | {n for n in static.WORK if not n.startswith("objective")}
    assert all(float(row["value"]) == 0 for row in rows if row["metric"] == "spills")
