"""Whole networks beside other engines: real runs at tiny sizes, the checks before them, and engines that are left out."""

import csv
import functools
import io
import json
import os
import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest
import torch
from PIL import Image

import zdce
from runs import bench
from zdce.bench import arithmetic, clip, engines, infer, memory, plot, timing
from zdce.bench.engine_process import EngineProcess
from zdce.bench.engines import ENGINES, FMA_PEAK, SCALED, Task
from zdce.bench.rows import Row
from zdce.convert import exporting
from zdce.models import engine
from zdce.ops import dispatch

COLUMNS = [field.name for field in fields(Row)]
HEIGHT, WIDTH = 24, 33
# float32, a hundred roundings of values below 1; of bfloat16 torch's own distance.
LEVELS = {"fp32": 255 * 100 * 2**-24, "bf16": infer.TOLERANCES["bf16"]}

needs_cpp = pytest.mark.skipif(dispatch.why_missing("cpp") is not None, reason="the C++ extension is not built")


@pytest.fixture(scope="module")
def model():
    return infer.random_network("base")


@pytest.fixture(scope="module")
def exports(model):
    """A function that gives the content of an exported file, written once."""

    @functools.cache
    def content(suffix, mode):
        form = exporting.ExportOptions(scale=engines.scale_in(mode, model), uint8=mode != "network")
        return exporting.content(model, suffix, form)

    return content


@pytest.fixture
def prepared(model, exports, tmp_path):
    """A function that gives the task of an engine, and skips where that can't run."""

    def task(engine, precision="fp32", **changes):
        if reason := ENGINES[engine].why_missing(precision, None):
            pytest.skip(f"{engine}: {reason}")
        made = Task(engine, str(tmp_path), HEIGHT, WIDTH, threads=1, precision=precision, **changes)
        model.save(made.file("net.safetensors"))
        for mode in made.modes if (suffix := ENGINES[engine].exported) else ():
            made.file(f"{mode}{suffix}").write_bytes(exports(suffix, mode))
        return made

    return task


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def without_peak(monkeypatch):
    """The peak of multiply-adds is not measured: a process less for each comparison."""
    monkeypatch.setattr(arithmetic, "why_missing", lambda: "not in this test")


