"""Figures against references, and the published networks' as the oracle."""

import csv
import json
import math
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image, ImageOps
from scipy import ndimage
from skimage import color, metrics

import zdce
from zdce import cli
from zdce.convert import importing
from zdce.data import datasets
from zdce.metrics import evaluation, naturalness


def pair(seed=0, size=(20, 30)):
    random = np.random.default_rng(seed)
    return [random.integers(0, 255, (*size, 3), np.uint8) for _ in range(2)]


def test_psnr_and_ssim_are_scikit_images():
    a, b = pair()
    assert evaluation.psnr(a, b) == pytest.approx(metrics.peak_signal_noise_ratio(b, a, data_range=255))
    expected = metrics.structural_similarity(a, b, channel_axis=2, data_range=255)
    # 49 products of up to 2^16 rounded to 2^-24 of them, beside 0.03^2 255^2, and averaged over pixels.
    assert evaluation.ssim(a, b) == pytest.approx(expected, abs=1e-6)
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


def test_retinex_is_its_definition():
    dark = pair()[0] // 5
    values = dark / 255
    light = ndimage.gaussian_filter(values.max(axis=2), 5, mode="nearest")
    brightened = [ndimage.gaussian_filter(values[..., c] / light**0.7, 1.2, mode="nearest") for c in range(3)]
    expected = np.clip(np.stack(brightened, axis=2), 0, 1) * 255
    assert np.abs(evaluation.retinex(dark) - expected).max() <= 0.5 + 1e-9  # rounded to integers
    assert not evaluation.retinex(np.zeros((9, 9, 3), np.uint8)).any()


def test_ciede2000_is_the_mean_over_pixels():
    a, b = pair()
    expected = np.mean([color.deltaE_ciede2000(color.rgb2lab(p), color.rgb2lab(q)) for p, q in zip(a, b, strict=True)])
    assert evaluation.ciede2000(a, b) == pytest.approx(expected, rel=1e-5)  # in float32
    assert evaluation.ciede2000(a, a) == 0
    black, white = (np.full((4, 5, 3), level, np.uint8) for level in (0, 255))
    assert evaluation.ciede2000(white, black) == pytest.approx(100, abs=1e-3)


def grey(values):
    return np.repeat(np.rint(np.clip(values, 0, 255)).astype(np.uint8)[..., None], 3, axis=2)


def scene(seed=0, size=(165, 170)):
    """A reference of ever rougher blocks from left to right, and noise that is as strong everywhere."""
    random = np.random.default_rng(seed)
    across = np.arange(size[1])
    return 120 + random.normal(0, 1, size) * across / 8, random.normal(0, 5, size)


def test_flat_noise_is_its_definition():
    plain, noise = scene()
    reference, result = grey(plain), grey(60 + noise)
    result[..., 1] = result[..., 1] // 2  # not only greys
    weights = np.array([0.2126, 0.7152, 0.0722])  # ITU-R BT.709
    light, truth = (sum(w * image[..., c] for c, w in enumerate(weights)) for image in (result, reference))
    details = light - ndimage.gaussian_filter(light, 2, mode="nearest")
    blocks = [(slice(y, y + 16), slice(x, x + 16)) for y in range(0, 160, 16) for x in range(0, 160, 16)]
    flattest = sorted(blocks, key=lambda block: truth[block].std())[:10]
    expected = np.median([details[block].std() / light[block].mean() for block in flattest])
    assert evaluation.flat_noise(result, reference) == pytest.approx(expected)


def test_flat_noise_does_not_depend_on_brightness():
    plain, noise = scene()
    reference = grey(plain)
    # The blur of sigma 2 takes 3% of white noise's deviation with it: 1 - 2 / (8 pi) + 1 / (16 pi) of its variance is left.
    # A block's deviation varies by 4.4%, the median of ten by 1.8%; rounding to integers adds 0.1 to a variance of 6 at least.
    for level in (0.5, 1, 2):
        assert evaluation.flat_noise(grey((100 + noise) * level), reference) == pytest.approx(0.97 * 5 / 100, rel=0.06)
    slope = np.broadcast_to(np.linspace(100, 120, 170), (165, 170))
    assert evaluation.flat_noise(grey(slope), reference) < 0.005  # the steps of integers


def test_flat_noise_leaves_out_what_is_black_or_clipped():
    plain, noise = scene()
    plain[:, :64] = 0
    plain[:, 64:128] = 255
    result = 80 + noise
    result[:, 112:] = 80  # so early that the blur brings nothing of the noise into the blocks that are left
    assert evaluation.flat_noise(grey(result), grey(plain)) == pytest.approx(0, abs=1e-9)
    assert math.isnan(evaluation.flat_noise(grey(result[:, :128]), grey(plain[:, :128])))
    assert math.isnan(evaluation.flat_noise(grey(result * 0), grey(plain)))
    assert math.isnan(evaluation.flat_noise(grey(result[:15]), grey(plain[:15])))


