"""The benchmarks: real runs at small sizes, what they write, and what they refuse."""

import csv
import io
import json
import math
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import zdce
from cuda_on_cpu import CudaOnCpu
from runs import bench
from zdce import reference
from zdce.bench import (
    correctness,
    gpu,
    gpus,
    loop,
    measuring,
    memory,
    ops,
    plot,
    processes,
    ptx,
    scales,
    static,
    steps,
    timing,
    train,
)
from zdce.bench.cases import CASES, MODES, Setting
from zdce.bench.providers import PROVIDERS, Provider
from zdce.bench.rows import Row, spread, to_csv
from zdce.commands import bench_options
from zdce.errors import InputError
from zdce.io import images
from zdce.ops import dispatch
from zdce.runtime import prefetch
from zdce.training.config import AMP
from zdce.training.learner import Learner

SMALL = Setting(batch=1, height=32, width=48)
EAGER = {"reference": PROVIDERS["reference"]}
COLUMNS = [field.name for field in fields(Row)]

needs_linux = pytest.mark.skipif(memory.why_missing("cpu") is not None, reason="peak memory can't be measured here")


def job(work="time", **changes):
    return replace(measuring.Job(work, "ops", SMALL, providers=("reference",), seconds=0.0), **changes)


def by_metric(rows, **wanted):
    return [row for row in rows if all(getattr(row, name) == value for name, value in wanted.items())]


def test_rows_have_the_schema():
    design = "suite case provider mode metric unit value p20 p80 shape dtype threads device version"
    assert " ".join(COLUMNS) == design
    row = Row("ops", "apply_curve", "reference", "both", "time", "ms", 2.5, None, None, "1x3x2x2", "float32", 2, "cpu")
    assert list(csv.DictReader(io.StringIO(to_csv([row])))) == [
        {name: "" if value is None else str(value) for name, value in row.to_dict().items()}
    ]


@pytest.mark.parametrize("as_json", [False, True])
def test_rows_are_printed_where_their_file_cannot_be_written(tmp_path, capsys, as_json):
    row = Row("ops", "apply_curve", "reference", "both", "time", "ms", 2.5, None, None, "1x3x2x2", "float32", 2, "cpu")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        bench_options.save_rows([row], tmp_path / "file" / "rows.csv", as_json)
    printed = capsys.readouterr().out
    assert json.loads(printed) == [row.to_dict()] if as_json else printed == to_csv([row])


def test_spread():
    assert spread([3.0]) == (3.0, 3.0, 3.0)
    assert spread([float(i) for i in range(11)]) == (5.0, 2.0, 8.0)


@pytest.mark.parametrize("name", CASES)
def test_minimum_traffic_is_what_the_reference_counts(name):
    # Bytes a pixel in float32 with T = 8, from the comments in zdce/reference.py.
    bytes_a_pixel = {
        "apply_curve": (120, 228),
        "illumination_smoothness": (96, 192),
        "spatial_consistency": (24, 12),
        "color_constancy": (12, 12),
        "exposure_control": (12, 12),
        "zero_reference_objective": (108, 204),
    }
    forward, backward, both = (sum(CASES[name].traffic(SMALL, mode)) / SMALL.pixels for mode in MODES)
    assert (forward, backward) == bytes_a_pixel[name]
    assert both == forward + backward


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_correct_providers_pass_the_check(name, dtype, layout):
    setting, case = replace(SMALL, dtype=dtype, layout=layout), CASES[name]
    expected = correctness.truth(case, setting)
    for provider in ("reference", "zdce-cpp"):
        if PROVIDERS[provider].missing(setting) is None:
            assert correctness.error(case, setting, PROVIDERS[provider].functions(name), expected) <= 1


def scaled(name):
    """A hundredth too large."""
    return lambda *tensors: 1.01 * getattr(reference, name)(*tensors)


def without_last_row(name):
    """The right value; the last row of maps gets no gradient, as from a kernel that ends too early."""

    def function(image, maps):
        return reference.apply_curve(image, torch.cat([maps[..., :-1, :], maps[..., -1:, :].detach()], dim=2))

    return function


