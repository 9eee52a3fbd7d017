"""Import of weights from other programs: the authors' PyTorch files, and files of the Keras example."""

import io
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zdce.convert import checkpoints
from zdce.convert.checkpoints import Parameters
from zdce.errors import InputError, MissingFileError, library_call
from zdce.models import stored
from zdce.models.network import DCENet
from zdce.models.variants import CURVE, VARIANTS, Variant
from zdce.runtime import packages

LICENCE = (
    "the weights that the authors of Zero-DCE and Zero-DCE++ published are for academic use only; so is what is made from them"
)
SCI_LICENCE = (
    "the weights that the authors of SCI published are under the MIT licence, whose notice must go with what is made from them;"
    " the pictures that they were trained on (MIT-Adobe FiveK, LOL, LSRW, DARK FACE) have terms of their own"
)

# The convolutions of a file in order, each with its parameters by their names in ``DCENet``.
_Layers = list[dict[str, Tensor]]

Floats = NDArray[np.float32]

_HDF5 = b"\x89HDF\r\n\x1a\n"
_KERAS_WEIGHTS = "model.weights.h5"
# Upper bound of the unpacked bytes of an archive, and of a Keras file. The largest network has 320 kB, its optimizer twice
# that.
_MOST_BYTES = 1 << 26

_PUBLISHED = ("zero-dce", "zero-dce-pp")
_EXPECTED = "expected the parameters e_conv1 to e_conv7 of Zero-DCE or Zero-DCE++, or those of SCI's illumination estimation"
_PUBLISHED_KEY = re.compile(r"e_conv(\d+)\.(?:(depth|point)_conv\.)?(weight|bias)")
_PARTS = {None: "", "depth": "depthwise.", "point": "pointwise."}

# Parameters of SCI's illumination estimation. The calibration network beside it, used only in its training, has others.
_SCI_LAYERS, _SCI_NORM = ("in_conv.0", "conv.0", "out_conv.0"), ("weight", "bias", "running_mean", "running_var")
_SCI: dict[str, tuple[int, ...]] = {f"{layer}.weight": (3, 3, 3, 3) for layer in _SCI_LAYERS}
_SCI |= {f"{layer}.bias": (3,) for layer in _SCI_LAYERS} | {f"conv.1.{name}": (3,) for name in _SCI_NORM}
_SCI_KEY = re.compile("|".join(map(re.escape, _SCI)))
_SCI_BLOCK = re.compile(r"blocks\.(\d+)\..+")

# Constant that PyTorch's batch normalisation adds to a variance.
_NORM_EPSILON = 1e-5


@dataclass(frozen=True)
class Imported:
    """A network from a file of another program.

    Attributes:
        model: network in eval mode, on the CPU.
        origin: recognised kind of the file.
        licence: conditions for the weights that were published in such files.
    """

    model: DCENet
    origin: str
    licence: str = LICENCE


def read(path: Path) -> Imported:
    """Reads weights; the kind of file is recognised by its content, and code in it is not run.

    Args:
        path: a PyTorch state dict of the authors' Zero-DCE, Zero-DCE++ or SCI, alone or in a checkpoint of a training program,
            also as ``.safetensors``; if a checkpoint has an average of the weights over the training (EMA), that average is
            taken. Or a network of the Keras example as ``.keras``, ``.weights.h5`` or ``.h5`` of Keras 2 or 3, also in the
            sizes of the report. Keras files need h5py (extra ``keras``), not Keras.

    Raises:
        FileNotFoundError: the file does not exist.
        InputError: the file is of another kind, or h5py is missing.
    """
    if not path.is_file():
        raise MissingFileError(f"no such file: {path}")
    with path.open("rb") as file:
        start = file.read(len(_HDF5))
    if start == _HDF5:
        return _from_keras(path, path.read_bytes())
    if (weights := _in_keras_archive(path)) is not None:
        return _from_keras(path, weights)
    return _from_pytorch(path)


def _in_keras_archive(path: Path) -> bytes | None:
    """Weights in a .keras file; None for another file."""
    try:
        with library_call(InputError):  # zipfile raises many types of exceptions for broken files.
            if not zipfile.is_zipfile(path):
                return None
            archive = zipfile.ZipFile(path)
        with archive:
            _check_unpacked(archive, path.stat().st_size)
            if _KERAS_WEIGHTS not in archive.namelist():
                return None
            with library_call(InputError), archive.open(_KERAS_WEIGHTS) as file:
                return file.read(archive.getinfo(_KERAS_WEIGHTS).file_size)  # No more than the checked size.
    except InputError as error:
        raise InputError(f"{path}: the archive is broken: {error}") from error


