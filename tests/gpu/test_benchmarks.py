"""Benchmarks on a GPU: every provider is right, and has its time and memory."""

import json
import subprocess
import sys

from zdce.bench import infer_gpu


def test_whole_networks_are_measured_beside_pytorch(streams):
    command = [sys.executable, "-P", "-m", "zdce", "bench", "infer", "--device", "cuda", "--quick", "--json"]
    done = subprocess.run([*command, "--size", "128x192", "--batch-size", "2"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = {}
    for row in json.loads(done.stdout):
        found.setdefault((row["provider"], row["dtype"]), {})[row["metric"]] = row["value"]
    names = {"fp32": "float32", "bf16": "bfloat16"}
    for provider in infer_gpu.UNCOMPILED:
        for precision in infer_gpu.PROVIDERS[provider].precisions:
            own = found[provider, names[precision]]
            assert own["time"] > 0, (provider, precision)
            assert own["peak_memory"] > 0, (provider, precision)
            assert own["error"] <= infer_gpu._TOLERANCES[precision], (provider, precision)
