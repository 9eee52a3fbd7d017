"""Training on a GPU: the CPU's losses, and after an interruption the same bits."""

from dataclasses import replace

import pytest
import torch

import zdce
from zdce import training
from zdce.bench import steps
from zdce.runtime import float32
from zdce.training import learner, step_graph

# As between float64 and float32 on the CPU: 200 steps build on each other.
CURVE = 1e-3


@pytest.fixture
def deterministic(monkeypatch):
    """cuDNN adds up in the same order each time. By its own choice it also takes kernels whose blocks add to gradients as they
    end, for those of float32 weights in planes for instance.
    """
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


def losses(device, steps, amp=False):
    torch.manual_seed(0)
    model = zdce.DCENet("base").to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    image = (torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 0.3).to(device)
    found = []
    for _ in range(steps):
        optimizer.zero_grad()
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=amp):
            logits = model(image)
        total = zdce.ops.zero_reference_objective(image, logits).total
        total.backward()
        optimizer.step()
        found.append(total.detach())
    return torch.stack(found).double().cpu()


@pytest.mark.parametrize("backend", ["triton", "cuda"])
def test_200_steps_have_the_cpus_losses(gpu, backend):
    if reason := zdce.ops.dispatch.why_missing(backend, gpu.type):
        pytest.skip(f"{backend}: {reason}")
    with zdce.backend(backend), float32.convolutions("ieee"):
        got = losses(gpu, 200)
    expected = losses("cpu", 200)
    assert ((got - expected).abs() / expected).max() < CURVE


def test_autocast_learns_as_well(gpu):
    got, expected = losses(gpu, 50, amp=True), losses("cpu", 50)
    assert ((got - expected).abs() / expected).max() < 0.01


def batches(config, number):
    shape = (config.pictures_an_update, 3, config.size, config.size)
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(76, shape, dtype=torch.uint8, generator=generator).pin_memory() for _ in range(number)]


def followed(config, given):
    """The losses of each step, read a step late; an epoch ends after every fifth."""
    made, begun = learner.Learner(config), []
    for number, batch in enumerate(given, 1):
        begun.append(made.begin_step(batch))
        if number % 5 == 0:
            made.end_epoch()
    return torch.tensor([losses() for losses in begun], dtype=torch.float64), made


def distance(one, other):
    """Norm of the difference of all weights that are kept."""
    pairs = zip(one.kept.parameters(), other.kept.parameters(), strict=True)
    return torch.cat([(a - b).detach().flatten() for a, b in pairs]).norm().item()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"accumulate": 2, "clip": 0.5, "ema": 0.9},
        {"schedule": "cosine", "epochs": 6},
        {"amp": True},
        {"amp": True, "accumulate": 2, "clip": 0.5, "ema": 0.9, "schedule": "cosine", "epochs": 6},
        {"activations": "bfloat16"},
        {"variant": "sci"},
        {"variant": "zero-dce-pp"},
    ],
    ids=str,
)
def test_steps_as_a_graph_are_those_kernel_by_kernel(streams, deterministic, monkeypatch, options):
    config = training.Config(**{"batch_size": 4, "size": 64, "lr": 1e-3, "device": streams.type} | options)
    given = batches(config, 30)
    got, made = followed(config, given)
    assert made._graph is not None
    assert made._graph._losses is not None
    monkeypatch.setenv(step_graph.VARIABLE, "0")
    expected, eager = followed(config, given)
    assert eager._graph is None
    # The same kernels; but cuDNN may choose another algorithm, and steps build on each other. On the CPU, gradients that differ
    # by 1e-6 of their largest change losses by up to a seventh of this. Single terms are small differences of large sums;
    # float16 rounds to 11 bits; and a triplet of maps moves all eight steps of zero-dce-pp.
    rough = config.amp or config.variant == "zero-dce-pp"
    tolerances = (10 if rough else 1) * torch.tensor([CURVE, *[20 * CURVE] * 4], dtype=torch.float64)
    assert ((got - expected).abs() <= tolerances * expected.abs().clamp(min=1e-3)).all()
    assert made.rate == eager.rate
    assert made.numbers() == eager.numbers()
    # Single weights may differ by as much as they move: where a gradient is nearly 0, rounding decides on its sign. Those
    # gradients bring all weights up to 0.04 of their way apart.
    assert distance(made, eager) < 0.1 * distance(eager, learner.Learner(config))


def test_the_learning_rate_of_a_graph_is_the_schedules(streams):
    config = training.Config("iters4", batch_size=2, size=32, schedule="cosine", epochs=2, lr=1e-3, device=streams.type)
    made, (batch, *_) = learner.Learner(config), batches(config, 1)
    for _ in range(step_graph.WARM_UP + 1):
        made.step(batch)
    weights, moved = made.model.convolutions[0].weight, []
    for _ in range(3):
        before = weights.detach().clone()
        made.step(batch)
        moved.append((weights.detach() - before).abs().max().item())
        made.end_epoch()
    assert made._graph._losses is not None  # captured before the rate changed
    # Half the rate, then 0: Adam moves in proportion, up to its averages' change in a step.
    assert moved[1] == pytest.approx(moved[0] / 2, rel=0.2)
    assert moved[2] < 1e-6 < moved[1]


def test_a_batch_of_another_shape_runs_beside_the_graph(streams):
    config = training.Config("iters4", batch_size=4, size=32, lr=1e-3, device=streams.type)
    given = batches(config, 8)
    given[5] = given[5][:3].contiguous().pin_memory()
    losses, made = followed(config, given)
    assert losses.isfinite().all()
    assert made._graph._batch.shape[0] == 4


@pytest.mark.parametrize("name", [name for name, provider in steps.GPU_PROVIDERS.items() if not provider.compiles])
def test_every_way_to_train_has_the_gradients_and_losses_of_float64(streams, name):
    image, provider = steps.Job("time", (), (), 2, 64, device=streams.type).image(), steps.GPU_PROVIDERS[name]
    with float32.convolutions("ieee"):
        truth = steps.Truth.of("base", image, steps=30)
        assert truth.error(provider) <= 1
        assert truth.curve_error(provider) <= 1


@pytest.mark.parametrize("options", [{}, {"amp": True}, {"augment": "crops"}], ids=str)
def test_a_resumed_run_ends_with_the_same_bits(gpu, deterministic, dark, tmp_path, options):
    config = training.Config("iters4", str(dark), epochs=4, batch_size=4, size=32, device=gpu.type, **options)
    whole = training.Run.start(config, tmp_path / "whole")
    whole.train()
    training.Run.start(replace(config, epochs=2), tmp_path / "halves").train()
    training.Run.resume(config, tmp_path / "halves").train()
    files = [(tmp_path / name / "last.safetensors").read_bytes() for name in ("whole", "halves")]
    assert files[0] == files[1]