@pytest.mark.parametrize("broken", [scaled, without_last_row])
def test_who_fails_the_check_is_reported_and_not_timed(broken):
    providers = {**EAGER, "broken": Provider(broken)}
    outcome = measuring.Measurement(job(cases=("apply_curve",), providers=("reference", "broken")), providers).run()
    assert outcome.wrong
    assert [note.split(":")[0] for note in outcome.notes] == ["broken is wrong in apply_curve"]
    (error,) = by_metric(outcome.rows, metric="error", provider="broken")
    assert error.value > 1
    assert by_metric(outcome.rows, provider="broken") == [error]
    assert len(by_metric(outcome.rows, metric="time", provider="reference")) == 3


def test_nan_fails_the_check():
    case = CASES["color_constancy"]
    expected = correctness.truth(case, SMALL)
    error = correctness.error(case, SMALL, lambda enhanced: enhanced.mean() * float("nan"), expected)
    assert not error <= 1


@pytest.mark.parametrize(("work", "metric"), [("time", "time"), pytest.param("memory", "extra_memory", marks=needs_linux)])
def test_who_raises_is_reported_and_the_others_are_measured(work, metric):
    def failing(name):
        def fail(*tensors):
            raise RuntimeError("no compiler\nand a long story")

        return fail

    outcome = measuring.Measurement(
        job(work, cases=("exposure_control",), providers=("broken", "reference")), {**EAGER, "broken": Provider(failing)}
    ).run()
    assert outcome.notes == ["broken is left out of exposure_control: RuntimeError: no compiler"]
    assert not outcome.wrong
    assert by_metric(outcome.rows, metric=metric, provider="reference")


def test_rounds_take_everyone_in_turns():
    order = []

    def timed(name):
        def run():
            order.append(name)
            return (1.0,)

        return run

    times = timing.rounds({name: timed(name) for name in "abc"}, seconds=0.0)
    assert {name: len(runs) for name, runs in times.items()} == {"a": 5, "b": 5, "c": 5}
    turns = [order[i : i + 6] for i in range(0, len(order), 6)]
    assert all(sorted(turn) == list("aabbcc") for turn in turns)
    assert len({"".join(turn) for turn in turns}) > 1


def test_times_bandwidths_and_shares_agree():
    outcome = measuring.Measurement(job(cases=("zero_reference_objective",))).run()
    moved = sum(CASES["zero_reference_objective"].traffic(SMALL, "both"))
    time, bandwidth = (by_metric(outcome.rows, metric=m, mode="both", provider="reference")[0] for m in ("time", "bandwidth"))
    streaming = by_metric(outcome.rows, metric="time", mode="both", provider="streaming")[0]
    share = by_metric(outcome.rows, metric="bandwidth_share", mode="both")[0]
    assert time.p20 <= time.value <= time.p80
    assert share.value == pytest.approx(streaming.value / time.value)
    # The median of quotients is not the quotient of medians where there is an even number of rounds.
    assert bandwidth.value == pytest.approx(moved / time.value / 1e6, rel=0.5)


PEAK = """
import torch
from zdce.bench import memory
def call():
    first = torch.ones(24 * 2**20, dtype=torch.uint8)
    second = first.clone()
    del first
    return [second[:1].clone(), torch.ones(4 * 2**20, dtype=torch.uint8)]
call()
print(memory.peak(call, "cpu"))
"""


@needs_linux
def test_peak_memory_counts_what_is_alive_at_once_and_not_what_is_returned():
    done = subprocess.run(
        [sys.executable, "-P", "-c", PEAK], capture_output=True, text=True, check=True, env=os.environ | memory.ENVIRONMENT
    )
    # Two blocks of 24 MiB at once; the 4 that are returned come when one is gone, and are taken off.
    assert 43 <= int(done.stdout) / 2**20 <= 48


