"""Convolutions in the engine's kernels: values and gradients within float32's rounding of float64, and networks that train."""

import pytest
import torch
from torch.nn import functional

import zdce
from cases import assert_near, layouts, nan_filled_allocations, run_with_isa
from zdce import reference
from zdce.errors import BackendError
from zdce.models import network
from zdce.models.variants import VARIANTS, Variant
from zdce.ops import dispatch

# Of the largest true value. Winograd's transforms make of each value a sum of some 20 larger ones and back, ten roundings
# in a row, where direct convolution of the same sums loses a tenth; 64 input channels were seen to lose 2e-6.
TOLERANCE = 5e-6

SIZES = [(1, 1), (1, 5), (4, 4), (17, 31), (67, 6), (9, 261)]
CHANNELS = [((3,), 16), ((16,), 16), ((16, 16), 24), ((20, 7), 12), ((3,), 24), ((32, 32), 32), ((16,), 40)]
LAYOUTS = ["contiguous", "channels_last", "transposed", "crop", "channels"]

needs_kernels = pytest.mark.skipif(dispatch.why_missing("cpp") is not None, reason="cpp is not built")


# bfloat16 keeps 8 bits: half a unit in the last place, beside the rounding above.
ROUNDED = {torch.float32: TOLERANCE, torch.bfloat16: 2**-8}


def drawn(channels, outputs, size, batch=2, dtype=torch.float32):
    """Sources (B, C_i, H, W) each, weight, bias, and a gradient of the result."""
    torch.manual_seed(0)
    sources = [torch.randn(batch, c, *size, dtype=dtype) for c in channels]
    weight = torch.randn(outputs, sum(channels), 3, 3, dtype=dtype) / (9 * sum(channels)) ** 0.5
    return sources, weight, torch.randn(outputs, dtype=dtype), torch.randn(batch, outputs, *size, dtype=dtype)


def kept_rounded(sources, weight, bias, grad):
    """The same with feature maps and their gradients in bfloat16."""
    return [source.bfloat16() for source in sources], weight, bias, grad.bfloat16()


def exact(tensors):
    return [tensor.double() for tensor in tensors]


def representable(sources, weight, bias, grad):
    """The same with values that bfloat16 has, so that rounding to it changes nothing."""
    sources, weight, grad = ([t.bfloat16().float() for t in tensors] for tensors in (sources, [weight], [grad]))
    return sources, weight[0], bias, grad[0]


def check(sources, weight, bias, grad, rectified, wanted=None, bf16_products=False):
    """Both operators against float64, outputs poisoned; backward from the very output of forward, that no value so near 0
    that rounding decides its sign comes between. The result has the type of ``grad``."""
    wanted = [True] * len(sources) if wanted is None else wanted
    with nan_filled_allocations():
        result = torch.ops.zdce.convolution(sources, weight, bias, rectified, grad.dtype, bf16_products)
        output = result if rectified else None
        grad_sources, grad_weight, grad_bias = torch.ops.zdce.convolution_backward(
            grad, sources, weight, output, wanted, True, bf16_products, "auto"
        )
    assert result.dtype == grad.dtype
    truth = reference.convolution(exact(sources), weight.double(), bias.double(), rectified)
    assert_near(result, truth, ROUNDED[grad.dtype])
    expected = reference.convolution_backward(
        grad.double(), exact(sources), weight.double(), None if output is None else output.double()
    )
    for got, truth, source, want in zip(grad_sources, expected[0], sources, wanted, strict=True):
        if want:
            assert (got.shape, got.dtype) == (source.shape, source.dtype)
            assert_near(got, truth, ROUNDED[source.dtype])
        else:
            assert got.numel() == 0
    assert_near(grad_weight, expected[1], TOLERANCE)
    assert_near(grad_bias, expected[2], TOLERANCE)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("channels", "outputs"), CHANNELS, ids=str)
def test_values_and_gradients_match_float64(channels, outputs, size):
    for rectified in (False, True):
        check(*drawn(channels, outputs, size), rectified)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("channels", "outputs"), CHANNELS[:4], ids=str)
