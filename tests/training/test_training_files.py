"""Work beside the training loop: pictures read ahead, files written in the background, TensorBoard, and runs from
configurations.
"""

import errno
import io
import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import zdce
from runs import assert_same_files, command, end_before_the_state_of, no_file_grows_past, run, signal_after_every_step
from zdce import training
from zdce.data.datasets import Item
from zdce.training import batches, pictures
from zdce.training.clock import Clock
from zdce.training.learner import Learner
from zdce.training.pictures import OnDemand, Pictures
from zdce.training.state import State

EVERYTHING = ["--accumulate", 2, "--augment", "crops", "--schedule", "cosine", "--clip", 5, "--ema", 0.8]
SMALL = ["--size", 32, "--batch-size", 2, "--lr", 0.001, "--variant", "iters4"]


def position(folder):
    with safe_open(folder / "state.safetensors", "pt") as file:
        return file.metadata()["position"]


def test_pictures_beyond_memory_are_decoded_anew_and_train_the_same(config, tmp_path, monkeypatch):
    in_memory = training.Run.start(config, tmp_path / "memory")
    in_memory.train()
    monkeypatch.setattr(pictures, "MEMORY", 5 * 3 * 32 * 32)
    loads = []
    items, held_out = training.check_pictures(config)

    def counted(item):
        return Item(item.name, lambda: (loads.append(item.name), item.load())[1])

    monkeypatch.setattr(pictures, "check_pictures", lambda config: ([counted(item) for item in items], held_out))
    on_demand = training.Run.start(config, tmp_path / "demand")
    on_demand.train()
    assert_same_files(tmp_path / "demand", tmp_path / "memory")
    counts = sorted(loads.count(item.name) for item in items)
    assert counts == [1] * 5 + [3] * 7


