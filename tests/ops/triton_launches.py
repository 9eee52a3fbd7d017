"""Launches every Triton kernel once, on tensors of any size and device, and counts compilations for a folder of sizes."""

import json
import sys
from collections import defaultdict

import torch

from zdce.bench import triton_kernels
from zdce.kernels import (
    apply_curve,
    channel_means,
    denoise_picture,
    enhance_picture,
    guided_strength,
    objective,
    picture_noise,
    reduce_picture,
    region_means,
    scene_strength,
    tv_sums,
)

KERNELS = {
    *(f"{name}_{way}" for name in ("curve", "channel", "region", "statistics", "tv") for way in ("forward", "backward")),
    *("denoise_forward", "guide_forward", "picture_forward", "reduce_forward", "sample_forward"),
    *("scene_forward", "guided_forward", "terms_shares", "terms_forward", "terms_backward"),
    *("details_forward", "flattest_forward"),
}


def start_every_kernel(height, width, device="cpu"):
    def empty(*shape, dtype=torch.float32):
        return torch.empty(shape, dtype=dtype, device=device)

    region = 4 if min(height, width) >= 4 else 1
    image, maps, sums = empty(1, 3, height, width), empty(1, 24, height, width), empty(2)
    small, means = empty(1, height // region, width // region), empty(1, 3)
    apply_curve.apply_curve(image.flatten(2), maps.flatten(2), 8, empty(1, 3, height * width))
    apply_curve.apply_curve_backward(*(t.flatten(2) for t in (image, image, maps)), 8, image.flatten(2), maps.flatten(2))
    channel_means.channel_means(image, means)
    channel_means.channel_means_backward(means, height, width, image)
    region_means.region_means(image, region, small)
    region_means.region_means_backward(small, region, height, width, image)
    tv_sums.tv_sums(maps, sums)
    tv_sums.tv_sums_backward(sums, maps, maps)
    scalars, settings = [empty() for _ in range(5)], (0.5, 0.5, 1.0, 1.0, 1.0, 1.0, 0.6)
    objective.objective(image, maps, 8, *settings, *scalars, small, small, means)
    objective.objective_backward(scalars[0], *4 * [None], small, small, means, image, maps, 8, *settings, maps)

    picture, enhanced = (empty(height, width, 3, dtype=torch.uint8) for _ in range(2))
    denoise_picture.denoise_picture(picture, enhanced, empty(2, dtype=torch.float64), enhanced)
    picture_noise.picture_noise(picture, 0.0, empty(2, dtype=torch.float64))
    for scale, channels, align_corners in ((1, 24, False), (12, 24, False), (12, 3, True), (6, 2, False)):
        reduced = (-(-side // scale) for side in (height, width))
        enhance_picture.enhance_picture(
            picture, empty(1, channels, *reduced), 8, scale, align_corners, 1.0, channels > 2, None, enhanced
        )  # fmt: skip
    enhance_picture.enhance_picture(picture, maps, 8, 1, False, 1.0, True, sums[:1], enhanced)
    for antialias in (False, True):
        reduced = (-(-side // 12) for side in (height, width))
        reduce_picture.reduce_picture(picture, 12, antialias, empty(1, 3, *reduced))
    thumbnail, plane, strengths = empty(1, 3, 64, 64), empty(1, 1, 64, 64), empty(1)
    scene_strength.scene_strength(thumbnail, empty(1, 24, 64, 64), 8, 0.3, strengths)
    guided_strength.guided_strength(thumbnail, plane, plane, empty(1, 3), 8, strengths)


def main() -> None:
    """Prints as JSON, for each kernel, the most versions that one set of its constants compiles to.

    Arguments: sizes as HxW, each of which starts every kernel, or ``sanitized``, which runs that program; ``compile`` before
    them also compiles each version for sm_90.
    """
    arguments = sys.argv[1:]
    wanted = "compile" in arguments
    with triton_kernels.recording() as launches:
        for program in arguments[wanted:]:
            if program == "sanitized":
                import sanitized

                sanitized.run("triton")
            else:
                start_every_kernel(*map(int, program.split("x")))
    versions = defaultdict(dict)
    for launch in launches:
        source = triton_kernels.source(launch)
        plain = json.dumps([[*map(str, part.items())] for part in (source.signature, source.constants, source.attrs)])
        versions[launch.kernel.__name__, *launch.constants.values()][plain] = launch
    if wanted:
        for launch in (launch for same in versions.values() for launch in same.values()):
            triton_kernels.compiled(launch, "sm_90")
    counts = defaultdict(int)
    for (name, *_), same in versions.items():
        counts[name] = max(counts[name], len(same))
    print(json.dumps(counts))  # noqa: T201 (the answer)


if __name__ == "__main__":
    main()
