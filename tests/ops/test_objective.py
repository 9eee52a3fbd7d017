"""The objective's single pass and its gradient on every backend against the float64 reference."""

import pytest
import torch
from hypothesis import strategies as st

import zdce
from cases import (
    DRAWN_DTYPES,
    DRAWN_LAYOUTS,
    IMAGES,
    VALUES,
    assert_near,
    draw,
    is_interpreted,
    layouts,
    nan_filled_allocations,
    opcheck,
    random_case,
    run_with_isa,
    skip_where_interpreted,
    skip_without_float64,
)
from zdce import reference
from zdce.ops import formulas

SIZES = [(16, 16), (17, 31), (37, 53), (256, 256), (66, 517)]


def drawn(size, iterations=8, **options):
    """An image and logits that spread over tanh's whole range."""
    image, maps, _ = random_case(size, iterations, **options)
    return image, maps * 3


# All other than the defaults, so that each counts.
SETTINGS = ("paper", 1.0, 2.0, 3.0, 4.0, 0.4)


def kernel_settings(logits, settings):
    return *formulas.illumination_factors(logits.shape, settings[0]), *settings[1:]


def check(image, logits, iterations, settings=SETTINGS):
    """Scalars, statistics and gradient against float64, every output poisoned before it is written."""
    # tanh is right within 6 ulps and a curve of 8 steps within 80; each further step may double that, and the gradients.
    # Sums add a few ulps (test_means_and_sums.py).
    wide = torch.float64 in (image.dtype, logits.dtype)
    tolerance = 1e-12 if wide else 1.5e-5 * 2 ** max(0, (iterations - 8) / 2)

    def run(function, image, logits, settings):
        leaf = logits.detach().requires_grad_()
        scalars, statistics = (found := function(image, leaf, iterations, *settings))[:5], found[5:]
        directions = [scalar.new_tensor(1 / (1 + i)) for i, scalar in enumerate(scalars)]
        (grad,) = torch.autograd.grad(scalars, leaf, directions)
        return [scalar.detach() for scalar in scalars], [statistic.detach() for statistic in statistics], grad

    with nan_filled_allocations():
        scalars, statistics, grad = run(torch.ops.zdce.objective, image, logits, settings)
    exact = image.double().cpu(), logits.double().cpu(), kernel_settings(logits, settings)
    true_scalars, true_statistics, true_grad = run(reference.objective, *exact)
    for name, scalar, truth in zip(zdce.Objective._fields, scalars, true_scalars, strict=True):
        assert scalar.dtype == (torch.float64 if wide else torch.float32)
        # Spatial and colour term are small squares of differences between means near 0.5.
        options = {"rtol": 10 * tolerance, "atol": 1e-3 * tolerance, "msg": lambda m, n=name: f"{n}: {m}"}
        torch.testing.assert_close(scalar.double().cpu(), truth, **options)
    for statistic, truth in zip(statistics, true_statistics, strict=True):
        torch.testing.assert_close(statistic.double().cpu(), truth, rtol=0, atol=tolerance)
    assert grad.dtype == logits.dtype
    stored = 0.0 if logits.dtype == scalars[0].dtype else torch.finfo(logits.dtype).eps
    assert_near(grad, true_grad, tolerance + stored)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_statistics_and_gradients_match_float64(backend, device, size, layout):
    skip_where_interpreted(backend, size, 60)
    iterations, batch = (1, 1) if backend == "triton" else (8, 1 if backend == "cuda_on_host" else 2)
    if backend == "cuda_on_host":  # emulated, the others take seconds; whole tiles and others as well, two each way at least
        size = {(256, 256): (64, 256), (66, 517): (66, 261)}.get(size, size)
    image, logits = (layouts(t)[layout] for t in drawn(size, iterations, batch=batch, device=device))
    with zdce.backend(backend):
        check(image, logits, iterations)


def test_a_size_of_several_tiles(backend, device):
    with zdce.backend(backend):
        check(*drawn((34, 133), 1, batch=1, device=device), 1)


