"""`zdce enhance --watch` in a real process: files that arrive, incomplete files, and restarts."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from runs import zdce_after
from zdce import cli
from zdce.enhancement import watching

DARK = Path(__file__).resolve().parents[2] / "docs" / "dark.jpg"

pytest.importorskip("watchfiles", reason="the extra `watch` is not installed")


def until(condition, process):
    """Waits for a condition, or for the process to end."""
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def watch(*arguments):
    """The process, for which a file is complete after a fifth of a second."""
    code = "from zdce.enhancement import watching\nwatching.SETTLED, watching._TICK = 0.2, 50"
    command = zdce_after(code, "enhance", "--watch", "in", "-o", "out", *arguments)
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_what_arrives_is_brightened_and_what_came_meanwhile_after_a_restart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = DARK.read_bytes()
    Path("in").mkdir()
    shutil.copy(DARK, "in/first.jpg")
    process = watch("--manifest", "all.csv")
    try:
        until(Path("out/first.jpg").exists, process)
        # Half of a file, which stands still for longer than a whole one has to.
        with Path("in/.slow").open("wb") as slow:
            slow.write(data[:9000])
            slow.flush()
            Path("in/.slow").rename("in/slow.jpg")
            until(lambda: "in/slow.jpg,out/slow.jpg,failed" in Path("all.csv").read_text(), process)
            assert not Path("out/slow.jpg").exists()
            slow.write(data[9000:])
        Path("in/deep").mkdir()
        Path("in/deep/.part").write_bytes(data)
        Path("in/deep/.part").rename("in/deep/renamed.jpg")
        until(lambda: Path("out/slow.jpg").exists() and Path("out/deep/renamed.jpg").exists(), process)
        process.send_signal(signal.SIGTERM)
        told, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 1  # one was broken when it was looked at
    lines = told.splitlines()
    assert (lines[0], lines[-1]) == ("in/first.jpg -> out/first.jpg", "3 written, 1 failed")
    assert sorted(lines[1:-1]) == ["in/deep/renamed.jpg -> out/deep/renamed.jpg", "in/slow.jpg -> out/slow.jpg"]
    assert "skipped in/slow.jpg: image file is truncated" in errors
    assert "Traceback" not in errors
    assert Path("out/first.jpg").read_bytes() == Path("out/slow.jpg").read_bytes()
    with Image.open("out/first.jpg") as bright, Image.open(DARK) as dark:
        assert np.mean(bright) > 2 * np.mean(dark)

    shutil.copy(DARK, "in/meanwhile.jpg")
    process = watch("--manifest", "all.csv")
    try:
        until(Path("out/meanwhile.jpg").exists, process)
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    summary = "1 written, 3 kept as they were (--overwrite replaces them)"
    assert (process.returncode, told) == (0, f"in/meanwhile.jpg -> out/meanwhile.jpg\n{summary}\n")
    rows = sorted(line.split(",")[0:3:2] for line in Path("all.csv").read_text().splitlines()[1:])
    assert [name for name, status in rows if status == "written"] == [
        "in/deep/renamed.jpg", "in/first.jpg", "in/meanwhile.jpg", "in/slow.jpg",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["in", "-o", "in"], 1, "results would go into in, which is watched; choose another output"),
        (["in/a.jpg"], 2, "--watch expects folders, got in/a.jpg"),
        (["in", "--dry-run"], 2, "--watch and --dry-run exclude each other"),
        (["in", "-o", "out", "--format", "png"], 1, "in/a.jpg and in/a.webp would both become out/a.png"),
    ],
)
def test_mistakes_are_told_before_anything_is_watched(tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    for name in ("in/a.jpg", "in/a.webp"):
        Image.new("RGB", (8, 8)).save(name)
    result = CliRunner().invoke(cli.main, ["enhance", "--watch", *arguments], catch_exceptions=False)
    assert (result.exit_code, message in result.stderr) == (code, True)


def arrivals(tmp_path, **options):
    return watching.Arrivals([tmp_path], frozenset({".jpg"}), **{"recursive": True, **options})


def names(found):
    return [each.place.as_posix() for each in found]


def test_a_file_counts_once_it_has_stayed_the_same(tmp_path):
    seen = arrivals(tmp_path)
    path = tmp_path / "a.jpg"
    path.write_bytes(b"1")
    seen.search(0.0)
    assert seen.whole(watching.SETTLED / 2) == []
    path.write_bytes(b"12")
    assert seen.whole(watching.SETTLED) == []
    assert names(seen.whole(2 * watching.SETTLED)) == ["a.jpg"]
    # Found again it is no news; changed it is.
    seen.search(10.0)
    assert seen.whole(20.0) == []
    path.write_bytes(b"123")
    seen.note([path], 30.0)
    assert names(seen.whole(40.0)) == ["a.jpg"]
    path.write_bytes(b"1234")
    seen.note([path], 50.0)
    path.unlink()
    assert seen.whole(60.0) == []


def test_hidden_files_other_suffixes_and_deep_folders_do_not_count(tmp_path):
    paths = [tmp_path / name for name in (".a.jpg", ".b/c.jpg", "d.txt", "e/f.jpg", "g.JPG")]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"1")
    for recursive, expected in ((True, ["e/f.jpg", "g.JPG"]), (False, ["g.JPG"])):
        for look in ("search", "note"):
            seen = arrivals(tmp_path, recursive=recursive)
            if look == "search":
                seen.search(0.0)
            else:
                seen.note(paths, 0.0)
            assert names(seen.whole(9.0)) == expected


def test_pipes_and_folders_with_names_of_pictures_do_not_count(tmp_path):
    paths = [tmp_path / name for name in ("folder.jpg", "pipe.jpg", "real.jpg")]
    paths[0].mkdir()
    os.mkfifo(paths[1])
    paths[2].write_bytes(b"1")
    seen = arrivals(tmp_path)
    seen.note(paths, 0.0)
    assert names(seen.whole(9.0)) == ["real.jpg"]
    # A file in whose place a pipe comes, before it is complete.
    seen.note([tmp_path / "turned.jpg"], 10.0)
    (tmp_path / "turned.jpg").write_bytes(b"1")
    seen.note([tmp_path / "turned.jpg"], 10.0)
    (tmp_path / "turned.jpg").unlink()
    os.mkfifo(tmp_path / "turned.jpg")
    assert seen.whole(20.0) == []


def test_a_watched_folder_that_goes_is_named(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    seen = arrivals(folder)
    folder.rmdir()
    with pytest.raises(OSError, match="in: this folder is gone"):
        seen.search(0.0)
