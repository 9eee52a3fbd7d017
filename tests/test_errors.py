"""A user's mistake is one line and exit code 1; a bug, wherever it happens, shows its traceback and ends with exit code 70."""

import ast
import csv
import errno
import http.client
import logging
import socket
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import ExifTags, Image

from zdce import cli, errors
from zdce.enhancement import batch, colour
from zdce.enhancement.enhancer import Enhancer
from zdce.errors import BackendError, ExistingFileError, FileError, InputError, MissingFileError, ZdceError
from zdce.io import decoding, directories, encoding, exif, images, raw, sixteen_bit, xmp
from zdce.metrics import registry
from zdce.runtime import devices, processes
from zdce.training.checkpoints import Checkpoint
from zdce.training.errors import TrainingError
from zdce.training.learner import Learner

PACKAGE = Path(errors.__file__).parent

# What NumPy says of the bug that is injected here, a ValueError as a user's mistake is one.
WORDS = "ValueError: operands could not be broadcast together"


def bug(*arguments, **options):
    return np.zeros(3) + np.zeros(4)


def run(*arguments, **environment):
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments], catch_exceptions=False, env=environment)


def assert_is_a_bug(result):
    assert result.exit_code == 70
    assert "Traceback (most recent call last)" in result.stderr
    assert 'test_errors.py", line' in result.stderr
    assert WORDS in result.stderr
    assert "Please report this bug" in result.stderr.splitlines()[-1]


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.jpg", "c.png"):
        Image.fromarray(random.integers(0, 60, (20, 24, 3), np.uint8)).save(tmp_path / "in" / name)
    return tmp_path


@pytest.mark.parametrize(
    ("where", "name"),
    [
        (decoding, "decode"),
        (decoding, "_check_kind"),
        (decoding, "_carried"),
        (decoding, "_picture"),
        (colour, "enhance"),
        (Enhancer, "_converted"),
        (encoding, "_fitted"),
        (encoding, "_saved"),
    ],
)
def test_a_bug_in_any_stage_of_a_batch_is_told_and_the_rest_goes_on(photos, model, monkeypatch, where, name):
    """Of three files the second one meets the bug: a night's work on the others is not lost."""
    whole, calls = getattr(where, name), []

    def second(*arguments, **options):
        calls.append(name)
        return bug() if len(calls) == 2 else whole(*arguments, **options)

    monkeypatch.setattr(where, name, second)
    result = run("enhance", "in", "-m", model, "-o", "out/", "--manifest", "all.csv")
    assert_is_a_bug(result)
    assert "2 written, 1 failed" in result.stdout
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.png", "c.png"]
    with open("all.csv", newline="") as file:
        rows = {row["source"]: row for row in csv.DictReader(file)}
    assert [rows[f"in/{name}"]["status"] for name in ("a.png", "b.jpg", "c.png")] == ["written", "failed", "written"]
    assert rows["in/b.jpg"]["reason"].startswith(f"in/b.jpg: a bug of zdce, {WORDS}")


@pytest.mark.parametrize("name", ["upright", "read_tiff"])
def test_a_bug_in_reading_16_bits_is_none_of_the_files(photos, model, monkeypatch, name):
    pytest.importorskip("tifffile", reason="the extra `formats` is not installed")
    sixteen_bit.check()
    picture = images.Picture(np.random.default_rng(0).integers(0, 9999, (20, 24, 3), np.uint16))
    images.write(picture, Path("deep.tif"))
    monkeypatch.setattr(sixteen_bit, name, bug)
    assert_is_a_bug(run("enhance", "deep.tif", "-m", model))


_XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


@pytest.mark.parametrize(
    ("where", "name"),
    [
        (directories.Block, "all_entries"),
        (exif, "_patch"),
        (exif, "_swap"),
        (xmp, "_elements"),
        (xmp, "_clean"),
        (decoding, "_in_mode"),
    ],
)
def test_a_bug_in_reading_metadata_is_none_of_the_files(photos, model, monkeypatch, where, name):
    """It does not read as broken metadata, which are left out, or as a broken picture."""
    described = Image.Exif()
    described[ExifTags.Base.Orientation] = 6
    described[ExifTags.Base.ImageWidth], described[ExifTags.Base.ImageLength] = 24, 20
    Image.open("in/a.png").save("a.webp", exif=described, xmp=_XMP, lossless=True)
    assert run("enhance", "a.webp", "-m", model, "-o", "first.webp").exit_code == 0
    monkeypatch.setattr(where, name, bug)
    assert_is_a_bug(run("enhance", "a.webp", "-m", model))