def test_layouts(channels, outputs, layout):
    sources, weight, bias, grad = drawn(channels, outputs, (9, 13))
    sources = [layouts(source)[layout] for source in sources]
    check(sources, weight, bias, layouts(grad)[layout], rectified=True)
    if layout != "contiguous":
        check(sources, weight.contiguous(memory_format=torch.channels_last), bias, grad, rectified=False)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("channels", "outputs"), [((3,), 16), ((16, 16), 24), ((20, 7), 12), ((32,), 32)], ids=str)
def test_feature_maps_in_bfloat16(channels, outputs, layout):
    sources, weight, bias, grad = drawn(channels, outputs, (9, 261 if layout == "contiguous" else 13))
    sources, _, _, rounded = kept_rounded(sources, weight, bias, grad)
    sources = [layouts(source)[layout] for source in sources]
    check(sources, weight, bias, layouts(rounded)[layout], rectified=True)
    check(sources, weight, bias, grad, rectified=False)
    mixed = [source.float() if i == 0 else source for i, source in enumerate(sources)]
    check(mixed, weight, bias, rounded, rectified=True)


@pytest.mark.parametrize("rectified", [False, True])
def test_bfloat16_in_memory_calculates_as_float32_does(backend, rectified):
    if reason := dispatch.why_missing(backend, operator="convolution"):
        pytest.skip(reason)
    sources, weight, bias, _ = drawn((16, 3), 16, (9, 13))
    sources = [source.bfloat16() for source in sources]
    with zdce.backend(backend):
        got = zdce.ops.convolution(sources, weight, bias, rectified, torch.bfloat16)
        exact_kept = zdce.ops.convolution([source.float() for source in sources], weight, bias, rectified)
    assert torch.equal(got, exact_kept.bfloat16())


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("channels", "outputs"), CHANNELS, ids=str)
def test_products_in_bfloat16_of_values_that_it_has(channels, outputs, size):
    # Exact products, and sums in float32: within float32's rounding of float64.
    case = representable(*drawn(channels, outputs, size))
    for rectified in (False, True):
        check(*case, rectified, bf16_products=True)
    check(*kept_rounded(*case), rectified=True, bf16_products=True)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("channels", "outputs"), [((3,), 16), ((16, 16), 24), ((20, 7), 12), ((32,), 32)], ids=str)
def test_products_in_bfloat16_from_any_layout(channels, outputs, layout):
    sources, weight, bias, grad = representable(*drawn(channels, outputs, (9, 261 if layout == "contiguous" else 13)))
    for kept in (torch.float32, torch.bfloat16):
        laid = [layouts(source.to(kept))[layout] for source in sources]
        check(laid, weight, bias, layouts(grad.to(kept))[layout], rectified=True, bf16_products=True)
    mixed = [source if i == 0 else source.bfloat16() for i, source in enumerate(sources)]
    check(mixed, weight, bias, grad, rectified=False, wanted=[i > 0 for i in range(len(mixed))], bf16_products=True)


@pytest.mark.parametrize(("channels", "outputs"), CHANNELS, ids=str)
def test_products_in_bfloat16_are_off_by_what_rounding_allows(channels, outputs):
    sources, weight, bias, grad = drawn(channels, outputs, (17, 31))
    wanted = [True] * len(sources)
    result = torch.ops.zdce.convolution(sources, weight, bias, False, torch.float32, True)
    got = torch.ops.zdce.convolution_backward(grad, sources, weight, None, wanted, True, True, "auto")
    doubles = exact(sources), weight.double(), bias.double()
    truth = reference.convolution(*doubles, False), *reference.convolution_backward(grad.double(), *doubles[:2], None)
    # With 8 bits each factor is off by at most 2^-9 of itself: each product by 2^-8 and a little, however signs fall.
    sizes = [source.abs() for source in doubles[0]], weight.double().abs(), bias.double().abs()
    bounds = reference.convolution(*sizes, False), *reference.convolution_backward(grad.double().abs(), *sizes[:2], None)
    flat = [[values[0], *values[1], *values[2:]] for values in ((result, *got), truth, bounds)]
    for value, true, bound in zip(*flat, strict=True):
        assert ((value - true).abs() <= 1.01 * 2**-8 * bound).all()


