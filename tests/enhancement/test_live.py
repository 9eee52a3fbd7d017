"""Live video: which frames are enhanced, their timing, and scenes that become lit and dark."""

import threading
import time
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from zdce.enhancement import live, video
from zdce.enhancement.enhancer import Enhancer, load
from zdce.errors import FileError, InputError
from zdce.settings import EnhanceSettings

av = pytest.importorskip("av", reason="the extra `video` is not installed")

from zdce.io import live_frames, video_frames  # noqa: E402

FPS = 20


def film(path, levels, height=64, width=96, rotation=None):
    """A film of flat frames of these levels, with a pattern that a decoder's mistakes would show in."""
    pattern = np.random.default_rng(0).integers(-3, 4, (height // 8, width // 8, 1)).repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as file:
        options = {"preset": "ultrafast", "tune": "zerolatency", "g": "5", "crf": "1"}
        stream = file.add_stream("libx264", rate=FPS, width=width, height=height, pix_fmt="yuv420p", options=options)
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for i, level in enumerate(levels):
            pixels = np.clip(level + pattern, 0, 255).astype(np.uint8).repeat(3, 2)
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.pts, frame.time_base = i, Fraction(1, FPS)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return str(path)


@pytest.fixture(scope="module")
def network():
    return load("local")


class Clock:
    """The time of a `LiveReader`, which passes only as the test says; the reader's thread sleeps meanwhile."""

    def __init__(self, monkeypatch, reader):
        self._now = self._until = 100.0
        self._change, self._reader = threading.Condition(), reader
        self._wakes: float | None = None
        monkeypatch.setattr(live_frames, "time", SimpleNamespace(monotonic=lambda: self._now))
        reader._stop = self
        self._is_set = False

    def wait(self, seconds):
        """As of ``threading.Event``, in the reader's thread."""
        with self._change:
            self._wakes = self._now + seconds
            self._change.notify_all()
            self._change.wait_for(lambda: self._is_set or self._wakes <= self._until)
            self._now, self._wakes = max(self._now, self._wakes), None

    def set(self):
        with self._change:
            self._is_set = True
            self._change.notify_all()

    def is_set(self):
        return self._is_set

    def pass_until(self, moment):
        """Returns at ``moment``, when the reader has done everything before and sleeps or has ended."""
        deadline = time.monotonic() + 60
        with self._change:
            self._until = 100 + moment
            self._change.notify_all()
            while self._reader._thread.is_alive() and not (self._wakes is not None and self._wakes > self._until):
                assert time.monotonic() < deadline
                self._change.wait(0.01)
            self._now = self._until


def watched(monkeypatch, path, moments):
    """Numbers, ages and mean levels of the frames that somebody gets who asks at these moments, in seconds."""
    reader = live_frames.LiveReader(live_frames.Source.of(path))
    clock, seen = Clock(monkeypatch, reader), []
    with reader:
        frames = reader.frames(threading.Event())
        for moment in moments:
            clock.pass_until(moment)
            one = next(frames)
            seen.append((one.number, 100 + moment - one.arrived, reader.pixels(one).mean()))
        clock.pass_until(60.0)
        assert next(frames, None) is None
    return tuple(map(np.array, zip(*seen, strict=True)))


def write_reordered(path, rate, count=16):
    """A film whose frames are decoded in another order than they are shown in; each is 5 levels brighter than the last."""
    with av.open(str(path), "w") as file:
        options = {"bf": "8", "x264-params": "b-adapt=0:scenecut=0", "crf": "1"}
        stream = file.add_stream("libx264", rate=rate, width=96, height=64, pix_fmt="yuv420p", options=options)
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(np.full((64, 96, 3), 40 + 5 * i, np.uint8), "rgb24")
            frame.pts, frame.time_base = i, Fraction(1, rate)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return str(path)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".h264"])
