"""Training: results, logs and files; real processes and real signals."""

import csv
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import safetensors
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import forked
import zdce
from runs import (
    assert_same_files,
    assert_same_weights,
    end_before_the_state_of,
    run,
    signal_after_every_step,
    wait_for,
)
from zdce import training
from zdce.errors import InputError
from zdce.settings import LossWeights
from zdce.training import learner

SMALL = ["--size", "32", "--batch-size", "4", "--lr", "0.001", "--variant", "iters4"]


def rows(folder):
    with (folder / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(dark, tmp_path_factory):
    """A run of 12 epochs that nothing interrupted."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    result = run("--data", dark, "--out", out, "--epochs", 12, *SMALL)
    assert result.exit_code == 0, result.output
    return out


def test_a_run_folder_holds_what_it_should(finished):
    names = {path.name for path in finished.iterdir()}
    weights = {"epoch-010.safetensors", "epoch-012.safetensors", "last.safetensors"}
    assert names == {"config.toml", "log.csv", "state.safetensors"} | weights
    assert_same_weights(finished / "epoch-012.safetensors", finished / "last.safetensors")
    config = training.Config.from_toml((finished / "config.toml").read_text())
    assert (config.variant, config.epochs, config.size, config.lr) == ("iters4", 12, 32, 0.001)


def test_the_log_has_both_splits_and_unweighted_terms(finished):
    log = rows(finished)
    assert [(row["epoch"], row["split"]) for row in log[:4]] == [
        ("1", "train"),
        ("1", "validation"),
        ("2", "train"),
        ("2", "validation"),
    ]
    assert len(log) == 24
    for row in log:
        total, *terms = (float(row[name]) for name in ("total", "illumination", "spatial", "color", "exposure"))
        assert total == pytest.approx(sum(w * t for w, t in zip(LossWeights(), terms, strict=True)), rel=1e-5)
        assert float(row["seconds"]) >= 0


def test_it_learns_to_brighten(finished, dark):
    log = [row for row in rows(finished) if row["split"] == "validation"]
    assert float(log[-1]["total"]) < float(log[0]["total"])
    picture = np.asarray(Image.open(dark / "00.png"))
    assert zdce.Enhancer(zdce.load(finished / "last.safetensors"))(picture).mean() > 1.1 * picture.mean()


def test_equal_seeds_give_equal_weights_and_others_others(finished, dark, tmp_path):
    run("--data", dark, "--out", tmp_path / "same", "--epochs", 12, *SMALL)
    assert_same_weights(tmp_path / "same" / "last.safetensors", finished / "last.safetensors")
    run("--data", dark, "--out", tmp_path / "other", "--epochs", 12, "--seed", 1, *SMALL)
    with pytest.raises(AssertionError):
        assert_same_weights(tmp_path / "other" / "last.safetensors", finished / "last.safetensors")


# The signal of this number comes before the eighth step, the second one of epoch 3, when the log has the first epoch's rows.
_SIGNALLED = """
import os, sys, time
from zdce.training.learner import Learner
number, begin, steps = int(sys.argv.pop(1)), Learner.begin_step, []
log = os.path.join(sys.argv[sys.argv.index("--out") + 1], "log.csv")
def signalled(learner, batch):
    steps.append(batch)
    if len(steps) == 8:
        while not os.path.exists(log) or len(open(log).readlines()) < 3:
            time.sleep(0.01)
        os.kill(os.getpid(), number)
    return begin(learner, batch)
Learner.begin_step = signalled
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda n: n.name)
def test_a_stopped_run_ends_with_the_same_weights(finished, dark, tmp_path, number):
    out = tmp_path / "stopped run"
    arguments = ["train", "--data", dark, "--out", out, "--epochs", 12, *SMALL]
    stopped = forked.Process(int(number), *arguments, code=_SIGNALLED)
    _, errors = stopped.communicate()
    if number == signal.SIGKILL:
        assert stopped.returncode == -signal.SIGKILL
    else:
        assert stopped.returncode == 128 + number
        assert f"continue with: zdce train --out '{out}' --resume" in errors
        assert "Traceback" not in errors
    assert len(rows(out)) in (2, 4)  # a thread writes them
    done = run("--out", out, "--resume")
    assert done.exit_code == 0, done.stderr
    assert_same_weights(out / "last.safetensors", finished / "last.safetensors")
    assert_same_weights(out / "epoch-010.safetensors", finished / "epoch-010.safetensors")
    timeless = [[{**row, "seconds": ""} for row in rows(folder)] for folder in (out, finished)]
    assert timeless[0] == timeless[1]


