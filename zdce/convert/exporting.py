"""Export of networks for other programs, with curve and resampling, checked before they are written."""

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from zdce import reference
from zdce.convert import darktable, litert, ncnn
from zdce.enhancement.enhancer import Enhancer
from zdce.errors import InputError
from zdce.models import stored
from zdce.models.network import DCENet
from zdce.models.present_weights import present_weights
from zdce.runtime import atomic, packages
from zdce.settings import LEVELS

PRECISIONS = ("fp32", "fp16")

# Largest error of an export without rounding, in levels of 255. float32: 1e-4 of the range, as for single operations. float16:
# 11 bits make a relative error of a thousandth in the logits, and half a level or less in the result; more with larger weights.
TOLERANCES = {"fp32": 1e-4 * LEVELS, "fp16": 2.0}

_EXPORTER = ("onnx", "onnxscript")
_ONNX = (*_EXPORTER, "onnxruntime")

# Sizes (B, H, W) of the check; the scale is added to both sides. They include odd sides and more than one image.
_CHECKED_SIZES = ((1, 48, 64), (2, 33, 71), (1, 101, 36))

# Upper bound of the scale: a program is traced with an image whose sides are more than twice the scale.
MOST_SCALE = 512

# Upper bound of the sides in files of one size.
MOST_SIDE = 16384

# Upper bounds of the levels of the checked pictures: the strength is adapted in dark scenes and not in lit ones.
_BRIGHTEST = (32, 64, 256)

# An exported program, from images (B, 3, H, W) float32 or (B, H, W, 3) uint8 to the same.
_Program = Callable[[Tensor], NDArray[Any]]


@dataclass(frozen=True)
class ExportOptions:
    """Input format and precision of an exported network.

    Attributes:
        precision: precision of convolutions and weights, ``"fp32"`` or ``"fp16"``; images and curve are float32 in both.
        scale: the curve is estimated on an image this many times smaller; None: the variant's own scale.
        uint8: whether images are uint8 (B, H, W, 3) instead of float32 (B, 3, H, W) in [0, 1].
        size: height and width of all images, for formats that allow only one size.

    Raises:
        InputError: a value is out of range.
    """

    precision: str = "fp32"
    scale: int | None = None
    uint8: bool = False
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise InputError(f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}")
        if self.scale is not None and not 1 <= self.scale <= MOST_SCALE:
            raise InputError(f"scale must be 1 to {MOST_SCALE}, got {self.scale}")
        if self.size is not None and not all(1 <= side <= MOST_SIDE for side in self.size):
            raise InputError(f"size must be two sides from 1 to {MOST_SIDE}, got {self.size[0]}x{self.size[1]}")


class _HalfPrecision(DCENet):
    """A network with float16 weights and float32 images and logits."""

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image.half()).float()


class _ExportedNetwork(nn.Module):
    """The exported computation, in torch's own operators."""

    def __init__(self, model: DCENet, form: ExportOptions) -> None:
        super().__init__()
        kind, dtype = (_HalfPrecision, torch.float16) if form.precision == "fp16" else (DCENet, torch.float32)
        self.model = kind(model.variant)
        self.model.load_state_dict(present_weights(model, model.variant))
        self.model.to(dtype)
        self.form = form
        self.eval().requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        if not self.form.uint8:
            return self._enhanced(image)
        enhanced = self._enhanced(image.permute(0, 3, 1, 2).to(torch.float32) / LEVELS)
        return (enhanced * LEVELS).round().to(torch.uint8).permute(0, 2, 3, 1)

    def _enhanced(self, image: Tensor) -> Tensor:
        return self.model.enhance(image, self.form.scale, reference.apply_curve, LEVELS if self.form.uint8 else None)


def _argument(model: DCENet, form: ExportOptions) -> tuple[Tensor, dict[int, str]]:
    """An image to trace with, whose sides no scale divides, and the axes of variable length."""
    side = max(41, 2 * (form.scale or model.variant.scale) + 1)
    image = torch.zeros(2, 3, side, side + 2)
    if form.uint8:
        return image.permute(0, 2, 3, 1).to(torch.uint8), {0: "batch", 1: "height", 2: "width"}
    return image, {0: "batch", 2: "height", 3: "width"}


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses warnings of the exporter, which names every library that it does not find."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _sort_in_onnx(values: Any, stable: bool | None = None, dim: int = -1, descending: bool = False) -> Any:
    """``torch.ops.aten.sort.stable`` in ONNX's operators: TopK returns the first of equal values first."""
    import onnxscript

    op: Any = onnxscript.opset18
    length = op.Gather(op.Shape(values), op.Constant(value_ints=[dim]), axis=0)
    return op.TopK(values, length, axis=dim, largest=int(descending), sorted=1)


