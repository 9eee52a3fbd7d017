"""Fixtures of all tests: the backends, and data beside the project."""

import functools
import gc
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

# Triton decides at import; on a GPU its kernels are compiled, elsewhere interpreted.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# Several workers share the cores: threads that wait in loops would take them from each other. OpenMP reads it when torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# torch.compile starts processes of its own to compile in, each with a PyTorch; the tests compile little.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
# It tries each instruction set by a program that it compiles, half a minute with empty caches; vectors are no claim of ours.
os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "0")

import cuda_on_host

# A shell starts what runs in the background with Ctrl-C ignored, and children inherit that: tests send it to them.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# `nohup` has SIGHUP ignored; children don't inherit a handler, and here it is still without effect.
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda number, frame: None)

import numpy as np
import pytest
import torch
from PIL import Image

import zdce
from cuda_on_cpu import CudaOnCpu
from zdce import backends
from zdce.ops import dispatch

# Each worker has its share of the cores, and so have the processes that it starts.
if (workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))) > 1:
    torch.set_num_threads(max(1, torch.get_num_threads() // workers))
    os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))

# Else each worker compiles all tests anew, and each process that they start zdce's modules, where Python is not to keep them.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ON_CPU = ("reference", "cpp", "cuda_on_host")

# The CUDA kernels, compiled for the CPU, pass every test that the other backends pass.
dispatch.BACKENDS["cuda_on_host"] = cuda_on_host.BACKEND
backends.NAMES.append("cuda_on_host")


def pytest_configure(config: pytest.Config) -> None:
    # pytest-xdist begins with the files of most tests; the longest have few, and one worker would wait at the end.
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Files of less than ten seconds come last, so that no worker is left with a long one at the end.
    tests = Path(__file__).parent
    last = ("data", "io", "metrics", "test_errors.py", "test_notebook.py")
    first = ("study", "training", "web", "test_docs.py")
    # The tests that need a GPU are skipped where there is none, and elsewhere the longest.
    first, last = (("gpu", *first), last) if DEVICE == "cuda" else (first, ("gpu", *last))

    def turn(item: pytest.Item) -> int:
        top = item.path.relative_to(tests).parts[0]
        return 0 if top in first else 2 if top in last else 1

    items.sort(key=turn)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    # `.ci/gpu` has a GPU for some minutes only. A run that skips the rest ends by itself and reports each test.
    if time.time() > float(os.environ.get("ZDCE_TESTS_END", "inf")):
        from zdce.bench.gpu import TIME_UP  # which other runs need not wait for

        pytest.skip(TIME_UP)
    # Random values of a test and its fixtures don't depend on the tests before it.
    torch.manual_seed(0)


def pytest_collection_finish() -> None:
    # PyTorch and the tests are half a million objects that stay: the garbage collector need not look at them again and again.
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # for what is collected when Python ends


@functools.cache
def keep_triton_interpreting() -> None:
    """Triton's interpreter replaces the functions of its language at each call of a kernel, and again at each call inside of
    one, which takes half of its time. Here they are replaced once and stay so.
    """
    from triton import language
    from triton.runtime import interpreter

    interpreter._patch_lang(SimpleNamespace(__globals__={"tl": language, "core": language.core}))
    interpreter._patch_lang = lambda _: interpreter._LangPatchScope()
    _remember_types_of_triton(language.core, interpreter)
    _skip_checks_of_equal_types(language.core, interpreter.interpreter_semantic)


def _remember_types_of_triton(core: ModuleType, interpreter: ModuleType) -> None:
    """The interpreter makes types, shapes and their names anew for each value, a third of its time: here once for each type."""
    make_type, make_tensor, numpy_type = core.block_type.__init__, core.tensor.__init__, interpreter._get_np_dtype
    types: dict[Any, dict[str, Any]] = {}
    shapes: dict[str, dict[str, Any]] = {}
    numpy_types: dict[str, Any] = {}

    def block_type(self: Any, element_ty: Any, shape: Any) -> None:
        key = (str(element_ty), *(getattr(size, "value", size) for size in shape))
        if key not in types:
            make_type(self, element_ty, shape)
            types[key] = dict(self.__dict__)
        self.__dict__.update(types[key])

    def tensor(self: Any, handle: Any, type: Any) -> None:  # noqa: A002 (Triton's name)
        key = str(type)
        if key not in shapes:
            make_tensor(self, handle, type)
            shapes[key] = dict(self.__dict__)
        self.__dict__.update(shapes[key], handle=handle, type=type)

    def numpy_type_of(tt_dtype: Any) -> Any:
        key = str(tt_dtype)
        if key not in numpy_types:
            numpy_types[key] = numpy_type(tt_dtype)
        return numpy_types[key]

    core.block_type.__init__, core.tensor.__init__, interpreter._get_np_dtype = block_type, tensor, numpy_type_of


