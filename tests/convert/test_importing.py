"""Imported weights have the results of the programs that they come from: the published networks in plain torch, and Keras."""

import argparse
import importlib.util
import io
import json
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner
from torch.nn import functional

import zdce
from zdce import cli
from zdce.convert import importing
from zdce.models.variants import VARIANTS

# What both round differently, in [0, 1].
EXACT = {"rtol": 0, "atol": 1e-5}


def run(*arguments):
    return CliRunner().invoke(cli.main, ["import", *map(str, arguments)], catch_exceptions=False)


def published(state, image, scale=1):
    """The authors' networks as their papers and code have them: ``e_conv1`` to ``e_conv7`` on ``image`` (B, 3, H, W)."""

    def convolution(number, x):
        place = f"e_conv{number}."
        if place + "weight" in state:
            return functional.conv2d(x, state[place + "weight"], state[place + "bias"], padding=1)
        depth, point = place + "depth_conv.", place + "point_conv."
        x = functional.conv2d(x, state[depth + "weight"], state[depth + "bias"], padding=1, groups=x.shape[1])
        return functional.conv2d(x, state[point + "weight"], state[point + "bias"])

    x = image if scale == 1 else functional.interpolate(image, scale_factor=1 / scale, mode="bilinear")
    x1 = functional.relu(convolution(1, x))
    x2 = functional.relu(convolution(2, x1))
    x3 = functional.relu(convolution(3, x2))
    x4 = functional.relu(convolution(4, x3))
    x5 = functional.relu(convolution(5, torch.cat([x3, x4], 1)))
    x6 = functional.relu(convolution(6, torch.cat([x2, x5], 1)))
    curve = torch.tanh(convolution(7, torch.cat([x1, x6], 1)))
    if scale > 1:
        curve = torch.nn.UpsamplingBilinear2d(scale_factor=scale)(curve)
    for r in torch.split(curve, 3, dim=1) if curve.shape[1] == 24 else [curve] * 8:
        image = image + r * (torch.pow(image, 2) - image)
    return image


def oracle(data_folder, name):
    return data_folder / "oracle" / {"zero-dce": "zerodce_Epoch99.pth", "zero-dce-pp": "zerodcepp_Epoch99.pth"}[name]


@pytest.mark.parametrize(("name", "scale"), [("zero-dce", 1), ("zero-dce-pp", 12)])
def test_the_authors_weights_give_the_authors_output(data_folder, tmp_path, name, scale):
    result = run(oracle(data_folder, name), "-o", tmp_path / "net.safetensors")
    assert f"({name}), PyTorch" in result.stdout
    assert "academic use only" in result.stderr
    model = zdce.load(tmp_path / "net.safetensors")
    assert model.variant == VARIANTS[name]
    state = torch.load(oracle(data_folder, name), map_location="cpu", weights_only=True)
    image = torch.rand(2, 3, 60, 84, generator=torch.Generator().manual_seed(0)) ** 2
    with torch.no_grad():
        expected = published(state, image, scale)
        torch.testing.assert_close(model.enhance(image), expected, **EXACT)
        torch.testing.assert_close(zdce.Enhancer(model)(image), expected, **EXACT)
    assert (expected - image).abs().max() > 0.1


def written(tmp_path, state):
    torch.save(state, tmp_path / "net.pth")
    return tmp_path / "net.pth"


def random_state(seed=0):
    """A state dict of the authors' Zero-DCE."""
    torch.manual_seed(seed)
    model = zdce.DCENet("zero-dce")
    return {f"e_conv{n}.{k}": v for n, c in enumerate(model.convolutions, 1) for k, v in c.state_dict().items()}


def prefixed(prefix, state):
    return {prefix + name: value for name, value in state.items()}


