"""apply_curve and its gradients on every backend against the float64 reference."""

import pytest
import torch
from hypothesis import strategies as st

import zdce
from cases import (
    DRAWN_DTYPES,
    DRAWN_LAYOUTS,
    IMAGES,
    VALUES,
    draw,
    layouts,
    nan_filled_allocations,
    opcheck,
    random_case,
    run_with_isa,
    skip_without_float64,
)
from zdce import reference

SIZES = [(1, 1), (1, 7), (16, 16), (17, 31), (37, 53), (256, 3)]
HALVES = [torch.bfloat16, torch.float16]


def values_and_gradients(function, image, maps, grad, iterations):
    image, maps = image.detach().requires_grad_(), maps.detach().requires_grad_()
    enhanced = function(image, maps, iterations)
    grads = torch.autograd.grad(enhanced, (image, maps), grad.to(enhanced.dtype))
    return enhanced.detach(), *grads


def check(image, maps, grad, iterations):
    """Values and gradients against float64, with every output poisoned before it is written."""
    with nan_filled_allocations():
        got = values_and_gradients(zdce.ops.apply_curve, image, maps, grad, iterations)
    expected = values_and_gradients(
        reference.apply_curve, image.double().cpu(), maps.double().cpu(), grad.double().cpu(), iterations
    )
    # Each step rounds three times and multiplies the error so far by its slope, at most 2 and below 1 on average: a few ulps
    # over 8 steps of random maps. Each further step may double them, as it may double the gradients, to whose largest value
    # the tolerance relates.
    calculated_in = torch.float64 if torch.float64 in (image.dtype, maps.dtype) else torch.float32
    calculated = 80 * torch.finfo(calculated_in).eps * 2 ** max(0, iterations - 8)
    for name, value, truth, like in zip(("enhanced", "image", "maps"), got, expected, (got[0], image, maps), strict=True):
        assert value.dtype == like.dtype
        stored = 0.0 if like.dtype == calculated_in else torch.finfo(like.dtype).eps
        scale = max(1.0, truth.abs().max().item())
        torch.testing.assert_close(
            value.double().cpu(), truth, rtol=0, atol=(calculated + stored) * scale, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_curve_and_gradients_match_float64(backend, device, size):
    image, maps, grad = random_case(size, device=device)
    with zdce.backend(backend):
        check(image, maps, grad, 8)


@pytest.mark.skipif(zdce.ops.dispatch.why_missing("cpp") is not None, reason="the C++ extension is not built")
@pytest.mark.parametrize(("size", "iterations"), [((576, 640), 8), ((577, 639), 8), ((1680, 1680), 1), ((2160, 3840), 1)])
def test_outputs_of_34_mb_go_past_the_caches_where_lines_allow(size, iterations):
    # In turn the maps' gradient; none, for its lines lie across blocks; the enhanced image; all, of 4K.
    with zdce.backend("cpp"):
        check(*random_case(size, iterations, batch=1), iterations)


@pytest.mark.parametrize("iterations", [1, 2, 4, 7, 16])
@pytest.mark.parametrize("shared", [False, True], ids=["own maps", "shared maps"])
def test_every_number_of_iterations(backend, device, iterations, shared):
    image, maps, grad = random_case((17, 31), iterations, shared=shared, device=device)
    with zdce.backend(backend):
        check(image, maps, grad, iterations)


@pytest.mark.parametrize(
    ("image_dtype", "maps_dtype"),
    [(half, half) for half in HALVES]
    + [(torch.float32, half) for half in HALVES]
    + [(torch.bfloat16, torch.float32), (torch.float64, torch.float64), (torch.float64, torch.float32)],
    ids=str,
)
def test_dtypes(backend, device, image_dtype, maps_dtype):
    if torch.float64 in (image_dtype, maps_dtype):
        skip_without_float64(backend, device)
    image, maps, grad = random_case((17, 31), device=device)
    with zdce.backend(backend):
        check(image.to(image_dtype), maps.to(maps_dtype), grad, 8)


@pytest.mark.parametrize("iterations", [15, 16])
def test_many_maps_of_half_types(backend, device, iterations):
    # On a GPU two maps are moved together; of 15 the last is alone.
    image, maps, grad = random_case((9, 16), iterations, device=device)
    with zdce.backend(backend):
        check(image.half(), maps.bfloat16(), grad, iterations)


@pytest.mark.parametrize("maps_layout", ["contiguous", "channels_last", "transposed", "crop", "channels"])
@pytest.mark.parametrize("image_layout", ["contiguous", "channels_last", "crop"])
def test_layouts(backend, device, image_layout, maps_layout):
    image, maps, grad = random_case((17, 31), device=device)
    image, maps = layouts(image)[image_layout], layouts(maps)[maps_layout]
    with zdce.backend(backend):
        check(image, maps, grad.contiguous(memory_format=torch.channels_last), 8)
        enhanced = zdce.ops.apply_curve(image, maps)
    assert enhanced.is_contiguous(
        memory_format=torch.channels_last if image_layout == "channels_last" else torch.contiguous_format
    )


def test_channels_last_is_not_copied():
    if zdce.ops.dispatch.why_missing("cpp"):
        pytest.skip("cpp is not built")
    image, maps, _ = random_case((64, 64))
    image, maps = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (image, maps))
    with zdce.backend("cpp"), torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        torch.ops.zdce.apply_curve(image, maps, 8)
    names = {event.name for event in profile.events()}
    assert "zdce::apply_curve" in names
    assert not names & {"aten::copy_", "aten::clone"}