def test_a_pixel_is_clipped_where_one_channel_is():
    image = np.zeros((4, 5, 3), np.uint8)
    image[0, 0], image[1, :2, 1], image[2] = 255, 255, 254
    assert evaluation.clipped_share(image) == 3 / 20


def test_averages_keep_infinity_apart():
    rows = [evaluation.Score(str(i), "m", "t", psnr, 0.5 + i / 4) for i, psnr in enumerate((20.0, 30.0))]
    (average,) = evaluation.averages(rows)
    assert (average.psnr, average.ssim, average.images) == (25.0, 0.625, 2)
    rows.append(evaluation.Score("2", "m", "t", math.inf, 1.0))
    (average,) = evaluation.averages(rows)
    assert average.psnr == math.inf
    assert average.to_dict()["psnr"] is None


def test_averages_are_of_what_is_known():
    rows = [evaluation.Score(str(i), "m", "t", 20.0, 0.5, flat_noise=value) for i, value in enumerate((0.1, math.nan, 0.3))]
    (average,) = evaluation.averages(rows)
    assert (average.flat_noise, average.images) == (pytest.approx(0.2), 3)
    assert math.isnan(average.brisque)
    assert average.to_dict()["brisque"] is None


def test_the_worst_are_lowest_or_furthest_below():
    figures = {"a": (10, 9), "b": (20, 30), "c": (15, 15), "d": (math.inf, math.inf), "e": (12, 13), "f": (30, 31.5)}
    rows = [
        evaluation.Score(name, method, against, psnr, 0.5)
        for name, both in figures.items()
        for against in ("input", "reference")
        for method, psnr in zip(("model", "CLAHE"), both if against == "reference" else (1, 99), strict=True)
    ]
    assert [mine.name for mine, _ in evaluation.worst(rows)] == ["a", "e", "c", "b", "f"]
    found = evaluation.worst(rows, "CLAHE", 4)
    assert [(mine.name, mine.psnr, other.psnr) for mine, other in found] == [(n, *figures[n]) for n in ("b", "f", "e", "c")]


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
    assert {method for method, _ in rows} == {"input", "autocontrast", "gamma 0.4", "CLAHE", "retinex", "model"}
    assert {against for _, against in rows} == {"autocontrast", "input", "reference"}
    assert rows["input", "input"]["psnr"] is None
    assert rows["input", "input"]["ssim"] == pytest.approx(1.0)
    enhance = zdce.Enhancer(zdce.load(lol / "net.safetensors"))
    pictures = datasets.collection(str(lol / "lol")).items
    expected = np.mean([evaluation.psnr(enhance(p.load()), p.load_reference()) for p in pictures])
    assert rows["model", "reference"]["psnr"] == pytest.approx(expected)
    with (lol / "each.csv").open(newline="") as file:
        each = list(csv.DictReader(file))
    assert list(each[0]) == ["name", "method", "against", "psnr", "ssim", "ciede2000", "flat_noise", "clipped", "brisque"]
    assert len(each) == 4 * 3 * 6
    for method, apply in {**evaluation.BASELINES, "model": enhance}.items():
        results = [(apply(p.load()), p.load_reference()) for p in pictures]
        expected = {
            "ciede2000": [evaluation.ciede2000(*both) for both in results],
            "flat_noise": [evaluation.flat_noise(*both) for both in results],
            "clipped": [evaluation.clipped_share(result) for result, _ in results],
        }
        for measure, values in expected.items():
            of = [float(r[measure]) for r in each if (r["method"], r["against"]) == (method, "reference")]
            assert of == pytest.approx(values)
            assert rows[method, "reference"][measure] == pytest.approx(np.mean(values))
        assert rows[method, "input"]["ciede2000"] is rows[method, "input"]["flat_noise"] is None
        assert rows[method, "input"]["clipped"] == rows[method, "reference"]["clipped"]
        assert rows[method, "reference"]["brisque"] is None


