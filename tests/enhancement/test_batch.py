"""`zdce enhance` on real files: paths of results, existing results, and broken files."""

import ctypes
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import ExifTags, Image

import zdce
from runs import contents, enhance, no_file_grows_past, wait_for, zdce_after
from zdce import cli, settings
from zdce.enhancement import colour
from zdce.io import images
from zdce.models.engine import computed_precision


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for name in ("a.jpg", "in/b.png", "in/deep/c.webp", "in/deep/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 60, (30, 40, 3), np.uint8)).save(tmp_path / name)
    return tmp_path


def test_one_photo(model, photos):
    before = contents(photos)
    result = enhance(model, "a.jpg", "-o", "out.jpg")
    assert result.exit_code == 0
    after = contents(photos)
    assert set(after) - set(before) == {"out.jpg"}
    assert all(after[name] == before[name] for name in before)
    with Image.open(photos / "a.jpg") as dark, Image.open(photos / "out.jpg") as bright:
        assert bright.size == dark.size
        assert np.mean(bright) > 1.5 * np.mean(dark)
        assert bright.format == "JPEG"


def test_what_pillow_warns_of_is_not_shown(model, photos):
    # EXIF of five tags that ends before the first; a warning is an error in tests.
    Image.fromarray(np.full((8, 8, 3), 9, np.uint8)).save("odd.png", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\x0f")
    result = enhance(model, "odd.png")
    assert (result.exit_code, result.stdout) == (0, "1 written\nodd-enhanced.png\n"), result.stderr


def test_what_tifffile_says_of_a_tag_is_not_shown(model, photos):
    tifffile = pytest.importorskip("tifffile", reason="the extra `formats` is not installed")
    tifffile.imwrite("whole.tif", np.full((8, 8, 3), 900, np.uint16), photometric="rgb", resolution=(72, 72), metadata=None)
    whole = (photos / "whole.tif").read_bytes()
    at = whole.index(struct.pack("<HHI", 282, 5, 1)) + 8  # where the place of the resolution stands
    (photos / "odd.tif").write_bytes(whole[:at] + struct.pack("<I", 1 << 30) + whole[at + 4 :])
    command = [sys.executable, "-m", "zdce", "enhance", "-m", str(model), "odd.tif"]
    done = subprocess.run(command, cwd=photos, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 written\nodd-enhanced.tif\n", "")


@pytest.mark.parametrize(
    ("arguments", "results"),
    [
        (["a.jpg"], {"a-enhanced.jpg"}),
        (["in"], {"in-enhanced/b.png", "in-enhanced/deep/c.webp", "in-enhanced/deep/b.png"}),
        (["in", "a.jpg", "-o", "out"], {"out/b.png", "out/deep/c.webp", "out/deep/b.png", "out/a.jpg"}),
        (["in/**/*.webp", "-o", "out"], {"out/c.webp"}),
        (["a.jpg", "-o", "out"], {"out/a.jpg"}),
        (["a.jpg", "-o", "out/new.png"], {"out/new.png"}),
        (["in", "-o", "out.png/"], {"out.png/b.png", "out.png/deep/c.webp", "out.png/deep/b.png"}),
        (["in", "-o", "in/bright"], {"in/bright/b.png", "in/bright/deep/c.webp", "in/bright/deep/b.png"}),
    ],
)
def test_where_results_go(model, photos, arguments, results):
    before = contents(photos)
    assert enhance(model, *arguments).exit_code == 0
    assert set(contents(photos)) - set(before) == results
    # Once more: the results are no inputs, and stay as they are.
    once = contents(photos)
    again = enhance(model, *arguments)
    assert again.exit_code == 0
    assert f"{len(results)} kept as they were" in again.stdout
    assert contents(photos) == once


def test_results_are_replaced_only_when_told(model, photos):
    (photos / "out.jpg").write_bytes(b"mine")
    assert enhance(model, "a.jpg", "-o", "out.jpg").exit_code == 0
    assert (photos / "out.jpg").read_bytes() == b"mine"
    assert enhance(model, "a.jpg", "-o", "out.jpg", "--overwrite").exit_code == 0
    with Image.open(photos / "out.jpg") as image:
        assert image.size == (40, 30)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["", "-o", "out"], "no such file or folder: ''"),
        (["a.jpg", "-o", ""], "output must be the name of a file or a folder, got ''"),
        (["a.jpg", "-o", "a.jpg"], "a.jpg would replace an input"),
        (["in/b.png", "-o", "in"], "in/b.png would replace an input"),
        (["in/b.png", "in/deep/b.png", "-o", "out"], "in/b.png and in/deep/b.png would both become out/b.png"),
        (["none.jpg"], "no such file or folder: none.jpg"),
        (["in", "-o", "a.jpg"], "a.jpg is a file, where a folder is expected for results"),
        (["in/b.png", "-o", "b.gif"], "b.gif: expected a folder (end its name in /) or one of the formats .avif, .bmp,"),
        (["in/b.png", "-o", "b.jxl"], "b.jxl: expected a folder (end its name in /) or one of the formats .avif, .bmp,"),
        (["in/b.png", "-o", "b.txt"], "b.txt: expected a folder (end its name in /) or one of the formats .avif, .bmp,"),
        (["in", "-o", "night.v2"], "night.v2: expected a folder (end its name in /) or one of the formats .avif, .bmp,"),
        (["in/b.png", "a.jpg", "-o", "o.png"], "o.png is a file's name (end it in /), where a folder is expected for results"),
        (["in", "-o", "o.png"], "o.png is a file's name (end it in /), where a folder is expected for results"),
        (["in/b.png", "-o", "b.DNG"], "b.DNG: expected a folder (end its name in /) or one of the formats .avif, .bmp,"),
        (["a.jpg", "--model", "none"], "no weights at none"),
    ],
)
def test_mistakes_are_one_line_and_touch_nothing(model, photos, arguments, message):
    before = contents(photos)
    result = enhance(model, *arguments, "--overwrite")
    assert result.exit_code == 1
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert contents(photos) == before


