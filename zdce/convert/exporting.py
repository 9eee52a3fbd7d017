"""Networks for other programs: ONNX files and ``torch.export`` programs with curve and resampling, checked, then written."""

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from zdce import reference
from zdce.enhancement.enhancer import Enhancer
from zdce.errors import InputError
from zdce.models.network import DCENet
from zdce.runtime import atomic, packages

PRECISIONS = ("fp32", "fp16")

# Levels of 255 that an export may be off beyond rounding. float32: 1e-4 of the range, as for single operations. float16: its 11
# bits make logits wrong by a thousandth, which the curve takes to half a level or less; networks of larger weights to more.
TOLERANCES = {"fp32": 1e-4 * 255, "fp16": 2.0}

_EXPORTER = ("onnx", "onnxscript")

# (B, H, W) beyond the scale on either side: odd ones, more than one image.
_CHECKED = ((1, 48, 64), (2, 33, 71), (1, 101, 36))

# A program is traced with an image of more than twice the scale on either side.
MOST_SCALE = 512

# Of their pictures' levels: dark scenes are those that want a strength, lit ones want none.
_BRIGHTEST = (32, 64, 256)

# A program of exports: images (B, 3, H, W) float32 or (B, H, W, 3) uint8 to the same.
_Program = Callable[[Tensor], NDArray[Any]]


@dataclass(frozen=True)
class ExportOptions:
    """What an exported network takes and how it computes.

    Attributes:
        precision: of the convolutions and their weights, ``"fp32"`` or ``"fp16"``; images and curve are float32 in both.
        scale: the curve is estimated on an image this many times smaller; None is the variant's own.
        uint8: pictures as decoded, uint8 (B, H, W, 3), instead of float32 (B, 3, H, W) in [0, 1].

    Raises:
        ValueError: an attribute is not one of these.
    """

    precision: str = "fp32"
    scale: int | None = None
    uint8: bool = False

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise InputError(f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}")
        if self.scale is not None and not 1 <= self.scale <= MOST_SCALE:
            raise InputError(f"scale must be 1 to {MOST_SCALE}, got {self.scale}")


class _Half(DCENet):
    """A network with weights in float16, its image and its logits in float32."""

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image.half()).float()


class _Whole(nn.Module):
    """All that an export does, in torch's own operators."""

    def __init__(self, model: DCENet, form: ExportOptions) -> None:
        super().__init__()
        kind, dtype = (_Half, torch.float16) if form.precision == "fp16" else (DCENet, torch.float32)
        self.model = kind(model.variant)
        self.model.load_state_dict(model.state_dict())
        self.model.to(dtype)
        self.form = form
        self.eval().requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        if not self.form.uint8:
            return self._enhanced(image)
        enhanced = self._enhanced(image.permute(0, 3, 1, 2).to(torch.float32) / 255)
        return (enhanced * 255).round().to(torch.uint8).permute(0, 2, 3, 1)

    def _enhanced(self, image: Tensor) -> Tensor:
        return self.model.enhance(image, self.form.scale, reference.apply_curve)


def _argument(model: DCENet, form: ExportOptions) -> tuple[Tensor, dict[int, str]]:
    """An image to trace with, of sides that no scale divides, and the axes of which any length is taken."""
    side = max(41, 2 * (form.scale or model.variant.scale) + 1)
    image = torch.zeros(2, 3, side, side + 2)
    if form.uint8:
        return image.permute(0, 2, 3, 1).to(torch.uint8), {0: "batch", 1: "height", 2: "width"}
    return image, {0: "batch", 2: "height", 3: "width"}


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells of every library that it does not find."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def to_onnx(model: DCENet, form: ExportOptions) -> bytes:
    """The network as an ONNX file: input ``image``, output ``enhanced``, any batch, height and width.

    Raises:
        ValueError: onnx or onnxscript is missing.
    """
    packages.require(*_EXPORTER, extra="export")
    image, axes = _argument(model, form)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            _Whole(model, form), (image,), input_names=["image"], output_names=["enhanced"], dynamic_shapes=(axes,),
            dynamo=True, verbose=False,
        )  # fmt: skip
    assert program is not None
    program.model.metadata_props.update(_description(model, form))
    return program.model_proto.SerializeToString()


