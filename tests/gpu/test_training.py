"""Training on a GPU: the CPU's losses, and after an interruption the same bits."""

from dataclasses import replace

import pytest
import torch

import zdce
from zdce import training

# As between float64 and float32 on the CPU: 200 steps build on each other.
CURVE = 1e-3


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
    torch.backends.cudnn.conv.fp32_precision, before = "ieee", torch.backends.cudnn.conv.fp32_precision
    try:
        with zdce.backend(backend):
            got = losses(gpu, 200)
    finally:
        torch.backends.cudnn.conv.fp32_precision = before
    expected = losses("cpu", 200)
    assert ((got - expected).abs() / expected).max() < CURVE


def test_autocast_learns_as_well(gpu):
    got, expected = losses(gpu, 50, amp=True), losses("cpu", 50)
    assert ((got - expected).abs() / expected).max() < 0.01


@pytest.mark.parametrize("options", [{}, {"amp": True}, {"augment": "crops"}], ids=str)
def test_a_resumed_run_ends_with_the_same_bits(gpu, dark, tmp_path, options):
    config = training.Config("iters4", str(dark), epochs=4, batch_size=4, size=32, device=gpu.type, **options)
    whole = training.Run.start(config, tmp_path / "whole")
    whole.train()
    training.Run.start(replace(config, epochs=2), tmp_path / "halves").train()
    training.Run.resume(config, tmp_path / "halves").train()
    files = [(tmp_path / name / "last.safetensors").read_bytes() for name in ("whole", "halves")]
    assert files[0] == files[1]
