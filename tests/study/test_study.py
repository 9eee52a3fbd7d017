"""The study: measures, verdicts on claims, stages that are done once, and the page in a browser."""

import csv
import json
import math
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from zdce import cli
from zdce.data import datasets
from zdce.runtime import locks
from zdce.srgb import LUMA
from zdce.study import claims, measures, settings, tables
from zdce.study.measures import Measured, Source
from zdce.study.published import published
from zdce.study.results import Loss, Results

NAMES = ("dark & <bright>.png", "stars|1.png")


def pair(i, size=(40, 48)):
    """A smooth well-lit picture and a dark one of it."""
    random = np.random.default_rng(i)
    small = Image.fromarray(random.integers(40, 250, (6, 7, 3), np.uint8))
    bright = np.asarray(small.resize(size[::-1], Image.Resampling.BICUBIC))
    return np.rint((bright / 255) ** 2 * 90).astype(np.uint8), bright


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """For pictures this small a second thread only waits, and its spinning doubles the time of everything else."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("OMP_NUM_THREADS", "1")  # of the process that is interrupted
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """LOL's layout: nine training pictures and two to validate with, whose names a page must escape."""
    folder = tmp_path_factory.mktemp("study") / "lol"
    for part in ("low", "high"):
        (folder / part).mkdir(parents=True)
    for i, name in enumerate([f"{i}.png" for i in range(9)] + list(NAMES)):
        for part, pixels in zip(("low", "high"), pair(i), strict=True):
            Image.fromarray(pixels).save(folder / part / name)
    return folder


def run(*arguments):
    return CliRunner().invoke(cli.main, [*map(str, arguments)], catch_exceptions=False)


@pytest.fixture(scope="module")
def finished(pictures, tmp_path_factory):
    """A quick study of base, an ablation of part 2 and one of part 3."""
    out = tmp_path_factory.mktemp("study") / "out"
    only = [word for name in ("base", "no-color", "iters4") for word in ("--variant", name)]
    result = run("study", "--data", pictures, "--out", out, "--quick", *only)
    assert result.exit_code == 0, result.output
    assert f"report: {out / 'report.html'}" in result.stdout
    return out


