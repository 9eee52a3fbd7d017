"""Engines for whole networks: zdce's enhancer, PyTorch in several ways, and ONNX Runtime and OpenVINO with exported files.

All do the same work. In the mode ``picture`` a uint8 array (H, W, 3) becomes another: conversion, network, tanh, curve,
rounding. In ``network`` float32 (1, 3, H, W) becomes the same; PyTorch's has the memory layout that its engine likes best.
``scale-12`` is ``picture`` with the curve estimated on an image 12 times smaller, as ``zdce enhance --scale 12`` and videos
have it, or by the network's own scale where it has one. All have their input before the clock starts, and peers may use one
output again and again. In ``video`` zdce decodes, enhances and encodes a file.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from zdce import backends, reference
from zdce.enhancement import video
from zdce.enhancement.enhancer import Enhancer
from zdce.models.network import DCENet, load
from zdce.runtime import packages
from zdce.settings import VIDEO_SCALE

from . import arithmetic
from .processes import JsonJob

PICTURE, NETWORK, SCALED, VIDEO = MODES = ("picture", "network", f"scale-{VIDEO_SCALE}", "video")

# A call with a prepared input; its result is valid until the next call.
Call = Callable[[], NDArray[Any]]

FMA_PEAK = "fma-peak"


@dataclass(frozen=True)
class Task(JsonJob):
    """Work of one process.

    Attributes:
        engine: a name of ``ENGINES``, or ``fma-peak``.
        folder: folder with ``net.safetensors`` and exported files (such as ``picture.onnx``), and for results.
        height, width: size of the picture.
        threads: number of threads.
        precision: ``fp32`` or ``bf16``.
        modes: some of ``MODES``.

    In ``video`` the folder has ``clip.mp4``.
    """

    engine: str
    folder: str
    height: int
    width: int
    threads: int
    precision: str = "fp32"
    modes: tuple[str, ...] = (PICTURE, NETWORK)

    def file(self, name: str) -> Path:
        return Path(self.folder, name)

    def model(self) -> DCENet:
        return load(self.file("net.safetensors"))

    def image(self) -> NDArray[np.uint8]:
        return dark_picture(self.height, self.width)

    def floats(self) -> Tensor:
        """The picture as (1, 3, H, W) in [0, 1]."""
        return _floats(torch.from_numpy(self.image()), torch.float32)


def scale_in(mode: str, model: DCENet) -> int | None:
    """Scale of a mode: the curve is estimated on an image this many times smaller; None: the network's own scale."""
    return video.own_scale(model.variant) if mode in (SCALED, VIDEO) else None


def dark_picture(height: int, width: int) -> NDArray[np.uint8]:
    """The same dark picture (height, width, 3) at every call; brightness does not affect the speed of any engine."""
    return np.random.default_rng(0).integers(0, 96, (height, width, 3), dtype=np.uint8)


def _floats(image: Tensor, dtype: torch.dtype, layout: torch.memory_format = torch.contiguous_format) -> Tensor:
    """Pictures (H, W, 3) or (B, H, W, 3) as (B, 3, H, W) in [0, 1]."""
    pictures = image if image.dim() == 4 else image[None]
    return pictures.permute(0, 3, 1, 2).to(dtype, memory_format=layout) / 255


class Textbook(nn.Module):
    """The computation in plain torch, in the floating type of ``model``."""

    def __init__(self, model: DCENet, mode: str, layout: torch.memory_format = torch.contiguous_format) -> None:
        super().__init__()
        self.model = model
        model.to(memory_format=layout)  # type: ignore[call-overload]  # its annotations leave that out
        self.mode, self.layout = mode, layout

    def forward(self, image: Tensor) -> Tensor:
        """uint8 (H, W, 3) or (B, H, W, 3) to the same; in ``network`` (B, 3, H, W) in [0, 1] to the same."""
        if self.mode == NETWORK:
            return self._enhanced(image)
        enhanced = self._enhanced(_floats(image, next(self.model.parameters()).dtype, self.layout))
        return (enhanced * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().view(image.shape)

    def _enhanced(self, image: Tensor) -> Tensor:
        return self.model.enhance(image, scale_in(self.mode, self.model), reference.apply_curve)


@dataclass(frozen=True)
class Engine:
    """An engine: its preparation for a task and a mode, and its requirements.

    Attributes:
        build: returns the call.
        packages: required packages, by their names for installation and import.
        exported: suffix of the files of ``zdce export`` that it reads.
        compiles: whether the first call compiles.
        missing: why it can't run with a precision and a limit of instruction sets (None: the best), or None.
        limited: whether it can be limited to an instruction set.
        modes: its modes.
    """

    build: Callable[[Task, str], Call]
    packages: tuple[str, ...] = ()
    exported: str = ""
    compiles: bool = False
    missing: Callable[[str, str | None], str | None] = lambda precision, isa: None
    limited: bool = True
    modes: tuple[str, ...] = (PICTURE, NETWORK, SCALED)

    def why_missing(self, precision: str, isa: str | None) -> str | None:
        return packages.missing(*self.packages, extra="bench") or self.missing(precision, isa)

    @property
    def versions(self) -> str:
        return "".join(f", {name} {metadata.version(name)}" for name in self.packages)


def _zdce(task: Task, mode: str) -> Call:
    model = task.model()
    enhancer = Enhancer(model, precision=task.precision, scale=scale_in(mode, model), noise=model.variant.noise)
    if mode == NETWORK:
        image = task.floats()
        return lambda: enhancer(image).numpy()
    if mode != VIDEO:
        return partial(enhancer, task.image())
    source, target = clip_file(task), result_file(task, VIDEO)
    return lambda: np.array([video.enhance(source, target, enhancer).frames])


def clip_file(task: Task) -> Path:
    return task.file("clip.mp4")


def result_file(task: Task, mode: str) -> Path:
    """File for the result of an engine's last call in ``mode``."""
    return task.file(f"{task.engine}-{mode}.{'mp4' if mode == VIDEO else 'npy'}")


def _torch(layout: torch.memory_format, compiled: bool, task: Task, mode: str) -> Call:
    textbook: Callable[[Tensor], Tensor] = Textbook(task.model(), mode, layout).eval()
    if compiled:
        # Frozen weights are packed once, which saves a third of the time; channels_last is the faster layout.
        import torch._inductor.config as inductor

        inductor.freezing = True
        textbook = torch.compile(textbook, fullgraph=True, dynamic=False)
    argument = task.floats().to(memory_format=layout) if mode == NETWORK else torch.from_numpy(task.image())

    def call() -> NDArray[Any]:
        # By default the networks' layers use zdce's own convolutions.
        own = backends.backend("reference")
        with own, torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=task.precision == "bf16"):
            return textbook(argument).numpy()

    return call


