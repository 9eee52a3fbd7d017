"""Second derivatives, forward mode and torch.func have the results of the float64 reference."""

import pytest
import torch
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacrev, jvp, vmap

import zdce
from cases import random_case
from zdce import ops, reference

# Each function of one tensor that is differentiated, as the operation and as its reference has it.
SIZE = (16, 18)


def case(dtype=torch.float64, size=SIZE):
    image, maps, _ = random_case(size, batch=1, dtype=dtype)
    return image, maps


def functions(source, image, maps):
    """By name: a scalar of ``maps`` or of the image, and the tensor that it is of."""
    return {
        "apply_curve by maps": (lambda m: source.apply_curve(image, m).pow(3).mean(), maps),
        "apply_curve by image": (lambda x: source.apply_curve(x, maps).pow(3).mean(), image),
        "apply_curve, shared maps": (lambda m: source.apply_curve(image, m, 8).pow(3).mean(), maps[:, :3]),
        "illumination_smoothness": (lambda m: source.illumination_smoothness(m).square(), maps),
        "spatial_consistency": (lambda x: source.spatial_consistency(x, image * image).square(), image),
        "color_constancy": (lambda x: source.color_constancy(x).square(), image),
        "exposure_control": (lambda x: source.exposure_control(x).square(), image),
        "objective": (lambda m: source.zero_reference_objective(image, m).total.square(), maps),
        "objective, shared maps": (
            lambda m: source.zero_reference_objective(image, m, normalization="keras", iterations=8).total,
            maps[:, :3],
        ),
    }


NAMES = list(functions(reference, *case()))


def penalty(function, at):
    """The gradient of a gradient penalty."""
    leaf = at.clone().requires_grad_()
    (first,) = torch.autograd.grad(function(leaf), leaf, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), leaf)
    return second


def close(got, expected, dtype):
    # float32 loses some of its seven digits in sums over all pixels and in eight steps, twice.
    tolerance = {torch.float64: 1e-10, torch.float32: 2e-3}[dtype]
    assert got.dtype == dtype
    assert (got.double() - expected).abs().max() <= tolerance * expected.abs().max()
    assert expected.abs().max() > 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", NAMES)
def test_a_gradient_penalty(name, dtype, backend, device):
    if dtype == torch.float64 and backend not in ("reference", "cpp"):
        pytest.skip("float64 is the CPU's")
    image, maps = case(dtype)
    expected = penalty(*functions(reference, image.double(), maps.double())[name])
    with zdce.backend(backend):
        got = penalty(*functions(ops, image.to(device), maps.to(device))[name])
    close(got.cpu(), expected, dtype)


@pytest.mark.parametrize("name", NAMES)
def test_third_derivatives(name):
    image, maps = case()

    def third(function, at):
        leaf = at.clone().requires_grad_()
        (first,) = torch.autograd.grad(function(leaf), leaf, create_graph=True)
        (second,) = torch.autograd.grad(first.pow(3).sum(), leaf, create_graph=True)
        return torch.autograd.grad(second.square().sum(), leaf)[0]

    close(third(*functions(ops, image, maps)[name]), third(*functions(reference, image, maps)[name]), torch.float64)


@pytest.mark.parametrize("name", NAMES)
def test_forward_mode(name):
    image, maps = case()
    function, at = functions(ops, image, maps)[name]
    expected = jvp(functions(reference, image, maps)[name][0], (at,), (at.cos(),))[1]
    close(jvp(function, (at,), (at.cos(),))[1], expected, torch.float64)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(at, at.cos())
        close(forward_ad.unpack_dual(function(dual)).tangent, expected, torch.float64)
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: jvp(function, (x,), (x.cos(),))[1], backend="eager")
    close(compiled(at), expected, torch.float64)


@pytest.mark.parametrize("name", NAMES)
def test_forward_over_reverse(name):
    image, maps = case()
    function, at = functions(ops, image, maps)[name]
    leaf = at.clone().requires_grad_()
    (first,) = torch.autograd.grad(functions(reference, image, maps)[name][0](leaf), leaf, create_graph=True)
    (expected,) = torch.autograd.grad((first * at.cos()).sum(), leaf)  # the Hessian is symmetric
    close(jvp(grad(function), (at,), (at.cos(),))[1], expected, torch.float64)


@pytest.mark.parametrize("name", NAMES)
def test_torch_func(name):
    image, maps = case()
    function, at = functions(ops, image, maps)[name]
    expected = functions(reference, image, maps)[name][0]
    close(grad(function)(at), grad(expected)(at), torch.float64)
    close(jacrev(function)(at), grad(expected)(at), torch.float64)
    several = torch.stack([at, at / 2])
    close(vmap(grad(function))(several), torch.stack([grad(expected)(one) for one in several]), torch.float64)


