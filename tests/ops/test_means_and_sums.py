"""region_means, channel_means and tv_sums on every backend against the float64 reference, and the losses made of them."""

import pytest
import torch
from hypothesis import strategies as st

import zdce
from cases import (
    DRAWN_DTYPES,
    DRAWN_LAYOUTS,
    IMAGES,
    VALUES,
    check_operator,
    draw,
    layouts,
    opcheck,
    random_case,
    skip_where_interpreted,
    skip_without_float64,
)
from zdce import reference

OPERATORS = {"region_means": (4,), "channel_means": (), "tv_sums": ()}
SIZES = [(1, 1), (1, 7), (4, 4), (16, 16), (17, 31), (37, 53), (256, 256), (130, 515)]


def check(operator, tensor, others=None):
    # Sums run in a tree or over at most 128 neighbours before they go on in double (on Triton compensated, or in a tree of
    # at most 16 terms a thread): a few ulps of the sum. Differences of neighbours round once, their squares double that.
    wide = tensor.dtype == torch.float64
    check_operator(operator, (tensor,), OPERATORS[operator] if others is None else others, tolerance=1e-13 if wide else 2e-6)


def drawn(operator, size, batch=2, **options):
    image, maps, _ = random_case(size, 1, batch=batch, **options)
    return maps if operator == "tv_sums" else image


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("operator", OPERATORS)
def test_values_and_gradients_match_float64(backend, device, operator, size):
    skip_where_interpreted(backend, size, 60)
    if operator == "region_means" and backend == "reference" and min(size) < 4:
        pytest.skip("torch pools no image below one region")
    if operator == "region_means" and min(size) < 4:
        image = drawn(operator, size, device=device).requires_grad_()
        with zdce.backend(backend):
            means = torch.ops.zdce.region_means(image, 4)
        assert means.numel() == 0
        return
    with zdce.backend(backend):
        check(operator, drawn(operator, size, device=device))


@pytest.mark.skipif(zdce.ops.dispatch.why_missing("cpp") is not None, reason="the C++ extension is not built")
@pytest.mark.parametrize("size", [(720, 1040), (720, 1039)], ids=str)
@pytest.mark.parametrize("operator", OPERATORS)
def test_a_gradient_larger_than_the_caches_goes_past_them_where_lines_allow(operator, size):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with zdce.backend("cpp"):
        check(operator, drawn(operator, size))
    torch.set_num_threads(before)


@pytest.mark.skipif(zdce.ops.dispatch.why_missing("cpp") is not None, reason="the C++ extension is not built")
@pytest.mark.parametrize("operator", OPERATORS)
def test_a_4k_picture(operator):
    with zdce.backend("cpp"):
        check(operator, drawn(operator, (2160, 3840), batch=1))


@pytest.mark.parametrize("region", [1, 2, 3, 5, 16, 17, 37, 300])
def test_every_region_size(backend, device, region):
    if backend == "reference" and region > 100:
        pytest.skip("torch pools in one running sum")
    size = (37, 53) if region < 100 else (301, 613)
    skip_where_interpreted(backend, size, 60)
    with zdce.backend(backend):
        check("region_means", drawn("region_means", size, device=device), (region,))
        check_contrast(two_images(size, device=device), region)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("operator", OPERATORS)
def test_dtypes(backend, device, operator, dtype):
    if dtype == torch.float64:
        skip_without_float64(backend, device)
    with zdce.backend(backend):
        check(operator, drawn(operator, (9, 13) if backend == "triton" else (17, 31), device=device).to(dtype))


@pytest.mark.parametrize("layout", ["channels_last", "transposed", "crop", "channels"])
@pytest.mark.parametrize("operator", OPERATORS)
def test_layouts(backend, device, operator, layout):
    tensor = layouts(drawn(operator, (9, 13) if backend == "triton" else (17, 31), device=device))[layout]
    with zdce.backend(backend):
        check(operator, tensor)
        if layout == "channels_last":
            check(operator, tensor.half())
            leaf = tensor.clone().requires_grad_()
            getattr(torch.ops.zdce, operator)(leaf, *OPERATORS[operator]).sum().backward()
            assert leaf.grad.is_contiguous(memory_format=torch.channels_last)


def test_many_channels_have_sums_too(backend, device):
    if backend == "triton":
        pytest.skip("its grid runs over channels, however many")
    tensor = torch.rand(1, 29, 9, 7, device=device)
    with zdce.backend(backend):
        check("tv_sums", tensor)
        check("tv_sums", tensor.contiguous(memory_format=torch.channels_last))