def test_an_expanded_gradient(backend, device):
    image, maps, _ = random_case((17, 31), device=device)
    with zdce.backend(backend):
        check(image, maps, torch.ones(1, 1, 1, 1, device=device).expand_as(image), 8)


def test_only_wanted_gradients_are_made(backend, device):
    image, maps, grad = random_case((17, 31), device=device)
    for wanted in ("image", "maps"):
        inputs = {"image": image.clone(), "maps": maps.clone()}
        inputs[wanted].requires_grad_()
        with zdce.backend(backend):
            zdce.ops.apply_curve(**inputs).backward(grad)
        assert inputs[wanted].grad is not None
        assert all((tensor.grad is None) == (name != wanted) for name, tensor in inputs.items())


def test_one_block_of_256x256(backend, device):
    image, maps, grad = random_case((256, 256), batch=1, device=device)
    with zdce.backend(backend):
        check(image, maps, grad, 8)


def test_the_curve_keeps_its_range_and_order():
    image = torch.linspace(0, 1, 300).reshape(1, 1, 1, 300).expand(1, 3, 1, 300)
    for a in (-1.0, 1.0):
        enhanced = zdce.ops.apply_curve(image, torch.full((1, 24, 1, 300), a))
        assert enhanced.min() >= 0
        assert enhanced.max() <= 1
        assert (enhanced.diff(dim=3) >= 0).all()


def test_drawn_shapes_and_values(backend, device):
    # With more than 12 steps a gradient may leave float16's range.
    def one(height, width, batch, iterations, shared, values, ends, layout, dtypes, seed):
        image, maps, grad = random_case((height, width), iterations, shared=shared, batch=batch, device=device, seed=seed)
        image, maps = VALUES[values](image).to(dtypes[0]), VALUES[ends](maps).to(dtypes[1])
        with zdce.backend(backend):
            check(layouts(image)[layout[0]], layouts(maps)[layout[1]], grad, iterations)

    draw(
        backend, one, height=(1, 40), width=(1, 40), batch=(1, 3), iterations=(1, 12), shared=st.booleans(),
        values=st.sampled_from(IMAGES), ends=st.sampled_from(("random", "black", "constant", "ends", "tiny")),
        layout=st.tuples(*2 * [st.sampled_from(DRAWN_LAYOUTS)]), dtypes=st.tuples(*2 * [st.sampled_from(DRAWN_DTYPES)]),
        seed=st.integers(0, 2**31),
    )  # fmt: skip


