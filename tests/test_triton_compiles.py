"""The Triton kernels compile ahead of time for each GPU that is promised, with 16-byte accesses and no spills."""

import pytest

from zdce.bench import static

pytest.importorskip("triton", reason="triton is not installed")

TARGETS = {"sm_80", "sm_90", "sm_100", "gfx942"}
KERNELS = {f"{name}_{way}" for name in ("curve", "channel", "region", "statistics", "tv") for way in ("forward", "backward")}
PICTURES = {"picture_forward", "reduce_forward", "sample_forward"}  # of 3 bytes a pixel, which no wide access fits


# The half types differ in one conversion: each is compiled for two of the targets.
@pytest.mark.parametrize(
    ("dtype", "targets"), [("float32", TARGETS), ("bfloat16", {"sm_90", "gfx942"}), ("float16", {"sm_80", "sm_100"})]
)
def test_kernels_compile_for_every_target(tmp_path, monkeypatch, dtype, targets):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    facts = static.triton_kernels([dtype], targets, size=64)
    assert {(fact["kernel"], fact["target"]) for fact in facts} == {
        (name, target) for name in KERNELS | PICTURES for target in targets
    }
    for fact in facts:
        if fact["target"] == "gfx942":
            assert "hsaco" in fact["binary"]
            continue
        assert "cubin" in fact["binary"]
        assert fact["spills"] == 0
        if fact["kernel"] in PICTURES:
            continue
        # Four pixels a thread are 8 bytes in half types.
        widest = max(fact["widest_load"], fact["widest_store"])
        assert widest == 16 or (dtype != "float32" and widest == 8)
