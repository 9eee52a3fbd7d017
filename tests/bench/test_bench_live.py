"""`zdce bench live` with a film in real time, and the film that it generates."""

import csv
import json

import pytest
from click.testing import CliRunner
from PIL import Image

from zdce import cli
from zdce.bench import clip
from zdce.bench import live as bench
from zdce.runtime import threads

av = pytest.importorskip("av", reason="the extra `video` is not installed")
pytest.importorskip("fastapi", reason="the extra `serve` is not installed")


@pytest.fixture
def own_threads(monkeypatch):
    """The number of threads as it was, after the test."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = threads.number()
    yield
    threads.use(before)


@pytest.mark.usefixtures("own_threads")
def test_a_film_gives_latency_jitter_and_drops(tmp_path):
    clip.write(tmp_path / "film.mp4", 64, 96)
    command = ["bench", "live", str(tmp_path / "film.mp4"), "--threads", "1", "--json", "--csv", str(tmp_path / "rows.csv")]
    result = CliRunner().invoke(cli.main, command, catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    rows = {(row["mode"], row["metric"]): row for row in json.loads(result.stdout)}
    assert set(rows) == {
        ("enhanced", "latency"), ("enhanced", "jitter"), ("as JPEG", "latency"), ("as JPEG", "jitter"), ("enhanced", "dropped"),
    }  # fmt: skip
    for row in rows.values():
        assert (row["suite"], row["case"], row["shape"], row["threads"]) == ("live", "film.mp4", "64x96", 1)
    latency = rows["enhanced", "latency"]
    assert 0 < latency["p20"] <= latency["value"] <= latency["p80"]
    assert rows["as JPEG", "latency"]["value"] > 0
    assert rows["enhanced", "jitter"]["value"] >= 0
    assert 0 <= rows["enhanced", "dropped"]["value"] < 100
    assert len(list(csv.DictReader((tmp_path / "rows.csv").read_text().splitlines()))) == 5


@pytest.mark.usefixtures("own_threads")
def test_a_film_of_one_picture_is_too_short(tmp_path):
    Image.new("RGB", (96, 64), (9, 9, 9)).save(tmp_path / "a.jpg")
    result = CliRunner().invoke(cli.main, ["bench", "live", str(tmp_path / "a.jpg"), "--threads", "1"], catch_exceptions=False)
    assert result.exit_code == 1
    assert result.stderr == f"Error: {tmp_path / 'a.jpg'}: expected a film of 20 frames or more, got 1\n"


def test_what_it_makes_is_a_camera_s_film(tmp_path):
    bench.write(tmp_path / "film.mp4", 64, 96, 2.5)
    with av.open(str(tmp_path / "film.mp4")) as file:
        packets = [packet for packet in file.demux(video=0) if packet.size]
        assert len(packets) == 75
        assert all(packet.pts == packet.dts for packet in packets)  # none waits for another
        assert [i for i, packet in enumerate(packets) if packet.is_keyframe] == [0, 30, 60]
        assert float(file.streams.video[0].average_rate) == clip.FPS


def test_the_table_has_a_line_for_each_film_and_wait():
    described = ("64x96", "uint8", 2, "cpu")
    rows = [
        *bench._rows("film", "enhanced", [0.010, 0.020, 0.030], described),
        *bench._rows("film", "as JPEG", [0.020, 0.030, 0.040], described),
        bench.Row.of("live", "film", "zdce", "enhanced", "dropped", "%", [4.0], *described),
    ]
    assert bench.table(rows) == [
        ["film", "64x96", "enhanced", "20.0", "9.0", "4.0 %"],
        ["film", "64x96", "as JPEG", "30.0", "9.0", "4.0 %"],
    ]