def test_one_process_at_a_time_trains_in_a_folder(dark, tmp_path):
    out = tmp_path / "shared"
    arguments = ["--data", dark, "--out", out, "--epochs", 1000, *SMALL]
    process = forked.Process("train", *arguments)
    try:
        wait_for(process, (out / "log.csv").exists)
        process.stop()
        files = {path.name: (path.stat().st_mtime_ns, path.stat().st_size) for path in out.iterdir()}
        for second in (["--out", out, "--resume", "--lr", 1], arguments):
            result = run(*second)
            assert (result.exit_code, result.stderr) == (1, f"Error: {out}: another process is using it\n")
        assert {path.name: (path.stat().st_mtime_ns, path.stat().st_size) for path in out.iterdir()} == files
    finally:
        process.kill()
        process.communicate()
    assert run("--out", out, "--resume", "--epochs", 1).exit_code == 0


def test_every_step_can_be_the_last_before_a_resume(finished, dark, tmp_path, monkeypatch):
    """Stops after each single step, within epochs and between them, and goes on each time."""
    out = tmp_path / "step"
    config = training.Config.from_toml((finished / "config.toml").read_text())
    signal_after_every_step(monkeypatch)
    current, stops = training.Run.start(config, out), 0
    while current is not None:
        try:
            current.train()
            current = None
        except training.TrainingInterruptedError:
            stops += 1
            current = training.Run.resume(config, out)
    assert stops == 36
    assert_same_weights(out / "last.safetensors", finished / "last.safetensors")


def test_a_row_logged_before_its_state_was_saved_is_not_kept_twice(finished, dark, tmp_path, monkeypatch):
    out = tmp_path / "killed"
    config = training.Config.from_toml((finished / "config.toml").read_text())
    end_before_the_state_of(3, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        training.Run.start(config, out).train()
    assert len(rows(out)) == 6
    monkeypatch.undo()
    training.Run.resume(config, out).train()
    assert [row["epoch"] for row in rows(out)] == [row["epoch"] for row in rows(finished)]
    assert_same_weights(out / "last.safetensors", finished / "last.safetensors")


def test_a_run_is_resumed_from_another_folder(finished, dark, tmp_path, monkeypatch):
    monkeypatch.chdir(dark.parent)
    run("--data", dark.name, "--out", tmp_path / "moved", "--epochs", 2, *SMALL)
    monkeypatch.chdir(tmp_path)
    assert run("--out", "moved", "--resume", "--epochs", 12).exit_code == 0
    assert_same_weights(tmp_path / "moved" / "last.safetensors", finished / "last.safetensors")


def test_resume_takes_more_epochs_but_no_other_network(finished, dark, tmp_path):
    out = tmp_path / "longer"
    run("--data", dark, "--out", out, "--epochs", 2, *SMALL)
    result = run("--out", out, "--resume", "--variant", "base")
    assert result.exit_code == 1
    assert "variant can't change in a run: it was 'iters4', got 'base'" in result.stderr
    assert run("--out", out, "--resume", "--epochs", 12).exit_code == 0
    assert_same_weights(out / "last.safetensors", finished / "last.safetensors")


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(dark, tmp_path, monkeypatch):
    out = tmp_path / "diverged"
    objective = zdce.ops.zero_reference_objective
    calls = []

    def diverging(*arguments, **options):
        calls.append(1)
        result = objective(*arguments, **options)
        return result._replace(total=result.total * float("nan")) if len(calls) == 6 else result

    monkeypatch.setattr(zdce.ops, "zero_reference_objective", diverging)
    result = run("--data", dark, "--out", out, "--epochs", 3, *SMALL)
    assert result.exit_code == 1
    assert "the loss is not finite in epoch 2, step 2" in result.stderr
    assert f"{out} has the state of epoch 1" in result.stderr
    assert all(p.isfinite().all() for p in zdce.load(out / "last.safetensors").parameters())
    monkeypatch.undo()
    assert run("--out", out, "--resume").exit_code == 0
    assert len(rows(out)) == 6


@pytest.fixture
def late(monkeypatch):
    """Losses are read one step late, as on a GPU."""
    made = learner.Learner.__init__

    def init(self, *arguments):
        made(self, *arguments)
        self.asynchronous = True

    monkeypatch.setattr(learner.Learner, "__init__", init)


def test_losses_are_awaited_on_the_gpu_that_computes_them(monkeypatch):
    class Event:
        def record(self, stream=None):
            self.stream = stream

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: f"stream of {device}")
    assert learner._recorded(torch.device("cuda:1")).stream == "stream of cuda:1"