def test_a_measuring_process_answers_in_json():
    one = job(cases=("color_constancy",))
    outcome = processes.measured("measuring", one.to_json(), {}, "color_constancy")
    assert {row.case for row in outcome.rows} == {"color_constancy"}
    assert {row.provider for row in outcome.rows} == {"reference", "streaming"}
    assert not outcome.wrong
    with pytest.raises(ChildProcessError, match="the measuring process of nothing ended with exit code 1"):
        processes.measured("measuring", replace(one, work="nothing").to_json(), {}, "nothing")


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """One run with everything that it can write, and the environments of its processes, whose work is done in this one."""
    folder, threads, environments = tmp_path_factory.mktemp("bench"), torch.get_num_threads(), []

    def measured(module, job, environment, what):
        environments.append(environment)
        return measuring.Measurement(measuring.Job.from_json(job)).run()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ops, "measured", measured)
        result = bench(
            "ops", "--batch-size", 2, "--size", "64x96", "--provider", "reference", "--provider", "zdce-cpp", "--threads", 2,
            "--quick", "--default-allocator", "--csv", folder / "rows.csv", "--plot", folder / "plot.svg", "--json",
        )  # fmt: skip
    torch.set_num_threads(threads)
    assert result.exit_code == 0, result.output
    return folder, json.loads(result.stdout), environments


def test_a_run_measures_every_case_with_both_allocators(quick):
    _, rows, environments = quick
    weighed = [] if memory.why_missing("cpu") else [memory.ENVIRONMENT]
    assert environments == [processes.KEEP_FREED_MEMORY, *weighed, {}]
    assert {row["suite"] for row in rows} == {"ops", "ops-default-allocator"}
    for suite in ("ops", "ops-default-allocator"):
        timed = {
            (r["case"], r["mode"]) for r in rows if (r["suite"], r["metric"], r["provider"]) == (suite, "time", "reference")
        }
        assert timed == {(case, mode) for case in CASES for mode in MODES}
    for row in rows:
        assert list(row) == COLUMNS
        assert row["threads"] == 2
        assert row["shape"] == "2x3x64x96 T=8"
        assert row["value"] >= 0


def test_a_run_writes_what_it_prints(quick):
    folder, rows, _ = quick
    written = list(csv.DictReader(io.StringIO((folder / "rows.csv").read_text())))
    assert [{name: "" if row[name] is None else str(row[name]) for name in COLUMNS} for row in rows] == written
    assert "<svg" in (folder / "plot.svg").read_text()


@needs_linux
@pytest.mark.skipif(dispatch.why_missing("cpp") is not None, reason="the C++ extension is not built")
def test_the_fused_objective_needs_less_memory_than_the_eager_one():
    weighed = job(
        "memory", cases=("zero_reference_objective",), providers=("reference", "zdce-cpp"), setting=Setting(batch=2)
    )  # fmt: skip
    outcome = processes.measured("measuring", weighed.to_json(), memory.ENVIRONMENT, "extra memory")
    extra = {row.provider: row.value for row in by_metric(outcome.rows, metric="extra_memory", mode="both")}
    # Eager keeps tanh's result, T images and their squares; 2 images of 256 x 256 with 24 maps are 12 MiB.
    assert extra["reference"] > 24
    assert extra["zdce-cpp"] <= extra["reference"] / 8


