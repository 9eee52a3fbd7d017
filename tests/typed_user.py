"""A user's program under strict type checks; mypy reads it, nothing runs it."""

from pathlib import Path
from typing import Any, assert_type

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

import zdce
from zdce.enhancement.transforms import Enhance


def main() -> None:
    model = zdce.load("net.safetensors")
    assert_type(model, zdce.DCENet)
    pixels = np.zeros((4, 4, 3), np.uint8)
    assert_type(zdce.enhance(pixels, model), NDArray[np.uint8])
    assert_type(zdce.enhance(pixels.astype(np.float32), "net.safetensors", strength=0.5), NDArray[np.float32])
    assert_type(zdce.enhance(torch.zeros(3, 4, 4)), Tensor)
    assert_type(zdce.enhance(Image.new("RGB", (4, 4)), Path("net.safetensors")), Image.Image)
    assert_type(zdce.enhance("photo.jpg", model, scale=4), Image.Image)
    assert_type(zdce.enhance(Path("photo.jpg"), model, output="bright.jpg"), Path)
    zdce.enhance(pixels, model, output="bright.jpg")  # type: ignore[call-overload]
    zdce.enhance([1, 2], model)  # type: ignore[call-overload]

    enhancer = zdce.Enhancer(model, precision="fp32", scale=None, strength=1.0)
    assert_type(enhancer(torch.zeros(1, 3, 4, 4)), Tensor)
    enhancer(pixels)
    assert_type(enhancer.maps(pixels), NDArray[np.float32])
    assert_type(enhancer.apply(pixels, enhancer.maps(pixels)), NDArray[np.uint8])

    brighten = Enhance(model, scale=4)
    assert_type(brighten(Image.new("RGB", (4, 4))), Image.Image)
    assert_type(brighten(torch.zeros(3, 4, 4)), Tensor)
    assert_type(brighten(torch.zeros(3, 4, 4), 7), Any)

    image, logits = torch.zeros(1, 3, 16, 16), torch.zeros(1, 24, 16, 16)
    assert_type(zdce.ops.apply_curve(image, torch.tanh(logits)), Tensor)
    objective = zdce.ops.zero_reference_objective(image, logits, zdce.LossWeights(illumination=800.0))
    assert_type(objective, zdce.Objective)
    assert_type(objective.total, Tensor)
    with zdce.backend("reference"):
        assert_type(zdce.ops.exposure_control(image, target=0.5), Tensor)
    assert_type(zdce.__version__, str)
