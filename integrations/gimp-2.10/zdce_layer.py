#!/usr/bin/env python3
"""A filter of GIMP 2.10 on Linux: a brighter layer, made by the command ``zdce``, above the chosen one.

Debian's GIMP 2.10 has no Python of its own, and its Script-Fu starts no programs; so this speaks to GIMP by its C library. It
needs Python and nothing else. The command is found on ``PATH``, or named by the variable ``ZDCE``.
"""

import os
import shlex
import subprocess
import sys
import tempfile
from ctypes import CDLL, CFUNCTYPE, POINTER, Structure, Union, byref, c_char_p, c_double, c_int, c_int32, c_uint8, c_void_p
from pathlib import Path
from typing import Any

NAME = b"plug-in-zdce-enhance"

# Of libgimp's enumerations: types of arguments and of procedures, and states.
_INT32, _STRING, _IMAGE, _DRAWABLE, _STATUS = 0, 4, 13, 16, 21
_PLUG_IN, _NONINTERACTIVE = 1, 1
_ERROR, _SUCCESS = 0, 3


class _Colour(Structure):
    _fields_ = [(name, c_double) for name in "rgba"]


class _Region(Structure):
    _fields_ = [(name, c_int32) for name in ("x", "y", "width", "height")]


class _Parasite(Structure):
    _fields_ = [("name", c_char_p), ("flags", c_int32), ("size", c_int32), ("data", c_void_p)]


class _Data(Union):
    _fields_ = [
        ("int32", c_int32), ("float", c_double), ("string", c_char_p), ("int8", c_uint8), ("colour", _Colour),
        ("region", _Region), ("parasite", _Parasite), ("pointer", c_void_p),
    ]  # fmt: skip


class _Param(Structure):
    _fields_ = [("type", c_int), ("data", _Data)]


class _ParamDef(Structure):
    _fields_ = [("type", c_int), ("name", c_char_p), ("description", c_char_p)]


_Ask = CFUNCTYPE(None)
_Run = CFUNCTYPE(None, c_char_p, c_int, POINTER(_Param), POINTER(c_int), POINTER(POINTER(_Param)))


class _PlugIn(Structure):
    _fields_ = [("init", c_void_p), ("quit", c_void_p), ("query", _Ask), ("run", _Run)]


_gimp = CDLL("libgimp-2.0.so.0")

_ARGUMENTS = (_ParamDef * 4)(
    _ParamDef(_INT32, b"run-mode", b"The run mode"),
    _ParamDef(_IMAGE, b"image", b"The image"),
    _ParamDef(_DRAWABLE, b"drawable", b"The layer to brighten"),
    _ParamDef(_STRING, b"options", b"Options of `zdce enhance`, such as --strength 0.8"),
)

# What is given back must live on.
_answer = (_Param * 2)()


def _query() -> None:
    _gimp.gimp_install_procedure(
        NAME, b"Add a brighter layer above a dark one", b"Runs `zdce enhance` on the layer",
        b"the zdce authors", b"the zdce authors", b"2026",
        b"Brighten Dark Layer (zdce)", b"RGB*, GRAY*", _PLUG_IN, len(_ARGUMENTS), 0, _ARGUMENTS, None,
    )  # fmt: skip
    _gimp.gimp_plugin_menu_register(NAME, b"<Image>/Colors")


def _run(name: bytes, given: int, arguments: Any, returned: Any, returns: Any) -> None:
    image, layer = arguments[1].data.int32, arguments[2].data.int32
    # From the menu GIMP gives the first three alone.
    chosen = arguments[3].data.string or b"" if given > 3 and arguments[0].data.int32 == _NONINTERACTIVE else b""
    _answer[0].type, _answer[0].data.int32 = _STATUS, _SUCCESS
    returned[0], returns[0] = 1, _answer
    try:
        _add_brighter_layer(image, layer, shlex.split(chosen.decode()))
    except (OSError, RuntimeError, ValueError) as error:
        _gimp.gimp_message(str(error).encode())
        _answer[0].data.int32, _answer[1].type, _answer[1].data.string = _ERROR, _STRING, str(error).encode()
        returned[0] = 2


def _add_brighter_layer(image: int, layer: int, chosen: list[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="zdce-") as folder:
        before, after = (os.fsencode(Path(folder) / name) for name in ("layer.png", "brighter.png"))
        if not _gimp.gimp_file_save(_NONINTERACTIVE, image, layer, before, before):
            raise RuntimeError("zdce: GIMP can't write the layer to a temporary file")
        command = [os.environ.get("ZDCE", "zdce"), "enhance", os.fsdecode(before), "-o", os.fsdecode(after), *chosen]
        try:
            ran = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise RuntimeError(
                f"zdce: there is no command {command[0]!r}; put it on PATH, or name it in the variable ZDCE"
            ) from None
        if ran.returncode:
            raise RuntimeError(f"zdce: {ran.stderr.strip() or f'exit code {ran.returncode}'}")
        made = _gimp.gimp_file_load_layer(_NONINTERACTIVE, image, after)
    if made < 0:
        raise RuntimeError("zdce: GIMP can't read the result")
    x, y = c_int(), c_int()
    _gimp.gimp_drawable_offsets(layer, byref(x), byref(y))
    parent, position = _gimp.gimp_item_get_parent(layer), _gimp.gimp_image_get_item_position(image, layer)
    _gimp.gimp_image_undo_group_start(image)
    _gimp.gimp_item_set_name(made, b"brighter")
    _gimp.gimp_image_insert_layer(image, made, parent, position)
    _gimp.gimp_layer_set_offsets(made, x, y)
    _gimp.gimp_image_undo_group_end(image)
    _gimp.gimp_displays_flush()


_words = [os.fsencode(word) for word in sys.argv]
sys.exit(_gimp.gimp_main(byref(_PlugIn(None, None, _Ask(_query), _Run(_run))), len(_words), (c_char_p * len(_words))(*_words)))
