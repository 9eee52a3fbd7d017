"""ICC profiles for color spaces that tags describe, for formats without such tags. (ICC.1:2001-04, matrix and curves.)"""

import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from zdce.io.colour_spaces import D50

_POINTS = 1024


def profile(to_d50: Any, decode: Callable[[Any], Any]) -> bytes:
    """A profile of RGB.

    Args:
        to_d50: the matrix (3, 3) from linear RGB to XYZ under D50.
        decode: function from numbers (0 to 1) to light.
    """
    light = np.clip(decode(np.linspace(0, 1, _POINTS)), 0, 1)
    curve = b"curv" + bytes(4) + struct.pack(">I", _POINTS) + np.rint(light * 65535).astype(">u2").tobytes()
    name = b"from tags\0"
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", len(name)) + name + bytes(78),
        b"cprt": b"text" + bytes(4) + b"public domain\0",
        b"wtpt": _xyz(D50),
        **{colour + b"XYZ": _xyz(column) for colour, column in zip((b"r", b"g", b"b"), np.asarray(to_d50).T, strict=True)},
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
    }
    at = 128 + 4 + 12 * len(tags)
    table, data, places = b"", b"", dict[bytes, int]()
    for tag, content in tags.items():
        if content not in places:  # The three curves are the same.
            places[content] = at + len(data)
            data += content + bytes(-len(content) % 4)
        table += struct.pack(">4sII", tag, places[content], len(content))
    head = struct.pack(">I4sI4s4s4s", at + len(data), b"none", 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(24) + struct.pack(">I", 1) + _xyz(D50)[8:]
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def _xyz(values: Any) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(float(value) * 65536) for value in values))
