"""The table of variants, the networks, and their files."""

import json

import pytest
import safetensors.torch
import torch
from torch.nn import functional

import zdce
from zdce.errors import InputError
from zdce.models.variants import VARIANTS, Variant

REPORT = ["base", "no-illumination", "no-spatial", "no-color", "no-exposure", "no-concat", "iters4", "filters32", "layers7"]


def test_the_table_has_the_reports_nine_the_published_two_our_own_and_the_neighbour():
    assert list(VARIANTS) == [*REPORT, "zero-dce", "zero-dce-pp", "adaptive", "local", "sci"]
    assert [VARIANTS[name].part for name in REPORT] == ["1", *"2222", *"3333"]


@pytest.mark.parametrize(("name", "parameters"), [("base", 16_648), ("zero-dce", 79_416), ("zero-dce-pp", 10_561)])
def test_parameters_are_the_published_numbers(name, parameters):
    assert VARIANTS[name].parameters == parameters


def test_sci_has_its_three_convolutions_and_the_last_ones_filters_twice():
    assert VARIANTS["sci"].parameters == 3 * (27 * 3 + 3) + 27 * 3


def test_base_costs_what_the_design_says():
    assert VARIANTS["base"].macs == 16_560
    assert VARIANTS["base"].receptive_field == 11


@pytest.mark.parametrize("name", VARIANTS)
def test_each_variant_is_what_its_entry_says(name):
    model = zdce.DCENet(name)
    variant = VARIANTS[name]
    assert sum(p.numel() for p in model.parameters()) == variant.parameters
    image = torch.rand(2, 3, 17, 31)
    logits = model(image)
    assert logits.shape == (2, variant.maps, 17, 31)
    enhanced = model.enhance(image)
    assert enhanced.shape == image.shape
    assert enhanced.min() >= 0
    assert enhanced.max() <= 1


@pytest.mark.parametrize("name", VARIANTS)
def test_receptive_fields(name):
    model, variant = zdce.DCENet(name).double(), VARIANTS[name]
    for parameter in model.parameters():  # all positive: no ReLU cuts a path, no sum cancels
        torch.nn.init.constant_(parameter, 0.01)
    image = torch.rand(1, 3, 41, 41, dtype=torch.float64, requires_grad=True)
    model(image)[0, 0, 20, 20].backward()
    touched = image.grad[0].abs().sum(0).nonzero()
    assert (touched.max(0).values - touched.min(0).values + 1).tolist() == [variant.receptive_field] * 2


def test_base_concatenates_as_the_report_does():
    model = zdce.DCENet("base").double()
    x = torch.rand(1, 3, 9, 11, dtype=torch.float64)
    c = model.convolutions
    c1 = functional.relu(c[0](x))
    c2 = functional.relu(c[1](c1))
    c3 = functional.relu(c[2](c2))
    c4 = functional.relu(c[3](torch.cat([c3, c2], 1)))
    torch.testing.assert_close(model(x), c[4](torch.cat([c4, c1], 1)))


def test_first_weights_are_glorot_uniform_and_biases_zero():
    torch.manual_seed(0)
    for name, parameter in zdce.DCENet("filters32").named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()
        else:
            out, into = parameter.shape[0] * 9, parameter.shape[1] * 9
            bound = (6 / (into + out)) ** 0.5
            assert parameter.abs().max() <= bound
            assert parameter.std().item() == pytest.approx(bound / 3**0.5, rel=0.15)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_file_loads_with_no_other_information(tmp_path, name):
    model = zdce.DCENet(name)
    model.save(tmp_path / "net.safetensors")
    loaded = zdce.load(tmp_path / "net.safetensors")
    assert loaded.variant == VARIANTS[name]
    assert not loaded.training
    image = torch.rand(1, 3, 30, 26)
    assert torch.equal(loaded.enhance(image), model.eval().enhance(image))
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]


def test_subnormal_weights_are_loaded_as_0(tmp_path):
    model = zdce.DCENet("base").eval()
    model.convolutions[1].weight.data[:8] = 1e-40
    model.save(tmp_path / "net.safetensors")
    loaded = zdce.load(tmp_path / "net.safetensors")
    assert not loaded.convolutions[1].weight[:8].any()
    assert torch.equal(loaded.convolutions[1].weight[8:], model.convolutions[1].weight[8:])
    image = torch.rand(1, 3, 16, 16)
    assert torch.equal(loaded.enhance(image), model.enhance(image))  # what 1e-40 adds is less than any rounding


def test_a_variant_of_ones_own(tmp_path):
    own = Variant("own", "tiny", "beyond", sources=((0,), (1, 0)), filters=4, iterations=2)
    model = zdce.DCENet(own)
    model.save(tmp_path / "own.safetensors")
    assert zdce.load(tmp_path / "own.safetensors").variant == own