@pytest.mark.skipif(zdce.ops.dispatch.why_missing("cpp") is not None, reason="the C++ extension is not built")
@pytest.mark.parametrize("size", [(66, 1061), (144, 2560)], ids=str)
def test_tiles_of_cpp_beside_each_other(size):
    # The second's gradient, 35 MB in whole lines, is written past the caches.
    with zdce.backend("cpp"):
        check(*drawn(size, batch=1), 8)


def test_one_picture_of_256x256(backend, device, monkeypatch):
    height = 256
    if backend == "triton":
        # one tile across, so that the interpreter sees few programs
        monkeypatch.setattr("zdce.kernels.objective.N", 64)
        height = 68 if is_interpreted(backend) else height
    with zdce.backend(backend):
        check(*drawn((height, 256), 1, shared=True, batch=1, device=device), 1)


def test_a_4k_picture():
    check(*drawn((2160, 3840), 1, batch=1), 1)


@pytest.mark.parametrize("iterations", [1, 4, 8, 16])
@pytest.mark.parametrize("shared", [False, True], ids=["own maps", "shared maps"])
def test_every_number_of_iterations(backend, device, iterations, shared):
    if is_interpreted(backend) and iterations == 8:
        pytest.skip("the same loops as with 4 and 16")
    size = (16, 17) if backend == "triton" else (37, 53)
    with zdce.backend(backend):
        check(*drawn(size, iterations, shared=shared, batch=1, device=device), iterations)


@pytest.mark.parametrize(
    ("image_dtype", "logits_dtype"),
    [
        (torch.bfloat16, torch.bfloat16), (torch.float16, torch.float16), (torch.float32, torch.bfloat16),
        (torch.float16, torch.float32), (torch.float64, torch.float64), (torch.float64, torch.float32),
        (torch.float32, torch.float64),
    ],
    ids=str,
)  # fmt: skip
def test_dtypes(backend, device, image_dtype, logits_dtype):
    if torch.float64 in (image_dtype, logits_dtype):
        skip_without_float64(backend, device)
    iterations, batch = (1, 1) if backend == "triton" else (8, 2)
    image, logits = drawn((17, 31), iterations, batch=batch, device=device)
    with zdce.backend(backend):
        check(image.to(image_dtype), logits.to(logits_dtype), iterations)
        if backend != "triton":
            image, logits = (layouts(tensor)["channels_last"] for tensor in (image, logits))
            check(image.to(image_dtype), logits.to(logits_dtype), iterations)


# Interpreted, these take up to half a minute, and run with the heavy tests.
LONG_IN_TRITON = pytest.mark.parametrize(
    "backend",
    [pytest.param(name, marks=pytest.mark.heavy if name == "triton" else ()) for name in zdce.ops.dispatch.BACKENDS],
    indirect=True,
)


@LONG_IN_TRITON
@pytest.mark.parametrize(("iterations", "dtype"), [(3, torch.bfloat16), (9, torch.float16), (10, torch.float32)], ids=str)
def test_maps_that_fill_no_group(backend, device, iterations, dtype):
    # On a GPU 2, 4 or 8 maps are loaded together, 8 pixels each; the last group is not whole.
    image, logits = drawn((17, 24), iterations, batch=1, device=device)
    with zdce.backend(backend):
        check(image.to(dtype), logits.to(dtype), iterations)


@pytest.mark.parametrize("logits_layout", ["transposed", "crop", "channels"])
@pytest.mark.parametrize("image_layout", ["contiguous", "channels_last", "crop"])
def test_layouts(backend, device, image_layout, logits_layout):
    iterations = 1 if backend == "triton" else 8
    image, logits = drawn((17, 21) if backend == "triton" else (17, 31), iterations, batch=1, device=device)
    with zdce.backend(backend):
        check(layouts(image)[image_layout], layouts(logits)[logits_layout], iterations)


