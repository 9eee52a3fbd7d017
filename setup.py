import os
import sys
from glob import glob

from setuptools import Extension, setup

try:
    from torch.utils.cpp_extension import TORCH_LIB_PATH, include_paths
except ImportError:  # in a build that is not isolated: the core is built alone, for enhancing on the CPU
    TORCH_LIB_PATH, include_paths = None, list

# No flag of the build machine's: the kernels choose their instruction set at run time.
flags = [
    "-std=c++20",
    "-O3",
    "-g0",  # Python's own flags may say -g
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-fvisibility=hidden",
    "-pthread",
    "-Wall",
    "-Wno-psabi",
]
link_flags = ["-pthread"]
limited_api = ("Py_LIMITED_API", "0x030b0000")
headers = ["csrc/curve.h", *glob("csrc/**/*.h", recursive=True)]
core_sources = sorted(glob("csrc/core/*.cpp") + glob("csrc/core/kernels/*.cpp"))

# The stable ABI of PyTorch 2.10: one wheel serves that version and every later one.
cpp = Extension(
    "zdce._C",
    sources=sorted(glob("csrc/torch/*.cpp")),
    depends=headers,
    include_dirs=include_paths(),
    library_dirs=[TORCH_LIB_PATH],
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
# And for C: csrc/core/zdce.h.
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
    include_dirs=include_paths(),
    library_dirs=[TORCH_LIB_PATH],
    libraries=["torch", "torch_cpu"],
    define_macros=cpp.define_macros,
    extra_compile_args=["-std=c++20", "-O3", "-fvisibility=hidden", "-Wall"],
    extra_link_args=["-Wl,--no-as-needed", "-ltorch"],
    py_limited_api=True,
)

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # for csrc.build, in builds that don't start here

setup(
    ext_modules=[
        *([] if os.environ.get("ZDCE_CPP") == "0" else [core, library, *([cpp] if TORCH_LIB_PATH else [])]),
        *([cuda] if os.environ.get("ZDCE_CUDA") == "1" else []),
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
