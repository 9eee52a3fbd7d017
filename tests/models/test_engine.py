"""The inference engine: every network within float32's rounding of float64, and the same bits for all threads and tiles."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import conv2d

import zdce
from cases import run_with_isa
from zdce import reference
from zdce.models import engine, network
from zdce.models.engine import PixelSettings
from zdce.models.stored import StoredNetwork
from zdce.models.variants import VARIANTS, Variant

# The largest error in Y that the engine may make in float32, on curves that are far from 0.
TOLERANCE = 1e-5


def random_network(variant, seed=0):
    """A network whose curves are far from 0, as an untrained one's are not."""
    torch.manual_seed(seed)
    model = zdce.DCENet(variant).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 4:
                parameter.mul_(1.5)
            else:
                parameter.uniform_(-0.2, 0.2)
    return model


class Packed:
    """The engine on tensors: a network's curve, with nothing sought for the scene and nothing guided."""

    def __init__(self, model, precision):
        weights = network.to_stored(model).weights
        self._engine = engine.Engine(StoredNetwork(replace(model.variant, guided=False), weights), precision)

    def maps(self, image):
        return torch.from_numpy(self._engine.maps(image.numpy(), PixelSettings())[0])

    def enhance(self, image, strength):
        return torch.from_numpy(self._engine.enhance(image.numpy(), PixelSettings(strength=strength)))


def packed(model, precision="fp32"):
    if reason := engine.why_unsupported(model.variant):
        pytest.skip(reason)
    if engine.computed_precision(precision) != precision:
        pytest.skip("the processor has no unit for bfloat16")
    return Packed(model, precision)


def picture(height, width, seed=0):
    return torch.rand(height, width, 3, generator=torch.Generator().manual_seed(seed))


def exact(model, image, strength=1.0):
    """Curve maps (C, H, W) and the enhanced picture (H, W, 3) in float64."""
    values = image.permute(2, 0, 1)[None].double()
    with torch.no_grad():
        maps = (torch.tanh(copy.deepcopy(model).double()(values)) * strength).clamp(-1, 1)
    return maps[0], reference.apply_curve(values, maps, model.variant.iterations)[0].permute(1, 2, 0)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (3, 2), (7, 64), (65, 6), (37, 53)])
@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_and_size(name, size):
    model, image = random_network(name), picture(*size)
    net = packed(model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine.np, "empty", lambda shape, dtype: np.full(shape, np.nan, dtype))
        maps, enhanced = net.maps(image), net.enhance(image, 1.0)
    wanted_maps, wanted = exact(model, image)
    assert (maps - wanted_maps).abs().max() < TOLERANCE
    assert (enhanced - wanted).abs().max() < TOLERANCE


UNNAMED = [
    Variant("odd", "", "", sources=((0,), (1,), (2, 1)), filters=20, iterations=5),
    Variant("narrow", "", "", sources=((0,), (1,)), filters=3, iterations=1),
    Variant("wide", "", "", sources=((0,), (1,), (1, 2)), filters=48, iterations=16),
    Variant("shared", "", "", sources=((0,), (1,)), shared_maps=True, iterations=3),
]


@pytest.mark.parametrize("variant", UNNAMED)
def test_networks_that_nobody_named(variant):
    model, image = random_network(variant), picture(19, 30)
    maps, enhanced = exact(model, image)
    net = packed(model)
    assert (net.maps(image) - maps).abs().max() < TOLERANCE
    assert (net.enhance(image, 1.0) - enhanced).abs().max() < TOLERANCE


