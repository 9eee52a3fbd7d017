"""Picture files: finding, reading and writing, each in a module of its own."""

from zdce.io.decoding import MOST_PIXELS, decode, from_pillow, read, read_rgb
from zdce.io.encoding import Encoded, check, encode, to_pillow, write
from zdce.io.finding import Found, find, in_folder
from zdce.io.formats import SUFFIXES
from zdce.io.picture import Picture, Pixels, Stored, as_uint8

__all__ = [
    "MOST_PIXELS",
    "SUFFIXES",
    "Encoded",
    "Found",
    "Picture",
    "Pixels",
    "Stored",
    "as_uint8",
    "check",
    "decode",
    "encode",
    "find",
    "from_pillow",
    "in_folder",
    "read",
    "read_rgb",
    "to_pillow",
    "write",
]
