"""`zdce serve`: whole pictures and previews over HTTP, refused requests, limits, and the page in a browser."""

import base64
import hashlib
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
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import ExifTags, Image

import zdce
from setting_values import VALUES
from zdce import cli
from zdce.io import images
from zdce.io.images import Picture
from zdce.models import weights
from zdce.models.engine import computed_precision
from zdce.serving import in_browser, page, server
from zdce.serving.limits import Limits
from zdce.serving.networks import Networks
from zdce.serving.previews import SIDE, Preview, Previews
from zdce.serving.requests import FORMATS, SETTINGS, EnhancedPicture, EnhanceRequest, Info, KeptPreview
from zdce.serving.work_queue import WorkQueue
from zdce.settings import EnhanceSettings, options
from zdce.srgb import LUMA

DOCS = Path(__file__).resolve().parents[2] / "docs"


def dark(height=60, width=90, seed=0):
    """A smooth dark picture, (height, width, 3)."""
    small = np.random.default_rng(seed).integers(5, 70, (4, 6, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def file(pixels, kind="PNG", **options):
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, kind, **options)
    return encoded.getvalue()


def decoded(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Files of two networks that brighten, one more than the other."""
    folder, paths = tmp_path_factory.mktemp("models"), []
    for variant, bias in (("base", -0.2), ("iters4", -0.4)):
        torch.manual_seed(0)
        network = zdce.DCENet(variant)
        torch.nn.init.constant_(network.convolutions[-1].bias, bias)
        (folder / variant).mkdir()
        paths.append(str(folder / variant / "last.safetensors"))
        network.save(paths[-1])
    return paths


@contextmanager
def serving(models, limits=None, buffer=None, **options):
    """A server in a thread, whose connections hold ``buffer`` bytes on the way to the client; gives its port."""
    ready = threading.Event()
    made = server.server(Networks(models), limits or Limits(), ready=ready.set, **options)
    with server.listen("127.0.0.1", 0) as listening:
        if buffer is not None:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        thread = threading.Thread(target=made.run, kwargs={"sockets": [listening]})
        thread.start()
        assert ready.wait(30)
        try:
            yield listening.getsockname()[1]
        finally:
            made.should_exit = True
            thread.join(60)
            assert not thread.is_alive()


@pytest.fixture(scope="module")
def guided_port():
    with serving([str(weights.file("local"))]) as port:
        yield port


@pytest.fixture(scope="module")
def port(models):
    with serving(models, Limits(file=1 << 20, pixels=3_000_000)) as port:
        yield port


def ask(port, path, body=None, method=None, **headers):
    """The answer's status, headers and body."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request(method or ("GET" if body is None else "POST"), path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def test_a_whole_picture_is_what_the_enhancer_gives(port, models):
    pixels = dark()
    for query, model, settings in (
        ("", 0, {}), ("?strength=0.5", 0, {"strength": 0.5}), ("?model=iters4/last&scale=4", 1, {"scale": 4}),
    ):  # fmt: skip
        status, headers, body = ask(port, f"/api/enhance{query}", file(pixels))
        assert (status, headers["content-type"]) == (200, "image/png")
        assert np.array_equal(decoded(body), zdce.Enhancer(zdce.load(models[model]), **settings)(pixels))
        assert re.fullmatch(r"decode;dur=[\d.]+, enhance;dur=[\d.]+, encode;dur=[\d.]+", headers["server-timing"])


def test_json_gives_json_of_the_same_bytes(port):
    data = file(dark())
    job = {"image": base64.b64encode(data).decode(), "strength": 0.7, "format": "png"}
    status, _, body = ask(port, "/api/enhance", json.dumps(job), **{"Content-Type": "application/json; charset=utf-8"})
    result = json.loads(body)
    assert status == 200
    assert base64.b64decode(result["image"]) == ask(port, "/api/enhance?strength=0.7&format=png", data)[2]
    assert (result["media_type"], result["width"], result["height"]) == ("image/png", 90, 60)


def test_what_a_result_lacks_is_told(port):
    data = file(dark(), "JPEG") + b"what else there may be"
    said = ["22 bytes behind the picture's end left out"]
    _, headers, _ = ask(port, "/api/enhance", data)
    assert headers["picture-notes"] == said[0]
    job = {"image": base64.b64encode(data).decode()}
    _, headers, body = ask(port, "/api/enhance", json.dumps(job), **{"Content-Type": "application/json"})
    assert json.loads(body)["notes"] == said
    assert headers["picture-notes"] == said[0]
    _, headers, body = ask(port, "/api/enhance?format=bmp", file(dark(), "JPEG", comment=b"a"))
    assert headers["picture-notes"] == "the comment left out: BMP has no place for it"
    assert "picture-notes" not in ask(port, "/api/enhance", file(dark()))[1]


def test_what_a_file_carries_comes_back(port):
    exif = Image.Exif()
    exif[ExifTags.Base.Model] = "DCE-1"
    rgba = np.dstack([dark(), np.full((60, 90), 77, np.uint8)])
    _, _, body = ask(port, "/api/enhance", file(rgba, "WEBP", exif=exif, lossless=True))
    with Image.open(io.BytesIO(body)) as image:
        assert image.format == "WEBP"
        assert image.getexif()[ExifTags.Base.Model] == "DCE-1"
        assert set(np.unique(np.asarray(image)[..., 3])) == {77}
    sizes = [len(ask(port, f"/api/enhance?format=jpeg&quality={quality}", file(dark()))[2]) for quality in (20, 95)]
    assert sizes[0] < sizes[1]


def cut_short():
    return file(np.random.default_rng(0).integers(0, 255, (50, 50, 3), np.uint8))[:2000]


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "words"),
    [
        ("/api/enhance", b"hello", {}, 415, "not a picture that can be read"),
        ("/api/enhance", b"", {}, 415, "not a picture"),
        ("/api/enhance", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", {}, 415, "not a picture"),
        ("/api/enhance", cut_short(), {}, 415, ""),
        ("/api/pictures", cut_short(), {}, 415, ""),
        ("/api/pictures", file(np.zeros((1000, 3001), np.uint8)), {}, 415, "at most 3000000 pixels, got 3001 x 1000"),
        ("/api/pictures", bytes((1 << 20) + 1), {}, 413, "at most 1048576 bytes, got 1048577"),
        ("/api/enhance", bytes(30 << 20), {}, 413, "at most 1048576 bytes"),
        ("/api/enhance?scale=0", file(dark()), {}, 400, "scale must be a whole number from 1 to 64, got '0'"),
        ("/api/enhance?scale=1.5", file(dark()), {}, 400, "scale must be a whole number"),
        ("/api/enhance?strength=nan", file(dark()), {}, 400, "strength must be a number from -4 to 4, got 'nan'"),
        ("/api/enhance?quality=101", file(dark()), {}, 400, "quality must be a whole number from 1 to 100"),
        ("/api/enhance?format=gif", file(dark()), {}, 400, "format must be one of same, jpeg"),
        ("/api/enhance?model=none", file(dark()), {}, 400, "model must be one of base/last, iters4/last, got 'none'"),
        ("/api/enhance?modle=base", file(dark()), {}, 400, "expected the parameters model, format, scale, strength"),
        ("/api/enhance?format=jpeg", file(np.full((4, 4, 4), 9, np.uint8)), {}, 400, "JPEG can't hold transparency"),
        ("/api/enhance?format=bmp", file(np.full((4, 4, 2), 9, np.uint8)), {}, 400, "BMP can't hold transparency"),
        (
            "/api/enhance?format=webp",
            file(np.zeros((1, 16384), np.uint8)),
            {},
            400,
            "16384 x 1 pixels can't be written as WEBP",
        ),
        (
            "/api/enhance?format=jpeg",
            file(np.zeros((1, 65501), np.uint8)),
            {},
            400,
            "65501 x 1 pixels can't be written as JPEG",
        ),
        ("/api/enhance", b"{", JSON, 400, "expected JSON"),
        (
            "/api/enhance?format=png",
            b"{}",
            JSON,
            400,
            "got some in the address too: format",
        ),
        ("/api/enhance", b"[]", JSON, 400, 'with an "image"'),
        ("/api/enhance", b'{"image": "?"}', JSON, 400, "image must be base64"),
        ("/api/enhance", b'{"image": "", "scale": true}', JSON, 400, "scale must be a whole number"),
        ("/api/enhance", b'{"image": "", "format": []}', JSON, 400, "format must be one of"),
        ("/api/pictures/guess/after", None, {}, 404, "not kept"),
        ("/api/none", None, {}, 404, ""),
        ("/api/enhance", None, {}, 405, ""),
    ],
)
def test_mistakes_are_told_in_json(port, path, body, headers, status, words):
    got, told, answer = ask(port, path, body, **headers)
    assert (got, told["content-type"]) == (status, "application/json")
    assert words in json.loads(answer)["error"]
    assert "the upload" not in json.loads(answer)["error"]


@pytest.mark.parametrize("name", options("pixels", "picture files", "files"))
def test_every_setting_is_taken_by_every_request(port, guided_port, models, name):
    pixels = dark() + np.random.default_rng(0).integers(0, 12, (60, 90, 3), np.uint8)
    guided = name in ("shadows", "highlights")
    model = models[0]
    if guided:
        port, model = guided_port, "local"
        pixels //= 2
        pixels[:, :30] = 150
    # Where networks that know no scenes would brighten.
    pixels += np.uint8(90 * (name == "only_if_dark"))
    place = Image.Exif()
    place[ExifTags.Base.GPSInfo] = {ExifTags.GPS.GPSLatitudeRef: "N"}
    data = file(pixels, exif=place)
    kind = "png" if name in options("pixels") else "jpeg"
    asked = {"format": kind, name: VALUES[name]}
    body = ask(port, f"/api/enhance?format={kind}&{name}={VALUES[name]}", data)[2]
    job = json.dumps({"image": base64.b64encode(data).decode(), **asked})
    assert base64.b64decode(json.loads(ask(port, "/api/enhance", job, **JSON)[2])["image"]) == body
    changes = name != "precision" or computed_precision("bf16") == "bf16"
    assert (body != ask(port, f"/api/enhance?format={kind}", data)[2]) == changes
    place = f"/api/pictures/{hold(port, data)['id']}"
    shown = [ask(port, f"{place}/after?{query}")[2] for query in ("", f"{name}={VALUES[name]}")]
    assert name != "only_if_dark" or body == data
    if name in options("pixels"):
        assert np.array_equal(decoded(body), zdce.Enhancer(zdce.load(model), **{name: VALUES[name]})(pixels))
        assert (shown[0] != shown[1]) == changes


def test_requests_have_the_settings_and_their_defaults():
    asked = EnhanceRequest.of({})
    assert asked.settings == EnhanceSettings()
    assert set(SETTINGS) == set(EnhanceRequest.model_fields) - {"model", "format"}
    assert EnhanceRequest.of({"scale": None, "noise": 3}).settings == EnhanceSettings(noise=3)
    assert EnhanceRequest.of({"precision": VALUES["precision"]}).settings == EnhanceSettings(precision=VALUES["precision"])


def test_an_upload_must_say_its_length(port):
    status, _, body = ask(port, "/api/enhance", iter([b"one", b"two"]))
    assert status == 411
    assert "Content-Length" in json.loads(body)["error"]


def test_a_length_that_says_nothing_of_chunks_is_refused(models):
    head = b"POST /api/enhance HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\nTransfer-Encoding: chunked\r\n\r\n"
    with serving(models, Impatient()) as port, socket.create_connection(("127.0.0.1", port), 30) as connection:
        # More than the ten bytes, and no end of it.
        connection.sendall(head + 3 * (b"10000\r\n" + bytes(1 << 16) + b"\r\n"))
        assert connection.recv(100).startswith(b"HTTP/1.1 411")


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/api/info", {"Host": "localhost:1"}, 200),
        ("GET", "/api/info", {"Host": "[::1]:8000"}, 200),
        ("GET", "/api/info", {"Host": "rebound.example"}, 421),
        ("GET", "/", {"Host": "127.0.0.1.example"}, 421),
        ("GET", "/", {"Host": ""}, 421),
        ("GET", "/", {"Host": "[::1"}, 421),
        ("GET", "/", {"Sec-Fetch-Site": "cross-site"}, 200),
        ("GET", "/api/info", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("POST", "/api/pictures", {"Sec-Fetch-Site": "same-site"}, 403),
        ("POST", "/api/pictures", {"Origin": "http://elsewhere.example"}, 403),
        ("POST", "/api/pictures", {"Origin": "null"}, 403),
        ("POST", "/api/pictures", {"Origin": "http://["}, 403),
        (
            "POST",
            "/api/pictures",
            {"Origin": "http://127.0.0.1:1", "Host": "127.0.0.1:1", "Sec-Fetch-Site": "same-origin"},
            201,
        ),
    ],
)
def test_other_names_and_other_sites_are_refused(port, method, path, headers, status):
    got, told, _ = ask(port, path, file(dark()) if method == "POST" else None, **headers)
    assert got == status
    assert told["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in told["content-security-policy"]


def test_names_can_be_allowed(models):
    with serving(models, names=["Studio.local"]) as port:
        assert [ask(port, "/api/info", Host=name)[0] for name in ("studio.local:80", "other.local")] == [200, 421]


def hold(port, data):
    status, _, body = ask(port, "/api/pictures", data)
    assert status == 201
    return json.loads(body)


def timed(headers):
    return [part.partition(";")[0] for part in headers["server-timing"].split(", ")]


def test_a_preview_estimates_its_curve_once(port, models):
    pixels = dark(40, 60)
    rgba = np.dstack([pixels, np.full((40, 60), 255, np.uint8)])  # its previews are PNG, which loses nothing
    rgba[0, 0, 3] = 9
    held = hold(port, file(rgba))
    assert {name: held[name] for name in ("width", "height", "format")} == {"width": 60, "height": 40, "format": "png"}
    place = f"/api/pictures/{held['id']}"
    assert np.array_equal(decoded(ask(port, f"{place}/before")[2]), pixels)
    enhancer = zdce.Enhancer(zdce.load(models[0]), scale=4)
    for strength, parts in ((1.0, ["maps", "apply", "encode"]), (0.3, ["apply", "encode"])):
        _, headers, body = ask(port, f"{place}/after?scale=4&strength={strength}")
        assert timed(headers) == parts
        assert np.array_equal(decoded(body), enhancer.with_settings(strength=strength)(pixels))
    assert timed(ask(port, f"{place}/after?model=iters4/last&scale=4")[1])[0] == "maps"
    status, _, body = ask(port, f"{place}/after?model=none")
    assert (status, "model must be one of" in json.loads(body)["error"]) == (400, True)
    assert ask(port, place, method="DELETE")[0] == 204
    assert ask(port, f"{place}/before")[0] == 404


def test_large_pictures_are_looked_at_small(port):
    held = hold(port, file(np.zeros((1000, 2000, 3), np.uint8), "JPEG"))
    assert (held["width"], held["height"]) == (2000, 1000)
    with Image.open(io.BytesIO(ask(port, f"/api/pictures/{held['id']}/after?scale=12")[2])) as image:
        assert (image.format, image.size) == ("JPEG", (SIDE, SIDE // 2))


def preview(side=100):
    return Preview.of(Picture(np.zeros((side, side, 3), np.uint8)))


def test_what_was_used_longest_ago_goes_first():
    previews = Previews(Limits(pictures=3))
    names = [previews.add(preview()) for _ in range(3)]
    previews.get(names[0])
    previews.add(preview())
    with pytest.raises(KeyError):
        previews.get(names[1])
    assert previews.get(names[0]) is not previews.get(names[2])
    assert len({len(name) for name in names}) == 1
    assert len(names[0]) >= 32


def test_maps_go_before_pictures_and_memory_has_a_bound():
    limits = Limits(memory=1_000_000)
    previews = Previews(limits)
    names = [previews.add(preview()) for _ in range(10)]  # 30 kB each
    counts = Counter()

    def estimate():
        counts["estimated"] += 1
        return np.zeros((1, 24, 50, 50), np.float32)  # 240 kB

    for name in names:
        for _ in range(2):
            previews.maps(previews.get(name), "base", estimate)
            assert previews.bytes <= limits.memory
    assert counts["estimated"] == len(names) == len(previews)
    previews.maps(previews.get(names[0]), "base", estimate)
    assert counts["estimated"] == len(names) + 1
    for _ in range(40):
        previews.add(preview())
    assert previews.bytes <= limits.memory
    assert len(previews) == 33


def test_what_nobody_uses_goes_in_time():
    now = [0.0]
    previews = Previews(Limits(idle=60), lambda: now[0])
    old, young = previews.add(preview()), previews.add(preview())
    now[0] = 50
    previews.get(young)
    now[0] = 70
    previews.expire()
    assert len(previews) == 1
    assert previews.get(young)
    now[0] = 140
    for name in (old, young):
        with pytest.raises(KeyError):
            previews.get(name)


@pytest.fixture
def slow(monkeypatch):
    """Decoding waits until it is let go; gives what lets it, and how often it began."""
    go, began, decode = threading.Event(), Counter(), images.decode

    def waiting(*arguments):
        began["decoding"] += 1
        assert go.wait(30)
        return decode(*arguments)

    monkeypatch.setattr(images, "decode", waiting)
    return go, began


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_more_than_may_wait_are_told_to_come_back(models, slow):
    go, began = slow
    with serving(models, Limits(workers=1, queue=1)) as port, ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(ask, port, "/api/enhance", file(dark())) for _ in range(3)]
        until(lambda: any(future.done() for future in asked))
        status, headers, body = ask(port, "/api/pictures", file(dark()))
        assert (status, headers["retry-after"]) == (503, "1")
        assert "try again later" in json.loads(body)["error"]
        assert ask(port, "/api/info")[0] == 200
        go.set()
        assert sorted(future.result()[0] for future in asked) == [200, 200, 503]
        assert ask(port, "/api/enhance", file(dark()))[0] == 200
    assert began["decoding"] == 3


def test_uploads_wait_within_memory(models, slow):
    go, began = slow
    data = file(dark())
    with serving(models, Limits(memory=len(data) + 10)) as port, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask, port, "/api/enhance", data)
        until(lambda: began["decoding"])
        assert ask(port, "/api/enhance", data)[0] == 503
        go.set()
        assert waiting.result()[0] == 200


def test_who_has_left_the_queue_is_not_served(models, slow, monkeypatch):
    go, began = slow
    places, place = Counter(), WorkQueue.place

    @contextmanager
    def counted(queue):
        try:
            with place(queue):
                places["taken"] += 1
                yield
        finally:
            places["left"] += 1

    monkeypatch.setattr(WorkQueue, "place", counted)
    with serving(models, Limits(workers=1, queue=5)) as port, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask, port, "/api/enhance", file(dark()))
        until(lambda: began["decoding"] == 1)
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("POST", "/api/enhance", file(dark()))
        until(lambda: places["taken"] == 2)
        connection.sock.shutdown(socket.SHUT_RDWR)
        connection.close()
        until(lambda: places["left"] == 1)
        go.set()
        assert waiting.result()[0] == 200
        assert ask(port, "/api/enhance", file(dark()))[0] == 200
    assert began["decoding"] == 2


