"""`zdce live` as a process: its page and streams over HTTP, RTSP cameras, signals, and sources that fail."""

import http.client
import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from fractions import Fraction
from itertools import count, islice, pairwise
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from zdce import cli

av = pytest.importorskip("av", reason="the extra `video` is not installed")
pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

FPS = 25
DARK = Path(__file__).resolve().parents[2] / "docs" / "dark.jpg"


def frames(level=lambda: 1.0):
    """The dark photograph without end, ``level()`` times as bright."""
    with Image.open(DARK) as picture:
        dark = np.asarray(picture.convert("RGB").resize((96, 64)), np.float32)
    while True:
        yield (dark * level()).clip(0, 255).astype(np.uint8)


def encoded(pictures, made, kind):
    """Writes pictures as a film of this kind, one at each step."""
    options = {"preset": "ultrafast", "tune": "zerolatency", "g": "5", "crf": "10"}
    with av.open(made, "w", kind, options={"fflags": "flush_packets"}) as file:
        stream = file.add_stream("libx264", rate=FPS, width=96, height=64, pix_fmt="yuv420p", options=options)
        for i, pixels in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.pts, frame.time_base = i, Fraction(1, FPS)
            file.mux(stream.encode(frame))
            yield
        file.mux(stream.encode(None))


def film(path, seconds):
    """A film of the dark photograph; its path."""
    with path.open("wb") as file:
        for _ in encoded(islice(frames(), seconds * FPS), file, "mp4"):
            pass
    return str(path)


@pytest.fixture(scope="module")
def minute(tmp_path_factory):
    """A film that is longer than any test that looks at it."""
    return film(tmp_path_factory.mktemp("film") / "film.mp4", 60)


@contextmanager
def camera(level=lambda: 1.0):
    """A camera that speaks RTSP and films the dark photograph, ``level()`` times as bright, in real time: its address, and what
    makes it vanish.
    """
    gone = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as thread:
        speaking = thread.submit(_speak, listening, frames(level), gone)
        try:
            yield f"rtsp://admin:pa55@127.0.0.1:{listening.getsockname()[1]}/live", gone
        finally:
            gone.set()
    speaking.result()


def _speak(listening, pictures, gone):
    listening.settimeout(60)
    connection, _ = listening.accept()
    with connection, connection.makefile("rb") as lines:
        method = ""
        while method != "PLAY":
            method, _, _ = lines.readline().decode().partition(" ")
            headers = {}
            while line := lines.readline().decode().strip():
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
            connection.sendall(_answer(method, headers))
        made, number, size = io.BytesIO(), count(), 7 * 188
        for second, _ in zip(count(0, 1 / FPS), encoded(pictures, made, "mpegts"), strict=False):
            data = made.getvalue()
            made.seek(0)
            made.truncate()
            for start in range(0, len(data), size):
                # RTP (RFC 3550): version 2, MPEG-2 transport streams as RFC 2250 has them; within RTSP's connection.
                head = bytes([0x80, 33]) + (next(number) % 65536).to_bytes(2) + round(90_000 * second).to_bytes(4) + bytes(4)
                packet = head + data[start : start + size]
                with suppress(OSError):  # nobody watches any more
                    connection.sendall(b"$\0" + len(packet).to_bytes(2) + packet)
            if gone.wait(1 / FPS):
                return


def _answer(method, headers):
    body, more = "", {"CSeq": headers["cseq"], "Session": "1"}
    if method == "OPTIONS":
        more["Public"] = "DESCRIBE, SETUP, PLAY, TEARDOWN"
    if method == "DESCRIBE":
        body = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:video\r\n"
        more |= {"Content-Type": "application/sdp", "Content-Length": str(len(body))}
    if method == "SETUP":
        more["Transport"] = "RTP/AVP/TCP;unicast;interleaved=0-1"
    return ("RTSP/1.0 200 OK\r\n" + "".join(f"{name}: {value}\r\n" for name, value in more.items()) + "\r\n" + body).encode()