def test_frames_that_are_decoded_in_another_order_are_all_in_time(tmp_path, monkeypatch, suffix):
    reader = live_frames.LiveReader(live_frames.Source.of(write_reordered(tmp_path / f"film{suffix}", 5)))
    _, now = passing(monkeypatch, reader)
    decode, shown = reader._decode, []

    def noted(packet, arrived):
        decode(packet, arrived)
        if reader._newest is not None and (not shown or reader._newest.number > shown[-1][0]):
            shown.append((reader._newest.number, reader.pixels(reader._newest).mean()))

    reader._decode = noted
    reader._read()
    assert reader.came == 16
    numbers, levels = map(np.array, zip(*shown, strict=True))
    assert numbers[-1] == 15
    assert np.abs(levels - 40 - 5 * numbers).max() < 2  # none is missing: each is as bright as its number says
    assert 2 < now[0] - 100 < 16 / 5 + 0.1  # at the film's own rate


def test_a_file_that_shows_nothing_is_an_error(tmp_path):
    path = tmp_path / "film.mkv"
    film(path, [40] * 12)
    data = bytearray(path.read_bytes())
    begin = data.index(b"\x1f\x43\xb6\x75") + 12  # all packets become nonsense
    data[begin:] = b"\xff" * (len(data) - begin)
    path.write_bytes(data)
    with live_frames.LiveReader(live_frames.Source.of(str(path))) as reader, pytest.raises(FileError, match="no frame of it"):
        next(reader.frames(threading.Event()))


def test_a_file_is_played_in_real_time_and_somebody_fast_gets_its_frames(tmp_path, monkeypatch):
    path = film(tmp_path / "film.mp4", [10 * i for i in range(21)])
    numbers, ages, levels = watched(monkeypatch, path, [i / FPS + 0.01 for i in range(21)])
    assert numbers.tolist() == list(range(21))
    assert ages == pytest.approx(np.full(21, 0.01))  # each came at its time
    assert np.round(levels / 10).tolist() == numbers.tolist()


def test_somebody_slow_gets_the_newest_frames_and_does_not_lag(tmp_path, monkeypatch):
    path = film(tmp_path / "film.mp4", [40] * 41)
    numbers, ages, _ = watched(monkeypatch, path, [0.3 * i + 0.01 for i in range(7)] + [3.0])
    assert numbers.tolist() == [0, 6, 12, 18, 24, 30, 36, 40]
    assert ages[:-1] == pytest.approx(np.full(7, 0.01))  # a queue's would grow up to the film's two seconds


def passing(monkeypatch, reader):
    """A function that lets the reader's time pass, and the time as a list of one; the reader runs in this thread."""
    now = [100.0]

    def passes(seconds):
        now[0] += seconds

    monkeypatch.setattr(live_frames, "time", SimpleNamespace(monotonic=lambda: now[0]))
    reader._stop = SimpleNamespace(wait=passes, is_set=lambda: False)
    return passes, now


def test_a_decoder_that_falls_behind_skips_to_a_frame_that_needs_no_other(tmp_path, monkeypatch):
    path = film(tmp_path / "film.mp4", [40 + i for i in range(80)])
    reader = live_frames.LiveReader(live_frames.Source.of(path))
    passes, now = passing(monkeypatch, reader)
    decode, came = reader._decode, []

    def slow(packet, arrived):
        passes(2.5 / FPS)
        decode(packet, arrived)
        if packet.size:
            one = reader._newest
            came.append((one.number, now[0] - one.arrived, reader.pixels(one).mean()))

    reader._decode = slow
    reader._read()
    assert now[0] - 100 < 80 / FPS + 1  # all decoded would take 10 s
    numbers, ages, levels = map(np.array, zip(*came, strict=True))
    assert len(numbers) > 25  # of the 32 for which there is time
    assert max(ages) < 1.0
    assert np.abs(levels - 40 - numbers).max() < 2  # what is decoded after a gap is whole