# Checkpoints as training programs write them, and the place in them that is named. ``other`` are weights not to be taken.
CHECKPOINTS = {
    "state dict": (lambda state, other: state, ""),
    "float64": (lambda state, other: {name: value.double() for name, value in state.items()}, ""),
    "DataParallel": (lambda state, other: prefixed("module.", state), "module"),
    "torch.compile": (lambda state, other: prefixed("_orig_mod.", state), "_orig_mod"),
    "state_dict": (lambda state, other: {"epoch": 7, "state_dict": state}, "state_dict"),
    "DataParallel in state_dict": (lambda state, other: {"state_dict": prefixed("module.", state)}, "state_dict.module"),
    "model": (
        lambda state, other: {
            "model": state,
            "optimizer": torch.optim.Adam([torch.zeros(1, requires_grad=True)]).state_dict(),
            "args": argparse.Namespace(lr=1e-4, sizes=[256, 256]),
            "psnr": np.float64(17.4),
            "loss": np.float32(0.5),
            "step": np.int64(9),
        },
        "model",
    ),
    "BasicSR": (lambda state, other: {"params": state}, "params"),
    "BasicSR with EMA": (lambda state, other: {"params": other, "params_ema": state}, "params_ema"),
    "Lightning": (
        lambda state, other: {
            "pytorch-lightning_version": "2.5.0",
            "global_step": 100,
            "hyper_parameters": {"lr": 1e-4},
            "state_dict": prefixed("model.", state) | {"loss.features.0.weight": torch.zeros(2)},
            "optimizer_states": [],
        },
        "state_dict.model",
    ),
    "Lightning, net": (lambda state, other: {"state_dict": prefixed("net.", state)}, "state_dict.net"),
    "Lightning with EMA": (
        lambda state, other: {"state_dict": prefixed("model.", other) | prefixed("ema_model.", state)},
        "state_dict.ema_model",
    ),
    "timm's EMA": (lambda state, other: {"state_dict": other, "state_dict_ema": state}, "state_dict_ema"),
    "SWA": (lambda state, other: prefixed("module.", state) | {"n_averaged": torch.tensor(3)}, "module"),
    "generator": (lambda state, other: {"states": {"net_g": other, "net_g_ema": state}}, "states.net_g_ema"),
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_checkpoints_as_training_programs_write_them(tmp_path, kind):
    wrapped, place = CHECKPOINTS[kind]
    state = random_state()
    check_imported(written(tmp_path, wrapped(state, random_state(seed=1))), state, place)


def test_subnormal_weights_become_zero(tmp_path):
    state = random_state()
    state["e_conv3.weight"][0] = 1e-40
    torch.save(state, tmp_path / "net.pth")
    weight = importing.read(tmp_path / "net.pth").model.convolutions[2].weight
    assert (weight[0] == 0).all()
    assert torch.equal(weight[1:], state["e_conv3.weight"][1:])


@pytest.mark.parametrize("kind", ["state dict", "DataParallel", "SWA"])
def test_safetensors_files_of_other_programs(tmp_path, kind):
    wrapped, place = CHECKPOINTS[kind]
    state = random_state()
    safetensors.torch.save_file(wrapped(state, None), tmp_path / "net.safetensors")
    check_imported(tmp_path / "net.safetensors", state, place)


def check_imported(path, state, place):
    found = importing.read(path)
    assert found.origin == f"the paper's network (zero-dce), PyTorch{', ' if place else ''}{place}"
    image = torch.rand(1, 3, 20, 24)
    with torch.no_grad():
        torch.testing.assert_close(found.model.enhance(image), published(state, image), **EXACT)


def sci_state(seed=0, channels=3):
    """A state dict of SCI's authors: the illumination estimation, whose block is there twice, and the calibration."""
    generator = torch.Generator().manual_seed(seed)

    def numbers(*shape):
        return torch.rand(shape, generator=generator) - 0.5

    def convolution(place, inputs, outputs):
        return {f"{place}.weight": numbers(outputs, inputs, 3, 3), f"{place}.bias": numbers(outputs)}

    norm = {"weight": numbers(channels) + 1, "bias": numbers(channels), "running_mean": numbers(channels)}
    norm |= {"running_var": numbers(channels) + 0.6, "num_batches_tracked": torch.tensor(40)}
    block = convolution("0", channels, channels) | prefixed("1.", norm)
    estimation = convolution("in_conv.0", 3, channels) | convolution("out_conv.0", channels, 3)
    estimation["out_conv.0.bias"] -= 2  # an illumination well below 1
    calibration = convolution("in_conv.0", 3, 16) | convolution("convs.0", 16, 16) | convolution("out_conv.0", 16, 3)
    return prefixed("enhance.", estimation | prefixed("conv.", block) | prefixed("blocks.0.", block)) | prefixed(
        "calibrate.", calibration
    )


def illuminated(state, image):
    """SCI as its paper and code have it: the image over a sigmoid of three convolutions that is added to it."""

    def convolution(place, x):
        return functional.conv2d(x, state[f"enhance.{place}.weight"], state[f"enhance.{place}.bias"], padding=1)

    features = functional.relu(convolution("in_conv.0", image))
    norm = [state[f"enhance.conv.1.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
    features = features + functional.relu(functional.batch_norm(convolution("conv.0", features), *norm))
    illumination = torch.sigmoid(convolution("out_conv.0", features)) + image
    return (image / illumination.clamp(1e-4, 1)).clamp(0, 1)


SCI_CHECKPOINTS = {
    "state dict": (lambda state, other: state, "enhance"),
    "DataParallel": (lambda state, other: prefixed("module.", state), "module.enhance"),
    "Lightning with EMA": (
        lambda state, other: {"state_dict": prefixed("model.", other) | prefixed("ema_model.", state)},
        "state_dict.ema_model.enhance",
    ),
}


@pytest.mark.parametrize("kind", SCI_CHECKPOINTS)
def test_sci_gives_what_its_authors_code_gives(tmp_path, kind):
    wrapped, place = SCI_CHECKPOINTS[kind]
    state = sci_state()
    result = run(written(tmp_path, wrapped(state, sci_state(1))), "-o", tmp_path / "net.safetensors")
    assert f"SCI (sci), PyTorch, {place}\n" in result.stdout
    assert "under the MIT licence" in result.stderr
    assert "academic use only" not in result.stderr
    model = zdce.load(tmp_path / "net.safetensors")
    assert model.variant == VARIANTS["sci"]
    image = torch.rand(2, 3, 31, 44, generator=torch.Generator().manual_seed(0)) ** 2
    with torch.no_grad():
        expected = illuminated(state, image)
        torch.testing.assert_close(model.enhance(image), expected, **EXACT)
        torch.testing.assert_close(zdce.Enhancer(model)(image), expected, **EXACT)
    assert (expected - image).abs().max() > 0.1


def test_other_sizes_of_sci_are_refused(tmp_path):
    state = sci_state()
    twice = {name.replace("blocks.0", "blocks.1"): value for name, value in state.items() if "blocks.0" in name}
    for wrong, message in (
        (sci_state(channels=16), "expected SCI with 3 channels, in_conv.0.weight (3, 3, 3, 3), got (16, 3, 3, 3)"),
        (state | twice, "expected SCI with 1 residual block, got 2"),
        (state | {"enhance.out_conv.0.bias": torch.full((3,), torch.nan)}, "expected finite weights"),
        (state | {"enhance.conv.1.running_var": torch.full((3,), -1.0)}, "expected finite weights"),
        (state | {"enhance.conv.0.bias": torch.tensor(1.0)}, "expected SCI with 3 channels, conv.0.bias (3,), got ()"),
    ):
        result = run(written(tmp_path, wrong), "-o", tmp_path / "net.safetensors")
        assert (result.exit_code, message in result.stderr) == (1, True), result.stderr
    assert not list(tmp_path.glob("*.safetensors"))


def test_one_network_of_several_is_not_guessed(tmp_path):
    state = prefixed("student.", random_state()) | prefixed("teacher.", random_state(1))
    with pytest.raises(ValueError, match=r"net\.pth: expected one network, got those of 'student\.' and 'teacher\.'"):
        importing.read(written(tmp_path, state))


@pytest.mark.parametrize("prefix", ["", "model."])
def test_a_network_with_more_layers_is_refused(tmp_path, prefix):
    with pytest.raises(ValueError, match=r"expected the parameters e_conv1 to e_conv7 .*, got 'attention\.weight'"):
        importing.read(written(tmp_path, prefixed(prefix, changed(**{"attention.weight": torch.zeros(2)}))))


def test_mappings_within_each_other_end(tmp_path):
    inner = {}
    inner["inner"] = inner
    with pytest.raises(ValueError, match="got 0 tensors"):
        importing.read(written(tmp_path, inner))


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("ran-code",)


@pytest.mark.parametrize(
    "checkpoint",
    [
        {"e_conv1.weight": Hostile()},
        {"state_dict": random_state(), "args": Hostile()},
        {"model": random_state(), "args": argparse.Namespace(name=Hostile())},
        {"params": random_state(), "psnr": np.array([Hostile()], object)},
    ],
    ids=["tensor", "beside", "options", "array"],
)
def test_no_code_in_a_file_is_run(tmp_path, monkeypatch, checkpoint):
    monkeypatch.chdir(tmp_path)
    result = run(written(tmp_path, checkpoint), "-o", "net.safetensors")
    assert result.exit_code == 1
    assert "expected a PyTorch state dict that loads without running code" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["net.pth"]


def changed(**changes):
    return {**random_state(), **changes}


def test_broken_files_are_one_line_that_names_them(tmp_path):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("model.weights.h5", b"\x89HDF\r\n\x1a\n" + np.random.default_rng(0).bytes(2000))
    legacy = io.BytesIO()
    torch.save(random_state(), legacy, _use_new_zipfile_serialization=False)
    written(tmp_path, random_state())
    wholes = {"net.keras": archive.getvalue(), "legacy.pth": legacy.getvalue(), "net.pth": (tmp_path / "net.pth").read_bytes()}
    generator = np.random.default_rng(0)
    for name, whole in wholes.items():
        for broken in (generator.bytes(150) + whole[150:], whole[:-150]):
            (tmp_path / name).write_bytes(broken)
            with pytest.raises(ValueError, match=rf"{name}: (expected|the archive is broken|the HDF5 file is broken|.*h5py)"):
                importing.read(tmp_path / name)
    # Of an archive whose directory is whole the content fails.
    broken = bytearray(archive.getvalue())
    broken[60:300] = bytes(240)
    (tmp_path / "net.keras").write_bytes(broken)
    result = run(tmp_path / "net.keras", "-o", tmp_path / "net.safetensors")
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert "net.keras: the archive is broken: " in result.stderr


def test_what_unpacks_to_more_than_any_network_is_refused_before(tmp_path):
    for inside in ("model.weights.h5", "net/data/0"):
        for packing, size, words in (
            (zipfile.ZIP_DEFLATED, 66 << 20, "expected at most 67108864 bytes, got 69206016 unpacked"),
            (zipfile.ZIP_LZMA, 1 << 20, "expected files that are stored or deflated"),
        ):
            with zipfile.ZipFile(tmp_path / "net.pth", "w", packing) as archive:
                archive.writestr(inside, b"\x89HDF\r\n\x1a\n".ljust(size, b"\0"))
            with pytest.raises(ValueError, match=rf"net\.pth: the archive is broken: {words}"):
                importing.read(tmp_path / "net.pth")


def test_keras_convolutions_of_more_than_any_network_are_refused_before(tmp_path):
    h5py = pytest.importorskip("h5py", reason="the extra `keras` is not installed")
    with h5py.File(tmp_path / "net.h5", "w") as file:
        file.create_dataset("conv2d/0", (3, 3, 2000, 1000), "f4", chunks=(3, 3, 10, 1000), compression="gzip")
        file.create_dataset("conv2d/1", (1000,), "f4")
    with pytest.raises(ValueError, match=r"net\.h5: .*expected convolutions of at most 67108864 bytes, got 72004000"):
        importing.read(tmp_path / "net.h5")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            {"conv1.weight": torch.zeros(1)},
            "Zero-DCE or Zero-DCE++, or those of SCI's illumination estimation, got 'conv1.weight'",
        ),
        ({"e_conv1.weight": torch.zeros(1)}, "got 1 tensors"),
        ([1, 2], "got 0 tensors"),
        (
            changed(**{"e_conv4.weight": torch.zeros(16, 32, 3, 3)}),
            "expected the convolutions of one of zero-dce, zero-dce-pp, got",
        ),
        (
            changed(**{"e_conv4.weight": torch.zeros(32, 32, 3, 3).to_sparse()}),
            "expected dense floating-point tensors, got 'e_conv4.weight' (torch.sparse_coo, torch.float32)",
        ),
        (
            changed(**{"e_conv4.bias": torch.zeros(32, dtype=torch.int32)}),
            "expected dense floating-point tensors, got 'e_conv4.bias' (torch.strided, torch.int32)",
        ),
        (
            changed(**{"e_conv4.bias": torch.zeros(32, dtype=torch.complex64)}),
            "expected dense floating-point tensors, got 'e_conv4.bias' (torch.strided, torch.complex64)",
        ),
        (
            changed(**{"e_conv4.bias": torch.zeros(32, device="meta")}),
            "expected dense floating-point tensors, got 'e_conv4.bias' (meta)",
        ),
        (
            changed(**{"e_conv4.bias": torch.full((32,), torch.nan)}),
            "expected finite weights, got others in convolutions.3.bias",
        ),
    ],
)
def test_other_checkpoints_are_refused(tmp_path, state, message):
    result = run(written(tmp_path, state), "-o", tmp_path / "net.safetensors")
    assert result.exit_code == 1
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_mistakes_are_one_line(tmp_path):
    zdce.DCENet("iters4").save(tmp_path / "own.safetensors")
    (tmp_path / "broken.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(50))
    for name, message in (
        ("none.pth", "no such file"),
        ("own.safetensors", "own.safetensors: expected "),
        ("broken.h5", "broken.h5: the HDF5 file is broken" if importlib.util.find_spec("h5py") else "zdce[keras]"),
    ):
        result = run(tmp_path / name, "-o", tmp_path / "net.safetensors")
        assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
        assert message in result.stderr
    assert run(tmp_path / "own.safetensors", "-o", tmp_path / "net.onnx").exit_code == 2
    assert not (tmp_path / "net.safetensors").exists()


def test_keras_files_without_h5py_name_the_extra(tmp_path, monkeypatch):
    (tmp_path / "net.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    monkeypatch.setitem(sys.modules, "h5py", None)
    result = run(tmp_path / "net.h5", "-o", tmp_path / "o.safetensors")
    assert "h5py is needed for Keras files: pip install 'zdce[keras]'" in result.stderr


# The networks of the Keras example and of the report, which is made with it: filters, layers, outputs.
KERAS = {"zero-dce": (32, 7, 24), "base": (16, 5, 24), "iters4": (16, 5, 12), "layers7": (16, 7, 24)}
FORMS = ("net.keras", "net.weights.h5", "net.h5", "wrapped.keras", "wrapped-layers.h5")

# Keras chooses its backend at import and keeps it: a process of its own.
WITH_KERAS = """
import json
import os
import sys

import h5py
import keras
import numpy as np
from keras import layers


def convolution(x, channels, activation="relu"):
    bias = keras.initializers.RandomNormal(stddev=0.1)
    return layers.Conv2D(channels, (3, 3), activation=activation, padding="same", bias_initializer=bias)(x)


def network(filters, depth, outputs):
    x = image = keras.Input((None, None, 3))
    made = [x := convolution(x, filters) for _ in range((depth + 1) // 2)]
    x = made.pop()
    while len(made) > 1:
        x = convolution(layers.Concatenate(axis=-1)([x, made.pop()]), filters)
    curve = convolution(layers.Concatenate(axis=-1)([x, made.pop()]), outputs, "tanh")
    return keras.Model(image, curve)


class ZeroDCE(keras.Model):
    def call(self, data):
        return self.dce_model(data)


keras.utils.set_random_seed(0)
dark = np.random.default_rng(0).random((2, 20, 27, 3), np.float32) ** 2
for name, (filters, depth, outputs) in json.loads(sys.argv[1]).items():
    os.mkdir(name)
    os.chdir(name)
    model = network(filters, depth, outputs)
    model.compile(optimizer="adam")
    model.optimizer.build(model.trainable_variables)  # its moments have the shapes of weights
    enhanced = dark
    for r in np.split(keras.ops.convert_to_numpy(model(dark)), outputs // 3, axis=3):
        enhanced = enhanced + r * (np.square(enhanced) - enhanced)
    np.savez("results.npz", dark=dark, enhanced=enhanced)
    model.save("net.keras")
    model.save_weights("net.weights.h5")
    model.save("net.h5")
    whole = ZeroDCE()
    whole.dce_model = model
    whole.save("wrapped.keras")
    # As Keras 2 wrote a model within a model: one group, all names in its attributes as bytes.
    with h5py.File("wrapped-layers.h5", "w") as file:
        file.attrs["layer_names"] = [b"functional"]
        group = file.create_group("functional")
        names = [f"layer-{chr(122 - n)}/{kind}:0" for n in range(depth) for kind in ("kernel", "bias")]
        group.attrs["weight_names"] = [written.encode() for written in names]
        for written, value in zip(names, model.get_weights(), strict=True):
            group[written] = value
    os.chdir("..")
"""


@pytest.fixture(scope="module")
def by_keras(tmp_path_factory):
    """A folder with files and results of each Keras network."""
    for package in ("keras", "h5py"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    folder = tmp_path_factory.mktemp("keras")
    environment = {**os.environ, "KERAS_BACKEND": "torch", "KERAS_HOME": str(folder)}
    command = [sys.executable, "-P", "-c", WITH_KERAS, json.dumps(KERAS)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", KERAS)
def test_the_keras_examples_weights_give_its_output(by_keras, tmp_path, name, form):
    with np.load(by_keras / name / "results.npz") as results:
        dark, expected = (torch.from_numpy(results[key]).permute(0, 3, 1, 2) for key in ("dark", "enhanced"))
    result = run(by_keras / name / form, "-o", tmp_path / "net.safetensors")
    assert f"the Keras example's network ({name})" in result.stdout
    assert "academic use only" in result.stderr
    model = zdce.load(tmp_path / "net.safetensors")
    assert model.variant == VARIANTS[name]
    with torch.no_grad():
        torch.testing.assert_close(model.enhance(dark), expected, **EXACT)


def test_the_keras_example_concatenates_the_deeper_layer_first(tmp_path):
    h5py = pytest.importorskip("h5py")
    generator = np.random.default_rng(0)
    shapes = [(3, 32), (32, 32), (32, 32), (32, 32), (64, 32), (64, 32), (64, 24)]
    weights = [(generator.normal(0, 0.1, (3, 3, *shape)), generator.normal(0, 0.1, shape[1])) for shape in shapes]
    with h5py.File(tmp_path / "net.weights.h5", "w") as file:
        for n, layer in enumerate(weights):
            for i, values in enumerate(layer):
                file[f"layers/conv2d{f'_{n + 3}' if n else ''}/vars/{i}"] = values.astype(
                    np.float32
                )  # to conv2d_9 and conv2d_10

    def convolution(n, x):
        kernel, bias = (torch.from_numpy(values).float() for values in weights[n - 1])
        return functional.conv2d(x, kernel.permute(3, 2, 0, 1), bias, padding=1)

    x = image = torch.rand(1, 3, 18, 25, generator=torch.Generator().manual_seed(0))
    c1, c2, c3, c4 = (x := functional.relu(convolution(n, x)) for n in (1, 2, 3, 4))
    c5 = functional.relu(convolution(5, torch.cat([c4, c3], 1)))
    c6 = functional.relu(convolution(6, torch.cat([c5, c2], 1)))
    curve = torch.tanh(convolution(7, torch.cat([c6, c1], 1)))
    with torch.no_grad():
        got = importing.read(tmp_path / "net.weights.h5").model.curve_maps(image)
    torch.testing.assert_close(got, curve, **EXACT)


def test_another_keras_network_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["layers/conv2d/vars/0"], file["layers/conv2d/vars/1"] = np.zeros((3, 3, 3, 8)), np.zeros(8)
    with zipfile.ZipFile(tmp_path / "net.keras", "w") as archive:
        archive.writestr("model.weights.h5", content.getvalue())
    result = run(tmp_path / "net.keras", "-o", tmp_path / "net.safetensors")
    assert result.exit_code == 1
    assert "expected the convolutions of one of base," in result.stderr
    assert "got [(8, 3, 3, 3)]" in result.stderr
