"""`zdce enhance` on generated and real videos: time, sound and tags are kept, and differences are named."""

import importlib.util
import itertools
import os
import re
import signal
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import zdce
from runs import contents, enhance, no_file_grows_past, wait_for
from zdce import cli
from zdce.bench import flicker
from zdce.srgb import light_of_srgb, srgb_of_light

av = pytest.importorskip("av", reason="videos need PyAV: pip install 'zdce[video]'")

from av.sidedata.sidedata import Type as SideDataType  # noqa: E402 (needs PyAV)
from av.stream import Disposition  # noqa: E402 (needs PyAV)

from zdce.io import matroska  # noqa: E402 (needs PyAV)
from zdce.io.video_frames import FromRGB, layout_of  # noqa: E402 (needs PyAV)

BASE = Fraction(1, 90000)
# Steady at first, then with gaps, as a phone in the dark has them.
VARIABLE = [0, 3000, 6000, 9000, 15000, 16000, 16200, 27000, 30000, 45000, 48000, 51000, 54000, 57000, 60000, 63000]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def scene(size, deep=False):
    """A dark gradient (H, W, 3)."""
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    values = np.stack([20 + 30 * x / size[0], 20 + 30 * y / size[1], np.full(x.shape, 25.0)], axis=2)
    return (values * 257).astype(np.uint16) if deep else values.astype(np.uint8)


def write(
    path, times=VARIABLE, size=(96, 64), codec="libx264", pixels="yuv420p", sound="aac", tags=None, rotation=None, options=None
):
    """A video that moves to the right, with a tone as its sound."""
    picture = scene(size, deep=pixels.endswith("le"))
    layout = "rgb48le" if pixels.endswith("le") else "rgb24"
    with av.open(str(path), "w", container_options=options or {}) as file:
        film = file.add_stream(codec, rate=30, width=size[0], height=size[1], pix_fmt=pixels, time_base=BASE)
        film.time_base = BASE
        for name, value in (tags or {}).items():
            setattr(film.codec_context, name, value)
        if rotation is not None:
            film.set_display_rotation(rotation)
        audio = file.add_stream(sound, rate=48000) if sound else None
        for i, moment in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.roll(picture, i, axis=1), layout).reformat(
                format=pixels, dst_color_range=(tags or {}).get("color_range"), dst_colorspace=(tags or {}).get("colorspace", 1)
            )
            frame.pts, frame.time_base = moment, BASE
            file.mux(film.encode(frame))
            if audio:
                file.mux(audio.encode(tone(i)))
        file.mux(film.encode(None))
        if audio:
            file.mux(audio.encode(None))


def tone(i, samples=960):
    wave = np.sin(np.arange(i * samples, (i + 1) * samples) * 440 * 2 * np.pi / 48000).astype(np.float32) / 4
    frame = av.AudioFrame.from_ndarray(np.stack([wave, wave]), "fltp", "stereo")
    frame.sample_rate, frame.pts, frame.time_base = 48000, i * samples, Fraction(1, 48000)
    return frame


def packets(path):
    """When each frame is shown, of the other streams' packets the time and the bytes, and the streams' time bases."""
    with av.open(str(path)) as file:
        found = {stream.index: [] for stream in file.streams}
        for packet in file.demux():
            if packet.size:
                own = () if packet.stream.index == 0 else (packet.duration, bytes(packet))
                found[packet.stream.index].append((packet.pts, *own))
        return {index: sorted(values) for index, values in found.items()}, [stream.time_base for stream in file.streams]


def frames(path):
    with av.open(str(path)) as file:
        return [frame.to_ndarray(format="rgb48le" if "10" in frame.format.name else "rgb24") for frame in file.decode(video=0)]


def process(model, *arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "zdce", "enhance", "-m", str(model), *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".m4v", ".mkv", ".webm"])
def test_sound_and_every_timestamp_are_kept(model, folder, suffix):
    codec, sound = ("libvpx-vp9", "libopus") if suffix == ".webm" else ("libx264", "aac")
    write(f"in{suffix}", codec=codec, sound=sound)
    before = contents(folder)
    result = enhance(model, f"in{suffix}", "-o", f"out{suffix}")
    assert result.exit_code == 0, result.stderr
    assert f"out{suffix}: {len(VARIABLE)} frames, " in result.stderr
    assert "a second" in result.stderr
    assert contents(folder) == before | {f"out{suffix}": (folder / f"out{suffix}").read_bytes()}
    assert packets(f"out{suffix}") == packets(f"in{suffix}")
    dark, bright = frames(f"in{suffix}"), frames(f"out{suffix}")
    assert len(bright) == len(dark)
    assert all(b.shape == d.shape and b.mean() > 1.5 * d.mean() for b, d in zip(bright, dark, strict=True))


@pytest.mark.parametrize(
    ("suffix", "codec", "sound"), [(".avi", "libx264", "mp3"), (".ts", "libx264", "aac"), (".3gp", "libx264", "aac")]
)
def test_formats_that_are_only_read_become_mp4(model, folder, suffix, codec, sound):
    write(f"in{suffix}", times=[i * 3000 for i in range(5)], codec=codec, sound=sound)
    result = enhance(model, f"in{suffix}")
    assert result.exit_code == 0, result.stderr
    assert len(frames("in-enhanced.mp4")) == 5
    assert enhance(model, f"in{suffix}", "-o", "named.mkv").exit_code == 0
    refused = enhance(model, f"in{suffix}", "-o", "named.avi")
    assert refused.exit_code == 1
    assert "Error: named.avi: expected a folder" in refused.stderr