def test_losses_that_are_read_late_are_the_same(finished, dark, tmp_path, late):
    assert run("--data", dark, "--out", tmp_path / "run", "--epochs", 12, *SMALL).exit_code == 0
    assert_same_files(finished, tmp_path / "run")


def test_a_step_begins_before_the_losses_of_the_one_before_are_read(dark, tmp_path, monkeypatch, late):
    begin, happened = learner.Learner.begin_step, []

    def noted(self, batch):
        read, number = begin(self, batch), happened.count("begin")
        happened.append("begin")

        def losses():
            happened.append(f"read {number}")
            return read()

        return losses

    monkeypatch.setattr(learner.Learner, "begin_step", noted)
    config = training.Config(data=str(dark), variant="iters4", size=32, batch_size=4, epochs=1)
    training.Run.start(config, tmp_path / "run").train()
    assert happened == ["begin", "begin", "read 0", "begin", "read 1", "read 2"]


def test_a_stop_counts_the_step_that_still_runs(finished, dark, tmp_path, monkeypatch, late):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        signal_after_every_step(patch)
        assert run("--data", dark, "--out", out, "--epochs", 12, *SMALL).exit_code == 130
    assert run("--out", out, "--resume").exit_code == 0
    assert_same_files(finished, out)


def test_a_loss_that_is_read_late_and_not_finite_stops_as_well(dark, tmp_path, monkeypatch, late):
    out, begin = tmp_path / "diverged", learner.Learner.begin_step

    def diverging(self, batch):
        losses = begin(self, batch)
        return lambda: [float("nan")] * 5 if int(self.optimizer.state_dict()["state"][0]["step"]) == 5 else losses()

    monkeypatch.setattr(learner.Learner, "begin_step", diverging)
    result = run("--data", dark, "--out", out, "--epochs", 3, *SMALL)
    assert result.exit_code == 1
    assert "the loss is not finite in epoch 2, step 1" in result.stderr
    assert f"{out} has the state of epoch 1" in result.stderr


def test_huge_learning_rates_do_not_end_in_silent_nan(dark, tmp_path):
    result = run("--data", dark, "--out", tmp_path / "run", "--epochs", 30, *SMALL[:-4], "--lr", "1e30")
    last = tmp_path / "run" / "last.safetensors"
    assert result.exit_code == 1
    assert "the loss is not finite" in result.stderr
    assert not last.exists() or all(p.isfinite().all() for p in zdce.load(last).parameters())


def test_what_is_kept_may_be_a_part_of_an_epoch(dark, tmp_path, monkeypatch):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        signal_after_every_step(patch)
        assert run("--data", dark, "--out", out, "--epochs", 1, *SMALL).exit_code == 130
    result = run("--out", out, "--resume", "--lr", "1e30")
    assert result.exit_code == 1
    assert f"{out} has the state of epoch 0 and 1 steps" in result.stderr


def test_weights_that_an_epochs_last_step_spoils_are_not_kept(dark, tmp_path):
    arguments = ("--data", dark, "--size", 16, "--batch-size", 12, "--variant", "iters4")  # one step an epoch
    result = run(*arguments, "--out", tmp_path / "run", "--epochs", 1, "--lr", "1e30")
    assert result.exit_code == 1
    assert "the loss is not finite in epoch 1, validation" in result.stderr
    assert not (tmp_path / "run" / "last.safetensors").exists()
    state = load_file(tmp_path / "run" / "state.safetensors")
    assert all(tensor.isfinite().all() for tensor in state.values())


