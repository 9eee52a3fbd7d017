"""`zdce enhance` with - for standard input or output: one picture, whose format is recognised by its content."""

import sys
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple, TextIO

import click

from zdce import errors
from zdce.commands.enhance_report import DESCRIBED, FileRequest
from zdce.enhancement import batch, picture_files, video
from zdce.enhancement.batch import Work
from zdce.enhancement.manifest import BRIGHT, KEPT, WRITTEN
from zdce.errors import FileError, InputError
from zdce.io import formats, images
from zdce.io.images import Picture
from zdce.runtime import atomic, progress

# Argument that stands for standard input and output.
STREAM = "-"


def is_stream(request: FileRequest) -> bool:
    """Whether standard input or output is requested."""
    return STREAM in (*request.paths, request.output)


def check(request: FileRequest, excluded: Collection[str]) -> None:
    """Raises click.UsageError for inputs or options that streams don't support; ``excluded`` are the given options that need
    files.
    """
    if excluded:
        raise click.UsageError(f"{next(iter(excluded))} needs files, and - is standard input or output")
    if len(request.paths) > 1:
        raise click.UsageError(f"- takes one picture, got {len(request.paths)} inputs")
    if _to_stream(request) and sys.stdout is not None and sys.stdout.isatty():
        raise click.UsageError("standard output is a terminal: redirect it, or name a file with -o")


def _to_stream(request: FileRequest) -> bool:
    return request.output in (STREAM, None)


class _Input(NamedTuple):
    """A picture, Pillow's name of its file's format, and the file's bytes."""

    picture: Picture
    format: str
    data: bytes


def run(request: FileRequest, work: Work) -> None:
    """Enhances one picture from or to a stream; only the picture's bytes are written to standard output."""
    if _to_stream(request):
        _check_open(sys.stdout, "standard output")
        given = _read(request.paths[0])
        result = _result(given, Path(f"standard output{_suffix(request, given.picture)}"), work)
        _write(given.data if result.data is None else result.data)
        return
    target = _target(request)
    if target.exists() and not request.overwrite:
        click.echo(f"1 {DESCRIBED[KEPT]}\n{target}")
        return
    given = _read(request.paths[0])
    result = _result(given, target, work)
    atomic.write_bytes(target, given.data if result.data is None else result.data)
    click.echo(f"1 {DESCRIBED[BRIGHT if result.bright else WRITTEN]}\n{target}")


def _check_open(stream: TextIO | None, name: str) -> None:
    """Raises FileError if the process was started without the stream."""
    if stream is None:
        raise FileError(f"{name} is closed, and - needs it")


def _write(data: bytes) -> None:
    left, stream = memoryview(data), sys.stdout.buffer
    try:
        while left:  # With PYTHONUNBUFFERED a write may take only a part, such as the one before a pipe is closed.
            left = left[stream.write(left) or 0 :]
        stream.flush()
    except BrokenPipeError:  # The reader has what it wanted.
        raise
    except OSError as error:
        raise FileError(f"standard output: {errors.one_line(error)}") from error


def _read(source: str) -> _Input:
    if source == STREAM:
        _check_open(sys.stdin, "standard input")
        try:
            data = sys.stdin.buffer.read()
        except OSError as error:
            raise FileError(f"standard input: {errors.one_line(error)}") from error
        if not data:
            raise InputError("standard input: expected a picture, got nothing")
        picture = images.decode(data, "standard input")
        return _Input(picture, picture.format, data)
    path = Path(source)
    if path.is_dir() or video.is_video(path):
        raise InputError(f"{source} is a {'folder' if path.is_dir() else 'video'}, and standard output takes one picture")
    picture, own = images.read(path), formats.of_suffix(path)
    return _Input(picture, own.name if own else picture.format, path.read_bytes())


def _result(given: _Input, target: Path, work: Work) -> picture_files.Result:
    result = picture_files.enhanced(given.picture, given.format, target, work.settings, work.picture)
    for note in result.notes:
        progress.console.print(f"{target}: {note}", markup=False)
    return result


def _suffix(request: FileRequest, picture: Picture) -> str:
    """The suffix of the requested format, of the picture's own, or of the format that RAW files become."""
    return (request.form or formats.named(picture.format) or formats.BY_NAME["tiff"]).suffixes[0]


def _target(request: FileRequest) -> Path:
    target = Path(str(request.output))
    if target.is_dir() or formats.of_suffix(target) is None:
        raise InputError(f"{target}: standard input has no name; expected a file's name for its result, ending in one of "
                         f"{', '.join(sorted(formats.SUFFIXES))}")  # fmt: skip
    batch.check_format(target, request.form)
    return target