# torch.compile takes half a minute of C++: zdce bench infer checks it before it times it. The exporter takes five seconds for
# each file, and test_exporting.py compares its files too.
@pytest.mark.parametrize(
    "engine",
    [
        pytest.param(name, marks=pytest.mark.heavy if engine.exported else ())
        for name, engine in ENGINES.items()
        if not engine.compiles
    ],
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_engines_agree_with_float64(prepared, model, engine, precision, one_thread):
    task = prepared(engine, precision, modes=ENGINES[engine].modes)
    expected = dict.fromkeys(("picture", "network"), infer.truth(model, HEIGHT, WIDTH))
    expected[SCALED] = infer.scaled_truth(model, task.image())
    for mode in expected:
        result = ENGINES[engine].build(task, mode)()
        assert result.dtype == (np.float32 if mode == "network" else np.uint8)
        assert infer.error(result, expected[mode]) <= LEVELS[precision], mode


@pytest.mark.parametrize("engine", ["zdce", "torch"])
def test_a_networks_own_scale_agrees_with_float64(tmp_path, engine, one_thread):
    model, task = infer.random_network("zero-dce-pp"), Task(engine, str(tmp_path), 100, 131, threads=1)
    model.save(task.file("net.safetensors"))
    expected = infer.scaled_truth(model, task.image())
    assert infer.error(ENGINES[engine].build(task, SCALED)(), expected) <= LEVELS["fp32"]


def test_the_truth_at_a_scale_is_the_same_in_strips(monkeypatch, model):
    picture = engines.dark_picture(100, 131)
    whole = infer.scaled_truth(model, picture)
    for strip in (1, 2, 3):
        monkeypatch.setattr(infer, "_STRIP", strip)
        np.testing.assert_allclose(infer.scaled_truth(model, picture), whole, rtol=0, atol=1e-12)


def test_videos_are_checked_frame_by_frame(tmp_path, model):
    pytest.importorskip("av", reason="videos need PyAV: pip install 'zdce[video]'")
    task = Task("zdce", str(tmp_path), 64, 96, threads=1)
    model.save(task.file("net.safetensors"))
    clip.write(engines.clip_file(task), 64, 96)
    expected = infer.film_truth(model, engines.clip_file(task))
    assert ENGINES["zdce"].build(task, "video")().tolist() == [clip.FRAMES]
    frames = [pixels for pixels, _ in clip.read(engines.result_file(task, "video"))]
    assert infer.error(clip.checked(frames), expected) <= infer._VIDEO_TOLERANCE
    # A frame too few, and frames that nobody enhanced.
    assert infer.error(clip.checked(frames[1:]), expected) == float("inf")
    dark = [pixels for pixels, _ in clip.read(engines.clip_file(task))]
    assert infer.error(clip.checked(dark), expected) > infer._VIDEO_TOLERANCE


def test_random_weights_give_maps_that_vary(model):
    image = torch.from_numpy(engines.dark_picture(64, 64)).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        maps = model.curve_maps(image)
    assert maps.std() > 0.2
    assert (maps.abs() > 0.99).float().mean() < 0.2


def test_the_truth_is_the_model_itself(model):
    image = torch.from_numpy(engines.dark_picture(HEIGHT, WIDTH)).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        assert np.abs(model.enhance(image).numpy() - infer.truth(model, HEIGHT, WIDTH)).max() < LEVELS["fp32"]


def test_errors_are_in_levels_and_rounding_is_none():
    expected = np.full((1, 3, 2, 2), 0.5)
    picture = np.full((2, 2, 3), 128, np.uint8)
    assert infer.error(picture, expected) == 0.0
    picture[1, 0, 2] = 131
    assert infer.error(picture, expected) == pytest.approx(3.0)
    assert infer.error(np.full((1, 3, 2, 2), 0.51, np.float32), expected) == pytest.approx(2.55, abs=1e-4)
    assert not infer.error(picture[:1], expected) <= 1e9
    assert not infer.error(np.full((1, 3, 2, 2), np.nan, np.float32), expected) <= 1e9


@needs_cpp
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_denoised_pictures_are_judged_by_their_mean(precision):
    model = infer.random_network("adaptive")
    if reason := engine.why_unsupported(model.variant):
        pytest.skip(reason)
    picture, truth = engines.dark_picture(129, 200), infer.truth(model, 129, 200)

    def mean(**changes):
        changed = {"noise": model.variant.noise, **changes}
        return infer.mean_error(zdce.Enhancer(model, precision=precision, **changed)(picture), truth)

    assert mean() <= infer.MEAN_TOLERANCES[precision]
    noise = model.variant.noise
    for wrong in ({"strength": 1.02}, {"strength": 0.98}, {"noise": 1.2 * noise}, {"noise": 0.8 * noise}):
        assert mean(**wrong) > infer.MEAN_TOLERANCES[precision]


@needs_cpp
def test_multiply_adds_are_counted_and_done(one_thread):
    sums = torch.ones(2, 16)
    arithmetic.multiply_adds(rounds=1)
    done = torch.ops.zdce_cpp.fma_peak(sums, 1000)
    width = {"avx512": 16, "avx2": 8, "default": 4}[zdce.runtime.system.facts()["instruction set"]]
    assert done == 2 * 1000 * 12 * width
    # Each of 12 chains converges to x = x / 2 + 1, that is to 2.
    assert torch.equal(sums[:, :width], torch.full((2, width), 24.0))
    with pytest.raises(RuntimeError, match=r"sums must be a contiguous CPU tensor \(16, 16\) of float32"):
        torch.ops.zdce_cpp.fma_peak(torch.ones(16), 1)


def test_who_is_slow_runs_once_a_round():
    calls = []

    def timed(seconds):
        def one():
            calls.append(seconds)
            return (seconds,)

        return one

    times = timing.rounds({"quick": timed(0.1), "slow": timed(2.0)}, seconds=0.0, least=3, long=1.0)
    assert {name: len(runs) for name, runs in times.items()} == {"quick": 3, "slow": 3}
    assert (calls.count(0.1), calls.count(2.0)) == (6, 4)


def test_an_absent_peer_is_named_with_what_installs_it(monkeypatch, without_peak):
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert ENGINES["openvino"].why_missing("fp32", None).startswith("openvino")
    result = bench("infer", "--quick", "--size", "16x16", "--threads", 1, "--provider", "openvino", "--json")
    assert result.exit_code == 0
    assert "openvino is left out (fp32): openvino" in result.stderr
    assert "pip install 'zdce[bench]'" in result.stderr
    assert json.loads(result.stdout) == []


def test_what_a_peer_can_not_do_is_said(monkeypatch):
    # Whatever is installed here.
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert ENGINES["onnxruntime"].why_missing("bf16", None) == "it has no bfloat16 on the CPU"
    assert ENGINES["openvino"].why_missing("bf16", "avx2") == "it has no bfloat16 with AVX2"
    assert ENGINES["openvino"].why_missing("bf16", None) is None


def test_who_is_wrong_is_shown_and_not_timed(monkeypatch, without_peak):
    monkeypatch.setitem(infer.TOLERANCES, "fp32", 0.0)
    result = bench("infer", "--quick", "--size", "16x24", "--threads", 1, "--provider", "torch", "--mode", "network", "--json")
    assert result.exit_code == 1
    assert "torch is wrong in base 16x24 fp32 (network) and not timed" in result.stderr
    rows = [row for row in json.loads(result.stdout) if row["provider"] == "torch"]
    assert [row["metric"] for row in rows] == ["error"]
    assert rows[0]["value"] > 0


@pytest.mark.parametrize("engine", ["torch", "torch-channels-last"])
def test_pytorchs_peers_run_pytorchs_convolutions(prepared, monkeypatch, engine):
    def never(*arguments):
        raise AssertionError("zdce's own convolution ran")

    monkeypatch.setattr("zdce.ops.convolution", never)
    for mode in ENGINES[engine].modes:
        ENGINES[engine].build(prepared(engine), mode)()


def test_a_process_that_fails_says_why(tmp_path):
    with EngineProcess(Task("torch", str(tmp_path), 16, 16, threads=1), os.environ) as process:
        assert process.ready()["failed"].startswith("MissingFileError: no weights at")


def test_a_process_that_dies_is_an_error(tmp_path):
    with EngineProcess(Task("torch", str(tmp_path), 16, 16, threads=1), os.environ) as process:
        process._process.kill()
        process._process.wait()
        with pytest.raises(ChildProcessError, match="the process of torch ended"):
            process.seconds("picture")


def test_who_dies_while_timed_is_named_and_the_others_go_on(monkeypatch, without_peak):
    seconds = EngineProcess.seconds

    def dying(self, mode):
        if self.task.engine == "torch-channels-last":
            self._process.kill()
            self._process.wait()
        return seconds(self, mode)

    monkeypatch.setattr(EngineProcess, "seconds", dying)
    result = bench(
        "infer",
        "--quick",
        "--size",
        "16x16",
        "--threads",
        1,
        "--provider",
        "torch",
        "--provider",
        "torch-channels-last",
        "--json",
    )
    assert result.exit_code == 0
    assert result.stderr.count("torch-channels-last is left out of base 16x16 fp32 (picture): the process of") == 1
    metrics = {(row["provider"], row["metric"]) for row in json.loads(result.stdout)}
    assert ("torch", "time") in metrics
    assert ("torch-channels-last", "time") not in metrics


# Seven processes with PyTorch; what follows below runs the command with one or two engines.
whole_run = pytest.mark.heavy


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The command in a process of its own, with everything that it can write."""
    folder = tmp_path_factory.mktemp("infer")
    done = subprocess.run(
        [
            sys.executable, "-P", "-m", "zdce", "bench", "infer", "--quick", "--size", f"{HEIGHT}x{WIDTH}", "--threads", "1,2",
            "--provider", "zdce", "--provider", "torch", "--csv", folder / "rows.csv", "--plot", folder / "plot.svg", "--json",
        ],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return folder, json.loads(done.stdout)


@whole_run
def test_a_run_gives_every_figure_of_every_engine(quick):
    _, rows = quick
    metrics = {"error", "time", "frames_per_second", "megapixels_per_second"}
    metrics |= {"peak_share"} if dispatch.why_missing("cpp") is None else set()
    metrics |= {"peak_memory"} if memory.why_missing("cpu") is None else set()
    for provider, more in (("zdce", set()), ("torch", {"time_over_zdce"})):
        for threads in (1, 2):
            own = {row["metric"]: row for row in rows if (row["provider"], row["threads"]) == (provider, threads)}
            assert set(own) == metrics | more
            assert own["time"]["p20"] <= own["time"]["value"] <= own["time"]["p80"]
            assert own["frames_per_second"]["value"] == pytest.approx(1000 / own["time"]["value"])
            assert own["megapixels_per_second"]["value"] == pytest.approx(HEIGHT * WIDTH / own["time"]["value"] / 1000)
    assert {row["shape"] for row in rows} == {f"1x3x{HEIGHT}x{WIDTH}"}
    assert all(list(row) == COLUMNS for row in rows)


@whole_run
@needs_cpp
def test_the_share_is_direct_multiply_adds_over_the_peak(quick):
    _, rows = quick
    value = {row["metric"]: row["value"] for row in rows if row["threads"] == 1 and row["provider"] in ("torch", FMA_PEAK)}
    done = 16560 * HEIGHT * WIDTH / (value["time"] / 1e3) / 1e9
    # Of an odd number of rounds the median of quotients is the quotient of medians.
    assert value["peak_share"] == pytest.approx(done / value["arithmetic"])


def test_the_scale_of_videos_and_videos_have_their_rows(without_peak):
    pytest.importorskip("av", reason="videos need PyAV: pip install 'zdce[video]'")
    result = bench(
        "infer", "--quick", "--mode", SCALED, "--mode", "video", "--size", "32x48", "--threads", 1, "--provider", "zdce",
        "--provider", "torch", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    value = {(row["provider"], row["mode"], row["metric"]): row["value"] for row in json.loads(result.stdout)}
    assert value["torch", SCALED, "time_over_zdce"] == value["torch", SCALED, "time"] / value["zdce", SCALED, "time"]
    assert value["zdce", "video", "frames_per_second"] == pytest.approx(clip.FRAMES / value["zdce", "video", "time"] * 1000)
    assert ("torch", "video", "time") not in value
    shapes = {(row["mode"], row["shape"]) for row in json.loads(result.stdout) if row["provider"] == "zdce"}
    assert shapes == {(SCALED, "1x3x32x48"), ("video", f"{clip.FRAMES}x3x32x48")}


def test_videos_without_pyav_are_left_out_with_what_installs_it(monkeypatch):
    monkeypatch.setattr("zdce.enhancement.video.why_missing", lambda: "PyAV is not installed: pip install 'zdce[video]'")
    result = bench("infer", "--quick", "--mode", "video", "--size", "32x48", "--json")
    assert result.exit_code == 0
    assert result.stderr.strip() == "video is left out: PyAV is not installed: pip install 'zdce[video]'"
    assert json.loads(result.stdout) == []


@whole_run
def test_a_run_writes_what_it_prints(quick):
    folder, rows = quick
    written = list(csv.DictReader(io.StringIO((folder / "rows.csv").read_text())))
    assert [{name: "" if row[name] is None else str(row[name]) for name in COLUMNS} for row in rows] == written
    assert "<svg" in (folder / "plot.svg").read_text()
    found = [Row(**row) for row in rows]
    (lines,) = infer.tables(found).values()
    assert [line[:2] for line in lines] == [[n, name] for n in ("1", "2") for name in ("zdce", "torch")]
    assert all(len(line) == len(infer.COLUMNS) for line in lines)


@needs_cpp
def test_an_instruction_set_holds_the_measure_of_all(tmp_path):
    if zdce.runtime.system.facts()["instruction set"] == "default":
        pytest.skip("this processor has no AVX2")
    environment = {**os.environ, **infer.ISAS["avx2"]}
    with EngineProcess(Task(FMA_PEAK, str(tmp_path), 16, 16, threads=1), environment) as process:
        assert process.ready()["multiply_adds"] == 12 * 8 * arithmetic._ROUNDS


def test_folder_throughput_counts_every_picture(tmp_path, model):
    model.save(tmp_path / "net.safetensors")
    (tmp_path / "pictures").mkdir()
    for i, size in enumerate([(40, 30), (64, 16)]):
        Image.fromarray(engines.dark_picture(*size)).save(tmp_path / "pictures" / f"{i}.png")
    arguments = ("folder", tmp_path / "pictures", "-m", tmp_path / "net.safetensors", "--threads", 1)
    result = bench(*arguments, "--json")
    value = {row["metric"]: row["value"] for row in json.loads(result.stdout)}
    assert 0 < value["engine_share"] < 1
    assert value["pictures_per_second"] == pytest.approx(2 / value["time"])
    assert value["megapixels_per_second"] == pytest.approx((40 * 30 + 64 * 16) / value["time"] / 1e6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.safetensors", "pictures"]
    assert "pictures/s" in bench(*arguments).stdout
    together = json.loads(bench(*arguments, "--jobs", 2, "--json").stdout)
    assert {row["shape"] for row in together} == {f"2 pictures, {(40 * 30 + 64 * 16) / 1e6:.1f} MP, 2 at once"}
    assert 0 < next(row["value"] for row in together if row["metric"] == "engine_share") < 1


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["infer", "--threads", "1,none"], "expected numbers above 0, separated by commas, got '1,none'", 2),
        (["infer", "--threads", "0"], "expected numbers above 0, separated by commas, got '0'", 2),
        (["infer", "--size", "0x16"], "size must be at least 16 pixels, got 0x16", 1),
        (["infer", "--mode", "video", "--size", "17x16"], "size must be even for videos, got 17x16", 1),
        (["infer", "--provider", "tensorrt"], "Invalid value for '--provider'", 2),
        (["infer", "-m", "net.safetensors", "--variant", "base"], "--model includes its variant", 2),
        (["infer", "-m", "no-such.safetensors"], "no weights at no-such.safetensors", 1),
        (["infer", "--plot", "rows.pdf"], "the plot must be a .png or .svg file, got 'rows.pdf'", 1),
    ],
)
def test_mistakes_are_one_line(arguments, message, code):
    result = bench(*arguments)
    assert result.exit_code == code
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


def test_bars_say_how_many_times_as_long_others_take(tmp_path):
    figure = pytest.importorskip("matplotlib.figure", reason="the extra `bench` is not installed")
    rows = [
        Row("infer", "base", provider, "picture", "time", "ms", value, None, None, "1x3x90x120", "float32", 2, "cpu")
        for provider, value in (("zdce", 64.0), ("openvino", 210.0), ("torch-compile", 192.0))
    ]
    axes = figure.Figure().add_subplot()
    plot._engine_bars(axes, rows)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["zdce", "torch.compile", "OpenVINO"]
    assert [text.get_text().strip() for text in axes.texts] == ["64 ms", "192 ms  (3.0 x)", "210 ms  (3.3 x)"]
    for name in ("one.svg", "other.svg"):
        plot.save_engines(rows, tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "other.svg").read_bytes()