def test_a_camera_whose_clock_is_slow_or_jumps_is_not_late(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(live_frames.time, "monotonic", lambda: now[0])
    clock = live_frames._SourceClock(is_file=False)
    for i in range(100_000):  # an hour and more, in which the clock loses a second
        now[0] = 100 + i * (1 / 25) * (1 + 2.5e-4)
        late = now[0] - clock.due(i / 25)
    assert late < 0.01
    now[0] += 0.7
    assert now[0] - clock.due(100_000 / 25) == pytest.approx(0.7 - 1 / 25, abs=0.01)
    assert now[0] - clock.due(5.0) < 0.01  # its times began anew
    assert now[0] - clock.due(5e4) < 0.01


def test_a_file_whose_times_jump_goes_on(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(live_frames.time, "monotonic", lambda: now[0])
    clock = live_frames._SourceClock(is_file=True)
    assert clock.due(30.0) == 100
    assert clock.due(31.0) == 101
    now[0] = 101.2
    assert clock.due(31.5) == 101.5  # what is a little late shifts nothing
    assert clock.due(5000.0) == pytest.approx(101.2)
    assert clock.due(5001.0) == pytest.approx(102.2)
    now[0] = 103.0
    assert clock.due(0.0) == 103
    assert clock.due(1.0) == 104


def test_a_source_that_comes_in_pieces_and_later_for_good_is_decoded(tmp_path, monkeypatch):
    path = film(tmp_path / "film.mp4", [40 + i for i in range(60)])
    reader = live_frames.LiveReader(live_frames.Source.of("http://127.0.0.1/film"))
    passes, now = passing(monkeypatch, reader)
    with av.open(path) as file:

        def demux(stream):
            for i, packet in enumerate(file.demux(stream)):
                if i and i % 20 == 0:  # a second of film
                    passes(1.0 if i == 20 else 1.7)
                yield packet

        decoded = []
        reader._decode = lambda packet, arrived: decoded.append(now[0] - arrived)
        reader._follow(SimpleNamespace(streams=file.streams, demux=demux))
    assert len(decoded) == 61  # and the end
    assert max(decoded) < live_frames._LATE


def test_the_last_frames_of_a_late_source_count_as_dropped(network):
    class Late:
        came = 10

        def frames(self, stop):
            return (live_frames.LiveFrame(None, number, number / 25, time.monotonic()) for number in (0, 3))

        def pixels(self, frame):
            return np.full((16, 16, 3), 20, np.uint8)

    meter = live.run(Late(), Enhancer(network), lambda shown: None, threading.Event())
    assert (meter.shown, meter.dropped) == (2, 8)


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_films_of_turned_telephones_are_upright(tmp_path, rotation):
    path = film(tmp_path / "film.mp4", [40], rotation=rotation)
    with av.open(path) as file:
        (frame,) = file.decode(video=0)
    assert (frame.rotation - rotation) % 360 == 0
    with live_frames.LiveReader(live_frames.Source.of(path)) as reader:
        found = reader.pixels(next(reader.frames(threading.Event())))
    # To the left where the angle is above 0, as FFmpeg's players turn it.
    turned = np.rot90(frame.to_ndarray(format="rgb24"), {90: 1, 180: 2, -90: 3}[rotation])
    assert found.shape == turned.shape
    assert np.abs(found.astype(int) - turned).mean() < 2


def test_fast_conversion_is_the_exact_one_within_noise(tmp_path):
    random = np.random.default_rng(0)
    smooth = np.asarray(
        Image.fromarray(random.integers(60, 140, (6, 9, 3), np.uint8)).resize((144, 96), Image.Resampling.BICUBIC)
    )
    frame = av.VideoFrame.from_ndarray(smooth, "rgb24").reformat(format="yuv420p", dst_colorspace=1)
    with live_frames.LiveReader(live_frames.Source.of(film(tmp_path / "film.mp4", [40]))) as reader:
        found = reader.pixels(live_frames.LiveFrame(frame, 0, 0.0, 0.0))
    exact = video_frames.ToRGB(144, 96, "left", deep=False)(frame)
    assert np.abs(found.astype(int) - exact).mean() < 2
    assert np.abs(found.mean((0, 1)) - exact.mean((0, 1))).max() < 2


def test_dusk_and_passing_lamps_switch_nothing_and_a_change_that_lasts_fades():
    switch = live.DarkSwitch()
    assert switch(0.4, 0.0) == 1
    dusk = [switch(1.1 + 0.14 * np.sin(i), i / 10) for i in range(1, 100)]  # above what is dark, below what is lit
    lamp = [switch(3.0, 10 + i / 10) for i in range(9)]
    assert set(dusk) | set(lamp) | {switch(0.4, 11.0)} == {1.0}
    day = [switch(3.0, 12 + i / 10) for i in range(30)]
    assert day[:11] == [1.0] * 11
    assert day[12:16] == pytest.approx([0.6, 0.4, 0.2, 0.0], abs=0.21)
    assert day[20:] == [0.0] * 10
    assert np.all(np.diff(day) <= 0)
    assert [switch(1.1, 20 + i) for i in range(5)] == [0.0] * 5
    night = [switch(0.5, 30 + i / 10) for i in range(30)]
    assert night[0] == 0
    assert night[-1] == 1
    assert max(np.diff(night)) < 0.25


def test_a_lit_scene_stays_as_it_is_and_a_dark_one_is_a_videos(network):
    random = np.random.default_rng(0)
    dark = random.integers(0, 40, (48, 64, 3), np.uint8)
    lit = random.integers(80, 255, (48, 64, 3), np.uint8)
    settings = live.settings_for(network.variant, EnhanceSettings(only_if_dark=True))
    assert (settings.scale, settings.noise) == (12, 0)
    enhancer = Enhancer(network, settings)
    assert live.LiveFrames(enhancer)(lit, 0.0) is lit
    frames, expected = live.LiveFrames(enhancer), video.FrameEnhancer(enhancer, None)
    for i in range(3):
        found = frames(dark, i / FPS)
        assert np.array_equal(found, expected(dark, i / FPS))
    assert found.mean() > 2 * dark.mean()
    assert frames.share == 1
    half = video.FrameEnhancer(enhancer, None)(dark, 0.0, 0.5)
    assert dark.mean() < half.mean() < found.mean()


def test_light_is_judged_as_it_looks_whatever_the_encoding(network):
    lit = np.random.default_rng(0).integers(5, 40, (48, 64, 3), np.uint8)
    for transfer, stays in (("srgb", False), ("linear", True)):
        settings = live.settings_for(network.variant, EnhanceSettings(only_if_dark=True, transfer=transfer))
        assert (live.LiveFrames(Enhancer(network, settings))(lit, 0.0) is lit) == stays


def test_sources_are_known_by_their_names_and_passwords_are_not_told(tmp_path, monkeypatch):
    of = live_frames.Source.of
    camera = of("rtsp://admin:pa@ss@10.0.0.5:554/live")
    assert "ss" not in of("rtsp://admin:pa55@10.0.0.5:554/live").name
    assert camera.url == "rtsp://admin:pa@ss@10.0.0.5:554/live"
    assert camera.name == "rtsp://10.0.0.5:554/live"
    assert of("rtsp://admin:pa/ss@10.0.0.5/live").name == "rtsp://10.0.0.5/live"
    assert of("http://10.0.0.5/live?user=admin&pwd=pa55").name == "http://10.0.0.5/live"
    assert of("http://admin:pa55@10.0.0.5/live?pwd=pa55").name == "http://10.0.0.5/live"
    for address in ("http://10.0.0.5/live?pwd=pa@ss word", "rtsp://admin:pa?ss@10.0.0.5/live"):
        assert "ss" not in of(address).name
    assert camera.options["rtsp_transport"] == "tcp"
    assert of("/dev/video7").input_format == "v4l2"
    assert of("testsrc", "lavfi").input_format == "lavfi"
    (tmp_path / "0:1.mp4").touch()
    monkeypatch.chdir(tmp_path)
    assert of("0:1.mp4").is_file
    with pytest.raises(FileError, match="there is no such file"):
        of("nothing.mp4")
    monkeypatch.setattr(live_frames.sys, "platform", "linux")
    assert (of("3").url, of("3").input_format) == ("/dev/video3", "v4l2")
    monkeypatch.setattr(live_frames.sys, "platform", "win32")
    with pytest.raises(
        InputError, match=r"source: expected a camera's name on win32 \(--input-format dshow .*got the number 0"
    ):
        of("0")
