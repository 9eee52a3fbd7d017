"""Settings of training: each has its effect, the defaults are a plain loop, and all are kept by --resume."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import zdce
from runs import assert_same_files, signal_after_every_step
from zdce import training
from zdce.ops import dispatch
from zdce.settings import LossWeights
from zdce.training import batches, learner
from zdce.training.config import AMP
from zdce.training.state import Position

EVERYTHING = {
    "accumulate": 2,
    "augment": "crops",
    "schedule": "cosine",
    "clip": 5.0,
    "ema": 0.8,
    "amp": True,
    "tensorboard": True,
}


def changed(config, **settings):
    return config.for_another_run(settings, {})


def trained(config, out):
    run = training.Run.start(config, out)
    run.train()
    return run


def metadata(path):
    with safe_open(path, "pt") as file:
        return file.metadata()


def resized(dark):
    """(12, 3, 32, 32) uint8: the training pictures by Pillow alone."""
    paths = sorted(dark.iterdir())[:12]
    pictures = [np.asarray(Image.open(path).resize((32, 32), Image.Resampling.BILINEAR)) for path in paths]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


def test_the_defaults_are_a_plain_loop_bit_for_bit(config, dark, tmp_path):
    trained(config, tmp_path / "run")
    pictures = resized(dark)
    torch.manual_seed(0)
    model = zdce.DCENet("iters4")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(3):
        order = torch.from_numpy(np.random.default_rng([0, epoch]).permutation(12))
        for indices in order.split(4):
            image = pictures[indices].float() / 255
            optimizer.zero_grad()
            zdce.ops.zero_reference_objective(image, model(image)).total.backward()
            optimizer.step()
    saved = zdce.load(tmp_path / "run" / "last.safetensors").state_dict()
    assert all(torch.equal(saved[name], tensor) for name, tensor in model.state_dict().items())


def test_settings_not_given_are_the_reports(config):
    assert training.Config() == training.Config(
        variant="base", data="sample", epochs=50, batch_size=16, accumulate=1, size=256, augment="none", lr=1e-4,
        schedule="constant", clip=0.0, ema=0.0, activations="float32", amp=False,
        weights=LossWeights(), normalization="paper", seed=0, device="cpu",
        keep_every=10, tensorboard=False,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_step_can_be_the_last_before_a_resume_with_everything_on(config, tmp_path, monkeypatch, dtype):
    """float16 on the CPU stands for a GPU's. With this scale first updates overflow, are left out, and halve it."""
    monkeypatch.setitem(AMP, "cpu", dtype)
    monkeypatch.setattr(learner, "_FIRST_SCALE", 2.0**16)
    config = changed(config, **EVERYTHING, batch_size=2, size=16)
    whole = trained(config, tmp_path / "whole")
    first, last = (learner.Learner(config).model.state_dict(), whole.learner.model.state_dict())
    assert not any(torch.equal(first[name], last[name]) for name in first)
    scaler = whole.learner.scaler
    assert 0 < scaler.get_scale() < 2**16 if dtype == torch.float16 else not scaler.is_enabled()
    signal_after_every_step(monkeypatch)
    run = training.Run.start(config, tmp_path / "stopped")
    for _ in range(9):
        with pytest.raises(training.TrainingInterruptedError):
            run.train()
        run = training.Run.resume(config, tmp_path / "stopped")
    run.train()
    assert_same_files(tmp_path / "stopped", tmp_path / "whole")
    numbers = [metadata(tmp_path / name / "state.safetensors")["learner"] for name in ("stopped", "whole")]
    assert numbers[0] == numbers[1]


def test_states_without_the_settings_of_today_are_read(config, tmp_path):
    trained(config, tmp_path / "whole")
    trained(changed(config, epochs=1), tmp_path / "old")
    path = tmp_path / "old" / "state.safetensors"
    save_file(load_file(path), path, {"position": metadata(path)["position"]})
    training.Run.resume(config, tmp_path / "old").train()
    assert_same_files(tmp_path / "old", tmp_path / "whole")


def test_feature_maps_in_bfloat16_train_nearly_the_same(config, tmp_path):
    full = trained(config, tmp_path / "full")
    half = trained(changed(config, activations="bfloat16"), tmp_path / "half")
    assert not torch.equal(*(run.learner.model.convolutions[0].weight for run in (full, half)))
    # Feature maps are rounded to 8 bits, relative 2^-9 each; the few layers' errors don't add up beyond a percent.
    for one, other in zip(full.rows, half.rows, strict=True):
        assert one["total"] == pytest.approx(other["total"], rel=1e-2)


