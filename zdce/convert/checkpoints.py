"""PyTorch checkpoints of training programs: search for the network's parameters among their contents."""

import argparse
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from zdce.errors import InputError

# Types that checkpoints hold beside tensors: a command line's options, NumPy's numbers. None runs code of the file when made.
_SCALAR: Any = np.float64(0).__reduce__()[0]
_HARMLESS: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *(type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32, np.bool_)),
    (_SCALAR, "numpy.core.multiarray.scalar"),  # NumPy 1's name.
    (_SCALAR, "numpy._core.multiarray.scalar"),
]

# Layers of mappings in a file: {"state": {"model": {name: tensor}}} has three.
_DEEPEST = 3

# Parts of names of averages of the weights over the training; these are the better weights.
_AVERAGED = re.compile(r"(?:^|[^a-z])(?:ema|averaged)(?:[^a-z]|$)", re.IGNORECASE)


@dataclass(frozen=True)
class Parameters:
    """A network's parameters in a checkpoint.

    Attributes:
        place: keys of the mappings that lead to them, and the prefix of their names, such as ``state_dict.model.``.
        tensors: tensors by their names without that prefix.
    """

    place: str
    tensors: Mapping[str, Tensor]

    @property
    def averaged(self) -> bool:
        """Whether the place says that they are an average over the training (EMA)."""
        return bool(_AVERAGED.search(self.place))


def load(path: Path) -> Any:
    """The content of a checkpoint, ``torch.save``'s or ``.safetensors``; code in it is not run.

    Raises:
        InputError: the file is not a checkpoint, or can't be read without running code.
    """
    holds_tensors_only = _is_safetensors(path)
    try:
        if holds_tensors_only:
            return safetensors.torch.load_file(path)
        with torch.serialization.safe_globals(_HARMLESS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # Torch raises many types of exceptions for broken files.
        raise InputError(
            f"{path}: expected a PyTorch state dict that loads without running code, or a Keras .h5 or .keras file"
        ) from error


def _is_safetensors(path: Path) -> bool:
    """Whether the file begins like ``.safetensors`` files: 8 bytes for a length, then JSON."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def networks(loaded: object, known: re.Pattern[str]) -> list[Parameters]:
    """All networks in a checkpoint that have parameters with ``known`` names, averages over the training first.

    A network's parameters are all tensors with one prefix (``module.``, ``model.``); with no prefix, all tensors of a mapping.

    Args:
        loaded: content of the file.
        known: a regular expression for whole names without a prefix.
    """
    found = [one for place, state in _states(loaded) for one in _by_prefix(place, state, known)]
    return sorted(found, key=lambda one: not one.averaged)


def tensor_names(loaded: object) -> list[str]:
    """Names of all tensors in a checkpoint."""
    return [name for _, state in _states(loaded) for name in state]


def _states(loaded: object) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The tensors of each mapping in a checkpoint, by the keys that lead there, each mapping once."""
    found: list[tuple[str, object]] = [("", loaded)]
    seen: set[int] = set()
    for _ in range(_DEEPEST):
        inside: list[tuple[str, object]] = []
        for place, value in found:
            if not isinstance(value, Mapping) or id(value) in seen:
                continue
            seen.add(id(value))
            named = {key: item for key, item in value.items() if isinstance(key, str)}
            if state := {key: item for key, item in named.items() if isinstance(item, Tensor)}:
                yield place, state
            inside += [(f"{place}{key}.", item) for key, item in named.items() if isinstance(item, Mapping)]
        found = inside


def _by_prefix(place: str, state: dict[str, Tensor], known: re.Pattern[str]) -> Iterator[Parameters]:
    pattern = re.compile(rf"((?:.+\.)?)(?:{known.pattern})")
    prefixes = dict.fromkeys(match.group(1) for name in state if (match := pattern.fullmatch(name)))
    for prefix in prefixes:
        tensors = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        yield Parameters(place + prefix, tensors)