@pytest.mark.parametrize("name", NAMES)
def test_transforms_of_the_backward_pass_alone(name):
    image, maps = case()
    (got, at), (expected, _) = (functions(source, image, maps)[name] for source in (ops, reference))
    factors = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)

    def gradients(function):
        leaf = at.clone().requires_grad_()
        result = function(leaf)
        direction = result.detach().cos()

        def gradient(along):
            return torch.autograd.grad(result, leaf, along, retain_graph=True)[0]

        batched = torch.autograd.grad(result, leaf, factors * direction, is_grads_batched=True, retain_graph=True)[0]
        with forward_ad.dual_level():
            dual = forward_ad.unpack_dual(gradient(forward_ad.make_dual(direction, direction.sin()))).tangent
        return jvp(gradient, (direction,), (direction.sin(),))[1], batched, dual

    for one, other in zip(gradients(got), gradients(expected), strict=True):
        close(one, other, torch.float64)


@pytest.mark.parametrize("name", ["iters4", "zero-dce-pp"])
def test_a_networks_jacobian(name):
    torch.manual_seed(0)
    network, image = zdce.DCENet(name), torch.rand(1, 3, 5, 6)
    by_rows = torch.autograd.functional.jacobian(network, image)
    together = torch.autograd.functional.jacobian(network, image, vectorize=True)
    torch.testing.assert_close(together, by_rows, rtol=1e-4, atol=1e-6)


def test_a_jacobian_and_a_hessian_of_the_curve():
    image, maps = case(size=(2, 2))
    for transform in (jacrev, hessian):
        got, expected = (transform(lambda m, s=source: s.apply_curve(image, m))(maps) for source in (ops, reference))
        close(got, expected, torch.float64)


def test_second_derivatives_of_convolutions():
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (
        torch.randn(shape, dtype=torch.float64, generator=generator, requires_grad=True)
        for shape in ((1, 2, 5, 6), (4, 4, 3, 3), (4,))
    )
    for rectified in (False, True):
        assert torch.autograd.gradgradcheck(
            lambda *a, r=rectified: ops.convolution([a[0], a[0] * 2], *a[1:], r), (x, weight, bias)
        )


def test_a_networks_gradient_by_its_weights_and_its_tangent():
    torch.manual_seed(0)
    network = zdce.DCENet("iters4")
    image = torch.rand(1, 3, 16, 16)
    parameters = {name: value.detach() for name, value in network.named_parameters()}

    def loss(values):
        return ops.zero_reference_objective(image, functional_call(network, values, image)).total

    by_func = grad(loss)(parameters)
    loss(dict(network.named_parameters())).backward()
    tangent = sum((by_func[name] * value).sum() for name, value in parameters.items())
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(by_func[name], parameter.grad, rtol=1e-3, atol=1e-3 * parameter.grad.abs().max().item())
    # Of a Python number times a scalar torch makes a float64 tangent.
    torch.testing.assert_close(jvp(loss, (parameters,), (parameters,))[1].float(), tangent, rtol=1e-3, atol=1e-3)


def test_half_precision_keeps_its_types():
    image, maps = case(torch.float32)
    for dtype in (torch.bfloat16, torch.float16):
        second = penalty(lambda m, t=dtype: ops.apply_curve(image.to(t), m).float().pow(3).mean(), maps.to(dtype))
        assert second.dtype == dtype
        assert vmap(ops.apply_curve)(image[None].to(dtype), maps[None].to(dtype)).dtype == dtype


def test_pictures_have_no_gradient_and_say_so():
    picture = torch.rand(8, 8, 3, requires_grad=True)
    maps = torch.zeros(1, 24, 8, 8)
    for call in (
        lambda: ops.enhance_picture(picture, maps),
        lambda: ops.enhance_picture(picture.detach(), maps.requires_grad_()),
        lambda: ops.denoise_picture(picture, picture.detach(), 0.01),
        lambda: ops.denoise_picture(picture.detach(), picture, 0.01),
    ):
        with pytest.raises(ValueError, match="must not require a gradient"):
            call()
    picture, maps = picture.detach(), maps.detach()
    for call in (
        lambda x: ops.enhance_picture(x, maps),
        lambda x: ops.denoise_picture(x, picture, 0.01),
        lambda x: ops.reduce_picture(x, 2),
    ):
        with pytest.raises(ValueError, match="has no derivatives"):
            jvp(call, (picture,), (picture,))
        with pytest.raises(ValueError, match="has no derivatives"):
            grad(lambda x, c=call: c(x).sum())(picture)