def _onnxruntime(task: Task, mode: str) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = task.threads
    # No busy loops: its own time is equal within 2%, but on two cores they reduce the speed of the next engine by a sixth.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    for name, length in (("batch", 1), ("height", task.height), ("width", task.width)):
        options.add_free_dimension_override_by_name(name, length)
    session = onnxruntime.InferenceSession(str(task.file(f"{mode}.onnx")), options, providers=["CPUExecutionProvider"])
    image = _argument(task, mode)
    enhanced = np.empty_like(image)
    binding = session.io_binding()
    binding.bind_cpu_input("image", image)
    binding.bind_output("enhanced", "cpu", 0, enhanced.dtype, enhanced.shape, enhanced.ctypes.data)

    def call() -> NDArray[Any]:
        session.run_with_iobinding(binding)
        return _result(enhanced, mode)

    return call


def _openvino(task: Task, mode: str) -> Call:
    import openvino

    settings = {
        # The default is bfloat16 on processors that support it.
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[task.precision],
        "INFERENCE_NUM_THREADS": task.threads,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }
    image = _argument(task, mode)
    core = openvino.Core()
    network = core.read_model(task.file(f"{mode}.onnx"))
    network.reshape(list(image.shape))
    request = core.compile_model(network, "CPU", settings).create_infer_request()

    def call() -> NDArray[Any]:
        return _result(request.infer([image], share_inputs=True, share_outputs=True)[0], mode)

    return call


def _torch_export(task: Task, mode: str) -> Call:
    program = torch.export.load(task.file(f"{mode}.pt2")).module()
    image = torch.from_numpy(_argument(task, mode))

    def call() -> NDArray[Any]:
        with torch.inference_mode():
            return _result(program(image).numpy(), mode)

    return call


def _argument(task: Task, mode: str) -> NDArray[Any]:
    """Input of exported files: (1, H, W, 3) uint8 or (1, 3, H, W) float32."""
    return task.floats().numpy() if mode == NETWORK else task.image()[None]


def _result(enhanced: NDArray[Any], mode: str) -> NDArray[Any]:
    return enhanced if mode == NETWORK else enhanced[0]


def _no_bf16(precision: str, isa: str | None) -> str | None:
    return "it has no bfloat16 on the CPU" if precision == "bf16" else None


def _no_bf16_at_avx2(precision: str, isa: str | None) -> str | None:
    return "it has no bfloat16 with AVX2" if (precision, isa) == ("bf16", "avx2") else None


_EXPORT = ("onnx", "onnxscript")

ENGINES = {
    "zdce": Engine(_zdce, modes=MODES),
    "torch": Engine(partial(_torch, torch.contiguous_format, False)),
    "torch-channels-last": Engine(partial(_torch, torch.channels_last, False)),
    "torch-export": Engine(_torch_export, exported=".pt2", missing=_no_bf16),
    "torch-compile": Engine(partial(_torch, torch.channels_last, True), compiles=True),
    # The exported graphs contain the conversions; with either engine that is at least as fast as NumPy's or torch's outside.
    "onnxruntime": Engine(_onnxruntime, ("onnxruntime", *_EXPORT), exported=".onnx", missing=_no_bf16, limited=False),
    "openvino": Engine(_openvino, ("openvino", *_EXPORT), exported=".onnx", missing=_no_bf16_at_avx2),
}


def multiply_adds(task: Task) -> Callable[[], int]:
    """Call that counts float32 multiply-adds on the task's threads, to compare all engines with."""
    torch.set_num_threads(task.threads)
    return arithmetic.multiply_adds()
