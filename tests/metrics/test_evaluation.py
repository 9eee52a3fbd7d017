"""Figures against references, for shipped and published networks."""

import csv
import json
import math
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import zdce
from cases import two_pictures
from zdce import cli
from zdce.convert import importing
from zdce.data import datasets
from zdce.metrics import evaluation, leaderboard, light, naturalness, noise, protocols, registry, similarity
from zdce.metrics.baselines import BASELINES, USUAL


def score(name, psnr, method="m", against="t", **values):
    return evaluation.Score(name, method, against, {"psnr": psnr, **values})


def test_averages_keep_infinity_apart():
    rows = [score(str(i), psnr, ssim=0.5 + i / 4) for i, psnr in enumerate((20.0, 30.0))]
    (average,) = evaluation.averages(rows)
    assert (average.values, average.images) == ({"psnr": 25.0, "ssim": 0.625}, 2)
    rows.append(score("2", math.inf, ssim=1.0))
    (average,) = evaluation.averages(rows)
    assert average.values["psnr"] == math.inf
    assert average.to_dict()["psnr"] is None
    assert list(average.to_dict()["intervals"]) == ["ssim"]


def test_averages_are_of_what_is_known():
    rows = [score(str(i), 20.0, flat_noise=value, loe=math.nan) for i, value in enumerate((0.1, math.nan, 0.3))]
    (average,) = evaluation.averages(rows)
    assert (average.values["flat_noise"], average.images) == (pytest.approx(0.2), 3)
    assert average.to_dict()["loe"] is average.to_dict()["brisque"] is None
    assert not average.knows("loe")
    assert not average.knows("brisque")


def test_intervals_hold_the_mean_as_often_as_they_say():
    random = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        low, high = evaluation.interval(list(random.normal(20, 3, 40)))
        held += low < 20 < high
    assert 0.88 * 200 <= held <= 200  # 95 %, less what the bootstrap lacks with 40; a deviation of 200 is 1.5 %
    low, high = evaluation.interval([float(v) for v in range(100)])
    # The mean's own deviation is 28.87 / 10, and 1.96 of it lie on either side.
    assert (low, high) == (pytest.approx(49.5 - 5.66, abs=0.3), pytest.approx(49.5 + 5.66, abs=0.3))
    assert evaluation.interval([1.0, 2.0, 4.0]) == evaluation.interval([1.0, 2.0, 4.0])
    assert all(map(math.isnan, [*evaluation.interval([1.0]), *evaluation.interval([1.0, math.inf])]))


def test_the_worst_are_lowest_or_furthest_below():
    figures = {"a": (10, 9), "b": (20, 30), "c": (15, 15), "d": (math.inf, math.inf), "e": (12, 13), "f": (30, 31.5)}
    rows = [
        score(name, psnr, method, against)
        for name, both in figures.items()
        for against in ("input", "reference")
        for method, psnr in zip(("model", "CLAHE"), both if against == "reference" else (1, 99), strict=True)
    ]
    assert [mine.name for mine, _ in evaluation.worst(rows)] == ["a", "e", "c", "b", "f"]
    found = [(m.name, m.values["psnr"], other.values["psnr"]) for m, other in evaluation.worst(rows, "CLAHE", 4)]
    assert found == [(n, *figures[n]) for n in ("b", "f", "e", "c")]


