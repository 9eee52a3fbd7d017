"""Every kernel of both GPU backends on small shapes, as compute-sanitizer's target."""

import os
import sys

import torch

import zdce

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BACKENDS = ("triton", "cuda") if DEVICE == "cuda" else ("reference",)


def run(backend: str) -> None:
    generator = torch.Generator().manual_seed(0)
    for dtype in (torch.float32, torch.bfloat16):
        for layout in (torch.contiguous_format, torch.channels_last):
            for height, width in ((16, 32), (19, 37)):
                image = torch.rand(2, 3, height, width, generator=generator)
                logits = torch.randn(2, 24, height, width, generator=generator)
                image, logits = (t.to(DEVICE, dtype).to(memory_format=layout) for t in (image, logits))
                logits.requires_grad_()
                with zdce.backend(backend):
                    enhanced = zdce.ops.apply_curve(image, logits.tanh())
                    objective = zdce.ops.zero_reference_objective(image, logits)
                    terms = [
                        enhanced.sum(), objective.total, zdce.ops.illumination_smoothness(logits),
                        zdce.ops.spatial_consistency(enhanced, image), zdce.ops.color_constancy(enhanced),
                        zdce.ops.exposure_control(enhanced),
                    ]  # fmt: skip
                    sum(term.float() for term in terms).backward()
    picture = torch.randint(0, 90, (37, 53, 3), dtype=torch.uint8, generator=generator).to(DEVICE)
    with zdce.backend(backend):
        for scale in (1, 4):
            small = zdce.ops.reduce_picture(picture, scale) if scale > 1 else None
            size = (37, 53) if small is None else small.shape[2:]
            maps = torch.randn(1, 24, *size, generator=generator).to(DEVICE)
            enhanced = zdce.ops.enhance_picture(picture, maps, 8, scale=scale, logits=True)
        zdce.ops.denoise_picture(picture, enhanced, 0.01, 0.01)
        for name in ("base", "zero-dce", "adaptive", "local"):  # on the CUDA backend one kernel each
            zdce.Enhancer(zdce.load(name).to(DEVICE), precision="bf16").pictures(picture[None])
    if DEVICE == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    os.environ.setdefault("PYTORCH_NO_CUDA_MEMORY_CACHING", "1")  # each tensor an allocation of its own, with an end
    for name in BACKENDS:
        if reason := zdce.ops.dispatch.why_missing(name, DEVICE):
            sys.exit(f"{name}: {reason}")
        run(name)