# Translations of operators that the exporter does not know.
TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {torch.ops.aten.sort.stable: _sort_in_onnx}


def to_onnx(model: DCENet, form: ExportOptions) -> bytes:
    """The network as an ONNX file: input ``image``, output ``enhanced``, any batch, height and width.

    Raises:
        InputError: onnx or onnxscript is missing.
    """
    packages.require(*_EXPORTER, extra="export")
    image, axes = _argument(model, form)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            _ExportedNetwork(model, form), (image,), input_names=["image"], output_names=["enhanced"], dynamic_shapes=(axes,),
            dynamo=True, verbose=False, custom_translation_table=TRANSLATIONS,
        )  # fmt: skip
    assert program is not None
    program.model.metadata_props.update(_description(model, form))
    return program.model_proto.SerializeToString()


def to_pt2(model: DCENet, form: ExportOptions) -> bytes:
    """The network as a file for ``torch.export.load``: it runs without zdce, with any batch size, and sides above the scale."""
    image, axes = _argument(model, form)
    dynamic = dict.fromkeys(axes, torch.export.Dim.DYNAMIC)
    file = io.BytesIO()
    with _quiet(), torch.no_grad():
        program = torch.export.export(_ExportedNetwork(model, form), (image,), dynamic_shapes=(dynamic,))
        torch.export.save(program, file, extra_files=_description(model, form))
    return file.getvalue()


def _description(model: DCENet, form: ExportOptions) -> dict[str, str]:
    scale = str(form.scale or model.variant.scale)
    return {stored.VARIANT_KEY: json.dumps(model.variant.to_dict()), "zdce.scale": scale, "zdce.precision": form.precision}


def _to_ncnn(model: DCENet, form: ExportOptions, name: str) -> bytes:
    _check_local("ncnn files", model, form)
    return ncnn.packed(*ncnn.convert(to_onnx(model, replace(form, precision="fp32")), half=form.precision == "fp16"))


def _to_darktable(model: DCENet, form: ExportOptions, name: str) -> bytes:
    _check_local("packages for darktable", model, form)
    darktable.check_name(name)
    return darktable.package(to_onnx(model, form), name, model.variant)


def _to_litert(model: DCENet, form: ExportOptions, name: str) -> bytes:
    if model.variant.brightness or model.variant.noise:
        raise InputError(
            f".tflite files are for networks without scene strength and noise smoothing, such as base, got {model.variant.name}"
        )
    if form.uint8 or form.precision != "fp32":
        raise InputError(".tflite files are float32 and take float32 images; leave uint8 and precision out")
    assert form.size is not None
    with _quiet():
        return litert.convert(_ExportedNetwork(model, form), torch.zeros(1, 3, *form.size))


def _check_local(what: str, model: DCENet, form: ExportOptions) -> None:
    """Raises InputError if pixels of ``form`` depend on more than their surroundings: on the scene, or on a smaller image."""
    variant = model.variant
    if variant.brightness or variant.noise or (form.scale or variant.scale) != 1:
        raise InputError(
            f"{what} are for networks that see a few pixels around each, such as base, iters4 and zero-dce, at scale 1, got"
            f" {variant.name} at scale {form.scale or variant.scale}"
        )
    if form.uint8:
        raise InputError(f"{what} take float32 images; leave uint8 out")


def _in_onnxruntime(content: bytes) -> _Program:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # Suppresses warnings about float16 operators that run in float32.
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda image: session.run(["enhanced"], {"image": image.numpy()})[0]


def _in_torch(content: bytes) -> _Program:
    with _quiet():
        program = torch.export.load(io.BytesIO(content)).module()
    return lambda image: program(image).numpy()


@dataclass(frozen=True)
class _Format:
    """A format of exported files.

    Attributes:
        write: function from a network, options and the file's name without the suffix to its content.
        run: function from a content to the program in it, as users run it.
        packages: packages that both need, and the extra that installs them.
        files: function from a content to the contents of several files by suffix; None if it is one file.
        sized: whether it allows only images of one size.
    """

    write: Callable[[DCENet, ExportOptions, str], bytes]
    run: Callable[[bytes], _Program]
    packages: tuple[str, ...] = ()
    extra: str = "export"
    files: Callable[[bytes], dict[str, bytes]] | None = None
    sized: bool = False


def _in_darktable(content: bytes) -> _Program:
    run = _in_onnxruntime(darktable.model_in(content))
    return lambda images: np.concatenate([run(image) for image in images.split(1)])


