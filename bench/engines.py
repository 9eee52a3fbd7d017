"""Who runs the whole network: zdce's enhancer, PyTorch in its ways, and of `zdce export`'s files ONNX Runtime and OpenVINO.

All do the same work. In the mode ``picture`` a uint8 array (H, W, 3) becomes another: conversion, network, tanh, curve,
rounding. In ``network`` float32 (1, 3, H, W) becomes the same; PyTorch's has the memory layout that its engine likes best.
``scale-12`` is ``picture`` with the curve estimated on an image 12 times smaller, as ``zdce enhance --scale 12`` and videos
have it, or by the network's own scale where it has one. All have their input before the clock starts, and peers may use one
output again and again. In ``video`` zdce decodes, enhances and encodes a file.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from zdce import reference
from zdce.enhancement import video
from zdce.enhancement.enhancer import Enhancer
from zdce.models.network import DCENet, load
from zdce.ops import dispatch
from zdce.runtime import packages
from zdce.settings import VIDEO_SCALE

from . import arithmetic

PICTURE, NETWORK, SCALED, VIDEO = MODES = ("picture", "network", f"scale-{VIDEO_SCALE}", "video")

# A call on an input that was given before; its result is the caller's until the next one.
Call = Callable[[], NDArray[Any]]

FMA_PEAK = "fma-peak"


@dataclass(frozen=True)
class Task:
    """What one process computes.

    Attributes:
        engine: a name of ``ENGINES``, or ``fma-peak``.
        folder: has ``net.safetensors``, where needed the modes' exports (``picture.onnx``, say), and takes results.
        height, width: of the picture.
        threads: that it may use.
        precision: ``fp32`` or ``bf16``.
        modes: of ``MODES``.

    In ``video`` the folder has ``clip.mp4``.
    """

    engine: str
    folder: str
    height: int
    width: int
    threads: int
    precision: str = "fp32"
    modes: tuple[str, ...] = (PICTURE, NETWORK)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Task":
        values = json.loads(text)
        return cls(**{**values, "modes": tuple(values["modes"])})

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
    """How many times smaller the image is on which the curve is estimated; None: the network's own scale."""
    return video.own_scale(model) if mode in (SCALED, VIDEO) else None


def dark_picture(height: int, width: int) -> NDArray[np.uint8]:
    """(height, width, 3), always the same: how bright a pixel is changes nobody's speed."""
    return np.random.default_rng(0).integers(0, 96, (height, width, 3), dtype=np.uint8)


def _floats(image: Tensor, dtype: torch.dtype, layout: torch.memory_format = torch.contiguous_format) -> Tensor:
    return image.permute(2, 0, 1)[None].to(dtype, memory_format=layout) / 255


class Textbook(nn.Module):
    """The computation in plain torch, in the floating type of ``model``."""

    def __init__(self, model: DCENet, mode: str, layout: torch.memory_format = torch.contiguous_format) -> None:
        super().__init__()
        self.model = model
        model.to(memory_format=layout)  # type: ignore[call-overload]  # its annotations leave that out
        self.mode, self.layout = mode, layout

    def forward(self, image: Tensor) -> Tensor:
        """uint8 (H, W, 3) to the same; in ``network`` (1, 3, H, W) in [0, 1] to the same."""
        if self.mode == NETWORK:
            return self._enhanced(image)
        enhanced = self._enhanced(_floats(image, next(self.model.parameters()).dtype, self.layout))
        return (enhanced * 255).round().to(torch.uint8)[0].permute(1, 2, 0).contiguous()

    def _enhanced(self, image: Tensor) -> Tensor:
        return self.model.enhance(image, scale_in(self.mode, self.model), reference.apply_curve)


@dataclass(frozen=True)
class Engine:
    """How an engine is made ready for a task and a mode, and when it can't be.

    Attributes:
        build: gives the call.
        packages: that it needs, by the names they are installed and imported under.
        exported: the kind of ``zdce export``'s files that it reads, a suffix.
        compiles: its first call is a compiler's work.
        missing: why it can't run with a precision and a limit on instruction sets (None: the best), or None.
        limited: it can be held to an instruction set.
        modes: that it has.
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
    enhancer = Enhancer(model, precision=task.precision, scale=scale_in(mode, model))
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
    """Where an engine leaves what its last call in ``mode`` gave."""
    return task.file(f"{task.engine}-{mode}.{'mp4' if mode == VIDEO else 'npy'}")


def _torch(layout: torch.memory_format, compiled: bool, task: Task, mode: str) -> Call:
    textbook: Callable[[Tensor], Tensor] = Textbook(task.model(), mode, layout).eval()
    if compiled:
        # Frozen weights are packed once, which takes a third off; channels_last was the faster layout.
        import torch._inductor.config as inductor

        inductor.freezing = True
        textbook = torch.compile(textbook, fullgraph=True, dynamic=False)
    argument = task.floats().to(memory_format=layout) if mode == NETWORK else torch.from_numpy(task.image())

    def call() -> NDArray[Any]:
        # The networks' layers would take zdce's own convolutions.
        own = dispatch.backend("reference")
        with own, torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=task.precision == "bf16"):
            return textbook(argument).numpy()

    return call


def _onnxruntime(task: Task, mode: str) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = task.threads
    # Its own time is the same within 2%, but threads that spin on take a sixth of the next engine's speed on two cores.
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
        # Its default is bfloat16 where the processor has that.
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
    """What exports take: (1, H, W, 3) uint8 or (1, 3, H, W) float32."""
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
    # The conversions are in their graphs: with either, that is as fast as numpy's or torch's around it, or faster.
    "onnxruntime": Engine(_onnxruntime, ("onnxruntime", *_EXPORT), exported=".onnx", missing=_no_bf16, limited=False),
    "openvino": Engine(_openvino, ("openvino", *_EXPORT), exported=".onnx", missing=_no_bf16_at_avx2),
}


def multiply_adds(task: Task) -> Callable[[], int]:
    """The measure of all: float32 multiply-adds on the task's threads."""
    torch.set_num_threads(task.threads)
    return arithmetic.multiply_adds()
