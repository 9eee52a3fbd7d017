"""Compiles the CUDA kernels with nvcc as setup.py does, without a GPU; the sources are only in a clone of the repository."""

import importlib.util
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from zdce.errors import FileError

from .ptx import ptxas_words, widest

SOURCES = Path(__file__).resolve().parents[1] / "csrc" / "cuda"
# Sources of the operators; the network's, whose kernels have other arguments, is one more.
OPERATORS = ("apply_curve", "objective")
_TYPES = {"f": "float32", "6__half": "float16", "13__nv_bfloat16": "bfloat16"}
# zdce::cuda::NAME<TYPE, N, ...>, as C++ mangles it: N pixels a thread, then maps kept in registers, then steps.
_MANGLED = re.compile(r"cuda\d+([a-z_]+?)I(f|6__half|13__nv_bfloat16|v)((?:Li\d+E)*)E")


def why_missing() -> str | None:
    """Why the kernels can't be compiled here, or None."""
    if not (SOURCES / "build.py").is_file():
        return "the CUDA sources are not part of an installed package: run it in a clone, installed with -e"
    try:
        home = _build().cuda_home()
    except ImportError as error:
        return f"the build needs setuptools ({error})"
    return None if home else "there is no nvcc, neither in CUDA_HOME nor on the path"


def _build() -> Any:
    spec = importlib.util.spec_from_file_location("zdce_cuda_build", SOURCES / "build.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"{SOURCES / 'build.py'} can't be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compiled() -> list[dict[str, Any]]:
    """Facts from nvcc about every kernel and architecture, with the keys of ``triton_kernels.compiled``."""
    return [fact for report, ptx in nvcc_words().values() for fact in facts(report, ptx)]


def nvcc_words(names: tuple[str, ...] = OPERATORS) -> dict[str, tuple[str, str]]:
    """Report of ptxas and PTX for each source in ``names``; the code for the host, which tells nothing, is not made.

    Raises:
        OSError: nvcc failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        running = {name: _start(name, Path(folder)) for name in names}
        reports = {name: process.communicate()[0] for name, process in running.items()}
        for name, process in running.items():
            if process.returncode != 0:
                raise FileError(f"nvcc could not compile {name}.cu: {reports[name].strip()}")
        return {name: (reports[name], (Path(folder) / f"{name}.ptx").read_text()) for name in names}


def command() -> list[str]:
    """nvcc and its options for every source."""
    from torch.utils.cpp_extension import include_paths

    build = _build()
    home = build.cuda_home()
    macros = ["-DTORCH_TARGET_VERSION=0x020a000000000000", *(f"-isystem={path}" for path in include_paths())]
    return [str(home / "bin" / "nvcc"), *build.NVCC_FLAGS, *build.targets(home), "-Xptxas=-v", *macros, "-fatbin"]


def _start(name: str, folder: Path) -> "subprocess.Popen[str]":
    files = ["--keep", f"--keep-dir={folder}", str(SOURCES / f"{name}.cu"), "-o", str(folder / f"{name}.fatbin")]
    return subprocess.Popen([*command(), *files], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def facts(report: str, ptx: str) -> list[dict[str, Any]]:
    """Facts about each kernel and architecture in one source's report and PTX."""
    codes = {name: (head, body) for name, head, body in re.findall(r"\.entry (\w+)\((.*?)\n\{(.*?)\n\}\n", ptx, re.DOTALL)}
    found = []
    for part in report.split("Compiling entry function ")[1:]:
        name, target = re.findall(r"'(\w+)'", part)[:2]
        head, body = codes[name]
        threads = re.search(r"\.maxntid (\d+)", head)
        shared = re.search(r"(\d+) bytes smem", part)
        found.append(
            {
                **_names(name), "target": target, "threads": int(threads[1]) if threads else 1024,
                "shared_memory": int(shared[1]) if shared else 0, **ptxas_words(part), **widest(body),
            }
        )  # fmt: skip
    return found


def _names(mangled: str) -> dict[str, Any]:
    found = _MANGLED.search(mangled)
    if found is None:
        raise ValueError(f"no kernel's name: {mangled}")
    numbers = list(map(int, re.findall(r"Li(\d+)E", found[3])))
    constants = dict(zip(("N", "MAPS", "STEPS"), numbers, strict=False))
    tile = _tile("kRows" if found[1].endswith("_pixels") else "kTileRows")
    return {"kernel": found[1], "dtype": _TYPES.get(found[2], "any"), "constants": constants | tile}


def _tile(height: str) -> dict[str, int]:
    """The objective's tile: as many rows as the constant ``height`` says, and threads in a row, each with N columns."""
    text = (SOURCES / "objective.cuh").read_text() + (SOURCES / "planes.cuh").read_text()
    rows, warp = (re.search(rf"constexpr int {name} = (\d+);", text) for name in (height, "kWarp"))
    if rows is None or warp is None:
        raise ValueError(f"objective.cuh and planes.cuh don't tell {height} and kWarp")
    return {"TILE_ROWS": int(rows[1]), "WARP": int(warp[1])}