def _skip_checks_of_equal_types(core: ModuleType, semantic: Any) -> None:
    """Most operations have operands of one shape and type, for which there is nothing to promote or broadcast."""
    check, broadcast, plain = semantic.binary_op_type_checking_impl, semantic.broadcast_impl_value, {"fp32", "int32", "int64"}

    def same_shape(lhs: Any, rhs: Any) -> bool:
        # One object for each type, see _remember_types_of_triton.
        return type(lhs) is type(rhs) is core.tensor and lhs.shape is rhs.shape

    def check_types(lhs: Any, rhs: Any, *more: Any, **options: Any) -> tuple[Any, Any]:
        if same_shape(lhs, rhs) and lhs.dtype.name in plain and lhs.dtype.name == rhs.dtype.name:
            return lhs, rhs
        return check(lhs, rhs, *more, **options)

    def make_shapes_equal(lhs: Any, rhs: Any) -> tuple[Any, Any]:
        return (lhs, rhs) if same_shape(lhs, rhs) else broadcast(lhs, rhs)

    semantic.binary_op_type_checking_impl, semantic.broadcast_impl_value = check_types, make_shapes_equal


@pytest.fixture(params=list(dispatch.BACKENDS))
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend in turn; one that can't run here is skipped with its reason."""
    device = "cpu" if request.param in ON_CPU else DEVICE
    if reason := dispatch.why_missing(request.param, device):
        pytest.skip(f"{request.param}: {reason}")
    if request.param == "triton" and os.environ.get("TRITON_INTERPRET") == "1":
        keep_triton_interpreting()
    return request.param


@pytest.fixture
def device(backend: str) -> str:
    return "cpu" if backend in ON_CPU else DEVICE


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> CudaOnCpu:
    """CUDA's streams and graphs, by recordings on the CPU."""
    return CudaOnCpu(monkeypatch)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The pictures and weights that lie beside the project and are no part of it."""
    folder = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the project's test data is not there: {folder}")
    return folder


@pytest.fixture(scope="session")
def dark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fourteen small dark pictures: 12 to train on in 3 batches of 4, 2 to validate."""
    folder = tmp_path_factory.mktemp("dark")
    random = np.random.default_rng(0)
    for i in range(14):
        blocks = random.integers(0, 60, (6, 6, 3), np.uint8)
        Image.fromarray(blocks).resize((48, 40), Image.Resampling.BICUBIC).save(folder / f"{i:02d}.png")
    return folder


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights file of a network that brightens: every curve map is about -0.3."""
    torch.manual_seed(0)
    network = zdce.DCENet("base")
    torch.nn.init.constant_(network.convolutions[-1].bias, -0.3)
    path = tmp_path_factory.mktemp("model") / "net.safetensors"
    network.save(path)
    return path


@pytest.fixture(scope="session")
def spandrel() -> Any:
    """spandrel, with stand-ins for what two of its own networks take from torchvision, which has no build for every PyTorch."""
    names = [f"torchvision{part}" for part in ("", ".transforms", ".transforms.functional")]
    stubs = {name: ModuleType(name) for name in names}
    for used in ("InterpolationMode", "rotate", "normalize"):
        setattr(stubs[names[-1]], used, None)
    with pytest.MonkeyPatch.context() as patch:
        for name, stub in stubs.items():
            patch.setitem(sys.modules, name, stub)
        return pytest.importorskip("spandrel")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium with no window, where there is one."""
    api = pytest.importorskip("playwright.sync_api", reason="the extra `browser` is not installed")
    chromium = os.environ.get("CHROMIUM") or next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    with api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield launched
        launched.close()
