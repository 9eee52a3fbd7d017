"""Steps as one graph: the losses, weights and state of steps that run operation by operation, bit for bit."""

import gc
import weakref
from contextlib import nullcontext

import pytest
import torch
from torch.optim import optimizer
from torch.utils._python_dispatch import TorchDispatchMode

from cuda_on_cpu import CudaOnCpu, tensors
from zdce import training
from zdce.training import learner, step_graph

STEPS = 8

OPTIONS = [
    {},
    {"accumulate": 2},
    {"clip": 0.5},
    {"ema": 0.9},
    {"schedule": "cosine", "epochs": 4},
    {"activations": "bfloat16"},
    {"variant": "sci"},
    {"variant": "zero-dce-pp"},
    {"amp": True},
    {"amp": True, "clip": 0.5, "ema": 0.9, "accumulate": 2, "schedule": "cosine", "epochs": 4},
]


@pytest.fixture(autouse=True)
def cuda(monkeypatch):
    """Takes the CPU for a GPU, with its type of mixed precision."""
    monkeypatch.setattr(learner, "_only_starts_work", lambda device: True)
    monkeypatch.setitem(learner.AMP, "cpu", torch.float16)
    return CudaOnCpu(monkeypatch)


def config(**options):
    return training.Config(**{"variant": "iters4", "batch_size": 2, "size": 32, "lr": 1e-3, "seed": 3} | options)


def batches(of, steps=STEPS):
    generator = torch.Generator().manual_seed(0)
    shape = (of.pictures_an_update, 3, of.size, of.size)
    return [torch.randint(100, shape, dtype=torch.uint8, generator=generator) for _ in range(steps)]


def trained(of, given):
    """The losses of each step, and the learner; an epoch ends after every second step."""
    made = learner.Learner(of)
    losses = []
    for number, batch in enumerate(given, 1):
        losses.append(made.step(batch))
        if number % 2 == 0:
            made.end_epoch()
    return losses, made


def without_graph(monkeypatch, of, given):
    with monkeypatch.context() as patched:
        patched.setenv(step_graph.VARIABLE, "0")
        return trained(of, given)


def assert_same(one, other):
    saved, others = one.tensors(), other.tensors()
    assert saved.keys() == others.keys()
    for name, tensor in saved.items():
        assert torch.equal(tensor, others[name]), name
    assert one.numbers() == other.numbers()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_steps_are_those_without_a_graph(cuda, monkeypatch, options):
    of = config(**options)
    losses, made = trained(of, batches(of))
    expected, eager = without_graph(monkeypatch, of, batches(of))
    assert losses == expected
    assert_same(made, eager)
    assert len({total for total, *_ in losses}) == STEPS
    assert len(cuda.graphs) == 1
    assert cuda.log == ["beside"] * step_graph.WARM_UP + ["capture"] + ["replay"] * (STEPS - step_graph.WARM_UP)
    assert made.warm_up == step_graph.WARM_UP + 1
    assert eager.warm_up == 1


def test_a_batch_of_another_shape_runs_beside_the_graph(cuda, monkeypatch):
    of = config(ema=0.9)
    given = batches(of)
    given[5] = given[5][:1]
    losses, made = trained(of, given)
    expected, eager = without_graph(monkeypatch, of, given)
    assert losses == expected
    assert_same(made, eager)
    assert cuda.log == ["beside", "beside", "capture", "replay", "replay", "replay", "beside", "replay", "replay"]


def test_gradients_that_overflow_change_nothing_but_their_scale(cuda):
    of = config(amp=True)
    (batch,) = batches(of, 1)
    made = learner.Learner(of)
    for _ in range(step_graph.WARM_UP + 1):
        made.step(batch)
    weights, scale = made.model.convolutions[0].weight.clone(), made.scaler.get_scale()
    made.scaler._scale.fill_(2.0**40)
    made.step(batch)
    assert torch.equal(made.model.convolutions[0].weight, weights)
    assert made.scaler.get_scale() == 2.0**39
    made.scaler._scale.fill_(scale)
    made.step(batch)
    assert not torch.equal(made.model.convolutions[0].weight, weights)
    assert cuda.log.count("capture") == 1