@LONG_IN_TRITON
def test_drawn_shapes_and_values(backend, device):
    def one(height, width, batch, iterations, shared, values, flat, layout, dtypes, seed):
        image, logits = drawn((height, width), iterations, shared=shared, batch=batch, device=device, seed=seed)
        image, logits = VALUES[values](image).to(dtypes[0]), VALUES[flat](logits).to(dtypes[1])
        with zdce.backend(backend):
            check(layouts(image)[layout[0]], layouts(logits)[layout[1]], iterations)

    # Interpreted, a large picture takes half a minute, and all maps of several images as long as everything else here.
    height, width, batch, iterations = (40, 60, 2, 2) if backend == "triton" else (140, 300, 3, 12)
    draw(
        backend, one, height=(16, height), width=(16, width), batch=(1, batch), iterations=(1, iterations),
        shared=st.booleans(), values=st.sampled_from(IMAGES),
        flat=st.sampled_from(("random", "black", "constant", "ends", "tiny")),
        layout=st.tuples(*2 * [st.sampled_from(DRAWN_LAYOUTS)]), dtypes=st.tuples(*2 * [st.sampled_from(DRAWN_DTYPES)]),
        seed=st.integers(0, 2**31),
    )  # fmt: skip


def objective_and_gradient(ops, image, logits, **options):
    leaf = logits.detach().requires_grad_()
    objective = ops.zero_reference_objective(image, leaf, **options)
    return [term.detach() for term in objective], torch.autograd.grad(objective.total, leaf)[0]


def check_objective(image, logits, **options):
    with nan_filled_allocations():
        got, grad = objective_and_gradient(zdce.ops, image, logits, **options)
    expected, expected_grad = objective_and_gradient(reference, image.double().cpu(), logits.double().cpu(), **options)
    for name, value, truth in zip(zdce.Objective._fields, got, expected, strict=True):
        # The spatial and colour terms are small squares of differences between means near 0.5: 2e-5 of those.
        torch.testing.assert_close(value.double().cpu(), truth, rtol=1e-4, atol=1e-8, msg=lambda m, n=name: f"{n}: {m}")
    assert_near(grad, expected_grad, 2e-5)


@pytest.mark.parametrize("normalization", ["paper", "keras"])
@pytest.mark.parametrize("without", [None, *zdce.LossWeights._fields])
def test_the_objective_with_each_weight_0(backend, device, without, normalization):
    if is_interpreted(backend) and normalization != "paper":
        pytest.skip("another factor, which kernels are given")
    weights = zdce.LossWeights() if without is None else zdce.LossWeights()._replace(**{without: 0.0})
    iterations, batch = (1, 1) if backend == "triton" else (8, 2)
    image, logits = drawn((17, 31), iterations, batch=batch, device=device)
    with zdce.backend(backend):
        check_objective(image, logits, weights=weights, normalization=normalization, target=0.5)


@pytest.mark.parametrize("shared", [False, True])
def test_each_term_alone_is_differentiable(backend, device, shared):
    if backend == "triton" and not shared:
        pytest.skip("too slow in Triton's interpreter")
    image, logits = drawn((16, 19), 2, shared=shared, batch=1, device=device)
    grads = []
    for ops, like in ((zdce.ops, torch.float32), (reference, torch.float64)):
        leaf = logits.to(like).requires_grad_()
        with zdce.backend(backend):
            terms = ops.zero_reference_objective(image.to(like), leaf, iterations=2)
            grads.append([torch.autograd.grad(term, leaf, retain_graph=True)[0].cpu() for term in terms])
    for grad, truth in zip(*grads, strict=True):
        assert_near(grad, truth, 2e-5)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_constant_pictures_have_finite_gradients(backend, device, value):
    channels = 3 if is_interpreted(backend) else 6
    image, logits = torch.full((1, 3, 16, 20), value, device=device), torch.zeros(1, channels, 16, 20, device=device)
    with zdce.backend(backend):
        terms, grad = objective_and_gradient(zdce.ops, image, logits)
        assert terms[1] == 0
        assert terms[3] == 0
        assert grad.isfinite().all()
        only_color = zdce.LossWeights(0, 0, 5, 0)
        _, grad = objective_and_gradient(zdce.ops, image, logits, weights=only_color)
    assert torch.equal(grad, torch.zeros_like(grad))