@pytest.mark.parametrize("operator", OPERATORS)
def test_drawn_shapes_and_values(backend, device, operator):
    def one(height, width, batch, region, values, layout, dtype, seed):
        region = min(region, height, width)
        tensor = VALUES[values](drawn(operator, (height, width), batch=batch, device=device, seed=seed)).to(dtype)
        with zdce.backend(backend):
            check(operator, layouts(tensor)[layout], (region,) if operator == "region_means" else ())

    draw(
        backend, one, height=(1, 300), width=(1, 300), batch=(1, 3), region=(1, 20), values=st.sampled_from(IMAGES),
        layout=st.sampled_from(DRAWN_LAYOUTS), dtype=st.sampled_from(DRAWN_DTYPES), seed=st.integers(0, 2**31),
    )  # fmt: skip


@pytest.mark.parametrize("operator", OPERATORS)
def test_float32_holds_at_100_megapixels(operator):
    # One row of random pixels expanded to 100 megapixels: the exact sums are known, and no memory is needed.
    row = torch.rand(1, 3, 1, 10_000, dtype=torch.float64) * 0.01 + 0.7
    tall = row.float().expand(1, 3, 10_000, 10_000)
    got = getattr(torch.ops.zdce, operator)(tall, *((2_500,) if operator == "region_means" else ())).double()
    row = row.float().double()
    if operator == "tv_sums":
        expected = torch.stack([torch.zeros(()), row.diff(dim=3).square().sum() * 10_000])
    elif operator == "channel_means":
        expected = row.mean((2, 3))
    else:
        expected = row.mean(1).reshape(1, 1, 4, 2_500).mean(3).expand(1, 4, 4)
    torch.testing.assert_close(got, expected.double(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("operator", OPERATORS)
def test_equal_bits_for_every_number_of_threads(operator):
    tensor = drawn(operator, (301, 515))
    results = []
    for threads in (1, 2, 2):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        results.append(getattr(torch.ops.zdce, operator)(tensor, *OPERATORS[operator]))
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[1], results[2])


def test_gradcheck_in_float64(backend, device):
    skip_without_float64(backend, device)
    for operator, others in OPERATORS.items():
        tensor = drawn(operator, (9, 6), batch=1, dtype=torch.float64).requires_grad_()
        with zdce.backend(backend):
            torch.autograd.gradcheck(lambda t, o=operator, p=others: getattr(torch.ops.zdce, o)(t, *p), (tensor,))


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "crop"])
@pytest.mark.parametrize("operator", OPERATORS)
def test_opcheck(backend, device, operator, layout):
    tensor = layouts(drawn(operator, (5, 7), batch=1, device=device))[layout].detach()
    others = OPERATORS[operator]
    with zdce.backend(backend):
        overload = getattr(torch.ops.zdce, operator).default
        opcheck(overload, (tensor.clone().requires_grad_(), *others), backend, device)
        grad = torch.randn_like(overload(tensor, *others))
        image = (5, 7, torch.float32, layout == "channels_last")
        arguments = {"region_means": (grad, 4, *image), "channel_means": (grad, *image), "tv_sums": (grad, tensor)}
        opcheck(getattr(torch.ops.zdce, f"{operator}_backward").default, (*arguments[operator], backend), backend, device)


# region_contrast: two images.


def check_contrast(images, region=4, wanted=(True, True)):
    # Region means of at most 1 err by a few ulps of 1, as above: relative to their gaps that is more by as much as those are
    # smaller. Squares double it.
    wide = any(image.dtype == torch.float64 for image in images)
    largest = reference.region_contrast(*(image.double().cpu() for image in images), region)[1].abs().max().item()
    tolerance = (2e-13 if wide else 4e-6) / largest
    check_operator("region_contrast", images, (region,), tolerance=tolerance, wanted=wanted)


def two_images(size, **options):
    return tuple(drawn("region_means", size, seed=seed, **options) for seed in (0, 1))


@pytest.mark.parametrize("wanted", [(True, False), (False, True), (True, True)], ids=str)
@pytest.mark.parametrize("size", [(4, 4), (4, 23), (17, 5), (37, 53), (256, 256), (130, 1031)], ids=str)
def test_contrast_and_gradients_match_float64(backend, device, size, wanted):
    skip_where_interpreted(backend, size, 60)
    with zdce.backend(backend):
        check_contrast(two_images(size, device=device), wanted=wanted)


@pytest.mark.parametrize("dtypes", [("bfloat16", "float16"), ("float16", "float32"), ("float64", "float32")], ids=str)
def test_contrast_of_mixed_types_and_layouts(backend, device, dtypes):
    if "float64" in dtypes:
        skip_without_float64(backend, device)
    first, second = two_images((9, 13), device=device)
    images = (
        layouts(first)["channels_last"].to(getattr(torch, dtypes[0])),
        layouts(second)["crop"].to(getattr(torch, dtypes[1])),
    )
    with zdce.backend(backend):
        check_contrast(images)
        leaf = images[0].detach().requires_grad_()
        torch.ops.zdce.region_contrast(leaf, images[1], 4)[0].backward()
        assert leaf.grad.is_contiguous(memory_format=torch.channels_last)