@contextmanager
def running(*arguments):
    """The process, and where it serves: told with its first frame, on standard error beside JSON."""
    command = [sys.executable, "-m", "zdce", "live", "--port", "0", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = (process.stderr if "--json" in arguments else process.stdout).readline()
        found = re.match(r"(http://\S+)", line)
        assert found, line + process.stderr.read()
        yield process, urlsplit(found[1])
    finally:
        process.kill()
        process.communicate()


@contextmanager
def answered(address, path, **headers):
    with closing(http.client.HTTPConnection(address.hostname, address.port, timeout=30)) as connection:
        connection.request("GET", path, headers=headers)
        with connection.getresponse() as answer:
            yield answer


def get(address, path):
    with answered(address, path) as answer:
        return answer.read()


def pictures(address, side, count):
    with answered(address, f"/{side}.mjpg") as answer:
        return parts(answer, count)


def parts(answer, count):
    """The numbers and pictures of the first parts of a stream of Motion JPEG."""
    boundary = re.search("boundary=(.*)", answer.headers["content-type"])[1].encode()
    found = []
    while len(found) < count:
        assert answer.readline() == b"--" + boundary + b"\r\n"
        headers = http.client.parse_headers(answer)
        data = answer.read(int(headers["content-length"]))
        assert answer.read(2) == b"\r\n"
        found.append((int(headers["frame"]), np.asarray(Image.open(io.BytesIO(data)))))
    return found


def test_a_file_is_shown_before_and_after(minute):
    with running(minute) as (_, address):
        with answered(address, "/") as page:
            assert "img-src 'self'" in page.headers["content-security-policy"]
            assert "after.mjpg" in page.read().decode()
        befores, afters = pictures(address, "before", 5), pictures(address, "after", 5)
        assert all(later[0] > earlier[0] for earlier, later in pairwise(afters))
        assert afters[0][1].shape == (64, 96, 3)
        assert afters[-1][1].mean() > 2 * befores[-1][1].mean()
        still = Image.open(io.BytesIO(get(address, "/after.jpg")))
        assert still.size == (96, 64)
        state = json.loads(get(address, "/api/live"))
        assert (state["width"], state["height"], state["share"]) == (96, 64, 1)
        with answered(address, "/sideways.jpg") as unknown:
            assert (unknown.status, list(json.loads(unknown.read()))) == (404, ["error"])
        with answered(address, "/after.mjpg", Host="evil.example") as turned_away:
            assert turned_away.status == 421


def test_a_file_ends_with_its_counts(tmp_path):
    with running(film(tmp_path / "film.mp4", 1), "--json") as (process, _):
        out, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    told = json.loads(out)
    assert told["frames"] + told["dropped"] == FPS
    assert 0 < told["latency_ms"] <= told["latency_p95_ms"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_at_once_while_somebody_watches(minute, number):
    with running(minute) as (process, address), answered(address, "/after.mjpg") as answer:
        parts(answer, 2)
        process.send_signal(number)
        began = time.monotonic()
        assert answer.read().endswith(b"--frame--\r\n")
        out, errors = process.communicate(timeout=20)
    assert time.monotonic() - began < 10
    assert (process.returncode, errors) == (0, "")
    assert re.fullmatch(r"\d+ frames, \d+ dropped; latency [\d.]+ ms, 95 % within [\d.]+ ms\n", out)


def test_a_camera_is_watched_by_rtsp_and_one_that_vanishes_is_one_line():
    with camera() as (url, gone), running(url, "--timeout", "20") as (process, address):
        assert pictures(address, "after", 3)[-1][1].mean() > 40
        gone.set()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert re.fullmatch(r"Error: rtsp://127\.0\.0\.1:\d+/live: (it ended|it vanished) after \d+ frames( \(.+\))?\n", errors)


def test_only_if_dark_shows_light_as_it_is():
    level = [1.0]
    with camera(lambda: level[0]) as (url, _), running(url, "--only-if-dark") as (process, address):
        shares = []
        while process.poll() is None and (not shares or shares[-1] > 0):
            shares.append(json.loads(get(address, "/api/live"))["share"])
            level[0] = 9.0
            time.sleep(0.05)
        before, after = (np.asarray(Image.open(io.BytesIO(get(address, f"/{side}.jpg")))) for side in ("before", "after"))
    assert shares[0] == 1
    assert shares[-1] == 0
    assert np.abs(before.astype(int) - after).mean() < 2  # frames one after another


@pytest.fixture
def refused(capfd):
    """A function that gives the one line with which the command ends, here in this process."""

    def line(*arguments):
        result = CliRunner().invoke(cli.main, ["live", "--port", "0", *arguments], catch_exceptions=False)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.count("\n") == 1
        assert capfd.readouterr() == ("", "")  # FFmpeg's own words would be here
        return result.stderr

    return line


def test_sources_that_are_not_there_or_do_not_answer_are_one_line(tmp_path, refused):
    (tmp_path / "text.mp4").write_text("no film")
    assert refused("nothing.mp4").startswith("Error: nothing.mp4: there is no such file; a camera is a number")
    assert "Invalid data" in refused(str(tmp_path / "text.mp4"))
    assert "/dev/video77: No such file or directory" in refused("/dev/video77")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        for scheme in ("rtsp", "http"):
            told = refused(f"{scheme}://me:pa55@127.0.0.1:{port}/x", "--timeout", "0.2")
            assert told == f"Error: {scheme}://127.0.0.1:{port}/x: it does not answer for 0.2 s\n"
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # held, so that nobody else gets it
        port = closed.getsockname()[1]
        assert refused(f"rtsp://127.0.0.1:{port}/x") == f"Error: rtsp://127.0.0.1:{port}/x: Connection refused\n"


def test_ctrl_c_ends_it_while_a_source_does_not_answer():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        command = [sys.executable, "-m", "zdce", "live", "--port", "0", f"http://127.0.0.1:{silent.getsockname()[1]}/x"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            silent.settimeout(30)
            connection, _ = silent.accept()  # it asks
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            out, errors = process.communicate(timeout=20)
            connection.close()
        finally:
            process.kill()
    assert time.monotonic() - began < 8
    assert (process.returncode, out, errors) == (0, "", "")


def test_a_device_of_ffmpeg_is_a_camera():
    with running("--input-format", "lavfi", "color=c=0x101418:size=64x48:rate=10,realtime") as (_, address):
        (_, picture), *_ = pictures(address, "after", 1)
    assert picture.shape == (48, 64, 3)


def test_a_system_without_virtual_cameras_is_one_line(tmp_path, refused):
    pytest.importorskip("pyvirtualcam", reason="the extra `virtualcamera` is not installed")
    if any(Path("/dev").glob("video*")):
        pytest.skip("there are cameras here")
    assert refused("--virtual-camera", film(tmp_path / "film.mp4", 2)).startswith("Error: --virtual-camera: ")
