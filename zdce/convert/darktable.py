"""Packages for darktable's neural restoration: a zip file with an ONNX file and its description."""

import io
import json
import re
import zipfile

from zdce.errors import InputError
from zdce.models.variants import Variant
from zdce.version import __version__

# The task in darktable for networks whose result has the size of their input.
TASK = "denoise"

# Names of files in the package's folder, and of the sides in the ONNX file.
_CONFIG, _MODEL = "config.json", "model.onnx"
_SIDES = ("height", "width")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

# Fields that every description needs.
_FIELDS = ("id", "name", "description", "task", "backend", "version")


def check_name(name: str) -> None:
    """Raises InputError if ``name``, of a package, can't be the name of a folder in darktable."""
    if not _NAME.fullmatch(name) or ".." in name:
        raise InputError(
            f"darktable knows a package by its file's name: expected letters, digits, -, _ and single dots, got {name!r}"
        )


def package(onnx: bytes, name: str, variant: Variant) -> bytes:
    """The content of ``NAME.dtmodel``; darktable shows the network under this name."""
    described = {
        "id": name, "name": f"brighten ({variant.name})", "description": "brightens dark photographs (zdce)", "task": TASK,
        "arch": "zero-dce", "backend": "onnx", "version": __version__, "tiling": True, "num_inputs": 1,
        "spatial_dims": list(_SIDES),
        "model_card": {
            "scope": "low-light enhancement", "paper": "https://arxiv.org/abs/2001.06826",
            "long_description": "A small network estimates a light-enhancement curve for every pixel (Zero-DCE, Guo et al.).",
        },
    }  # fmt: skip
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        for path, data in ((_CONFIG, json.dumps(described, indent=4).encode()), (_MODEL, _for_one_image(onnx))):
            file.writestr(zipfile.ZipInfo(f"{name}/{path}"), data, zipfile.ZIP_DEFLATED)
    return content.getvalue()


def model_in(content: bytes) -> bytes:
    """The ONNX file in a package, found in the same way as in darktable.

    Raises:
        InputError: darktable would not install or not use the package.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        names = file.namelist()
        name, _, _ = names[0].partition("/")
        if not all(other.startswith(f"{name}/") and ".." not in other for other in names):
            raise InputError(f"expected a package with one folder, {name}, got {', '.join(names)}")
        described = json.loads(file.read(f"{name}/{_CONFIG}"))
        model = file.read(f"{name}/{_MODEL}")
    if lacking := [field for field in _FIELDS if field not in described]:
        raise InputError(f"{_CONFIG} lacks {', '.join(lacking)}")
    if (described["id"], described["task"], described["backend"]) != (name, TASK, "onnx"):
        raise InputError(f"{_CONFIG} must be of {name}, {TASK} and onnx, got {described}")
    _check_sides(model)
    return model


def _for_one_image(onnx: bytes) -> bytes:
    """The ONNX file for one image at a time, as darktable needs it."""
    import onnx as library

    model = library.load_from_string(onnx)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    content: bytes = model.SerializeToString()
    return content


def _check_sides(onnx: bytes) -> None:
    import onnx as library

    graph = library.load_from_string(onnx).graph
    for values in (graph.input, graph.output):
        shapes = [[side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim] for value in values]
        if shapes != [[1, 3, *_SIDES]]:
            raise InputError(f"darktable's images are [1, 3, {', '.join(_SIDES)}], got {shapes}")