def test_accumulated_batches_are_one_large_batch(config, tmp_path):
    large = trained(config, tmp_path / "large")
    parts = trained(changed(config, batch_size=2, accumulate=2), tmp_path / "parts")
    # Every loss is a mean over pictures, so only the order of float32 sums differs; Adam hands each step's rounding on.
    for one, other in zip(large.rows, parts.rows, strict=True):
        if one["split"] == "train":
            assert one["total"] == pytest.approx(other["total"], rel=2e-5)
    assert large.rows[-2]["total"] < 0.99 * large.rows[0]["total"]


def test_gradients_are_clipped(config, dark):
    batch = resized(dark)[:4]
    norms = {}
    for clip in (0.0, 1e6, 0.5):
        one = learner.Learner(changed(config, clip=clip))
        one.step(batch)
        norms[clip] = torch.nn.utils.get_total_norm([p.grad for p in one.model.parameters()]).item()
    assert norms[0.0] == norms[1e6] > 1
    assert norms[0.5] == pytest.approx(0.5, rel=1e-4)


def test_the_average_is_kept_and_validated(config, tmp_path, monkeypatch):
    begin, weights = learner.Learner.begin_step, []

    def noted(self, batch):
        losses = begin(self, batch)
        weights.append({name: tensor.clone() for name, tensor in self.model.state_dict().items()})
        return losses

    monkeypatch.setattr(learner.Learner, "begin_step", noted)
    run = trained(changed(config, ema=0.5), tmp_path / "run")
    average = weights[0]
    for following in weights[1:]:
        average = {name: 0.5 * average[name] + 0.5 * following[name] for name in average}
    kept = zdce.load(tmp_path / "run" / "last.safetensors").state_dict()
    assert not torch.equal(kept["convolutions.0.weight"], weights[-1]["convolutions.0.weight"])
    for name, tensor in average.items():
        torch.testing.assert_close(kept[name], tensor)
    plain = trained(config, tmp_path / "plain")
    totals = [[float(row["total"]) for row in one.rows] for one in (run, plain)]
    assert totals[0][0::2] == totals[1][0::2]
    assert all(one > other for one, other in zip(totals[0][1::2], totals[1][1::2], strict=True))


def test_the_average_has_the_bits_of_torchs_own_update(config, dark):
    made, batch = learner.Learner(changed(config, ema=0.8)), resized(dark)[:4]
    torchs = AveragedModel(made.model, multi_avg_fn=get_ema_multi_avg_fn(0.8))
    for _ in range(4):
        made.step(batch)
        torchs.update_parameters(made.model)
    for name, tensor in torchs.state_dict().items():
        assert torch.equal(made.average.state_dict()[name], tensor), name
    assert not torch.equal(torchs.module.convolutions[0].weight, made.model.convolutions[0].weight)


def test_the_cosine_goes_from_the_learning_rate_towards_0(config, tmp_path, monkeypatch):
    begin, rates = learner.Learner.begin_step, []
    monkeypatch.setattr(learner.Learner, "begin_step", lambda self, batch: (rates.append(self.rate), begin(self, batch))[1])
    trained(changed(config, schedule="cosine", epochs=4), tmp_path / "run")
    expected = [1e-3 * (1 + math.cos(math.pi * epoch / 4)) / 2 for epoch in range(4) for _ in range(3)]
    assert rates == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("name", "value"), [("epochs", 5), ("lr", 1e-4), ("schedule", "constant"), ("accumulate", 2)])
def test_a_run_on_a_cosine_can_not_take_another(config, name, value):
    with pytest.raises(ValueError, match=f"{name} can't change in a run"):
        changed(config, schedule="cosine").changed({name: value}, {})


@pytest.mark.parametrize("work", ["differentiate", "step", "validate", "enhance"])
def test_convolutions_are_true_float32(config, dark, work):
    setting, batch, seen = torch.backends.cudnn.conv, resized(dark)[:4], []
    before, made = setting.fp32_precision, learner.Learner(config)
    for convolution in made.model.convolutions:
        convolution.register_forward_hook(lambda *_: seen.append(setting.fp32_precision))
        convolution.weight.register_hook(lambda _: seen.append(setting.fp32_precision))
    getattr(made, work)([batch] if work == "validate" else batch)
    passes = 2 if work in ("differentiate", "step") else 1  # forward and backward
    assert seen == ["ieee"] * passes * len(made.model.convolutions)
    assert setting.fp32_precision == before != "ieee"


