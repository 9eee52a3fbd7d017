"""Enhancement of picture files. The result is a new file, or the bytes of the source if the picture stays as it is."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from zdce.errors import InputError
from zdce.io import formats, images
from zdce.io.images import Picture
from zdce.runtime import atomic
from zdce.settings import EnhanceSettings


class Result(NamedTuple):
    """Content of the result of a picture file.

    Attributes:
        data: bytes of the result; None if they are the source's.
        notes: a line about each thing of the source that the result lacks.
        bright: whether ``only_if_dark`` left the picture as it was.
    """

    data: bytes | None
    notes: list[str]
    bright: bool = False


def enhanced(
    picture: Picture, own_format: str, target: Path, settings: EnhanceSettings, enhance: Callable[[Picture], Picture]
) -> Result:
    """The result of ``picture`` as a file with the name ``target``; nothing is written.

    Args:
        own_format: Pillow's name of the format of the picture's file, or an empty string. If ``target`` has another format, a
            new file is written even if the picture stays as it is.
        settings: settings for writing files.
        enhance: function that returns the enhanced picture, or its argument if that stays as it is.

    Raises:
        ValueError: the format can't be written, or can't hold the picture.
    """
    images.check(picture, target)  # Checked before the picture is enhanced.
    return encoded(picture, enhance(picture), own_format, target, settings)


def encoded(picture: Picture, result: Picture, own_format: str, target: Path, settings: EnhanceSettings) -> Result:
    """``result``, the enhanced picture, as a file; the source's bytes if ``result`` is ``picture`` itself. Arguments and errors
    as for ``enhanced``.
    """
    bright = result is picture
    if bright and images.check(picture, target).name == own_format and settings.strip is None:
        return Result(None, [], bright)
    written = images.encode(result, target, settings)
    return Result(written.data, [*picture.notes, *written.notes], bright)


def write(source: Path, target: Path, settings: EnhanceSettings, enhance: Callable[[Picture], Picture]) -> Result:
    """Enhances the file ``source`` and writes ``target``, completely or not at all. Arguments as for ``enhanced``.

    Raises:
        OSError: ``source`` can't be read, or ``target`` can't be written.
        ValueError: as for ``enhanced``; the message begins with ``source``.
    """
    picture = images.read(source)
    own = formats.of_suffix(source)
    try:
        result = enhanced(picture, own.name if own else picture.format, target, settings, enhance)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    if result.data is None:
        atomic.copy(source, target)
    else:
        atomic.write_bytes(target, result.data)
    return result