@pytest.mark.parametrize(("where", "name"), [(devices, "named"), (processes, "use_own_gpu")])
def test_a_bug_in_choosing_the_device_is_no_wrong_device(photos, model, monkeypatch, where, name):
    monkeypatch.setattr(where, name, bug)
    assert_is_a_bug(run("enhance", "in", "-m", model))


def test_a_bug_in_reading_raw_is_none_of_the_files(photos, model, monkeypatch):
    Path("a.dng").write_bytes(b"not read")
    monkeypatch.setattr(raw, "read", bug)
    assert_is_a_bug(run("enhance", "a.dng", "-m", model))


def test_one_bug_in_many_files_shows_one_traceback(photos, model, monkeypatch):
    monkeypatch.setattr(colour, "enhance", bug)
    result = run("enhance", "in", "-m", model)
    assert_is_a_bug(result)
    assert result.stderr.count("Traceback") == 1
    assert result.stderr.count("skipped in/") == 3


@pytest.mark.parametrize(("where", "name"), [(Enhancer, "maps"), (Enhancer, "apply")])
def test_a_bug_in_a_videos_frame(photos, model, monkeypatch, where, name):
    av = pytest.importorskip("av", reason="the extra `video` is not installed")
    with av.open("a.mp4", "w") as file:
        film = file.add_stream("libx264", 25, width=32, height=32, pix_fmt="yuv420p")
        for _ in range(5):
            file.mux(film.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 3), 30, np.uint8), "rgb24")))
        file.mux(film.encode(None))
    for broken_where, broken_name in ((where, name), *_video_files()):
        with monkeypatch.context() as patched:
            patched.setattr(broken_where, broken_name, bug)
            assert_is_a_bug(run("enhance", "a.mp4", "-m", model, "-o", "out.mp4"))
        assert not list(Path().glob("*out*"))


def _video_files():
    from zdce.io import video_reader, video_writer

    return (video_reader.Reader, "_shot"), (video_writer.Writer, "_frame")


@pytest.mark.parametrize(
    ("where", "name"), [(Learner, "begin_step"), (Learner, "_mean"), (Learner, "validate"), (Checkpoint, "write")]
)
def test_a_bug_in_training(dark, tmp_path, monkeypatch, where, name):
    monkeypatch.setattr(where, name, bug)
    assert_is_a_bug(
        run("train", "--data", dark, "--size", 32, "--batch-size", 4, "--epochs", 1, "--out", tmp_path / "run")
    )  # fmt: skip


def test_a_bug_in_measuring(photos, model, monkeypatch):
    monkeypatch.setitem(registry.METRICS, "ssim", registry.Metric("SSIM", 3, bug))
    assert_is_a_bug(run("eval", "in", "-m", model))


