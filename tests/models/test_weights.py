"""The shipped weights, and the photographs that they were trained on."""

import hashlib
import io
import json
import re
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import zdce
from zdce import cli, training
from zdce.data import datasets, photographs, sample
from zdce.metrics import similarity
from zdce.models import weights
from zdce.training.learner import Learner

CARD = Path(__file__).resolve().parents[2] / "docs" / "weights.md"


def run(*arguments):
    return CliRunner().invoke(cli.main, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(photographs, "_roots", lambda: [tmp_path / "installed"])
    photographs.load.cache_clear()
    yield tmp_path
    photographs.load.cache_clear()


def test_shipped_weights_are_small_and_their_recipes_name_them():
    assert weights.DEFAULT in weights.names()
    assert {"base", "iters4", "zero-dce", "zero-dce-pp", "adaptive", "local"} <= set(weights.names())
    assert sum(weights.file(name).stat().st_size for name in weights.names()) < 1_500_000
    for name in weights.names():
        assert zdce.load(name).variant.name == name
        config = training.Config.from_toml(weights.recipe(name).read_text())
        assert (config.variant, config.data) == (name, "open")


@pytest.mark.parametrize("name", weights.names())
def test_shipped_weights_are_what_is_saved_today(tmp_path, name):
    # So that training that gives the same weights gives the same file.
    zdce.load(name).save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == weights.file(name).read_bytes()


@pytest.mark.parametrize("name", weights.names())
def test_shipped_weights_brighten_a_scene_that_training_never_saw(name):
    item = datasets.collection("sample").validation_items()[0]
    dark, reference = item.load(), item.load_reference()
    enhanced = zdce.Enhancer(zdce.load(name))(dark)
    # Of the distance to the well-lit photograph, at least half is gone; `local` makes days of dark scenes, and
    # this one was taken at dusk.
    left = 0.75 if name == "local" else 0.5
    assert np.abs(enhanced.mean() - reference.mean()) < np.abs(dark.mean() - reference.mean()) * left


def test_the_default_network_is_as_good_as_it_was():
    """On every eighth picture of the built-in sample. A change that is meant changes these figures too."""
    enhancer = zdce.Enhancer(zdce.load(weights.DEFAULT))
    items = datasets.collection("sample").items[::8]
    pairs = [(enhancer(item.load()), item.load_reference()) for item in items]
    assert len(pairs) == 16
    # Other processors round otherwise: a level of 255 in some pixels is some thousandths of a decibel.
    assert np.mean([similarity.psnr(*pair) for pair in pairs]) == pytest.approx(22.02, abs=0.03)
    assert np.mean([similarity.ssim(*pair) for pair in pairs]) == pytest.approx(0.7264, abs=0.002)


def test_enhance_needs_no_model(tmp_path):
    picture = tmp_path / "photo.png"
    Image.fromarray(np.full((20, 30, 3), 20, np.uint8)).save(picture)
    assert run("enhance", picture).exit_code == 0
    expected = zdce.Enhancer(zdce.load(weights.DEFAULT))(np.full((20, 30, 3), 20, np.uint8))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "photo-enhanced.png")), expected)
    assert run("enhance", picture, "-m", "iters4", "-o", tmp_path / "other.png").exit_code == 0
    assert not np.array_equal(np.asarray(Image.open(tmp_path / "other.png")), expected)


def test_a_name_without_shipped_weights_is_one_line(tmp_path):
    picture = tmp_path / "photo.png"
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(picture)
    unshipped = next(name for name in zdce.models.variants.VARIANTS if name not in weights.names())
    for name, expected in (
        (unshipped, f"there are no shipped weights of {unshipped}, only of {', '.join(weights.names())}"),
        ("bsae", f"no weights at bsae: expected one of {', '.join(weights.names())}, or a .safetensors file"),
    ):
        result = run("enhance", picture, "-m", name)
        assert result.exit_code == 1
        assert expected in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_variants_tell_which_are_shipped():
    rows = json.loads(run("variants", "--json").stdout)
    assert [row["name"] for row in rows if row["shipped"]] == weights.names()


def test_a_recipe_trains(tmp_path):
    for i in range(20):
        Image.fromarray(np.full((20, 20, 3), i, np.uint8)).save(tmp_path / f"{i:02d}.png")
    given = {"data": str(tmp_path), "size": 16, "epochs": 1}
    options = [part for name, value in given.items() for part in (f"--{name}", value)]
    for name in weights.names():
        assert run("train", "--config", weights.recipe(name), *options, "--out", tmp_path / name).exit_code == 0
        trained = training.Config.from_toml((tmp_path / name / "config.toml").read_text())
        assert trained == replace(training.Config.from_toml(weights.recipe(name).read_text()), **given)