def test_amp_runs_the_network_in_half_the_bits_and_learns_the_same(config, tmp_path, monkeypatch):
    seen, objective = set(), zdce.ops.zero_reference_objective

    def noted(image, logits, *arguments, **options):
        seen.add((image.dtype, logits.dtype))
        return objective(image, logits, *arguments, **options)

    whole = trained(config, tmp_path / "whole")
    monkeypatch.setattr(zdce.ops, "zero_reference_objective", noted)
    mixed = trained(changed(config, amp=True), tmp_path / "mixed")
    # zdce's kernels don't round logits; torch's autocast does.
    kernels = dispatch.why_missing("cpp", operator="convolution") is None
    assert seen == {(torch.float32, torch.float32 if kernels else torch.bfloat16)}
    assert all(p.dtype == torch.float32 for p in mixed.learner.model.parameters())
    # bfloat16 keeps 8 bits: each layer's result is off by up to 0.4%, and totals are sums of squares of differences of them.
    assert mixed.rows[-1]["total"] == pytest.approx(whole.rows[-1]["total"], rel=0.05)


def test_amp_says_which_devices_it_is_for():
    with pytest.raises(ValueError, match="amp needs one of the devices cuda, cpu, got 'meta'"):
        training.Config(amp=True, device="meta")


@pytest.mark.parametrize("augment", training.AUGMENTATIONS)
def test_a_batch_depends_on_seed_and_place_alone(config, augment):
    config = changed(config, augment=augment)

    def coming(config, epoch, step):
        return list(batches.updates(config, training.load_pictures(config).training, Position(epoch, step)))

    whole = coming(config, 0, 0)
    assert [batch.shape for batch in whole] == [(4, 3, 32, 32)] * 9
    for later, batch in zip(coming(config, 1, 2), whole[5:], strict=True):
        assert torch.equal(later, batch)
    assert not torch.equal(coming(changed(config, seed=1), 0, 0)[0], whole[0])


def test_half_the_pictures_are_mirrored(config, dark):
    pictures = resized(dark)
    config = changed(config, augment="flips", epochs=20, batch_size=12)
    mirrored = []
    for batch in batches.updates(config, pictures, Position()):
        for picture in batch:
            (index,) = (i for i, p in enumerate(pictures) if torch.equal(p, picture) or torch.equal(p.flip(2), picture))
            mirrored.append((index, torch.equal(pictures[index].flip(2), picture)))
    share = sum(flipped for _, flipped in mirrored) / len(mirrored)
    # 240 throws of a coin: four deviations.
    assert abs(share - 0.5) < 4 * 0.5 / math.sqrt(240)
    assert {flipped for index, flipped in mirrored if index == 0} == {True, False}


def test_crops_are_windows_of_the_whole_picture(config, tmp_path):
    """Red tells a pixel's column and green its row: a crop's corners say which window it is."""
    for i in range(8):
        ramp = np.zeros((200, 240, 3), np.uint8)
        ramp[..., 0], ramp[..., 1] = np.arange(240), np.arange(200)[:, None]
        Image.fromarray(ramp).save(tmp_path / f"{i}.png")
    config = changed(config, augment="crops", data=str(tmp_path), size=64, batch_size=6, epochs=20)
    widths, heights = [], []
    for batch in batches.updates(config, training.load_pictures(config).training, Position()):
        for picture in batch.int():
            columns, rows = picture[0, 0, [0, -1]].tolist(), picture[1, [0, -1], 0].tolist()
            # The outermost of 64 pixels lie half a pixel inside of the window.
            widths.append(abs(columns[1] - columns[0]) / 240 * 64 / 63)
            heights.append((rows[1] - rows[0]) / 200 * 64 / 63)
    rounding = 2 / 200
    for shares in (widths, heights):
        assert 0.6 - rounding < min(shares) < 0.65
        assert 0.95 < max(shares) < 1 + rounding
    assert abs(np.corrcoef(widths, heights)[0, 1]) < 4 / math.sqrt(len(widths))


def test_crops_are_not_taken_of_resized_pictures(config, dark):
    with pytest.raises(ValueError, match="pictures must be those that load_pictures gives for crops"):
        next(batches.updates(changed(config, augment="crops"), resized(dark), Position()))
