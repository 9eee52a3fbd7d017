"""Pixels of AVIF and HEIC files of 10 and 12 bits, which Pillow reads as 8: by imagecodecs and pillow-heif."""

import io
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zdce.errors import InputError, library_call
from zdce.io.buffers import Buffer
from zdce.runtime import packages

Deep = NDArray[np.uint16]

# Bits of HEIC files that are made from pictures of more than 8 bits, other than 10 or 12.
USUAL_BITS = 10

DEPTHS = (10, 12)

_MODES = {1: "L;16", 3: "RGB;16", 4: "RGBA;16"}

# The number of bits that pillow-heif writes is a setting of the whole module.
_lock = threading.Lock()


def can_read(bits: int) -> bool:
    """Whether files of this number of bits can be read in full depth here."""
    return bits in DEPTHS and packages.missing("imagecodecs", "tifffile", extra="formats") is None


def read(data: Buffer, format_name: str, bits: int) -> Deep:
    """The pixels of an AVIF or HEIF file in 16 bits, (H, W, channels) with 1, 3 or 4 channels; AVIF's are not turned upright.

    Raises:
        OSError: they can't be decoded.
    """
    with library_call():
        if format_name == "AVIF":
            import imagecodecs

            codes = np.asarray(imagecodecs.avif_decode(bytes(data)))
        else:
            import pillow_heif

            # Numbers are in the upper bits.
            codes = np.asarray(pillow_heif.open_heif(io.BytesIO(bytes(data)), convert_hdr_to_8bit=False)) >> (16 - bits)
    if codes.dtype != np.uint16:
        raise InputError(f"expected pixels of {bits} bits, got {codes.dtype}")
    most = 2**bits - 1
    scaled = (codes.astype(np.uint32).clip(0, most) * 65535 + most // 2) // most
    return scaled.astype(np.uint16).reshape(*codes.shape[:2], -1)


def heif(pixels: Deep, bits: int, info: dict[str, Any], options: dict[str, Any]) -> bytes:
    """A HEIF file of ``pixels`` (H, W, 1, 3 or 4) with 10 or 12 bits.

    Args:
        info: metadata by pillow-heif's names, such as ``icc_profile``.
        options: options of ``pillow_heif.HeifFile.save``.
    """
    import pillow_heif

    most = 2**bits - 1
    codes = (pixels.astype(np.uint32) * most + 32767) // 65535
    upper = np.ascontiguousarray(codes.astype(np.uint16) << (16 - bits))
    encoded = io.BytesIO()
    with _lock, library_call(InputError):
        before, pillow_heif.options.SAVE_HDR_TO_12_BIT = pillow_heif.options.SAVE_HDR_TO_12_BIT, bits == 12
        try:
            file = pillow_heif.from_bytes(_MODES[pixels.shape[2]], (pixels.shape[1], pixels.shape[0]), upper.tobytes())
            file.info.update(info)
            file.save(encoded, **options)
        finally:
            pillow_heif.options.SAVE_HDR_TO_12_BIT = before
    return encoded.getvalue()