def test_results_of_a_former_run_that_the_shell_names_too_are_no_inputs(model, photos):
    assert enhance(model, *sorted(os.listdir())).exit_code == 0
    once = contents(photos)
    again = enhance(model, *sorted(os.listdir()))
    assert (again.exit_code, again.stdout) == (0, "4 kept as they were (--overwrite replaces them)\n")
    passed_over = "a-enhanced.jpg, in-enhanced/b.png, in-enhanced/deep/b.png, in-enhanced/deep/c.webp"
    assert again.stderr == f"skipped {passed_over}: results of other inputs\n"
    assert contents(photos) == once


def test_results_of_single_files_are_no_inputs_when_their_folder_is(model, tmp_path, photos):
    folder = tmp_path / "trip"
    folder.mkdir()
    (folder / "a.jpg").write_bytes((photos / "a.jpg").read_bytes())
    (folder / "b-enhanced.jpg").write_bytes((photos / "a.jpg").read_bytes())  # nobody's result
    assert enhance(model, folder / "a.jpg").exit_code == 0
    (folder / "a-enhanced.webp").write_bytes(b"of an earlier run with --format webp")
    for names in ([folder], [folder, "--overwrite"]):
        result = enhance(model, *names)
        assert result.exit_code == 0
        assert result.stderr.count("skipped ") == 1
        assert "a-enhanced.jpg" in result.stderr
        assert "results of other inputs" in result.stderr
        assert sorted(path.name for path in (tmp_path / "trip-enhanced").iterdir()) == ["a.jpg", "b-enhanced.jpg"]


@pytest.mark.parametrize(
    "names", [["a.jpg", "a-enhanced.jpg"], ["./a-enhanced.jpg", "*.jpg"], ["a-enhanced.jpg", "a.jpg", "."]], ids=" ".join
)
def test_a_named_input_is_never_replaced(model, photos, names):
    (photos / "a-enhanced.jpg").write_bytes((photos / "a.jpg").read_bytes())
    before = contents(photos)
    for options in (["--overwrite"], ["--overwrite", "--dry-run"]):
        result = enhance(model, *names, *options)
        message = "Error: a.jpg: its result a-enhanced.jpg would replace an input; choose another output\n"
        assert (result.exit_code, result.stdout, result.stderr) == (1, "", message)
    kept = enhance(model, *names[:2])
    assert (kept.exit_code, kept.stdout) == (0, "1 kept as they were (--overwrite replaces them)\n")
    assert kept.stderr == "skipped a-enhanced.jpg: results of other inputs\n"
    assert contents(photos) == before


def test_results_that_a_pattern_or_a_folder_finds_are_replaced_where_asked_for(model, photos):
    for names in (["*.jpg"], ["a.jpg", "."]):
        assert enhance(model, *names).exit_code == 0
        (photos / "a-enhanced.jpg").write_bytes(b"old")
        assert enhance(model, *names, "--overwrite").exit_code == 0
        with Image.open(photos / "a-enhanced.jpg") as image:
            assert image.size == (40, 30)