@needs_kernels
def test_values_are_rounded_where_a_matrix_unit_multiplies_them():
    sources, weight, bias, _ = drawn((16, 3), 24, (9, 13))
    got = zdce.ops.convolution(sources, weight, bias, bf16_products=True)
    from zdce import _C, _core

    if _C.isa() == "avx512" and _core.has_bfloat16():
        assert_near(got, reference.convolution(exact(sources), weight.double(), bias.double(), False, True), TOLERANCE)
    else:
        assert torch.equal(got, zdce.ops.convolution(sources, weight, bias))


def test_a_gradient_that_is_one_number():
    sources, weight, bias, grad = drawn((16, 16), 24, (17, 31))
    for bf16_products in (False, True):
        one = representable(sources, weight, bias, grad)[3][:1, :1, :1, :1]
        check(*representable(sources, weight, bias, grad)[:3], one.expand_as(grad), True, bf16_products=bf16_products)


def test_the_reference_backward_is_the_derivative_of_the_reference():
    sources, weight, bias, grad = drawn((5, 4), 6, (6, 7), dtype=torch.float64)
    leaves = [tensor.requires_grad_() for tensor in (*sources, weight, bias)]
    for rectified in (False, True):
        output = reference.convolution(sources, weight, bias, rectified)
        grads = torch.autograd.grad(output, leaves, grad)
        by_hand = reference.convolution_backward(grad, sources, weight, output if rectified else None)
        torch.testing.assert_close(grads, (*by_hand[0], *by_hand[1:]))


@pytest.mark.parametrize("wanted", [(True, False), (False, True), (False, False)])
def test_only_what_is_wanted(wanted):
    check(*drawn((16, 20), 16, (7, 9)), rectified=True, wanted=list(wanted))
    sources, weight, bias, _ = drawn((16, 20), 16, (7, 9))
    for source, want in zip(sources, wanted, strict=True):
        source.requires_grad_(want)
    if any(wanted):
        zdce.ops.convolution(sources, weight, bias).sum().backward()
        assert [source.grad is not None for source in sources] == list(wanted)


def steady(variant, image):
    """A network whose values before each ReLU are at least 1 from 0 for ``image``, so that rounding decides nothing; half of
    its channels are below."""
    torch.manual_seed(0)
    model, features = zdce.DCENet(variant), [image]
    with torch.no_grad():
        for read, layer in zip(model.variant.sources, model.convolutions[:-1], strict=False):
            layer.rectified = False
            values = layer(*(features[i] for i in read))
            layer.rectified = True
            shift = 1 - values.amin((0, 2, 3))
            shift[::2] = -1 - values.amax((0, 2, 3))[::2]
            getattr(layer, "pointwise", layer).bias.add_(shift)
            features.append(functional.relu(values + shift[:, None, None]))
    return model


def gradients(model, image, grad):
    model.zero_grad()
    model(image).backward(grad)
    return [parameter.grad for parameter in model.parameters()]


@pytest.mark.parametrize("name", [*VARIANTS, Variant("odd", "", "", sources=((0,), (1, 0), (2, 1)), filters=20, iterations=5)])
def test_every_network_has_the_gradients_of_float64(name):
    image = torch.rand(2, 3, 21, 34, generator=torch.Generator().manual_seed(1))
    model = steady(name, image)
    grad = torch.randn(2, model.variant.maps, 21, 34, generator=torch.Generator().manual_seed(2))
    got = [gradient.clone() for gradient in gradients(model, image, grad)]
    for value, truth in zip(got, gradients(model.double(), image.double(), grad.double()), strict=True):
        # Seven layers, each adding its own rounding to what came from behind it.
        assert_near(value, truth, 4 * TOLERANCE)


@needs_kernels
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("name", ["base", "filters32"])
def test_equal_bits_for_every_number_of_threads(name, mixed):
    model, image = zdce.DCENet(name), torch.rand(2, 3, 70, 300)
    grad, before, results = torch.randn(2, 24, 70, 300), torch.get_num_threads(), []
    for threads in (1, 2, 3, 8, 64):
        torch.set_num_threads(threads)
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            results.append([gradient.clone() for gradient in gradients(model, image, grad)])
    torch.set_num_threads(before)
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