def to_pt2(model: DCENet, form: ExportOptions) -> bytes:
    """The network as a file of ``torch.export.load``: it runs without zdce, with any batch, and sides above the scale."""
    image, axes = _argument(model, form)
    dynamic = dict.fromkeys(axes, torch.export.Dim.DYNAMIC)
    file = io.BytesIO()
    with _quiet(), torch.no_grad():
        program = torch.export.export(_Whole(model, form), (image,), dynamic_shapes=(dynamic,))
        torch.export.save(program, file, extra_files=_description(model, form))
    return file.getvalue()


def _description(model: DCENet, form: ExportOptions) -> dict[str, str]:
    scale = str(form.scale or model.variant.scale)
    return {"zdce.variant": json.dumps(model.variant.to_dict()), "zdce.scale": scale, "zdce.precision": form.precision}


def _in_onnxruntime(content: bytes) -> _Program:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns of every float16 operator that it does in float32
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda image: session.run(["enhanced"], {"image": image.numpy()})[0]


def _in_torch(content: bytes) -> _Program:
    with _quiet():
        program = torch.export.load(io.BytesIO(content)).module()
    return lambda image: program(image).numpy()


@dataclass(frozen=True)
class _Format:
    write: Callable[[DCENet, ExportOptions], bytes]
    run: Callable[[bytes], _Program]
    packages: tuple[str, ...] = ()


_FORMATS = {
    ".onnx": _Format(to_onnx, _in_onnxruntime, (*_EXPORTER, "onnxruntime")),
    ".pt2": _Format(to_pt2, _in_torch),
}


def content(model: DCENet, suffix: str, form: ExportOptions) -> bytes:
    """The unchecked content of a file with that suffix, ``.onnx`` or ``.pt2``; errors as ``to_onnx`` has them."""
    return _FORMATS[suffix].write(model, form)


def export(model: DCENet, path: Path, form: ExportOptions) -> float:
    """Writes the network for other programs, after it gave what ``zdce.Enhancer`` gives.

    Args:
        model: a float32 network on the CPU.
        path: ``.onnx``, or ``.pt2`` for a ``torch.export`` program; a former file is replaced whole.
        form: what the file takes and how it computes.

    Returns:
        The largest difference at three sizes, in levels of 255, without the half level of a uint8 result's rounding.

    Raises:
        ValueError: another suffix, the extra ``export`` is missing, or the check failed; nothing is written then.
    """
    if path.suffix not in _FORMATS:
        raise InputError(f"{path}: expected one of the formats {', '.join(_FORMATS)}")
    kind = _FORMATS[path.suffix]
    if kind.packages:
        packages.require(*kind.packages, extra="export")
    exported = content(model, path.suffix, form)
    worst = _check(kind.run(exported), model, form)
    if not worst <= TOLERANCES[form.precision]:
        raise InputError(
            f"{path} is not written: the export is {worst:.3g} levels of 255 off the network,"
            f" {TOLERANCES[form.precision]:.3g} are tolerated in {form.precision}"
        )
    atomic.write_bytes(path, exported)
    return worst


def _check(program: _Program, model: DCENet, form: ExportOptions) -> float:
    enhancer = Enhancer(model, scale=form.scale)
    generator = torch.Generator().manual_seed(0)
    worst = []
    for (batch, height, width), brightest in zip(_CHECKED, _BRIGHTEST, strict=True):
        size = (batch, height + enhancer.scale, width + enhancer.scale, 3)
        pictures = torch.randint(0, brightest, size, dtype=torch.uint8, generator=generator)
        images = (pictures.permute(0, 3, 1, 2) / 255).contiguous()
        with torch.inference_mode():
            result = program(pictures if form.uint8 else images)
        worst.append(error(result, enhancer(images).numpy()))
    return float(np.max(worst))


def error(result: NDArray[Any], expected: NDArray[Any]) -> float:
    """The largest distance of enhanced images from ``expected`` (B, 3, H, W) in [0, 1], in levels of 255.

    Of pictures, uint8 (B, H, W, 3), what goes beyond the half level of their rounding; infinite where shapes differ.
    """
    pictures = result.dtype == np.uint8
    levels = 255.0 * (expected.transpose(0, 2, 3, 1) if pictures else expected)
    if result.shape != levels.shape:
        return float("inf")
    if pictures:
        return float(np.maximum(np.abs(result - levels) - 0.5, 0.0).max())
    return float(np.abs(255.0 * result - levels).max())