def test_a_picture_that_breaks_while_training_is_named(config, dark, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "MEMORY", 0)
    out = tmp_path / "run"
    folder = tmp_path / "pictures"
    folder.mkdir()
    for path in dark.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "07.png").write_bytes(b"no picture")
    result = run("--data", folder, "--out", out, "--epochs", 2, *SMALL)
    assert result.exit_code == 1
    assert "07.png" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_signal_in_validation_stops_there(config, tmp_path, monkeypatch):
    whole = training.Run.start(config, tmp_path / "whole")
    whole.train()
    in_order = batches.in_order

    def signalled(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        yield from in_order(*arguments)

    monkeypatch.setattr(batches, "in_order", signalled)
    with pytest.raises(training.TrainingInterruptedError, match="stopped in epoch 1 after 3 of 3 steps"):
        training.Run.start(config, tmp_path / "stopped").train()
    monkeypatch.undo()
    training.Run.resume(config, tmp_path / "stopped").train()
    assert_same_files(tmp_path / "stopped", tmp_path / "whole")


def test_steps_wait_for_neither_pictures_nor_files(config, tmp_path, monkeypatch):
    """Each step ends only when the next batch is decoded, and an epoch's state is written only after a step of the next one."""
    turn, loaded, steps, picture = threading.Condition(), [], [], np.zeros((32, 32, 3), np.uint8)

    def happened(what, event, wanted):
        with turn:
            what.append(event)
            turn.notify_all()
            assert turn.wait_for(wanted, timeout=60)

    def load():
        happened(loaded, 1, lambda: True)
        return picture

    def step(self, batch):
        total = min(4 * (len(steps) + 2), 60)
        happened(steps, 1, lambda: len(loaded) >= total)
        return lambda: [0.0] * 5

    write = State.write

    def write_later(self, path):
        epoch = self.position["epoch"]
        if 0 < epoch < 3:
            with turn:
                assert turn.wait_for(lambda: len(steps) > 5 * epoch, timeout=60)
        write(self, path)

    monkeypatch.setattr(State, "write", write_later)
    monkeypatch.setattr(Learner, "begin_step", step)
    current = training.Run.start(config, tmp_path / "run")
    assert current.step_share == 0
    slow = OnDemand([Item(str(i), load) for i in range(20)], 32, 0, windows=False)
    current.train(Pictures(slow, torch.zeros(2, 3, 32, 32, dtype=torch.uint8)))
    assert (len(steps), len(loaded)) == (15, 60)
    assert 0 < current.step_share < 1


def test_the_share_of_steps_leaves_validation_out(monkeypatch):
    seconds = iter([10.0, 11.0, 13.0, 20.0, 23.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(seconds))
    clock = Clock()
    assert [clock.lap(name) for name in ("rest", "steps", "validation", "steps")] == [1, 2, 7, 3]
    assert clock.share("steps", ("steps", "rest")) == 5 / 6


def test_a_disk_that_fills_up_keeps_the_former_state_and_says_which(config, tmp_path, monkeypatch):
    whole = training.Run.start(config, tmp_path / "whole")
    whole.train()
    out = tmp_path / "full"
    fsync, epoch_2 = os.fsync, []

    def full(descriptor):
        # The state of epoch 2 is the second one that the thread writes; logs and weights are written before it.
        if threading.current_thread() is not threading.main_thread():
            name = os.readlink(f"/proc/self/fd/{descriptor}")
            if ".state-" in name:
                epoch_2.append(name)
                if len(epoch_2) > 1:
                    raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    current = training.Run.start(config, out)
    with pytest.raises(training.TrainingError) as raised:
        current.train()
    assert str(raised.value) == (
        f"{out}/state.safetensors: No space left on device; the state of epoch 1 is saved; when there is space,"
        f" continue with: zdce train --out {out} --resume"
    )
    assert '"epoch": 1' in position(out)
    assert not [path for path in out.iterdir() if path.name.startswith(".")]
    monkeypatch.undo()
    training.Run.resume(config, out).train()
    assert_same_files(out, tmp_path / "whole")


def test_a_real_disk_limit_during_a_checkpoint_is_one_line(dark, tmp_path):
    out = tmp_path / "full"
    arguments = ["--data", dark, "--out", out, "--epochs", 2, *SMALL]
    # The first state, without Adam's moments, is smaller than this and those that follow are larger.
    with no_file_grows_past(100_000):
        done = run(*arguments)
    assert done.exit_code == 1
    assert f"{out}/state.safetensors: File too large; the state of epoch 0 is saved" in done.stderr
    assert "Traceback" not in done.stderr
    assert '"epoch": 0, "step": 0' in position(out)
    assert run("--out", out, "--resume").exit_code == 0
    assert run(*arguments[:2], "--out", tmp_path / "whole", *arguments[4:]).exit_code == 0
    assert_same_files(out, tmp_path / "whole")


def events(out):
    found = EventAccumulator(str(out / "tensorboard"), size_guidance={"images": 0, "scalars": 0})
    found.Reload()
    return found


def test_tensorboard_has_the_log_and_pictures_of_kept_epochs_once(dark, tmp_path, monkeypatch):
    out = tmp_path / "run"
    config = training.Config("iters4", str(dark), epochs=12, batch_size=4, size=32, tensorboard=True)
    end_before_the_state_of(11, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        training.Run.start(config, out).train()
    monkeypatch.undo()
    assert run("--out", out, "--resume").exit_code == 0
    found, log = events(out), training.read_log(training.RunFolder(out))
    for split in ("train", "validation"):
        for term in ("total", "illumination", "spatial", "color", "exposure"):
            logged = [float(row[term]) for row in log if row["split"] == split]
            scalars = found.Scalars(f"{term}/{split}")
            assert [scalar.step for scalar in scalars] == list(range(1, 13))
            np.testing.assert_allclose([scalar.value for scalar in scalars], logged, rtol=1e-6)
    images = found.Images("before and after")
    assert [image.step for image in images] == [10, 12]
    held_out = training.load_pictures(config).validation
    for image, weights in zip(images, ("epoch-010.safetensors", "last.safetensors"), strict=True):
        shown = np.asarray(Image.open(io.BytesIO(image.encoded_image_string))).astype(int)
        assert shown.shape == (64, 64, 3)
        assert np.array_equal(shown[:32], np.hstack(held_out.permute(0, 2, 3, 1)))
        after = zdce.load(out / weights).enhance(held_out / 255).permute(0, 2, 3, 1) * 255
        assert np.abs(shown[32:] - np.hstack(after.detach())).max() <= 0.51


def test_without_tensorboard_its_extra_is_named(dark, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    result = run("--data", dark, "--out", tmp_path / "run", "--tensorboard", *SMALL)
    assert result.exit_code == 1
    assert "pip install 'zdce[tensorboard]'" in result.stderr
    assert not (tmp_path / "run").exists()


def test_a_configuration_repeats_its_run(dark, tmp_path):
    out = tmp_path / "run"
    assert run("--data", dark, "--out", out, "--epochs", 3, "--amp", *SMALL, *EVERYTHING).exit_code == 0
    text = (out / "config.toml").read_text()
    for name in ("zdce", "torch", "python", "numpy", "threads", "processor", "seed = 0", 'augment = "crops"'):
        assert name in text
    assert run("--config", out / "config.toml").exit_code == 0
    assert_same_files(tmp_path / "run-2", out)
    (tmp_path / "mine.toml").write_text(text)
    assert run("--config", tmp_path / "mine.toml", "--epochs", 1, "--no-amp", "--variant", "no-color").exit_code == 0
    repeated = training.Config.from_toml((tmp_path / "mine" / "config.toml").read_text())
    assert (repeated.epochs, repeated.amp, repeated.ema, repeated.weights.color) == (1, False, 0.8, 0.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs = ", "that.toml: "),
        ("epochs = '9'", "that.toml: epochs must be of type int, got '9'"),
        ("amp = 1", "that.toml: amp must be of type bool, got 1"),
        ("weights = 3", "that.toml: weights must be a table, got 3"),
        ("[weights]\ncolour = 1.0", "that.toml: unknown weights: colour"),
        ("schedule = 'linear'", "that.toml: schedule must be one of constant, cosine, got 'linear'"),
        ("ema = 1", "that.toml: ema must be in [0, 1), got 1.0"),
        ("clip = -1", "that.toml: clip must be a positive number, or 0 for none, got -1.0"),
        ("device = 'abacus'", "got 'abacus': "),
        ("device = 'abacus'\namp = true", "that.toml: amp needs one of the devices cuda, cpu, got 'abacus'"),
        ("accumulate = 7\nbatch_size = 20", "batch_size * accumulate must be at most the 96 training pictures, got 140"),
        ("data = '/nowhere'", "no such folder: /nowhere"),
    ],
)
def test_mistakes_in_a_configuration_are_one_line(tmp_path, text, message):
    (tmp_path / "that.toml").write_text(text)
    result = run("--config", tmp_path / "that.toml")
    assert result.exit_code in {1, 2}
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["that.toml"]


def test_a_run_of_a_device_that_is_not_there_goes_on_with_another(dark, tmp_path):
    out = tmp_path / "run"
    assert run("--data", dark, "--out", out, "--epochs", 1, *SMALL).exit_code == 0
    text = (out / "config.toml").read_text()
    assert 'device = "cpu"' in text
    (out / "config.toml").write_text(text.replace('device = "cpu"', 'device = "abacus"'))
    refused = run("--out", out, "--resume", "--epochs", 2)
    assert refused.exit_code == 2
    assert "got 'abacus': " in refused.stderr
    assert run("--out", out, "--resume", "--epochs", 2, "--device", "cpu").exit_code == 0


def test_an_epoch_goes_on_with_its_own_pictures_only(config, tmp_path, monkeypatch):
    pictures = training.load_pictures(config)
    fewer = training.Pictures(pictures.training[:-1], pictures.validation)
    with monkeypatch.context() as patch:
        signal_after_every_step(patch)
        with pytest.raises(training.TrainingInterruptedError):
            training.Run.start(config, tmp_path / "run").train()
    with pytest.raises(ValueError, match=r"must hold the 12 training pictures that the epoch began with, got 11"):
        training.Run.resume(config, tmp_path / "run").train(fewer)
    training.Run.resume(replace(config, epochs=1), tmp_path / "run").train(pictures)
    # Between epochs others may come.
    training.Run.resume(replace(config, epochs=2), tmp_path / "run").train(fewer)


def test_out_is_needed_and_config_does_not_resume(tmp_path):
    assert "Missing option '--out'" in run("--epochs", 1).stderr
    (tmp_path / "that.toml").write_text("")
    both = run("--config", tmp_path / "that.toml", "--out", tmp_path / "run", "--resume")
    assert both.exit_code == 2
    assert "--config starts a new run, --resume continues one" in both.stderr


@pytest.mark.slow
def test_a_run_killed_at_20_random_moments_ends_with_the_same_weights(dark, tmp_path):
    """Most kills fall into epochs and the writing of files, some into the program's start."""
    out, moments = tmp_path / "killed", random.Random(0)
    arguments = ["--data", dark, "--epochs", 400, "--amp", "--tensorboard", *SMALL, *EVERYTHING]
    # In processes of their own, too: bfloat16 convolutions of torch's give other bits with another number of threads.
    subprocess.run(command("--out", tmp_path / "whole", *arguments), check=True, capture_output=True)

    def kill(process):
        before = (out / "state.safetensors").stat().st_mtime_ns if (out / "state.safetensors").exists() else 0
        deadline = time.monotonic() + moments.choice([60, 60, 60, 3])
        while process.poll() is None and time.monotonic() < deadline:
            if (out / "state.safetensors").exists() and (out / "state.safetensors").stat().st_mtime_ns != before:
                break
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.4))
        process.kill()
        return process.wait()

    codes = []
    while len(codes) < 20:
        again = ["--resume"] if (out / "state.safetensors").exists() else arguments
        codes.append(kill(subprocess.Popen(command("--out", out, *again), stderr=subprocess.DEVNULL)))
    assert codes == [-signal.SIGKILL] * 20
    assert len(training.read_log(training.RunFolder(out))) < 800
    subprocess.run(command("--out", out, "--resume"), check=True, capture_output=True)
    assert_same_files(out, tmp_path / "whole")