def test_contrast_has_equal_bits_for_every_number_of_threads():
    first, second = two_images((301, 515))
    results = []
    for threads in (1, 2, 3):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        leaf = first.detach().requires_grad_()
        loss, gaps = torch.ops.zdce.region_contrast(leaf, second, 4)
        results.append((loss.detach(), gaps.detach(), *torch.autograd.grad(loss, leaf)))
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


def test_contrast_gradcheck_in_float64(backend, device):
    skip_without_float64(backend, device)
    images = [image.requires_grad_() for image in two_images((9, 6), batch=1, dtype=torch.float64)]
    with zdce.backend(backend):
        assert torch.autograd.gradcheck(lambda *both: torch.ops.zdce.region_contrast(*both, 3), images)
        assert torch.autograd.gradgradcheck(lambda *both: torch.ops.zdce.region_contrast(*both, 3)[0], images)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_contrast_opcheck(backend, device, layout):
    images = [layouts(image)[layout].detach() for image in two_images((9, 13), batch=1, device=device)]
    with zdce.backend(backend):
        opcheck(
            torch.ops.zdce.region_contrast.default, (*(image.clone().requires_grad_() for image in images), 4), backend, device
        )
        loss, gaps = torch.ops.zdce.region_contrast(*images, 4)
        for grads in (
            (torch.ones_like(loss), gaps, None),
            (torch.ones_like(loss), gaps, torch.randn_like(gaps)),
            (None, gaps, gaps),
        ):
            opcheck(
                torch.ops.zdce.region_contrast_backward.default,
                (*grads, 4, 9, 13, torch.float32, layout == "channels_last", backend),
                backend,
                device,
            )


def losses(ops, enhanced, image, maps):
    return (
        ops.illumination_smoothness(maps) + ops.illumination_smoothness(maps, "keras")
        + ops.spatial_consistency(enhanced, image) + ops.color_constancy(enhanced) + ops.exposure_control(enhanced, 0.5)
    )  # fmt: skip


# Of a backend, what is compiled has the name alone, which every backend's test of apply_curve takes through.
@pytest.mark.parametrize("backend", ["reference", "cpp", "cuda"], indirect=True)
def test_losses_compile_whole_with_dynamic_shapes(backend, device):
    torch._dynamo.reset()
    compiled = torch.compile(lambda *t: losses(zdce.ops, *t), fullgraph=True, dynamic=True, backend="aot_eager")
    for size in ((16, 20), (17, 31), (40, 64)):  # no square, as in test_operators.py
        image, maps, other = random_case(size, 2, batch=1, device=device)
        inputs = [tensor.requires_grad_() for tensor in (other.sigmoid().detach(), image, maps)]
        results = []
        for function in (compiled, lambda *t: losses(reference, *t)):
            with zdce.backend(backend):
                loss = function(*inputs)
                results.append((loss.detach(), *torch.autograd.grad(loss, inputs)))
        torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-6)


def test_losses_export():
    class Losses(torch.nn.Module):
        def forward(self, enhanced, image, maps):
            return losses(zdce.ops, enhanced, image, maps)

    # From two regions of 16 on: torch specialises sizes of 1.
    dynamic = {2: torch.export.Dim("height", min=32), 3: torch.export.Dim("width", min=32)}
    drawn_at = [random_case(size, 2, batch=1) for size in ((40, 56), (37, 83))]  # two regions at least
    inputs = [(other.sigmoid(), image, maps) for image, maps, other in drawn_at]
    program = torch.export.export(Losses(), inputs[0], dynamic_shapes=(dynamic,) * 3)
    torch.testing.assert_close(program.module()(*inputs[1]), losses(zdce.ops, *inputs[1]))


def test_color_constancy_has_no_gradient_on_grey(backend, device):
    for value in (0.0, 0.5, 1.0):
        grey = torch.full((2, 3, 17, 31), value, device=device, requires_grad=True)
        with zdce.backend(backend):
            zdce.ops.color_constancy(grey).backward()
        assert torch.equal(grey.grad, torch.zeros_like(grey))


def test_a_direction_without_pairs_counts_nothing(backend, device):
    for size in ((1, 1), (1, 9), (9, 1)):
        maps = drawn("tv_sums", size, device=device)
        for normalization in ("paper", "keras"):
            with zdce.backend(backend):
                got = zdce.ops.illumination_smoothness(maps, normalization)
            torch.testing.assert_close(got, reference.illumination_smoothness(maps, normalization))