@needs_kernels
@pytest.mark.parametrize(("inputs", "outputs"), [(0, 3), (3, 0), (0, 0)])
def test_tensors_without_channels_are_refused_by_name(inputs, outputs):
    source, grad, weight = torch.zeros(1, inputs, 5, 6), torch.zeros(1, outputs, 5, 6), torch.zeros(outputs, inputs, 3, 3)
    none, bias = torch.empty(0), torch.zeros(outputs)
    for bf16_products in (False, True):
        with pytest.raises(RuntimeError, match=f"zdce: {'result' if inputs else 'sources'} must have at least one channel"):
            torch.ops.zdce_cpp.convolution([source], weight, bias, False, bf16_products, grad)
        with pytest.raises(RuntimeError, match=f"zdce: {'grad' if inputs else 'sources'} must have at least one channel"):
            torch.ops.zdce_cpp.convolution_backward(grad, [source], weight, None, bf16_products, [none], none, none)


@needs_kernels
@pytest.mark.parametrize("isa", ["default", "avx2"])
def test_instruction_sets(isa):
    run_with_isa(
        isa,
        "import test_convolution as t\n"
        "for c in t.CHANNELS: t.check(*t.drawn(*c, (17, 31)), rectified=True)\n"
        "for c in t.CHANNELS: t.check(*t.kept_rounded(*t.drawn(*c, (17, 31))), rectified=True)\n"
        "for c in t.CHANNELS: t.check(*t.representable(*t.drawn(*c, (17, 31))), rectified=True, bf16_products=True)\n"
        "t.test_values_are_rounded_where_a_matrix_unit_multiplies_them()",
    )


def losses(name, steps, activations="float32", mixed=False):
    torch.manual_seed(0)
    model, image = zdce.DCENet(name, activations), torch.rand(2, 3, 32, 32) * 0.3
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    totals = []
    for _ in range(steps):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            logits = model(image)
        total = zdce.ops.zero_reference_objective(image, logits).total
        total.backward()
        optimizer.step()
        totals.append(total.item())
    return totals


def test_the_reference_takes_no_part_in_autocast():
    sources, weight, bias, _ = drawn((16,), 16, (9, 9))
    with zdce.backend("reference"):
        expected = zdce.ops.convolution(sources, weight, bias)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(zdce.ops.convolution(sources, weight, bias), expected, rtol=0, atol=0)


def test_rounded_products_leave_gradients_under_transforms_unrounded():
    sources, weight, bias, _ = drawn((3,), 4, (5, 6), dtype=torch.float64)
    expected = torch.func.grad(lambda w: zdce.ops.convolution(sources, w, bias).sum())(weight)
    rounded = [source.bfloat16().double() for source in sources]
    got = torch.func.grad(lambda w: zdce.ops.convolution(rounded, w, bias, False, None, True).sum())(weight)
    want = torch.func.grad(lambda w: zdce.ops.convolution(rounded, w, bias).sum())(weight)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    assert (got - expected).abs().max() > 1e-4


def test_losses_of_200_steps_are_those_of_torch():
    with zdce.backend("reference"):
        expected = losses("base", 200)
    assert expected[-1] < 0.5 * expected[0]
    # Adam divides by the gradient's own size, so that the rounding of a small one counts as much as that of a large one, and
    # steps build on each other: torch's own channels_last convolutions end 1e-5 from its contiguous ones.
    torch.testing.assert_close(losses("base", 200), expected, rtol=1e-4, atol=0)
    # Rounded to 8 bits, 2e-3 of each value, at random; thousands of values share in a loss.
    rounded = losses("base", 200, "bfloat16")
    torch.testing.assert_close(rounded, expected, rtol=5e-3, atol=0)
    assert rounded != expected
    # Weights and gradients too are rounded before they are multiplied.
    mixed = losses("base", 200, mixed=True)
    torch.testing.assert_close(mixed, expected, rtol=5e-3, atol=0)
    assert mixed != expected