def without_privileges():
    """Before a process begins: root reads what others may not, unless it gives that up."""
    drop = ctypes.CDLL(None, use_errno=True).prctl
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        drop(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


def test_folders_and_links_that_can_not_be_read_are_named_and_the_rest_is_done(model, photos):
    if not sys.platform.startswith("linux"):
        pytest.skip("how root gives up its privileges differs elsewhere")
    (photos / "in" / "lost.jpg").symlink_to("nowhere.jpg")
    (photos / "in" / ".Trash").mkdir(0)
    (photos / "in" / "deep").chmod(0)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "zdce", "enhance", "-m", str(model), "in", "-o", "out"],
            cwd=photos, capture_output=True, text=True, check=False, preexec_fn=without_privileges,
        )  # fmt: skip
    finally:
        (photos / "in" / "deep").chmod(0o755)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line]
    assert lines == ["skipped in/deep: Permission denied", "skipped in/lost.jpg: No such file or directory"]
    assert done.stdout == "1 written, 2 failed\n"
    assert sorted(contents(photos / "out")) == ["b.png"]


def test_an_empty_folder_is_a_mistake(model, photos):
    (photos / "empty").mkdir()
    assert "no pictures found" in enhance(model, "empty").stderr


def test_pictures_that_lie_where_results_would_go_are_a_mistake(model, photos):
    before = contents(photos)
    result = enhance(model, "in", "-o", "in")
    assert result.exit_code == 1
    assert "all pictures found lie in in, where results would go" in result.stderr
    assert contents(photos) == before


@pytest.mark.parametrize("take", [torch.empty, np.empty])
def test_a_picture_that_memory_can_not_hold_is_named_and_the_rest_is_done(model, photos, monkeypatch, take):
    of_colours = colour.enhance

    def greedy(picture, *arguments, **options):
        if picture.format == "WEBP":
            take(1 << 50)
        return of_colours(picture, *arguments, **options)

    monkeypatch.setattr(colour, "enhance", greedy)
    result = enhance(model, "in", "-o", "out")
    assert result.exit_code == 1
    assert "skipped in/deep/c.webp: there is not enough memory for it" in result.stderr
    assert "2 written, 1 failed" in result.stdout


def test_a_file_that_memory_can_not_hold_is_named(model, photos, monkeypatch):
    def greedy(self):
        raise MemoryError

    monkeypatch.setattr("PIL.WebPImagePlugin.WebPImageFile.load", greedy)
    assert "skipped in/deep/c.webp: there is not enough memory for it" in enhance(model, "in", "-o", "out").stderr


def test_bfloat16_is_nearly_float32(model, photos):
    results = {}
    for precision in ("fp32", "bf16"):
        enhance(model, "in/b.png", "-o", f"{precision}.png", "--precision", precision)
        with Image.open(f"{precision}.png") as file:
            results[precision] = np.asarray(file).astype(int)
    distance = np.abs(results["bf16"] - results["fp32"])
    assert (distance.max() > 0) == (computed_precision("bf16") == "bf16")
    assert distance.max() <= 4
    assert distance.mean() < 1


def test_broken_files_are_named_and_the_rest_is_done(model, photos):
    (photos / "in" / "cut.png").write_bytes((photos / "in" / "b.png").read_bytes()[:500])
    (photos / "in" / "text.jpg").write_text("hello")
    result = enhance(model, "in", "-o", "out")
    assert result.exit_code == 1
    assert set(contents(photos / "out")) == {"b.png", "deep/c.webp", "deep/b.png"}
    assert "3 written, 2 failed" in result.stdout
    lines = [line for line in result.stderr.splitlines() if line.startswith("skipped")]
    assert [name in line for name, line in zip(("in/cut.png", "in/text.jpg"), lines, strict=True)] == [True, True]


def test_a_picture_that_its_result_can_not_hold_is_named(model, photos):
    Image.new("RGBA", (8, 8), (20, 20, 20, 99)).save(photos / "in" / "wrong.jpg", "PNG")
    unknown = struct.pack(">I4s4B", 4, b"cICP", 200, 1, 0, 1)
    plain = (photos / "in" / "b.png").read_bytes()  # the chunk comes behind the header, of 33 bytes
    (photos / "in" / "odd.png").write_bytes(plain[:33] + unknown + zlib.crc32(unknown[4:]).to_bytes(4) + plain[33:])
    result = enhance(model, "in", "-o", "out")
    assert (result.exit_code, result.stdout) == (1, "3 written, 2 failed\n")
    assert sorted(result.stderr.splitlines()) == [
        "skipped in/odd.png: expected colours that are known, got code points 200 and 1 of ITU-T H.273",
        "skipped in/wrong.jpg: out/wrong.jpg: JPEG can't hold transparency; choose .png, .webp or .tiff",
    ]