@pytest.mark.parametrize("target", [0.3, 0.7])
def test_exposure_is_measured_from_the_target(target):
    batch = torch.randint(60, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    learner = Learner(training.Config(variant="iters4", target=target))
    expected = zdce.ops.exposure_control(learner.enhance(batch), target)
    losses = learner.step(batch)
    assert losses[1 + zdce.LossWeights._fields.index("exposure")] == pytest.approx(float(expected), rel=1e-5)


def test_a_target_is_a_brightness():
    with pytest.raises(ValueError, match=r"target must be in \[0, 1\], got 1.5"):
        training.Config(target=1.5)


MADE = b"not the photograph"


@pytest.fixture
def made(monkeypatch):
    """Photographs whose expected content is ``MADE``; their paths."""
    changed = tuple(replace(p, sha256=p.path and hashlib.sha256(MADE).hexdigest()) for p in photographs.PHOTOGRAPHS)
    monkeypatch.setattr(photographs, "PHOTOGRAPHS", changed)
    return [p.path for p in changed if p.path]


def ar(name, content):
    return f"{name:<48}{len(content):<10}`\n".encode() + content + b"\n" * (len(content) % 2)


def packed(folder, kind, paths):
    """A folder or archive of ``kind`` with ``paths``, and a file that is no photograph."""
    source, contents = folder / f"package{kind}", {"readme": b"text", **dict.fromkeys(paths, MADE)}
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w:xz") as archive:
        for path, content in contents.items():
            member = tarfile.TarInfo(f"./{path}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    if kind == ".whl":
        with zipfile.ZipFile(source, "w") as archive:
            for path, content in contents.items():
                archive.writestr(path, content)
    elif kind == ".tar.xz":
        source.write_bytes(tar.getvalue())
    elif kind == ".deb":
        members = {"debian-binary": b"2.0", "control.tar.xz": b"12345", "data.tar.xz": tar.getvalue()}
        source.write_bytes(b"!<arch>\n" + b"".join(ar(*member) for member in members.items()))
    else:
        for path, content in contents.items():
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            (source / path).write_bytes(content)
    return source


@pytest.mark.parametrize("kind", ["", ".whl", ".tar.xz", ".deb"])
def test_photographs_are_taken_from_folders_and_archives(empty_cache, made, kind):
    rows = json.loads(run("photographs", "--from", packed(empty_cache, kind, made), "--json").stdout)
    assert all(row["here"] for row in rows)
    assert [path.read_bytes() for path in photographs.folder().iterdir()] == [MADE] * len(made)


def test_a_file_with_another_content_is_refused_and_the_others_are_kept(empty_cache, made):
    source = packed(empty_cache, "", made)
    (source / made[1]).write_bytes(b"another")
    result = run("photographs", "--from", source)
    assert result.exit_code == 1
    expected = f"must have the SHA-256 {hashlib.sha256(MADE).hexdigest()}, got {hashlib.sha256(b'another').hexdigest()}"
    assert expected in result.stderr
    assert [p.path for p in photographs.missing()] == [made[1]]


@pytest.mark.parametrize("content", [None, b"no archive", b"!<arch>\n", b"!<arch>\n" + ar("data.tar.zst", b"unknown")])
def test_a_source_without_photographs_is_named(empty_cache, content):
    source = empty_cache / "source"
    if content is None:
        source.mkdir()
    else:
        source.write_bytes(content)
    result = run("photographs", "--from", source)
    assert result.exit_code == 1
    assert f"Error: {source}" in result.stderr
    assert ("none of the missing photographs" if content is None else "expected a folder, a wheel") in result.stderr


def test_photographs_of_installed_packages_are_used_where_they_are_if_unchanged(empty_cache, made):
    packed(empty_cache, "", made).rename(empty_cache / "installed")
    (empty_cache / "installed" / made[0]).write_bytes(b"of another version")
    assert [p.path for p in photographs.missing()] == made[:1]
    assert not photographs.folder().exists()


def test_training_without_the_photographs_says_how_to_get_them(empty_cache):
    result = run("train", "--data", "open", "--out", empty_cache / "run")
    assert result.exit_code == 1
    assert (
        "the photograph china is missing: install scikit-learn (PyPI), or give its file to `zdce photographs --from`"
        in result.stderr
    )


def test_open_photographs_are_made_dark_reduced(empty_cache):
    photographs.folder().mkdir(parents=True)
    big = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 160, 3), np.uint8)).resize((1600, 900))
    for photograph in photographs.missing():
        big.save(photographs.folder() / Path(photograph.path).name)
    pictures = datasets.collection("open")
    assert {item.name.split("-")[0] for item in pictures.validation_items()} == {"rocket"}
    assert np.array_equal(photographs.load("astronaut"), sample.photograph("astronaut"))
    assert photographs.load("china").shape == (405, 720, 3)
    item = next(item for item in pictures.items if item.name == "china-03")
    assert item.load().shape == item.load_reference().shape
    assert item.load().mean() < item.load_reference().mean()


def test_the_card_names_every_photograph_with_author_and_license():
    card = re.sub(r"\s+", " ", CARD.read_text())
    for p in photographs.PHOTOGRAPHS:
        assert f"| {p.name} | {p.title} | {p.author} | {p.license} | {p.package} |" in card