_FORMATS = {
    ".onnx": _Format(lambda model, form, name: to_onnx(model, form), _in_onnxruntime, _ONNX),
    ".pt2": _Format(lambda model, form, name: to_pt2(model, form), _in_torch),
    ".param": _Format(_to_ncnn, ncnn.program, ("ncnn", "pnnx", *_EXPORTER), extra="ncnn", files=ncnn.unpacked),
    ".dtmodel": _Format(_to_darktable, _in_darktable, _ONNX),
    ".tflite": _Format(_to_litert, litert.program, ("litert_torch",), extra="litert", sized=True),
}


def content(model: DCENet, suffix: str, form: ExportOptions, name: str = "zdce") -> bytes:
    """Content of a file with that suffix and name, such as ``.onnx`` or ``.pt2``, not checked; raises as ``to_onnx``."""
    return _FORMATS[suffix].write(model, form, name)


def export(model: DCENet, path: Path, form: ExportOptions) -> float:
    """Writes the network for other programs, after a comparison with ``zdce.Enhancer``.

    Args:
        model: a float32 network on the CPU.
        path: ``.onnx``, ``.pt2`` for a ``torch.export`` program, ``.param`` for ncnn, with the weights in a ``.bin`` file
            beside it, ``.dtmodel`` for darktable, or ``.tflite`` for LiteRT; an existing file is replaced.
        form: input format and precision.

    Returns:
        Largest difference at three sizes, in levels of 255, without the rounding of a uint8 result.

    Raises:
        InputError: the suffix is unknown, an extra is missing, the format can't hold such a network, or the differences are
            too large; no file is written.
    """
    if path.suffix not in _FORMATS:
        raise InputError(f"{path}: expected one of the formats {', '.join(_FORMATS)}")
    kind = _FORMATS[path.suffix]
    if kind.sized and form.size is None:
        raise InputError(f"{path}: files for LiteRT take images of one size: expected size, a height and a width")
    if form.size is not None and not kind.sized:
        raise InputError(f"{path}: {path.suffix} files take any size; leave size out")
    if kind.packages:
        packages.require(*kind.packages, extra=kind.extra)
    exported = content(model, path.suffix, form, path.stem)
    worst = _check(kind.run(exported), model, form)
    if not worst <= TOLERANCES[form.precision]:
        raise InputError(
            f"{path} is not written: its results differ from the network's by {worst:.3g} levels of 255, more than"
            f" {TOLERANCES[form.precision]:.3g} for {form.precision}"
        )
    for suffix, data in (kind.files(exported) if kind.files else {path.suffix: exported}).items():
        atomic.write_bytes(path.with_suffix(suffix), data)
    return worst


def _check(program: _Program, model: DCENet, form: ExportOptions) -> float:
    enhancer = Enhancer(model, scale=form.scale, noise=model.variant.noise)
    generator = torch.Generator().manual_seed(0)
    worst = []
    for (batch, height, width), brightest in zip(_CHECKED_SIZES, _BRIGHTEST, strict=True):
        size = (batch, *(form.size or (height + enhancer.scale, width + enhancer.scale)), 3)
        pictures = torch.randint(0, brightest, size, dtype=torch.uint8, generator=generator)
        images = (pictures.permute(0, 3, 1, 2) / LEVELS).contiguous()
        # Pictures are rounded before they are denoised; floating-point images are not.
        rounded = form.uint8 and model.variant.noise > 0
        expected = np.stack([enhancer(picture.numpy()) for picture in pictures]) if rounded else enhancer(images).numpy()
        with torch.inference_mode():
            result = program(pictures if form.uint8 else images)
        worst.append(error(result, expected))
    return float(np.max(worst))


def error(result: NDArray[Any], expected: NDArray[Any]) -> float:
    """Largest difference of enhanced images from ``expected`` (B, 3, H, W) in [0, 1], in levels of 255.

    For pictures, uint8 (B, H, W, 3), half a level of rounding is subtracted. Infinite if shapes differ. If ``expected`` are
    pictures too, single values may be rounded differently: the result is then the mean difference, or the largest one minus a
    level if that is more.
    """
    if expected.dtype == np.uint8:
        off = np.abs(result.astype(float) - expected) if result.shape == expected.shape else np.array([np.inf])
        return float(max(off.max() - 1, off.mean()))
    pictures = result.dtype == np.uint8
    levels = float(LEVELS) * (expected.transpose(0, 2, 3, 1) if pictures else expected)
    if result.shape != levels.shape:
        return float("inf")
    if pictures:
        return float(np.maximum(np.abs(result - levels) - 0.5, 0.0).max())
    return float(np.abs(float(LEVELS) * result - levels).max())
