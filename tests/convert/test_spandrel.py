"""zdce's files in spandrel's own loader."""

import pytest
import torch

import zdce
from zdce.bench.infer import random_network
from zdce.models import weights
from zdce.models.variants import VARIANTS


@pytest.fixture(scope="module")
def ours(spandrel):
    from zdce.convert import spandrel as ours

    return ours


@pytest.fixture
def loader(spandrel, ours):
    """spandrel's loader with all of its architectures and zdce's."""
    registry = spandrel.MAIN_REGISTRY.copy()
    ours.register(registry)
    before = len(registry)
    ours.register(registry)  # a second time changes nothing
    assert len(registry) == before
    return spandrel.ModelLoader(registry=registry)


def image(height=60, width=84):
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0)) * 0.2


@pytest.mark.parametrize("name", weights.names())
def test_networks_that_come_with_zdce_are_known_by_their_values(spandrel, loader, name):
    model = loader.load_from_file(weights.file(name))
    assert isinstance(model, spandrel.ImageModelDescriptor)
    assert (model.architecture.id, model.model.variant) == ("zdce", VARIANTS[name])
    assert (model.purpose, model.scale, model.input_channels, model.output_channels) == ("Restoration", 1, 3, 3)
    got = model(image())
    assert torch.equal(got, zdce.Enhancer(zdce.load(name))(image()))
    assert (got - image()).abs().max() > 0.1


@pytest.mark.parametrize(
    ("variant", "known_as"),
    [("base", "base"), ("adaptive", "base"), ("no-color", "base")]
    + [(name, name) for name in ("iters4", "no-concat", "filters32", "layers7", "zero-dce", "zero-dce-pp", "local")],
)
def test_other_networks_are_known_by_their_shapes(loader, tmp_path, variant, known_as):
    network = random_network(variant)
    network.save(tmp_path / "net.safetensors")
    model = loader.load_from_file(tmp_path / "net.safetensors")
    as_known = zdce.DCENet(known_as).eval()
    as_known.load_state_dict(network.state_dict())
    assert model.model.variant == VARIANTS[known_as]
    assert torch.equal(model(image()), zdce.Enhancer(as_known)(image()))


def test_a_network_that_zdce_loaded_keeps_its_description(ours):
    network = random_network("adaptive")
    model = ours.descriptor(network)
    assert model.model.variant == VARIANTS["adaptive"]
    assert torch.equal(model(image()), zdce.Enhancer(network)(image()))


def test_a_picture_in_tiles_is_the_whole_one_where_that_is_promised(spandrel, ours):
    for name, variant in VARIANTS.items():
        local = variant.scale == 1 and not variant.brightness
        expected = spandrel.ModelTiling.SUPPORTED if local else spandrel.ModelTiling.INTERNAL
        assert ours.descriptor(random_network(name)).tiling == expected
    model = ours.descriptor(random_network("base"))
    whole, halo = model(image(60, 84)), 5  # the receptive field's radius
    left = model(image()[..., : 40 + halo])[..., :40]
    right = model(image()[..., 40 - halo :])[..., halo:]
    # Tiles begin elsewhere, so that products are summed in another order.
    torch.testing.assert_close(torch.cat([left, right], -1), whole, rtol=0, atol=1e-5)


def test_what_is_of_no_network_is_refused(spandrel, loader):
    state = random_network("iters4").state_dict()
    with pytest.raises(spandrel.UnsupportedModelError):
        loader.load_from_state_dict({**state, "head.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"expected the parameters of one of base, .*, got 9 others"):
        loader.load_from_state_dict({name: values for name, values in state.items() if name != "convolutions.4.bias"})
    with pytest.raises(ValueError, match=r"convolutions\.4\.bias must be finite"):
        loader.load_from_state_dict({**state, "convolutions.4.bias": torch.full((12,), torch.nan)})
    with pytest.raises(spandrel.UnsupportedDtypeError):
        loader.load_from_state_dict(state).half()


def test_subnormal_weights_become_zero(loader):
    state = random_network("iters4").state_dict()
    state["convolutions.4.bias"] = torch.full((12,), 1e-40)
    assert not loader.load_from_state_dict(state).model.state_dict()["convolutions.4.bias"].any()
