"""Training and enhancement in several processes: results of a single process, and killed processes."""

import csv
import os
import shutil
from collections import Counter

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import forked
import torchrun
import zdce
from runs import run, wait_for
from zdce import cli, training
from zdce.errors import InputError
from zdce.runtime import processes
from zdce.runtime.processes import RankLostError, Ranks, raising_rank_lost

SMALL = ["--size", "32", "--lr", "0.001", "--variant", "iters4"]
EVERYTHING = ["--batch-size", "2", "--accumulate", "2", "--augment", "crops", "--clip", "0.5", "--ema", "0.9"]


def losses(folder):
    """Epochs and both splits' losses in a run's log, (rows, 6)."""
    with (folder / "log.csv").open(newline="") as file:
        rows = [[float(row[name]) for name in ("epoch", *zdce.ops.losses.Objective._fields)] for row in csv.DictReader(file)]
    return np.array(rows)


def assert_same_to_rounding(one, other):
    # The same sums of float32 numbers in another order; Adam divides a gradient by its size, so that small ones count as much.
    np.testing.assert_allclose(losses(one), losses(other), rtol=1e-5)
    weights, others = (zdce.load(folder / "last.safetensors").state_dict() for folder in (one, other))
    for name, weight in weights.items():
        torch.testing.assert_close(weight, others[name], atol=1e-5, rtol=0)


@pytest.fixture(scope="module")
def alone_and_together(dark, tmp_path_factory):
    """Runs of two epochs with the same settings, in this process and in two others."""
    folder = tmp_path_factory.mktemp("runs")
    alone, together = folder / "alone", folder / "together"
    arguments = ["--data", dark, "--epochs", 2, *SMALL, *EVERYTHING, "--out"]
    process = torchrun.start(2, "train", *arguments, together)
    assert run(*arguments, alone).exit_code == 0
    said, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert said == f"weights: {together / 'last.safetensors'}\n"
    assert errors.count("epoch 2/2") == 1
    return alone, together


def test_two_processes_train_as_one(alone_and_together):
    alone, together = alone_and_together
    assert_same_to_rounding(alone, together)
    assert {path.name for path in alone.iterdir()} == {path.name for path in together.iterdir()}


def test_another_number_of_processes_goes_on(alone_and_together, tmp_path):
    folders = [shutil.copytree(folder, tmp_path / folder.name) for folder in alone_and_together]
    for folder in folders:
        assert run("--out", folder, "--resume", "--epochs", 3).exit_code == 0
    assert len(losses(folders[0])) == 6
    assert_same_to_rounding(*folders)


def test_a_killed_process_ends_training_with_one_line(dark, tmp_path):
    arguments = ["--data", dark, *SMALL, "--batch-size", 4, "--out"]
    first, second = forked.ranks(2, "train", "--epochs", 10_000, *arguments, tmp_path / "run")
    log = tmp_path / "run" / "log.csv"
    wait_for(first, lambda: log.exists() and len(losses(log.parent)) >= 4)
    second.kill()
    _, errors = first.communicate()
    assert first.returncode == 1
    assert errors.count("another process of this job ended") == 1
    assert f"zdce train --out {tmp_path / 'run'} --resume" in errors
    assert "zdce/" not in errors  # no traceback of ours
    done = len(losses(log.parent)) // 2
    assert run("--out", log.parent, "--resume", "--epochs", done + 1).exit_code == 0
    assert len(losses(log.parent)) == 2 * done + 2
    assert run("--epochs", 2, *arguments, tmp_path / "alone").exit_code == 0
    np.testing.assert_allclose(losses(log.parent)[:4], losses(tmp_path / "alone"), rtol=1e-5)


def test_a_batch_that_cannot_be_shared_out_is_a_mistake(tmp_path):
    with pytest.raises(ValueError, match="batch_size must be a multiple of the 2 processes, got 3"):
        training.Run.start(training.Config(batch_size=3), tmp_path / "run", Ranks(0, 2))
    assert not (tmp_path / "run").exists()


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A hundred pictures, the eighth one broken, and a network."""
    monkeypatch.chdir(tmp_path)
    zdce.DCENet("iters4").save("net.safetensors")
    (tmp_path / "in").mkdir()
    Image.fromarray(np.full((300, 400, 3), 20, np.uint8)).save("in/000.png")
    for i in range(1, 100):
        os.link("in/000.png", f"in/{i:03d}.png")
    os.unlink("in/007.png")
    (tmp_path / "in/007.png").write_text("broken")
    return tmp_path


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# The second process ends itself: after its sixth picture, when the manifest has twelve rows.
_KILLED = """
import os, signal, time
from zdce.enhancement import batch
do, done = batch.do, []
def do_six(*arguments):
    outcome = do(*arguments)
    done.append(outcome)
    if os.environ["RANK"] == "1" and len(done) == 6:
        while len(open("manifest.csv").readlines()) <= 12:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
    return outcome