def test_a_bug_in_a_servers_worker(photos, model, monkeypatch, caplog):
    pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")
    from zdce.serving import server
    from zdce.serving.limits import Limits
    from zdce.serving.networks import Networks

    monkeypatch.setattr(colour, "enhance", bug)
    ready = threading.Event()
    made = server.server(Networks([str(model)]), Limits(), ready=ready.set)
    logging.getLogger("uvicorn.error").propagate = True
    logging.getLogger("uvicorn").propagate = True
    with server.listen("127.0.0.1", 0) as listening:
        thread = threading.Thread(target=made.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            assert ready.wait(30)
            with closing(http.client.HTTPConnection("127.0.0.1", listening.getsockname()[1], timeout=60)) as connection:
                connection.request("POST", "/api/enhance", Path("in/a.png").read_bytes())
                assert connection.getresponse().status == 500
        finally:
            made.should_exit = True
            thread.join(60)
    assert WORDS in caplog.text
    assert "Traceback" in caplog.text


def test_a_bug_in_the_start_of_a_server_in_the_background_is_not_awaited(monkeypatch):
    pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")
    from zdce.serving import server

    monkeypatch.setattr(server._Server, "startup", bug)
    with socket.socket() as listening:
        serving = server.in_background(lambda *_: None, listening)
        with pytest.raises(ValueError, match="could not be broadcast"):
            serving.__enter__()


@pytest.mark.parametrize("name", ["options", "of"])
def test_a_bug_in_describing_a_live_source_is_none_of_the_source(photos, model, monkeypatch, name):
    for package in ("av", "fastapi", "uvicorn"):
        pytest.importorskip(package, reason="an extra is not installed")
    from zdce.io import live_frames

    monkeypatch.setattr(live_frames.Source, name, property(bug) if name == "options" else bug)
    Path("a.mp4").write_bytes(b"not read")
    assert_is_a_bug(run("live", "a.mp4", "-m", model, "--port", 0))


def test_a_mistake_is_one_line_and_its_traceback_where_asked_for(photos, model):
    Path("in/b.jpg").write_bytes(Path("in/b.jpg").read_bytes()[:300])
    for arguments, words in (
        (["enhance", "none.jpg", "-m", model], "Error: no such file or folder: none.jpg"),
        (["eval", "in", "-m", "none.safetensors"], "Error: no weights at none.safetensors"),
        (["enhance", "in", "-m", model, "-o", "out/"], "skipped in/b.jpg: "),
    ):
        result = run(*arguments)
        assert result.exit_code == 1
        assert result.stderr.startswith(words)
        assert len(result.stderr.splitlines()) == 1
        debugged = run(*arguments, "--overwrite" if "-o" in arguments else "--", ZDCE_DEBUG="1")
        assert debugged.exit_code == 1
        assert "Traceback (most recent call last)" in debugged.stderr
        assert words in debugged.stderr


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("scale must be 1\nto 8"), "scale must be 1 to 8"),
        (FileError("a.png: broken"), "a.png: broken"),
        (MissingFileError("no such file: a"), "no such file: a"),
        (ExistingFileError("a is there"), "a is there"),
        (BackendError("no GPU"), "no GPU"),
        (TrainingError("the loss is not finite"), "the loss is not finite"),
        (OSError(errno.ENOENT, "No such file or directory", "a"), "a: No such file or directory"),
        (PermissionError(errno.EACCES, "Permission denied", b"a"), "a: Permission denied"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (MemoryError(), "there is not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "there is not enough memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "there is not enough memory"),
        (ValueError("operands could not be broadcast"), None),
        (OSError("image file is truncated"), None),
        (OSError(errno.EBADF, "Bad file descriptor"), None),
        (ConnectionResetError(errno.ECONNRESET, "reset"), None),
        (RuntimeError("size mismatch"), None),
        (KeyError("a"), None),
    ],
)
def test_what_is_shown_as_one_line(error, line):
    assert errors.explanation(error) == line


def test_our_errors_are_what_was_documented():
    assert issubclass(InputError, ValueError)
    assert issubclass(FileError, OSError)
    assert issubclass(MissingFileError, FileNotFoundError)
    assert issubclass(ExistingFileError, FileExistsError)
    assert issubclass(BackendError, RuntimeError)


def test_a_librarys_error_becomes_ours_and_others_pass():
    with pytest.raises(FileError, match=r"^what it says$"), errors.library_call():
        raise RuntimeError("what  it\nsays")
    with pytest.raises(InputError, match=r"^KeyError$"), errors.library_call(InputError):
        raise KeyError
    for passing in (InputError("ours"), MemoryError(), OSError(errno.ENOENT, "missing", "a"), KeyboardInterrupt()):
        with pytest.raises(type(passing)) as raised, errors.library_call():
            raise passing
        assert raised.value is passing


# What programs pass and no command does: shapes and types of tensors, arrays and samples, and files just written here.
_CHECKS_OF_PROGRAMS = ("ops/", "enhancement/enhancer.py", "io/matroska.py")


def test_the_package_raises_errors_of_its_own():
    """A plain ValueError or OSError would read as a bug where a command's user is at fault."""
    plain = {"ValueError", "OSError", "FileNotFoundError", "FileExistsError", "IOError", "RuntimeError"}
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE).as_posix()
        if place.startswith(_CHECKS_OF_PROGRAMS):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            raised = node.exc if isinstance(node, ast.Raise) else None
            name = raised.func if isinstance(raised, ast.Call) else raised
            if isinstance(name, ast.Name) and name.id in plain:
                found.append(f"{place}:{node.lineno}: {name.id}")
    assert not found


def test_an_outcome_of_a_batch_names_its_bug(photos, model, monkeypatch):
    monkeypatch.setattr(colour, "enhance", bug)
    import zdce
    from zdce.runtime import progress
    from zdce.settings import EnhanceSettings

    job = batch.Job(Path("in/a.png"), Path("out.png"))
    outcome = batch.do(job, batch.Work.of(zdce.load(model), EnhanceSettings()), progress.bar())
    assert outcome.status == "failed"
    assert isinstance(outcome.bug, ValueError)
    assert not isinstance(outcome.bug, ZdceError)