def test_saturated_logits_have_no_gradient(backend, device):
    image = torch.rand(1, 3, 16, 20, device=device)
    for value in (30.0, float("-inf")):
        logits = torch.full((1, 3 if is_interpreted(backend) else 6, 16, 20), value, device=device)
        with zdce.backend(backend):
            terms, grad = objective_and_gradient(zdce.ops, image, logits)
        assert terms[1] == 0
        assert torch.equal(grad, torch.zeros_like(grad))


def test_nan_logits_show(backend, device):
    image, logits = drawn((16, 20), 1, batch=1, device=device)
    logits[0, 0, 3, 5] = float("nan")
    with zdce.backend(backend):
        terms, _ = objective_and_gradient(zdce.ops, image, logits)
    assert all(term.isnan() for term in terms)


def test_tanh_keeps_relative_accuracy(backend, device):
    # Maps are tiny when training begins. With an image of 0 nothing but the squared differences has a gradient.
    if backend == "triton":
        pytest.skip("the same polynomial, covered by the others")
    powers = 10 ** torch.linspace(-30, 1.2, 4000, dtype=torch.float64)
    x = torch.cat([powers, -powers, torch.linspace(-10, 10, 4000, dtype=torch.float64), torch.zeros(1)]).float()
    logits = torch.zeros(1, 3, 16, x.numel(), device=device)
    logits[:, :, 0] = x
    logits.requires_grad_()
    image = torch.zeros_like(logits, requires_grad=False)
    with zdce.backend(backend):
        term = zdce.ops.zero_reference_objective(image, logits, iterations=1).illumination
        grad = torch.autograd.grad(term, logits)[0][0, 0, 1].cpu()  # -2 (tanh x - tanh 0) (1 - tanh(0)^2)
    factor = formulas.illumination_factors(logits.shape, "paper")[0]
    # 7 ulps of tanh and its product, one of the factor.
    torch.testing.assert_close(grad.double(), -2 * factor * x.double().tanh(), rtol=8 * 2**-23, atol=1e-45)


def test_float32_holds_at_100_megapixels():
    # A small picture, expanded along y and the batch: the exact sums are multiples of its own, and no memory is needed.
    row, logits = torch.rand(1, 3, 1, 2_500) * 0.01 + 0.6, torch.rand(1, 3, 1, 2_500) * 0.1 - 1
    tall = [tensor.expand(8, 3, 5_000, 2_500) for tensor in (row, logits)]
    *terms, _, _, channels = torch.ops.zdce.objective(*tall, 1, *SETTINGS)
    enhanced = reference.apply_curve(row.double(), logits.double().tanh())
    torch.testing.assert_close(channels[0].double(), enhanced.mean((0, 2, 3)), rtol=1e-6, atol=0)
    expected = logits.double().tanh().diff(dim=3).square().sum() * 8 * 5_000
    expected *= formulas.illumination_factors(tall[1].shape, SETTINGS[0])[1]
    # Each difference of two tanh near -0.75 carries their rounding, 1e-7 of 0.03; squares of it average out.
    torch.testing.assert_close(terms[1].double(), expected, rtol=1e-5, atol=0)
    regions = reference.region_means(enhanced.expand(1, 3, 16, 2_500), 16)
    torch.testing.assert_close(terms[4].double(), formulas.exposure_control(regions, SETTINGS[-1]), rtol=1e-5, atol=0)