def test_raw_h264_is_shown_at_the_rate_that_it_announces(model):
    with av.open("in.h264", "w", "h264") as file:
        film = file.add_stream("libx264", rate=25, width=96, height=64, pix_fmt="yuv420p")
        for i in range(10):
            frame = av.VideoFrame.from_ndarray(scene((96, 64)), "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            file.mux(film.encode(frame))
        file.mux(film.encode(None))
    result = enhance(model, "in.h264", "-o", "out.mkv")
    assert result.exit_code == 0, result.stderr
    with av.open("out.mkv") as file:
        assert [round(frame.time, 2) for frame in file.decode(video=0)] == [round(i / 25, 2) for i in range(10)]


def sound_of(path):
    """The first stream of sound: its codec, when its samples begin, and the samples of its first channel, 48 kHz."""
    with av.open(str(path)) as file:
        stream = file.streams.audio[0]
        resampler, found, start = av.AudioResampler("fltp", "mono", 48000), [], None
        for frame in file.decode(stream):
            start = frame.time if start is None else start
            found += resampler.resample(frame)
        found += resampler.resample(None)
        return stream.codec_context.codec.canonical_name, start, np.concatenate([frame.to_ndarray()[0] for frame in found])


# Samples of a packet of AAC; Opus has 960. The last one is filled up.
PACKET = 1024


def film_start(path):
    with av.open(str(path)) as file:
        return next(file.decode(video=0)).time


def pitch(samples):
    return np.abs(np.fft.rfft(samples * np.hanning(len(samples)))).argmax() * 48000 / len(samples)


@pytest.mark.parametrize(
    ("source", "sound", "target", "encoded"),
    [
        ("in.mkv", "libopus", "out.mov", "AAC"),
        ("in.mkv", "flac", "out.mov", "AAC"),
        ("in.mkv", "wavpack", "out.mp4", "AAC"),
        ("in.mkv", "ac3", "out.webm", "Opus"),
        ("in.mp4", "aac", "out.webm", "Opus"),
        ("in.mov", "pcm_s16le", "out.webm", "Opus"),
        ("in.mov", "pcm_mulaw", "out.mkv", "AAC"),
        ("in.ts", "mp2", "out.webm", "Opus"),
        ("in.avi", "adpcm_ms", "out.mp4", "AAC"),
    ],
)
def test_sound_that_the_target_cannot_hold_is_encoded_anew(model, folder, source, sound, target, encoded):
    write(source, times=[i * 3000 for i in range(25)], sound=sound)
    result = enhance(model, source, "-o", target, "--manifest", "rows.csv")
    assert result.exit_code == 0, result.stderr
    codec, start, samples = sound_of(source)
    kind = {".mov": "MOV", ".mp4": "MP4", ".webm": "WebM", ".mkv": "MKV"}[os.path.splitext(target)[1]]
    note = f"stream 1 (audio, {codec}) was re-encoded as {encoded}: {kind} can't hold it as it was"
    assert f"{target}: {note}\n" in result.stderr
    assert note in (folder / "rows.csv").read_text()
    after, start_after, samples_after = sound_of(target)
    assert after == encoded.lower()
    # A tone all along, at the same time and as long: an encoder's own delay is not heard, its last packet is filled up.
    assert start_after - film_start(target) == pytest.approx(start - film_start(source), abs=0.03)
    assert len(samples_after) == pytest.approx(len(samples), abs=PACKET)
    assert pitch(samples_after) == pytest.approx(440, abs=3)
    assert np.abs(samples_after[4000:20000]).mean() == pytest.approx(np.abs(samples[4000:20000]).mean(), rel=0.05)
    assert len(frames(target)) == 25


@pytest.mark.parametrize("sound", ["pcm_s24le", "pcm_f32le", "pcm_u8"])
def test_rare_uncompressed_sound_is_flac_in_mp4_and_loses_nothing_of_24_bits(model, sound):
    write("in.mov", times=[i * 3000 for i in range(25)], sound=sound)
    result = enhance(model, "in.mov", "-o", "out.mp4")
    assert result.exit_code == 0, result.stderr
    assert f"out.mp4: stream 1 (audio, {sound}) was re-encoded as FLAC: in MP4 few players know it\n" in result.stderr
    codec, start, samples = sound_of("out.mp4")
    _, before, expected = sound_of("in.mov")
    assert (codec, start, len(samples)) == ("flac", before, len(expected))
    assert np.abs(samples - expected).max() <= 2.0**-22  # two channels, half a step of 24 bits each, and sums of floats
    assert "re-encoded" not in enhance(model, "in.mov", "-o", "out.mov").stderr


@pytest.mark.parametrize(("layout", "target", "mixed"), [("5.1(side)", "out.webm", ""), ("hexadecagonal", "out.webm", "16")])
def test_channels_that_the_encoder_has_not_are_mixed_and_said(model, layout, target, mixed):
    write("plain.mkv", times=[i * 3000 for i in range(5)], sound=None)
    with av.open("plain.mkv") as source, av.open("in.mkv", "w") as file:
        film = file.add_stream_from_template(source.streams.video[0], opaque=True)
        sound = file.add_stream("pcm_s16le", rate=48000, layout=layout)
        frame = av.AudioFrame.from_ndarray(
            np.full((1, 4800 * sound.codec_context.layout.nb_channels), 900, np.int16), "s16", layout
        )
        frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
        file.mux(sound.encode(frame))
        for packet in source.demux():
            if packet.size:
                packet.stream = film
                file.mux(packet)
    result = enhance(model, "in.mkv", "-o", target)
    assert result.exit_code == 0, result.stderr
    assert ("its 16 channels mixed to 2" if mixed else "was re-encoded as Opus: ") in result.stderr
    with av.open(target) as file:
        assert file.streams.audio[0].codec_context.layout.nb_channels == (2 if mixed else 6)


def test_sound_whose_packets_the_format_refuses_costs_the_film_nothing(model, folder):
    write(
        "whole.mkv",
        times=[i * 3000 for i in range(5)],
    )
    data = (folder / "whole.mkv").read_bytes()
    for *_, packet in packets("whole.mkv")[0][1]:
        # They begin as those of ADTS do, whose headers MP4's writer reads.
        data = data.replace(packet, b"\xff\xf1" + bytes(len(packet) - 2))
    (folder / "in.mkv").write_bytes(data)
    result = enhance(model, "in.mkv", "-o", "out.mp4")
    assert result.exit_code == 0, result.stderr
    assert "stream 1 (audio, aac) was re-encoded as AAC: MP4 can't hold it" in result.stderr
    assert re.search(r"out.mp4: \d+ packets of stream 1 \(audio, aac\) can't be decoded and were left out", result.stderr)
    assert len(frames("out.mp4")) == 5


def test_subtitles_that_the_target_cannot_hold_are_named(model):
    write("plain.mkv", times=[i * 3000 for i in range(5)])
    with av.open("plain.mkv") as source, av.open("in.mkv", "w") as file:
        copies = {stream.index: file.add_stream_from_template(stream, opaque=True) for stream in source.streams}
        text = file.add_mux_stream("subrip")
        for packet in source.demux():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                file.mux(packet)
        said = av.Packet(b"hello")
        said.stream, said.time_base, said.pts, said.dts, said.duration = text, Fraction(1, 1000), 100, 100, 50
        file.mux(said)
    for target in ("out.mp4", "out.mov", "out.webm"):
        result = enhance(model, "in.mkv", "-o", target)
        assert result.exit_code == 0, result.stderr
        assert f"{target}: stream 2 (subtitle, subrip) was left out\n" in result.stderr
        assert len(frames(target)) == 5
    assert "left out" not in enhance(model, "in.mkv", "-o", "out.mkv").stderr
    assert [data for *_, data in packets("out.mkv")[0][2]] == [b"hello"]


def test_an_attachment_goes_into_mkv_and_is_named_in_mp4(model):
    write("plain.mkv", times=[i * 3000 for i in range(5)])
    with av.open("plain.mkv") as source, av.open("in.mkv", "w") as file:
        copies = {stream.index: file.add_stream_from_template(stream, opaque=True) for stream in source.streams}
        file.add_attachment("f.ttf", "font/ttf", bytes(100))
        for packet in source.demux():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                file.mux(packet)
    result = enhance(model, "in.mkv", "-o", "out.mp4")
    assert result.exit_code == 0, result.stderr
    assert "out.mp4: stream 2 (attachment, f.ttf) was left out" in result.stderr
    assert "out.webm: stream 2 (attachment, f.ttf) was left out" in enhance(model, "in.mkv", "-o", "out.webm").stderr
    assert enhance(model, "in.mkv", "-o", "out.mkv").exit_code == 0
    with av.open("out.mkv") as file:
        assert [stream.type for stream in file.streams] == ["video", "audio", "attachment"]


def write_fields(path, codec="libx264", first="top", count=12, offset=0, pixels="yuv420p"):
    """A bright bar that moves 4 pixels from field to field, and nothing between the fields' lines: combing."""
    flags = {} if first is None else {"flags": "+ildct+ilme", "x264-params": f"{'t' if first == 'top' else 'b'}ff=1"}
    with av.open(str(path), "w", container_options={"output_ts_offset": str(offset)} if offset else {}) as file:
        film = file.add_stream(codec, rate=25, width=128, height=96, pix_fmt=pixels, options={"crf": "1", **flags})
        if codec != "libx264":
            film.codec_context.field_order = {"top": 2, "bottom": 3, None: 1}[first]
            film.codec_context.bit_rate = 4_000_000
        for i in range(count):
            picture = np.full((96, 128, 3), 20, np.uint8)
            for field in (0, 1):
                rows = slice(field if first != "bottom" else 1 - field, None, 2)
                left = 10 + 4 * (2 * i + (field if first else 0))
                picture[rows, left : left + 16] = 60
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = i, Fraction(1, 25)
            if first is not None:  # decoders of MPEG-2 take the frame's own flags
                frame = flagged(frame, first)
            file.mux(film.encode(frame))
        file.mux(film.encode(None))


def flagged(frame, first):
    graph = av.filter.Graph()
    source = graph.add("buffer", f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base=1/25")
    graph.link_nodes(source, graph.add("setfield", {"top": "tff", "bottom": "bff"}[first]), graph.add("buffersink")).configure()
    graph.push(frame)
    return graph.vpull()


def combing(picture):
    """How much more lines differ from their neighbours than from the ones after them."""
    grey = picture.astype(float).mean(axis=2)
    return np.abs(grey[1:-1] - (grey[:-2] + grey[2:]) / 2).mean() - np.abs(grey[2:-2] - (grey[:-4] + grey[4:]) / 2).mean() / 2


@pytest.mark.parametrize(
    ("name", "codec", "first"),
    [
        ("in.ts", "libx264", "top"),
        ("in.mp4", "libx264", "bottom"),
        ("in.mkv", "mpeg2video", "top"),
        ("in.mpg", "mpeg2video", "bottom"),
    ],
)
def test_interlaced_films_are_refused_or_deinterlaced_by_choice(model, folder, name, codec, first):
    write_fields(name, codec, first)
    result = enhance(model, name, "-o", "out.mp4")
    assert result.exit_code == 1
    asked = "--deinterlace (deinterlace=True) makes it progressive first"
    assert f"{name}: it is interlaced ({first} field first): {asked}\n" in result.stderr
    assert not (folder / "out.mp4").exists()
    result = enhance(model, name, "-o", "out.mp4", "--deinterlace", "--strength", 0, "--crf", 1)
    assert result.exit_code == 0, result.stderr
    assert f"out.mp4: it was interlaced ({first} field first): two fields became one frame (bwdif)\n" in result.stderr
    with av.open("out.mp4") as file:
        length, shown = file.duration, list(file.decode(video=0))
    # Twelve frames, after the gap that some containers begin with; microseconds.
    assert length == pytest.approx((shown[0].time + 12 / 25) * 1e6, abs=1000)
    assert not any(frame.interlaced_frame for frame in shown)
    assert [round(frame.time * 25) for frame in shown] == [round(shown[0].time * 25) + i for i in range(12)]
    for i, (before, after) in enumerate(zip(frames(name), frames("out.mp4"), strict=True)):
        assert combing(before) > 2
        assert combing(after) < 0.5
        # The first field's moment: the bar is where it was there.
        assert abs(np.flatnonzero(after[48].mean(axis=1) > 40)[0] - (10 + 8 * i)) <= 1


def test_interlaced_frames_that_come_later_are_not_passed_over(model, folder):
    write_fields("a.ts", "mpeg2video", None)
    write_fields("b.ts", "mpeg2video", "top", offset=0.48)
    (folder / "in.ts").write_bytes((folder / "a.ts").read_bytes() + (folder / "b.ts").read_bytes())
    result = enhance(model, "in.ts", "-o", "out.mp4")
    assert result.exit_code == 1
    assert re.search(r"in.ts: it is interlaced \(top field first\) from \d\.\d s on: --deinterlace", result.stderr)
    assert not (folder / "out.mp4").exists()
    result = enhance(model, "in.ts", "-o", "out.mp4", "--deinterlace", "--strength", 0, "--crf", 1)
    assert result.exit_code == 0, result.stderr
    assert re.search(r"out.mp4: it was interlaced \(top field first\) from \d\.\d s on: two fields became one", result.stderr)
    before, after = frames("in.ts"), frames("out.mp4")
    assert len(after) == len(before) == 24
    assert max(combing(picture) for picture in after) < 0.5
    # Progressive frames pass as they are.
    assert np.abs(before[5].astype(float) - after[5]).mean() < 1


@pytest.mark.parametrize("crf", [0, 18])
def test_a_progressive_film_is_the_same_with_deinterlace(model, folder, crf):
    write("in.mp4")
    lengths = []
    for name, options in (("a.mp4", []), ("b.mp4", ["--deinterlace"])):
        result = enhance(model, "in.mp4", "-o", name, "--crf", crf, *options)
        assert result.exit_code == 0
        assert "interlaced" not in result.stderr
        with av.open(name) as file:
            lengths.append(file.duration)
    assert lengths[0] == lengths[1]
    assert packets("a.mp4") == packets("b.mp4")
    assert all(np.array_equal(a, b) for a, b in zip(frames("a.mp4"), frames("b.mp4"), strict=True))


def test_fields_that_only_the_container_tells_count(model):
    write_fields("in.mov", "png", "bottom", pixels="rgb24")
    result = enhance(model, "in.mov", "-o", "out.mp4")
    assert result.exit_code == 1
    assert "in.mov: it is interlaced (bottom field first): --deinterlace" in result.stderr
    assert enhance(model, "in.mov", "-o", "out.mp4", "--deinterlace", "--strength", 0, "--crf", 1).exit_code == 0
    assert max(combing(picture) for picture in frames("out.mp4")) < 0.5


def test_apples_keys_are_kept(model):
    with av.open("in.mov", "w", container_options={"movflags": "use_metadata_tags"}) as file:
        film = file.add_stream("libx264", rate=25, width=96, height=64, pix_fmt="yuv420p")
        file.metadata.update({"com.apple.quicktime.model": "Phone", "title": "night"})
        frame = av.VideoFrame.from_ndarray(scene((96, 64)), "rgb24").reformat(format="yuv420p")
        file.mux([*film.encode(frame), *film.encode(None)])
    assert enhance(model, "in.mov", "-o", "out.mov").exit_code == 0
    with av.open("out.mov") as file:
        assert file.metadata["com.apple.quicktime.model"] == "Phone"
        assert file.metadata["title"] == "night"


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_piece_of_a_recording_starts_at_0_with_sound_and_chapters(model, suffix):
    write("at0.mkv", times=[i * 3000 for i in range(10)])
    late = 95_000_000  # of 1 ms
    with av.open("at0.mkv") as source, av.open(f"in{suffix}", "w") as file:
        copies = {stream.index: file.add_stream_from_template(stream, opaque=True) for stream in source.streams}
        chapter = {"id": 1, "time_base": Fraction(1, 1000), "start": late + 100, "end": late + 300, "metadata": {"title": "a"}}
        file.set_chapters([chapter])
        for packet in source.demux():
            if packet.size:
                packet.pts += late
                packet.dts = None if packet.dts is None else packet.dts + late
                packet.stream = copies[packet.stream.index]
                file.mux(packet)
    for target in ("out.mkv", "out.mp4"):
        result = enhance(model, f"in{suffix}", "-o", target)
        assert result.exit_code == 0, result.stderr
        assert f"{target}: its times began at 95000.0 s and count from 0\n" in result.stderr
        with av.open(f"in{suffix}") as before, av.open(target) as after:
            assert before.start_time / av.time_base == pytest.approx(95000, abs=0.1)
            assert after.start_time / av.time_base == pytest.approx(0, abs=0.03)
            (chapter,) = after.chapters()
            # A chapter of MP4 begins where the one before ends.
            begun = 0 if ".mp4" in (suffix, target[-4:]) else 0.1
            assert float(chapter["start"] * chapter["time_base"]) == pytest.approx(begun, abs=0.03)
            assert float(chapter["end"] * chapter["time_base"]) == pytest.approx(begun + 0.2, abs=0.12)
        first, heard = ([start(name) for name in (f"in{suffix}", target)] for start in (film_start, lambda n: sound_of(n)[1]))
        # Film and sound are as far apart as they were.
        assert heard[0] - first[0] == pytest.approx(heard[1] - first[1], abs=0.003)


def test_what_an_edit_list_cuts_from_the_sound_stays_away(model):
    """Sound that begins half a second before the film, which MP4 keeps and does not play."""
    write("plain.mp4", times=[i * 3000 for i in range(30)], sound=None)
    with av.open("plain.mp4") as source, av.open("in.mp4", "w") as file:
        film, sound = file.add_stream_from_template(source.streams.video[0], opaque=True), file.add_stream("aac", rate=48000)
        loud = av.AudioFrame.from_ndarray(np.tile(np.sin(np.arange(24000, dtype=np.float32)) / 2, (2, 1)), "fltp", "stereo")
        loud.sample_rate, loud.pts, loud.time_base = 48000, -24000, Fraction(1, 48000)
        file.mux(sound.encode(loud))
        for i in range(25):
            frame = tone(i)
            file.mux(sound.encode(frame))
        file.mux(sound.encode(None))
        for packet in source.demux():
            if packet.size:
                packet.stream = film
                file.mux(packet)
    _, start, samples = sound_of("in.mp4")
    for target in ("out.mp4", "out.mkv", "out.webm"):
        result = enhance(model, "in.mp4", "-o", target)
        assert result.exit_code == 0, result.stderr
        _, begun, heard = sound_of(target)
        assert begun == pytest.approx(start, abs=0.025)
        assert len(heard) == pytest.approx(len(samples), abs=PACKET)
        assert packets(target)[0][0][0][0] == 0
        assert pitch(heard) == pytest.approx(440, abs=3)


def test_a_time_code_track_is_kept_and_not_said_to_be_lost(model):
    with av.open("in.mov", "w") as file:
        film = file.add_stream("libx264", rate=25, width=96, height=64, pix_fmt="yuv420p")
        film.metadata["timecode"] = "01:00:00:00"
        frame = av.VideoFrame.from_ndarray(scene((96, 64)), "rgb24").reformat(format="yuv420p")
        file.mux([*film.encode(frame), *film.encode(None)])
    with av.open("in.mov") as file:
        assert [stream.type for stream in file.streams] == ["video", "data"]
    for target in ("out.mov", "out.mp4", "out.mkv"):
        result = enhance(model, "in.mov", "-o", target)
        assert result.exit_code == 0, result.stderr
        assert "left out" not in result.stderr
        with av.open(target) as file:
            said = {key.lower(): value for key, value in file.streams.video[0].metadata.items()}
            assert said["timecode"] == "01:00:00:00"
            assert [stream.type for stream in file.streams][1:] == ([] if target == "out.mkv" else ["data"])


def test_covers_stay_covers_or_are_named(model):
    """MP4 holds them as streams, MKV as attachments, where a stream would be a second film; MOV and WebM not at all."""
    write("plain.mp4", times=[i * 3000 for i in range(5)], sound=None)
    data = copy_with_cover("plain.mp4", "in.mp4")
    steps = [("in.mp4", "out.mp4"), ("in.mp4", "out.mkv"), ("out.mkv", "again.mkv"), ("again.mkv", "again.mp4")]
    for name, target in steps:
        result = enhance(model, name, "-o", target)
        assert result.exit_code == 0, result.stderr
        assert "left out" not in result.stderr
        with av.open(target) as file:
            dispositions = [bool(stream.disposition & Disposition.attached_pic) for stream in file.streams.video]
            assert dispositions == [False, True]
            (packet,) = [packet for packet in file.demux(file.streams.video[1]) if packet.size]
            assert bytes(packet) == data
    for target in ("out.mov", "out.webm"):
        assert f"{target}: stream 1 (cover, mjpeg) was left out\n" in enhance(model, "in.mp4", "-o", target).stderr


def test_a_broadcast_that_began_long_ago_starts_at_0(model):
    write("in.ts", times=[i * 3000 for i in range(10)], options={"output_ts_offset": "95000"})
    result = enhance(model, "in.ts", "-o", "out.mkv")
    assert result.exit_code == 0, result.stderr
    before, after = (packets(name)[0] for name in ("in.ts", "out.mkv"))
    assert before[0][0][0] / 90000 > 94990
    for index in (0, 1):
        assert 0 <= after[index][0][0] < 200  # of 1 ms
        assert len(after[index]) == len(before[index])
    # Film and sound are as far apart as they were.
    assert after[1][0][0] - after[0][0][0] == pytest.approx((before[1][0][0] - before[0][0][0]) / 90, abs=1.5)


def copy_with_cover(source, target, metadata=None, **options):
    """``source`` with a cover, an MP4 file; gives the cover's bytes."""
    Image.fromarray(scene((32, 32))).save("cover.jpg")
    with open("cover.jpg", "rb") as file:
        data = file.read()
    with av.open(source) as read, av.open(target, "w", **options) as file:
        film = file.add_stream_from_template(read.streams.video[0], opaque=True)
        cover = file.add_mux_stream("mjpeg", width=32, height=32)
        cover.disposition = Disposition.attached_pic
        file.metadata.update(metadata or {})
        picture = av.Packet(data)
        picture.stream, picture.time_base, picture.pts, picture.dts = cover, Fraction(1, 90000), 0, 0
        file.mux(picture)
        for packet in read.demux():
            if packet.size:
                packet.stream = film
                file.mux(packet)
    return data


def test_of_keys_and_a_cover_that_mp4_cannot_hold_together_the_cover_is_named(model):
    write("plain.mp4", times=VARIABLE[:2], sound=None)
    copy_with_cover("plain.mp4", "covered.mp4")
    assert enhance(model, "covered.mp4", "-o", "covered.mkv").exit_code == 0
    with av.open("covered.mkv") as read, av.open("in.mkv", "w") as file:
        # Matroska holds both.
        film = file.add_stream_from_template(read.streams.video[0], opaque=True)
        file.add_attachment("cover.jpg", "image/jpeg", bytes(next(read.demux(read.streams.video[1]))))
        file.metadata.update({"com.android.version": "16", "com.apple.quicktime.location.ISO6709": "+48.0+011.0/"})
        read.seek(0)
        for packet in read.demux(read.streams.video[0]):
            if packet.size:
                packet.stream = film
                file.mux(packet)
    result = enhance(model, "in.mkv", "-o", "out.mp4")
    assert result.exit_code == 0, result.stderr
    assert "out.mp4: stream 1 (cover, mjpeg) was left out\n" in result.stderr
    with av.open("out.mp4") as file:
        assert file.metadata["com.android.version"] == "16"
        assert file.metadata["com.apple.quicktime.location.ISO6709"] == "+48.0+011.0/"


@pytest.mark.parametrize("title", [None, "night", "night  "])
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
def test_the_shape_of_pixels_is_kept(model, folder, suffix, title):
    """16:11 of 98x66 pixels is shown 142.5 wide: WebM, which knows whole pixels only, has 143."""
    with av.open("in.mkv", "w") as file:
        film = file.add_stream("libx264", rate=25, width=98, height=66, pix_fmt="yuv420p")
        film.codec_context.sample_aspect_ratio = Fraction(16, 11)
        if title:
            film.metadata["title"] = title
        for i in range(3):
            frame = av.VideoFrame.from_ndarray(scene((98, 66)), "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            file.mux(film.encode(frame))
        file.mux(film.encode(None))
    source = "in.mkv"
    for step in range(2):
        target = f"out{step}{suffix}"
        result = enhance(model, source, "-o", target)
        assert result.exit_code == 0, result.stderr
        with av.open(target) as file:
            stream = file.streams.video[0]
            exact = suffix != ".webm"
            assert stream.sample_aspect_ratio == (Fraction(16, 11) if exact else Fraction(143, 98))
            assert len(list(file.decode(video=0))) == 3
            if suffix in (".mkv", ".webm"):
                assert stream.metadata.get("title") == title
        source = target
    if suffix in (".mkv", ".webm"):
        data = (folder / target).read_bytes()
        assert b"\x53\x6e" not in data[:500] or title  # an empty name is none
        segment = matroska._only(data, 0, len(data), matroska._SEGMENT)
        tracks = matroska._only(data, segment.content, segment.end, matroska._TRACKS)
        assert matroska._checked(data, tracks) == data


# cd/m2: dark, darker than diffuse white (203), white, and highlights.
NITS = (1.0, 4.0, 20.0, 151.0, 203.0, 600.0, 1000.0)


def pq(nits):
    """SMPTE ST 2084, in float64."""
    power = (np.asarray(nits) / 10000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)


def nits_of(codes):
    power = np.asarray(codes) ** (32 / 2523)
    return 10000 * (np.maximum(power - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * power)) ** (16384 / 2610)


def write_hdr(path, codes, codec="libx264", pixels="yuv420p10le", transfer=16, options=None):
    """Grey stripes of these codes of [0, 1], 32 pixels wide, the first one half of the picture."""
    columns = np.concatenate([np.full(224, codes[0]), np.repeat(codes[1:], 32)])
    picture = np.broadcast_to(np.rint(columns * 65535).astype(np.uint16)[None, :, None], (96, len(columns), 3))
    with av.open(str(path), "w") as file:
        film = file.add_stream(codec, rate=25, width=len(columns), height=96, pix_fmt=pixels, options=options or {"crf": "0"})
        context = film.codec_context
        context.color_trc, context.color_primaries, context.colorspace, context.color_range = transfer, 9, 9, 1
        for i in range(3):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb48le")
            frame = frame.reformat(format=pixels, dst_colorspace=9, dst_color_range=1)
            frame.pts, frame.time_base = i, Fraction(1, 25)
            file.mux(film.encode(frame))
        file.mux(film.encode(None))


def stripes(path):
    """The brightness codes of [0, 1] in the middle of each stripe, of the last frame."""
    middle = [112, *range(240, 432, 32)]
    return (luma(path)[-1][48, middle] / 4 - 16) / 219


def test_pq_is_enhanced_in_the_light_that_it_means(model):
    write_hdr("in.mkv", pq(NITS))
    before = nits_of(stripes("in.mkv"))
    assert before == pytest.approx(NITS, rel=0.03)  # FFmpeg's fast conversion, which writes the input, is up to 3 codes off
    for strength in (0, 1):
        result = enhance(model, "in.mkv", "-o", f"{strength}.mkv", "--crf", 0, "--strength", strength)
        assert result.exit_code == 0, result.stderr
        assert "HDR" not in result.stderr
    assert stripes("0.mkv") == pytest.approx(stripes("in.mkv"), abs=1 / 876)  # a code of 10 bits
    after = nits_of(stripes("1.mkv"))
    # What is below diffuse white gets brighter, and stays below it; white and what is above it stay.
    assert all(after[:4] > 1.02 * before[:4])
    assert after[3] < before[4]
    assert after[4:] == pytest.approx(before[4:], rel=0.01)
    # As the network does it to the same light in sRGB, 203 cd/m2 being its white.
    light = np.concatenate([np.full(224, before[0]), np.repeat(before[1:], 32)]) / 203
    shown = np.rint(srgb_of_light(np.minimum(light, 1)) * 65535).astype(np.uint16)
    picture = np.ascontiguousarray(np.broadcast_to(shown[None, :, None], (96, len(shown), 3)))
    enhanced = zdce.Enhancer(zdce.load(model), scale=12)(picture)[48, 112, 1] / 65535
    expected = float(light_of_srgb(np.array([enhanced]))[0]) * 203
    # FFmpeg's conversion to Y'CbCr is up to 3 codes off, as above, and rounds.
    assert pq(after[0]) == pytest.approx(pq(expected), abs=3.5 / 876)


@pytest.mark.parametrize(("codec", "target"), [("libvpx-vp9", "out.webm"), ("libvpx", "out.webm"), ("libvpx-vp9", "out.mkv")])
def test_transparency_of_vp8_and_vp9_is_named_and_its_tag_goes(model, codec, target):
    with av.open("in.webm", "w") as file:
        film = file.add_stream(codec, rate=25, width=96, height=64, pix_fmt="yuva420p", options={"auto-alt-ref": "0"})
        film.metadata["alpha_mode"] = "1"
        for i in range(3):
            rgba = np.dstack([scene((96, 64)), np.full((64, 96), 90 * i, np.uint8)])
            frame = av.VideoFrame.from_ndarray(rgba, "rgba").reformat(format="yuva420p")
            frame.pts, frame.time_base = i, Fraction(1, 25)
            file.mux(film.encode(frame))
        file.mux(film.encode(None))
    result = enhance(model, "in.webm", "-o", target)
    assert result.exit_code == 0, result.stderr
    assert f"{target}: its transparency was left out\n" in result.stderr
    with av.open(target) as file:
        assert "alpha_mode" not in {key.lower() for key in file.streams.video[0].metadata}
        assert len(list(file.decode(video=0))) == 3


def test_hlg_is_enhanced_in_the_light_that_it_means(model):
    codes = np.array([0.05, 0.1, 0.3, 0.6, 0.75, 0.85, 0.95])  # white is at 75 %
    write_hdr("in.mp4", codes, transfer=18)
    codes = stripes("in.mp4")
    result = enhance(model, "in.mp4", "-o", "out.mp4", "--crf", 0)
    assert result.exit_code == 0, result.stderr
    assert "out.mp4: its" not in result.stderr
    after = stripes("out.mp4")
    # As with PQ: brighter by more than the conversion is off, below white, and white and what is above it stay.
    assert all(after[:4] > codes[:4] + 3 / 876)
    assert after[3] < codes[4]
    assert after[4:] == pytest.approx(codes[4:], abs=1 / 876)
    assert tags_of("out.mp4")["transfer"] == 18


SCREEN = "G(8500,39850)B(6550,2300)R(35400,14600)WP(15635,16450)L(10000000,50)"


def light_data(path):
    """What the first frame says of screen and content, as fractions."""
    with av.open(str(path)) as file:
        data = next(file.decode(video=0)).side_data
        numbers = np.frombuffer(data[SideDataType.MASTERING_DISPLAY_METADATA], np.int32)
        return numbers[:20:2] / numbers[1:20:2], np.frombuffer(data[SideDataType.CONTENT_LIGHT_LEVEL], np.uint32).tolist()


@pytest.mark.parametrize("target", ["out.mp4", "out.mov", "out.mkv", "out.webm"])
def test_what_hdr_says_of_screen_and_content_is_kept(model, target):
    write_hdr("in.mp4", pq(NITS), options={"crf": "20", "x264-params": f"mastering-display={SCREEN}:cll=1000,400"})
    screen, content = light_data("in.mp4")
    assert (screen[-1], content) == (1000, [1000, 400])
    result = enhance(model, "in.mp4", "-o", target)
    assert result.exit_code == 0, result.stderr
    assert "left out" not in result.stderr
    assert light_data(target)[0] == pytest.approx(screen, rel=1e-3, abs=1e-4)  # AV1 has fractions of 65536, 16384 and 256
    assert light_data(target)[1] == content
    assert tags_of(target)["transfer"] == 16


def test_what_an_encoder_cannot_say_of_the_screen_is_named(model):
    options = {"crf": "20", "x264-params": f"mastering-display={SCREEN}:cll=1000,400"}
    write_hdr("in.mp4", pq(NITS), pixels="yuv420p", options=options)
    result = enhance(model, "in.mp4", "-o", "out.webm")  # VP9: 8 bits
    assert result.exit_code == 0, result.stderr
    assert "out.webm: its mastering display and content light level were left out\n" in result.stderr


def tags_of(path):
    with av.open(str(path)) as file:
        film = file.streams.video[0]
        context = film.codec_context
        frame = next(file.decode(film))
        return {
            "format": context.pix_fmt, "range": context.color_range, "matrix": context.colorspace,
            "primaries": context.color_primaries, "transfer": context.color_trc, "rotation": frame.rotation,
            "language": film.metadata.get("language"), "title": file.metadata.get("title"), "size": (frame.width, frame.height),
        }  # fmt: skip


@pytest.mark.parametrize(
    ("pixels", "tags"),
    [
        ("yuv420p", {"color_range": 1, "colorspace": 1, "color_primaries": 1, "color_trc": 1}),
        ("yuv420p", {"color_range": 2, "colorspace": 6, "color_primaries": 6, "color_trc": 6}),
        ("yuv422p", {}),
        ("yuv444p", {}),
        ("yuv420p10le", {"color_range": 1, "colorspace": 9, "color_primaries": 9, "color_trc": 14}),
    ],
)
def test_colours_depth_and_rotation_are_kept(model, pixels, tags):
    write("in.mp4", pixels=pixels, tags=tags, rotation=90)
    assert enhance(model, "in.mp4", "-o", "out.mp4").exit_code == 0
    assert tags_of("out.mp4") == tags_of("in.mp4")
    assert tags_of("out.mp4")["rotation"] == 90
    # With nothing to enhance the frames are the same, but for what the encoder loses.
    assert enhance(model, "in.mp4", "-o", "same.mp4", "--strength", "0", "--crf", "1").exit_code == 0
    level = 257 if pixels.endswith("10le") else 1
    for before, after in zip(frames("in.mp4"), frames("same.mp4"), strict=True):
        difference = (after.astype(float) - before) / level
        assert abs(difference.mean()) < 0.5
        assert np.abs(difference).mean() < 2


def luma(path):
    """The brightness codes of every frame (H, W) of a 10-bit video."""
    with av.open(str(path)) as file:
        planes = [(frame.planes[0], frame) for frame in file.decode(video=0)]
        return [np.frombuffer(p, np.uint16).reshape(f.height, -1)[:, : f.width] for p, f in planes]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
def test_10_bits_go_in_and_come_out(model, suffix):
    tags = {"color_range": 1, "colorspace": 9, "color_primaries": 9, "color_trc": 14}
    write("in.mkv", size=(97, 65), codec="ffv1", pixels="yuv420p10le", sound=None, tags=tags)
    same, bright = (enhance(model, "in.mkv", "-o", f"{n}{suffix}", "--crf", "0", "--strength", n) for n in (0, 1))
    assert (same.exit_code, bright.exit_code) == (0, 0), same.stderr
    assert "bits became" not in same.stderr
    before, after = luma("in.mkv"), luma(f"0{suffix}")
    assert packets(f"0{suffix}")[0] == packets("in.mkv")[0]
    kept = ("format", "range", "matrix", "primaries", "transfer")
    assert [tags_of(f"0{suffix}")[name] for name in kept] == [tags_of("in.mkv")[name] for name in kept]
    # The gradients' 8-bit codes would be a quarter of these, and 4 apart.
    many = len(np.unique(before))
    assert many > 80
    for n in (0, 1):
        assert len(np.unique(luma(f"{n}{suffix}"))) > 0.8 * many
        assert set(np.unique(np.concatenate(luma(f"{n}{suffix}"))) % 4) == {0, 1, 2, 3}
    differences = [a[:65, :97].astype(int) - b for a, b in zip(after, before, strict=True)]
    # Chroma is taken from 4:2:0 and back; AV1 has no lossless mode here.
    assert np.abs(differences).mean() < (4 if suffix == ".webm" else 1)


def chroma(path):
    """The first frame's planes of chroma (h, w), 8 bits, and how FFmpeg says that their samples lie."""
    with av.open(str(path)) as file:
        frame = next(file.decode(video=0))
        planes = [np.frombuffer(p, np.uint8).reshape(p.height, -1)[:, : p.width].astype(float) for p in frame.planes[1:3]]
        return planes, layout_of(frame).siting


def displacement(before, after):
    """By how many samples (across, down) a plane moved, away from its border, by least squares along its gradients."""
    before, after = before[4:-4, 4:-4], after[4:-4, 4:-4]
    down, across = np.gradient((before + after) / 2)
    slopes = np.stack([across.ravel(), down.ravel()], axis=1)
    return -np.linalg.lstsq(slopes, (after - before).ravel(), rcond=None)[0]


def write_shapes(path, codec, pixels, **options):
    """Two frames of soft coloured shapes, written without RGB in between, so that nothing moved them before."""
    y, x = np.mgrid[0:144, 0:192].astype(np.float32)
    waves = 128 + 30 * np.stack([np.sin(x / 5 + y / 9), np.sin(x / 4 - y / 7), np.cos(x / 6) * np.sin(y / 5)])
    with av.open(str(path), "w") as file:
        film = file.add_stream(codec, rate=25, width=192, height=144, pix_fmt=pixels, options=options)
        for i in range(2):
            frame = av.VideoFrame(192, 144, pixels)
            for plane, wave in zip(frame.planes, waves, strict=True):
                padded = np.zeros((plane.height, plane.line_size), np.uint8)
                padded[:, : plane.width] = np.rint(wave[: plane.height, : plane.width])
                plane.update(padded.tobytes())
            frame.pts, frame.time_base = i, Fraction(1, 25)
            file.mux(film.encode(frame))
        file.mux(film.encode(None))


@pytest.mark.parametrize(
    ("source", "codec", "pixels", "siting", "target"),
    [
        ("in.mp4", "libx264", "yuv420p", "left", "mp4"),
        ("in.mp4", "libx264", "yuv420p", "topleft", "mkv"),
        ("in.mp4", "libx264", "yuv420p", "center", "mov"),
        ("in.mp4", "libx264", "yuv420p", "center", "webm"),
        ("in.mp4", "libx264", "yuv422p", "left", "mp4"),
        ("in.mp4", "libx265", "yuv420p", "left", "mp4"),
        ("in.mkv", "ffv1", "yuv420p", "unspecified", "mkv"),
        ("in.mkv", "ffv1", "yuv422p", "unspecified", "mp4"),
        ("in.webm", "libvpx-vp9", "yuv420p", "unspecified", "webm"),
        ("in.webm", "libvpx-vp9", "yuv420p", "topleft", "webm"),
        ("in.webm", "libsvtav1", "yuv420p", "left", "webm"),
    ],
)
def test_chroma_stays_in_its_place_over_two_passes(model, source, codec, pixels, siting, target):
    lossless = {"libvpx-vp9": {"lossless": "1"}, "libx265": {"x265-params": "lossless=1:log-level=0:bframes=0"}, "ffv1": {}}
    write_shapes(source, codec, pixels, chroma_sample_location=siting, **lossless.get(codec, {"crf": "1"}))
    for step in ((source, f"once.{target}"), (f"once.{target}", f"twice.{target}")):
        result = enhance(model, step[0], "-o", step[1], "--strength", "0", "--crf", "0")
        assert result.exit_code == 0, result.stderr
    (before, said), (after, said_after) = chroma(source), chroma(f"twice.{target}")
    # What says nothing is read as left, and H.264 says so.
    known = {"unspecified": "left"}
    assert known.get(said_after, said_after) == known.get(said, said) == known.get(siting, siting)
    for plane, moved in zip(before, after, strict=True):
        # The wrong place moves a plane by 0.25 samples at every pass.
        assert np.abs(displacement(plane, moved)).max() < 0.02
        assert np.abs(moved - plane).mean() < 1


def test_what_the_encoder_has_not_is_said(model):
    write("in.mkv", times=VARIABLE[:2], codec="ffv1", pixels="yuv422p10le", sound=None)
    result = enhance(model, "in.mkv", "-o", "out.webm")
    assert result.exit_code == 0, result.stderr
    assert "out.webm: its chroma sampling 4:2:2 became 4:2:0\n" in result.stderr
    write("deep.mkv", times=VARIABLE[:2], codec="ffv1", pixels="yuv420p12le", sound=None)
    assert "out.mp4: its 12 bits became 10\n" in enhance(model, "deep.mkv", "-o", "out.mp4").stderr


def test_odd_sizes(model):
    write("in.webm", size=(65, 49), codec="libvpx-vp9", sound="libopus")
    assert enhance(model, "in.webm", "-o", "out.webm").exit_code == 0
    assert tags_of("out.webm")["size"] == (65, 49)
    result = enhance(model, "in.webm", "-o", "out.mp4")
    assert result.exit_code == 0
    assert "out.mp4: 65x49 became 66x50: H.264 needs even sides" in result.stderr
    assert tags_of("out.mp4")["size"] == (66, 50)
    odd, even = frames("out.webm")[3].astype(float), frames("out.mp4")[3].astype(float)
    assert np.abs(even[:49, :65] - odd).mean() < 4
    assert np.abs(even[:, -1] - even[:, -2]).mean() < 2


def test_colours_that_have_no_conversion_are_named(model, folder):
    write("in.mkv", times=VARIABLE[:2], tags={"colorspace": 8, "color_primaries": 1, "color_trc": 1})
    result = enhance(model, "in.mkv", "-o", "out.mkv")
    assert result.exit_code == 1
    assert "skipped in.mkv: yuv420p of colour matrix 8 can't be turned into RGB" in result.stderr
    assert not (folder / "out.mkv").exists()


def test_quality(model):
    write("in.mkv", times=[i * 3000 for i in range(5)])
    sizes = []
    for crf in (10, 40):
        assert enhance(model, "in.mkv", "-o", f"{crf}.mkv", "--crf", crf).exit_code == 0
        sizes.append(os.path.getsize(f"{crf}.mkv"))
    assert sizes[1] < sizes[0]


@pytest.mark.parametrize(
    ("codec", "pixels", "target", "encoder"),
    [
        ("libx264", "yuv420p", "out.mp4", "libx264"),
        ("ffv1", "yuv422p10le", "out.mp4", "libx264"),
        ("libvpx-vp9", "yuv420p", "out.webm", "libvpx-vp9"),
        ("ffv1", "yuv420p10le", "out.webm", "libsvtav1"),
    ],
)
def test_crf_0_is_lossless(model, monkeypatch, codec, pixels, target, encoder):
    write("in.mkv", times=[i * 3000 for i in range(5)], codec=codec, pixels=pixels, sound=None)
    given, convert = [], FromRGB.__call__

    def converted(self, rgb):
        given.append((frame := convert(self, rgb)).to_ndarray())
        return frame

    monkeypatch.setattr(FromRGB, "__call__", converted)
    assert enhance(model, "in.mkv", "-o", target, "--crf", "0").exit_code == 0
    with av.open(target) as file:
        decoded = [frame.to_ndarray() for frame in file.decode(video=0)]
    np.testing.assert_array_equal(decoded, given)


def write_still(path, held):
    """Five frames of 40 ms and one of ``held`` seconds, as screen recordings have."""
    with av.open(path, "w") as file:
        film = file.add_stream("libx264", rate=25, width=96, height=64, pix_fmt="yuv420p", options={"bf": "0"}, time_base=BASE)
        film.time_base = BASE
        coded = []
        for i in range(6):
            frame = av.VideoFrame.from_ndarray(np.roll(scene((96, 64)), i, axis=1), "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = i * 3600, BASE
            coded += film.encode(frame)
        for packet in [*coded, *film.encode(None)]:
            packet.duration = 3600 if packet.pts < 5 * 3600 else round(held * 90000)
            file.mux(packet)


@pytest.mark.parametrize("source", ["in.mp4", "in.mkv"])
@pytest.mark.parametrize("target", ["out.mp4", "out.mov", "out.mkv", "out.webm"])
def test_the_last_frame_is_shown_as_long_as_before(model, source, target):
    write_still(source, 8)
    assert enhance(model, source, "-o", target).exit_code == 0
    with av.open(source) as before, av.open(target) as after:
        assert before.duration == pytest.approx(8.2e6, abs=2000)
        assert after.duration == pytest.approx(before.duration, abs=2000)  # microseconds; Matroska counts milliseconds
        times = [[round(frame.time, 3) for frame in file.decode(video=0)] for file in (before, after)]
        assert times[0] == times[1]


def test_a_film_that_changes_its_size_keeps_its_first_and_says_so(model, folder):
    for name, size in (("small", (96, 64)), ("large", (160, 128))):
        write(f"{name}.h264", times=[i * 3000 for i in range(3)], size=size, sound=None)
    (folder / "in.h264").write_bytes((folder / "small.h264").read_bytes() + (folder / "large.h264").read_bytes())
    result = enhance(model, "in.h264", "-o", "out.mkv")
    assert result.exit_code == 0, result.stderr
    assert result.stderr.count("out.mkv: its size changes: 160x128 became 96x64, as it begins\n") == 1
    assert {frame.shape for frame in frames("out.mkv")} == {(64, 96, 3)}


@pytest.mark.parametrize("size", [(1, 1), (2, 1)])
def test_films_of_one_pixel_or_two(model, size):
    write("in.mkv", times=[i * 3000 for i in range(3)], size=size, codec="ffv1", pixels="yuv444p", sound=None)
    assert enhance(model, "in.mkv", "-o", "out.mkv").exit_code == 0
    assert len(frames("out.mkv")) == 3


@pytest.mark.parametrize(
    ("suffix", "share"),
    [*itertools.product((".mp4", ".mkv"), (0.3, 0.6, 0.95)), *itertools.product((".avi", ".flv"), (0.4, 0.6))],
)
def test_of_a_file_that_was_cut_off_what_is_left_is_written(model, folder, suffix, share):
    write(f"whole{suffix}", times=[i * 3000 for i in range(60)], options={"movflags": "faststart"} if suffix == ".mp4" else {})
    data = (folder / f"whole{suffix}").read_bytes()
    (folder / f"cut{suffix}").write_bytes(data[: int(len(data) * share)])
    target = "out.mkv" if suffix == ".mkv" else "out.mp4"
    result = enhance(model, f"cut{suffix}", "-o", target)
    assert result.exit_code == 1
    written = len(frames(target))
    assert 0 < written < 60
    assert f"cut{suffix}: broken: " in result.stderr
    assert f"the {written} frames that could be decoded were written" in result.stderr
    assert "1 written in part" in result.stdout
    assert "Traceback" not in result.stderr


def test_of_a_file_with_a_hole_what_is_around_it_is_written(model, folder):
    write("whole.mp4", times=[i * 3000 for i in range(60)])
    data = bytearray((folder / "whole.mp4").read_bytes())
    begin = data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 3
    data[begin : begin + 500] = np.random.default_rng(0).integers(0, 256, 500, np.uint8).tobytes()
    (folder / "hole.mp4").write_bytes(data)
    result = enhance(model, "hole.mp4", "-o", "out.mp4")
    assert result.exit_code == 1
    assert "hole.mp4: broken: " in result.stderr
    assert len(frames("out.mp4")) > 20


def test_what_holds_no_frames_is_named_and_leaves_nothing(model, folder):
    write("whole.mp4")
    data = (folder / "whole.mp4").read_bytes()
    (folder / "headless.mp4").write_bytes(data[: len(data) // 2])
    (folder / "text.mkv").write_text("hello")
    (folder / "empty.mov").touch()
    with av.open("sound.mp4", "w") as file:
        stream = file.add_stream("aac", rate=48000)
        file.mux([*stream.encode(tone(0)), *stream.encode(tone(1)), *stream.encode(None)])
    os.remove("whole.mp4")
    result = enhance(model, ".", "-o", "out")
    assert result.exit_code == 1
    assert "4 failed" in result.stdout
    lines = sorted(line.removeprefix("skipped ") for line in result.stderr.splitlines() if line.startswith("skipped"))
    for name, reason, line in zip(
        ("empty.mov", "headless.mp4", "sound.mp4", "text.mkv"),
        ("not a video", "not a video", "no video", "not a video"),
        lines,
        strict=True,
    ):
        assert line.startswith(f"{name}: ")
        assert reason in line
    assert not os.path.exists("out") or not os.listdir("out")


def test_names_like_a_protocols(model, folder):
    for name in ("12:30.mp4", "data:,.mkv", "file:x.mov"):
        write("whole.mp4" if name.endswith("mp4") else f"whole{name[-4:]}", times=VARIABLE[:2])
        os.rename(f"whole{name[-4:]}", name)
        result = enhance(model, name)
        assert result.exit_code == 0, result.stderr
        assert result.stdout == f"1 written\n{name[:-4]}-enhanced{name[-4:]}\n"
    (folder / "in").mkdir()
    (folder / "in" / "13:00.mp4").symlink_to("nowhere.mp4")
    assert "skipped in/13:00.mp4: No such file or directory" in enhance(model, "in").stderr


def test_pictures_and_videos_share_a_folder_and_a_plan(model, folder):
    (folder / "in").mkdir()
    write("in/clip.mp4", times=VARIABLE[:3])
    Image.fromarray(scene((40, 30))).save("in/photo.png")
    result = enhance(model, "in")
    assert result.exit_code == 0
    assert "2 written" in result.stdout
    assert sorted(contents(folder / "in-enhanced")) == ["clip.mp4", "photo.png"]
    once = contents(folder)
    again = enhance(model, "in")
    assert again.exit_code == 0
    assert "2 kept as they were" in again.stdout
    assert contents(folder) == once
    assert enhance(model, "in/clip.mp4").exit_code == 0
    assert (folder / "in" / "clip-enhanced.mp4").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["clip.mp4", "-o", "clip.mp4"], "clip.mp4: its result clip.mp4 would replace an input"),
        (["clip.mp4", "-o", "clip.png"], "clip.mp4 is a video and can't become a picture, clip.png"),
        (["photo.png", "-o", "photo.mp4"], "photo.png is a picture and can't become a video, photo.mp4"),
    ],
)
def test_mistakes_are_one_line_and_touch_nothing(model, folder, arguments, message):
    write("clip.mp4", times=VARIABLE[:2])
    Image.fromarray(scene((40, 30))).save("photo.png")
    before = contents(folder)
    result = enhance(model, *arguments, "--overwrite")
    assert result.exit_code == 1
    assert result.stderr == f"Error: {message}" + ("; choose another output\n" if "replace" in message else "\n")
    assert contents(folder) == before


def test_without_pyav_a_video_is_named_in_one_line_and_pictures_go_on(model, folder, monkeypatch):
    (folder / "clip.mp4").touch()
    Image.fromarray(scene((40, 30))).save("photo.png")
    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == "av" else found(name, *rest))
    result = enhance(model, "clip.mp4")
    assert result.exit_code == 1
    named = "skipped clip.mp4: av is needed for videos: pip install 'zdce[video]'"
    assert result.stderr == named + "\n"
    result = enhance(model, ".", "-o", "out")
    assert (result.exit_code, result.stderr) == (1, named + "\n")
    assert "1 written, 1 failed" in result.stdout
    assert os.listdir("out") == ["photo.png"]


def test_results_are_replaced_only_when_told(model, folder):
    write("in.mp4", times=VARIABLE[:2])
    (folder / "out.mp4").write_bytes(b"mine")
    assert "1 kept" in enhance(model, "in.mp4", "-o", "out.mp4").stdout
    assert (folder / "out.mp4").read_bytes() == b"mine"
    assert "1 written" in enhance(model, "in.mp4", "-o", "out.mp4", "--overwrite").stdout
    assert len(frames("out.mp4")) == 2


def test_a_real_process(model):
    write("in.mp4")
    out, errors = (child := process(model, "in.mp4")).communicate(timeout=60)
    assert child.returncode == 0, errors
    assert out == "1 written\nin-enhanced.mp4\n"
    assert re.fullmatch(r"in-enhanced.mp4: 16 frames, \d+\.\d a second\n", errors)
    assert packets("in-enhanced.mp4") == packets("in.mp4")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_a_signal_leaves_no_part_of_a_video(model, folder, number):
    write("in.mp4", times=[i * 3000 for i in range(1500)], sound=None)
    before = contents(folder)
    child = process(model, "in.mp4", "-o", "out/out.mp4")
    # All three threads are at work when something is written.
    wait_for(child, lambda: any(path.stat().st_size for path in folder.glob("out/.*")))
    child.send_signal(number)
    _, errors = child.communicate(timeout=30)
    assert child.returncode == 128 + number
    assert "Traceback" not in errors
    assert contents(folder) == before


def test_a_disk_that_takes_no_more_is_one_line_and_leaves_nothing(model, folder):
    write("in.mp4", times=[i * 3000 for i in range(100)])
    before = contents(folder)
    with no_file_grows_past(3000):
        result = enhance(model, "in.mp4", "-o", "out.mp4")
    assert result.exit_code == 1
    assert "skipped out.mp4: File too large" in result.stderr
    assert "Traceback" not in result.stderr
    assert contents(folder) == before


def head(source, path, count):
    """The first ``count`` video packets of a file, and the sound beside them, copied."""
    with av.open(str(source)) as file, av.open(str(path), "w") as copy:
        streams = {stream.index: copy.add_stream_from_template(stream, opaque=True) for stream in file.streams}
        for packet in file.demux():
            if packet.size and count > 0:
                count -= packet.stream.type == "video"
                packet.stream = streams[packet.stream.index]
                copy.mux(packet)


@pytest.mark.parametrize("name", ["realshort.mp4", "cockatoo.mp4"])
def test_real_videos_keep_sound_and_time_and_get_bright(model, data_folder, name):
    head(data_folder / "video" / name, "in.mp4", 12)
    result = enhance(model, "in.mp4", "-o", "out.mp4")
    assert result.exit_code == 0, result.stderr
    assert packets("out.mp4") == packets("in.mp4")
    assert tags_of("out.mp4") == tags_of("in.mp4")
    dark, bright = frames("in.mp4"), frames("out.mp4")
    assert len(bright) == len(dark) == 12
    assert np.mean(bright) > np.mean(dark) + 10


def test_flicker_of_real_bursts_is_measured(model, data_folder):
    result = CliRunner().invoke(
        cli.main, ["bench", "flicker", str(data_folder / "bursts"), "-m", str(model)], catch_exceptions=False
    )
    assert result.exit_code == 0
    enhancer = zdce.Enhancer(zdce.load(model), scale=12)
    paths = sorted((data_folder / "bursts").iterdir())
    found = flicker.sequences(paths, fps=30)
    assert [burst.name for burst in found] == ["661_0_.png ... 661_3_.png", "761_0_.png ... 761_3_.png"]
    for burst in found:
        rows = flicker.measure(burst, enhancer)
        value = {row.provider: row.value for row in rows if row.metric == "flicker"}
        excess = {row.provider: row.value for row in rows if row.metric == "excess"}
        # Moved by hand: the mean of what is seen changes by itself, and smoothing adds no more than a level to it.
        assert value["smoothed"] < value["frame by frame"] + 1
        assert excess["smoothed"] == pytest.approx(value["smoothed"] - value["input"])


def test_a_folder_with_nothing_to_flicker_is_a_mistake(model, folder):
    result = CliRunner().invoke(cli.main, ["bench", "flicker", str(folder), "-m", str(model)], catch_exceptions=False)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: no videos or pictures found: expected .")


def test_flicker_of_frames_that_are_known():
    assert flicker.flicker([1.0, 3.0, 2.0]) == 1.5
    with pytest.raises(ValueError, match="at least 2 frames, got 1"):
        flicker.flicker([1.0])
    # Rec. 709 weighs green most; white is 255 at either depth.
    for dtype, most in ((np.uint8, 255), (np.uint16, 65535)):
        green = np.zeros((2, 3, 3), dtype)
        green[..., 1] = most
        assert flicker.brightness(green) == pytest.approx(255 * 0.7152)
        assert flicker.brightness(np.full((2, 3, 3), most, dtype)) == pytest.approx(255)
