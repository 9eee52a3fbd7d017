"""Curve maps smoothed over time, and threads for prefetching and background work."""

import threading

import numpy as np
import pytest
import torch

import zdce
from zdce.enhancement.smoothing import Smoothing, change_of_light, is_cut, thumbnail
from zdce.runtime import prefetch
from zdce.srgb import LUMA


def scene(seed, size=(90, 160), brightness=40):
    """A picture with large shapes, (H, W, 3) in [0, 255] as floats."""
    coarse = torch.rand(1, 3, 5, 8, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(coarse, size=size, mode="bilinear", align_corners=False)
    return smooth[0].permute(1, 2, 0).numpy() * 2 * brightness


def frame(values, noise=0.0, seed=0):
    """8-bit pixels of a scene, with noise."""
    random = np.random.default_rng(seed)
    return np.clip(np.rint(values + random.normal(0, noise, values.shape)), 0, 255).astype(np.uint8)


STILL = frame(scene(0))


def nothing(picture, maps):
    """A curve that leaves no light to hold."""
    return picture


def curve(picture, maps):
    """What ``zdce.ops.apply_curve`` of maps (1, 3T, h, w) cut to [-1, 1] makes of a picture (h, w, 3)."""
    values = torch.from_numpy(picture).permute(2, 0, 1)[None]
    return zdce.ops.apply_curve(values, torch.from_numpy(maps).clamp(-1, 1))[0].permute(1, 2, 0).numpy()


def full(channels, rows, columns, value):
    return np.full((1, channels, rows, columns), value, np.float32)


def brightened(image, maps):
    """The mean of 8-bit pixels (H, W, 3) with the curve of the maps' mean."""
    return curve(image / np.float32(255), np.full((1, 24, *image.shape[:2]), maps.mean(), np.float32)).mean()


@pytest.mark.parametrize(
    "times", [np.linspace(0, 1, 5), np.linspace(0, 1, 121), np.append(0, np.sort(np.random.default_rng(0).random(40)))]
)
def test_a_change_comes_through_at_the_same_pace_whatever_the_frame_rate(times):
    smooth = Smoothing(nothing, 0.3)
    smooth(full(3, 2, 2, 0), STILL, 0.0)
    for moment in times[1:]:
        got = smooth(full(3, 2, 2, 0.5), STILL, moment)
    # The formula's own value for what stays as it is; float32 rounds each of at most 120 steps.
    assert got.mean().item() == pytest.approx(0.5 * (1 - np.exp(-times[-1] / (8 * 0.3))), abs=1e-5)


def test_no_smoothing_leaves_the_maps_alone():
    smooth, maps = Smoothing(curve, 0), np.random.default_rng(0).random((1, 24, 4, 4), np.float32)
    assert all(np.array_equal(smooth(maps * i, STILL, float(i)), maps * i) for i in range(3))


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_a_time_that_is_none_is_refused(seconds):
    with pytest.raises(ValueError, match="smoothing must be a number of seconds, at least 0, got"):
        Smoothing(curve, seconds)


def test_noise_motion_and_flicker_are_no_cuts_and_other_scenes_are():
    here, there = scene(0), scene(1)
    first = thumbnail(frame(here, noise=10))
    for other in (here, here * 0.8, here * 1.2, np.roll(here, 5, axis=1), np.roll(here, 3, axis=0)):
        assert not is_cut(first, thumbnail(frame(other, noise=10, seed=1)))
    for other in (there, np.zeros_like(here), here + 40):
        assert is_cut(first, thumbnail(frame(other, noise=10, seed=1)))
    # As dark as videos are: cuts are told by content, not by brightness.
    assert is_cut(thumbnail(frame(here / 4, noise=3)), thumbnail(frame(there / 4, noise=3, seed=1)))
    black = np.zeros_like(here)
    assert not is_cut(thumbnail(frame(black, noise=5)), thumbnail(frame(black, noise=5, seed=1)))


def test_a_cut_begins_anew():
    smooth = Smoothing(curve, 10.0)
    smooth(full(3, 2, 2, 0), STILL, 0.0)
    maps = full(3, 2, 2, -0.5)
    assert np.abs(smooth(maps, STILL, 0.05)).max() < 0.01
    assert np.array_equal(smooth(maps, frame(scene(1)), 0.1), maps)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (15, 33), (241, 7)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_thumbnails_of_any_size_are_means(size, dtype):
    image = np.broadcast_to(np.array([10, 100, 200], dtype), (*size, 3))
    small = thumbnail(image)
    assert small.shape == (min(size[0], 16), min(size[1], 32), 3)
    assert small == pytest.approx(np.broadcast_to(np.array([10, 100, 200]) / np.iinfo(dtype).max, small.shape), rel=1e-6)


def test_a_change_of_light_is_told_from_motion():
    here = scene(0)
    moved, lit = here.copy(), here.copy()
    moved[20:60, 30:60] = 200  # something bright, 8% of the picture
    lit[60:] *= 1.5  # headlights on the lower third
    before = thumbnail(here.astype(np.uint8)) @ LUMA

    def found(values):
        after = thumbnail(values.astype(np.uint8)) @ LUMA
        return change_of_light(np.log(after / before).astype(np.float32), after.astype(np.float32))

    assert found(here * 1.05) == pytest.approx(np.log(1.05), abs=0.01)
    assert found(here * 0.9) == pytest.approx(np.log(0.9), abs=0.01)
    for other in (moved, lit):
        assert abs(found(other)) < 0.01


def test_the_enhanced_light_flickers_less_than_the_inputs():
    random, smooth, levels = np.random.default_rng(0), Smoothing(curve), {"input": [], "fixed": [], "smooth": []}
    maps = full(24, 8, 14, -0.4)
    for i in range(30):
        image = frame(scene(0, brightness=20) * (1 + 0.04 * random.normal()), noise=3, seed=i)
        held = smooth(maps, image, i / 30)
        levels["input"].append(image.mean() / 255)
        levels["fixed"].append(brightened(image, maps))
        levels["smooth"].append(brightened(image, held))
    flicker = {name: np.abs(np.diff(values[1:])).mean() for name, values in levels.items()}
    # A curve that brightens magnifies the flicker; held, less is left than there was.
    assert flicker["fixed"] > 2 * flicker["input"]
    assert flicker["smooth"] < 0.5 * flicker["input"]


def enhanced_levels(images, maps, fps=30):
    """Brightness of the input, of the same curve on every frame, and of the smoothed one."""
    smooth, levels = Smoothing(curve), []
    for i, image in enumerate(images):
        held = smooth(maps, image, i / fps)
        levels.append([image.mean() / 255, brightened(image, maps), brightened(image, held)])
    return np.array(levels).T


@pytest.mark.parametrize("channels", [3, 24])
def test_a_moving_lamp_changes_nothing_elsewhere(channels):
    # As a network may do: all maps get weaker with the lamp's way, and those around the lamp by themselves.
    smooth, backgrounds, lamps = Smoothing(lambda picture, maps: picture * (1 - maps[0].mean(0)[..., None])), [], []
    for i in range(60):
        values = scene(0, brightness=20)
        column = round(80 + 70 * np.sin(i / 6))
        values[30:50, max(0, column - 10) : column + 10] = 250
        image = frame(values, noise=2, seed=i)
        maps = full(channels, 9, 16, -0.6 + 0.1 * np.sin(i / 6))
        maps[..., 3:5, max(0, column // 10 - 1) : column // 10 + 2] = -0.1
        held = smooth(maps, image, i / 30)
        backgrounds.append([values[60:].mean() * (1 - m[..., 6:, :].mean().item()) for m in (maps, held)])
        lamps.append(held[..., 3:5, min(15, column // 10)].mean().item())
    frame_by_frame, smoothed = (np.ptp(np.array(backgrounds)[1:], axis=0) / np.mean(backgrounds, axis=0)).tolist()
    assert frame_by_frame > 0.02
    assert smoothed < 0.2 * frame_by_frame
    # The lamp has its own curve in every frame, but for the strength of the others.
    assert max(abs(lamp + 0.1) for lamp in lamps) < 0.05


def test_what_moved_leaves_no_trail():
    dark, lit = scene(0, brightness=20), scene(0, brightness=20)
    lit[30:50, 40:60] = 250
    maps, at_lamp = full(24, 9, 16, -0.5), full(24, 9, 16, -0.5)
    at_lamp[..., 3:5, 4:6] = 0.0
    smooth = Smoothing(curve)
    for i in range(10):
        smooth(at_lamp, frame(lit), i / 30)
    held = smooth(maps, frame(dark), 10 / 30)
    assert np.allclose(held, maps, rtol=0, atol=2**-20)  # what moved has its own maps at once; some roundings of 0.5


def test_the_light_of_a_scene_that_changes_its_colour_alone_stays():
    # Red and blue in turns, of one luminance.
    smooth, maps = Smoothing(curve), full(24, 8, 14, -0.3)
    for i in range(40):
        values = scene(0, brightness=20)
        shift = np.array([1 / LUMA[0], 0, -1 / LUMA[2]]) * (0.4 if i // 4 % 2 else -0.4)
        held = smooth(maps, frame(values.clip(12, None) + shift, noise=1, seed=i), i / 30)
        # Noise and rounding move the luminance by less than a tenth of a level; the sum of the colours moves by more than one.
        assert held.mean().item() == pytest.approx(-0.3, abs=0.005)


def test_a_lasting_change_of_light_is_followed_within_seconds():
    dark, bright = frame(scene(0, brightness=20)), frame(scene(0, brightness=26))
    _, fixed, held = enhanced_levels([dark] * 5 + [bright] * 400, full(24, 8, 14, -0.3))
    assert held[0] == fixed[0]
    assert abs(held[-1] - fixed[-1]) < 0.05 * (fixed[-1] - fixed[0])
    # On the way no frame changes as much as the curve alone would make it.
    assert np.abs(np.diff(held)).max() < 0.5 * np.abs(np.diff(fixed)).max()


def test_black_frames_and_a_curve_that_does_nothing_are_fine():
    black = np.zeros((20, 30, 3), np.uint8)
    for maps in (full(24, 2, 3, 0), full(24, 2, 3, -1)):
        smooth = Smoothing(curve)
        for i in range(3):
            assert np.array_equal(smooth(maps, black, i / 30), maps)


def test_after_frames_that_nothing_brightens_the_light_goes_on_from_theirs():
    # 9 levels of 255, too little for a cut; then black for a moment, in which the wish to follow slowly has nothing to act on.
    faint, black = np.full((90, 160, 3), 9, np.uint8), np.zeros((90, 160, 3), np.uint8)
    maps = full(24, 8, 14, -0.3)
    _, fixed, held = enhanced_levels([faint] * 5 + [black] * 3 + [faint] * 2, maps)
    assert held[5:8].max() == 0
    # The step back is held as far as maps may be scaled. Counted from a brightness that black never had, it would be 0.92.
    assert held[8] < 0.8 * fixed[8]


def test_ahead_gives_all_in_order_and_never_makes_more_than_asked():
    made, taken, change = [], [], threading.Condition()

    def numbers():
        for i in range(20):
            with change:
                made.append(i)
                change.notify()
            yield i

    with prefetch.prefetched(numbers(), 3) as values, change:
        assert change.wait_for(lambda: len(made) == 3, 30)
        for value in values:
            taken.append(value)
            assert change.wait_for(lambda: len(made) == min(len(taken) + 3, 20), 30)
            assert not change.wait_for(lambda: len(made) > len(taken) + 3, 0.002)
    assert taken == list(range(20))


def test_behind_waits_when_too_much_is_not_done():
    gate, done = threading.Event(), []

    def slow(value):
        gate.wait(10)
        done.append(value)

    with prefetch.in_background(slow, 2) as hand_over:
        for i in range(2):
            hand_over(i)
        assert not done
        threading.Timer(0.05, gate.set).start()
        for i in range(2, 6):
            hand_over(i)
            assert len(done) >= i - 1
    assert done == list(range(6))


def test_errors_of_either_thread_come_out_and_end_the_others():
    def broken():
        yield 1
        raise OSError("cut off")

    with pytest.raises(OSError, match="cut off"), prefetch.prefetched(broken(), 2) as values:
        list(values)

    def refuse(value):
        raise OSError(f"no {value}")

    def all_of(count):
        with prefetch.in_background(refuse, 2) as hand_over, prefetch.prefetched(iter(range(10**9)), 2) as values:
            for value in values:
                hand_over(value)
                if value == count:
                    return

    for count in (0, 10**9):
        with pytest.raises(OSError, match="no 0"):
            all_of(count)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("prefetched", "in_background"))]


def test_what_follows_a_failure_is_not_begun_and_a_check_tells():
    begun, gate = [], threading.Event()

    def refuse(value):
        gate.wait()
        begun.append(value)
        raise OSError(f"no {value}")

    with prefetch.in_background(refuse, 3) as hand_over:
        for i in range(3):
            hand_over(i)
            hand_over.check()
        gate.set()
        with pytest.raises(OSError, match="no 0"):
            hand_over.wait()
    assert begun == [0]


def test_leaving_early_drops_what_was_not_begun():
    begun, gate = [], threading.Event()

    def slow(value):
        begun.append(value)
        assert gate.wait(30)

    def leave():
        with prefetch.in_background(slow, 4) as hand_over:
            for i in range(4):
                hand_over(i)
            hand_over._pending[-1].add_done_callback(lambda _: gate.set())  # when it is dropped
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leave()
    assert begun in ([], [0])