def test_wide_and_high_pictures_take_several_tiles():
    model = random_network("base")
    for size in [(21, 2500), (700, 9)]:
        image = picture(*size)
        assert (packed(model).enhance(image, 1.0) - exact(model, image)[1]).abs().max() < TOLERANCE


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["base", "layers7", "zero-dce-pp"])
def test_threads_and_tiles_leave_the_bits(name, precision):
    net, image = packed(random_network(name), precision), picture(530, 1300)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(net.enhance(image, 1.0))
        assert torch.equal(results[0], results[1])
        assert torch.equal(results[0], results[2])
    finally:
        torch.set_num_threads(threads)
    # A narrower picture is cut into other tiles; 28 columns are more than any layer's fours of columns reach.
    assert torch.equal(net.enhance(image[:, 100:1000], 1.0)[:, 28:-28], results[0][:, 128:972])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_integers_are_rounded_floats(precision):
    net = packed(random_network("iters4"), precision)
    for dtype, white in ((torch.uint8, 255), (torch.uint16, 65535)):
        levels = (picture(33, 45) * white).round()
        wanted = (net.enhance(levels / white, 1.0) * white).round()
        assert torch.equal(net.enhance(levels.to(dtype), 1.0).float(), wanted)


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.7, -1.0, -3.0])
def test_strength_scales_the_maps(strength):
    model, image = random_network("base"), picture(20, 30)
    got = packed(model).enhance(image, strength)
    assert (got - exact(model, image, strength)[1]).abs().max() < TOLERANCE
    if strength == 0:
        assert torch.equal(got, image)


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.7, -1.0, -3.0])
def test_strength_scales_the_maps_in_bfloat16(strength):
    model, image = random_network("base"), picture(20, 30)
    got = packed(model, "bf16").enhance(image, strength)
    # Three times what strengths within 1 leave: -3 amplifies rounding. Maps beyond 1 would be hundreds of levels off.
    assert (got - exact(model, image, strength)[1]).square().mean().sqrt() < 5e-3
    if strength == 0:
        assert torch.equal(got, image)


@pytest.mark.parametrize("view", [
    lambda wide: wide[3:24, 5:36],
    lambda wide: wide[::2, ::3],
    lambda wide: wide.transpose(0, 1),
    lambda wide: wide.permute(2, 0, 1).contiguous().permute(1, 2, 0),
])  # fmt: skip
def test_any_strides(view):
    net, image = packed(random_network("base")), view((picture(60, 90) * 255).to(torch.uint8))
    assert torch.equal(net.enhance(image, 1.0), net.enhance(image.contiguous(), 1.0))


@pytest.mark.parametrize(("dtype", "white"), [(torch.uint8, 255), (torch.uint16, 65535), (torch.float32, 1)])
def test_pixels_and_planes_of_every_width_are_read_alike(dtype, white):
    net = packed(random_network("iters4"))
    for width in range(1, 21):
        image = (picture(3, width) * white).to(dtype)
        planes = image.permute(2, 0, 1).contiguous().permute(1, 2, 0)
        assert np.array_equal(net.enhance(image, 1.0), net.enhance(planes, 1.0))


@pytest.mark.parametrize("name", VARIANTS)
def test_bfloat16_is_close(name):
    # Feature maps and weights keep 8 bits; 55 dB is an error of about half a level of 8 bits.
    photograph = np.asarray(Image.open(Path(__file__).parents[2] / "docs" / "dark.jpg"))[100:160, 50:260]
    model, image = random_network(name), torch.from_numpy(photograph / np.float32(255))
    error = packed(model, "bf16").enhance(image, 1.0) - packed(model).enhance(image, 1.0)
    assert 0 < error.square().mean() < 10**-5.5


