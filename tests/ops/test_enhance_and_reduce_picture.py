"""enhance_picture and reduce_picture on every backend against the float64 reference."""

import itertools

import pytest
import torch
from torch.nn import functional

import zdce
from cases import nan_filled_allocations, run_with_isa
from zdce import interleaved, reference

DTYPES = [torch.uint8, torch.uint16, torch.float32]
SCALES = [1, 2, 3, 4, 5, 8, 12, 16, 100]
SIZES = [(1, 1), (1, 70), (13, 12), (40, 129), (27, 1100)]

# Each of 8 steps rounds three times, meets a map that interpolation has put off by six half-ulps, which count a quarter, and
# multiplies the error so far by its slope, at most 2: at most 6 (2^8 - 1) half-ulps below 1.
ERROR = 6 * 255 * 2**-25


def random_picture(size, dtype, seed=0):
    values = torch.rand(*size, 3, generator=torch.Generator().manual_seed(seed))
    return values if dtype == torch.float32 else (values * interleaved.WHITE[dtype]).round().to(dtype)


def random_maps(size, scale, channels=24, seed=1):
    height, width = (-(-side // scale) for side in size)
    return torch.randn(1, channels, height, width, generator=torch.Generator().manual_seed(seed)) * 0.7


def truth(picture, maps, iterations, scale, align_corners=False, strength=1.0, logits=False):
    """Unrounded, in units of the picture's type."""
    white = interleaved.WHITE[picture.dtype]
    exact = reference.enhance_picture(
        picture.double() / white, maps.double(), iterations, scale, align_corners, strength, logits
    )
    return exact * white


def check(picture, maps, iterations=8, scale=1, **options):
    with nan_filled_allocations():
        got = zdce.ops.enhance_picture(picture, maps, iterations, scale=scale, **options)
    assert (got.shape, got.dtype) == (picture.shape, picture.dtype)
    assert got.is_contiguous()
    expected = truth(picture.cpu(), maps.cpu(), iterations, scale, **options)
    white = interleaved.WHITE[picture.dtype]
    # To the nearest integer is 1/2 at most; where the exact value lies in the middle, float32's error may choose the other.
    rounding = 0.0 if picture.dtype.is_floating_point else 0.5
    assert (got.double().cpu() - expected).abs().max() <= rounding + ERROR * white
    if picture.dtype == torch.uint8:
        off = (got.double().cpu() - expected.round()).abs()
        assert off.max() <= 1
        # A value lies as near to the middle with a probability of twice the error in levels.
        assert (off > 0).sum() <= 2 + 4 * ERROR * white * off.numel()


def fits(backend, size, scale):
    # Triton's interpreter takes seconds for each of these.
    if backend == "triton" and (max(size) > 80 or scale not in (1, 2, 12)):
        pytest.skip("too slow in Triton's interpreter")


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_size_and_scale(backend, device, size, scale):
    fits(backend, size, scale)
    with zdce.backend(backend):
        check(random_picture(size, torch.uint8).to(device), random_maps(size, scale).to(device), scale=scale)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_types_corners_and_logits(backend, device, dtype):
    size = (29, 83) if backend != "triton" else (13, 25)
    picture = random_picture(size, dtype).to(device)
    for scale, align_corners in ((1, False), (5, True), (12, False)) if backend != "triton" else ((5, True),):
        with zdce.backend(backend):
            check(picture, random_maps(size, scale).to(device), scale=scale, align_corners=align_corners, logits=True)


@pytest.mark.parametrize(("channels", "iterations"), [(3, 1), (3, 8), (12, 4), (48, 16)])
def test_iterations_and_shared_maps(backend, device, channels, iterations):
    size, scale = (9, 21), 4
    with zdce.backend(backend):
        # 16 steps may lose 2^8 times what 8 do: gentle maps.
        check(
            random_picture(size, torch.uint8).to(device), 0.3 * random_maps(size, scale, channels).to(device), iterations, scale
        )


def random_coefficients(size, scale, seed=1):
    """Slopes of both signs and offsets, so that the map is cut at either end for some pixels."""
    slope, offset = random_maps(size, scale, channels=2, seed=seed).split(1, dim=1)
    return torch.cat([2 * slope, offset - 0.5], dim=1)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("size", "scale"), [((1, 1), 1), ((13, 70), 1), ((29, 83), 5), ((40, 129), 12)], ids=str)
@pytest.mark.parametrize("strength", [0.7, 2.5, -1.0])
def test_guided_maps_follow_the_luma_of_each_pixel(backend, device, dtype, size, scale, strength):
    if backend == "triton":
        size = (min(size[0], 13), min(size[1], 25))
    picture, coefficients = random_picture(size, dtype).to(device), random_coefficients(size, scale).to(device)
    with zdce.backend(backend):
        check(picture, coefficients, scale=scale, strength=strength)


def test_guided_maps_need_iterations_and_are_no_logits():
    picture, coefficients = random_picture((8, 8), torch.uint8), random_coefficients((8, 8), 2)
    with pytest.raises(ValueError, match="iterations must be 1 to 16 where maps have 2 channels, got None"):
        zdce.ops.enhance_picture(picture, coefficients, scale=2)
    with pytest.raises(ValueError, match="logits"):
        zdce.ops.enhance_picture(picture, coefficients, 8, scale=2, logits=True)


@pytest.mark.parametrize("maps_dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("scale", [1, 6])
def test_half_maps_in_any_layout(backend, device, maps_dtype, scale):
    size = (13, 70) if backend != "triton" else (7, 13)
    maps = random_maps(size, scale).to(device, maps_dtype).contiguous(memory_format=torch.channels_last)
    with zdce.backend(backend):
        check(random_picture(size, torch.uint8).to(device), maps, scale=scale)


@pytest.mark.parametrize("strength", [-1.0, 0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_strength(dtype, strength):
    picture, maps = random_picture((20, 75), dtype), random_maps((20, 75), 4)
    check(picture, maps, scale=4, strength=strength)
    if strength == 0:
        assert torch.equal(zdce.ops.enhance_picture(picture, maps, scale=4, strength=0.0), picture)


@pytest.mark.parametrize(("channels", "scale"), [(24, 1), (3, 4), (2, 4)])
def test_a_strength_may_be_on_the_device(backend, device, channels, scale):
    size = (9, 21)
    picture, maps = random_picture(size, torch.uint8).to(device), random_maps(size, scale, channels).to(device)
    for strength in (0.0, 0.3, 1.7):
        there = torch.tensor([[strength]], device=device)
        with zdce.backend(backend):
            got = zdce.ops.enhance_picture(picture, maps, 8, scale=scale, strength=there)
            expected = zdce.ops.enhance_picture(picture, maps, 8, scale=scale, strength=strength)
        off = (got.int() - expected.int()).abs()  # 0.3 is another number in float32
        assert off.max() <= 1
        assert off.float().mean() < 0.01
        assert strength > 0 or torch.equal(got, picture)


@pytest.mark.parametrize("scale", [1, 12])
def test_values_keep_their_order(scale):
    levels = torch.arange(256, dtype=torch.uint8)[None, :, None].expand(30, 256, 3).contiguous()
    size = (30, 256)
    for value in (-1.0, -0.4, 0.7, 1.0):
        enhanced = zdce.ops.enhance_picture(levels, torch.full_like(random_maps(size, scale), value), scale=scale)
        assert (enhanced.long().diff(dim=1) >= 0).all()
        assert enhanced[0, 0].tolist() == [0, 0, 0]
        assert enhanced[0, 255].tolist() == [255, 255, 255]


def test_rows_that_lie_apart_and_any_strides(backend, device):
    wide = random_picture((15, 40), torch.uint8).to(device)
    maps = random_maps((9, 23), 4).to(device)
    with zdce.backend(backend):
        crop, turned = wide[3:12, 5:28], wide[:, :9].transpose(0, 1)
        check(crop, maps, scale=4)
        if backend != "triton":
            check(turned, random_maps((9, 15), 4).to(device), scale=4)
        assert torch.equal(zdce.ops.reduce_picture(crop, 4), zdce.ops.reduce_picture(crop.contiguous(), 4))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_out_is_written_inside_its_rows_alone(backend, device, dtype):
    size = (13, 70) if backend != "triton" else (5, 9)
    picture, maps = random_picture(size, dtype).to(device), random_maps(size, 3).to(device)
    frame = torch.full((size[0], size[1] + 11, 3), 7, device=device).to(dtype)
    with zdce.backend(backend):
        expected = zdce.ops.enhance_picture(picture, maps, scale=3)
        out = frame[:, 5:-6]
        assert zdce.ops.enhance_picture(picture, maps, scale=3, out=out) is out
        assert torch.equal(out, expected)
        assert (frame[:, :5].double() == 7).all()
        assert (frame[:, -6:].double() == 7).all()
        zdce.ops.enhance_picture(picture, maps, scale=3, out=picture)
        assert torch.equal(picture, expected)


@pytest.mark.parametrize("compiled", [False, True])
def test_autograd_sees_that_out_was_written(backend, device, compiled):
    picture, maps = random_picture((8, 9), torch.float32).to(device), random_maps((8, 9), 1).to(device)
    torch._dynamo.reset()
    enhance = zdce.ops.enhance_picture
    enhance = torch.compile(enhance, backend="aot_eager") if compiled else enhance
    for inside in (slice(None), slice(2, 5)):
        out = torch.full((8, 9, 3), 0.5, device=device)
        x = torch.ones(8, 9, 3, device=device, requires_grad=True)
        y = (x * out).sum()
        with zdce.backend(backend):
            enhance(picture[inside], maps[:, :, inside], out=out[inside])
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.backward()


def test_out_in_inference_mode():
    with torch.inference_mode():
        picture, maps = random_picture((8, 9), torch.float32), random_maps((8, 9), 1)
        out = torch.empty_like(picture)
        assert torch.equal(zdce.ops.enhance_picture(picture, maps, out=out), zdce.ops.enhance_picture(picture, maps))


def test_out_may_share_a_frame_with_the_picture_but_no_pixels(backend, device):
    frame, maps = random_picture((13, 20), torch.uint8).to(device), random_maps((6, 8), 4).to(device)
    with zdce.backend(backend):
        for out, picture in (
            (frame[:6, :8], frame[:6, 8:16]),
            (frame[:6, 12:], frame[:6, :8]),
            (frame[:6, :8], frame[6:12, :8]),
            (frame[:12:2, :8], frame[1:12:2, :8]),
            (frame[:6, :8], frame[:6, :8]),
        ):
            expected = zdce.ops.enhance_picture(picture.clone(), maps, scale=4)
            assert torch.equal(zdce.ops.enhance_picture(picture, maps, scale=4, out=out), expected)


@pytest.mark.parametrize(("out", "picture"), [
    (lambda frame: frame[:6, :8], lambda frame: frame[:6, 7:15]),
    (lambda frame: frame[:6, 1:9], lambda frame: frame[:6, :8]),
    (lambda frame: frame[:6, :8], lambda frame: frame[5:11, :8]),
    (lambda frame: frame[:6, :8], lambda frame: frame[:12:2, :8]),
    (lambda frame: frame[1:7, 3:11], lambda frame: frame[:6, :8]),
])  # fmt: skip
def test_an_out_that_overlaps_the_picture_is_refused(out, picture):
    frame, maps = random_picture((13, 20), torch.uint8), random_maps((6, 8), 4)
    with pytest.raises(ValueError, match=r"^out must be picture itself or share no memory .* got memory of picture$"):
        zdce.ops.enhance_picture(picture(frame), maps, scale=4, out=out(frame))


def test_a_row_that_overlaps_the_picture_is_refused():
    row = torch.zeros(40, dtype=torch.uint8)
    picture, out = (row.as_strided((1, 6, 3), (0, 3, 1), at) for at in (0, 3))
    with pytest.raises(ValueError, match=r"got memory of picture$"):
        zdce.ops.enhance_picture(picture, random_maps((1, 6), 4), scale=4, out=out)


def test_an_out_that_overlaps_the_maps_or_itself_is_refused():
    maps = random_maps((4, 6), 1)
    with pytest.raises(ValueError, match=r"^out must .* share no memory .* got memory of maps$"):
        zdce.ops.enhance_picture(torch.zeros(4, 6, 3), maps, out=maps.flatten()[10:82].view(4, 6, 3))
    row = torch.zeros(1, 6, 3).expand(4, 6, 3)
    with pytest.raises(ValueError, match=r"^out must have rows that do not overlap, got strides \(0, 3, 1\) for \(4, 6, 3\)$"):
        zdce.ops.enhance_picture(torch.zeros(4, 6, 3), maps, out=row)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_area_means(backend, device, dtype, scale):
    size = (37, 53)
    fits(backend, size, scale)
    picture = random_picture(size, dtype).to(device)
    with zdce.backend(backend), nan_filled_allocations():
        got = zdce.ops.reduce_picture(picture, scale)
    values = (picture.cpu().double() / interleaved.WHITE[dtype]).permute(2, 0, 1)
    height, width = (-(-side // scale) for side in size)
    expected = torch.stack(
        [
            values[:, i * scale : (i + 1) * scale, j * scale : (j + 1) * scale].mean((1, 2))
            for i, j in itertools.product(range(height), range(width))
        ],
        dim=1,
    ).reshape(1, 3, height, width)
    # A sum of n values below 1 in float32, added one by one at worst, and one rounding: n 2^-24 of the mean.
    torch.testing.assert_close(got.double().cpu(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (13, 12), (37, 53)], ids=str)
@pytest.mark.parametrize("scale", [1, 2, 12, 100])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_samples_are_torchs_bilinear_ones(backend, device, dtype, scale, size):
    fits(backend, size, scale)
    picture = random_picture(size, dtype).to(device)
    with zdce.backend(backend), nan_filled_allocations():
        got = zdce.ops.reduce_picture(picture, scale, antialias=False)
    values = (picture.cpu().double() / interleaved.WHITE[dtype]).permute(2, 0, 1)[None]
    expected = functional.interpolate(values, [-(-side // scale) for side in size], mode="bilinear", align_corners=False)
    # Two interpolations one after the other round three times each, of values of at most 1. Torch in float32 also rounds where
    # a sample lies.
    torch.testing.assert_close(got.double().cpu(), expected, rtol=0, atol=6 * 2**-24 if backend != "reference" else 1e-5)


def test_samples_of_a_wide_picture_lie_where_they_should():
    # In float32 a sample's place among 100,000 pixels is off by a hundredth.
    picture = torch.arange(100_000 * 3).reshape(1, -1, 3).remainder(65536).to(torch.int32).to(torch.uint16)
    values = (picture.double() / 65535).permute(2, 0, 1)[None]
    expected = functional.interpolate(values, (1, 8334), mode="bilinear", align_corners=False)
    torch.testing.assert_close(zdce.ops.reduce_picture(picture, 12, antialias=False).double(), expected, rtol=0, atol=1e-6)


def test_many_white_rows_overflow_no_sum():
    white = torch.full((600, 3, 3), 255, dtype=torch.uint8)
    assert torch.equal(zdce.ops.reduce_picture(white, 600), torch.ones(1, 3, 1, 1))
    tall = torch.full((1, 1, 3), 65535, dtype=torch.int32).to(torch.uint16).expand(140_000, 1, 3)
    assert torch.equal(zdce.ops.reduce_picture(tall, 140_000), torch.ones(1, 3, 1, 1))


def test_the_reference_interpolates_as_torch_does():
    size, scale = (26, 31), 4
    picture, maps = random_picture(size, torch.float32).double(), random_maps(size, scale).double().clamp(-1, 1)
    full = functional.interpolate(maps, scale_factor=scale, mode="bilinear")[..., :26, :31]
    expected = reference.apply_curve(picture.permute(2, 0, 1)[None], full)[0].permute(1, 2, 0)
    torch.testing.assert_close(reference.enhance_picture(picture, maps, 8, scale, False, 1.0, False), expected)


def test_opcheck_and_compile():
    picture, maps = random_picture((9, 23), torch.uint8), random_maps((9, 23), 4)
    out = torch.empty_like(picture)
    torch.library.opcheck(torch.ops.zdce.reduce_picture.default, (picture, 4, True))
    torch.library.opcheck(torch.ops.zdce.enhance_picture.default, (picture, maps, 8, 4, False, 1.0, False, None, out))
    floats = (picture / 255, maps, 8, 4, False, 1.0, False, None, out.float())
    torch.library.opcheck(torch.ops.zdce.enhance_picture.default, floats)
    torch._dynamo.reset()

    def both(picture):
        small = zdce.ops.reduce_picture(picture, 4) / 2 + zdce.ops.reduce_picture(picture, 4, antialias=False) / 2
        return zdce.ops.enhance_picture(picture, small.repeat(1, 8, 1, 1) - 0.9, scale=4)

    assert torch.equal(torch.compile(both, fullgraph=True, backend="aot_eager")(picture), both(picture))


def test_threads_do_not_matter():
    picture, maps = random_picture((61, 1100), torch.uint8), random_maps((61, 1100), 12)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append((zdce.ops.enhance_picture(picture, maps, scale=12), zdce.ops.reduce_picture(picture, 12)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for result in results[1:] for a, b in zip(result, results[0], strict=True))


@pytest.mark.parametrize("isa", ["default", "avx2"])  # the other tests run on the best
def test_other_instruction_sets(isa):
    run_with_isa(
        isa,
        """
import zdce, test_enhance_and_reduce_picture as t
with zdce.backend("cpp"):
    for dtype in t.DTYPES:
        for scale in (1, 2, 5, 12, 100):
            t.check(t.random_picture((40, 129), dtype), t.random_maps((40, 129), scale), scale=scale)
            t.check(t.random_picture((40, 129), dtype), t.random_coefficients((40, 129), scale), scale=scale, strength=1.5)
            zdce.ops.reduce_picture(t.random_picture((40, 129), dtype), scale)
""",
    )


PICTURE = torch.zeros(13, 24, 3, dtype=torch.uint8)
MAPS = torch.zeros(1, 24, 2, 2)


@pytest.mark.parametrize(
    ("error", "message", "changes"),
    [
        (TypeError, "picture must be a torch.Tensor, got list", {"picture": [1]}),
        (TypeError, "picture must be uint8, uint16 or float32, got torch.int32", {"picture": PICTURE.int()}),
        (ValueError, r"picture must be \(H, W, 3\) .* got \(3, 13, 24\)", {"picture": PICTURE.permute(2, 0, 1)}),
        (ValueError, r"maps must be \(1, 3T, 3 or 2, 2, 2\) .* got \(1, 24, 2, 3\)", {"maps": torch.zeros(1, 24, 2, 3)}),
        (TypeError, "maps must be float32, bfloat16 or float16, got torch.float64", {"maps": MAPS.double()}),
        (ValueError, "maps must be on picture's device cpu, got meta", {"maps": MAPS.to("meta")}),
        (ValueError, "must not require a gradient", {"maps": MAPS.clone().requires_grad_()}),
        (ValueError, "maps must have 3 channels or 3 for each", {"iterations": 4}),
        (ValueError, "scale must be 1 to 1048576, got 0", {"scale": 0}),
        (TypeError, "scale must be a whole number, got 12.5", {"scale": 12.5}),
        (TypeError, "iterations must be a whole number, got 8.0", {"iterations": 8.0}),
        (TypeError, "iterations must be a whole number, got 8.0", {"maps": MAPS[:, :2], "iterations": 8.0}),
        (ValueError, "strength must be a finite number, got nan", {"strength": float("nan")}),
        (ValueError, "strength must be a number or a tensor of 1 .* got a tensor of 2 .*float32", {"strength": torch.ones(2)}),
        (ValueError, "strength must .*float32 number on picture's device cpu, got .* 1 .*int64", {"strength": torch.tensor(1)}),
        (ValueError, "strength must not require a gradient", {"strength": torch.ones(1, requires_grad=True)}),
        (
            ValueError,
            "out must not require a gradient",
            {"picture": PICTURE.float(), "out": PICTURE.float().requires_grad_()},
        ),
        (ValueError, "out must be .*uint8.* got .*float32", {"out": PICTURE.float()}),
        (ValueError, "out must have each row's pixels contiguous", {"out": torch.zeros(24, 13, 3).byte().transpose(0, 1)}),
    ],
)
def test_bad_arguments_are_named(error, message, changes):
    arguments = {"picture": PICTURE, "maps": MAPS, "scale": 12, **changes}
    with pytest.raises(error, match=message):
        zdce.ops.enhance_picture(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        (PICTURE, MAPS, 17, 12, False, 1.0, False, None, PICTURE),
        (PICTURE, MAPS, 8, 0, False, 1.0, False, None, PICTURE),
        (PICTURE, MAPS, 8, 11, False, 1.0, False, None, PICTURE),
        (PICTURE, MAPS.double(), 8, 12, False, 1.0, False, None, PICTURE),
        (PICTURE, MAPS, 8, 12, False, 1.0, False, None, PICTURE.float()),
        (PICTURE.int(), MAPS, 8, 12, False, 1.0, False, None, PICTURE),
        (PICTURE[:, ::2], MAPS, 8, 12, False, 1.0, False, None, PICTURE),
    ],
)
def test_compiled_code_checks_what_reaches_it(arguments):
    if zdce.ops.dispatch.why_missing("cpp"):
        pytest.skip("cpp is not built")
    with pytest.raises(RuntimeError, match="zdce: "):
        torch.ops.zdce_cpp.enhance_picture(*arguments)
