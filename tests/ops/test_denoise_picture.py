"""denoise_picture on every backend against the float64 reference, and what it does to pictures."""

import pytest
import torch
from torch.nn import functional

import zdce
from cases import is_interpreted, nan_filled_allocations, run_with_isa
from zdce import interleaved, reference
from zdce.srgb import LUMA

DTYPES = [torch.uint8, torch.uint16, torch.float32]
SIZES = [(1, 1), (1, 70), (3, 5), (13, 12), (37, 53), (70, 450), (5, 1000)]

# The slope is a quotient of means of 25 values, whose roundings the squared limit doubles; 24 weights of four roundings each
# follow, and their sums. Half of what comes out is a difference of guides, whose rounding counts most where the limit is
# smallest: measured 3e-6 at a noise of a level, bounded by ten times that.
ERROR = 3e-5


def pair(size, dtype, seed=0):
    """A dark picture with edges and noise, and itself five times as bright, of ``dtype``."""
    random = torch.Generator().manual_seed(seed)
    blocks = torch.rand(1, 3, 3, 3, generator=random) * 0.15
    dark = functional.interpolate(blocks, size=size, mode="nearest")[0].permute(1, 2, 0)
    dark = (dark + 0.005 * torch.randn(dark.shape, generator=random)).clamp(0, 1)
    bright = (dark * torch.linspace(0.8, 6.0, size[1])[:, None]).clamp(0, 1)
    if dtype == torch.float32:
        return dark.contiguous(), bright
    return tuple((values * interleaved.WHITE[dtype]).round().to(dtype).contiguous() for values in (dark, bright))


def check(picture, enhanced, noise=1 / 255, grain=1 / 255):
    with nan_filled_allocations():
        got = zdce.ops.denoise_picture(picture, enhanced, noise, grain)
    assert (got.shape, got.dtype) == (picture.shape, picture.dtype)
    assert got.is_contiguous()
    white = interleaved.WHITE[picture.dtype]
    images = (values.cpu().double().permute(2, 0, 1)[None] / white for values in (picture, enhanced))
    expected = reference.denoise(*images, noise, grain)[0].permute(1, 2, 0) * white
    rounding = 0.0 if picture.dtype.is_floating_point else 0.5
    assert (got.double().cpu() - expected).abs().max() <= rounding + ERROR * white


def fits(backend, size):
    if backend == "triton" and max(size) > 80:
        pytest.skip("too slow in Triton's interpreter")


def not_each_with_each(backend, one_is_usual):
    if is_interpreted(backend) and not one_is_usual:
        pytest.skip("each type and each level is covered")


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_size(backend, device, size):
    fits(backend, size)
    with zdce.backend(backend):
        check(*(values.to(device) for values in pair(size, torch.uint8)))


@pytest.mark.parametrize("noise", [0.0, 0.3 / 255, 1 / 255, 5 / 255])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_types_and_noise(backend, device, dtype, noise):
    not_each_with_each(backend, dtype == torch.uint8 or noise == 1 / 255)
    with zdce.backend(backend):
        check(*(values.to(device) for values in pair((23, 31), dtype)), noise)


@pytest.mark.parametrize("grain", [0.0, 0.1 / 255, 1 / 255, 5 / 255])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_types_and_grain(backend, device, dtype, grain):
    not_each_with_each(backend, dtype == torch.uint8 or grain == 1 / 255)
    with zdce.backend(backend):
        check(*(values.to(device) for values in pair((23, 31), dtype)), 1.4 / 255, grain)


def test_noise_and_grain_are_read_where_the_picture_is(backend, device):
    dark, bright = (values.to(device) for values in pair((21, 45), torch.uint8))
    levels = torch.tensor([3 / 255, 1 / 255], dtype=torch.float64, device=device)
    with zdce.backend(backend):
        expected = zdce.ops.denoise_picture(dark, bright, 3 / 255, 1 / 255)
        assert torch.equal(zdce.ops.denoise_picture(dark, bright, levels), expected)


def test_rows_that_lie_apart_and_any_strides(backend, device):
    dark, bright = (values.to(device) for values in pair((25, 40), torch.uint8))
    with zdce.backend(backend):
        check(dark[3:20, 5:28], bright[3:20, 5:28])
        check(dark.transpose(0, 1), bright.transpose(0, 1))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_is_no_brighter_stays_as_it_is(backend, device, dtype):
    dark, bright = (values.to(device) for values in pair((21, 45), dtype))
    with zdce.backend(backend):
        assert torch.equal(zdce.ops.denoise_picture(dark, dark, grain=0.01), dark)
        darker = dark[:, 5:]
        assert torch.equal(zdce.ops.denoise_picture(bright[:, 5:], darker, 0.1, 0.1), darker)
        assert torch.equal(zdce.ops.denoise_picture(dark, bright, 0.0, 0.1), bright)


