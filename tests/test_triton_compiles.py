"""The Triton kernels compile ahead of time for each GPU that is promised, with 16-byte accesses and no spills."""

import pytest

from zdce.bench import static
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