def test_scaling_and_the_tables_on_screen(monkeypatch):
    monkeypatch.setattr(measuring, "SIZES", ((16, 32), (32, 64)))
    outcome = measuring.Measurement(job("scaling", suite=ops.SCALING, cases=("apply_curve",))).run()
    lines = ops.scaling_table(outcome.rows)
    assert [line[:3] for line in lines] == [
        ["apply_curve", name, f"1x3x{size} T=8"] for size in ("16x32", "32x64") for name in ("reference", "streaming")
    ]
    timed = measuring.Measurement(job(cases=("apply_curve",))).run()
    (table,) = ops.tables(timed.rows, "ops").values()
    assert [line[0] for line in table] == ["reference", "streaming"]
    assert all(len(line) == len(ops.COLUMNS) for line in table)


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["ops", "--size", "8"], "size must be at least 16 pixels, got 8x8", 1),
        (["ops", "--size", "big"], "expected a side or HEIGHTxWIDTH in pixels, got 'big'", 2),
        (["ops", "--threads", "0"], "Invalid value for '--threads'", 2),
        (["ops", "--case", "sharpen"], "Invalid value for '--case'", 2),
        (["ops", "--plot", "rows.pdf"], "the plot must be a .png or .svg file, got 'rows.pdf'", 1),
        *(
            pytest.param(
                [name, "--device", "cuda"], "device must be cpu here, got 'cuda': torch sees no GPU", 1,
                marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
            )
            for name in ("ops", "infer", "train")
        ),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(arguments, message, code):
    result = bench(*arguments)
    assert result.exit_code == code
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