def test_what_is_no_network_is_refused(tmp_path):
    with pytest.raises(TypeError, match="path_or_name must be a network's name or a path, got int"):
        zdce.load(3)
    with pytest.raises(FileNotFoundError, match="no weights at"):
        zdce.load(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("not a tensor in sight")
    with pytest.raises(ValueError, match="holds no zdce network"):
        zdce.load(tmp_path / "text.safetensors")
    safetensors.torch.save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="holds no zdce network"):
        zdce.load(tmp_path / "other.safetensors")
    description = {**VARIANTS["base"].to_dict(), "colour": "mauve"}
    safetensors.torch.save_file({}, tmp_path / "newer.safetensors", {"zdce.variant": json.dumps(description)})
    with pytest.raises(ValueError, match="a variant must have the fields"):
        zdce.load(tmp_path / "newer.safetensors")
    with pytest.raises(ValueError, match=r"variant must be one of base, .*, got 3$"):
        zdce.DCENet(3)
    with pytest.raises(ValueError, match=r"variant must be one of base, .*, got 'unet'"):
        zdce.DCENet("unet")


def described(**changes):
    """Metadata of a network that differs from ``base``."""
    return {"zdce.variant": json.dumps({**VARIANTS["base"].to_dict(), **changes})}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    path = tmp_path / "net.safetensors"
    model = zdce.DCENet("base")
    with torch.no_grad():
        model.convolutions[2].bias[3] = value
    model.save(path)
    with pytest.raises(InputError, match=r"net\.safetensors holds no zdce network: convolutions\.2\.bias must be finite"):
        zdce.load(path)
    # 1e300 is finite as a float64, and infinite as what the network calculates with.
    state = zdce.DCENet("base").state_dict()
    state["convolutions.0.bias"] = torch.full((16,), 1e300, dtype=torch.float64)
    safetensors.torch.save_file(state, path, described())
    with pytest.raises(InputError, match=r"convolutions\.0\.bias must be finite"):
        zdce.load(path)
    state["convolutions.0.bias"] = torch.zeros(16, dtype=torch.int8)
    safetensors.torch.save_file(state, path, described())
    with pytest.raises(InputError, match=r"convolutions\.0\.bias must be floating-point, got I8"):
        zdce.load(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scale": 0}, "scale must be a whole number from 1 to 1048576, got 0"),
        ({"scale": 2.5}, "scale must be a whole number"),
        ({"scale": True}, "scale must be a whole number"),
        ({"filters": 0}, "filters must be a whole number from 1 to 1024, got 0"),
        ({"filters": 2500}, "filters must be a whole number from 1 to 1024, got 2500"),
        ({"filters": 1000}, r"convolutions\.0\.bias must be of shape \(1000,\) in 'base', got of shape \(16,\)"),
        ({"iterations": 17}, "iterations must be a whole number from 1 to 16, got 17"),
        ({"iterations": "8"}, "iterations must be a whole number from 1 to 16, got '8'"),
        ({"shared_maps": 1}, "shared_maps must be true or false, got 1"),
        ({"separable": None}, "separable must be true or false, got None"),
        ({"separable": True}, "must be absent in 'base', got of shape"),
        ({"name": 3}, "name must be a text, got 3"),
        ({"sources": []}, "sources must be of 1 to 64 convolutions, got 0"),
        ({"sources": [[0]] * 65}, "sources must be of 1 to 64 convolutions, got 65"),
        ({"sources": 5}, "sources must be a list of lists, got 5"),
        ({"sources": [[0], [2]]}, r"sources of convolution 2 must be 1 to 2 numbers from 0 to 1, got \(2,\)"),
        ({"sources": [[0], [-1]]}, "sources of convolution 2 must be"),
        ({"sources": [[0], []]}, "sources of convolution 2 must be"),
        ({"sources": [[0], [1]]}, r"convolutions\.1\.bias must be"),
        ({"weights": {"illumination": 1}}, "weights must be of illumination, spatial, color, exposure"),
        ({"weights": dict.fromkeys(("illumination", "spatial", "color", "exposure"), float("nan"))}, "weights must be finite"),
        ({"brightness": 1}, "brightness must be a number of at least 0 and below 1, got 1"),
        ({"noise": "much"}, "noise must be a number of at least 0 and below 255, got 'much'"),
        ({"noise": float("nan")}, "noise must be a number of at least 0 and below 255, got nan"),
    ],
)
def test_metadata_that_describes_no_network_is_refused_before_anything_is_allocated(tmp_path, monkeypatch, changes, words):
    path = tmp_path / "net.safetensors"
    safetensors.torch.save_file(zdce.DCENet("base").state_dict(), path, described(**changes))
    allocated = []
    empty = torch.empty

    def watched(*arguments, **options):
        made = empty(*arguments, **options)
        allocated.append(0 if made.is_meta else made.numel())
        return made

    monkeypatch.setattr(torch, "empty", watched)
    with pytest.raises(InputError, match=rf"net\.safetensors holds no zdce network: .*{words}"):
        zdce.load(path)
    assert not any(allocated)