class FirstLayer(torch.nn.Module):
    """The first layer in bfloat16: colours and weights are each the sum of two, of which the small ones don't meet."""

    def __init__(self, convolution: torch.nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        weight = self.convolution.weight
        large = weight.bfloat16().double()
        small = (weight - large).bfloat16().double()
        color = image.bfloat16().double()
        rest = (image - color).bfloat16().double()
        sums = conv2d(color + rest, large, self.convolution.bias, padding=1) + conv2d(color, small, padding=1)
        return sums.relu().bfloat16()


@pytest.mark.parametrize("variant", [*UNNAMED, *(VARIANTS[name] for name in ("base", "zero-dce"))])
def test_bfloat16_rounds_feature_maps_and_weights(variant):
    model = random_network(variant)
    rounded = zdce.DCENet(variant, "bfloat16")
    rounded.load_state_dict(model.state_dict())
    rounded.convolutions[0] = FirstLayer(rounded.convolutions[0])
    with torch.no_grad():
        for layer in rounded.convolutions[1:]:
            layer.weight.copy_(layer.weight.bfloat16())
    net, pictures = packed(model, "bf16"), [picture(5, 40, seed) for seed in range(5)]
    errors = [(net.maps(image) - exact(rounded, image)[0]).square().mean().sqrt() for image in pictures]
    # Where sums in float32 and float64 fall to different sides of a step of 2^-8, later layers see it: in one of such small
    # pictures at most. Without rounding of the later layers' weights all errors are above 4e-4.
    *most, largest = sorted(errors)
    assert most[-1] < 2e-5
    assert largest < 1e-4


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_pixel_that_is_no_number_spoils_only_its_neighbours(precision):
    net, image = packed(random_network("base"), precision), picture(80, 100)
    wanted = net.enhance(image, 1.0)
    image[40, 50] = float("nan")
    got = net.enhance(image, 1.0)
    number = ~got.isnan().any(-1)
    assert number.sum() == 80 * 100 - 1
    # In Winograd's arithmetic each of the five layers passes it on to all pixels of the tiles of 4x4 that read it.
    far = torch.ones(80, 100, dtype=torch.bool)
    far[20:61, 30:71] = False
    assert torch.equal(got[far], wanted[far])


def test_bfloat16_without_a_unit_for_it_is_float32():
    if engine.computed_precision("bf16") == "bf16":
        pytest.skip("the processor has a unit for bfloat16")
    model, image = random_network("base"), picture(20, 30).numpy()
    for backend in ("auto", "reference"):
        with zdce.backend(backend):
            exact, asked = (zdce.Enhancer(model, precision=precision)(image) for precision in ("fp32", "bf16"))
        assert np.array_equal(asked, exact)


@pytest.mark.parametrize("isa", ["default", "avx2"])
def test_instruction_sets(isa):
    run_with_isa(
        isa,
        """
import test_engine as t
for name in ("zero-dce", "zero-dce-pp"):
    t.test_every_variant_and_size(name, (31, 77))
t.test_bfloat16_without_a_unit_for_it_is_float32()
""",
    )


def test_what_makes_no_network_is_refused():
    core = pytest.importorskip("zdce._core")
    model = random_network("base")
    weights = network.to_stored(model).weights.values()
    plan, parameters = (
        np.array(engine.network_plan(model.variant, "fp32")),
        np.concatenate([values.ravel() for values in weights]),
    )
    core.make_network(plan, parameters, 1, False)
    for wrong in [
        (plan[:-1], parameters),
        (plan + 100, parameters),
        (np.array([0, 0, 8, 3, 1024, 1, 0, 1024, 1, 1, 24, 2, 1, 2]), parameters),
        (plan, parameters[:-1]),
        (plan.astype(np.int32), parameters),
        (plan, parameters.astype(np.float64)),
    ]:
        with pytest.raises(ValueError, match=r"plan|weights|float32|layer|network|convolution|channels"):
            core.make_network(*wrong, 1, False)


@pytest.mark.parametrize(("variant", "reason"), [
    (Variant("late", "", "", sources=((0,), (1, 0))), "only the first convolution may read the image"),
    (
        Variant("wide", "", "", sources=((0,), (1, 1)), filters=520, iterations=1),
        "a convolution reads more than 64 blocks of 16 channels",
    ),
])  # fmt: skip
def test_what_the_engine_can_not_run_torch_does(variant, reason):
    model = random_network(variant)
    if engine.why_unsupported(VARIANTS["base"]):
        pytest.skip("the engine is not built")
    assert engine.why_unsupported(model.variant) == reason
    image = picture(9, 8).permute(2, 0, 1)[None]
    wanted = exact(model, image[0].permute(1, 2, 0))[1]
    assert (zdce.Enhancer(model)(image)[0].permute(1, 2, 0) - wanted).abs().max() < TOLERANCE