def test_a_plot_without_matplotlib_is_refused_before_anything_is_measured(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = bench("ops", "--plot", tmp_path / "plot.png")
    assert result.exit_code == 1
    assert "matplotlib is needed for this benchmark" in result.stderr
    assert "pip install 'zdce[bench]'" in result.stderr


def test_a_gpu_measurement_that_is_stopped_keeps_what_it_has(tmp_path):
    def stopped():
        raise KeyboardInterrupt

    session = gpu.Session(tmp_path / "bench.json", "cpu", tiny=True, ends=math.inf)
    session.part("a part", lambda: session.row("copy", "torch", "bandwidth", "GB/s", [1.0], "1 GiB", "uint8"))
    with pytest.raises(SystemExit) as ended:
        session.part("another", stopped)
    assert ended.value.code == 0
    kept = json.loads((tmp_path / "bench.json").read_text())
    assert [row["case"] for row in kept["rows"]] == ["copy"]
    assert kept["notes"] == ["another is left out: it was stopped"]


def test_the_report_counts_the_tests_that_a_stopped_run_left_out(tmp_path):
    results = tmp_path / "tests.xml"
    some = Path(__file__).parents[1] / "test_map.py"
    command = [sys.executable, "-P", "-m", "pytest", "-p", "no:cacheprovider", f"--junit-xml={results}", str(some)]
    environment = {**os.environ, "ZDCE_TESTS_END": "0", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # as below
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    all_late = gpu._tests(results, tmp_path / "none.log")
    assert (all_late["ran"], all_late["skipped"], all_late["failed"]) == (0, 0, [])
    assert all_late["left out"] > 0
    assert not gpu.report(tmp_path)
    text = (tmp_path / "gpu.md").read_text()
    assert f" seconds, 0 of {all_late['left out']} ran or were skipped, 0 failed, 0 skipped." in text


def test_an_interrupted_pytest_is_a_stopped_run_and_no_failure(tmp_path):
    (tmp_path / "tests.xml").write_text(
        """<testsuites><testsuite time="120.4"><testcase classname="tests.gpu" name="test_a"/>
        <testcase classname="tests.gpu" name="test_b"><skipped message="no GPU"/></testcase>
        <testcase classname="pytest" name="internal"><error message="internal error">KeyboardInterrupt</error></testcase>
        </testsuite></testsuites>"""
    )
    (tmp_path / "tests.log").write_text("created: 12/12 workers\n12 workers [5 items]\n")
    assert not gpu.report(tmp_path)
    text = (tmp_path / "gpu.md").read_text()
    assert "Tests: stopped after 120 seconds, 2 of 5 ran or were skipped, 0 failed, 1 skipped." in text


@pytest.mark.parametrize("workers", [[], ["-p", "xdist", "-n", "1"]], ids=["alone", "xdist"])
def test_a_killed_pytest_is_counted_from_its_lines(tmp_path, workers):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_few.py").write_text(
        "import pytest\n\n@pytest.mark.parametrize('i', range(5))\ndef test_one(i): pass\n"
    )
    command = [sys.executable, "-P", "-m", "pytest", "-v", "-p", "no:cacheprovider", *workers, "tests/test_few.py"]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # others take a second to import
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    (tmp_path / "tests.log").write_text(done.stdout)
    counted = gpu._tests(tmp_path / "tests.xml", tmp_path / "tests.log")
    assert (counted["ran"], counted["skipped"], counted["failed"], counted["left out"]) == (5, 0, [], 0)
    cut = re.sub(r"(?m)^.*PASSED.*\n", "", done.stdout, count=1).replace("PASSED", "FAILED", 1)
    (tmp_path / "tests.log").write_text(cut)
    counted = gpu._tests(tmp_path / "tests.xml", tmp_path / "tests.log")
    assert (counted["ran"], len(counted["failed"]), counted["left out"]) == (4, 1, 1)


def test_a_pytest_that_is_stopped_before_it_has_found_its_tests_is_a_failure(tmp_path):
    (tmp_path / "tests.xml").write_text('<testsuites><testsuite time="78.4"><testcase time="0.6" /></testsuite></testsuites>')
    assert not gpu.report(tmp_path)
    assert "Tests: 0 ran, 1 failed, 0 skipped. `no test began: see tests.log` failed." in (tmp_path / "gpu.md").read_text()


def test_the_report_says_how_far_a_sanitizer_came(tmp_path):
    (tmp_path / "memcheck-cuda.log").write_text("cuda curve: part 1 of 5, 3 s\n========= ERROR SUMMARY: 0 errors\n")
    (tmp_path / "racecheck-cuda.log").write_text("========= COMPUTE-SANITIZER\n\ncuda curve: part 1 of 5, 9 s\ncuda: stopped\n")
    (tmp_path / "memcheck-triton.log").write_text("========= COMPUTE-SANITIZER\n")
    gpu.report(tmp_path)
    found = json.loads((tmp_path / "gpu.json").read_text())["sanitizers"]
    assert found == {
        "memcheck cuda": "cuda curve: part 1 of 5, 3 s; ERROR SUMMARY: 0 errors",
        "racecheck cuda": "cuda curve: part 1 of 5, 9 s",
        "memcheck triton": "COMPUTE-SANITIZER",
        "racecheck triton": "not run",
    }


def test_occupancy_is_what_the_calculator_says():
    # Rows of NVIDIA's occupancy calculator for compute capability 8.0.
    a100 = gpus.GPUS[80]
    assert gpus.occupancy(a100, registers=32, shared_memory=0, threads=256) == 1.0
    assert gpus.occupancy(a100, registers=128, shared_memory=0, threads=256) == 0.25
    assert gpus.occupancy(a100, registers=40, shared_memory=0, threads=128) == 0.75
    assert gpus.occupancy(a100, registers=16, shared_memory=48 * 1024, threads=128) == 0.1875
    assert gpus.occupancy(a100, registers=255, shared_memory=0, threads=1024) == 0.0


def test_the_assembler_report_and_ptx_are_understood():
    report = "0 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads\nptxas info : Used 40 registers, used 1 barriers"
    assert ptx.ptxas_words(report) == {"registers": 40, "spills": 12}
    with pytest.raises(ValueError, match="did not say"):
        ptx.ptxas_words("")
    code = (
        "ld.global.v4.b32 {a}, [b];\n st.global.cg.v2.u32 [b], {a};\n ld.global.L1::evict_last.b16 c, [d]; ld.shared.v4.b64 x"
    )
    assert ptx.widest(code) == {"widest_load": 16, "widest_store": 8}


FACT = {
    "provider": "triton", "kernel": "statistics_forward", "target": "sm_90", "dtype": "float32", "registers": 64, "spills": 0,
    "shared_memory": 0, "threads": 32, "widest_load": 16, "widest_store": 4,
    "constants": {"T": 8, "MAPS": 8, "ROWS": 16, "N": 32},
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({}, None),
        ({"spills": 16}, "spills 16 bytes"),
        ({"widest_load": 8}, "loads 8 bytes at a time where 16 are possible"),
        ({"kernel": "statistics_backward", "widest_store": 4}, "stores 4 bytes at a time where 16 are possible"),
        (
            {"kernel": "statistics_backward", "dtype": "bfloat16", "widest_store": 8},
            "stores 8 bytes at a time where 16 are possible",
        ),
        ({"constants": {"T": 8, "MAPS": 8, "ROWS": 4, "N": 32}}, "touches 1.24 times what it must, at most 1.10 is allowed"),
    ],
)
def test_what_a_kernel_may_not_do_is_named(change, fault):
    fact = {**FACT, **change}
    found = static._faults(fact, Setting(dtype=fact["dtype"]))
    assert [fault] == [line.split("sm_90 ")[1] for line in found] if fault else found == []


