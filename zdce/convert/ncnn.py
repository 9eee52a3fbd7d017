"""Networks for ncnn: pnnx converts them from ONNX to two files, and ncnn runs them for the check."""

import io
import subprocess
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zdce.errors import InputError

# pnnx's names of the input and the output.
INPUT, OUTPUT = "in0", "out0"

# With two sizes, pnnx treats the sides as variable.
_SHAPES = ("inputshape=[1,3,64,96]", "inputshape2=[1,3,101,77]")


def convert(onnx: bytes, *, half: bool) -> tuple[bytes, bytes]:
    """The layers (``.param``) and weights (``.bin``) of an ONNX file with one input and one output.

    Args:
        half: whether weights are stored in float16.

    Raises:
        InputError: pnnx can't convert it.
    """
    import pnnx

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "net.onnx").write_bytes(onnx)
        command = [pnnx.EXEC_PATH, "net.onnx", *_SHAPES, f"fp16={int(half)}"]
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
        files = [Path(folder) / f"net.ncnn.{suffix}" for suffix in ("param", "bin")]
        if ran.returncode or not all(file.is_file() for file in files):
            told = (ran.stderr or ran.stdout).strip().splitlines()
            raise InputError(f"pnnx can't convert the network: {told[-1] if told else f'exit code {ran.returncode}'}")
        layers, weights = (file.read_bytes() for file in files)
    return layers, weights


def packed(layers: bytes, weights: bytes) -> bytes:
    """Both files as one content."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr(".param", layers)
        file.writestr(".bin", weights)
    return content.getvalue()


def unpacked(content: bytes) -> dict[str, bytes]:
    """Both files by their suffixes."""
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        return {name: file.read(name) for name in file.namelist()}


def program(content: bytes) -> Callable[[Any], NDArray[Any]]:
    """ncnn's results for tensors (B, 3, H, W), in float32 on the CPU."""
    import ncnn

    net = ncnn.Net()
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = net.opt.use_bf16_storage = False
    with tempfile.TemporaryDirectory() as folder:
        for suffix, data in unpacked(content).items():
            (Path(folder) / f"net{suffix}").write_bytes(data)
        if net.load_param(f"{folder}/net.param") or net.load_model(f"{folder}/net.bin"):
            raise InputError("ncnn can't load the converted network")

    def run(images: Any) -> NDArray[Any]:
        results = []
        for image in images.numpy():
            extractor = net.create_extractor()
            extractor.input(INPUT, ncnn.Mat(np.ascontiguousarray(image)).clone())
            results.append(np.array(extractor.extract(OUTPUT)[1]))
        return np.stack(results)

    return run