class Impatient(Limits):
    def transfer_seconds(self, size):
        return 0.2


class ImpatientWithResults(Limits):
    """For a result of megabytes there is no time."""

    def transfer_seconds(self, size):
        return 0.2 if size > 1_000_000 else 30


def test_an_upload_that_stands_still_is_ended(models):
    with serving(models, Impatient()) as port, socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(b"POST /api/enhance HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\nabc")
        assert connection.recv(100).startswith(b"HTTP/1.1 408")


class Slow(Limits):
    def transfer_seconds(self, size):
        return 0.5 + size / 1000


def test_an_upload_must_keep_a_pace(models):
    with serving(models, Slow()) as port, socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(b"POST /api/enhance HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\n")
        connection.settimeout(0.05)
        began, answer = time.monotonic(), b""
        while not answer and time.monotonic() < began + 30:
            connection.sendall(b"a")
            try:
                answer = connection.recv(100)
            except TimeoutError:
                continue
        assert answer.startswith(b"HTTP/1.1 408")
    with serving(models, Slow()) as port:
        # Ten times 0.1 s is longer than a silent one may take, and fast enough.
        data = file(np.random.default_rng(0).integers(0, 60, (60, 90, 3), np.uint8))
        with socket.create_connection(("127.0.0.1", port), 30) as connection:
            sent = f"POST /api/enhance HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(data)}\r\n\r\n".encode()
            for i in range(10):
                connection.sendall(sent + data[i * len(data) // 10 : (i + 1) * len(data) // 10])
                time.sleep(0.1)
                sent = b""
            assert connection.recv(12) == b"HTTP/1.1 200"


def announced(port, size):
    """A connection at which the server waits for an upload of ``size`` bytes."""
    connection = socket.create_connection(("127.0.0.1", port), 30)
    head = f"POST /api/enhance HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {size}\r\nExpect: 100-continue\r\n\r\n"
    connection.sendall(head.encode())
    assert connection.recv(100).startswith(b"HTTP/1.1 100")
    return connection


def test_uploads_that_are_announced_and_do_not_come_take_no_place(models):
    limits = Limits()
    with serving(models, limits) as port, ExitStack() as held:
        for _ in range(limits.queue + limits.workers + 6):
            held.enter_context(announced(port, limits.file))
        for path in ("/api/enhance", "/api/pictures"):
            assert ask(port, path, file(dark()))[0] in (200, 201)


def test_who_begins_no_request_is_left(models, monkeypatch):
    monkeypatch.setattr(server, "_SILENCE", 0.3)
    with serving(models) as port:
        for head in (b"", b"GET /api/info HTTP/1.1\r\nHost: 127."):
            with socket.create_connection(("127.0.0.1", port), 30) as connection:
                connection.sendall(head)
                assert connection.recv(100) == b""


def test_who_has_begun_a_request_is_left_in_peace(models, monkeypatch):
    connections, looks, made, look = [], Counter(), server._Connection.connection_made, server._Connection._look

    def kept(connection, transport):
        connections.append(connection)
        made(connection, transport)

    def counted(connection, before):
        look(connection, before)
        looks[connection] += not connection.transport.is_closing()

    monkeypatch.setattr(server._Connection, "connection_made", kept)
    monkeypatch.setattr(server._Connection, "_look", counted)
    with serving(models) as port, announced(port, 5) as connection:
        monkeypatch.setattr(server, "_SILENCE", 0.02)
        (begun,) = connections
        begun.loop.call_soon_threadsafe(begun._look, begun.cycle)  # and again and again
        until(lambda: looks[begun] >= 3)
        connection.sendall(b"hello")
        assert connection.recv(100).startswith(b"HTTP/1.1 415")


BUFFER = 65_536
LARGE = 800 * 1000 * 3


def large_result(port):
    """A connection that asked for 2.4 MB and reads nothing, more than the buffers on the way hold."""
    connection = socket.socket()
    connection.settimeout(120)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    connection.connect(("127.0.0.1", port))
    data = file(np.zeros((800, 1000, 3), np.uint8))
    head = f"POST /api/enhance?format=bmp&scale=64 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(data)}\r\n\r\n"
    connection.sendall(head.encode() + data)
    assert connection.recv(12) == b"HTTP/1.1 200"
    return connection


def test_a_result_keeps_its_place_until_it_is_read(models):
    with serving(models, Limits(workers=1, queue=0), BUFFER) as port, large_result(port) as connection:
        for _ in range(5):
            assert ask(port, "/api/enhance", file(dark()))[0] == 503
        read = 0
        while read < LARGE:
            read += len(connection.recv(1 << 20))
        until(lambda: ask(port, "/api/enhance", file(dark()))[0] == 200)


def test_who_does_not_read_is_left(models):
    with serving(models, ImpatientWithResults(workers=1, queue=0), BUFFER) as port, large_result(port) as connection:
        until(lambda: ask(port, "/api/enhance", file(dark()))[0] == 200)
        read = 0
        while some := connection.recv(1 << 20):
            read += len(some)
        assert read < LARGE


def test_a_picture_that_memory_can_not_hold_is_too_large(models, monkeypatch):
    def greedy(self):
        raise MemoryError

    monkeypatch.setattr("PIL.BmpImagePlugin.BmpImageFile.load", greedy)
    with serving(models) as port:
        status, _, body = ask(port, "/api/enhance", file(dark(), "BMP"))
    assert (status, json.loads(body)) == (413, {"error": "there is not enough memory for the picture"})


def test_an_error_of_ours_tells_nothing(models, monkeypatch, capfd):
    def broken(*arguments):
        raise TypeError("secret")

    monkeypatch.setattr(images, "encode", broken)
    with serving(models) as port:
        status, headers, body = ask(port, "/api/enhance", file(dark()))
    assert (status, headers["x-frame-options"]) == (500, "DENY")
    assert b"secret" not in body
    assert "TypeError: secret" in capfd.readouterr().err


def test_the_document_says_what_is_taken_and_answered(port):
    document = json.loads(ask(port, "/api/openapi.json")[2])
    assert {(path, method) for path, methods in document["paths"].items() for method in methods} == {
        ("/", "get"), ("/api/info", "get"), ("/api/enhance", "post"), ("/api/pictures", "post"),
        ("/api/pictures/{name}", "delete"), ("/api/pictures/{name}/before", "get"), ("/api/pictures/{name}/after", "get"),
    }  # fmt: skip
    enhance = document["paths"]["/api/enhance"]["post"]
    asked = {parameter["name"]: parameter for parameter in enhance["parameters"]}
    assert set(asked) == {"model", "format", *SETTINGS}
    assert asked["strength"]["schema"] == {
        "type": "number", "minimum": -4, "maximum": 4, "default": 1.0, "title": "Strength",
        "description": options()["strength"].help,
    }  # fmt: skip
    assert asked["format"]["schema"]["enum"] == list(FORMATS)
    job = enhance["requestBody"]["content"]["application/json"]["schema"]
    assert (set(job["properties"]), job["required"]) == ({"image", *asked}, ["image"])
    Info.model_validate_json(ask(port, "/api/info")[2], strict=True)
    KeptPreview.model_validate_json(ask(port, "/api/pictures", file(dark()))[2], strict=True)
    body = json.dumps({"image": base64.b64encode(file(dark())).decode()})
    EnhancedPicture.model_validate_json(ask(port, "/api/enhance", body, **JSON)[2], strict=True)


def test_the_documentation_runs(port, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.jpg").write_bytes(file(dark(), "JPEG"))
    names = {}
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "serve.md").read_text(), re.DOTALL)
    exec(code.replace("127.0.0.1:8000", f"127.0.0.1:{port}"), names)
    assert decoded(names["bright"]).mean() > dark().mean() + 10
    assert capsys.readouterr().out.startswith("image/png 90 60 ")


def test_the_page_needs_nothing_else_and_runs_nothing_else(port):
    status, headers, body = ask(port, "/")
    html = body.decode()
    assert status == 200
    assert not re.findall(r"(?:src|href)=[\"']?(?:https?:)?//|@import", html)
    for tag in ("style", "script"):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert tag == "script" or "url(" not in inside
        assert f"{tag}-src 'sha256-{digest}'" in headers["content-security-policy"]
    assert "unsafe" not in page.page()[1]


def test_the_page_that_sends_nothing_is_linked_and_isolated_where_it_was_built(models, tmp_path, monkeypatch):
    monkeypatch.setattr(in_browser, "FOLDER", tmp_path)
    with serving(models) as port:
        assert "/browser/" not in ask(port, "/")[2].decode()
        assert ask(port, "/browser/")[0] == 404
    (tmp_path / "index.html").write_text("a page")
    (tmp_path / "zdce.js").write_text("a script")
    with serving(models) as port:
        assert 'href="/browser/"' in ask(port, "/")[2].decode()
        for path, text, kind in (("", b"a page", "text/html"), ("zdce.js", b"a script", "javascript")):
            status, headers, body = ask(port, f"/browser/{path}")
            assert (status, body) == (200, text)
            assert kind in headers["content-type"]
            assert headers["cross-origin-opener-policy"] == "same-origin"
            assert headers["cross-origin-embedder-policy"] == "require-corp"
            assert "default-src 'self'" in headers["content-security-policy"]
        assert ask(port, "/browser/../page.py")[0] == 404


def test_networks_go_by_their_files_names(models, tmp_path):
    assert [one["name"] for one in Networks(models).described()] == ["base/last", "iters4/last"]
    assert [one["name"] for one in Networks([models[0], "base"]).described()] == ["last", "base"]
    with pytest.raises(ValueError, match="expected each model once"):
        Networks([models[0], models[0]])
    zdce.DCENet("zero-dce-pp").save(tmp_path / "pp.safetensors")
    assert Networks([str(tmp_path / "pp.safetensors")]).described()[0]["scales"] == [12]


def test_mistakes_on_the_command_line_are_one_line(models, port):
    for arguments, words in (
        (["-m", "none"], "no weights at none"),
        (["-m", models[0], "--port", str(port)], f"can't listen at 127.0.0.1, port {port}: Address already in use"),
        (["-m", models[0], "--host", "no.such.host.invalid"], "can't listen at no.such.host.invalid"),
    ):
        result = CliRunner().invoke(cli.main, ["serve", *arguments], catch_exceptions=False)
        assert result.exit_code == 1
        assert words in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_a_missing_framework_is_named_with_its_extra(models, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result = CliRunner().invoke(cli.main, ["serve", "-m", models[0]], catch_exceptions=False)
    assert result.exit_code == 1
    assert "pip install 'zdce[serve]'" in result.stderr


def resident(pid):
    """Megabytes of a process in memory."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


def refuses(port):
    with closing(socket.socket()) as connection:
        return connection.connect_ex(("127.0.0.1", port)) != 0


def test_a_server_starts_without_standard_streams_and_ends_with_its_terminal(models):
    """Some service managers start programs so."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    line = f"exec {sys.executable} -m zdce serve -m {models[0]} --port {port} <&- >&- 2>&-"
    process = subprocess.Popen(line, shell=True)
    try:
        until(lambda: process.poll() is not None or not refuses(port))
        assert ask(port, "/")[0] == 200
        process.send_signal(signal.SIGHUP)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


def test_load_interruption_and_an_empty_disk(models, tmp_path):
    """200 requests, 16 at a time, a tenth of them broken: only those fail, memory is flat, nothing is on disk."""
    process = subprocess.Popen(
        [sys.executable, "-m", "zdce", "serve", "-m", models[0], "--port", "0", "--most-pictures", "10"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={"TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        port = int(re.search(r":(\d+)/", process.stdout.readline())[1])
        pictures = [file(dark(240, 320, seed), kind) for seed, kind in enumerate(("PNG", "JPEG", "WEBP"))]
        broken = (b"hello", pictures[0][:500])

        def one(i):
            bad = i % 10 == 3
            data = broken[i % 2] if bad else pictures[i % 3]
            path = ("/api/enhance", "/api/enhance?scale=4&strength=0.6", "/api/pictures")[i % 3 if not bad else i % 2 * 2]
            status, _, body = ask(port, path, data)
            if status == 201:
                status = ask(port, f"/api/pictures/{json.loads(body)['id']}/after")[0]
                status = 200 if status == 404 else status  # ten others came in between
            return bad, status

        # Kept pictures would be 90 times 230 kB a round and results as many, kept curve maps 30 times 7 MB. What is lost grows
        # in every round; what an allocator has not given back yet does not.
        sizes = []
        while len(sizes) < 2 or sizes[-1] - sizes[-2] >= 15:
            assert len(sizes) < 6, sizes
            with ThreadPoolExecutor(16) as pool:
                assert Counter(pool.map(one, range(100))) == {(False, 200): 90, (True, 415): 10}
            sizes.append(resident(process.pid))
        large = file(dark(1500, 2000), "BMP")
        with announced(port, len(large)) as last:
            process.send_signal(signal.SIGTERM)
            until(lambda: refuses(port))
            last.sendall(large)
            assert last.recv(12) == b"HTTP/1.1 200"
            while last.recv(1 << 20):
                pass
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()
    assert (process.returncode, errors) == (0, "")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def opened(browser, port, request):
    """The page in a window of the asked width and scheme; it must ask nobody else, and its console stay quiet."""
    options = getattr(request, "param", {"width": 1280, "scheme": "light"})
    context = browser.new_context(
        viewport={"width": options["width"], "height": 900}, color_scheme=options["scheme"], accept_downloads=True
    )
    shown, said = context.new_page(), []
    shown.on("console", lambda message: said.append(message.text))
    shown.on("pageerror", lambda error: said.append(str(error)))
    home = f"http://127.0.0.1:{port}/"
    shown.on("request", lambda asked: asked.url.startswith((home, "blob:", "data:")) or said.append(asked.url))
    shown.goto(home)
    shown.locator("#model option").first.wait_for(state="attached")
    yield shown
    # Chromium itself reports refused uploads and pictures that are not held.
    assert [words for words in said if not re.search("status of 4(04|15)", words)] == []
    context.close()


def put(shown, *files):
    """Gives the page (name, bytes) files, and waits until every one is ready or refused."""
    payload = [{"name": name, "mimeType": "image/png", "buffer": data} for name, data in files]
    shown.set_input_files("#files", payload)
    shown.locator("#film li.ready, #film li.failed").nth(len(files) - 1).wait_for()
    shown.locator("#veil").wait_for(state="hidden")


def brightness(shown):
    """The enhanced preview's mean, as the browser has it."""
    return shown.evaluate(
        """() => { const image = document.querySelector('.stage .after'), canvas = document.createElement('canvas');
        canvas.width = canvas.height = 8; const context = canvas.getContext('2d'); context.drawImage(image, 0, 0, 8, 8);
        return context.getImageData(0, 0, 8, 8).data.filter((_, i) => i % 4 < 3).reduce((a, b) => a + b) / 192; }"""
    )


def split(shown):
    return float(shown.evaluate("getComputedStyle(document.querySelector('.stage')).getPropertyValue('--x')").strip(" %"))


def test_drop_compare_and_change_the_strength(opened):
    data = base64.b64encode(file(dark())).decode()
    opened.evaluate(
        """data => { const carried = new DataTransfer();
        carried.items.add(new File([Uint8Array.from(atob(data), c => c.charCodeAt(0))], 'night.png'));
        for (const type of ['dragenter', 'dragover', 'drop']) document.body.dispatchEvent(
          new DragEvent(type, { dataTransfer: carried, bubbles: true, cancelable: true })); }""",
        data,
    )
    opened.locator("#film li.ready").wait_for()
    opened.locator("#veil").wait_for(state="hidden")
    assert "night.png \u00b7 90 \u00d7 60 \u00b7 curve estimated in" in opened.inner_text("#facts")
    seen = [brightness(opened)]
    assert seen[0] > dark().mean() + 10

    for change in ("#strength", "#model", "#scales"):
        source = opened.get_attribute(".after", "src")
        if change == "#strength":
            opened.fill("#strength", "0")
        elif change == "#model":
            opened.fill("#strength", "1")
            opened.locator(f".after:not([src='{source}'])").wait_for()
            source = opened.get_attribute(".after", "src")
            opened.select_option("#model", "iters4/last")
        else:
            opened.get_by_label("Fastest").check()
        opened.locator(f".after:not([src='{source}'])").wait_for()
        seen.append(brightness(opened))
    assert abs(seen[1] - dark().mean()) < 2
    assert seen[2] != seen[0]
    assert "12 times smaller" in opened.inner_text("#scale-note")
    assert "4 iterations" in opened.inner_text("#model-note")

    box = opened.locator("#split").bounding_box()
    opened.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40)
    opened.mouse.down()
    opened.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + 40)
    opened.mouse.up()
    assert 15 <= split(opened) <= 25
    at = split(opened)
    opened.locator("#split").press("ArrowRight")
    assert split(opened) == at + 0.5
    opened.locator("#split").press("End")
    assert split(opened) == 100


def test_one_download_is_at_full_size(opened, models):
    pixels = dark(1000, 1400)
    put(opened, ("night.png", file(pixels)))
    assert "shown smaller" in opened.inner_text("#facts")
    opened.fill("#strength", "0.5")
    with opened.expect_download() as started:
        opened.click("#download")
    assert started.value.suggested_filename == "night-enhanced.png"
    expected = zdce.Enhancer(zdce.load(models[0]), strength=0.5)(pixels)
    assert np.array_equal(np.asarray(Image.open(started.value.path())), expected)
    opened.locator("#said", has_text="night-enhanced.png").wait_for()


def test_the_first_of_several_is_shown_and_not_the_one_that_is_done_first(opened, monkeypatch):
    decode, go = images.decode, threading.Event()
    slow = file(dark(seed=1))

    def waiting(data, *arguments):
        if data == slow:
            assert go.wait(30)
        return decode(data, *arguments)

    monkeypatch.setattr(images, "decode", waiting)
    dropped = (("a.png", slow), ("b.png", file(dark(seed=2))))
    payload = [{"name": name, "mimeType": "image/png", "buffer": data} for name, data in dropped]
    opened.set_input_files("#files", payload)
    opened.locator("#film li.ready").wait_for()
    assert opened.locator("#film .frame[aria-pressed=true]").get_attribute("title") == "a.png"
    go.set()
    opened.locator("#veil").wait_for(state="hidden")
    assert "a.png" in opened.inner_text("#facts")


@pytest.mark.parametrize("level", [20, 150])
def test_the_page_says_where_nothing_had_to_change_and_offers_what_would(browser, level):
    small = np.random.default_rng(0).integers(level - 15, level + 15, (4, 6, 3)).astype(np.uint8)
    picture = np.asarray(Image.fromarray(small).resize((90, 60), Image.Resampling.BICUBIC))
    with serving([weights.DEFAULT]) as port, closing(browser.new_context()) as context:
        shown = context.new_page()
        shown.goto(f"http://127.0.0.1:{port}/")
        shown.locator("#model option").first.wait_for(state="attached")
        put(shown, ("scene.png", file(picture)))
        if level == 20:
            assert shown.locator("#unchanged").is_hidden()
            return
        assert f"Nothing had to change: for {weights.DEFAULT}" in shown.inner_text("#unchanged")
        seen, source = brightness(shown), shown.get_attribute(".after", "src")
        shown.click("#brighten")
        shown.locator(f".after:not([src='{source}'])").wait_for()
        assert brightness(shown) > seen + 5
        assert shown.locator("#unchanged").is_hidden()
        assert shown.locator("[name=brightness]").input_value() == "0"


def test_other_settings_have_controls(opened):
    put(opened, ("night.png", file(dark())))
    opened.locator("#more summary").click()
    names = opened.evaluate("[...document.querySelectorAll('#others [name]')].map(control => control.name)")
    assert names == [name for name in SETTINGS if name not in ("scale", "strength", "quality")]
    source = opened.get_attribute(".after", "src")
    opened.locator("[name=brightness]").fill("0.6")
    opened.locator("[name=brightness]").blur()
    opened.locator(f".after:not([src='{source}'])").wait_for()


def test_a_batch_is_one_file_and_broken_ones_are_named(opened, tmp_path):
    put(
        opened,
        ("a.png", file(dark(seed=1))),
        ("bad.png", b"hello"),
        ("b.png", file(dark(seed=2))),
        ("a.png", file(dark(seed=3))),
    )
    opened.get_by_label("Fastest").check()
    assert opened.inner_text("#strip-title") == "4 photographs, 1 can\u2019t be used"
    opened.locator("li.failed .frame").click()
    assert opened.inner_text("#veil") == "bad.png: not a picture that can be read"
    assert opened.locator("#download").is_disabled()
    opened.select_option("#format", "jpeg")
    with opened.expect_download() as started:
        opened.click("#download-all")
    with zipfile.ZipFile(started.value.path()) as packed:
        assert packed.namelist() == ["a-enhanced.jpg", "b-enhanced.jpg", "a-enhanced (2).jpg"]
        assert packed.testzip() is None
        assert [decoded(packed.read(name)).shape for name in packed.namelist()] == [(60, 90, 3)] * 3
    opened.locator("#said", has_text="3 saved.").wait_for()
    assert opened.locator("#batch").is_hidden()
    opened.get_by_label("Remove bad.png").click()
    assert opened.inner_text("#strip-title") == "3 photographs"
    opened.click("#clear")
    assert opened.locator("#drop").is_visible()


def test_a_picture_that_the_server_let_go_is_sent_again(opened):
    uploads = []
    opened.on("request", lambda asked: asked.url.endswith("/api/pictures") and uploads.append(asked.method))
    put(opened, ("night.png", file(dark())))
    opened.evaluate("() => fetch(performance.getEntriesByType('resource').map(e => e.name).find(n => n.endsWith('before'))"
                    ".replace('/before', ''), { method: 'DELETE' })")  # fmt: skip
    source = opened.get_attribute(".after", "src")
    opened.fill("#strength", "1.5")
    opened.locator(f".after:not([src='{source}'])").wait_for()
    assert uploads == ["POST", "POST"]


@pytest.mark.parametrize(
    "opened", [{"width": w, "scheme": s} for w in (360, 1600) for s in ("light", "dark")], indirect=True, ids=str
)
def test_no_screen_is_too_narrow_and_both_schemes_can_be_read(opened):
    def light(element, name):
        color = opened.evaluate(f"getComputedStyle(document.querySelector('{element}')).{name}")
        red, green, blue = map(int, re.findall(r"\d+", color)[:3])
        return np.dot(LUMA, (red, green, blue))

    for _ in range(2):
        assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert abs(light("body", "backgroundColor") - light("body", "color")) > 150
        before = light("body", "backgroundColor") > 127
        opened.click("#theme")
        assert (light("body", "backgroundColor") > 127) != before
        if opened.locator("#work").is_hidden():
            put(opened, ("night.png", file(dark())))
    assert opened.locator("#download").bounding_box()["x"] + 10 < opened.viewport_size["width"]
