"""The code of the documentation runs, from top to bottom of each page, with the results that the text promises."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import zdce
from zdce import cli
from zdce.bench.engines import dark_picture
from zdce.bench.infer import random_network
from zdce.data import datasets, sample

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)

# What a page's code needs beside zdce.
NEEDS = {"video.md": ("av",), "exchange.md": ("onnx", "onnxruntime", "onnxscript"), "ray.md": ("ray",)}


@pytest.fixture(scope="module")
def things(tmp_path_factory):
    """A folder with what the pages name."""
    folder = tmp_path_factory.mktemp("things")
    pictures = ["photo.jpg", "panorama.jpg", "holiday/beach/1.png", "night/1.png"]
    pictures += [f"photos/{n}.png" for n in range(6)]
    pictures += [f"LOL/our485/{kind}/{n}.png" for kind in ("low", "high") for n in (1, 2)]
    for n, name in enumerate(pictures):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(dark_picture(36, 52) + np.uint8(n)).save(folder / name)
    random_network("iters4").save(folder / "net.safetensors")
    blocks = BLOCK.findall((DOCS / "evaluate.md").read_text())
    (folder / "mine.toml").write_text(next(code for language, code in blocks if language == "toml"))
    layers = enumerate(zdce.DCENet("zero-dce").convolutions, 1)
    torch.save(
        {f"e_conv{n}.{name}": value for n, c in layers for name, value in c.state_dict().items()}, folder / "Epoch99.pth"
    )
    if importlib.util.find_spec("av"):
        _film(folder / "night.mp4")
    return folder


def _film(path):
    av = importlib.import_module("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for level in (20, 25, 30):
            frame = av.VideoFrame.from_ndarray(np.full((32, 48, 3), level, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def run(page):
    """Runs the page's blocks in the current folder; gives the names that its Python leaves behind."""
    names = {}
    for language, code in BLOCK.findall((DOCS / page).read_text()):
        if language == "python":
            exec(compile(code, page, "exec"), names)
        elif language == "bash":
            for line in code.splitlines():
                if re.search("[|<>]", line):
                    _shell(line)
                else:
                    for command in line.split("&&"):
                        _command(shlex.split(command, comments=True))
    return names


def _shell(line):
    """Runs a line with pipes, in which `zdce` is this Python's."""
    script = f'set -o pipefail; zdce() {{ "{sys.executable}" -m zdce "$@"; }}; {line}'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (line, done.stderr)


def _command(words):
    if not words:
        return
    if words[:2] == ["pip", "install"]:
        # Not installed anew: what it names must be there to install.
        extras = re.findall(r"\.\[([\w,]+)\]", words[-1])
        known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert words[2:5] == ["-c", "constraints.txt", "-e"]
        assert set(",".join(extras).split(",")) - {""} <= set(known)
    elif words[0] == "pytest":
        assert words[1:] == ["-n", "2", "--dist", "loadscope"]
    elif words[0] == "torchrun":
        command = [sys.executable, "-m", "torch.distributed.run", *words[1:]]
        done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (words, done.stderr)
    else:
        assert words[0] == "zdce"
        result = CliRunner().invoke(cli.main, words[1:], catch_exceptions=False)
        assert result.exit_code == 0, (words, result.output)


@pytest.fixture
def at_hand(things, tmp_path, monkeypatch):
    """The current folder is a fresh copy of what the pages name; the built-in sample is of photographs a quarter as large."""
    small = replace(sample.PICTURES, load=lambda name: sample.photograph(name)[::4, ::4])
    monkeypatch.setitem(datasets.DARKENED, datasets.SAMPLE, small)
    shutil.copytree(things, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _run_where_possible(page):
    for package in NEEDS.get(page, ()):
        pytest.importorskip(package)
    return run(page)


# Commands in blocks of any language and in indented lines, and those in backticks, in pages, docstrings and help texts.
_LINE = re.compile(r"^(?:\$ |.*\| )?zdce (.*)$", re.MULTILINE)
_INDENTED = re.compile(r"^    zdce (.*)$", re.MULTILINE)
_INLINE = re.compile(r"`{1,2}zdce ([^`]+)`")


def _named_commands():
    pages = [*ROOT.glob("*.md"), *DOCS.glob("*.md"), *(ROOT / "integrations").rglob("*.md")]
    for path in pages:
        text = path.read_text()
        in_blocks = [words for _, code in BLOCK.findall(text) for words in _LINE.findall(code)]
        yield from ((path.name, words) for words in in_blocks + _INDENTED.findall(text) + _INLINE.findall(text))
    for folder in ("zdce", "bench", "csrc"):
        for path in (path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".h", ".cpp")):
            yield from ((path.name, words) for words in _INLINE.findall(path.read_text()))


def test_every_command_that_is_named_exists_with_its_options():
    found = set()
    for place, text in _named_commands():
        words = re.split(r"\s+", re.split(r"\s#|[|<>&;]", text)[0].replace("//", "").strip())
        command = cli.main
        while isinstance(command, click.Group) and words and re.fullmatch("[a-z]+", words[0]):
            assert words[0] in command.list_commands(click.Context(command)), (place, text)
            command = command.get_command(click.Context(command), words.pop(0))
        known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)} | {"--help", "-h"}
        asked = {word.partition("=")[0] for word in words if re.match("--?[a-z]", word)}
        assert {name.strip("(),.;:") for name in asked} <= known, (place, text)
        found |= {(command.name, name) for name in asked}
    assert len(found) > 80


def size_of(path):
    with Image.open(path) as image:
        return image.size


# Pages of which the text promises more have a test of their own below.
OWN = {"serve.md", "start.md", "commands.md", "python.md", "exchange.md", "library.md", "programs.md", "ray.md"}