def test_metadata_is_kept(model, photos):
    exif = Image.Exif()
    exif[ExifTags.Base.Model] = "DCE-1"
    exif[ExifTags.Base.Orientation] = 6
    with Image.open(photos / "a.jpg") as image:
        image.save(photos / "turned.jpg", exif=exif, icc_profile=b"profile")
    assert enhance(model, "turned.jpg", "-o", "out.jpg").exit_code == 0
    with Image.open(photos / "out.jpg") as result:
        assert result.size == (30, 40)
        assert result.getexif()[ExifTags.Base.Model] == "DCE-1"
        assert result.info["icc_profile"] == b"profile"


def test_quality(model, photos):
    sizes = []
    for quality in ("20", "95"):
        enhance(model, "a.jpg", "-o", f"{quality}.jpg", "--quality", quality, "--subsampling", "4:4:4")
        sizes.append((photos / f"{quality}.jpg").stat().st_size)
    assert sizes[0] < sizes[1] / 2


def test_fast_is_a_scale(model, photos):
    scale = settings.FAST_SCALE
    for name, options in (("fast.png", ["--fast"]), ("scale.png", ["--scale", scale]), ("exact.png", [])):
        assert enhance(model, "in/b.png", "-o", name, *options).exit_code == 0
    fast, same, exact = ((photos / name).read_bytes() for name in ("fast.png", "scale.png", "exact.png"))
    assert fast == same != exact
    both = enhance(model, "in/b.png", "--fast", "--scale", "2")
    assert both.exit_code == 2
    assert "--fast and --scale exclude each other" in both.stderr


def test_strength_0_gives_the_picture_back(model, photos):
    enhance(model, "in/b.png", "-o", "same.png", "--strength", "0")
    assert np.array_equal(np.asarray(Image.open(photos / "same.png")), np.asarray(Image.open(photos / "in" / "b.png")))


def test_a_full_disk_is_named_and_leaves_nothing_half_written(model, photos, monkeypatch):
    def full(self, target):
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr("pathlib.Path.replace", full)
    result = enhance(model, "a.jpg", "-o", "out.jpg")
    assert result.exit_code == 1
    assert "skipped out.jpg: No space left on device" in result.stderr
    assert "a.jpg" in contents(photos)
    assert not [name for name in contents(photos) if "out" in name]


