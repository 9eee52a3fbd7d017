"""The Triton kernels compile ahead of time for each GPU that is promised, with 16-byte accesses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="triton is not installed")

TARGETS = {"80", "90", "100", "gfx942"}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_kernels_compile_for_every_target(tmp_path, dtype):
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("compile_triton.py"), dtype],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {(row["kernel"], row["target"]) for row in rows} == {
        (kernel, target) for kernel in ("curve_forward", "curve_backward") for target in TARGETS
    }
    for row in rows:
        assert ("hsaco" if row["target"].startswith("gfx") else "cubin") in row["binary"]
        # Backward has 4 pixels a thread: 8 bytes in half types.
        narrow = row["kernel"] == "curve_backward" and dtype != "float32"
        assert "widest" not in row or set(row["widest"].values()) == {8 if narrow else 16}