def test_equal_bits_for_every_number_of_threads(backend):
    if backend == "triton":
        pytest.skip("a GPU's grid knows no threads of the CPU")
    image, logits = drawn((301, 515))
    results = []
    for threads in (1, 2, 2):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        with zdce.backend("cpp" if backend == "cpp" else "auto"):
            terms, grad = objective_and_gradient(zdce.ops, image, logits)
        results.append([*terms, grad])
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_gradcheck_in_float64(backend):
    skip_without_float64(backend, "cpu")
    for shared in (False, True):
        image, logits = drawn((17, 18), 3, shared=shared, batch=1, dtype=torch.float64)
        with zdce.backend(backend):
            torch.autograd.gradcheck(
                lambda leaf, i=image: torch.ops.zdce.objective(i, leaf, 3, *SETTINGS)[:5], (logits.requires_grad_(),),
                fast_mode=True,
            )  # fmt: skip


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "crop"])
def test_opcheck(backend, device, layout):
    image, logits = (layouts(t)[layout] for t in drawn((16, 17), 1, batch=1, device=device))
    with zdce.backend(backend):
        operators = torch.ops.zdce
        opcheck(operators.objective.default, (image, logits.clone().requires_grad_(), 1, *SETTINGS), backend, device)
        total, *_, exposure, regions, gaps, means = operators.objective(image, logits, 1, *SETTINGS)
        inputs = (total, None, None, None, exposure, regions, gaps, means, image, logits, 1, *SETTINGS, backend)
        opcheck(operators.objective_backward.default, inputs, backend, device)


# Of a backend, what is compiled has the name alone, which every backend's test of apply_curve takes through.
@pytest.mark.parametrize("backend", ["reference", "cpp", "cuda"], indirect=True)
def test_compiles_whole_with_dynamic_shapes(backend, device):
    torch._dynamo.reset()

    def loss(image, logits):
        return zdce.ops.zero_reference_objective(image, logits * 0.5).total

    compiled = torch.compile(loss, fullgraph=True, dynamic=True, backend="aot_eager")
    for size in ((16, 20), (17, 31), (40, 64)):  # no square, as in test_operators.py
        image, logits = drawn(size, 2, batch=1, device=device)
        results = []
        for function in (compiled, loss):
            leaf = logits.clone().requires_grad_()
            with zdce.backend(backend):
                value = function(image, leaf)
                value.backward()
            results.append((value.detach(), leaf.grad))
        torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=5e-6)


def test_exports():
    class Loss(torch.nn.Module):
        def forward(self, image, logits):
            return zdce.ops.zero_reference_objective(image, logits)

    # From two regions of 16 on: torch specialises sizes of 1.
    dynamic = {2: torch.export.Dim("height", min=32), 3: torch.export.Dim("width", min=32)}
    program = torch.export.export(Loss(), drawn((40, 56)), dynamic_shapes=(dynamic, dynamic))
    image, logits = drawn((37, 83))
    torch.testing.assert_close(
        tuple(program.module()(image, logits)), tuple(zdce.ops.zero_reference_objective(image, logits)), rtol=1e-6, atol=0
    )


def test_torch_only_allocates_beside_the_kernels(backend, device, monkeypatch):
    # Each operation of torch's between them would cost a launch on a GPU, and more of the host's time than all kernels.
    if backend == "reference":
        pytest.skip("it is plain torch")
    if is_interpreted(backend):  # the interpreter's own copies
        monkeypatch.setattr("triton.runtime.interpreter.InterpretedFunction.run", lambda *_, **__: None)
    image, logits = drawn((64, 64), device=device)
    logits.requires_grad_()
    for layout in ("contiguous", "channels_last"):
        image, leaf = layouts(image)[layout], layouts(logits.detach())[layout].requires_grad_()
        one = torch.ones((), device=device)
        with zdce.backend(backend), torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            terms = zdce.ops.zero_reference_objective(image, leaf)
            torch.autograd.grad((terms.total, terms.color), leaf, (one, one))
        names = {event.name for event in profile.events()}
        assert {"zdce::objective", "zdce::objective_backward"} <= names
        seen = {name.removeprefix("aten::") for name in names if name.startswith("aten::")}
        assert seen <= {"empty", "empty_like", "empty_strided", "new_empty"}


