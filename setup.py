import os
import sys
from glob import glob

from setuptools import Extension, setup

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # for csrc, in builds that don't start here
from csrc.backend import torch_folder

torch = torch_folder()  # without it the core is built alone, for enhancing on the CPU
torch_headers = [str(torch / "include"), str(torch / "include/torch/csrc/api/include")] if torch else []
torch_libraries = [str(torch / "lib")] if torch else []

# No flag of the build machine's: the kernels choose their instruction set at run time.
arithmetic = ["-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"]
if sys.platform == "win32":  # clang-cl, see csrc/build.py
    flags = ["/std:c++20", *(f"/clang:{flag}" for flag in ("-O3", *arithmetic))]
    link_flags = []
else:
    # -g0: Python's own flags may say -g.
    flags = ["-std=c++20", "-O3", "-g0", *arithmetic, "-fvisibility=hidden", "-pthread", "-Wall", "-Wno-psabi"]
    link_flags = ["-pthread"]
limited_api = ("Py_LIMITED_API", "0x030b0000")
headers = ["csrc/curve.h", *glob("csrc/**/*.h", recursive=True)]
core_sources = sorted(glob("csrc/core/*.cpp") + glob("csrc/core/kernels/*.cpp"))

# The stable ABI of PyTorch 2.10: one wheel serves that version and every later one.
cpp = Extension(
    "zdce._C",
    sources=sorted(glob("csrc/torch/*.cpp")),
    depends=headers,
    include_dirs=torch_headers,
    library_dirs=torch_libraries,
    libraries=["torch", "torch_cpu"],
    define_macros=[("TORCH_TARGET_VERSION", "0x020a000000000000"), limited_api],
    extra_compile_args=flags,
    extra_link_args=link_flags,
    py_limited_api=True,
)

# The same core for buffers, without torch.
core = Extension(
    "zdce._core",
    sources=sorted(glob("csrc/python/*.cpp")),
    depends=headers,
    define_macros=[limited_api],
    extra_compile_args=flags,
    extra_link_args=link_flags,
    py_limited_api=True,
)
# And for C: csrc/core/zdce.h. Elsewhere Python's extensions are no libraries that other programs can be linked with.
library = Extension(
    "zdce.libzdce",
    sources=[],
    depends=headers,
    language="c++",
    define_macros=core.define_macros,
    extra_compile_args=flags,
    extra_link_args=link_flags,
    py_limited_api=True,
)
for extension in (cpp, core, library):
    extension.core_sources = core_sources

# Runs where torch has CUDA, and links without: there libtorch.so, named here although nothing of it is used, brings the CUDA
# library whose symbols this one leaves open.
cuda = Extension(
    "zdce._cuda",
    sources=[*sorted(glob("csrc/cuda/*.cu")), "csrc/cuda/module.cpp"],
    depends=[*headers, *glob("csrc/cuda/*.cuh")],
    include_dirs=torch_headers,
    library_dirs=torch_libraries,
    libraries=["torch", "torch_cpu"],
    define_macros=cpp.define_macros,
    extra_compile_args=["-std=c++20", "-O3", "-fvisibility=hidden", "-Wall"],
    extra_link_args=["-Wl,--no-as-needed", "-ltorch"],
    py_limited_api=True,
)

libraries = [library] if sys.platform == "linux" else []
setup(
    ext_modules=[
        *([] if os.environ.get("ZDCE_CPP") == "0" else [core, *libraries, *([cpp] if torch else [])]),
        *([cuda] if os.environ.get("ZDCE_CUDA") == "1" else []),
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