def test_loss_weights_and_variants_weights(dark, tmp_path):
    run(
        "--data",
        dark,
        "--out",
        tmp_path / "a",
        "--epochs",
        1,
        *SMALL[:-2],
        "--variant",
        "no-color",
        "--loss-weights",
        "exposure=3,spatial=0",
    )
    config = training.Config.from_toml((tmp_path / "a" / "config.toml").read_text())
    assert config.weights == LossWeights(1600.0, 0.0, 0.0, 3.0)
    assert zdce.load(tmp_path / "a" / "last.safetensors").variant.weights == config.weights


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["--variant", "unet"], "variant must be one of base", 1),
        (["--loss-weights", "colour=1"], "expected illumination=", 2),
        (["--loss-weights", "color=blue"], "color must be a finite number, got 'blue'", 2),
        (["--loss-weights", "color=nan"], "color must be a finite number, got 'nan'", 2),
        (["--lr", "0"], "Invalid value for '--lr': 0.0 is not in the range x>0.", 2),
        (["--clip", "nan"], "Invalid value for '--clip': nan is not a finite number.", 2),
        (["--ema", "1"], "Invalid value for '--ema': 1.0 is not in the range 0<=x<1.", 2),
        (["--batch-size", "13"], "batch_size must be at most the 12 training pictures, got 13", 1),
        (["--data", "/nowhere"], "no such folder: /nowhere", 1),
        (["--resume"], "no run to resume in", 1),
        (["--epochs", "0"], "Invalid value for '--epochs'", 2),
    ],
)
def test_mistakes_are_one_line(dark, tmp_path, arguments, message, code):
    result = run("--data", dark, "--out", tmp_path / "run", *arguments)
    assert result.exit_code == code
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


def test_a_finished_folder_is_not_overwritten(finished, dark):
    result = run("--data", dark, "--out", finished, "--epochs", 1, *SMALL)
    assert result.exit_code == 1
    assert "already holds a run" in result.stderr


def test_a_run_of_twelve_is_no_run_of_two(finished, tmp_path):
    """config.toml tells by which settings what is done was done."""
    out = tmp_path / "again"
    shutil.copytree(finished, out)
    before = (out / "config.toml").read_bytes()
    for given, words in (
        (["--epochs", 2], "epochs must be at least the 12 that are done or begun, got 2"),
        (["--lr", 0.5], "lr can't change after all epochs are done: it was 0.001, got 0.5"),
        (["--loss-weights", "color=0"], "weights can't change after all epochs are done"),
    ):
        result = run("--out", out, "--resume", *given)
        assert result.exit_code == 1
        assert words in result.stderr
        assert (out / "config.toml").read_bytes() == before
    assert run("--out", out, "--resume").exit_code == 0
    assert (out / "config.toml").read_bytes() == before


@pytest.mark.parametrize(
    ("cut", "got"),
    [
        (lambda log: log[:-30], r"line 25: expected a row of epoch, split, .*, got '12,validation"),
        (lambda log: log[:-1], r"line 25: .*got '12,validation"),
        (lambda log: log.replace("\n3,train,", "\n3,tra", 1), "line 6: .*, got '3,tra"),
        (lambda log: log.replace("\n2,", "\ntwo,", 1), "line 4: .*, got 'two,"),
        (lambda log: log[20:], "expected the columns epoch, split"),
        (lambda log: log + "\x00\x00\x00", "line 26: "),
    ],
)
def test_a_log_that_was_cut_is_an_error(finished, tmp_path, cut, got):
    out = tmp_path / "cut"
    shutil.copytree(finished, out)
    log = (out / "log.csv").read_text()
    (out / "log.csv").write_text(cut(log))
    result = run("--out", out, "--resume", "--epochs", 13)
    assert result.exit_code == 1
    assert re.search(got, result.stderr)
    assert (out / "log.csv").read_text() == cut(log)


