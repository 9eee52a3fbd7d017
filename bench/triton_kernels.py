"""Triton kernels compiled ahead of time, for GPUs that need not be present.

``python -P -m zdce.bench.triton_kernels '{...}' ...``, each the fields of a Request, prints a JSON line a kernel.
TRITON_INTERPRET must be unset before Python starts. What is compiled is what the operations launch: their launchers run here on
CPU tensors with the launch itself recorded in place of done, and arguments are specialised as Triton does, 1 and multiples of
16 apart.
"""

import contextlib
import hashlib
import io
import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.cache import get_cache_manager, triton_key
from triton.runtime.jit import JITFunction

from zdce import backends, ops
from zdce.models import guided_scene
from zdce.ops import dispatch, operator
from zdce.scene_constants import SIDE

from .cases import CASES, DTYPES, Setting, gradients, value
from .ptx import ptxas_words, widest

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
_TYPES = {
    torch.float32: "fp32",
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
    torch.float64: "fp64",
    torch.uint8: "u8",
    torch.uint16: "u16",
}

_WORDS = "ptxas.txt"

# Scales of pictures: full size, and one whose samples of the maps are shared between rows.
_SCALES = (1, 12)


@dataclass(frozen=True)
class Request:
    dtypes: tuple[str, ...] = ("float32",)
    targets: tuple[str, ...] = tuple(TARGETS)
    iterations: int = 8
    size: int = 256
    layout: str = "contiguous"


@dataclass(frozen=True)
class Launch:
    """One launch of a kernel: its arguments by name, and options such as num_warps."""

    kernel: Any
    arguments: dict[str, Any]
    options: dict[str, Any]

    @property
    def constants(self) -> dict[str, Any]:
        return {p.name: self.arguments[p.name] for p in self.kernel.params if p.is_constexpr or self.arguments[p.name] is None}


@contextlib.contextmanager
def recording() -> Iterator[list[Launch]]:
    """Records launches inside the ``with``; nothing runs, so outputs keep their content."""
    launches: list[Launch] = []

    def record(kernel: Any, *positional: Any, grid: Any, warmup: bool, **named: Any) -> None:
        values = dict(zip(kernel.arg_names, positional, strict=False))
        values |= {name: named.pop(name) for name in kernel.arg_names if name in named}
        launches.append(Launch(kernel, values, named))

    run, backend = JITFunction.run, dispatch.BACKENDS["triton"]
    dispatch.BACKENDS["triton"] = replace(backend, missing=lambda device, dtype: None)
    JITFunction.run = record
    try:
        with backends.backend("triton"):
            yield launches
    finally:
        JITFunction.run = run
        dispatch.BACKENDS["triton"] = backend


def launches(setting: Setting) -> list[Launch]:
    """Every kernel of every operation, forward and backward, as first launched for ``setting`` with each set of constants."""
    with recording() as found:
        for case in CASES.values():
            tensors = case.tensors(setting)
            gradients(value(getattr(ops, case.name), tensors), tensors, case.gradient(setting))
        _pictures(setting)
    return list({(launch.kernel.__name__, *launch.constants.values()): launch for launch in reversed(found)}.values())[::-1]