def test_eval_draws_the_worst(lol):
    for below, columns in (((), 3), (("--below", "gamma 0.4"), 4)):
        arguments = ("--split", "all", "--csv", lol / "each.csv", "--worst", lol / "worst.png", *below)
        result = run(lol / "net.safetensors", lol / "lol", *arguments)
        assert result.exit_code == 0, result.output
        drawn = np.asarray(Image.open(lol / "worst.png"))
        assert drawn.shape == (4 * (256 + 26), columns * 320, 3)
        with (lol / "each.csv").open(newline="") as file:
            psnr = {(r["name"], r["method"]): float(r["psnr"]) for r in csv.DictReader(file) if r["against"] == "reference"}
        order = sorted((f"{i}.png" for i in range(4)), key=lambda n: psnr[n, "model"] - (psnr[n, below[1]] if below else 0))
        for row, name in enumerate(order):
            top = row * 282 + 26
            for column, folder in ((0, "low"), (columns - 1, "high")):
                expected = Image.open(lol / "lol" / folder / name).resize((316, 252))
                got = drawn[top : top + 252, column * 320 + 2 : column * 320 + 318]
                assert np.array_equal(got, expected)


def test_what_cannot_be_measured_is_said_before_the_work(lol, monkeypatch):
    dark = lol / "lol" / "low"
    monkeypatch.setattr(evaluation, "evaluate", None)
    monkeypatch.setitem(sys.modules, "brisque", None)
    for data_folder, arguments, code, message in (
        (dark, ("--worst", lol / "w.png"), 1, "--worst needs true references, and"),
        (lol / "lol", ("--worst", lol / "w.txt"), 1, "w.txt: expected one of the formats"),
        (lol / "lol", ("--below", "CLAHE"), 2, "give --worst FILE too"),
        (lol / "lol", ("--naturalness",), 1, "brisque is needed for naturalness scores: pip install 'zdce[naturalness]'"),
    ):
        result = run(lol / "net.safetensors", data_folder, *arguments)
        assert result.exit_code == code
        assert message in result.stderr.splitlines()[-1]


def test_naturalness_falls_with_noise_and_is_in_the_table(lol):
    pytest.importorskip("brisque", reason="the extra `naturalness` is not installed")
    score = naturalness.brisque()
    picture = zdce.data.sample.photograph("coffee")[::2, ::2]
    noise = np.random.default_rng(0).normal(0, 20, picture.shape)
    assert score(picture) + 10 < score((picture + noise).clip(0, 255).astype(np.uint8))
    assert math.isnan(score(np.full((40, 40, 3), 9, np.uint8)))
    assert math.isnan(score(picture[:1, :1]))
    measured = run(lol / "net.safetensors", lol / "lol", "--split", "validation", "--json", "--naturalness").stdout
    found = {row["brisque"] for row in json.loads(measured)["rows"] if row["method"] == "input"}
    image = datasets.collection(str(lol / "lol")).validation_items()[0].load()
    # OpenCV's sums depend on the number of threads in the last digits.
    assert list(found) == [pytest.approx(score(image), rel=1e-6)]


def test_eval_takes_all_pictures_unless_asked_for_others(lol):
    assert json.loads(run(lol / "net.safetensors", lol / "lol", "--json").stdout)["images"] == 4
    assert json.loads(run(lol / "net.safetensors", lol / "lol", "--split", "validation", "--json").stdout)["images"] == 1
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
        assert len(result.stderr.splitlines()) == 1
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

    def only_what_is_known(result, target, against):
        true = against == "reference"
        return (evaluation.psnr(result, target), evaluation.ssim(result, target)) + 2 * (math.nan,) if true else 4 * (math.nan,)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "_beside", only_what_is_known)  # the rest takes most of the time
        report = json.loads(run(path, data_folder / "lol" / "our485", "--split", "validation", "--json").stdout)
    assert report["images"] == 85
    return {(row["method"], row["against"]): (row["psnr"], row["ssim"]) for row in report["rows"]}


@pytest.mark.parametrize(
    ("method", "psnr", "ssim"),
    [
        ("model", 17.45, 0.574),
        ("input", 9.28, 0.194),
        ("autocontrast", 12.15, 0.368),
        ("gamma 0.4", 17.94, 0.649),
        ("retinex", 18.06, 0.706),
    ],
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
    item = datasets.collection(str(data_folder / "lol" / "our485")).validation_items()[0]
    pixels = item.load()[:396, :600]
    image = torch.from_numpy(pixels / 255.0).float().permute(2, 0, 1)[None]
    with torch.no_grad():
        expected = published_zero_dce_pp(model, image)
        torch.testing.assert_close(model.enhance(image), expected, rtol=0, atol=1e-5)
    # The enhancer rounds to integers.
    got = zdce.Enhancer(model)(pixels)
    assert np.abs(got - expected[0].permute(1, 2, 0).numpy() * 255).max() < 0.51
    assert got.mean() > 2 * pixels.mean()
