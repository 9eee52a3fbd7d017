"""The node for ComfyUI, imported as ComfyUI does it, on tensors of the shapes that ComfyUI passes."""

import sys

import numpy as np
import pytest
import torch

import comfyui
import zdce
from zdce.bench.infer import random_network
from zdce.models import weights
from zdce.settings import options


@pytest.fixture
def models(tmp_path):
    (tmp_path / "zdce" / "mine").mkdir(parents=True)
    random_network("iters4").save(tmp_path / "zdce" / "mine" / "net.safetensors")
    (tmp_path / "zdce" / "notes.txt").write_text("no network")
    return tmp_path


@pytest.fixture
def node(models):
    with comfyui.loaded(models) as module:
        assert set(module.NODE_CLASS_MAPPINGS) == set(module.NODE_DISPLAY_NAME_MAPPINGS)
        yield module.NODE_CLASS_MAPPINGS["ZdceEnhance"]


def run(node, image, **values):
    """What ComfyUI does: each input that is not given has its widget's default, or the first choice."""
    inputs = node.INPUT_TYPES()["required"]
    defaults = {
        name: told["default"] if "default" in told else kind[0] for name, (kind, told) in inputs.items() if name != "image"
    }
    (result,) = getattr(node(), node.FUNCTION)(image=image, **{**defaults, "device": "cpu", **values})
    return result


def dark(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 0.3


def test_the_defaults_are_those_of_zdce(node):
    image = dark(2, 40, 56, 3)
    got = run(node, image)
    assert (got.shape, got.dtype) == (image.shape, torch.float32)
    assert np.array_equal(got.numpy(), zdce.enhance(image.numpy()))
    assert got.mean() > image.mean() + 0.05


@pytest.mark.parametrize("batch", [1, 3])
def test_images_of_a_batch_are_enhanced_each_for_itself_and_counted(node, batch):
    image = dark(batch, 20, 31, 3)
    before = comfyui.ProgressBar.done
    got = run(node, image, model="mine/net.safetensors")
    for one, given in zip(got, image, strict=True):
        assert np.array_equal(one.numpy(), zdce.enhance(given.numpy(), random_network("iters4")))
    assert comfyui.ProgressBar.done - before == batch


def test_opacity_is_kept(node):
    image = torch.cat([dark(2, 20, 31, 3), torch.rand(2, 20, 31, 1)], -1)
    got = run(node, image, model="mine/net.safetensors")
    assert torch.equal(got[..., 3], image[..., 3])
    assert np.array_equal(got.numpy(), zdce.enhance(image.numpy(), random_network("iters4")))


def test_other_layouts_types_and_values_are_taken_and_the_input_stays(node):
    image = (dark(1, 3, 20, 31) * 5 - 0.1).permute(0, 2, 3, 1).requires_grad_()
    before = image.detach().clone()
    got = run(node, image, model="mine/net.safetensors")
    assert torch.equal(image, before)
    assert np.array_equal(got.numpy(), zdce.enhance(before.clamp(0, 1).numpy(), random_network("iters4")))
    assert run(node, before.half(), model="mine/net.safetensors").dtype == torch.float16


def test_networks_are_the_shipped_ones_and_files_of_the_users_folder(node):
    choices, _ = node.INPUT_TYPES()["required"]["model"]
    assert choices[0] == weights.DEFAULT
    assert sorted(choices) == sorted([*weights.names(), "mine/net.safetensors"])
    with pytest.raises(FileNotFoundError, match="none"):
        run(node, dark(1, 20, 31, 3), model="none.safetensors")


def test_a_file_written_anew_is_run_anew(node, models):
    first = node.IS_CHANGED("mine/net.safetensors", strength=1.0)
    assert node.IS_CHANGED("mine/net.safetensors", strength=1.0) == first
    random_network("base").save(models / "zdce" / "mine" / "net.safetensors")
    assert node.IS_CHANGED("mine/net.safetensors", strength=1.0) != first
    assert node.IS_CHANGED(weights.DEFAULT) == node.IS_CHANGED(weights.DEFAULT)
    image = dark(1, 20, 31, 3)
    assert np.array_equal(
        run(node, image, model="mine/net.safetensors").numpy(), zdce.enhance(image.numpy(), random_network("base"))
    )


def test_each_setting_has_a_widget_whose_bounds_are_its_own(node):
    inputs = node.INPUT_TYPES()["required"]
    assert list(inputs) == ["image", "model", "device", *options("pixels")]
    for name, option in options("pixels").items():
        kind, told = inputs[name]
        assert told["tooltip"].startswith(option.help)
        assert option.unset in told["tooltip"]
        if kind in ("INT", "FLOAT"):
            least = told["min"] + 1 if option.unset else told["min"]
            for value in (least, told["max"]):
                assert option.checked(name, value) == value
            assert told["min"] <= told["default"] <= told["max"]
            if option.unset:  # the lowest number is none that the setting takes
                with pytest.raises(ValueError, match=name):
                    option.checked(name, told["min"])


def test_a_choice_may_stand_for_none(node):
    module = sys.modules[node.__module__]
    option = options()["subsampling"]
    choices, told = module._input("subsampling", option)
    assert choices == ["default", *option.choices]
    assert told["default"] == "default"
    assert [module._setting(option, choice) for choice in choices] == [None, *option.choices]
