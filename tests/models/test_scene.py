"""The strength that a scene wants: dark ones come to a brightness, lit ones stay, nothing burns."""

import numpy as np
import pytest
import torch
from skimage import data as photographs

import zdce
from zdce.enhancement import enhancer
from zdce.models import scene
from zdce.models.variants import Variant

BRIGHTNESS = 0.28
MAPS = torch.full((1, 24, scene.SIDE, scene.SIDE), -0.3)


def dark_scene(mean, contrast=0.3, seed=0):
    random = torch.rand(1, 3, scene.SIDE, scene.SIDE, generator=torch.Generator().manual_seed(seed))
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
    assert 0 < strength < scene.MOST


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
    night[..., : scene.SIDE * 3 // 4] = 1 / 255
    assert found(night)[0] == 0


@pytest.mark.parametrize(("black", "share"), [(1 / 8, 1), (1 / 4, 1), (1 / 2, 2 / 3)])
def test_a_little_black_is_part_of_the_scene(black, share):
    image = dark_scene(0.04)
    own = image[..., int(black * scene.SIDE) :].mean()
    image[..., : int(black * scene.SIDE)] = 1 / 255
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
    strength = scene.strength(dark_scene(0.03), torch.full((1, 3, scene.SIDE, scene.SIDE), -0.9), 1, 0.07 / 0.6**0.4)
    assert strength > 0.999 * scene.MOST


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_black_and_white_stay(level):
    _, enhanced = found(torch.full((1, 3, scene.SIDE, scene.SIDE), level))
    assert torch.equal(enhanced, torch.full_like(enhanced, level))


@pytest.mark.parametrize("level", [1, 2])
def test_nearly_black_frames_stay_nearly_black(level):
    assert found(torch.full((1, 3, scene.SIDE, scene.SIDE), level / 255))[0] == 0
    noise = torch.randint(0, level + 1, (1, 3, scene.SIDE, scene.SIDE), generator=torch.Generator().manual_seed(0)) / 255
    assert found(noise)[0] == 0
    noise[..., 0, 0] = 30 / 255  # of a hot pixel
    assert found(noise)[0] < 0.05


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (64, 64), (1080, 1920)])
def test_a_thumbnail_is_pixels_from_all_over(size):
    rows, columns = (torch.arange(side, dtype=torch.float64).div(side) for side in size)
    image = torch.stack([rows[:, None].expand(size), columns.expand(size), torch.zeros(size, dtype=torch.float64)])[None]
    small = scene.thumbnail(image)
    assert small.shape == (1, 3, scene.SIDE, scene.SIDE)
    middles = (torch.arange(scene.SIDE) + 0.5) / scene.SIDE
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
    got = zdce.Enhancer(adaptive, scale=scale)(image)
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
        assert torch.equal(ready.maps(image), zdce.Enhancer(adaptive, scale=scale).maps(image))


def test_strips_do_not_show(adaptive, monkeypatch):
    image = picture(50, 33)
    whole = zdce.Enhancer(adaptive)(image)
    for rows in (8, 9, 23, 49):
        monkeypatch.setattr(enhancer, "_STRIP", 33 * rows)
        assert np.array_equal(zdce.Enhancer(adaptive)(image), whole)


def test_no_strength_is_no_change(adaptive):
    for dtype in (np.uint8, np.uint16):
        image = picture(20, 31, dtype)
        assert np.array_equal(zdce.Enhancer(adaptive, strength=0.0)(image), image)


def test_what_a_variant_does_can_be_said_otherwise(adaptive):
    image = picture(64, 64)
    plain = zdce.DCENet(Variant("plain", "", "", filters=8)).eval()
    plain.load_state_dict(adaptive.state_dict())
    assert np.array_equal(zdce.Enhancer(adaptive, brightness=0, noise=0)(image), zdce.Enhancer(plain)(image))
    assert np.array_equal(zdce.Enhancer(plain, brightness=BRIGHTNESS, noise=2)(image), zdce.Enhancer(adaptive)(image))
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
