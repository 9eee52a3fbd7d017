"""References are found by the names of common data sets, and pictures without one are never silently left out."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from zdce import cli
from zdce.data import datasets, pairing
from zdce.errors import InputError


def write(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((16, 20, 3), 30, np.uint8)).save(folder / name)


def found(folder):
    """Each picture's name with its reference's place in ``folder``, and the strays."""
    pairs = pairing.pairs(folder)
    named = {
        path.relative_to(folder).as_posix(): reference and reference.relative_to(folder).as_posix()
        for path, reference in pairs.pictures
    }
    return named, [path.relative_to(folder).as_posix() for path in pairs.strays]


@pytest.mark.parametrize(
    "expected",
    [
        {"low/1.png": "high/1.png", "low/22.png": "high/22.png"},
        {"low/1.png": "high/1.jpg", "low/a/22.png": "high/a/22.bmp"},
        {"our485/low/2.png": "our485/high/2.png"},
        {"Low/low00690.png": "Normal/normal00690.png", "Low/low00691.png": "Normal/normal00691.png"},
        {"low/low1.png": "high/normal1.png", "low/low10.png": "high/normal10.png"},
        {"Low/r0a.png": "Normal/r0a.png"},
        {"LOL-v2/Real_captured/Test/Low/low1.png": "LOL-v2/Real_captured/Test/Normal/normal1.png"},
        {"input/1_UHD.JPG": "gt/1_UHD.JPG"},
        {"input/a_input.png": "gt/a_gt.png"},
        {"INPUT/0001.png": "Target/0001.png"},
        {"dark/x-dark.jpg": "bright/x-bright.jpg"},
        {"short/10003.png": "long/10003.png"},
        {"1/1.jpg": "Label/1.jpg", "1/2.jpg": "Label/1.jpg", "23/1.jpg": "Label/23.jpg"},
        {"a_low.png": "a_high.png", "b_low.png": "b_high.png"},
        {"low_a.png": "normal_a.png"},
        {"in/a-dark.png": "in/a-bright.png", "in/b-dark.png": "in/b-bright.png"},
        {"a_dark.png": "a.png", "b_dark.png": "b.jpg"},
        # The whole name counts first: words of a scheme may be a part of it.
        {"low/low.png": "high/low.png", "low/highway.png": "high/highway.png", "low/1-low.png": "high/1-low.png"},
    ],
)
def test_pairs_of_the_fields_data_sets(tmp_path, expected):
    write(tmp_path, *expected, *set(expected.values()))
    assert found(tmp_path) == (expected, [])


@pytest.mark.parametrize(
    "names",
    [
        ("1.bmp", "2.bmp", "MEF/3.png", "10.jpg"),  # LIME, MEF, DICM, NPE, VV: dark pictures alone
        ("low tide.png", "noon.png"),
        ("a_dark.png", "b.png"),
        ("lower/1.png", "higher/1.png"),
        ("a_dark.png", "a.png", "h0.png", "h1.png"),  # one pair may be chance
        ("dark_1.png", "dark_2.png", "bright_1.png", "bright_2.png", "1.png", "2.png", "3.png"),
    ],
)
def test_other_pictures_have_no_references(tmp_path, names):
    write(tmp_path, *names)
    assert found(tmp_path) == (dict.fromkeys(sorted(names)), [])


@pytest.mark.parametrize("scheme", pairing.FILES, ids="_".join)
def test_one_file_beside_pairs_does_not_undo_them(tmp_path, scheme):
    dark, reference = f"{{}}_{scheme.dark}", "{}" + "_" * bool(scheme.reference) + scheme.reference
    expected = {f"{dark.format(n)}.png": f"{reference.format(n)}.png" for n in range(3)}
    write(tmp_path, *expected, *expected.values())
    layout = f"*_{scheme.dark}/*{reference.removeprefix('{}')}"
    assert pairing.pairs(tmp_path).layout == layout
    write(tmp_path, "notes.png")
    assert (found(tmp_path), pairing.pairs(tmp_path).layout) == ((expected, ["notes.png"]), layout)
    with pytest.raises(InputError, match=r"1 files are the reference of no picture \(.*notes\.png\)"):
        (collection := datasets.collection(str(tmp_path))).check_paired(collection.items)
    write(tmp_path, *(f"holiday {n}.png" for n in range(20)))  # now pairs are the exception
    assert len(found(tmp_path)[0]) == 27


def test_low_alone_is_what_is_trained_on(tmp_path):
    write(tmp_path, "low/1.png", "low/2.png", "notes/3.png")
    assert found(tmp_path) == ({"low/1.png": None, "low/2.png": None}, [])
    assert len(datasets.collection(str(tmp_path)).items) == 2
    (tmp_path / "other" / "low").mkdir(parents=True)  # empty
    write(tmp_path / "other", "3.png")
    assert found(tmp_path / "other") == ({"3.png": None}, [])


def test_what_has_two_references_or_is_two_data_sets_is_refused(tmp_path):
    write(tmp_path / "two", "low/1.png", "high/1.png", "high/1.jpg")
    with pytest.raises(InputError, match=r"1\.png must have one reference, got .*1\.jpg and .*1\.png"):
        pairing.pairs(tmp_path / "two")
    write(tmp_path / "v2", "Train/Low/low1.png", "Train/Normal/normal1.png", "Test/Low/low2.png", "Test/Normal/normal2.png")
    with pytest.raises(InputError, match=r"v2 holds several data sets with references: name one of Test, Train"):
        pairing.pairs(tmp_path / "v2")


def evaluate(model, *arguments):
    return CliRunner().invoke(cli.main, ["eval", "-m", str(model), *map(str, arguments)], catch_exceptions=False)


def test_all_pictures_of_a_folder_are_measured_and_said(tmp_path, model):
    write(tmp_path, *(f"{kind}/{n}.png" for kind in ("low", "high") for n in range(15)))
    for arguments, images, measured in (
        ((), 15, "all 15 pictures, 15 with a reference"),
        (("--split", "validation"), 3, "3 of 15 pictures (validation), 3 with a reference"),
        (("--split", "validation", "--pairs", "odd"), 1, "1 of 15 pictures (validation, odd), 1 with a reference"),
        (("--pairs", "even"), 8, "8 of 15 pictures (even), 8 with a reference"),
    ):
        result = evaluate(model, tmp_path, *arguments)
        assert result.stdout.splitlines()[0] == f"{model} on {tmp_path}: {measured}"
        report = json.loads(evaluate(model, tmp_path, *arguments, "--json").stdout)
        assert (report["images"], len(report["pictures"]), report["measured"]) == (images, images, measured)
        assert {"method", "against", "psnr", "ssim"} <= set(report["rows"][0])
    assert report["pictures"] == sorted(f"{n}.png" for n in range(15))[::2]


def test_names_that_do_not_match_are_an_error_unless_asked_for(tmp_path, model):
    write(tmp_path, "low/a.png", "low/b.png", "high/a.png")
    result = evaluate(model, tmp_path)
    assert result.exit_code == 1
    assert f"1 pictures have no reference ({Path(tmp_path, 'low', 'b.png')})" in result.stderr
    assert "--unpaired" in result.stderr
    report = json.loads(evaluate(model, tmp_path, "--unpaired", "--json").stdout)
    assert report["measured"] == "all 2 pictures, 1 with a reference"
    assert {row["images"] for row in report["rows"] if row["against"] == "reference"} == {1}
    (tmp_path / "low" / "b.png").unlink()
    write(tmp_path, "low/c.png", "high/d.png", "high/c.png")
    result = evaluate(model, tmp_path)
    assert result.exit_code == 1
    assert f"1 files are the reference of no picture ({Path(tmp_path, 'high', 'd.png')})" in result.stderr
    write(tmp_path / "none", "low/a.png", "low/b.png", "high/x.png", "high/y.png")
    assert "2 pictures have no reference" in evaluate(model, tmp_path / "none").stderr
    # Training and pictures that all have none need no references.
    assert len(datasets.collection(str(tmp_path / "none")).items) == 2
    assert evaluate(model, tmp_path / "none" / "low").exit_code == 0


def test_training_needs_no_references(tmp_path):
    write(tmp_path, *(f"low/{n}.png" for n in range(6)))
    arguments = ["--size", "16", "--batch-size", "4", "--epochs", "1", "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(cli.main, ["train", "--data", str(tmp_path), *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "run" / "last.safetensors").is_file()