def _check_unpacked(archive: zipfile.ZipFile, size: int) -> None:
    """Checks the archive of ``size`` bytes before a file of Keras or PyTorch is unpacked; PyTorch does not compress."""
    files = archive.infolist()
    if any(file.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for file in files):
        raise InputError("expected files that are stored or deflated")
    if (unpacked := sum(file.file_size for file in files)) > max(_MOST_BYTES, size):
        raise InputError(f"expected at most {_MOST_BYTES} bytes, got {unpacked} unpacked")


def _from_pytorch(path: Path) -> Imported:
    loaded = checkpoints.load(path)
    if sci := [one for one in checkpoints.networks(loaded, _SCI_KEY) if _SCI.keys() <= one.tensors.keys()]:
        return _from_sci(path, _only(path, sci))
    found = _published(path, loaded)
    layers = _published_layers(path, _dense(path, found.tensors))
    variant = _variant_of(path, layers, [VARIANTS[name] for name in _PUBLISHED])
    place = f", {found.place.rstrip('.')}" if found.place else ""
    return Imported(_network(path, variant, layers), f"{variant.summary} ({variant.name}), PyTorch{place}")


def _from_sci(path: Path, found: Parameters) -> Imported:
    """SCI's illumination estimation: three convolutions, of which the second is normalised and added to the first."""
    blocks = {match.group(1) for name in found.tensors if (match := _SCI_BLOCK.fullmatch(name))}
    if len(blocks) > 1:
        raise InputError(f"{path}: expected SCI with 1 residual block, got {len(blocks)}")
    state = {name: value.double() for name, value in _dense(path, {name: found.tensors[name] for name in _SCI}).items()}
    for name, shape in _SCI.items():
        if state[name].shape != shape:
            raise InputError(f"{path}: expected SCI with 3 channels, {name} {shape}, got {tuple(state[name].shape)}")
    factor, offset, mean, variance = (state[f"conv.1.{name}"] for name in _SCI_NORM)
    gain = factor / (variance + _NORM_EPSILON).sqrt()
    # sigmoid(l) = (1 + tanh(l / 2)) / 2; and the convolution of a sum is the sum of convolutions with the same filters.
    last = state["out_conv.0.weight"] / 2
    layers = [
        {"weight": state["in_conv.0.weight"], "bias": state["in_conv.0.bias"]},
        {
            "weight": state["conv.0.weight"] * gain[:, None, None, None],
            "bias": (state["conv.0.bias"] - mean) * gain + offset,
        },
        {"weight": torch.cat([last, last], 1), "bias": state["out_conv.0.bias"] / 2},
    ]
    place = f", {found.place.rstrip('.')}" if found.place else ""
    return Imported(_network(path, VARIANTS["sci"], layers), f"SCI (sci), PyTorch{place}", SCI_LICENCE)


def _published(path: Path, loaded: object) -> Parameters:
    """The one network of a checkpoint; of two, the one that is the average of the other's weights."""
    found = checkpoints.networks(loaded, _PUBLISHED_KEY)
    if not found:
        names = checkpoints.tensor_names(loaded)
        raise InputError(f"{path}: {_EXPECTED}, got {f'{names[0]!r}' if names else '0 tensors'}")
    return _only(path, found)


def _only(path: Path, found: Sequence[Parameters]) -> Parameters:
    """The one network, or the average of the other's weights."""
    if len(found) > 1 and found[0].averaged == found[1].averaged:
        raise InputError(f"{path}: expected one network, got those of {' and '.join(repr(one.place) for one in found)}")
    return found[0]