def test_a_lit_part_beside_a_dark_one_stays_as_it_is(backend, device):
    dark, bright = (values.to(device) for values in pair((21, 45), torch.float32))
    enhanced = torch.cat([bright, dark + 0.3], 1)
    with zdce.backend(backend):
        denoised = zdce.ops.denoise_picture(torch.cat([dark, dark + 0.3], 1), enhanced, 0.01, 0.01)
    assert torch.equal(denoised[:, 48:], enhanced[:, 48:])
    assert not torch.equal(denoised[:, :45], enhanced[:, :45])


def test_a_pixel_that_is_nan_stays_so_and_its_neighbours_as_they_are(backend, device):
    dark, bright = (values.to(device) for values in pair((30, 40), torch.float32))
    broken = dark.clone(), bright.clone()
    for values in broken:
        values[15, 20] = float("nan")
    with zdce.backend(backend):
        got, expected = (zdce.ops.denoise_picture(*values, 0.01, 0.01) for values in (broken, (dark, bright)))
    near = torch.zeros(30, 40, dtype=torch.bool)
    near[11:20, 16:25] = True
    assert torch.equal(got[~near], expected[~near])
    torch.testing.assert_close(got[near], broken[1][near], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("value", [0, 1, 90, 255])
def test_flat_pictures_stay_flat(value):
    dark = torch.full((30, 500, 3), value // 6, dtype=torch.uint8)
    flat = torch.full_like(dark, value)
    assert torch.equal(zdce.ops.denoise_picture(dark, flat, grain=1 / 255), flat)


def test_smoothing_burns_nothing():
    random = torch.Generator().manual_seed(5)
    dark = torch.rand(60, 90, 3, generator=random) * 0.3
    bright = 1 - (1 - dark) ** 8
    burnt = bright >= 254.5 / 255
    denoised = zdce.ops.denoise_picture(dark, bright, 0.05, 0.05)
    assert not (denoised.isclose(bright)).all()
    assert torch.equal(denoised >= 254.5 / 255, burnt & (denoised >= 254.5 / 255))


def test_noise_goes_and_an_edge_stays():
    random = torch.Generator().manual_seed(2)
    clean = torch.full((120, 120, 3), 0.04)
    clean[:, 60:] = 0.12
    dark = (clean + torch.randn(clean.shape, generator=random) / 255).clamp(0, 1)
    denoised = zdce.ops.denoise_picture(dark, 5 * dark)
    left = slice(10, 50)
    assert denoised[:, left].std() < 0.4 * (5 * dark)[:, left].std()
    across = denoised[8:-8].mean((0, 2))
    assert across[61] - across[58] > 0.95 * 0.4


def test_grain_goes_and_what_is_stronger_stays():
    random = torch.Generator().manual_seed(3)
    lines = torch.full((120, 120, 3), 0.04)
    lines[:, 60::4] = 0.12
    dark = (lines + torch.randn(lines.shape, generator=random) / 255).clamp(0, 1)
    plain, reduced = (zdce.ops.denoise_picture(dark, 5 * dark, 1 / 255, grain) for grain in (0.0, 1 / 255))
    left, right = slice(10, 50), slice(68, 112)
    assert reduced[:, left].std() < 0.8 * plain[:, left].std()
    across = reduced[8:-8, right].mean((0, 2))
    # Of these lines, whose variance is 0.035^2 (80 times the grain's), Lee's filter takes at most an eightieth.
    assert across[0::4].mean() - across[2::4].mean() > 0.97 * 0.4


def test_more_grain_than_noise_counts_as_the_noise():
    dark, bright = pair((30, 40), torch.uint8)
    most = zdce.ops.denoise_picture(dark, bright, 1 / 255, 1 / 255)
    assert torch.equal(zdce.ops.denoise_picture(dark, bright, 1 / 255, 0.5), most)
    assert not torch.equal(zdce.ops.denoise_picture(dark, bright, 1 / 255, 0.3 / 255), most)


@pytest.mark.parametrize("gain", [3, 5, 8])
def test_colors_become_paler_the_more_their_error_is_amplified(gain):
    dark = torch.tensor([0.05, 0.03, 0.04]).expand(40, 40, 3).contiguous()
    bright, luma = gain * dark, torch.tensor(LUMA)
    denoised = zdce.ops.denoise_picture(dark, bright, 3 / 255)
    before, after = dark @ luma, bright @ luma
    torch.testing.assert_close(denoised @ luma, after)
    slope = after * (1 - after) / (before * (1 - before) + 1e-3)
    # Lit photographs are 25 levels from grey. Of the noise, 1.4 levels count as an error that the blur leaves.
    share = 1 / (1 + (1.4 / 25) ** 2 * (slope**2 - 1))
    assert share.max() < 0.99
    torch.testing.assert_close(denoised - after[..., None], share[..., None] * (bright - after[..., None]))


def test_threads_and_strips_do_not_matter():
    dark, bright = pair((150, 460), torch.uint8)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(zdce.ops.denoise_picture(dark, bright, grain=1 / 255))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(result, results[0]) for result in results[1:])
    strip = zdce.ops.denoise_picture(dark[46:94], bright[46:94], grain=1 / 255)
    assert torch.equal(strip[4:-4], results[0][50:90])


@pytest.mark.parametrize("isa", ["default", "avx2"])  # the other tests run on the best
def test_other_instruction_sets(isa):
    run_with_isa(
        isa,
        """
import zdce, test_denoise_picture as t
with zdce.backend("cpp"):
    for dtype in t.DTYPES:
        t.check(*t.pair((37, 500), dtype))
""",
    )


def test_opcheck_and_compile():
    dark, bright = pair((13, 24), torch.uint8)
    torch.library.opcheck(torch.ops.zdce.denoise_picture.default, (dark, bright, LEVELS))
    torch._dynamo.reset()
    compiled = torch.compile(zdce.ops.denoise_picture, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(dark, bright), zdce.ops.denoise_picture(dark, bright))


PICTURE = torch.zeros(13, 24, 3, dtype=torch.uint8)


def levels(noise, grain):
    return torch.tensor([noise, grain], dtype=torch.float64)


LEVELS = levels(0.1, 0.0)


@pytest.mark.parametrize(
    ("error", "message", "changes"),
    [
        (TypeError, "picture must be a torch.Tensor, got list", {"picture": [1]}),
        (TypeError, "enhanced must be uint8, uint16 or float32, got torch.int32", {"enhanced": PICTURE.int()}),
        (ValueError, r"enhanced must be \(13, 24, 3\) of torch.uint8 .* got \(13, 20, 3\)", {"enhanced": PICTURE[:, :20]}),
        (ValueError, "noise must be at least 0 and below 1, got -1", {"noise": -1.0}),
        (ValueError, "noise must be at least 0 and below 1, got nan", {"noise": float("nan")}),
        (ValueError, r"noise must be a number or a tensor \(2,\) of torch.float64 .* got \(1,\)", {"noise": LEVELS[:1]}),
        (ValueError, r"noise must be a number .* got \(2,\) of torch.float32", {"noise": LEVELS.float()}),
        (ValueError, "noise must be at least 0 and below 1, got 5", {"noise": levels(5.0, 9.0)}),
        (ValueError, "noise must be at least 0 and below 1, got nan", {"noise": levels(float("nan"), 0.0)}),
        (ValueError, "noise must be at least 0 and below 1, got -0.1", {"noise": levels(-0.1, 0.0)}),
        (ValueError, "grain must be at least 0 and below 1, got 9.0", {"noise": levels(0.1, 9.0)}),
        (ValueError, "grain must be at least 0 and below 1, got 1.0", {"grain": 1.0}),
        (ValueError, "grain must not be given where noise is a tensor, .* got 0.1", {"noise": LEVELS, "grain": 0.1}),
        (ValueError, "grain must not be given where noise is a tensor, .* got 0.0", {"noise": LEVELS, "grain": 0.0}),
        (
            ValueError,
            "must not require a gradient",
            {"picture": PICTURE.float(), "enhanced": PICTURE.float().requires_grad_()},
        ),
    ],
)
@pytest.mark.parametrize("way", ["auto", "reference"])
def test_bad_arguments_are_named(error, message, changes, way):
    with zdce.backend(way), pytest.raises(error, match=message):
        zdce.ops.denoise_picture(**{"picture": PICTURE, "enhanced": PICTURE, **changes})


@pytest.mark.parametrize(
    "arguments",
    [
        (PICTURE, PICTURE[:, :20], LEVELS, PICTURE.clone()),
        (PICTURE, PICTURE, LEVELS, PICTURE[:5].clone()),
        (PICTURE, PICTURE.float(), LEVELS, PICTURE.clone()),
        (PICTURE[:, ::2], PICTURE[:, :12], LEVELS, PICTURE[:, :12].clone()),
        (PICTURE, PICTURE, levels(float("nan"), 0.0), PICTURE.clone()),
        (PICTURE, PICTURE, levels(1.0, 0.0), PICTURE.clone()),
        (PICTURE, PICTURE, levels(0.1, float("nan")), PICTURE.clone()),
        (PICTURE, PICTURE, LEVELS.float(), PICTURE.clone()),
        (PICTURE, PICTURE, LEVELS[:1], PICTURE.clone()),
    ],
)
def test_compiled_code_checks_what_reaches_it(arguments):
    if zdce.ops.dispatch.why_missing("cpp"):
        pytest.skip("cpp is not built")
    with pytest.raises(RuntimeError, match="zdce: "):
        torch.ops.zdce_cpp.denoise_picture(*arguments)