def _pictures(setting: Setting) -> None:
    """From the logits of ``setting``'s type to a picture of 8 bits, at a scale and at full size; strengths for a scene of that
    type; reduced pictures, and what is denoised with the noise that is measured.
    """
    picture = torch.zeros(setting.height, setting.width, 3, dtype=torch.uint8)
    for scale in _SCALES:
        size = (-(-side // scale) for side in picture.shape[:2])
        logits = torch.empty(1, setting.channels("logits"), *size, dtype=DTYPES[setting.dtype])
        ops.enhance_picture(picture, logits, scale=scale, logits=True)
    _strengths(setting)
    if setting.dtype == "float32":  # The other kernels do not depend on the type.
        ops.denoise_picture(picture, picture, ops.picture_noise(picture))
        for scale, antialias in itertools.product(_SCALES, (False, True)):
            ops.reduce_picture(picture, scale, antialias)


def _strengths(setting: Setting) -> None:
    """Of a scene, with maps for each step and with one for all."""
    scene = guided_scene.read(torch.zeros(1, 3, SIDE, SIDE, dtype=DTYPES[setting.dtype]))
    image, plane, iterations = scene.image, scene.darker_half, setting.iterations
    for channels in (3 * iterations, 3):
        operator.call("scene_strength", image, image.new_zeros(1, channels, SIDE, SIDE), iterations, 0.3)
    operator.call("guided_strength", image, plane, plane, image.new_zeros(1, 3), iterations)


def source(launch: Launch) -> ASTSource:
    """The kernel with the types, constants and divisibility of its arguments, as Triton finds them at a launch."""
    signature, constants, divisible = {}, {}, {}
    for i, parameter in enumerate(launch.kernel.params):
        argument = launch.arguments[parameter.name]
        counts = not parameter.do_not_specialize
        if parameter.is_constexpr or argument is None or (counts and isinstance(argument, int) and argument == 1):
            signature[parameter.name], constants[parameter.name] = "constexpr", argument
            continue
        signature[parameter.name] = _type(argument)
        address = argument.data_ptr() if isinstance(argument, Tensor) else argument
        if counts and not isinstance(argument, float) and address % 16 == 0:
            divisible[i,] = [["tt.divisibility", 16]]
    return ASTSource(launch.kernel, signature, constants, divisible)


def _type(argument: Any) -> str:
    if isinstance(argument, Tensor):
        return f"*{_TYPES[argument.dtype]}"
    if isinstance(argument, float):
        return "fp32"
    return "i32" if -(2**31) <= argument < 2**31 else "i64"


def compiled(launch: Launch, target: str) -> dict[str, Any]:
    """Facts from the compiler about a kernel; registers and spills are reported by ptxas, for NVIDIA's targets only.

    Both the binary and these words are kept in Triton's cache, under everything that they depend on.
    """
    binary, words = _binary_and_words(source(launch), target, {**launch.options, "enable_fp_fusion": True})
    facts = {
        "kernel": launch.kernel.__name__, "target": target, "binary": sorted(binary.asm),
        "shared_memory": binary.metadata.shared, "threads": binary.metadata.num_warps * TARGETS[target].warp_size,
        "constants": launch.constants,
    }  # fmt: skip
    return facts | (ptxas_words(words) | widest(binary.asm["ptx"]) if "ptx" in binary.asm else {})


def _binary_and_words(kernel: ASTSource, target: str, options: dict[str, Any]) -> tuple[Any, str]:
    # Triton does not keep ptxas's report, which is printed only when ptxas runs.
    key = json.dumps([triton_key(), kernel.hash(), str(TARGETS[target]), sorted(options.items())])
    kept = get_cache_manager(hashlib.sha256(key.encode()).hexdigest())
    words, log = kept.get_file(_WORDS), io.StringIO()
    with triton.knobs.compilation.scope(), contextlib.redirect_stdout(log):
        triton.knobs.compilation.always_compile = words is None
        binary = triton.compile(kernel, target=TARGETS[target], options=options)
    if words is None:
        words = kept.put(log.getvalue(), _WORDS, binary=False)
    return binary, Path(words).read_text()


def main() -> None:
    for request in (Request(**json.loads(text)) for text in sys.argv[1:]):
        for dtype in request.dtypes:
            setting = Setting(
                height=request.size, width=request.size, iterations=request.iterations, dtype=dtype, layout=request.layout
            )
            for launch in launches(setting):
                for target in request.targets:
                    print(json.dumps({**compiled(launch, target), "dtype": dtype}), flush=True)  # noqa: T201 (the answer)


if __name__ == "__main__":
    main()