@pytest.fixture
def lol(tmp_path):
    for i in range(4):
        low, high = two_pictures(i, (32, 40))
        for folder, pixels in (("low", low // 6), ("high", high)):
            (tmp_path / "lol" / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / "lol" / folder / f"{i}.png")
    torch.manual_seed(0)
    zdce.DCENet("iters4").save(tmp_path / "net.safetensors")
    return tmp_path


def run(model, *arguments):
    return CliRunner().invoke(cli.main, ["eval", "-m", str(model), *map(str, arguments)], catch_exceptions=False)


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
    expected = np.mean([similarity.psnr(enhance(p.load()), p.load_reference()) for p in pictures])
    assert rows["model", "reference"]["psnr"] == pytest.approx(expected)
    with (lol / "each.csv").open(newline="") as file:
        each = list(csv.DictReader(file))
    assert list(each[0]) == ["name", "method", "against", *registry.METRICS, "data"]
    assert len(each) == 4 * 3 * 6
    for method, apply in {**{name: BASELINES[name] for name in USUAL}, "model": enhance}.items():
        results = [(apply(p.load()), p.load_reference()) for p in pictures]
        expected = {
            "ciede2000": [similarity.ciede2000(*both) for both in results],
            "flat_noise": [noise.flat_noise(*both) for both in results],
            "psnr_gt_mean": [similarity.psnr_gt_mean(*both) for both in results],
            "clipped": [light.clipped_share(result) for result, _ in results],
            "dark_half": [light.dark_half(result, p.load()) for (result, _), p in zip(results, pictures, strict=True)],
        }
        for measure, values in expected.items():
            of = [float(r[measure]) for r in each if (r["method"], r["against"]) == (method, "reference")]
            assert of == pytest.approx(values)
            assert rows[method, "reference"][measure] == pytest.approx(np.mean(values))
            assert rows[method, "reference"]["intervals"][measure] == pytest.approx(list(evaluation.interval(values)))
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
        (lol / "lol", ("--below", "CLAHE"), 2, "--below needs --worst FILE"),
        (lol / "lol", ("--worst", lol / "w.png", dark), 2, "--worst takes one network and one data set"),
        (lol / "lol", ("--worst", lol / "w.png", "--metrics", "ssim"), 2, "--worst compares PSNR to references"),
        (lol / "lol", ("--metrics", "ssim,LPIPS"), 2, "metrics must be of psnr, ssim,"),
        (lol / "lol", ("--baselines", "ours"), 2, "expected all, none, or some of input,"),
        (lol / "lol", ("--freeze", lol / "p.toml"), 2, "--freeze needs --protocol NAME"),
        (lol / "lol", ("--protocol", "lol"), 1, "no protocol lol: name a TOML file, or one of lol-eval15,"),
        (lol / "lol", ("--protocol", "dicm", "--metrics", "psnr"), 2, "leave out --metrics: --protocol decides it"),
        (lol / "lol", ("--protocol", "lol-eval15"), 1, "lol must have 15 pictures by name, got no 22, 23, 55, 79, 111; lay"),
        (dark, ("--protocol", "lime"), 1, "low must have 10 pictures, got 4; lay it out as DATA/*.jpg"),
        (lol / "lol", ("--leaderboard", lol / "net.safetensors"), 1, "expected a new file, or one with the lines"),
        (lol / "lol", ("-m", "base", "-m", "base"), 2, "expected networks with names of their own"),
        (dark / "1.png", (), 1, "expected a folder of pictures, got the file"),
        (lol / "lol", ("base",), 2, "DATA must be data sets, got the network base: give it by -m base"),
        (lol / "lol", ("--metrics", "brisque"), 1, "brisque is needed for naturalness scores: pip install 'zdce[naturalness]'"),
    ):
        result = run(lol / "net.safetensors", data_folder, *arguments)
        assert result.exit_code == code
        assert message in result.stderr.splitlines()[-1]


def test_several_networks_and_data_sets_are_compared_in_one_table(lol):
    zdce.DCENet("iters4").save(lol / "other.safetensors")
    board = lol / "board.md"
    board.write_text(f"# Before\n{leaderboard.BEGIN}\nold\n{leaderboard.END}\nafter\n")
    asked = ("--metrics", "psnr,dark_half", "--baselines", "input,LIME", "--csv", lol / "each.csv", "--leaderboard", board)
    command = (lol / "net.safetensors", "-m", lol / "other.safetensors", lol / "lol", lol / "lol" / "low")
    report = json.loads(run(*command, *asked, "--json").stdout)
    assert [of["images"] for of in report["rows"] if of["against"] == "reference"] == [4] * 4
    assert report["images"] == 8
    assert [of["data"] for of in report["sets"]] == [str(lol / "lol"), str(lol / "lol" / "low")]
    assert [(m["method"], m["parameters"]) for m in report["models"]] == [("net", 13180), ("other", 13180)]
    assert {(row["method"], row["data"], row["against"]) for row in report["rows"]} == {
        (method, str(lol / "lol" / inside), against)
        for method in ("input", "LIME", "net", "other")
        for inside, targets in (("", registry.TARGETS), ("low", ("autocontrast", "input")))
        for against in targets
    }
    alone = json.loads(run(lol / "other.safetensors", lol / "lol", "--json").stdout)["rows"]
    one, other = (
        next(row for row in rows if row["method"] == method and row["against"] == "reference")
        for rows, method in ((report["rows"], "other"), (alone, "model"))
    )
    assert one["psnr"] == other["psnr"]
    assert one["ssim"] is None
    text = board.read_text()
    assert text.startswith(f"# Before\n{leaderboard.BEGIN}\n| method | parameters | {lol / 'lol'}: PSNR (dB) |")
    assert text.endswith(f"{leaderboard.END}\nafter\n")
    assert "old" not in text
    low, high = one["intervals"]["psnr"]
    assert f"| other | 13,180 | {one['psnr']:.2f} [{low:.2f}, {high:.2f}] | " in text
    with (lol / "each.csv").open(newline="") as file:
        assert {row["data"] for row in csv.DictReader(file)} == {str(lol / "lol"), str(lol / "lol" / "low")}
    shown = run(*command, *asked).stdout
    assert "All data sets" in shown
    assert f"{one['psnr']:.2f}" in shown


def test_a_frozen_protocol_measures_the_same_pictures_or_none(lol):
    protocol = lol / "mine.toml"
    part = 'name = "two"\nfolder = "lol"\nfiles = "[13]*"\nmetrics = ["psnr", "loe"]\nagainst = ["reference"]\n'
    protocol.write_text(f'name = "mine"\n[[parts]]\n{part}[[parts]]\nname = "lit"\nfolder = "lit"\nagainst = ["input"]\n')
    command = (lol / "net.safetensors", lol, "--baselines", "none", "--json")
    report = json.loads(run(*command, "--protocol", protocol, "--freeze", lol / "frozen.toml").stdout)
    assert [of["pictures"] for of in report["sets"]] == [["1.png", "3.png"], ["astronaut", "chelsea", "coffee", "rocket"]]
    assert report["protocol"]["versions"]["loe"] == registry.METRICS["loe"].version
    again = json.loads(run(*command, "--protocol", lol / "frozen.toml").stdout)
    assert again["protocol"] == report["protocol"]
    assert again["rows"] == report["rows"]
    frozen = (lol / "frozen.toml").read_text()
    (lol / "old.toml").write_text(frozen.replace("loe = 1", "loe = 0"))
    assert "was frozen with version 0 of loe, this zdce has 1" in run(*command, "--protocol", lol / "old.toml").stderr
    Image.open(lol / "lol" / "low" / "1.png").rotate(180).save(lol / "lol" / "low" / "1.png")
    changed = run(*command, "--protocol", lol / "frozen.toml")
    assert changed.exit_code == 1
    assert "must have the files of fingerprint" in changed.stderr


def test_a_leaderboard_of_one_data_set_names_the_network_and_its_parameters(lol):
    run(lol / "net.safetensors", lol / "lol", "--baselines", "input", "--metrics", "psnr", "--leaderboard", lol / "table.md")
    lines = (lol / "table.md").read_text().splitlines()
    parameters = sum(weight.numel() for weight in zdce.load(lol / "net.safetensors").parameters())
    assert lines[2] == "| method | parameters | PSNR (dB) |"
    assert lines[4].startswith("| input |  | ")
    assert lines[5].startswith(f"| net | {parameters:,} | ")


def test_references_alone_are_asked_for_where_there_are_none(lol):
    for n in (1, 2):
        (lol / "alone").mkdir(exist_ok=True)
        Image.new("RGB", (24, 16), (n, 9, 9)).save(lol / "alone" / f"{n}.png")
    result = run(lol / "net.safetensors", lol / "alone", "--against", "reference")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"Error: --against reference: {lol / 'alone'} has no references for these pictures\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = ", "Invalid value"),
        ('name = "empty"', "must have [[parts]], each with a name"),
        ('[[parts]]\nname = "x"\nsize = 3', "got size = 3"),
        ('[[parts]]\nname = "x"\nmetrics = "psnr"', "got metrics = 'psnr'"),
        ('[[parts]]\nname = "x"\nmetrics = ["lpips"]', "metrics must be of psnr"),
        ('[[parts]]\nname = "x"\nagainst = ["truth"]', "against must be of autocontrast, input, reference, got 'truth'"),
        ('[[parts]]\nname = "x"\nsplit = "typo"', "split must be of all, validation, got 'typo'"),
        ('parts = ["x"]', "must have [[parts]], each with a name"),
        ('versions = 3\n[[parts]]\nname = "x"', "versions must be a table of measures and numbers, got 3"),
    ],
)
def test_a_protocol_that_is_none_says_why(tmp_path, text, message):
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(zdce.errors.InputError) as error:
        protocols.read(str(tmp_path / "p.toml"))
    assert message in str(error.value)