def random_picture(seed, size=(30, 40)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def test_changed_orders_on_grid_are_their_definition():
    before, after = random_picture(0), random_picture(1)
    light, new = before.max(axis=2).ravel().astype(int), after.max(axis=2).ravel().astype(int)
    changed = (light[:, None] >= light) ^ (new[:, None] >= new)
    assert measures.changed_orders_on_grid(after, before) == pytest.approx(changed.sum() / light.size)
    assert measures.changed_orders_on_grid(before, before) == 0
    curve = np.sqrt(np.arange(256) / 255) * 255
    assert measures.changed_orders_on_grid(np.ceil(curve).astype(np.uint8)[before // 2], before // 2) < 20  # ties by rounding


def test_changed_orders_on_grid_look_at_every_kth_pixel():
    before, after = random_picture(0, (150, 301)), random_picture(1, (150, 301))
    assert measures.changed_orders_on_grid(after, before) == measures.changed_orders_on_grid(after[::4, ::4], before[::4, ::4])


def test_noise_level_is_the_deviation_of_white_noise_whatever_the_slope():
    y, x = np.mgrid[0:300, 0:300] / 300
    noise = np.random.default_rng(0).normal(0, 5 / 255, y.shape)
    # 90000 samples that overlap: the estimate's own deviation is about 0.6%.
    assert measures.noise_level(0.2 + 0.3 * x + 0.2 * y + noise) == pytest.approx(5, rel=0.03)
    assert measures.noise_level(0.2 + 0.3 * x + 0.2 * y) < 1e-9


def test_light_and_colour_of_a_plain_picture():
    yellow = np.full((8, 9, 3), (200, 200, 50), np.uint8)
    grey = np.full((8, 9, 3), 100, np.uint8)
    targets = {"autocontrast": grey, "input": grey}
    got = measures.measure(Source("m", 1, 10), "p", yellow, targets)
    assert (got.method, got.seed, got.epoch, got.picture) == ("m", 1, 10, "p")
    assert got.brightness == pytest.approx((0.9278 * 200 + 0.0722 * 50) / 255)  # blue has 0.0722 of BT.709's luma
    assert (got.contrast, got.noise, got.sharpness) == pytest.approx((0, 0, 0), abs=1e-9)
    assert got.saturation == pytest.approx(0.75)
    assert got.yellowness > 50
    assert math.isnan(got.psnr_reference)
    same = measures.measure(Source("m"), "p", grey, targets)
    assert (same.psnr_input, same.ssim_input, same.yellowness) == (math.inf, 1, pytest.approx(0, abs=1e-2))


def measured(method, epoch, seed=0, **values):
    """Rows of six pictures around ``values``; a measure that is not named is 1."""
    steps = (-0.02, -0.01, 0.0, 0.0, 0.01, 0.02)
    filled = {name: values.get(name, 1.0) for name in measures.MEASURES}
    return [
        Measured(method, seed, epoch, f"p{i}", **{name: value + step for name, value in filled.items()})
        for i, step in enumerate(steps)
    ]


def test_one_picture_has_a_mean_and_no_interval():
    rows = measured("base", 50)
    assert world(rows).average("base", 50).intervals.keys() == {"psnr_reference", "ssim_reference"}
    assert world(rows[:1]).average("base", 50).intervals == {}


def losses(variant, training, validation=None, seed=0, **terms):
    """Log rows from totals by epoch; each term is a pair of its first and last value."""
    rows = []
    for split, totals in (("train", training), ("validation", validation or training)):
        for i, total in enumerate(totals):
            share = i / max(1, len(totals) - 1)
            of = {n: terms.get(n, (0.0, 0.0)) for n in ("illumination", "spatial", "color", "exposure")}
            rows.append(
                Loss(variant, seed, i + 1, split, total, **{n: a + share * (b - a) for n, (a, b) in of.items()}, seconds=1.0)
            )
    return rows


def world(rows, logs=(), seeds=1):
    variants = tuple(dict.fromkeys(row.method for row in rows if row.epoch))
    return Results({"variants": variants, "seeds": seeds}, {}, {}, (), tuple(rows), tuple(logs), ())


def verdict(name, of):
    (judged,) = [judged for judged in claims.judge(of) if judged.claim.name == name]
    assert judged.finding.figure
    return judged.finding.verdict


KEPT = (10, 20, 30, 40, 50)


def base(measure, values, **others):
    return [
        row for epoch, value in zip(KEPT, values, strict=True) for row in measured("base", epoch, **{measure: value}, **others)
    ]


def falling(first, last, epochs=50):
    return list(np.linspace(first, last, epochs))


def crossing(epoch):
    """Validation that lies above training until ``epoch`` and below it then."""
    return [t + (0.1 if i + 1 < epoch else -0.1) for i, t in enumerate(falling(10, 1))]


def against_base(variant, own, other):
    return measured("base", 50, **other) + measured(variant, 50, **own)


REFERENCED = {"psnr_reference": 15.0, "ssim_reference": 0.5}
BETTER = {"psnr_reference": 16.0, "ssim_reference": 0.6}
FALLING = {"illumination": (2, 1), "exposure": (2, 1)}
PEAK_30, PEAK_10 = (20, 21, 23, 21, 11), (23, 21, 20, 15, 11)


def better(variant):
    """A world where ``variant`` comes closer to the references than base."""
    return world(against_base(variant, BETTER, REFERENCED))


def worse(variant):
    return world(against_base(variant, REFERENCED, BETTER))


# Of each claim a world in which it holds and one in which it does not.
WORLDS = {
    "psnr-peaks": (world(base("psnr_autocontrast", PEAK_30)), world(base("psnr_autocontrast", PEAK_10))),
    "ssim-peaks": (world(base("ssim_autocontrast", (1, 2, 3, 4, 1))), world(base("ssim_autocontrast", (1, 2, 3, 4, 5)))),
    "brighter-as-both-fall": tuple(
        world(
            [
                row
                for epoch, psnr, brightness in zip(KEPT, PEAK_30, light, strict=True)
                for row in measured("base", epoch, psnr_autocontrast=psnr, brightness=brightness)
            ]
        )
        for light in ((1, 2, 3, 4, 5), (1, 2, 3, 4, 3))
    ),
    "base-crosses-near-13": tuple(
        world(measured("base", 50), losses("base", falling(10, 1), crossing(epoch))) for epoch in (13, 30)
    ),
    "losses-fall-and-rise": tuple(
        world(measured("base", 50), losses("base", falling(10, 1), **FALLING, spatial=(1, 2), color=color))
        for color in ((1, 2), (2, 1))
    ),
    "illumination-dominates-at-first": tuple(
        world(measured("base", 50), losses("base", falling(10, 1), illumination=(share * 10 / 1600, 0))) for share in (0.6, 0.4)
    ),
    "no-illumination-is-grey-and-flat": tuple(
        world(against_base("no-illumination", {"contrast": 0.5, "saturation": s}, {})) for s in (0.5, 1.5)
    ),
    "no-color-is-yellow": tuple(world(against_base("no-color", {"yellowness": y}, {"yellowness": 0.0})) for y in (5.0, -5.0)),
    "no-exposure-is-darker": tuple(world(against_base("no-exposure", {"brightness": b}, {})) for b in (0.5, 1.5)),
    "no-exposure-has-higher-psnr": tuple(world(against_base("no-exposure", {"psnr_autocontrast": p}, {})) for p in (2, 0)),
    **{
        f"{name}-{claim}": tuple(
            world(against_base(name, {}, {}), losses("base", falling(10, 1)) + losses(name, falling(10, total)))
            for total in (0.5, 2)
        )
        for name, claim in (
            ("no-illumination", "has-lower-total"),
            ("no-spatial", "has-lower-total"),
            ("no-concat", "has-much-lower-total"),
            ("filters32", "has-lower-total"),
        )
    },
    "no-illumination-never-crosses": tuple(
        world(measured("no-illumination", 50), losses("no-illumination", falling(10, 1), crossing(e))) for e in (99, 20)
    ),
    "no-color-parts-late": tuple(
        world(measured("no-color", 50), losses("no-color", [10.0] * 50, validation))
        for validation in ([10.1] * 40 + [12] * 10, [12] * 40 + [10.1] * 10)
    ),
    "no-exposure-crosses-near-18": tuple(
        world(measured("no-exposure", 50), losses("no-exposure", falling(10, 1), crossing(e))) for e in (18, 99)
    ),
    **{
        f"{name}-is-close-to-validation": tuple(
            world(measured(name, 50), losses(name, [10.0] * 50, [v] * 50)) for v in (10.2, 14)
        )
        for name in ("no-concat", "layers7")
    },
    "no-concat-has-higher-psnr": tuple(world(against_base("no-concat", {"psnr_autocontrast": p}, {})) for p in (2, 0)),
    "iters4-crosses-near-10": tuple(
        world(measured("iters4", 50), losses("iters4", falling(10, 1), crossing(e))) for e in (10, 40)
    ),
    "iters4-is-noisier": tuple(world(against_base("iters4", {"noise": n}, {})) for n in (2, 0.5)),
    "iters4-has-higher-psnr": tuple(world(against_base("iters4", {"psnr_autocontrast": p}, {})) for p in (2, 0)),
    "filters32-is-over-sharp": tuple(
        world(against_base("filters32", {"sharpness": 3}, {}) + measured("reference", 0, sharpness=s)) for s in (2, 4)
    ),
    "layers7-drops-again-near-35": tuple(
        world(measured("layers7", 50), losses("layers7", totals))
        for totals in ([10.0] * 35 + [5.0] * 15, [10.0] * 25 + [5.0] * 25)
    ),
    "layers7-is-best": (better("layers7"), worse("layers7")),
    "no-concat-is-worse": (worse("no-concat"), better("no-concat")),
    "skip-connections-help": (worse("no-concat"), better("no-concat")),
    "more-filters-help": (better("filters32"), worse("filters32")),
    "fewer-iterations-hurt": (worse("iters4"), better("iters4")),
}


def dim_world(dim):
    rows = base("psnr_autocontrast", (21, 21, 21, 21, 21))
    low = {row.picture: row for row in measured("input", 0, brightness=0.1)}
    darkest = min(low.values(), key=lambda row: row.brightness).picture
    rows = [replace(r, psnr_autocontrast=dim) if r.picture == darkest else r for r in rows]
    return world([*rows, *low.values()])


WORLDS["close-to-autocontrast"] = (dim_world(19.0), dim_world(30.0))


def test_every_claim_has_worlds():
    assert sorted(WORLDS) == sorted(claim.name for claim in claims.CLAIMS)
    assert all(claim.rule for claim in claims.CLAIMS)


@pytest.mark.parametrize("name", WORLDS)
def test_a_claim_holds_where_it_is_true_and_not_where_it_is_false(name):
    assert [verdict(name, of) for of in WORLDS[name]] == ["holds", "does not hold"]


@pytest.mark.parametrize("name", WORLDS)
def test_a_claim_is_not_decidable_without_its_runs(name):
    assert verdict(name, world(measured("zero-dce", 50))) == "not decidable"


def test_differences_within_chance_and_too_few_epochs_decide_nothing():
    assert verdict("iters4-is-noisier", world(against_base("iters4", {"noise": 1.0}, {}))) == "not decidable"
    assert verdict("psnr-peaks", world(measured("base", 5))) == "not decidable"
    few = [row for row in against_base("iters4", {"noise": 2}, {}) if row.picture < "p5"]
    assert verdict("iters4-is-noisier", world(few)) == "not decidable"
    # A better PSNR with a worse SSIM.
    torn = against_base("filters32", {"psnr_reference": 16, "ssim_reference": 0.4}, REFERENCED)
    assert verdict("more-filters-help", world(torn)) == "not decidable"


def test_seeds_that_disagree_decide_nothing():
    def rows(seed, noise):
        return measured("base", 50, seed) + measured("iters4", 50, seed, noise=noise)

    assert verdict("iters4-is-noisier", world(rows(0, 2) + rows(1, 3), seeds=2)) == "holds"
    assert verdict("iters4-is-noisier", world(rows(0, 2) + rows(1, 0), seeds=2)) == "not decidable"


def test_seeds_have_a_spread():
    of = world(measured("base", 50, 0, noise=2) + measured("base", 50, 1, noise=4), seeds=2)
    average = of.average("base", 50)
    assert (average.means["noise"], average.spread["noise"]) == (pytest.approx(3), pytest.approx(2**0.5))
    assert tables.cell(average, "noise").note == "± 1.41"


def test_the_published_figures_are_the_reports():
    assert published().base["autocontrast"][30] == (23.163, 0.754)
    assert published().base["input"] == {20: (29.388, 0.911), 30: (25.13, 0.809), 40: (22.068, 0.707), 50: (7.575, 0.145)}
    assert set(published().ablations) == set(settings.REPORTED) - {"base"}


def test_settings_keep_the_reports_epochs():
    assert settings.Settings().kept == (10, 20, 30, 40, 50)
    assert replace(settings.Settings(), epochs=25).kept == (10, 20, 25)
    assert replace(settings.Settings(), epochs=3).kept == (1, 2, 3)
    assert settings.Settings().config("no-color", 3).weights.color == 0
    assert len(settings.REPORTED) == 9
    assert settings.preset("elsewhere", quick=False) == settings.Settings("elsewhere")
    with pytest.raises(ValueError, match="normalization must be one of paper, keras, got 'other'"):
        settings.Settings(normalization="other")


def test_results_come_back_as_they_were_written(finished):
    once = Results.load(finished / "results")
    copy = finished.parent / "copy"
    once.save(copy)
    for name in ("measures.csv", "losses.csv", "networks.csv", "results.json"):
        assert (copy / name).read_text() == (finished / "results" / name).read_text()
    assert once.epochs == (1, 2, 3, 4, 5)
    # Two pictures: three networks after five epochs, five simple methods, and the references.
    assert len(once.measured) == 2 * (3 * 5 + 5 + 1)
    assert len(once.losses) == 3 * 5 * 2
    assert [network.variant for network in once.networks] == ["base", "no-color", "iters4"]


def test_measures_are_zdce_evals(finished, pictures):
    weights = finished / "runs" / "iters4-0" / "epoch-005.safetensors"
    rows = json.loads(run("eval", pictures, "-m", weights, "--split", "validation", "--json").stdout)["rows"]
    average = Results.load(finished / "results").average("iters4", 5)
    for row in rows:
        if row["method"] == "model":
            assert average.means[f"psnr_{row['against']}"] == pytest.approx(row["psnr"])
            assert average.means[f"ssim_{row['against']}"] == pytest.approx(row["ssim"])
        if (row["method"], row["against"]) == ("model", "reference"):
            assert average.means["ciede2000_reference"] == pytest.approx(row["ciede2000"])


def stamps(folder, pattern):
    return {path: path.stat().st_mtime_ns for path in folder.rglob(pattern)}


def test_a_finished_study_does_nothing_again_but_what_changed(finished, pictures, tmp_path):
    out = shutil.copytree(finished, tmp_path / "out")
    command = [
        "study",
        "--data",
        pictures,
        "--out",
        out,
        "--quick",
        "--variant",
        "base",
        "--variant",
        "no-color",
        "--variant",
        "iters4",
    ]
    before = stamps(out, "*.safetensors") | stamps(out / "measured", "*")
    assert run(*command).exit_code == 0
    assert stamps(out, "*.safetensors") | stamps(out / "measured", "*") == before
    (out / "pictures" / "1-iters4-0-005.webp").unlink()
    plan = run(*command, "--plan").stdout
    assert re.search(r"training\s+3\s+0", plan)
    assert re.search(r"measuring\s+15\s+1\b", plan)
    # Another objective is another network, but pictures and simple methods are as they were.
    plan = run(*command, "--plan", "--normalization", "paper").stdout
    assert re.search(r"training\s+0\s+3", plan)
    assert re.search(r"measuring\s+1\s+15", plan)


def test_one_process_at_a_time_works_on_a_study(finished, pictures, tmp_path):
    out = shutil.copytree(finished, tmp_path / "out")
    with locks.exclusive(out):
        result = run("study", "--data", pictures, "--out", out, "--quick", "--variant", "base")
    assert (result.exit_code, result.stderr) == (1, f"Error: {out}: another process is using it\n")


def test_another_picture_makes_the_study_anew(finished, pictures, tmp_path):
    lol = shutil.copytree(pictures, tmp_path / "lol")
    out = shutil.copytree(finished, tmp_path / "out")
    Image.fromarray(pair(99)[0]).save(lol / "low" / "3.png")
    plan = run("study", "--data", lol, "--out", out, "--quick", "--variant", "base", "--plan").stdout
    assert re.search(r"training\s+0\s+1", plan)


def test_a_variant_that_is_named_twice_is_trained_once(pictures, tmp_path):
    twice = ("--variant", "base", "--variant", "base")
    plan = run("study", "--data", pictures, "--out", tmp_path / "out", "--quick", *twice, "--plan").stdout
    assert re.search(r"training\s+0\s+1\s", plan)


def test_more_epochs_go_on_from_what_is_trained(finished, pictures, tmp_path):
    out = shutil.copytree(finished, tmp_path / "out")
    weights = out / "runs" / "base-0" / "epoch-003.safetensors"
    before = weights.read_bytes(), weights.stat().st_mtime_ns
    assert run("study", "--data", pictures, "--out", out, "--quick", "--variant", "base", "--epochs", 7).exit_code == 0
    assert (weights.read_bytes(), weights.stat().st_mtime_ns) == before
    assert Results.load(out / "results").epochs == tuple(range(1, 8))


def test_an_interrupted_study_goes_on_to_the_same_figures(finished, pictures, tmp_path):
    out = tmp_path / "out"
    arguments = ["study", "--data", pictures, "--out", out, "--quick", "--variant", "base"]
    command = [sys.executable, "-m", "zdce", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 180
    while not (out / "runs" / "base-0" / "log.csv").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert re.search("stopped while .*; the same command continues", errors)
    assert "Traceback" not in errors
    assert not (out / "report.html").exists()
    assert run(*arguments).exit_code == 0
    once, again = (Results.load(folder / "results") for folder in (finished, out))
    assert again.measured == tuple(row for row in once.measured if row.method not in ("no-color", "iters4"))


def test_too_few_pictures_and_no_results_are_one_line(pictures, tmp_path):
    result = run("study", "--data", pictures, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "data must hold 16 training pictures for one batch, got 9" in result.stderr
    result = run("report", tmp_path)
    assert result.exit_code == 1
    assert f"no results of a study in {tmp_path / 'results'}" in result.stderr


def test_the_report_is_written_from_results_and_pictures_alone(finished, tmp_path):
    copy = tmp_path / "copy"
    for name in ("results", "pictures"):
        shutil.copytree(finished / name, copy / name)
    assert run("report", copy).exit_code == 0
    assert (copy / "report.html").read_text() == (finished / "report.html").read_text()
    assert (copy / "report.md").read_text() == (finished / "report.md").read_text()


def test_results_that_were_written_with_fewer_measures_and_methods_give_a_report(finished, tmp_path):
    copy = tmp_path / "copy"
    for name in ("results", "pictures"):
        shutil.copytree(finished / name, copy / name)
    for picture in (copy / "pictures").glob("*-retinex.webp"):
        picture.unlink()
    with (copy / "results" / "measures.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["method"] != "retinex"]
    with (copy / "results" / "measures.csv").open("w", newline="") as file:
        columns = [name for name in rows[0] if name != "ciede2000_reference"]
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    assert run("report", copy).exit_code == 0
    for name in ("report.html", "report.md"):
        assert "CIEDE2000" in (finished / name).read_text()
        assert "retinex" in (finished / name).read_text()
        assert "CIEDE2000" not in (copy / name).read_text()
        assert "etinex" not in (copy / name).read_text()
    assert '"CLAHE"' in (copy / "report.html").read_text()


def test_the_page_needs_nothing_else_and_escapes_names(finished):
    html = (finished / "report.html").read_text()
    assert "dark &amp; &lt;bright&gt;.png" in html
    assert "<bright>" not in html
    assert not re.search(r'(src|href)="(?!#|data:)', html)
    assert not re.search(r"@import|url\((?!#)", html)
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    for wanted in ("Autocontrast is no ground truth", "only about 230 distinct scenes", "21.59", "gamma 0.4", "CLAHE"):
        assert wanted in html


def test_the_markdown_has_its_pictures_and_whole_tables(finished):
    text = (finished / "report.md").read_text()
    found = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)
    assert {"figures/course.png", "figures/grid-base.png", "figures/losses-iters4.png"} <= set(found)
    for path in found:
        with Image.open(finished / path) as image:
            assert image.format == "PNG"
    assert r"stars\|1.png" in text
    assert "dark &amp; &lt;bright>.png" in text or "dark &amp; &lt;bright&gt;.png" in text
    assert "&#39;" not in text
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_a_published_report_shows_curves_and_no_picture(finished, tmp_path):
    assert run("report", finished, "--publish", tmp_path / "out").exit_code == 0
    text = (tmp_path / "out" / "report.md").read_text()
    shown = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)
    assert "figures/course.png" in shown
    assert {f"figures/{path.name}" for path in (tmp_path / "out" / "figures").iterdir()} == set(shown)
    assert not [path for path in shown if "grid" in path]
    assert r"stars\|1.png" not in text


def test_numbers_lie_beside_the_page(finished):
    with (finished / "results" / "claims.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["claim"] for row in rows] == [claim.name for claim in claims.CLAIMS]
    assert {row["verdict"] for row in rows} <= {"holds", "does not hold", "not decidable"}
    averages = json.loads((finished / "results" / "results.json").read_text())["averages"]
    (plain,) = [row for row in averages if row["method"] == "autocontrast"]
    assert plain["psnr_autocontrast"] is None
    assert plain["psnr_reference_low"] <= plain["psnr_reference"] <= plain["psnr_reference_high"]


def test_pictures_without_references_have_a_report(finished, pictures, tmp_path):
    result = run(
        "study", "--data", pictures / "low", "--out", tmp_path / "out", "--quick", "--variant", "iters4", "--epochs", 1
    )
    assert result.exit_code == 0, result.output
    html = (tmp_path / "out" / "report.html").read_text()
    assert "These pictures have no true references" in html
    assert "True reference" not in html


@pytest.fixture
def opened(browser, finished, request):
    """The page offline in a window of the asked width and scheme; what the console said must be nothing."""
    options = getattr(request, "param", {"width": 1280, "scheme": "light"})
    size = {"width": options["width"], "height": 900}
    context = browser.new_context(viewport=size, color_scheme=options["scheme"], offline=True)
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("requestfailed", lambda asked: said.append(asked.url))
    page.goto((finished / "report.html").as_uri())
    yield page
    assert said == []
    context.close()


def split(page):
    return page.evaluate("getComputedStyle(document.querySelector('#compare-main .stage')).getPropertyValue('--x')").strip()


def test_sliders_move_by_mouse_and_keyboard(opened):
    slider = opened.locator("#compare-main input[type=range]")
    box = slider.bounding_box()
    opened.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40)
    opened.mouse.down()
    opened.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + 40)
    opened.mouse.up()
    assert 15 <= float(split(opened).rstrip("%")) <= 25
    at = float(split(opened).rstrip("%"))
    slider.press("ArrowRight")
    assert float(split(opened).rstrip("%")) == at + 1
    slider.press("End")
    assert split(opened) == "100%"


def test_both_sides_of_a_slider_and_its_picture_can_be_chosen(opened):
    after = opened.locator("#compare-main img.after")
    first = after.get_attribute("src")
    opened.locator("#compare-main select").nth(1).select_option(label="iters4")
    second = after.get_attribute("src")
    opened.locator("#compare-main .thumb").nth(1).click()
    assert len({first, second, after.get_attribute("src")}) == 3
    assert opened.evaluate("[...document.images].every(i => i.closest('dialog') || i.naturalWidth > 0)")


def test_tables_sort_by_number_and_text(opened):
    def column(i):
        return opened.evaluate(f"[...document.querySelectorAll('#table-everything tbody tr')].map(r => r.cells[{i}].innerText)")

    heading = opened.locator("#table-everything th button")
    heading.nth(3).click()
    values = [float(text) for text in column(3) if text != "∞"]
    assert values == sorted(values, reverse=True)
    heading.nth(3).click()
    assert opened.locator("#table-everything th").nth(3).get_attribute("aria-sort") == "ascending"
    assert [float(text) for text in column(3) if text != "∞"] == sorted(values)
    heading.nth(0).focus()
    opened.keyboard.press("Enter")
    names = column(0)
    assert names == sorted(names, key=str.lower)


def test_a_click_shows_a_picture_large(opened):
    opened.locator("#part-1 .shot").first.click()
    dialog = opened.locator("#zoom")
    assert dialog.is_visible()
    assert "Original" in dialog.locator("p").inner_text()
    opened.keyboard.press("ArrowRight")
    assert "autocontrast" in dialog.locator("p").inner_text()
    opened.keyboard.press("Escape")
    assert not dialog.is_visible()


@pytest.mark.parametrize(
    "opened", [{"width": w, "scheme": s} for w in (360, 1600) for s in ("light", "dark")], indirect=True, ids=str
)
def test_no_screen_is_too_narrow_and_both_schemes_can_be_read(opened):
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
    shown = "getComputedStyle(document.body)"

    def light(name):
        red, green, blue = map(int, re.findall(r"\d+", opened.evaluate(f"{shown}.{name}"))[:3])
        return np.dot(LUMA, (red, green, blue))

    first = light("backgroundColor"), light("color")
    assert abs(first[0] - first[1]) > 150
    opened.locator("#theme").click()
    assert (light("backgroundColor") > 127) != (first[0] > 127)
    assert abs(light("backgroundColor") - light("color")) > 150


def test_the_page_prints(opened):
    assert opened.pdf(format="A4").startswith(b"%PDF")


def test_the_study_measures_what_data_gives(pictures):
    items = datasets.collection(str(pictures)).items
    assert [path.name for path in items[0].files] == ["0.png", "0.png"]
    before = settings.listing(items)
    assert settings.fingerprint(before) == settings.fingerprint(settings.listing(datasets.collection(str(pictures)).items))
    assert settings.listing(datasets.collection("sample").items) != before
    assert isinstance(Path(items[0].files[0]), Path)
