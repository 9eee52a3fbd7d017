"""Networks for LiteRT (TensorFlow Lite): litert-torch converts them for one size of pictures, and LiteRT runs them for the
check.
"""

import contextlib
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from zdce.errors import InputError, library_call


def convert(network: nn.Module, image: Tensor) -> bytes:
    """The content of a ``.tflite`` file of ``network`` for images of the shape of ``image``.

    Raises:
        InputError: litert-torch can't convert it.
    """
    import litert_torch

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()), library_call(InputError):
        file = Path(folder) / "net.tflite"
        litert_torch.convert(network, (image,)).export(str(file))
        return file.read_bytes()


def program(content: bytes) -> Callable[[Any], NDArray[Any]]:
    """LiteRT's results for tensors (B, 3, H, W) of the file's size, on the CPU."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(images: Any) -> NDArray[Any]:
        results = []
        for image in images.split(1):
            interpreter.set_tensor(taken["index"], image.numpy())
            interpreter.invoke()
            results.append(interpreter.get_tensor(given["index"]))
        return np.concatenate(results)

    return run
