import os
from glob import glob

from setuptools import Extension, setup
from torch.utils.cpp_extension import TORCH_LIB_PATH, include_paths

# No flag of the build machine's: the kernels choose their instruction set at run time.
flags = ["-std=c++20", "-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-fvisibility=hidden", "-Wall", "-Wno-psabi"]

# The stable ABI of PyTorch 2.10: one wheel serves that version and every later one.
cpp = Extension(
    "zdce._C",
    sources=sorted(glob("csrc/core/**/*.cpp", recursive=True) + glob("csrc/torch/*.cpp")),
    depends=["csrc/curve.h", *glob("csrc/core/**/*.h", recursive=True), *glob("csrc/torch/*.h")],
    include_dirs=include_paths(),
    library_dirs=[TORCH_LIB_PATH],
    libraries=["torch", "torch_cpu"],
    define_macros=[("TORCH_TARGET_VERSION", "0x020a000000000000"), ("Py_LIMITED_API", "0x030b0000")],
    extra_compile_args=flags,
    py_limited_api=True,
    optional=True,  # with no compiler the package still installs, on the reference path
)

# Runs where torch has CUDA, and links without: there libtorch.so, named here although nothing of it is used, brings the CUDA
# library whose symbols this one leaves open.
cuda = Extension(
    "zdce._cuda",
    sources=["csrc/cuda/apply_curve.cu", "csrc/cuda/objective.cu", "csrc/cuda/module.cpp"],
    depends=["csrc/curve.h", *(f"csrc/cuda/{name}.cuh" for name in ("apply_curve", "launch", "objective", "planes"))],
    include_dirs=include_paths(),
    library_dirs=[TORCH_LIB_PATH],
    libraries=["torch", "torch_cpu"],
    define_macros=cpp.define_macros,
    extra_compile_args=["-std=c++20", "-O3", "-fvisibility=hidden", "-Wall"],
    extra_link_args=["-Wl,--no-as-needed", "-ltorch"],
    py_limited_api=True,
)

setup(
    ext_modules=[
        *([] if os.environ.get("ZDCE_CPP") == "0" else [cpp]),
        *([cuda] if os.environ.get("ZDCE_CUDA") == "1" else []),
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
