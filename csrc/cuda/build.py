"""Builds ``zdce._cuda``: nvcc for the .cu files, the C++ compiler for the rest and the link.

Torch's own CUDAExtension wants a CUDA build of torch; the stable ABI needs none, only its headers.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from setuptools import Extension
from setuptools.command.build_ext import build_ext

# A100, H100, B200, of which a toolkit may know the first ones only, and PTX for the GPUs between and after them. One pass of
# the front end serves all: nothing is written for one architecture.
ARCHITECTURES = ("80", "90", "100")
# -prec-div: a quotient may be 2 ulps off, which tanh's own 6 hide; exact division is its most costly part.
NVCC_FLAGS = ["-std=c++20", "-O3", "-prec-div=false", "--threads=2", "-DUSE_CUDA"]
HOST_FLAGS = ["-fPIC", "-fvisibility=hidden", "-Wall", "-Wno-parentheses"]  # nvcc's own output has idle parentheses


def cuda_home() -> Path | None:
    """Where the CUDA toolkit lies, None where there is none."""
    named = os.environ.get("CUDA_HOME")
    nvcc = Path(named, "bin", "nvcc") if named else Path(shutil.which("nvcc") or "")
    if not nvcc.is_file():
        return None
    # What is found on the path may be a script that calls the real one elsewhere.
    homes = (nvcc.resolve().parents[1], Path("/usr/local/cuda"))
    return next((home for home in homes if (home / "include" / "cuda_runtime.h").is_file()), None)


def cuda_runtime(home: Path) -> Path:
    """The CUDA runtime as a static library.

    Raises:
        RuntimeError: the toolkit has none.
    """
    places = [home / folder / "libcudart_static.a" for folder in ("lib64", "lib")]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise RuntimeError(f"zdce._cuda needs the static CUDA runtime, which is not at {places[0]}")
    return found


def targets(home: Path) -> list[str]:
    """nvcc's option for what it can compile of ``ARCHITECTURES``.

    Raises:
        RuntimeError: it knows not even the first.
    """
    listed = subprocess.run([home / "bin" / "nvcc", "--list-gpu-arch"], capture_output=True, text=True, check=False).stdout
    known = [name for name in ARCHITECTURES if f"compute_{name}" in listed.split()]
    if ARCHITECTURES[0] not in known:
        raise RuntimeError(f"zdce._cuda needs an nvcc that compiles for compute_{ARCHITECTURES[0]}, {home}'s does not")
    code = ",".join([*(f"sm_{name}" for name in known), f"compute_{ARCHITECTURES[0]}"])
    return [f"-gencode=arch=compute_{ARCHITECTURES[0]},code=[{code}]"]


class BuildExtensions(build_ext):
    """setuptools' own, which takes .cu among an extension's sources."""

    def build_extension(self, ext: Extension) -> None:
        kernels = [source for source in ext.sources if source.endswith(".cu")]
        if kernels:
            self._compile_kernels(ext, kernels)
        super().build_extension(ext)

    def _compile_kernels(self, ext: Extension, kernels: list[str]) -> None:
        home = cuda_home()
        if home is None:
            raise RuntimeError(f"{ext.name} needs nvcc, which is neither in CUDA_HOME nor on the path")
        ext.sources = [source for source in ext.sources if source not in kernels]
        ext.include_dirs.append(str(home / "include"))
        runtime = str(cuda_runtime(home))
        ext.libraries += ["dl", "pthread", "rt"]
        ext.extra_link_args += ["-Wl,--exclude-libs,ALL"]
        macros: list[Any] = ext.define_macros
        common = [f"-D{name}={value}" for name, value in macros] + [f"-isystem={path}" for path in ext.include_dirs]
        for source in kernels:
            target = Path(self.build_temp, source).with_suffix(".o")
            target.parent.mkdir(parents=True, exist_ok=True)
            host = ["-Xcompiler", ",".join(HOST_FLAGS)]
            self.spawn(
                [str(home / "bin" / "nvcc"), *NVCC_FLAGS, *targets(home), *host, *common, "-c", source, "-o", str(target)]
            )
            ext.extra_objects.append(str(target))
        # The runtime is linked in: as a shared library it would have to be of the version that was built with. It comes after
        # the objects that need it, because linkers take from an archive what is missing when they reach it.
        ext.extra_objects.append(runtime)