@pytest.mark.parametrize("bf16_products", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_not_a_number_stays_one(dtype, bf16_products):
    # The one whose bits are all set too, which rounding would turn into a zero.
    for nan in (torch.tensor(torch.nan), torch.tensor(-1, dtype=torch.int32).view(torch.float32)):
        sources, weight, bias, _ = drawn((16,), 16, (9, 9))
        sources[0][0, 3, 4, 4] = nan
        got = zdce.ops.convolution(sources, weight, bias, True, dtype, bf16_products)
        assert got[0, :, 3:6, 3:6].isnan().all()
        assert got[0, :, :, 8:].isfinite().all()  # the tiles of 4 x 4 outputs that it reaches end at column 7
        assert got[1].isfinite().all()
        # The gradient behind it too.
        grad, wanted = torch.ones_like(got), [True]
        backward = torch.ops.zdce.convolution_backward(grad, sources, weight, got, wanted, True, bf16_products, "auto")
        assert backward[1][:, 3].isnan().any()
        assert backward[2].isfinite().all()
        nan_output = got.clone().fill_(nan)
        assert (
            torch.ops.zdce.convolution_backward(grad, sources, weight, nan_output, wanted, True, bf16_products, "auto")[2]
            .eq(got[:, 0].numel())
            .all()
        )


@needs_kernels
def test_kernels_serve_networks_in_float32_on_the_cpu_and_torch_the_rest(monkeypatch):
    calls = []
    convolution = zdce.ops.convolution
    monkeypatch.setattr(zdce.ops, "convolution", lambda *arguments: calls.append(1) or convolution(*arguments))
    model, image = zdce.DCENet("base"), torch.rand(1, 3, 8, 8)
    model(image)
    assert len(calls) == 5
    with zdce.backend("reference"):
        model(image)
        with torch.autocast("cpu", torch.bfloat16):
            model(image)
    with torch.autocast("cpu", torch.float16):
        model(image)
    torch.export.export(model, (image,))
    model.double()(image.double())
    assert len(calls) == 5


@needs_kernels
def test_under_autocast_kernels_keep_features_in_bfloat16_and_logits_in_float32():
    model, image, kept = zdce.DCENet("base"), torch.rand(1, 3, 8, 8), []
    for layer in model.convolutions:
        layer.register_forward_hook(lambda _, __, output: kept.append(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        model(image).sum().backward()
    assert kept == [torch.bfloat16] * 4 + [torch.float32]
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("name", ["base", "zero-dce-pp"])
def test_networks_under_autocast_have_the_gradients_of_float64_to_8_bits(name):
    image = torch.rand(2, 3, 21, 34, generator=torch.Generator().manual_seed(1))
    model = steady(name, image)
    # Of one sign: sums of random ones over all pixels nearly cancel, and what is left is small beside their roundings.
    grad = torch.rand(2, model.variant.maps, 21, 34, generator=torch.Generator().manual_seed(2))
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(image)
    got = torch.autograd.grad(logits, list(model.parameters()), grad.to(logits.dtype))
    # Up to 14 convolutions in a row forward and 14 back, each rounding all its values by up to 2^-9; PyTorch's and those of a
    # matrix unit round weights too. Errors are of either sign: over many draws they were seen to add up to half of this.
    for value, truth in zip(got, gradients(model.double(), image.double(), grad.double()), strict=True):
        assert_near(value, truth, 28 * 2**-9)


@pytest.mark.parametrize("unit", [True, False])
def test_separable_layers_under_autocast_round_only_where_a_unit_multiplies(monkeypatch, unit):
    monkeypatch.setattr(network, "computed_precision", lambda precision: precision if unit else "fp32")
    model, image = steady("zero-dce-pp", torch.rand(1, 3, 9, 13)), torch.rand(1, 3, 9, 13)
    exact = model(image)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(image)
    assert (logits.dtype, torch.equal(logits, exact)) == ((torch.bfloat16, False) if unit else (torch.float32, True))


class Kept(torch.autograd.Function):
    """Values rounded to bfloat16 if ``forward_too``, and their gradient in any case, as feature maps kept in it are."""

    @staticmethod
    def forward(ctx, x, forward_too):
        return x.bfloat16().to(x.dtype) if forward_too else x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad.bfloat16().to(grad.dtype), None


def rounded_gradients(model, image, grad):
    """``gradients`` with feature maps, each layer's gradient of what it reads, and the sums of these rounded to bfloat16."""
    features = [image]
    for read, layer in zip(model.variant.sources, model.convolutions, strict=True):
        sources = [Kept.apply(features[i], False) if i else image for i in read]
        values = reference.convolution(sources, layer.weight, layer.bias, layer.rectified)
        features.append(Kept.apply(values, True) if layer.rectified else values)
    return torch.autograd.grad(features[-1], list(model.parameters()), grad)


@needs_kernels
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("name", ["base", "filters32"])
def test_networks_round_feature_maps_and_their_gradients_once_and_nothing_else(name, mixed):
    # In bfloat16 already, so that a matrix unit has nothing of its own to round.
    image = torch.rand(2, 3, 21, 34, generator=torch.Generator().manual_seed(1)).bfloat16().float()
    model = steady(name, image)
    grad = torch.randn(2, model.variant.maps, 21, 34, generator=torch.Generator().manual_seed(2)).bfloat16().float()
    with torch.no_grad():
        for layer in model.convolutions:
            layer.weight.copy_(layer.weight.bfloat16())
    kept = zdce.DCENet(name, "float32" if mixed else "bfloat16")
    kept.load_state_dict(model.state_dict())
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        logits = kept(image)
    got = torch.autograd.grad(logits, list(kept.parameters()), grad)
    for value, truth in zip(got, rounded_gradients(model.double(), image.double(), grad.double()), strict=True):
        # Float32 sums near the middle of two bfloat16 numbers fall to either, a few in 10,000, and move others in the layers
        # behind: 7e-4 were seen over many draws. A rounding of gradients too few makes 1.6e-3 and more.
        assert_near(value, truth, 2**-10)


def test_hooks_see_every_convolution():
    model, seen = zdce.DCENet("base"), []
    for layer in model.convolutions:
        layer.register_forward_hook(lambda _, __, output: seen.append(output.shape[1]))
        layer.register_full_backward_hook(lambda _, grads, __: seen.append(len(grads)))
    model(torch.rand(1, 3, 8, 8, requires_grad=True)).sum().backward()
    assert seen == [16, 16, 16, 16, 24, 2, 2, 1, 1, 1]


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "crop"])
def test_opcheck(layout):
    sources, weight, bias, grad = drawn((16, 3), 16, (5, 7), batch=1)
    sources = [layouts(source)[layout].clone().requires_grad_() for source in sources]
    for dtype, bf16_products in ((torch.float32, False), (torch.bfloat16, False), (torch.bfloat16, True)):
        arguments = (sources, weight.requires_grad_(), bias.requires_grad_(), True, dtype, bf16_products)
        torch.library.opcheck(torch.ops.zdce.convolution.default, arguments)
        leaves = [source.detach() for source in sources]
        output = torch.ops.zdce.convolution(leaves, weight, bias, True, dtype, bf16_products).detach()
        backward = torch.ops.zdce.convolution_backward.default
        for wanted in ([True, True], [False, True]):
            others = (leaves, weight.detach(), output, wanted, True, bf16_products, "auto")
            torch.library.opcheck(backward, (grad.to(dtype), *others))


@pytest.mark.parametrize("bf16_products", [False, True])
def test_compiles_whole(bf16_products):
    torch._dynamo.reset()
    sources, weight, bias, grad = drawn((16, 3), 24, (6, 7), batch=1)
    leaves = [tensor.requires_grad_() for tensor in (*sources, weight, bias)]

    def convolved(*tensors):
        return zdce.ops.convolution(tensors[:-2], tensors[-2], tensors[-1], True, bf16_products=bf16_products)

    compiled = torch.compile(convolved, fullgraph=True, backend="aot_eager")
    expected, got = (torch.autograd.grad(function(*leaves), leaves, grad) for function in (convolved, compiled))
    assert all(map(torch.equal, expected, got))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_run_in_torch(dtype):
    sources, weight, bias, _ = drawn((3, 4), 5, (6, 7), dtype=dtype)
    got = zdce.ops.convolution(sources, weight, bias, rectified=True)
    assert got.dtype == dtype
    assert_near(got, reference.convolution(exact(sources), weight.double(), bias.double(), True), torch.finfo(dtype).eps)
    with zdce.backend("cpp"), pytest.raises(BackendError, match="its kernel takes float32, not"):
        zdce.ops.convolution(sources, weight, bias)


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, "sources must hold at least one tensor", ([], 0, 0)),
        (TypeError, "sources must be a torch.Tensor, got int", ([1], 0, 0)),
        (TypeError, "sources must be a sequence of tensors, got a Tensor", (torch.zeros(1, 3, 4, 4), 0, 0)),
        (TypeError, "sources must be a sequence of tensors, got a generator", ((x for x in [torch.zeros(1, 3, 4, 4)]), 0, 0)),
        (ValueError, r"sources must be \(B, 1, H, W\), got \(1, 0, 4, 4\)", ([torch.zeros(1, 0, 4, 4)], 0, 0)),
        (ValueError, "sources must have the first source's batch", ([torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 5)], 0, 0)),
        (ValueError, r"weight must be \(O, 3, 3, 3\), got \(4, 2, 3, 3\)",
         ([torch.zeros(1, 3, 4, 4)], torch.zeros(4, 2, 3, 3), torch.zeros(4))),
        (ValueError, r"bias must be \(4,\), got \(3,\)",
         ([torch.zeros(1, 3, 4, 4)], torch.zeros(4, 3, 3, 3), torch.zeros(3))),
        (TypeError, "weight must be torch.float32 on cpu as the first source is, got torch.float64",
         ([torch.zeros(1, 3, 4, 4)], torch.zeros(4, 3, 3, 3).double(), torch.zeros(4))),
        (TypeError, "weight must be torch.bfloat16 on cpu as the first source is, got torch.float64",
         ([torch.zeros(1, 3, 4, 4).bfloat16()], torch.zeros(4, 3, 3, 3).double(), torch.zeros(4))),
        (TypeError, "bias must be torch.float32 on cpu as weight is, got torch.bfloat16",
         ([torch.zeros(1, 3, 4, 4).bfloat16()], torch.zeros(4, 3, 3, 3), torch.zeros(4).bfloat16())),
        (TypeError, "sources must be torch.float64 on cpu as the first source is, got torch.float32",
         ([torch.zeros(1, 3, 4, 4).double(), torch.zeros(1, 3, 4, 4)], torch.zeros(4, 6, 3, 3).double(), torch.zeros(4))),
        (TypeError, "dtype must be torch.bfloat16 or torch.float32 with weights of torch.float32, got torch.float64",
         ([torch.zeros(1, 3, 4, 4)], torch.zeros(4, 3, 3, 3), torch.zeros(4), False, torch.float64)),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(error, message, arguments):
    with pytest.raises(error, match=message):
        zdce.ops.convolution(*arguments)


