"""Figures against references, and the published networks' as the oracle."""

import json
import math

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image, ImageOps
from skimage import metrics

import zdce
from zdce import cli, data, evaluation, importing


def pair(seed=0, size=(20, 30)):
    random = np.random.default_rng(seed)
    return [random.integers(0, 255, (*size, 3), np.uint8) for _ in range(2)]


def test_psnr_and_ssim_are_scikit_images():
    a, b = pair()
    assert evaluation.psnr(a, b) == pytest.approx(metrics.peak_signal_noise_ratio(b, a, data_range=255))
    expected = metrics.structural_similarity(a, b, channel_axis=2, data_range=255)
    assert evaluation.ssim(a, b) == pytest.approx(expected)
    assert evaluation.psnr(a, a) == math.inf
    assert evaluation.ssim(a, a) == pytest.approx(1.0)


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (3, 3), (6, 40)])
def test_tiny_pictures_do_not_fail(size):
    a, b = pair(size=size)
    assert math.isfinite(evaluation.psnr(a, b))
    assert math.isnan(evaluation.ssim(a, b)) == (min(size) < 3)


def test_baselines():
    image, _ = pair()
    dark = image // 5
    assert np.array_equal(evaluation.autocontrast(dark), np.asarray(ImageOps.autocontrast(Image.fromarray(dark))))
    assert np.array_equal(evaluation.gamma(dark), np.rint((dark / 255) ** 0.4 * 255))
    assert evaluation.clahe(dark).mean() > dark.mean()


def test_averages_keep_infinity_apart():
    rows = [evaluation.Score(str(i), "m", "t", psnr, 0.5 + i / 4) for i, psnr in enumerate((20.0, 30.0))]
    (average,) = evaluation.averages(rows)
    assert (average.psnr, average.ssim, average.images) == (25.0, 0.625, 2)
    rows.append(evaluation.Score("2", "m", "t", math.inf, 1.0))
    (average,) = evaluation.averages(rows)
    assert average.psnr == math.inf
    assert average.to_dict()["psnr"] is None