def test_a_tile_with_its_halo():
    # 16 x 128 of 24 maps with the row above and the column beside, the image, and two means of 4 x 4 a colour.
    own = 16 * 128
    expected = (8 * (own + 128 + 16) + own + 2 * own / 16) / (9 * own)
    assert static.touched(FACT, Setting()) == pytest.approx(expected)
    # With channels_last 16 x 32 in all three colours.
    every = {**FACT, "constants": {**FACT["constants"], "ALL": True}}
    own = 16 * 32
    expected = (8 * (own + 32 + 16) + own + 2 * own / 16) / (9 * own)
    assert static.touched(every, Setting(layout="channels_last")) == pytest.approx(expected)


def test_scales_of_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(scales, "SCALES", (1, 4))
    torch.manual_seed(0)
    zdce.DCENet("iters4").save(tmp_path / "net.safetensors")
    for name, size in (("a.png", (40, 50)), ("b.png", (31, 17))):
        pixels = np.random.default_rng(0).integers(0, 60, (*size, 3), np.uint8)
        images.write(images.Picture(pixels), tmp_path / name)
    result = bench(
        "scales", "-m", tmp_path / "net.safetensors", tmp_path / "a.png", tmp_path / "b.png",
        "--csv", tmp_path / "rows.csv", "--plot", tmp_path / "plot.svg",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "PSNR to scale 1" in result.stdout
    assert (tmp_path / "plot.svg").stat().st_size > 1000
    rows = list(csv.DictReader(io.StringIO((tmp_path / "rows.csv").read_text())))
    assert list(rows[0]) == COLUMNS
    of_a = {(row["provider"], row["metric"]): float(row["value"]) for row in rows if row["case"] == "a.png"}
    assert set(of_a) == {("scale 1", "rate"), ("scale 4", "rate"), ("scale 4", "psnr")}
    model, picture = zdce.load(tmp_path / "net.safetensors"), images.read_rgb(tmp_path / "a.png")
    exact, small = (zdce.Enhancer(model, scale=scale)(picture).astype(float) for scale in (1, 4))
    assert of_a["scale 4", "psnr"] == pytest.approx(10 * np.log10(255**2 / np.square(exact - small).mean()))
    assert "no such file or folder: none.png" in bench("scales", "-m", tmp_path / "net.safetensors", "none.png").stderr


def step_job(work="time", **changes):
    return replace(steps.Job(work, ("no-concat",), ("eager", "zdce"), batch=1, size=16, seconds=0.0, curve=3), **changes)


def test_training_steps_are_checked_and_timed_part_by_part():
    outcome = steps.Measurement(step_job()).run()
    assert not outcome.wrong
    for provider in ("eager", "zdce"):
        (error,) = by_metric(outcome.rows, provider=provider, metric="error")
        assert 0 < error.value <= 1
        (curve,) = by_metric(outcome.rows, provider=provider, metric="curve_error")
        assert 0 < curve.value <= 1
        shares = {row.mode: row.value for row in by_metric(outcome.rows, provider=provider, metric="share")}
        assert list(shares) == list(steps.PARTS)
        assert sum(shares.values()) == pytest.approx(1)
        times = {row.mode: row for row in by_metric(outcome.rows, provider=provider, metric="time")}
        assert list(times) == [*steps.PARTS, steps.STEP]
        assert times["step"].value > max(times[part].value for part in steps.PARTS)
        assert times["step"].shape == "1x3x16x16"
        (speed,) = by_metric(outcome.rows, provider=provider, metric="speed")
        assert speed.value == pytest.approx(1e3 / times["step"].value, rel=0.2)
    (ratio,) = by_metric(outcome.rows, metric="speed_over_eager")
    assert ratio.provider == "zdce"


def test_a_step_with_wrong_gradients_is_not_timed():
    wrong = steps.Provider(lambda image, logits, **_: steps.Objective(*[1.01 * logits.mean()] * 5))
    outcome = steps.Measurement(step_job(providers=("eager", "wrong")), {**steps.PROVIDERS, "wrong": wrong}).run()
    assert outcome.wrong
    assert [note.partition(" is ")[0] for note in outcome.notes] == ["wrong", "wrong"]
    assert {row.metric for row in outcome.rows if row.provider == "wrong"} == {"error", "curve_error"}


def test_a_step_whose_losses_leave_float64s_is_not_timed():
    calls = []

    def right_at_first(image, logits, **settings):
        calls.append(1)
        return reference.zero_reference_objective(image, logits + 0.1 * (len(calls) > 1), **settings)

    outcome = steps.Measurement(step_job(providers=("late",)), {"late": steps.Provider(right_at_first)}).run()
    assert outcome.wrong
    values = {row.metric: row.value for row in outcome.rows}
    assert list(values) == ["error", "curve_error"]
    assert values["error"] <= 1 < values["curve_error"]


def test_a_provider_that_cannot_train_a_variant_is_left_out_with_the_reason():
    outcome = steps.Measurement(step_job(variants=("zero-dce-pp",), providers=("zdce", "zdce_bf16"))).run()
    assert not outcome.wrong
    assert {row.provider for row in outcome.rows} == {"zdce"}
    assert [note.split(":")[0] for note in outcome.notes] == ["zdce_bf16 is left out of zero-dce-pp"]


def test_what_lies_between_steps_is_outside_of_them(tmp_path, monkeypatch):
    # By a clock on which a step takes a second and the wait for a batch none, then three.
    now, wait, begin, prefetched = [0.0], 0.0, Learner.begin_step, prefetch.prefetched

    def passed(seconds, result):
        now[0] += seconds
        return result

    @contextmanager
    def waited_for(*arguments):
        with prefetched(*arguments) as prepared:
            yield (passed(wait, batch) for batch in prepared)

    monkeypatch.setattr("zdce.training.clock.time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(Learner, "begin_step", lambda learner, batch: passed(1.0, begin(learner, batch)))
    monkeypatch.setattr(prefetch, "prefetched", waited_for)
    assert loop.step_share("no-concat", 1, 16, tmp_path, steps=4) == 1
    (tmp_path / "again").mkdir()
    wait = 3.0
    assert loop.step_share("no-concat", 1, 16, tmp_path / "again", steps=4) == 1 / 4


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_training_steps_as_a_picture(tmp_path, suffix, start):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    outcome = steps.Measurement(step_job()).run()
    plot.save_steps(outcome.rows, tmp_path / f"plot.{suffix}")
    assert (tmp_path / f"plot.{suffix}").read_bytes().startswith(start)


def test_a_picture_has_steps_without_parts(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    modes = {"eager": [*steps.PARTS, steps.STEP], "eager_graph": [steps.STEP]}
    rows = [
        Row("train", "base", provider, mode, "time", "ms", 4.0, None, None, "1x3x2x2", "float32", 2, "a GPU")
        for provider, of in modes.items()
        for mode in of
    ]
    plot.save_steps(rows, tmp_path / "plot.svg")
    text = (tmp_path / "plot.svg").read_text()
    assert all(f"<!-- {word} -->" in text for word in ("eager_graph", *steps.PARTS, steps.STEP))


def test_more_threads_are_compared_with_the_fewest():
    rows = [
        Row("train", "base", provider, "step", "speed", "images/s", speed, None, None, "1x3x2x2", "float32", threads, "cpu")
        for provider, threads, speed in (("eager", 2, 15.0), ("eager", 1, 10.0), ("zdce", 1, 30.0), ("zdce", 4, 96.0))
    ]
    found = train.scaling(rows)
    assert {(row.provider, row.threads): row.value for row in found} == {("eager", 2): 1.5, ("zdce", 4): pytest.approx(3.2)}
    assert {(row.metric, row.unit) for row in found} == {(train.SCALING, "ratio")}
    assert train.scaling(rows[:1]) == []


@pytest.mark.parametrize("provider", [name for name in steps.PROVIDERS if not steps.PROVIDERS[name].compiles])
def test_every_way_to_train_has_the_gradients_of_float64(provider):
    truth = steps.Truth.of("base", step_job(size=32).image(), steps=0)
    assert truth.error(steps.PROVIDERS[provider]) <= 1


@pytest.fixture
def on_a_gpu(monkeypatch):
    """The CPU takes a GPU's part, with its type of mixed precision."""
    monkeypatch.setitem(AMP, "cpu", AMP["cuda"])
    return CudaOnCpu(monkeypatch)


@pytest.mark.parametrize("provider", ["zdce", "zdce_amp", "eager_graph"])
def test_steps_on_a_gpu_have_the_gradients_and_losses_of_float64(on_a_gpu, provider):
    truth, of = steps.Truth.of("base", step_job(size=32).image(), steps=20), steps.GPU_PROVIDERS[provider]
    assert 0 < truth.error(of) <= 1
    assert 0 < truth.curve_error(of) <= 1


def test_steps_that_are_a_graph_are_timed_as_a_whole(on_a_gpu):
    job = step_job(providers=("eager", "eager_graph", "zdce"))
    outcome = steps.Measurement(job, steps.GPU_PROVIDERS).run()
    assert not outcome.wrong
    for provider in ("eager_graph", "zdce"):
        (time,) = by_metric(outcome.rows, provider=provider, metric="time")
        assert time.mode == steps.STEP
        assert time.value > 0
    assert [graph.captures for graph in on_a_gpu.graphs] == [0, 1, 1]  # of the gradients, the losses and the time
    (lines,) = train.tables(outcome.rows).values()
    assert [line[0] for line in lines] == ["eager", "eager_graph", "zdce"]
    assert lines[1][1 : 1 + len(steps.PARTS)] == [""] * len(steps.PARTS)


def test_the_cpu_has_no_steps_as_a_graph():
    with pytest.raises(InputError, match=r"providers must be among eager, .*, zdce_amp on cpu, got eager_graph"):
        train.run(train.Options(providers=("eager", "eager_graph")))


@pytest.mark.heavy  # three processes with PyTorch; its measurements run here above
@needs_linux
def test_bench_train_prints_a_table_and_writes_rows(tmp_path):
    result = bench(
        "train",
        "--quick",
        "--size",
        64,
        "--threads",
        1,
        "--provider",
        "eager",
        "--provider",
        "zdce",
        "--csv",
        tmp_path / "rows.csv",
    )
    assert result.exit_code == 0, result.output
    assert "x eager" in result.output
    assert re.search(r"zdce train --augment crops, base: \d+\.\d% of the loop's time lies inside its steps", result.output)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "rows.csv").read_text())))
    assert {row["provider"] for row in rows} == {"eager", "zdce"}
    assert {row["threads"] for row in rows} == {"1"}
    loop_of = {row["mode"]: float(row["value"]) for row in rows if row["unit"] == "of the loop"}
    assert loop_of["step"] + loop_of["data"] == pytest.approx(1)
    memory_of = {row["provider"]: float(row["value"]) for row in rows if row["metric"] == "extra_memory"}
    # Five layers' results and the logits' gradient, at least.
    assert 2 * 64 * 64 * (4 * 16 + 24 + 24) * 4 / 2**20 < memory_of["zdce"] < memory_of["eager"]