@pytest.mark.parametrize("command", ["enhance", "train"])
def test_a_disk_that_takes_no_more_is_one_line_with_the_files_name(model, photos, command):
    # A run's config.toml, its first file, is smaller.
    most = {"enhance": 600, "train": 20_000}[command]
    arguments = {
        "enhance": ["-m", str(model), "a.jpg", "-o", "out.jpg", "--quality", "100"],
        "train": ["--epochs", "1", "--size", "16", "--out", "out.jpg"],
    }[command]
    with no_file_grows_past(most):
        done = CliRunner().invoke(cli.main, [command, *arguments], catch_exceptions=False)
    assert done.exit_code == 1
    named = {"enhance": "skipped out.jpg: File too large", "train": "state.safetensors: File too large"}[command]
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert not (photos / "out.jpg").is_file()
    assert not [name for name in contents(photos) if "/." in f"/{name}"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
def test_a_signal_leaves_whole_files_only(model, photos, number):
    # Large enough that the signal comes long before the last one.
    Image.fromarray(np.full((600, 800, 3), 20, np.uint8)).save(photos / "large.jpg")
    for i in range(200):
        os.link(photos / "large.jpg", photos / "in" / f"{i:03d}.jpg")
    process = subprocess.Popen(
        [sys.executable, "-m", "zdce", "enhance", "-m", str(model), "in", "-o", "out"],
        cwd=photos, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(process, lambda: (photos / "out").is_dir() and len(os.listdir(photos / "out")) >= 3)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert errors.splitlines()[-1].startswith("stopped; all written files are complete")
    assert "Traceback" not in errors
    written = contents(photos / "out")
    assert 0 < len(written) < 203
    assert not [name for name in written if "/." in f"/{name}"]
    for name in written:
        with Image.open(photos / "out" / name) as image:
            image.load()


def test_repeated_signals_leave_whole_files_only(model, photos):
    """While the threads of --jobs finish their files, for which the disk takes half a second here."""
    slow = "import os, time\nfsync = os.fsync\nos.fsync = lambda descriptor: (time.sleep(0.5), fsync(descriptor))"
    process = subprocess.Popen(
        zdce_after(slow, "enhance", "-m", model, "in", "-o", "out", "--jobs", "2"),
        cwd=photos, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(process, lambda: any("/." in f"/{name}" for name in contents(photos)))
    for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM, signal.SIGINT):
        process.send_signal(number)
        time.sleep(0.05)
    told, errors = process.communicate(timeout=60)
    assert (process.returncode, told, len(errors.splitlines())) == (130, "", 1)
    assert not [name for name in contents(photos) if "/." in f"/{name}"]


def test_a_real_dark_photo_gets_bright(model, data_folder, tmp_path):
    result = enhance(model, data_folder / "dicm" / "01.jpg", "-o", tmp_path / "bright.jpg")
    assert result.exit_code == 0
    with Image.open(data_folder / "dicm" / "01.jpg") as before, Image.open(tmp_path / "bright.jpg") as after:
        assert after.size == before.size
        assert np.mean(after) > np.mean(before) + 20
        assert after.getexif()[ExifTags.Base.Make] == before.getexif()[ExifTags.Base.Make]


def test_nothing_that_lies_in_a_folder_stops_the_rest(model, photos):
    (photos / "in" / "self.jpg").symlink_to("self.jpg")
    (photos / "in" / "gone.png").symlink_to("nowhere.png")
    (photos / "in" / "round.png").symlink_to("there.png")
    (photos / "in" / "there.png").symlink_to("round.png")
    (photos / "in" / "above").symlink_to(photos)
    os.mkfifo(photos / "in" / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("in/socket.png")
        result = enhance(model, "in", "-o", "out/")
    assert (result.exit_code, result.stdout) == (1, "3 written, 4 failed\n")
    for name in ("self.jpg", "gone.png", "round.png", "there.png"):
        assert f"in/{name}: " in result.stderr
    for options in ([], ["-o", "one.png"]):
        assert "self.jpg: Too many levels of symbolic links" in enhance(model, "in/self.jpg", *options).stderr


@pytest.mark.parametrize("name", ["holiday.jpg", "holiday.eps", "holiday.png"])
def test_postscript_starts_no_other_program(model, photos, monkeypatch, name):
    head = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 60 40\n%%EndComments\n0 0 60 40 rectfill\nshowpage\n"
    (photos / name).write_text(head)
    monkeypatch.setattr(subprocess, "Popen", None)
    assert "not a picture that can be read" in enhance(model, name).stderr
    with pytest.raises(OSError, match="not a picture that can be read"):
        zdce.enhance(name, output="bright.png")


def test_every_error_names_the_file(model, photos, monkeypatch):
    monkeypatch.setenv("ZDCE_BACKEND", "cuda")
    result = enhance(model, "a.jpg", "-o", "out.jpg")
    assert result.exit_code == 1
    assert result.stderr.startswith("skipped a.jpg: backend 'cuda' was asked for but can't run")


def test_what_is_left_out_stands_in_the_manifest(model, photos):
    first = Image.new("RGB", (32, 32), (20, 20, 20))
    first.save("two.jpg", "MPO", save_all=True, append_images=[first])
    result = enhance(model, "two.jpg", "-o", "out.jpg", "--manifest", "all.csv")
    assert "out.jpg: further picture left out" in result.stderr
    assert "two.jpg,out.jpg,written,further picture left out" in (photos / "all.csv").read_text()


@pytest.mark.parametrize(("suffix", "most"), [("jpg", 65500), ("webp", 16383), ("heic", 65536)])
def test_a_format_without_room_is_told_before_the_work(model, photos, monkeypatch, suffix, most):
    Image.new("1", (most + 1, 1)).save("wide.png")
    monkeypatch.setattr(zdce.Enhancer, "__call__", None)
    result = enhance(model, "wide.png", "-o", f"wide.{suffix}")
    assert result.exit_code == 1
    assert f"{most + 1} x 1 pixels can't be written as" in result.stderr.replace("\n", " ")


def test_a_heic_of_200_megapixels_is_told_before_the_work(photos):
    picture = images.Picture(np.broadcast_to(np.uint8(0), (12288, 16384, 3)))
    with pytest.raises(ValueError, match="16384 x 12288 pixels can't be written as HEIF: it holds 65536 a side and 142606336"):
        images.check(picture, photos / "a.heic")
