"""Every method that zdce bench layers measures: correct on every instruction set, and with the right count of operations."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from cases import run_with_isa
from zdce import cli
from zdce.bench import layers, plot
from zdce.bench.rows import Row
from zdce.models.variants import VARIANTS
from zdce.ops import dispatch

pytestmark = pytest.mark.skipif(dispatch.why_missing("cpp") is not None, reason="the C++ extension is not built")

# Whole and half blocks of channels, and what fills none.
SHAPES = [(3, 16), (3, 40), (16, 24), (20, 12), (64, 24)]


@pytest.mark.parametrize("way", layers.WAYS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_way_is_within_rounding(shape, way):
    layer = layers.Layer(*shape, columns=96)
    if way in layer.ways:
        assert layer.error(way) < layers.TOLERANCE
    else:
        with pytest.raises(RuntimeError, match="zdce: rows must be"):
            layer.run(way)


@pytest.mark.parametrize("isa", ["default", "avx2"])
def test_other_instruction_sets(isa):
    run_with_isa(
        isa,
        """
import test_bench_layers as t
for shape in t.SHAPES:
    for way in t.layers.WAYS:
        t.test_every_way_is_within_rounding(shape, way)
""",
    )


@pytest.mark.parametrize("columns", [0, 47, 64])
def test_rows_that_the_kernels_can_not_take_are_refused(columns):
    with pytest.raises(RuntimeError, match="W a multiple of 48"):
        layers.Layer(16, 16, columns).run("direct")


def test_shapes_are_those_of_the_networks():
    found = layers.shapes(VARIANTS)
    assert found[32, 24] == ["base", "no-illumination", "no-spatial", "no-color", "no-exposure", "layers7", "adaptive"]
    assert found[64, 24] == ["filters32", "zero-dce"]
    assert layers.shapes(["zero-dce-pp"]) == {}


def run(*arguments):
    return CliRunner().invoke(cli.main, ["bench", "layers", "--quick", *arguments], catch_exceptions=False)


def test_a_run_gives_rates_beside_the_peak(monkeypatch, tmp_path):
    monkeypatch.setattr(layers, "_WORK", 1e6)
    result = run("--variant", "no-concat", "--variant", "zero-dce-pp", "--json", "--csv", str(tmp_path / "rows.csv"))
    assert result.exit_code == 0
    assert "zero-dce-pp is left out: its convolutions are separable" in result.stderr
    rows = json.loads(result.stdout)
    assert {(row["case"], row["provider"]) for row in rows if row["mode"] == "engine"} == {
        ("3 to 16", "colors"), ("16 to 16", "two-axis"), ("16 to 24", "two-axis")
    }  # fmt: skip
    for way in layers.WAYS[:3]:
        metrics = {row["metric"]: row for row in rows if (row["case"], row["provider"]) == ("16 to 24", way)}
        assert set(metrics) == {"error", "rate", "peak_share"}
        assert 0 < metrics["rate"]["p20"] <= metrics["rate"]["value"] <= metrics["rate"]["p80"]
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == len(rows) + 1
    assert "16 to 24" in run("--variant", "no-concat").stdout


def test_a_chart_has_each_layers_time(monkeypatch, tmp_path):
    figure = pytest.importorskip("matplotlib.figure", reason="the extra `bench` is not installed")
    rows = [
        Row("layers", case, "two-axis", mode, "rate", "GMAC/s", rate, rate / 2, rate * 2, "1x3x4x240", "float32", 1, "cpu")
        for case, mode, rate in (("3 to 16", "engine", 9.0), ("16 to 16", "engine", 64.0), ("16 to 16", "beside", 1.0),
                                 ("16 to 24", "engine", 27.0))
    ]  # fmt: skip
    drawn = []
    monkeypatch.setattr(figure.Figure, "savefig", lambda self, path, **_: (drawn.append(self), Path(path).touch()))
    plot.save_layers(rows, ["no-concat", "zero-dce-pp"], tmp_path / "layers.svg")
    (axes,) = drawn[0].axes
    # 9 x 3 x 16 multiply-adds a pixel at 18 GMAC/s are 24 ns, 9 x 16 x 16 at 128 are 18, 9 x 16 x 24 at 54 are 64.
    assert [bar.get_width() for bar in axes.patches] == [24, 18, 18, 18, 64]
    assert axes.get_title() == "no-concat, 142 ns in all layers"


def test_who_is_wrong_is_not_timed(monkeypatch):
    right = layers.Layer.truth
    monkeypatch.setattr(layers.Layer, "truth", lambda self: right(self) + 1e-3)
    result = run("--variant", "no-concat", "--json")
    assert result.exit_code == 1
    assert "direct is wrong in 16 to 16 and not timed: it is 0.001 off" in result.stderr
    assert {row["metric"] for row in json.loads(result.stdout)} == {"error"}
    assert torch.isfinite(torch.tensor([row["value"] for row in json.loads(result.stdout)])).all()