def test_seeds_beyond_64_bits_are_refused(dark, tmp_path):
    for name, value, words in (
        ("seed", 2**64, "0<=x<=18446744073709551615"),
        ("seed", 10**40, "0<=x<="),
        ("size", 10**30, "16<=x<=8192"),
    ):
        result = run("--data", dark, "--out", tmp_path / "run", f"--{name}", value)
        assert result.exit_code == 2
        assert words in result.stderr
        with pytest.raises(InputError, match=f"{name} must be from"):
            training.Config(**{name: value})
    learner.Learner(training.Config(seed=2**64 - 1))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensors: tensors.update({"model.convolutions.0.bias": torch.zeros(3)}), r"must be \(16,\), got \(3,\)"),
        (lambda tensors: tensors.pop("model.convolutions.0.bias"), r"model\.convolutions\.0\.bias must be .*, got absent"),
        (lambda tensors: tensors.pop("adam.0.step"), r"adam\.0\.step must be \(\), got absent"),
        (lambda tensors: tensors.update({"adam.99.step": torch.zeros(())}), r"adam\.99\.step must be absent"),
        (lambda tensors: tensors["model.convolutions.0.bias"].fill_(float("nan")), r"bias must be finite"),
    ],
)
def test_a_state_of_another_network_is_named(finished, tmp_path, change, words):
    out = tmp_path / "other"
    shutil.copytree(finished, out)
    path = out / "state.safetensors"
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata)
    result = run("--out", out, "--resume", "--epochs", 13)
    assert result.exit_code == 1
    assert re.search(rf"is no state of this run: .*{words}", result.stderr)


def test_a_broken_state_is_named(finished, dark, tmp_path):
    out = tmp_path / "broken"
    run("--data", dark, "--out", out, "--epochs", 1, *SMALL)
    (out / "state.safetensors").write_bytes(b"nonsense")
    result = run("--out", out, "--resume", "--epochs", 2)
    assert result.exit_code == 1
    assert "is no state of this run" in result.stderr


def test_config_round_trips(tmp_path):
    config = training.Config(variant="layers7", lr=3e-4, weights=LossWeights(1.0, 2.0, 3.0, 4.0), seed=7)
    assert training.Config.from_toml(config.to_toml()) == config
    with pytest.raises(ValueError, match="unknown settings: momentum"):
        training.Config.from_toml("momentum = 0.9")


def test_no_file_is_left_half_written(finished):
    assert not [path for path in Path(finished).iterdir() if path.name.startswith(".")]


def losses_of_each_step(backend, data, out, monkeypatch):
    """(steps, 5): the total and the terms of a run of 21 steps, in float64."""
    seen, begin = [], learner.Learner.begin_step

    def noted(self, batch):
        losses = begin(self, batch)
        seen.append(losses())
        return losses

    config = training.Config(data=str(data), variant="iters4", size=32, batch_size=4, lr=1e-3, epochs=7)
    with monkeypatch.context() as patched, zdce.backend(backend):
        patched.setattr(learner.Learner, "begin_step", noted)
        training.Run.start(config, out).train()
    return torch.tensor(seen, dtype=torch.float64)


# Both sum 4 x 32 x 32 pixels in float32 in another order, and Adam hands each step's rounding on to the next. Moving every
# first weight by one rounding (6e-8) changes totals by 1e-7 and terms by 3e-6 in these steps, and so much was seen with torch's
# convolutions. The terms differ by more: each is of differences of nearly equal values, and the total is carried by exposure's
# 10. Winograd's convolutions round some ten times as coarsely, and so do the losses differ.
@pytest.mark.parametrize(("kernels", "totals", "terms"), [(False, 2e-6, 2e-5), (True, 2e-5, 2e-4)])
def test_training_is_the_reference_paths_to_float32_rounding(dark, tmp_path, monkeypatch, kernels, totals, terms):
    if not kernels:
        monkeypatch.setattr("zdce.models.network._runs_in_kernels", lambda image, weight: False)
    fused = losses_of_each_step("auto", dark, tmp_path / "fused", monkeypatch)
    reference = losses_of_each_step("reference", dark, tmp_path / "reference", monkeypatch)
    assert fused.shape == (21, 5)
    assert reference[-1, 0] < 0.7 * reference[0, 0]
    torch.testing.assert_close(fused[:, 0], reference[:, 0], rtol=totals, atol=0)
    torch.testing.assert_close(fused, reference, rtol=terms, atol=0)
