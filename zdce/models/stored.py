"""Trained networks as read from their files: a variant's description and its weights as arrays, without PyTorch."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
from numpy.typing import NDArray

from zdce.errors import InputError, MissingFileError, ZdceError, library_call
from zdce.models import weights
from zdce.models.variants import Variant

# The safetensors metadata key that holds the variant as JSON.
VARIANT_KEY = "zdce.variant"

Weights = NDArray[np.float32]

# NumPy's types of the floating-point numbers that files may hold, by their names there; BF16 is the upper half of a float32.
_FLOATS = {"F16": np.float16, "F32": np.float32, "F64": np.float64, "BF16": np.uint16}


@dataclass(frozen=True, eq=False)
class StoredNetwork:
    """A trained network as arrays, which ``zdce.Enhancer`` can run on the CPU.

    Attributes:
        variant: description of the network.
        weights: float32 arrays by the names of ``DCENet``'s parameters, in their order; finite and without subnormals.
    """

    variant: Variant
    weights: Mapping[str, Weights]


def shapes(variant: Variant) -> dict[str, tuple[int, ...]]:
    """Shapes of the parameters of ``DCENet(variant)``, by their names and in their order.

    >>> shapes(zdce.models.variants.VARIANTS["base"])["convolutions.0.weight"]
    (16, 3, 3, 3)
    """
    found: dict[str, tuple[int, ...]] = {}
    for n, (inputs, outputs) in enumerate(variant.convolutions()):
        layer = f"convolutions.{n}"
        if variant.separable:
            found |= {f"{layer}.depthwise.weight": (inputs, 1, 3, 3), f"{layer}.depthwise.bias": (inputs,)}
            found |= {f"{layer}.pointwise.weight": (outputs, inputs, 1, 1), f"{layer}.pointwise.bias": (outputs,)}
        else:
            found |= {f"{layer}.weight": (outputs, inputs, 3, 3), f"{layer}.bias": (outputs,)}
    return found


def read(path_or_name: str | Path) -> StoredNetwork:
    """The network of a file, or the one that is shipped under a name; subnormal weights are 0.

    Raises:
        FileNotFoundError: there is no such file.
        TypeError: ``path_or_name`` is neither a name nor a path.
        ValueError: the file has no network of zdce, or one whose weights are not finite or do not fit the variant that it
            describes; or the variant has no shipped weights.

    >>> from zdce.models import stored
    >>> stored.read("base").variant.name
    'base'
    """
    if not isinstance(path_or_name, str | os.PathLike):
        raise TypeError(f"path_or_name must be a network's name or a path, got {type(path_or_name).__name__}")
    path = weights.resolve(path_or_name)
    if not path.is_file():
        expected = f"one of {', '.join(weights.names())}, or a .safetensors file of zdce train"
        raise MissingFileError(f"no weights at {path}: expected {expected}")
    try:
        variant = _described(path)
        values = _values(path)
    except ZdceError as error:
        raise InputError(f"{path} holds no zdce network: {error}") from error
    return StoredNetwork(variant, {name: values[name] for name in shapes(variant)})


def _described(path: Path) -> Variant:
    """The variant that a file describes, after a check that the file has its parameters; no values are read.

    Raises:
        InputError, FileError: the file describes no variant, or has other parameters.
    """
    with library_call(InputError), safetensors.safe_open(path, framework="np") as file:
        metadata: dict[str, str] = file.metadata() or {}
        held = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    if VARIANT_KEY not in metadata:
        raise InputError(f"expected {VARIANT_KEY!r} in its metadata, got {', '.join(metadata) or 'none'}")
    with library_call(InputError):
        description = json.loads(metadata[VARIANT_KEY])
    variant = Variant.from_dict(description)
    expected = shapes(variant)
    for name in sorted({*expected, *held}):
        if expected.get(name) != held.get(name):
            raise InputError(f"{name} must be {_shaped(expected, name)} in {variant.name!r}, got {_shaped(held, name)}")
    return variant


def _shaped(all_shapes: dict[str, tuple[int, ...]], name: str) -> str:
    return f"of shape {all_shapes[name]}" if name in all_shapes else "absent"


def _values(path: Path) -> dict[str, Weights]:
    """The tensors of a file by name, float32, without subnormals.

    Raises:
        InputError, FileError: tensors can't be read, or are not finite floating-point numbers.
    """
    data = path.read_bytes()
    with library_call(InputError):
        tensors = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
    found = {}
    for name, tensor in tensors:
        if tensor["dtype"] not in _FLOATS:
            raise InputError(f"{name} must be floating-point, got {tensor['dtype']}")
        values = without_subnormals(_floats(tensor["dtype"], tensor["data"]))
        if not np.isfinite(values).all():
            raise InputError(f"{name} must be finite, got values that are not")
        found[name] = values.reshape(tensor["shape"])
    return found


def _floats(dtype: str, data: bytes) -> Weights:
    """A tensor's bytes, little-endian in every file, as float32; numbers beyond its range become infinite."""
    stored = np.frombuffer(data, np.dtype(_FLOATS[dtype]).newbyteorder("<"))
    if dtype == "BF16":
        return (stored.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):
        return stored.astype(np.float32)


def without_subnormals(values: Weights) -> Weights:
    # Weight decay leaves subnormals in dead filters (a third of the published Zero-DCE's weights). On the CPU they make
    # convolutions 30 times slower; their contribution is below the rounding of any result.
    return np.where(np.abs(values) < np.finfo(np.float32).tiny, np.float32(0), values)