@pytest.mark.parametrize("text", ["", "[1, 2]", "null", '"base"', "[" * 100_000])
def test_metadata_that_is_no_description_is_refused(tmp_path, text):
    path = tmp_path / "net.safetensors"
    safetensors.torch.save_file(zdce.DCENet("base").state_dict(), path, {"zdce.variant": text})
    with pytest.raises(InputError, match="holds no zdce network"):
        zdce.load(path)


def test_half_precision_weights_are_taken(tmp_path):
    model = zdce.DCENet("iters4").half()
    model.save(tmp_path / "net.safetensors")
    loaded = zdce.load(tmp_path / "net.safetensors")
    assert {tensor.dtype for tensor in loaded.state_dict().values()} == {torch.float32}
    assert torch.equal(loaded.convolutions[0].weight, model.convolutions[0].weight.float())


@pytest.mark.parametrize("name", ["iters4", "adaptive", "local"])
def test_the_network_compiles_whole(name):
    torch._dynamo.reset()
    model = zdce.load(name)
    image = 0.2 * torch.rand(1, 3, 24, 32)
    compiled = torch.compile(model.enhance, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        # Operations that are taken apart round elsewhere: 5e-7 was seen. In the worst case each of 8 steps rounds three times
        # and doubles the error so far: 3 (2^8 - 1) half-ulps below 1, 2e-5.
        torch.testing.assert_close(compiled(image), model.enhance(image), rtol=0, atol=5e-6)


@pytest.mark.heavy
def test_a_step_of_training_in_inductors_own_code():
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = zdce.DCENet("iters4")
    image = torch.rand(1, 3, 32, 40)

    def loss(image):
        return zdce.ops.zero_reference_objective(image, model(image)).total

    results = []
    with torch._inductor.config.patch({"cpp.vec_isa_ok": None}):  # with vectors, as users get it
        for function in (torch.compile(loss, fullgraph=True), loss):
            value = function(image)
            results.append((value.detach(), *torch.autograd.grad(value, list(model.parameters()))))
    # Sums over 32 x 40 pixels in another order: 1280 roundings of 2^-24, relative to the sum of the terms' sizes, which is more
    # than the sum where they cancel.
    torch.testing.assert_close(*results, rtol=1280 * 2**-24, atol=1e-5)


def test_activations_in_bfloat16(tmp_path):
    torch.manual_seed(0)
    model = zdce.DCENet("base", activations="bfloat16")
    kept = []
    for layer in model.convolutions:
        layer.register_forward_hook(lambda _, __, output: kept.append(output.dtype))
    image = torch.rand(1, 3, 16, 20)
    logits = model(image)
    assert kept == [torch.bfloat16] * 4 + [torch.float32]
    logits.sum().backward()
    assert {parameter.grad.dtype for parameter in model.parameters()} == {torch.float32}
    # Torch's convolutions between the same roundings: a value that lies between two of 8 bits may go to either.
    with zdce.backend("reference"):
        torch.testing.assert_close(model(image), logits, rtol=0, atol=0.02 * logits.abs().max().item())
    # Weights are weights: the file says nothing of how they were trained.
    model.save(tmp_path / "net.safetensors")
    assert zdce.load(tmp_path / "net.safetensors").activations == "float32"


@pytest.mark.parametrize("name", ["base", "local", "zero-dce-pp"])
def test_bad_images_and_scales_are_named(name):
    model, image = zdce.DCENet(name), torch.rand(1, 3, 8, 8)
    for call in (model, model.enhance):
        for shape in ((3, 8, 8), (1, 4, 8, 8)):
            with pytest.raises(ValueError, match=r"^image must be \(B, 3, H, W\), got \(.*\)$"):
                call(torch.rand(shape))
    for call in (model.curve_maps, model.enhance):
        for scale in (0, -1):
            with pytest.raises(ValueError, match=rf"^scale must be 1 to 1048576, got {scale}$"):
                call(image, scale)
        with pytest.raises(TypeError, match=r"^scale must be a whole number, got 2\.5$"):
            call(image, 2.5)


def test_activations_that_there_are_not():
    with pytest.raises(ValueError, match="activations must be one of float32, bfloat16, got 'bf16'"):
        zdce.DCENet("base", "bf16")
    with pytest.raises(
        ValueError, match="activations must be float32 where layers are separable, as in zero-dce-pp, got 'bfloat16'"
    ):
        zdce.DCENet("zero-dce-pp", "bfloat16")
