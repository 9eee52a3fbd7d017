"""The plug-ins for GIMP 2.10 and 3, run in GIMP without a display."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zdce

ROOT = Path(__file__).resolve().parents[2]
DARK = ROOT / "docs" / "dark.jpg"


def version():
    """The number before the first point of the installed GIMP's version, or 0."""
    if shutil.which("gimp-console") is None:
        return 0
    told = subprocess.run(["gimp-console", "--version"], capture_output=True, text=True, timeout=60, check=False).stdout
    return int(told.split()[-1].split(".")[0])


VERSION = version()


@pytest.fixture
def photo(tmp_path):
    """A dark photograph without loss, and a corner that is partly transparent."""
    pixels = np.dstack(
        [np.asarray(Image.open(DARK).convert("RGB").crop((100, 100, 260, 220))), np.full((120, 160), 255, np.uint8)]
    )
    pixels[:20, :20, 3] = 128
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return pixels


def run(folder, plug_in, *scripts, interpreter=""):
    """What GIMP prints, which loads this plug-in alone among a user's and runs the scripts one after the other."""
    (folder / "profile" / "plug-ins").mkdir(parents=True, exist_ok=True)
    destination = (
        folder / "profile" / "plug-ins" / plug_in.relative_to(ROOT / "integrations" / plug_in.parts[-2 if VERSION < 3 else -3])
    )
    destination.parent.mkdir(exist_ok=True)
    # GIMP 3 runs it with a Python that knows zdce.
    first, _, rest = plug_in.read_text().partition("\n")
    destination.write_text(f"#!{sys.executable}\n{rest}" if VERSION >= 3 else f"{first}\n{rest}")
    destination.chmod(0o755)
    (folder / "zdce").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m zdce "$@"\n')
    (folder / "zdce").chmod(0o755)
    environment = os.environ | {
        "HOME": str(folder), "GIMP2_DIRECTORY": str(folder / "profile"), "GIMP3_DIRECTORY": str(folder / "profile"),
        "ZDCE": str(folder / "zdce"), "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    command = ["gimp-console", "-i", "-d", "-f", *([f"--batch-interpreter={interpreter}"] if interpreter else [])]
    command += [word for script in scripts for word in ("-b", script)]
    end = ["--quit"] if VERSION >= 3 else ["-b", "(gimp-quit 0)"]
    ran = subprocess.run(
        [*command, *end], cwd=folder, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    return ran.stdout + ran.stderr


def in_two(folder, options, result):
    """A script for GIMP 2.10 that saves the layer which the plug-in adds."""
    return f"""(let*
        ((image (car (gimp-file-load RUN-NONINTERACTIVE "{folder}/photo.png" "photo.png")))
         (layer (car (gimp-image-get-active-layer image))))
      (gimp-layer-set-offsets layer 7 5)
      (plug-in-zdce-enhance RUN-NONINTERACTIVE image layer "{options}")
      (let* ((top (car (gimp-image-get-active-layer image))))
        (gimp-message (string-append "layers " (number->string (car (gimp-image-get-layers image))) " at "
          (number->string (car (gimp-drawable-offsets top))) " " (number->string (cadr (gimp-drawable-offsets top)))))
        (file-png-save RUN-NONINTERACTIVE image top "{folder}/{result}" "{result}" 0 9 0 0 0 0 0)))"""


@pytest.mark.skipif(VERSION != 2, reason="GIMP 2.10 is not installed")
def test_gimp_2_shows_what_the_command_refuses_and_adds_what_it_makes_as_a_layer(tmp_path, photo):
    scripts = in_two(tmp_path, "--strength much", "refused.png"), in_two(tmp_path, "--strength 0.8 --noise 0", "result.png")
    told = run(tmp_path, ROOT / "integrations" / "gimp-2.10" / "zdce_layer.py", *scripts)
    assert "zdce: Usage: zdce enhance" in told
    assert "Invalid value for '--strength'" in told
    assert not (tmp_path / "refused.png").exists()
    assert "layers 2 at 7 5" in told
    result = np.asarray(Image.open(tmp_path / "result.png"))
    assert np.array_equal(result, zdce.enhance(photo, strength=0.8, noise=0))


needs_gimp_3 = pytest.mark.skipif(
    VERSION < 3 or importlib.util.find_spec("gi") is None, reason="GIMP 3 and PyGObject are not installed"
)


def in_three(folder, settings, before=""):
    return run(folder, ROOT / "integrations" / "gimp" / "zdce_enhance" / "zdce_enhance.py", f"""(let*
        ((image (car (gimp-file-load RUN-NONINTERACTIVE "{folder}/photo.png")))
         (layers (car (gimp-image-get-layers image))))
      {before}
      (plug-in-zdce-enhance #:run-mode RUN-NONINTERACTIVE #:image image #:drawables layers {settings})
      (file-png-export #:run-mode RUN-NONINTERACTIVE #:image image #:file "{folder}/result.png"))""",
        interpreter="plug-in-script-fu-eval")  # fmt: skip


@needs_gimp_3
def test_gimp_3_brightens_a_layer_and_keeps_its_opacity(tmp_path, photo):
    told = in_three(tmp_path, "#:strength 0.8 #:noise 0.0")
    assert "executed successfully" in told, told
    result, expected = np.asarray(Image.open(tmp_path / "result.png")), zdce.enhance(photo, strength=0.8, noise=0)
    assert np.array_equal(result[..., 3], photo[..., 3])
    assert np.abs(result.astype(int) - expected).max() <= 1  # floating point in between
    assert result[..., :3].mean() > 2 * photo[..., :3].mean()


@needs_gimp_3
def test_gimp_3_brightens_what_is_selected_in_16_bits(tmp_path, photo):
    before = """(gimp-image-convert-precision image PRECISION-U16-NON-LINEAR)
      (gimp-image-select-rectangle image CHANNEL-OP-REPLACE 80 0 80 120)"""
    told = in_three(tmp_path, "#:noise 0.0", before)
    assert "executed successfully" in told, told
    with Image.open(tmp_path / "result.png") as file:
        result = np.asarray(file.convert("RGBA"))
    assert np.abs(result[:, :80].astype(int) - photo[:, :80]).max() <= 1
    assert result[:, 80:, :3].mean() > 2 * photo[:, 80:, :3].mean()


@needs_gimp_3
def test_gimp_3_leaves_lit_layers_as_they_are_where_that_is_asked_for(tmp_path):
    lit = np.random.default_rng(0).integers(120, 200, (40, 60, 3), np.uint8)
    Image.fromarray(lit).save(tmp_path / "photo.png")
    told = in_three(tmp_path, "#:only-if-dark TRUE")
    assert "executed successfully" in told, told
    assert np.array_equal(np.asarray(Image.open(tmp_path / "result.png").convert("RGB")), lit)