@pytest.fixture
def lol(tmp_path):
    for i in range(4):
        low, high = pair(i, (32, 40))
        for folder, pixels in (("low", low // 6), ("high", high)):
            (tmp_path / "lol" / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "lol" / folder / f"{i}.png")
    torch.manual_seed(0)
    zdce.DCENet("iters4").save(tmp_path / "net.safetensors")
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(cli.main, ["eval", *map(str, arguments)], catch_exceptions=False)


def test_eval_measures_one_half_of_the_pictures(lol):
    halves = {"odd": {"1.png", "3.png"}, "even": {"0.png", "2.png"}, "all": {f"{i}.png" for i in range(4)}}
    for pairs, expected in halves.items():
        result = run(
            lol / "net.safetensors", lol / "lol", "--split", "all", "--pairs", pairs, "--csv", lol / "each.csv", "--json"
        )
        assert json.loads(result.stdout)["images"] == len(expected)
        assert {line.split(",")[0] for line in (lol / "each.csv").read_text().splitlines()[1:]} == expected


def test_eval_prints_json_and_writes_every_pictures_figures(lol):
    result = run(lol / "net.safetensors", lol / "lol", "--split", "all", "--json", "--csv", lol / "each.csv")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["images"] == 4
    rows = {(row["method"], row["against"]): row for row in report["rows"]}
    assert {method for method, _ in rows} == {"input", "autocontrast", "gamma 0.4", "CLAHE", "model"}
    assert {against for _, against in rows} == {"autocontrast", "input", "reference"}
    assert rows["input", "input"]["psnr"] is None
    assert rows["input", "input"]["ssim"] == pytest.approx(1.0)
    enhance = zdce.Enhancer(zdce.load(lol / "net.safetensors"))
    pictures = data.collection(str(lol / "lol")).items
    expected = np.mean([evaluation.psnr(enhance(p.load()), p.load_reference()) for p in pictures])
    assert rows["model", "reference"]["psnr"] == pytest.approx(expected)
    lines = (lol / "each.csv").read_text().splitlines()
    assert lines[0] == "name,method,against,psnr,ssim"
    assert len(lines) == 1 + 4 * 3 * 5


def test_eval_takes_validation_pictures_where_there_are_references(lol):
    assert json.loads(run(lol / "net.safetensors", lol / "lol", "--json").stdout)["images"] == 1
    assert json.loads(run(lol / "net.safetensors", lol / "lol" / "low", "--json").stdout)["images"] == 4
    assert "reference" in run(lol / "net.safetensors", lol / "lol").stdout


def test_mistakes_are_one_line(lol):
    for arguments, message in (
        ((lol / "none.safetensors", lol / "lol"), "no weights at"),
        ((lol / "lol" / "low" / "0.png", lol / "lol"), "holds no zdce network"),
        ((lol / "net.safetensors", lol / "nowhere"), "no such folder"),
    ):
        result = run(*arguments)
        assert result.exit_code == 1
        assert message in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
    Image.fromarray(pair()[0]).save(lol / "lol" / "high" / "3.png")
    assert "3.png: reference must be (32, 40, 3), got (20, 30, 3)" in run(lol / "net.safetensors", lol / "lol").stderr


def published(data_folder, name):
    """A published network (academic use only: an oracle, never shipped)."""
    file = {"zero-dce": "zerodce_Epoch99.pth", "zero-dce-pp": "zerodcepp_Epoch99.pth"}[name]
    return importing.read(data_folder / "oracle" / file).model


@pytest.fixture(scope="module")
def oracle_rows(data_folder, tmp_path_factory):
    """Runs `zdce eval` on the published Zero-DCE and LOL's 85 validation pairs."""
    path = tmp_path_factory.mktemp("oracle") / "zero-dce.safetensors"
    published(data_folder, "zero-dce").save(path)
    report = json.loads(run(path, data_folder / "lol" / "our485", "--json").stdout)
    assert report["images"] == 85
    return {(row["method"], row["against"]): (row["psnr"], row["ssim"]) for row in report["rows"]}


@pytest.mark.parametrize(
    ("method", "psnr", "ssim"),
    [("model", 17.45, 0.574), ("input", 9.28, 0.194), ("autocontrast", 12.15, 0.368), ("gamma 0.4", 17.94, 0.649)],
)
def test_known_figures_on_lol(oracle_rows, method, psnr, ssim):
    got = oracle_rows[method, "reference"]
    assert got == (pytest.approx(psnr, abs=0.005), pytest.approx(ssim, abs=0.0005))


def published_zero_dce_pp(model, image):
    """Zero-DCE++'s own forward pass, for sides that are multiples of 12."""
    down = torch.nn.functional.interpolate(image, scale_factor=1 / 12, mode="bilinear")
    curve = torch.nn.UpsamplingBilinear2d(scale_factor=12)(torch.tanh(model(down)))
    for _ in range(8):
        image = image + curve * (torch.pow(image, 2) - image)
    return image


def test_published_zero_dce_pp_resamples_as_published(data_folder):
    model = published(data_folder, "zero-dce-pp")
    item = data.collection(str(data_folder / "lol" / "our485")).validation_items()[0]
    pixels = item.load()[:396, :600]
    image = torch.from_numpy(pixels / 255.0).float().permute(2, 0, 1)[None]
    with torch.no_grad():
        expected = published_zero_dce_pp(model, image)
        torch.testing.assert_close(model.enhance(image), expected, rtol=0, atol=1e-5)
    # The enhancer rounds to integers.
    got = zdce.Enhancer(model)(pixels)
    assert np.abs(got - expected[0].permute(1, 2, 0).numpy() * 255).max() < 0.51
    assert got.mean() > 2 * pixels.mean()