def test_half_conversions_are_torchs_own():
    if zdce.ops.dispatch.why_missing("cpp"):
        pytest.skip("cpp is not built")
    for dtype in HALVES:
        bits = torch.arange(2**16, dtype=torch.int32).to(torch.int16)
        every = bits.view(dtype).reshape(1, 1, 1, -1).expand(1, 3, 1, -1)
        none = torch.zeros(1, 3, 1, 2**16)
        with zdce.backend("cpp"):
            widened = zdce.ops.apply_curve(every, none)
        kept = every.float().abs() < 1e18  # a map of 0 keeps x as long as its square is finite
        assert torch.equal(widened[kept], every.float()[kept])
        floats = torch.cat([every.float()[0, 0, 0], torch.randn(2**16) * 1e-4, torch.randn(2**16) * 1e4])
        floats = floats[floats.isfinite()].reshape(1, 1, 1, -1).expand(1, 3, 1, -1).contiguous()
        for nudge in (1.0, 1 + 2**-9, 1 + 2**-12, 1 - 2**-9, 1 - 2**-12):
            x = floats * nudge
            gradient = torch.zeros_like(x, dtype=dtype)
            torch.ops.zdce_cpp.apply_curve_backward(
                x.flatten(2), torch.zeros_like(x).flatten(2), torch.zeros_like(x).flatten(2), 1, gradient.flatten(2), None
            )
            assert torch.equal(gradient, x.to(dtype))


def test_gradcheck_in_float64(backend, device):
    skip_without_float64(backend, device)
    for shared in (False, True):
        image, maps, _ = random_case((3, 5), 4, shared=shared, batch=1, dtype=torch.float64, device=device)
        with zdce.backend(backend):
            torch.autograd.gradcheck(
                lambda i, m: zdce.ops.apply_curve(i, m, 4), (image.requires_grad_(), maps.requires_grad_())
            )


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "crop"])
def test_opcheck(backend, device, layout):
    image, maps, grad = (layouts(t)[layout] for t in random_case((5, 7), device=device))
    with zdce.backend(backend):
        opcheck(torch.ops.zdce.apply_curve.default, (image, maps.clone().requires_grad_(), 8), backend, device)
        opcheck(torch.ops.zdce.apply_curve.default, (image.bfloat16(), maps, 8), backend, device)
        for wanted in ((True, True), (False, True), (True, False)):
            opcheck(torch.ops.zdce.apply_curve_backward.default, (grad, image, maps, 8, *wanted, backend), backend, device)


def test_compiles_whole_with_dynamic_shapes(backend, device):
    torch._dynamo.reset()

    def loss(image, maps):
        return zdce.ops.apply_curve(image * 0.5, maps.tanh()).square().sum()

    # test_operators.py has Inductor compile every operator.
    compiled = torch.compile(loss, fullgraph=True, dynamic=True, backend="aot_eager")
    for size in ((16, 20), (17, 31), (8, 40)):  # no square, as in test_operators.py
        image, maps, _ = random_case(size, device=device)
        grads = []
        for function in (compiled, loss):
            leaf = maps.clone().requires_grad_()
            with zdce.backend(backend):
                function(image, leaf).backward()
            grads.append(leaf.grad)
        assert torch.equal(*grads)


def test_exports():
    class Brighten(torch.nn.Module):
        def forward(self, image, maps):
            return zdce.ops.apply_curve(image, maps)

    image, maps, _ = random_case((16, 24))
    height, width = torch.export.Dim("height"), torch.export.Dim("width")
    dynamic = {2: height, 3: width}
    program = torch.export.export(Brighten(), (image, maps), dynamic_shapes=(dynamic, dynamic))
    image, maps, _ = random_case((17, 31))
    torch.testing.assert_close(program.module()(image, maps), zdce.ops.apply_curve(image, maps), rtol=0, atol=0)


def test_nothing_but_the_inputs_is_saved():
    image, maps, _ = random_case((16, 16))
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        zdce.ops.apply_curve(image, maps.requires_grad_())
    assert {t.data_ptr() for t in saved} == {image.data_ptr(), maps.data_ptr()}


def test_backward_stays_on_forwards_backend(monkeypatch):
    image, maps, grad = random_case((4, 4))
    used = []
    launch = zdce.ops.dispatch.launch
    monkeypatch.setattr(zdce.ops.dispatch, "launch", lambda *a: used.append(a[:2]) or launch(*a))
    with zdce.backend("reference"):
        enhanced = zdce.ops.apply_curve(image, maps.requires_grad_())
    enhanced.backward(grad)
    assert used == [("apply_curve", "reference"), ("apply_curve_backward", "reference")]


