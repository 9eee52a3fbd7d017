"""Whole networks on a GPU beside PyTorch: all steps on the CPU, the checks before them, and predictions beside the rows."""

import json
import mmap
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from zdce import backends, cli
from zdce.bench import gpus, infer, infer_gpu, memory, network_costs, plot
from zdce.bench.infer_gpu import PEAK, PROVIDERS, Job, Provider
from zdce.bench.processes import Outcome
from zdce.bench.rows import Row
from zdce.enhancement.enhancer import Enhancer
from zdce.models.network import load
from zdce.models.variants import VARIANTS
from zdce.ops import dispatch

SMALL = Job(shapes=((2, 24, 33),), providers=("zdce", "torch"), seconds=0.0, least=3, device="cpu")
H100 = "NVIDIA H100 80GB HBM3"


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def measured(job):
    outcome = Outcome()
    infer_gpu.measure(job, outcome)
    return outcome


def run(*arguments):
    return CliRunner().invoke(cli.main, ["bench", "infer", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture(scope="module")
def small():
    """A run in a process of its own, from a job in JSON."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OMP_NUM_THREADS", "1")
        return infer_gpu.run(SMALL)


def test_a_run_gives_every_figure_of_every_provider(small):
    assert not small.wrong
    metrics = {"error", "mean_error", "time", "frames_per_second", "rate", "peak_share"}
    metrics |= {"peak_memory"} if memory.why_missing("cpu") is None else set()
    (peak,) = (row.value for row in small.rows if row.provider == PEAK)
    for dtype in ("float32", "bfloat16"):
        for provider, more in (("zdce", set()), ("torch", {"time_over_zdce"})):
            own = {row.metric: row for row in small.rows if (row.provider, row.dtype) == (provider, dtype)}
            assert set(own) == metrics | more
            seconds = own["time"].value / 1e3
            assert own["time"].p20 <= own["time"].value <= own["time"].p80
            assert own["frames_per_second"].value == pytest.approx(2 / seconds)
            assert own["rate"].value == pytest.approx(2e-12 * 2 * 16560 * 24 * 33 / seconds)
            assert own["peak_share"].value == pytest.approx(own["rate"].value / peak)
    assert {row.shape for row in small.rows} == {"2x3x24x33"}
    assert {row.threads for row in small.rows} == {None}


@pytest.mark.parametrize("name", ["adaptive", "local"])
def test_networks_that_judge_the_scene_find_it_dark(name):
    (picture,) = infer_gpu.darker_pictures(1, 40, 64)
    assert (Enhancer(load(name))(picture) > picture + np.uint8(20)).mean() > 0.9
    outcome = measured(replace(SMALL, models=(name,), shapes=((1, 40, 64),), precisions=("bf16",), providers=("zdce",)))
    assert not outcome.wrong, outcome.notes
    assert next(row for row in outcome.rows if row.metric == "mean_error").value > 0.2  # of rounding


def test_a_table_has_a_line_for_each_provider_and_type(small):
    (lines,) = infer_gpu.tables(small.rows).values()
    both = [(dtype, name) for dtype in ("float32", "bfloat16") for name in ("zdce", "torch")]
    assert [tuple(line[:2]) for line in lines] == [*both, ("bfloat16", PEAK)]
    assert all(len(line) == len(infer_gpu.COLUMNS) for line in lines)


def test_a_chart_has_a_panel_for_each_type_and_size_of_batches(small, monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(plot, "_save", lambda panels, title, path: drawn.append((list(panels), title.split(",")[0])))
    plot.save_engines(small.rows, tmp_path / "plot.svg")
    assert drawn == [(["base, 33 x 24, batch 2", "base bfloat16, 33 x 24, batch 2"], "time of a batch")]


def _last_unchanged(model, precision):
    enhance = PROVIDERS["zdce"].build(model, precision)
    return lambda pictures: torch.cat([enhance(pictures[:-1]), pictures[-1:]])


def _too_large(model, precision):
    raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")


@pytest.mark.parametrize(
    ("build", "wrong", "note"),
    [
        (_last_unchanged, True, "torch in fp32 (base 2x24x33) is wrong and not timed: it is "),
        (_too_large, False, "torch in fp32 (base 2x24x33) is left out: OutOfMemoryError: CUDA out of memory."),
    ],
)
def test_a_wrong_or_failing_provider_is_named_and_not_timed(monkeypatch, build, wrong, note):
    monkeypatch.setitem(PROVIDERS, "torch", Provider(build))
    outcome = measured(replace(SMALL, precisions=("fp32",)))
    assert outcome.wrong is wrong
    assert [text.startswith(note) for text in outcome.notes] == [True]
    assert {row.provider for row in outcome.rows if row.metric == "time"} == {"zdce"}


def test_a_shape_that_does_not_fit_is_named_and_the_others_are_measured(monkeypatch):
    truth = infer_gpu._Comparison._truth

    def small_memory(self, index):
        if self.shape[1] > 24:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return truth(self, index)

    monkeypatch.setattr(infer_gpu._Comparison, "_truth", small_memory)
    outcome = measured(replace(SMALL, shapes=((1, 48, 33), (1, 24, 33)), providers=("zdce",), precisions=("fp32",)))
    assert {row.shape for row in outcome.rows} == {"1x3x24x33"}
    assert [note.split(":")[0] for note in outcome.notes] == ["base 1x48x33 is left out"]


def test_layers_are_asked_for_in_every_call(monkeypatch):
    asked = []
    monkeypatch.setattr(Enhancer, "pictures", lambda self, pictures: asked.append(backends.requested()))
    model = infer.random_network("base")
    for name in ("zdce", "zdce-layers"):
        function = PROVIDERS[name].build(model, "bf16")
        function(None), function(None)
    assert asked == ["auto", "auto", "triton", "triton"]


@pytest.mark.parametrize(("card", "arch"), [(H100, 90), ("NVIDIA H200", 90), ("NVIDIA A100-SXM4-80GB", 80)])
def test_predictions_are_those_of_bench_static(card, arch):
    cost = network_costs.cost(VARIANTS["base"], gpus.GPUS[arch], (1080, 1920))
    assert infer_gpu.predicted(VARIANTS["base"], card, (1080, 1920)) == cost.seconds
    assert infer_gpu.predicted(VARIANTS["zero-dce-pp"], card, (1080, 1920)) is None
    assert infer_gpu.predicted(VARIANTS["base"], "NVIDIA GeForce RTX 4090", (1080, 1920)) is None


@pytest.mark.parametrize("missing", [None, "it is not built"])
def test_a_prediction_stands_beside_the_kernel_that_ran(monkeypatch, missing):
    outcome = Outcome()
    comparison = infer_gpu._Comparison(SMALL, infer.random_network("base"), (2, 1080, 1920), H100, outcome)
    monkeypatch.setattr(dispatch, "why_missing", lambda *arguments, **keywords: missing)
    comparison._predict()
    row = Row.of("infer", "base", "zdce", "picture", "time", "ms", [1.0], "2x3x1080x1920", "bfloat16", None, H100)
    ((line,),) = infer_gpu.tables([row, *outcome.rows]).values()
    least = 2e3 * infer_gpu.predicted(VARIANTS["base"], H100, (1080, 1920))
    assert line[infer_gpu.COLUMNS.index("least ms")] == ("" if missing else f"{least:.3g}")


def test_memory_counts_from_where_it_is_told():
    if reason := memory.why_missing("cpu"):
        pytest.skip(reason)
    before = memory.used("cpu")
    # New pages: an allocator might take some that earlier tests have freed.
    held = torch.frombuffer(mmap.mmap(-1, 2**28), dtype=torch.uint8).fill_(1)
    assert memory.peak(list, "cpu", before) > 0.9 * held.nbytes
    assert memory.peak(list, "cpu") < 0.1 * held.nbytes


def test_the_command_asks_for_what_its_options_say(monkeypatch, small):
    asked = []
    monkeypatch.setattr(infer_gpu, "run", lambda job: asked.append(job) or small)
    result = run(
        "--device", "cuda", "--quick", "--batch-size", 1, "--batch-size", 8, "--size", "48x64", "--precision", "bf16",
        "--provider", "torch-graph", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == [row.to_dict() for row in small.rows]
    run("--device", "cuda")
    first, second = asked
    assert first == replace(
        infer_gpu.quick(), shapes=((1, 48, 64), (8, 48, 64)), precisions=("bf16",), providers=("torch-graph",)
    )
    assert second == Job()
    assert "least ms" in run("--device", "cuda").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "cuda", "--threads", "1"], "--threads needs --device cpu"),
        (["--device", "cuda", "--mode", "picture"], "--mode needs --device cpu"),
        (["--device", "cuda", "--isa", "avx2"], "--isa needs --device cpu"),
        (["--batch-size", "8"], "--batch-size needs --device cuda"),
        (["--device", "cuda", "--provider", "openvino"], "--provider openvino is not measured on cuda: expected zdce,"),
        (["--provider", "torch-graph"], "--provider torch-graph is not measured on cpu: expected zdce,"),
    ],
)
def test_options_of_the_other_device_are_refused(arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())