@needs_kernels
def test_compiled_code_checks_what_reaches_it():
    sources, weight, bias, grad = drawn((3, 4), 5, (6, 7))
    kernels, result, none = torch.ops.zdce_cpp, torch.empty_like(grad), torch.empty(0)
    for wrong in [
        ([], weight, bias, True, False, result),
        ([sources[0], sources[1][..., :-1]], weight, bias, True, False, result),
        (sources, weight[:, :-1], bias, True, False, result),
        (sources, weight, bias[:-1], True, False, result),
        (exact(sources), weight, bias, True, False, result),
        (sources, weight, bias, True, False, result[..., :-1]),
    ]:
        with pytest.raises(RuntimeError, match="zdce: "):
            kernels.convolution(*wrong)
    for wrong in [
        (grad[..., :-1], sources, weight, None, False, sources, none, none),
        (grad, sources, weight, grad[..., :-1], False, sources, none, none),
        (grad, sources, weight, grad.bfloat16(), False, sources, none, none),
        (grad, sources, weight, None, False, sources[:1], none, none),
        (grad, sources, weight, None, False, sources[::-1], none, none),
        (grad, sources, weight, None, False, sources, weight[..., :1], bias),
    ]:
        with pytest.raises(RuntimeError, match="zdce: "):
            kernels.convolution_backward(*wrong)