def test_lit_photographs_are_measured_as_they_are():
    report = json.loads(run("local", "lit", "--metrics", "psnr,ssim", "--against", "input", "--json").stdout)
    assert {row["method"]: row["ssim"] for row in report["rows"]}["model"] == 1
    assert report["pictures"] == ["astronaut", "chelsea", "coffee", "rocket"]


def test_the_page_of_figures_can_be_made_again():
    docs = Path(__file__).resolve().parents[2] / "docs"
    assert [part.counts for part in protocols.read(str(docs / "results" / "quality.toml")).parts][:3] == [(85,), (71,), (45,)]
    page = leaderboard.placed(docs / "quality.md", "the new tables\n")
    assert page.count("the new tables\n") == 1
    assert page.startswith("# How good")


def test_the_rows_of_one_network_are_put_in_the_page_of_figures(tmp_path):
    root = Path(__file__).resolve().parents[2]
    docs = Path(shutil.copytree(root / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("*.jpg", "*.png")))
    report = json.loads((docs / "results" / "quality.json").read_text())
    report["models"] = [model for model in report["models"] if model["method"] == "local"]
    report["rows"] = [{**row, "method": "model"} for row in report["rows"] if row["method"] == "local"]

    main = runpy.run_path(str(root / ".ci" / "quality_rows.py"))["main"]

    def put():
        (tmp_path / "rows.json").write_text(json.dumps(report))
        main(str(tmp_path / "rows.json"), docs)

    put()
    for name in ("quality.md", "results/quality.json"):
        assert (docs / name).read_text() == (root / "docs" / name).read_text()
    before = (docs / "quality.md").read_text().splitlines()
    report["rows"][0]["ssim"] = 0.123
    put()
    lines = zip(before, (docs / "quality.md").read_text().splitlines(), strict=True)
    changed = [after for line, after in lines if line != after]
    assert len(changed) == 2
    assert all("| local |" in line and "0.123" in line for line in changed)
    report["protocol"]["digest"] = "another"
    with pytest.raises(SystemExit, match="measure all networks again"):
        put()