def images(*shape, **options):
    return torch.zeros(shape, **options)


@pytest.mark.parametrize(
    ("error", "message", "loss", "arguments"),
    [
        (TypeError, "maps must be float64, .* got torch.int64", "illumination_smoothness", [images(1, 3, 4, 4).long()]),
        (ValueError, "maps must have 3 channels or 3", "illumination_smoothness", [images(1, 4, 4, 4)]),
        (ValueError, "must be one of paper, keras, got 'tf'", "illumination_smoothness", [images(1, 3, 4, 4), "tf"]),
        (ValueError, r"enhanced must be \(B, 3, H, W\), got \(1, 4, 4, 4\)", "color_constancy", [images(1, 4, 4, 4)]),
        (TypeError, "enhanced must be a torch.Tensor, got int", "color_constancy", [1]),
        (ValueError, "with B at least 1, H and W at least 16, got", "exposure_control", [images(2, 3, 12, 40)]),
        (ValueError, "with B at least 1, H and W at least 16, got", "exposure_control", [images(0, 3, 32, 40)]),
        (ValueError, "with B, H and W at least 1, got", "color_constancy", [images(0, 3, 32, 40)]),
        (TypeError, "region must be a whole number, got 4.0", "spatial_consistency", [images(1, 3, 8, 8)] * 2 + [4.0]),
        (ValueError, "region must be at least 1, got 0", "exposure_control", [images(2, 3, 12, 40), 0.6, 0]),
        (ValueError, r"target must be in \[0, 1\], got 153", "exposure_control", [images(2, 3, 32, 40), 153]),
        (ValueError, "enhanced must have image's batch", "spatial_consistency", [images(2, 3, 8, 8), images(1, 3, 8, 8)]),
        (ValueError, "enhanced must be on image's device meta, got cpu", "spatial_consistency",
         [images(2, 3, 8, 8), images(2, 3, 8, 8, device="meta")]),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(error, message, loss, arguments):
    with pytest.raises(error, match=message):
        getattr(zdce.ops, loss)(*arguments)


@pytest.mark.parametrize(
    ("operator", "arguments"),
    [
        ("region_means", (images(1, 4, 8, 8), 4, images(1, 2, 2))),
        ("region_means", (images(1, 3, 8, 8), 0, images(1, 2, 2))),
        ("region_means", (images(1, 3, 8, 8), 4, images(1, 2, 3))),
        ("region_means", (images(1, 3, 8, 8), 4, images(1, 2, 2, dtype=torch.float64))),
        ("region_means", (images(3, 8, 8), 4, images(1, 2, 2))),
        ("region_means_backward", (images(1, 2, 2), 4, 8, 9, images(1, 3, 8, 8))),
        ("region_means_backward", (images(1, 2, 1), 4, 8, 8, images(1, 3, 8, 8))),
        ("channel_means", (images(1, 3, 8, 8), images(1, 4))),
        ("channel_means", (images(1, 3, 8, 8).int(), images(1, 3))),
        ("channel_means_backward", (images(2, 3), 8, 8, images(1, 3, 8, 8))),
        ("region_contrast", (images(1, 3, 8, 8), images(1, 3, 8, 9), 4, images(), images(1, 2, 2))),
        ("region_contrast", (images(1, 3, 8, 8), images(1, 3, 8, 8), 0, images(), images(1, 2, 2))),
        ("region_contrast", (images(1, 3, 8, 8), images(1, 3, 8, 8), 4, images(1), images(1, 2, 2))),
        ("region_contrast", (images(1, 3, 8, 8), images(1, 3, 8, 8), 4, images(), images(1, 2, 1))),
        ("region_contrast_backward", (images(), images(1, 2, 2), None, 4, 8, 9, images(1, 3, 8, 8))),
        ("region_contrast_backward", (images(), images(1, 2, 2), images(1, 2, 1), 4, 8, 8, images(1, 3, 8, 8))),
        ("region_contrast_backward", (images(1), images(1, 2, 2), None, 4, 8, 8, images(1, 3, 8, 8))),
        ("tv_sums", (images(1, 3, 8, 8), images(3))),
        ("tv_sums_backward", (images(2), images(1, 3, 8, 8), images(1, 3, 8, 7))),
        ("tv_sums_backward", (images(1), images(1, 3, 8, 8), images(1, 3, 8, 8))),
    ],
)
def test_compiled_code_checks_what_reaches_it(operator, arguments):
    if zdce.ops.dispatch.why_missing("cpp"):
        pytest.skip("cpp is not built")
    with pytest.raises(RuntimeError, match="zdce: "):
        getattr(torch.ops.zdce_cpp, operator)(*arguments)
