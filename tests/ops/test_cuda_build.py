"""Building ``zdce._cuda``: targets that nvcc knows, with the CUDA runtime linked in."""

import importlib.util
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = """
#include <cuda_runtime.h>
extern "C" __attribute__((visibility("default"))) int zdce_version() {
  int version = 0;
  return cudaRuntimeGetVersion(&version);
}
"""


@pytest.fixture(scope="module")
def build():
    spec = importlib.util.spec_from_file_location("cuda_build", ROOT / "csrc" / "cuda" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def toolkit(folder, *architectures, static=True):
    """A folder like a CUDA toolkit's, whose nvcc lists ``architectures``."""
    for name in ("bin", "include", "lib64"):
        (folder / name).mkdir()
    nvcc = folder / "bin" / "nvcc"
    nvcc.write_text("#!/bin/sh\n" + "".join(f"echo compute_{name}\n" for name in architectures))
    nvcc.chmod(0o755)
    (folder / "include" / "cuda_runtime.h").touch()
    if static:
        (folder / "lib64" / "libcudart_static.a").touch()
    return folder


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (("50", "80", "86", "90"), "[sm_80,sm_90,compute_80]"),  # CUDA 12.4
        (("75", "80", "90", "100", "120"), "[sm_80,sm_90,sm_100,compute_80]"),  # CUDA 13.0
    ],
)
def test_it_is_compiled_for_what_nvcc_knows(build, tmp_path, known, expected):
    assert build.targets(toolkit(tmp_path, *known)) == [f"-gencode=arch=compute_80,code={expected}"]


def test_an_nvcc_that_knows_none_is_named(build, tmp_path):
    home = toolkit(tmp_path, "50", "75")
    with pytest.raises(RuntimeError, match=f"zdce._cuda needs an nvcc that compiles for compute_80, {home}'s does not"):
        build.targets(home)


def test_a_toolkit_without_the_static_runtime_is_named(build, tmp_path):
    with pytest.raises(RuntimeError, match=r"zdce\._cuda needs the static CUDA runtime, which is not at"):
        build.cuda_runtime(toolkit(tmp_path, "80", static=False))


def test_no_shared_cuda_runtime_is_needed(build, tmp_path):
    # A shared one would have to be of the major version that the extension was built with.
    from setuptools import Distribution

    home = build.cuda_home()
    if home is None:
        pytest.skip("there is no nvcc, neither in CUDA_HOME nor on the path")
    source = tmp_path / "runtime.cu"
    source.write_text(SOURCE)
    extension = build.Extension("zdce_runtime", sources=[str(source)])
    command = build.BuildExtensions(Distribution({"name": "zdce-runtime", "ext_modules": [extension]}))
    command.build_lib = command.build_temp = str(tmp_path)
    command.ensure_finalized()
    command.run()
    (built,) = tmp_path.glob("zdce_runtime*.so")
    needed = subprocess.run(["readelf", "-d", built], capture_output=True, text=True, check=True).stdout
    assert "NEEDED" in needed
    assert "cudart" not in needed
    symbols = subprocess.run(["nm", "-D", "--defined-only", built], capture_output=True, text=True, check=True).stdout
    assert "zdce_version" in symbols
    assert "cudaMalloc" not in symbols  # nor does it offer its own to others
    missing = subprocess.run(["nm", "-D", "--undefined-only", built], capture_output=True, text=True, check=True).stdout
    assert "cuda" not in missing