def test_naturalness_falls_with_noise_and_is_in_the_table(lol):
    pytest.importorskip("brisque", reason="the extra `naturalness` is not installed")
    score = naturalness.brisque()
    picture = zdce.data.sample.photograph("coffee")[::2, ::2]
    noise = np.random.default_rng(0).normal(0, 20, picture.shape)
    assert score(picture) + 10 < score((picture + noise).clip(0, 255).astype(np.uint8))
    assert math.isnan(score(np.full((40, 40, 3), 9, np.uint8)))
    assert math.isnan(score(picture[:1, :1]))
    measured = run(lol / "net.safetensors", lol / "lol", "--split", "validation", "--json", "--metrics", "brisque").stdout
    found = {row["brisque"] for row in json.loads(measured)["rows"] if row["method"] == "input"}
    image = datasets.collection(str(lol / "lol")).validation_items()[0].load()
    # OpenCV's sums depend on the number of threads in the last digits.
    assert list(found) == [pytest.approx(score(image), rel=1e-6)]


def test_figures_are_shown_where_a_file_of_them_cannot_be_written(lol):
    result = run(lol / "net.safetensors", lol / "lol", "--json", "--csv", lol / "net.safetensors" / "each.csv")
    assert result.exit_code == 1
    assert "Error: " in result.stderr
    assert json.loads(result.stdout)["images"] == 4


def test_a_folder_that_has_the_name_of_a_network_is_measured(lol, monkeypatch):
    monkeypatch.chdir(lol)
    (lol / "lol").rename("local")
    assert json.loads(run("net.safetensors", "local", "--json").stdout)["data"] == "local"


def test_the_output_begins_with_what_was_measured(lol):
    given = lol / "net.safetensors", lol / "lol", "--split", "validation"
    assert run(*given).stdout.startswith(f"{given[0]} on {given[1]}: 1 of 4 pictures (validation), 1 with a reference")
    report = json.loads(run(*given, "--json").stdout)
    assert list(report)[:3] == ["images", "data", "measured"]
    assert (report["images"], report["measured"]) == (1, "1 of 4 pictures (validation), 1 with a reference")


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
    Image.fromarray(two_pictures()[0]).save(lol / "lol" / "high" / "3.png")
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
    only = ("--metrics", "psnr,ssim", "--against", "reference", "--baselines", "input,autocontrast,gamma 0.4,retinex")
    report = json.loads(run(path, data_folder / "lol" / "our485", "--split", "validation", *only, "--json").stdout)
    assert report["images"] == 85
    return {(row["method"], row["against"]): (row["psnr"], row["ssim"]) for row in report["rows"]}


@pytest.mark.heavy
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