batch.do = do_six
"""


def test_enhancement_in_two_processes_goes_on_after_one_is_killed(photos):
    manifest = photos / "manifest.csv"
    arguments = ["enhance", "in", "-m", "net.safetensors", "-o", "out", "--manifest", "manifest.csv"]
    process = torchrun.start(2, *arguments, code=_KILLED)
    said, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert errors.count("stopped; all written files are complete, and the same command does the rest") == 1
    assert "zdce/" not in errors  # no traceback of ours
    before = rows(manifest)
    assert 12 <= len(before) < 100
    assert all((photos / row["target"]).exists() == (row["status"] == "written") for row in before)

    ended = [(process.communicate(), process.returncode) for process in forked.ranks(2, *arguments)]
    (said, errors), (nothing, others) = (told for told, _ in ended)
    assert ([code for _, code in ended], nothing) == ([1, 0], "")
    errors += others
    after = {row["target"]: row for row in rows(manifest)}
    assert len(after) == len(rows(manifest)) == 100
    written = sum(row["status"] == "written" for row in before)
    # A result whose process was killed before it could say so is kept.
    kept = sum(row["status"] == "kept" for row in after.values())
    assert kept <= 1
    assert f"{99 - written - kept} written, {written + kept} kept as they were" in said
    assert said.rstrip().endswith("1 failed")
    assert errors.count("skipped in/007.png") == 1
    assert Counter(row["status"] for row in after.values()) == Counter(written=99 - kept, kept=kept, failed=1)
    assert "in/007.png" in after["out/007.png"]["reason"]
    for path in (photos / "out").glob("*.png"):
        with Image.open(path) as picture:
            picture.load()


def enhance(*arguments):
    return CliRunner().invoke(cli.main, ["enhance", "-m", "net.safetensors", *arguments], catch_exceptions=False)


def test_a_manifest_keeps_what_former_runs_said_of_other_files(photos):
    manifest = photos / "manifest.csv"
    assert enhance("in/001.png", "-o", "out", "--manifest", "manifest.csv").exit_code == 0
    # A row that was cut off, as on a full disk, is left out.
    with manifest.open("a") as file:
        file.write('"in/002')
    assert enhance("in/007.png", "in/003.png", "-o", "out", "--manifest", "manifest.csv").exit_code == 1
    assert [(row["source"], row["status"]) for row in rows(manifest)] == [
        ("in/001.png", "written"),
        ("in/007.png", "failed"),
        ("in/003.png", "written"),
    ]
    assert enhance("in/001.png", "-o", "out", "--manifest", "manifest.csv", "--overwrite").exit_code == 0
    assert [row["source"] for row in rows(manifest)] == ["in/007.png", "in/003.png", "in/001.png"]


@pytest.mark.parametrize("name", ["in/a\nb,c\rd.png", "in/a\rb.png"])
def test_a_manifest_knows_names_with_line_ends_again(photos, name):
    os.link("in/000.png", name)
    for _ in range(2):
        assert enhance(name, "in/001.png", "-o", "out", "--manifest", "manifest.csv").exit_code == 0
        assert [(row["source"], row["status"]) for row in rows(photos / "manifest.csv")] == [
            (name, "written"),
            ("in/001.png", "written"),
        ]


def test_alone_no_error_is_another_processs_end():
    with pytest.raises(RuntimeError, match="no connection") as raised, raising_rank_lost():
        raise RuntimeError("no connection between these layers")
    assert not isinstance(raised.value, RankLostError)


def test_what_is_no_manifest_stays(photos):
    before = (photos / "in/000.png").read_bytes()
    (photos / "notes.csv").write_text("a,b\n1,2\n")
    for name in ("in/000.png", "notes.csv"):
        result = enhance("in/001.png", "-o", "out", "--manifest", name)
        assert result.exit_code == 1
        assert f"{name} exists and is not a manifest" in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert (photos / "in/000.png").read_bytes() == before
    assert not (photos / "out").exists()


def test_processes_must_have_a_gpu_each(monkeypatch):
    used = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", used.append)
    monkeypatch.setenv("WORLD_SIZE", "3")
    for rank in range(2):
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        processes.use_own_gpu("cuda")
    assert used == [0, 1]
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(InputError, match=r"several processes must have a GPU each, got 2 for process 2 \(from 0\)"):
        processes.use_own_gpu("cuda")
    with pytest.raises(InputError, match="several processes must have device cuda, each its own GPU"):
        processes.use_own_gpu("cuda:1")