@pytest.mark.parametrize("page", sorted(path.name for path in DOCS.glob("*.md") if path.name not in OWN))
def test_the_code_of_every_page_runs(page, at_hand):
    _run_where_possible(page)


def test_the_readme_runs_and_its_two_commands_are_ci_s(at_hand, capsys):
    shutil.copytree(DOCS, "docs", ignore=shutil.ignore_patterns("*.md", "results"))
    torch.manual_seed(0)
    names = run("../README.md")
    assert size_of("bright.jpg") == size_of("docs/dark.jpg")
    assert names["bright"].size == (52, 36)
    assert names["enhanced"].mean() > names["dark"].mean()
    two = BLOCK.search((ROOT / "README.md").read_text())[2].splitlines()
    assert len(two) == 2
    ci = (ROOT / ".ci" / "run").read_text()
    assert all(line in ci for line in two)
    assert two[1].replace("constraints.txt", '"${pinned:-constraints.txt}"') in (ROOT / ".ci" / "test").read_text()


def test_blocks_are_in_languages_that_are_run():
    for path in (*DOCS.glob("*.md"), ROOT / "README.md"):
        languages = {language for language, _ in BLOCK.findall(path.read_text())}
        assert languages <= {"python", "bash", "", "bibtex", "c", "javascript", "text", "toml"}, path
        # A block with braces is Sphinx's: contents, inclusion, the reference.
        assert path.read_text().count("```") == 2 * len(re.findall(r"^```[\w{]", path.read_text(), re.MULTILINE)), path


def test_getting_started_gives_pictures(at_hand):
    _run_where_possible("start.md")
    assert size_of("bright.jpg") == size_of("bright-too.jpg") == (52, 36)


def test_the_command_line_gives_what_its_page_shows(at_hand, capsys):
    _run_where_possible("commands.md")
    for name in ("bright.jpg", "bright.webp"):
        assert size_of(name) == (52, 36)
    shown = [json.loads(line) for line in re.findall(r"^{.*}$", (DOCS / "commands.md").read_text(), re.MULTILINE)]
    (at_hand / "night" / "1.png").rename(at_hand / "night" / "a.jpg")
    result = CliRunner().invoke(cli.main, ["enhance", "night/a.jpg", "-o", "bright/", "--json"])
    assert [json.loads(line) for line in result.stdout.splitlines()] == shown


def test_pictures_come_back_in_kind(at_hand):
    names = _run_where_possible("python.md")
    assert (names["array"].shape, names["array"].dtype) == ((36, 52, 3), np.uint8)
    assert names["image"].mode == names["opened"].mode == "RGB"
    assert np.array_equal(names["bright"][..., ::-1], names["array"])
    assert names["tensor"].shape == (4, 3, 64, 96)
    assert size_of(names["written"]) == (52, 36)
    assert np.array_equal(names["variant"], zdce.enhance(names["picture"], names["model"], strength=1.5, scale=4))
    assert (names["label"], names["batch"].shape) == (3, (2, 3, 32, 32))


@pytest.mark.heavy  # three exporters
def test_files_for_other_programs_give_what_the_network_gives(at_hand):
    names = _run_where_possible("exchange.md")
    dark = torch.from_numpy(names["dark"])
    assert np.abs(names["bright"] - zdce.enhance(dark, "net.safetensors").numpy()).max() < 1e-4
    flat = zdce.enhance(np.full((40, 60, 3), 25, np.uint8), "net.safetensors", scale=4)
    assert np.abs(names["enhanced"][0].numpy().astype(int) - flat).max() <= 2
    assert zdce.load("published.safetensors").variant.name == "zero-dce"


def test_spandrel_gives_what_the_network_gives(at_hand, spandrel):
    names = run("programs.md")
    enhanced = zdce.enhance(names["dark"], "net.safetensors")
    assert torch.equal(names["bright"], enhanced)
    assert torch.equal(names["same"], enhanced)


@pytest.mark.filterwarnings("default")  # Ray's own
def test_actors_of_ray_enhance_files_and_pictures(at_hand):
    names = _run_where_possible("ray.md")
    pictures = {Path(row["path"]).name: row["image"] for row in names["rows"]}
    names["ray"].shutdown()
    assert {path.name for path in (at_hand / "bright").iterdir()} == {f"{n}.png" for n in range(6)}
    for name, picture in pictures.items():
        with Image.open(at_hand / "bright" / name) as file:
            assert np.array_equal(picture, file)


def test_another_network_trains_with_the_objective(capsys):
    names = run("library.md")
    losses = names["losses"]
    assert len(losses) == 100
    # It falls to less than half, and not by one lucky step.
    assert losses[-1] < losses[0] / 2
    assert losses[50] < losses[0] / 2
    assert names["bright"].mean() > 2 * names["dark"].mean()
    assert all(parameter.grad.isfinite().all() for parameter in names["estimator"].parameters())
    assert "the loss fell from" in capsys.readouterr().out


def test_the_pages_are_built_without_a_warning(tmp_path):
    for package in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(package)
    command = [sys.executable, "-P", "-m", "sphinx", "-q", "-W", str(DOCS), str(tmp_path / "site")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "reference.html").read_text()
    assert all(f'id="zdce.{name}"' in page for name in ("enhance", "Enhancer", "ops.apply_curve", "convert.exporting.export"))
    for source in DOCS.glob("*.md"):
        assert (tmp_path / "site" / f"{source.stem}.html").stat().st_size > 5000


def test_mypy_reads_a_users_program():
    # `mypy` of .ci/style checks what its settings name; here it would take as long again.
    files = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["files"]
    assert "tests/typed_user.py" in files
    assert "\nmypy\n" in (ROOT / ".ci" / "style").read_text()
    assert "\n.ci/style\n" in (ROOT / ".ci" / "run").read_text()