def _dense(path: Path, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """``state``, after a check that its tensors are dense."""
    for name, tensor in state.items():
        if tensor.layout != torch.strided or tensor.is_meta or not tensor.is_floating_point():
            kind = "meta" if tensor.is_meta else f"{tensor.layout}, {tensor.dtype}"
            raise InputError(f"{path}: expected dense floating-point tensors, got {name!r} ({kind})")
    return state


def _published_layers(path: Path, state: Mapping[str, Tensor]) -> _Layers:
    layers: dict[int, dict[str, Tensor]] = {}
    for key, value in state.items():
        match = _PUBLISHED_KEY.fullmatch(key)
        if match is None:  # One layer more than the published networks have.
            raise InputError(f"{path}: {_EXPECTED}, got {key!r}")
        number, part, parameter = match.groups()
        layers.setdefault(int(number), {})[_PARTS[part] + parameter] = value
    if sorted(layers) != list(range(1, 8)):
        raise InputError(f"{path}: {_EXPECTED}, got {len(state)} tensors")
    return [layers[number] for number in sorted(layers)]


def _from_keras(path: Path, content: bytes) -> Imported:
    packages.require("h5py", extra="keras")
    import h5py

    try:
        with library_call(InputError):  # h5py raises many types of exceptions for broken files.
            opened = h5py.File(io.BytesIO(content), "r")
        with opened as file:
            arrays = _keras_convolutions(file, h5py.Dataset)
    except InputError as error:
        raise InputError(f"{path}: the HDF5 file is broken: {error}") from error
    # Keras keeps filters as (height, width, in, out).
    layers = [
        {"weight": torch.from_numpy(kernel).permute(3, 2, 0, 1).contiguous(), "bias": torch.from_numpy(bias)}
        for kernel, bias in arrays
    ]
    variant = _variant_of(path, layers, [v for v in VARIANTS.values() if v.formula == CURVE and not v.separable])
    for layer, sources in zip(layers, variant.sources, strict=True):
        layer["weight"] = _in_order(layer["weight"], variant, sources)
    return Imported(_network(path, variant, layers), f"the Keras example's network ({variant.name})")


def _keras_convolutions(file: Any, dataset: type) -> list[tuple[Floats, Floats]]:
    """Kernel and bias of each convolution, in the file's order of layers."""
    found: dict[str, dict[int, Any]] = {}
    for name in _keras_names(file, dataset):
        place, _, _ = name.rpartition("/")
        with library_call(InputError):
            found.setdefault(place, {})[file[name].ndim] = file[name]
    layers = [(arrays[4], arrays[1]) for arrays in found.values() if set(arrays) == {4, 1}]
    with library_call(InputError):
        # Sizes before reading: arrays may be compressed, or empty and filled with one value.
        size = sum(kernel.nbytes + bias.nbytes for kernel, bias in layers)
    if size > _MOST_BYTES:
        raise InputError(f"expected convolutions of at most {_MOST_BYTES} bytes, got {size}")
    with library_call(InputError):
        return [(kernel[()].astype(np.float32), bias[()].astype(np.float32)) for kernel, bias in layers]


def _keras_names(file: Any, dataset: type) -> Iterable[str]:
    """Paths of all weights in the order of layers, without those of an optimizer."""
    with library_call(InputError):
        layered = file.get("model_weights", file)
        if "layer_names" in layered.attrs:  # Keras 2, and Keras 3 for files that end in .h5.
            return [
                f"{layered[layer].name}/{_text(weight)}"
                for layer in map(_text, layered.attrs["layer_names"])
                for weight in layered[layer].attrs["weight_names"]
            ]
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, dataset) else None)
    # Keras 3 numbers the layers of a class in order: conv2d, conv2d_1, ..., conv2d_10.
    return sorted((name for name in names if "optimizer" not in name.split("/")), key=_natural)


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _in_order(weight: Tensor, variant: Variant, sources: Sequence[int]) -> Tensor:
    """``weight`` (O, C, 3, 3) with input channels in the order of ``sources``; the Keras example has deeper layers first."""
    widths = [3] + [outputs for _, outputs in variant.convolutions()]
    theirs = sorted(sources, reverse=True)
    blocks = dict(zip(theirs, weight.split([widths[source] for source in theirs], dim=1), strict=True))
    return torch.cat([blocks[source] for source in sources], dim=1)


def _variant_of(path: Path, layers: _Layers, candidates: Iterable[Variant]) -> Variant:
    """First candidate whose parameters have the names and shapes of ``layers``."""
    shapes = _shapes(_state(layers))
    known = list(candidates)
    for variant in known:
        with torch.device("meta"):
            if _shapes(DCENet(variant).state_dict()) == shapes:
                return variant
    got = [tuple(layer["weight"].shape) if "weight" in layer else "separable" for layer in layers]
    raise InputError(f"{path}: expected the convolutions of one of {', '.join(v.name for v in known)}, got {got or 'none'}")


def _state(layers: _Layers) -> dict[str, Tensor]:
    return {f"convolutions.{n}.{name}": value for n, layer in enumerate(layers) for name, value in layer.items()}


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in state.items()}


def _network(path: Path, variant: Variant, layers: _Layers) -> DCENet:
    state = {name: value.float() for name, value in _state(layers).items()}
    broken = [name for name, value in state.items() if not value.isfinite().all()]
    if broken:
        raise InputError(f"{path}: expected finite weights, got others in {broken[0]}")
    model = DCENet(variant)
    model.load_state_dict({name: torch.from_numpy(stored.without_subnormals(value.numpy())) for name, value in state.items()})
    return model.eval()