def test_nothing_image_sized_is_kept_or_made():
    image, logits = drawn((64, 64))
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        zdce.ops.zero_reference_objective(image, logits.requires_grad_())
    large = {t.data_ptr() for t in saved if t.numel() > 2 * 64 * 64 // 8}
    assert large == {image.data_ptr(), logits.data_ptr()}


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, r"with B at least 1, H and W at least 16, got \(1, 3, 12, 40\)", ((1, 3, 12, 40), (1, 24, 12, 40))),
        (ValueError, "logits must have image's batch, height and width", ((1, 3, 16, 16), (1, 24, 16, 17))),
        (ValueError, "logits must have 3 channels or 3 for each", ((1, 3, 16, 16), (1, 25, 16, 16))),
        (ValueError, r"image must be \(B, 3, H, W\), got \(1, 1, 16, 16\)", ((1, 1, 16, 16), (1, 24, 16, 16))),
    ],
)  # fmt: skip
def test_bad_shapes_are_named(error, message, arguments):
    with pytest.raises(error, match=message):
        zdce.ops.zero_reference_objective(*(torch.zeros(shape) for shape in arguments))


def test_bad_arguments_are_named():
    image, logits = torch.zeros(1, 3, 16, 16), torch.zeros(1, 24, 16, 16)
    with pytest.raises(TypeError, match=r"logits must be float64, .* got torch.int32"):
        zdce.ops.zero_reference_objective(image, logits.int())
    with pytest.raises(ValueError, match=r"target must be in \[0, 1\], got nan"):
        zdce.ops.zero_reference_objective(image, logits, target=float("nan"))
    for weights in ((1.0, 2.0, 3.0), {"spatial": 1.0}, 1.0):
        with pytest.raises(TypeError, match=r"^weights must be zdce\.LossWeights or 4 numbers, got "):
            zdce.ops.zero_reference_objective(image, logits, weights)
    with pytest.raises(ValueError, match="image must not require a gradient"):
        zdce.ops.zero_reference_objective(image.clone().requires_grad_(), logits)
    with pytest.raises(ValueError, match="logits must be on image's device cpu, got meta"):
        zdce.ops.zero_reference_objective(image, logits.to("meta"))


def test_compiled_code_checks_what_reaches_it():
    if zdce.ops.dispatch.why_missing("cpp"):
        pytest.skip("cpp is not built")
    z = torch.zeros
    settings = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.6)
    grids = [z(1, 2, 2), z(1, 2, 2), z(1, 3)]
    bad_grids = [z(1, 2, 1), z(1, 2, 2).double(), z(6)[::2]]
    good = [z(1, 3, 8, 8), z(1, 24, 8, 8), 8, *settings, *(z(()) for _ in range(5)), *grids]
    torch.ops.zdce_cpp.objective(*good)
    bad = {0: z(1, 4, 8, 8), 1: z(1, 24, 8, 9), 2: 4, 10: z(1), 14: z(()).double(), **dict(enumerate(bad_grids, 15))}
    for place, value in bad.items():
        with pytest.raises(RuntimeError, match="zdce: "):
            torch.ops.zdce_cpp.objective(*good[:place], value, *good[place + 1 :])
    good = [z(()), None, None, None, None, *grids, z(1, 3, 8, 8), z(1, 24, 8, 8), 8, *settings, z(1, 24, 8, 8)]
    torch.ops.zdce_cpp.objective_backward(*good)
    bad = {0: z(1), 4: z(()).double(), **dict(enumerate(bad_grids, 5))}
    bad |= {8: z(3, 8, 8), 9: z(1, 24, 8, 8).int(), 10: 17, 18: z(1, 24, 8, 7)}
    for place, value in bad.items():
        with pytest.raises(RuntimeError, match="zdce: "):
            torch.ops.zdce_cpp.objective_backward(*good[:place], value, *good[place + 1 :])


@pytest.mark.parametrize("isa", ["default", "avx2", "avx512"])
def test_every_instruction_set(isa):
    run_with_isa(
        isa,
        """
import torch, zdce, test_means_and_sums as s, test_objective as t
with zdce.backend("cpp"):
    for size in ((17, 31), (66, 300)):
        for dtype in (torch.float32, torch.float64):
            t.check(*t.drawn(size, dtype=dtype), 8)
            for operator in s.OPERATORS:
                s.check(operator, s.drawn(operator, size, dtype=dtype))
""",
    )