def test_more_than_2_31_elements_are_addressed():
    # One value expanded to 2.4e9 elements takes no memory and is indexed as they are.
    if zdce.ops.dispatch.why_missing("cpp"):
        pytest.skip("cpp is not built")
    maps = torch.full((1, 1, 1, 1), -0.5).expand(120, 48, 640, 640)
    image = torch.full((1, 1, 1, 1), 0.25).expand(120, 3, 640, 640)
    with zdce.backend("cpp"):
        enhanced = zdce.ops.apply_curve(image, maps)
    expected = reference.apply_curve(image[:1, :, :1, :1], maps[:1, :, :1, :1])
    assert (enhanced - expected[0, 0, 0, 0]).abs().max() < 1e-6


def zeros(channels, height=2, width=2, **options):
    return torch.zeros(1, channels, height, width, **options)


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (TypeError, "image must be a torch.Tensor, got list", ([1], zeros(24))),
        (TypeError, "image must be float64, .* got torch.uint8", (zeros(3, dtype=torch.uint8), zeros(24))),
        (ValueError, r"image must be \(B, 3, H, W\), got \(1, 4, 2, 2\)", (zeros(4), zeros(24))),
        (ValueError, r"image .* with B, H and W at least 1, got \(1, 3, 0, 2\)", (zeros(3, 0), zeros(24, 0))),
        (ValueError, r"image .* with B, H and W at least 1, got \(0, 3, 2, 2\)", (zeros(3)[:0], zeros(24)[:0])),
        (ValueError, "maps must have image's batch, height and width", (zeros(3), zeros(24, 3))),
        (ValueError, "maps must have 3 channels or 3 for each", (zeros(3), zeros(25))),
        (ValueError, "got 24 for T = 4", (zeros(3), zeros(24), 4)),
        (ValueError, "iterations must be 1 to 16, got 17", (zeros(3), zeros(3), 17)),
        (TypeError, "iterations must be a whole number, got 8.0", (zeros(3), zeros(3), 8.0)),
        (ValueError, "maps must be on image's device cpu, got meta", (zeros(3), zeros(24, device="meta"))),
    ],
)
def test_bad_arguments_are_named(error, message, arguments):
    with pytest.raises(error, match=message):
        zdce.ops.apply_curve(*arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        (torch.zeros(1, 3, 4), torch.zeros(1, 24, 4), 4, torch.zeros(1, 3, 4)),
        (torch.zeros(1, 3, 4), torch.zeros(1, 24, 4), 17, torch.zeros(1, 3, 4)),
        (torch.zeros(1, 3, 4), torch.zeros(1, 24, 5), 8, torch.zeros(1, 3, 4)),
        (torch.zeros(1, 3, 4), torch.zeros(1, 24, 4), 8, torch.zeros(1, 3, 3)),
        (torch.zeros(1, 3, 4), torch.zeros(1, 24, 4), 8, torch.zeros(1, 3, 4, dtype=torch.int32)),
        (torch.zeros(3, 4), torch.zeros(1, 24, 4), 8, torch.zeros(1, 3, 4)),
    ],
)
def test_compiled_code_checks_what_reaches_it(arguments):
    if zdce.ops.dispatch.why_missing("cpp"):
        pytest.skip("cpp is not built")
    with pytest.raises(RuntimeError, match="zdce: "):
        torch.ops.zdce_cpp.apply_curve(*arguments)


def test_a_forced_backend_that_cannot_run_says_why():
    with (
        pytest.raises(ValueError, match=r"backend must be one of auto, reference, cpp, triton, cuda, .*got 'cudnn'"),
        zdce.backend("cudnn"),
    ):
        pass
    image, maps, _ = random_case((4, 4), dtype=torch.float64)
    with pytest.raises(RuntimeError, match=r"backend 'triton' was asked for but can't run: .*float64"), zdce.backend("triton"):
        zdce.ops.apply_curve(image, maps)


@pytest.mark.parametrize("isa", ["default", "avx2", "avx512"])
def test_every_instruction_set(isa):
    run_with_isa(
        isa,
        """
import cases, torch, zdce, test_apply_curve as t
with zdce.backend("cpp"):
    for size in t.SIZES:
        for dtype in (torch.float32, torch.float64):
            t.check(*cases.random_case(size, dtype=dtype), 8)
""",
    )


def test_an_unknown_instruction_set_is_named():
    with pytest.raises(pytest.fail.Exception, match=r"ZDCE_ISA must be one of .*default, got mmx"):
        run_with_isa("mmx", "")