@pytest.mark.parametrize("options", [{}, OPTIONS[-1]], ids=str)
def test_a_state_of_steps_in_a_graph_goes_on_with_the_same_bits(options):
    of = config(**options)
    given = batches(of, 12)
    losses, whole = trained(of, given)
    first, half = trained(of, given[:6])
    saved, resumed = (half.tensors(), half.numbers()), learner.Learner(of)
    resumed.check(*saved)
    for _ in range(step_graph.WARM_UP + 1):  # its graph is of a state that `load` replaces
        resumed.step(given[0])
    resumed.load(*saved)
    for number, batch in enumerate(given[6:], 1):
        first.append(resumed.step(batch))
        if number % 2 == 0:
            resumed.end_epoch()
    assert first == losses
    assert_same(resumed, whole)


def test_losses_are_read_after_the_next_step():
    of = config()
    given = batches(of)
    expected, _ = trained(of, given)
    made = learner.Learner(of)
    begun = [made.begin_step(batch) for batch in given]
    assert [losses() for losses in begun] == expected


def test_a_run_stops_at_a_loss_that_is_not_finite(dark, tmp_path):
    run = training.Run.start(config(data=str(dark), epochs=9, lr=1e30), tmp_path / "run")
    with pytest.raises(training.TrainingError, match="the loss is not finite in epoch"):
        run.train()


def test_a_capture_that_fails_says_how_to_train_without(monkeypatch):
    def forbidden(*_, **__):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "graph", forbidden)
    of = config()
    with pytest.raises(RuntimeError, match="not permitted") as raised:
        trained(of, batches(of))
    assert "ZDCE_STEP_GRAPH=0 trains without" in raised.value.__notes__[0]


def test_a_learner_that_is_not_used_frees_its_graph(cuda):
    of = config(ema=0.9)
    made = learner.Learner(of)
    for batch in batches(of):
        made.step(batch)
    graph = cuda.graphs.pop()
    freed = weakref.ref(graph)
    gc.disable()
    try:
        del made, graph
        assert freed() is None
    finally:
        gc.enable()


def test_mixed_precision_keeps_the_channels_of_a_pixel_together():
    for options, layout in (({}, torch.contiguous_format), ({"amp": True}, torch.channels_last)):
        made = learner.Learner(config(**options))
        made.step(batches(made.config, 1)[0])
        weights = [weight for weight in made.model.parameters() if weight.dim() == 4]
        assert all(weight.is_contiguous(memory_format=layout) for weight in weights)
        assert any(weight.is_contiguous() for weight in weights) != bool(options)


# Of a device whose tensors have no values: what waits for one fails, as in a capture.
META = torch.device("meta")

# Operators that have no kernel for it, and what they return: they write their arguments.
UNKNOWN = {
    "_fused_adam_": lambda *_: None,
    "_amp_foreach_non_finite_check_and_unscale_": lambda *_: None,
    "_amp_update_scale_": lambda scale, *_: scale,
}


class OnOneDevice(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.operators = set()

    def __torch_dispatch__(self, operator, types, arguments=(), keywords=None):
        name = operator.overloadpacket.__name__
        self.operators.add(name)
        results = UNKNOWN[name](*arguments) if name in UNKNOWN else operator(*arguments, **(keywords or {}))
        devices = {tensor.device for tensor in tensors((arguments, keywords, results))}
        assert len(devices) <= 1, f"{operator} copies between {devices}"
        return results


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_step_neither_waits_nor_copies_from_the_host(monkeypatch, options):
    monkeypatch.setattr(optimizer, "_get_fused_kernels_supported_devices", lambda: ["meta"])
    monkeypatch.setitem(learner.AMP, "meta", torch.float16)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which does not know the device
    of = config(**options, device="meta")
    made = learner.Learner(of)
    batch = torch.empty(of.pictures_an_update, 3, of.size, of.size, dtype=torch.uint8, device=META)
    for _ in range(step_graph.WARM_UP):
        with OnOneDevice() as step:
            made._whole_step(batch)
    assert "_fused_adam_" in step.operators
    assert ("_amp_update_scale_" in step.operators) == of.amp
