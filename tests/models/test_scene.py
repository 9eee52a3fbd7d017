"""Strength for a scene: dark scenes are brought to a brightness, lit ones stay, and nothing is clipped."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data as photographs

import zdce
from zdce import srgb
from zdce.metrics.light import dark_half, lit_half
from zdce.models import guidance, guided_scene, scene, torch_engine
from zdce.models.engine import PixelSettings
from zdce.models.variants import VARIANTS, Variant
from zdce.scene_constants import HIGHEST_STRENGTH, SIDE

BRIGHTNESS = 0.28
MAPS = torch.full((1, 24, SIDE, SIDE), -0.3)


def dark_scene(mean, contrast=0.3, seed=0):
    random = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    return (mean * (1 + contrast * (2 * random - 1))).clamp(0, 1)


def found(image, brightness=BRIGHTNESS):
    strength = scene.strength(image, MAPS.expand(len(image), -1, -1, -1), 8, brightness)
    return strength, zdce.ops.apply_curve(image, (MAPS * strength).clamp(-1, 1), 8)


def wanted(own):
    """The mean of a dark scene of that own mean."""
    return BRIGHTNESS * (own / 0.05) ** 0.4


@pytest.mark.parametrize("mean", [0.03, 0.05, 0.11])
def test_dark_scenes_come_to_their_brightness(mean):
    image = dark_scene(mean)
    strength, enhanced = found(image)
    # The last of 15 halvings of 2 moves the mean by a hundredth of a level of 255, and what is found stays below.
    assert wanted(image.mean()) - 0.02 / 255 < enhanced.mean() <= wanted(image.mean())
    assert 0 < strength < HIGHEST_STRENGTH


def test_no_scene_goes_beyond_the_middle():
    for brightness, most in ((0.45, 0.5), (0.6, 0.6)):
        mean = found(dark_scene(0.1), brightness)[1].mean()
        assert most - 0.02 / 255 < mean <= most


@pytest.mark.parametrize("mean", [0.27, 0.35, 0.6, 0.95])
def test_lit_scenes_are_left_alone(mean):
    assert found(dark_scene(mean))[0] == 0


def test_in_between_scenes_go_part_of_the_way():
    image = dark_scene(0.182)  # in the middle of 0.112 and 0.252
    _, enhanced = found(image)
    assert abs(enhanced.mean() - (image.mean() + wanted(image.mean())) / 2) < 1 / 255


def test_each_image_has_its_own():
    images = torch.cat([dark_scene(0.05), dark_scene(0.4), dark_scene(0.1)])
    together, _ = found(images)
    assert together.shape == (3, 1, 1, 1)
    assert torch.equal(together.flatten(), torch.stack([found(image[None])[0].squeeze() for image in images]))


def test_black_counts_nothing():
    image = dark_scene(0.4)
    night = image.clone()
    night[..., : SIDE * 3 // 4] = 1 / 255
    assert found(night)[0] == 0


@pytest.mark.parametrize(("black", "share"), [(1 / 8, 1), (1 / 4, 1), (1 / 2, 2 / 3)])
def test_a_little_black_is_part_of_the_scene(black, share):
    image = dark_scene(0.04)
    own = image[..., int(black * SIDE) :].mean()
    image[..., : int(black * SIDE)] = 1 / 255
    assert abs(found(image)[1].mean() - share * wanted(own)) < 0.1 / 255


def test_bright_parts_are_not_burnt():
    image = dark_scene(0.02)
    image[..., :8, :] = 0.9
    strength, enhanced = found(image)
    assert strength > 0
    assert (enhanced >= 254.5 / 255).float().mean() <= 0.003
    assert enhanced.mean() < wanted(image.mean()) - 1 / 255


def test_maps_end_at_one():
    # One step with a = -1 takes 0.03 to 0.059: 0.07 is out of reach, where a = -1.5 would do.
    strength = scene.strength(dark_scene(0.03), torch.full((1, 3, SIDE, SIDE), -0.9), 1, 0.07 / 0.6**0.4)
    assert strength > 0.999 * HIGHEST_STRENGTH


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_black_and_white_stay(level):
    _, enhanced = found(torch.full((1, 3, SIDE, SIDE), level))
    assert torch.equal(enhanced, torch.full_like(enhanced, level))


@pytest.mark.parametrize("level", [1, 2])
def test_nearly_black_frames_stay_nearly_black(level):
    assert found(torch.full((1, 3, SIDE, SIDE), level / 255))[0] == 0
    noise = torch.randint(0, level + 1, (1, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0)) / 255
    assert found(noise)[0] == 0
    noise[..., 0, 0] = 30 / 255  # of a hot pixel
    assert found(noise)[0] < 0.05


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (64, 64), (1080, 1920)])
def test_a_thumbnail_is_pixels_from_all_over(size):
    rows, columns = (torch.arange(side, dtype=torch.float64).div(side) for side in size)
    image = torch.stack([rows[:, None].expand(size), columns.expand(size), torch.zeros(size, dtype=torch.float64)])[None]
    small = scene.thumbnail(image)
    assert small.shape == (1, 3, SIDE, SIDE)
    middles = (torch.arange(SIDE) + 0.5) / SIDE
    for axis, pixels in ((0, small[0, 0, :, 0]), (1, small[0, 1, 0])):
        assert (pixels - middles).abs().max() <= 1 / size[axis]


@pytest.fixture(scope="module")
def adaptive():
    torch.manual_seed(0)
    model = zdce.DCENet(Variant("adaptive", "", "", filters=8, brightness=BRIGHTNESS, noise=2))
    torch.nn.init.constant_(model.convolutions[-1].bias, -0.2)
    return model.eval()


def picture(height, width, dtype=np.uint8, seed=0):
    values = np.random.default_rng(seed).normal(0.06, 0.02, (height, width, 3)).clip(0, 1)
    white = np.iinfo(dtype).max
    return np.rint(values * white).astype(dtype)


@pytest.mark.parametrize("scale", [1, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_enhancer_gives_what_the_network_gives(adaptive, dtype, scale):
    image, white = picture(70, 90, dtype), np.iinfo(dtype).max
    got = zdce.Enhancer(adaptive, scale=scale, noise=adaptive.variant.noise)(image)
    values = torch.from_numpy(image.astype(np.float32) / white).permute(2, 0, 1)[None]
    with torch.no_grad():
        wanted = adaptive.enhance(values, scale)[0].permute(1, 2, 0).numpy() * white
    # Rounded before it is denoised and after: 1/2 each, and what weights that differ by it add.
    assert np.abs(got - wanted).max() < 1.25 + 2e-5 * white
    assert abs(got.mean() / white - BRIGHTNESS) < 0.03


@pytest.mark.parametrize("scale", [1, 4])
def test_maps_and_apply_are_a_call(adaptive, scale):
    image = picture(40, 61)
    for strength in (1.0, 0.4, -0.5, 2.0, 0.0):
        ready = zdce.Enhancer(adaptive, scale=scale, strength=strength)
        # Three factors round otherwise in another order: a level here and there.
        assert np.abs(ready.apply(image, ready.maps(image)).astype(int) - ready(image)).max() <= 1
        assert np.array_equal(ready.maps(image), zdce.Enhancer(adaptive, scale=scale).maps(image))


def test_strips_do_not_show(adaptive, monkeypatch):
    image, engine = picture(50, 33), torch_engine.TorchEngine(adaptive, "fp32")
    settings = PixelSettings(1, 1.0, BRIGHTNESS, 1.4)
    whole = engine.enhance(image, settings)
    for rows in (8, 9, 23, 49):
        monkeypatch.setattr(torch_engine, "_STRIP", 33 * rows)
        assert np.array_equal(engine.enhance(image, settings), whole)


def test_no_strength_is_no_change(adaptive):
    for dtype in (np.uint8, np.uint16):
        image = picture(20, 31, dtype)
        assert np.array_equal(zdce.Enhancer(adaptive, strength=0.0)(image), image)


def test_what_a_variant_does_can_be_said_otherwise(adaptive):
    image = picture(64, 64)
    plain = zdce.DCENet(Variant("plain", "", "", filters=8)).eval()
    plain.load_state_dict(adaptive.state_dict())
    assert np.array_equal(zdce.Enhancer(adaptive, brightness=0, noise=0)(image), zdce.Enhancer(plain)(image))
    assert np.array_equal(zdce.Enhancer(plain, brightness=BRIGHTNESS, noise=2)(image), zdce.Enhancer(adaptive, noise=2)(image))
    brighter = zdce.Enhancer(adaptive, brightness=0.5)
    assert abs(brighter(image).mean() / 255 - 0.5) < 0.03
    assert np.array_equal(brighter.with_settings(strength=1.0)(image), brighter(image))
    assert np.array_equal(brighter.with_settings(noise=0.0)(image), zdce.Enhancer(adaptive, brightness=0.5, noise=0)(image))
    assert zdce.Enhancer(adaptive, noise=0)(image).std() > 1.3 * zdce.Enhancer(adaptive)(image).std()


def test_the_model_keeps_its_gradients(adaptive):
    image = torch.rand(2, 3, 20, 30) * 0.1
    adaptive.enhance(image).mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in adaptive.parameters())
    adaptive.zero_grad()


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee", "rocket"])
def test_well_exposed_photographs_are_left_alone(name):
    photograph = getattr(photographs, name)()[..., :3]
    enhanced = zdce.enhance(photograph, zdce.load("adaptive"))
    error = np.mean((enhanced / 255 - photograph / 255) ** 2)
    assert error < 10**-2.5  # 25 dB


@pytest.mark.parametrize("level", [0, 12, 128, 255])
def test_flat_frames_stay_flat(level):
    enhanced = zdce.enhance(np.full((90, 120, 3), level, np.uint8), zdce.load("adaptive"))
    inner = enhanced[12:-12, 12:-12]  # the network sees the border as black
    assert (inner == inner[0, 0]).all()


def test_area_thumbnails_are_area_means():
    for size in ((1, 1), (3, 200), (64, 64), (67, 100), (180, 321)):
        image = torch.rand(2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        small = guided_scene.thumbnail(image)
        assert small.shape == (2, 3, SIDE, SIDE)
        torch.testing.assert_close(small.mean((2, 3)), image.mean((2, 3)), rtol=0, atol=1e-12)
    rows = torch.arange(4.0)[:, None].expand(4, 4)[None, None]
    assert torch.equal(guided_scene.thumbnail(rows), rows.repeat_interleave(16, 2).repeat_interleave(16, 3))
    third = guided_scene.thumbnail(torch.tensor([0.0, 0.0, 1.0])[None, None, :, None])[0, 0, :, 0]
    assert (third[:42] == 0).all()  # 64 intervals of 3/64 pixels: the third pixel begins two thirds into interval 42
    assert third[42].item() == pytest.approx(1 / 3)
    assert (third[43:] == 1).all()


@pytest.fixture(params=["auto", "reference"])
def way(request):
    """The engine, where it is built, and torch."""
    with zdce.backend(request.param):
        yield request.param


@pytest.fixture(scope="module")
def local():
    torch.manual_seed(0)
    model = zdce.DCENet(replace(VARIANTS["local"], filters=8, brightness=0.4, noise=2.0))
    torch.nn.init.constant_(model.convolutions[-1].bias, -0.2)
    return model.eval()


def half_dark(dark, lit, height=64, width=96):
    """A picture whose left half is ``dark`` and whose right half is ``lit``, with some texture."""
    image = np.full((height, width, 3), dark)
    image[:, width // 2 :] = lit
    return (image * np.random.default_rng(0).uniform(0.8, 1.2, image.shape)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("mean", [0.03, 0.05, 0.1])
def test_guided_maps_bring_dark_scenes_to_their_brightness(mean):
    image = dark_scene(mean)
    strength = guided_scene.strength(guided_scene.read(image), torch.full((1, 1, 64, 64), -0.3), 8, 0.4)
    enhanced = zdce.ops.apply_curve(image, (strength * -0.3).expand(1, 24, 64, 64).clamp(-1, 1), 8)
    target = min(0.4 * (image.mean() / 0.05) ** 0.2, 0.5)
    assert target - 0.04 / 255 < enhanced.mean() <= target


@pytest.mark.parametrize(("seen", "share"), [(48, 1), (42, 1), (32, (32 / 64 / 0.65) ** 3)])
def test_more_than_a_third_of_black_lowers_the_target(seen, share):
    image = dark_scene(0.05)
    image[..., seen:, :] = 0
    strength = guided_scene.strength(guided_scene.read(image), torch.full((1, 1, 64, 64), -0.3), 8, 0.4)
    enhanced = zdce.ops.apply_curve(image, (strength * -0.3).expand(1, 24, 64, 64).clamp(-1, 1), 8)
    assert enhanced.mean().item() == pytest.approx(0.4 * share, abs=0.003)


@pytest.mark.parametrize(
    ("dark", "lit", "black", "changes"),
    [
        (0.13, 0.5, 0, True),
        (0.17, 0.5, 0, False),
        (0.17, 0.7, 0, True),  # backlit: less than 0.3 of the brighter half
        (0.22, 0.7, 0, False),
        (0.17, 0.5, 0.1, True),  # a little black is shadow
        (0.17, 0.5, 0.5, False),  # much of it is night
    ],
)
def test_scenes_are_lit_where_their_darker_half_is(dark, lit, black, changes):
    image = torch.full((1, 3, 64, 64), dark)
    image[..., 32:] = lit
    image[..., : int(64 * black), :] = 0.0
    strength = guided_scene.strength(guided_scene.read(image), torch.full((1, 1, 64, 64), -0.3), 8, 0.4)
    assert (strength > 0).item() == changes


@pytest.mark.parametrize(
    ("lit", "backlit", "fall"),
    [(0.4, 0.0, (0.4, 1.0)), (0.5175, 0.5, (0.25, 0.75875)), (0.58, 1.0, (0.1, 0.58)), (0.8, 1.0, (0.1, 0.8))],
)
def test_the_brighter_half_says_how_backlit_a_scene_is(lit, backlit, fall):
    image = torch.full((1, 3, 40, 60), 0.1)
    image[..., 30:] = lit
    scene = guided_scene.read(image)
    assert scene.darker.item() == pytest.approx(0.1)
    assert scene.brighter.item() == pytest.approx(lit)
    # Means in float32 are right to 1e-6; how backlit a scene is goes from 0 to 1 within an eighth, and so magnifies it 8 times.
    assert scene.backlit.item() == pytest.approx(backlit, abs=1e-5)
    assert [luma.item() for luma in scene.fall] == pytest.approx(fall, abs=1e-5)


@pytest.mark.parametrize(
    ("lamps", "rest", "black", "night"),
    [
        (0.8, 0.1, 0.5, 1.0),
        (0.8, 0.1, 0.2, 0.5),  # a fifth is black
        (0.8, 0.1, 0.0, 0.0),
        (0.8, 0.4, 0.25, 0.0),  # the brighter half is as well lit as the lamps
        (0.8, 0.4, 0.5, 1.0),  # a lit front in the black
        (0.8, 0.4, 0.45, 0.5),
        (0.4, 0.02, 0.5, 0.0),  # nothing is lit: an underexposed picture
    ],
)
def test_what_is_lit_in_the_black_makes_a_night(lamps, rest, black, night):
    image = torch.full((1, 3, 64, 64), rest)
    image[..., : round(64 * black), :] = 0.0
    image[..., 63:, :8] = lamps
    # Whole rows are black, up to 0.2 of a row more or less than said, and a night comes within a tenth of them at the least.
    assert guided_scene.read(image).night.item() == pytest.approx(night, abs=0.2 / 64 / 0.1 + 1e-3)


@pytest.mark.parametrize("black", [5, 0])
def test_black_stays_black_in_a_night_with_lamps(local, way, black):
    image = np.full((240, 360, 3), 20, np.uint8)
    image[:120] = black
    image[230:, :12] = 240
    local_scene = guided_scene.read(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255)
    enhanced = zdce.Enhancer(local, noise=0)(image)
    assert enhanced[180, 180].mean() > 25
    # Only what is black in the file makes a night; 5 levels may be a dark wall.
    assert (local_scene.night.item() > 0.9) == (black == 0)
    assert enhanced[60, 180].mean() < 1 if black == 0 else enhanced[60, 180].mean() > 10


def test_what_is_dim_in_a_night_with_lamps_is_not_made_grey(local, way):
    image = np.full((240, 360, 3), 12, np.uint8)
    image[:120] = 0
    image[120:180] = 3  # 8.4 stops below the lamps
    image[230:, :12] = 240
    enhanced = zdce.Enhancer(local, noise=0)(image).astype(float)
    assert enhanced[150, 180].mean() / 3 < 0.9 * enhanced[210, 180].mean() / 12


def test_in_a_night_what_is_dim_is_brightened_and_what_is_lit_stays(local, way):
    image = np.zeros((240, 360, 3), np.uint8)
    image[120:180], image[180:] = 20, 150
    enhanced = zdce.Enhancer(local, noise=0)(image).astype(float)
    assert enhanced[150, 180].mean() > 1.4 * 20
    assert abs(enhanced[215:, 100:-100] - 150).mean() < 0.02 * 255
    assert enhanced[:100].max() == 0


def test_a_night_in_one_dim_light_is_two_thirds_of_a_stop_brighter():
    image = torch.full((1, 3, 64, 64), 20 / 255)
    image[..., :32, :] = 0
    image[..., 62:, :2] = 240 / 255
    strength = guided_scene.strength(guided_scene.read(image), torch.full((1, 1, 64, 64), -0.3), 8, 0.38)
    enhanced = zdce.ops.apply_curve(image, (strength * -0.3).expand(1, 24, 64, 64).clamp(-1, 1), 8)
    stops = np.log2(srgb.light_of_srgb(enhanced.mean().item()) / srgb.light_of_srgb(image.mean().item()))
    assert stops == pytest.approx(2 / 3, abs=0.01)


def test_a_flat_lit_scene_has_finite_maps_of_no_strength():
    coefficients = guided_scene.fit(torch.full((1, 3, 30, 30), 0.7), torch.full((1, 3, 30, 30), -0.5), 8, 0.38)
    assert (coefficients == 0).all()


def test_the_darker_half_of_a_backlit_scene_comes_to_its_balance_and_the_lit_half_stays(local, way):
    image = half_dark(25, 180, 240, 360)
    for brightness, balance in ((0.38, 0.43), (0.3, 0.43 * 0.3 / 0.38)):
        enhanced = zdce.Enhancer(local, brightness=brightness, noise=0)(image)
        # The network of no training gives what is next to the edge less: the window of the maps is 66 pixels.
        assert abs(enhanced[:, :180].mean() - balance * image[:, 180:].mean()) < 2
        assert abs(enhanced[:, 180:].mean() - image[:, 180:].mean()) < 8


@pytest.mark.parametrize("name", ["05", "07", "36"])
def test_the_dark_half_of_backlit_photographs_becomes_readable_and_the_lit_half_stays(data_folder, name):
    with Image.open(data_folder / "dicm" / f"{name}.jpg") as file:
        image = np.asarray(file.convert("RGB"))
    enhanced = zdce.enhance(image)
    assert dark_half(enhanced, image) > 0.25
    assert lit_half(enhanced, image) - lit_half(image, image) < 0.06


@pytest.mark.parametrize("lit", [110, 125, 140, 200])
@pytest.mark.parametrize("shadows", [-0.4, 0.0, 0.6])
def test_the_engine_and_torch_agree_on_backlit_scenes(local, lit, shadows):
    image = half_dark(25, lit, 240, 360)
    results = []
    for backend in ("auto", "reference"):
        with zdce.backend(backend):
            results.append(zdce.Enhancer(local, shadows=shadows)(image).astype(int))
    assert (results[0] != image).any()
    assert abs(results[0] - results[1]).max() <= 1


def test_of_equal_pixels_the_first_are_the_darker_half():
    # As in the engine and in zdce.models.darkness: the flat areas of a drawing are no matter of chance.
    image = torch.full((2, 3, 64, 64), 0.3)
    image[:, :, 20:40] = 0.1
    counted = guided_scene.read(image).darker_half.flatten(1)
    first = torch.arange(64 * 64) // 64
    wanted = ((first >= 20) & (first < 40)) | (first < 12)
    assert torch.equal(counted, wanted.to(counted.dtype).expand(2, -1))


def test_a_border_pixel_decides_nothing(local):
    night = half_dark(2, 12, 160, 200)
    lamps = np.random.default_rng(1)
    for y, x in zip(lamps.integers(0, 157, 60), lamps.integers(0, 197, 60), strict=True):
        night[y : y + 3, x : x + 3] = 250
    whole = zdce.Enhancer(local)(night)
    for crop in (np.s_[1:], np.s_[:-1], np.s_[:, 1:], np.s_[:, :-1]):
        assert abs(zdce.Enhancer(local)(np.ascontiguousarray(night[crop])).mean() - whole[crop].mean()) < 0.5


def test_lit_parts_that_are_lifted_leave_the_dark_ones_no_darker(local, way):
    image = half_dark(30, 200)
    results = [zdce.Enhancer(local, highlights=highlights)(image).astype(int) for highlights in (1.0, 0.9, 0.5, 0.0)]
    for less, more in pairwise(results):
        assert more[:, :40].mean() >= less[:, :40].mean() - 0.1
        assert more[:, 60:].mean() > less[:, 60:].mean()


@pytest.mark.parametrize("smaller", [1, 2, 4])
@pytest.mark.parametrize("scale", [2, 6, 12])
def test_a_night_is_one_at_every_size_and_scale(local, way, smaller, scale):
    night = half_dark(2, 12, 480, 640)
    lamps = np.random.default_rng(1)
    for y, x in zip(lamps.integers(0, 470, 30), lamps.integers(0, 630, 30), strict=True):
        night[y : y + 8, x : x + 8] = 250
    picture = np.ascontiguousarray(night[::smaller, ::smaller])
    assert zdce.Enhancer(local, scale=scale)(picture).mean() < picture.mean() + 4


@pytest.mark.parametrize("scale", [1, 6, 12])
@pytest.mark.parametrize("size", [(70, 90), (5, 7)])
def test_a_guided_enhancer_gives_what_the_network_gives(local, way, scale, size):
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)) * 0.15
    with torch.no_grad():
        wanted = local.enhance(images, scale)
    # Between two strengths that are a halving apart, float32 may choose the other: 4 / 2^15 of a map.
    assert (zdce.Enhancer(local, scale=scale, noise=local.variant.noise)(images) - wanted).abs().max() < 0.05 / 255


@pytest.mark.parametrize("strength", [1.0, 0.4, -0.5, 2.0, 0.0])
def test_guided_maps_and_apply_are_a_call(local, strength):
    image, ready = picture(40, 61), zdce.Enhancer(local, strength=strength)
    maps = ready.maps(image)
    assert maps.shape == (1, 2, 7, 11)
    assert np.array_equal(ready.apply(image, maps), ready(image))


def test_colors_share_a_guided_map(local):
    grey = np.repeat(picture(40, 61)[..., :1], 3, axis=2)
    enhanced = zdce.Enhancer(local, noise=0)(grey)
    assert (enhanced != grey).any()
    assert (enhanced == enhanced[..., :1]).all()


def test_fitted_maps_have_the_edges_of_the_image():
    image = torch.full((1, 3, 40, 40), 0.1)
    image[..., 20:] = 0.9
    maps = torch.where(image < 0.5, -0.8, 0.0)
    fitted = guidance.evaluate(image, guidance.fit(image, maps))
    # A variance of 0.16 against the 0.01 that counts as an edge: a sixteenth of the step is lost.
    assert (fitted - maps[:, :1]).abs().max() < 0.05
    dim = 0.4 * torch.rand(1, 3, 9, 4)  # none of it is lit
    flat = guidance.fit(dim, torch.full((1, 24, 9, 4), -0.5))
    torch.testing.assert_close(flat, torch.tensor([0.0, -0.5])[:, None, None].expand(1, 2, 9, 4), rtol=0, atol=1e-5)


def test_what_is_lit_has_no_map():
    grey = torch.linspace(0, 1, 11)[:, None, None, None].expand(11, 3, 20, 20)
    fitted = guidance.evaluate(grey, guidance.fit(grey, torch.full((11, 3, 20, 20), -0.6)))
    wanted = -torch.tensor([0.6] * 5 + [0.5, 0.4, 0.3, 0.2, 0.1, 0])
    torch.testing.assert_close(fitted[:, 0, 10, 10], wanted, rtol=0, atol=1e-5)


def test_lights_of_one_colour_keep_it(way):
    image = half_dark(14, 14, 240, 360)
    image[80:160, 100:260] = (255, 30, 20)
    enhanced = zdce.Enhancer(zdce.load("local"))(image)
    assert enhanced[:40].mean() > 80
    red, green, blue = enhanced[120, 180]
    assert red > 250
    assert max(green, blue) < 90


def test_shadows_and_highlights_weigh_the_maps():
    grey, maps = torch.linspace(0, 1, 6)[:, None, None, None].expand(6, 3, 20, 20), torch.full((6, 3, 20, 20), -0.3)
    for shadows, highlights, wanted in (
        (0.0, 0.0, [0.3] * 6),
        (1.0, 0.0, [0.6, 0.45, 0.3, 0.3, 0.3, 0.3]),
        (-1.0, 1.0, [0.0, 0.15, 0.3, 0.2, 0.1, 0.0]),
        (0.0, 0.5, [0.3, 0.3, 0.3, 0.25, 0.2, 0.15]),
    ):
        fitted = guidance.evaluate(grey, guidance.fit(grey, maps, shadows, highlights))
        torch.testing.assert_close(fitted[:, 0, 10, 10], -torch.tensor(wanted), rtol=0, atol=1e-5)


def test_shadows_lift_the_dark_half_and_highlights_keep_the_lit_one():
    image = half_dark(20, 170, 240, 360)

    def means(**settings):
        enhanced = zdce.enhance(image, **settings).astype(float)
        return enhanced[:, :170].mean(), enhanced[:, 190:].mean()

    (less, _), (dark, lit), (more, _), (_, lifted) = (
        means(**settings) for settings in ({"shadows": -1}, {}, {"shadows": 1}, {"highlights": 0})
    )
    assert less < dark - 5
    assert dark + 2 < more
    assert lit + 5 < lifted


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee", "rocket"])
def test_the_default_leaves_well_lit_photographs_bit_for_bit(name):
    photograph = np.ascontiguousarray(getattr(photographs, name)()[..., :3])
    assert np.array_equal(zdce.enhance(photograph), photograph)


def test_the_default_lifts_the_dark_half_and_leaves_the_lit_one():
    image = half_dark(20, 170, 240, 360)
    enhanced = zdce.enhance(image).astype(float)
    assert enhanced[:, :170].mean() > 2.5 * image[:, :170].mean()
    assert enhanced[:, 190:].mean() < 1.25 * image[:, 190:].mean()
    assert (enhanced == 255).mean() < 0.005
    # No halo: on either side of the edge the brightness is that of the whole half.
    for near, all_of_it in ((np.s_[:, 168:176], np.s_[:, 20:150]), (np.s_[:, 184:192], np.s_[:, 210:340])):
        assert abs(enhanced[near].mean() / enhanced[all_of_it].mean() - 1) < 0.15
