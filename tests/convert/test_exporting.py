"""Exported files, run by other programs, have the results of the enhancer; a wrong file is never written."""

import importlib
import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import zdce
from zdce import cli
from zdce.bench.infer import random_network
from zdce.convert import darktable, exporting
from zdce.models.variants import VARIANTS
from zdce.ops import guided_strength, scene_strength
from zdce.settings import MAX_SCALE


def run(model, *arguments):
    return CliRunner().invoke(cli.main, ["export", "-m", str(model), *map(str, arguments)], catch_exceptions=False)


def network(name):
    """A network with random weights. Networks with a strength for each scene have weights that brighten, so that there is one,
    and two steps, because the exporter repeats all steps of the curve for each strength that it tries."""
    if not VARIANTS[name].brightness:
        return random_network(name)
    torch.manual_seed(0)
    model = zdce.DCENet(replace(VARIANTS[name], iterations=2)).eval()
    if name == "local":  # the same map at each step, of its own weights
        model.load_state_dict(zdce.load(name).state_dict())
    else:
        torch.nn.init.constant_(model.convolutions[-1].bias, -0.3)
    return model


@pytest.fixture(scope="module", autouse=True)
def exported_once():
    """The exporter, which takes seconds, runs once for all files that hold the same ONNX program: base's as it is."""
    to_onnx, done = exporting.to_onnx, {}

    def once(model, form):
        if model.variant.name != "base":
            return to_onnx(model, form)
        weights = tuple(value.numpy().tobytes() for value in model.state_dict().values())
        key = (form, model.variant, weights)
        if key not in done:
            done[key] = to_onnx(model, form)
        return done[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "to_onnx", once)
        yield


@pytest.fixture
def few_halvings(monkeypatch):
    """A scene's strength is sought in 3 halvings, which the exporter writes out one after the other."""
    monkeypatch.setattr(scene_strength, "HALVINGS", 3)
    monkeypatch.setattr(guided_strength, "GUIDED_HALVINGS", 3)
    with zdce.backend("reference"):  # which reads the number here
        yield


@pytest.fixture
def saved(tmp_path):
    """A function that gives the weights file of a network."""

    def make(name):
        network(name).save(tmp_path / f"{name}.safetensors")
        return tmp_path / f"{name}.safetensors"

    return make


def pictures(batch, height, width):
    """Noise, dark enough that every variant changes it."""
    generator = torch.Generator().manual_seed(height)
    return torch.randint(0, 80, (batch, height, width, 3), dtype=torch.uint8, generator=generator)


def check(program, name, form, sizes):
    """``program`` maps pictures or images as an array to the same, enhanced."""
    model = network(name)
    enhancer = zdce.Enhancer(model, scale=form.scale, noise=model.variant.noise)  # which the file can't measure
    for size in sizes:
        given = pictures(*size)
        images = (given.permute(0, 3, 1, 2) / 255).contiguous()
        rounded = form.uint8 and model.variant.noise
        expected = np.stack([enhancer(picture.numpy()) for picture in given]) if rounded else enhancer(images).numpy()
        result = program((given if form.uint8 else images).numpy())
        assert result.dtype == (np.uint8 if form.uint8 else np.float32)
        assert exporting.error(result, expected) <= exporting.TOLERANCES[form.precision], size
        assert (
            np.abs(result.astype(float) - given.numpy()).max() > 20
            if form.uint8
            else np.abs(result - images.numpy()).max() > 0.1
        )


def options(form):
    scale = () if form.scale is None else ("--scale", form.scale)
    return ("--precision", form.precision, *scale, *(("--uint8",) if form.uint8 else ()))


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("base", exporting.ExportOptions()),
        ("base", exporting.ExportOptions("fp16", scale=4, uint8=True)),
        ("zero-dce-pp", exporting.ExportOptions()),  # its resampling as published
        # The search for the scene's strength makes files of thousands of operators.
        pytest.param("adaptive", exporting.ExportOptions(scale=4, uint8=True), marks=pytest.mark.heavy),
        pytest.param("local", exporting.ExportOptions(), marks=pytest.mark.heavy),
        ("sci", exporting.ExportOptions()),
    ],
)
def test_onnx_files_take_any_batch_and_size(saved, tmp_path, few_halvings, name, form):
    onnx, onnxruntime = (pytest.importorskip(package) for package in ("onnx", "onnxruntime"))
    pytest.importorskip("onnxscript")
    target = tmp_path / "net.onnx"
    result = run(saved(name), "-o", target, *options(form))
    assert result.stdout.split() == [str(target)]
    assert "checked at 3 sizes" in result.stderr

    file = onnx.load(target)
    assert {(node.domain, opset.domain) for node in file.graph.node for opset in file.opset_import} == {("", "")}
    assert json.loads({entry.key: entry.value for entry in file.metadata_props}["zdce.variant"])["name"] == name
    kinds = {tensor.data_type for tensor in file.graph.initializer if len(tensor.dims) == 4}
    assert kinds == {onnx.TensorProto.FLOAT16 if form.precision == "fp16" else onnx.TensorProto.FLOAT}

    session_options = onnxruntime.SessionOptions()
    session_options.log_severity_level = 3
    session = onnxruntime.InferenceSession(target, session_options, providers=["CPUExecutionProvider"])
    (taken,), (given,) = session.get_inputs(), session.get_outputs()
    shape = ["batch", "height", "width", 3] if form.uint8 else ["batch", 3, "height", "width"]
    assert (taken.name, taken.shape, given.name, given.shape) == ("image", shape, "enhanced", shape)
    sizes = [(1, 60, 84), (3, 17, 31), (1, 1, 40)]
    check(lambda image: session.run(None, {"image": image})[0], name, form, sizes)


class Order(torch.nn.Module):
    def forward(self, values):
        return values.sort(dim=1, stable=True).indices


@pytest.mark.filterwarnings("ignore")  # the exporter's own
def test_equal_values_keep_their_order_in_onnx():
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    values = torch.tensor([3.0, 1.0, 2.0]).repeat(2, 1000)
    program = torch.onnx.export(
        Order().eval(), (values,), dynamo=True, verbose=False, custom_translation_table=exporting.TRANSLATIONS
    )
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (order,) = session.run(None, {session.get_inputs()[0].name: values.numpy()})
    np.testing.assert_array_equal(order, [[*range(1, 3000, 3), *range(2, 3000, 3), *range(0, 3000, 3)]] * 2)


def test_pictures_that_are_denoised_are_the_enhancers_within_a_level(few_halvings):
    """What is exported rounds a photograph before it smooths the noise, as the enhancer does, and after."""
    model = zdce.load("local")
    picture = np.array(Image.open(Path(__file__).parents[2] / "docs" / "dark.jpg"))[:400, :480]
    with torch.no_grad():
        result = exporting._ExportedNetwork(model, exporting.ExportOptions(uint8=True))(torch.from_numpy(picture)[None])
    off = np.abs(result[0].numpy().astype(int) - zdce.Enhancer(model, noise=model.variant.noise)(picture))
    assert off.max() <= 1
    # Where float32 falls to either side of a half; without the rounding before, 12 % of the values differ, by up to 3.
    assert (off > 0).mean() < 0.002


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("iters4", exporting.ExportOptions(scale=3)),
        pytest.param("adaptive", exporting.ExportOptions(scale=4), marks=pytest.mark.heavy),
        pytest.param("local", exporting.ExportOptions(), marks=pytest.mark.heavy),
    ],
)
def test_programs_need_torch_alone(saved, tmp_path, few_halvings, name, form):
    target = tmp_path / "net.pt2"
    assert run(saved(name), "-o", target, *options(form)).exit_code == 0
    described = {"zdce.variant": ""}
    program = torch.export.load(target, extra_files=described)
    assert json.loads(described["zdce.variant"])["name"] == name
    assert all(
        node.target.namespace == "aten" for node in program.graph.nodes if isinstance(node.target, torch._ops.OpOverload)
    )
    module = program.module()
    # Multiples of the scale and others.
    sizes = [(1, 60, 84), (3, 17, 31), (1, 14, 40)]
    check(lambda image: module(torch.from_numpy(image)).numpy(), name, form, sizes)


@pytest.mark.parametrize(("name", "precision"), [("base", "fp32"), ("zero-dce", "fp16"), ("no-concat", "fp32")])
def test_ncnn_runs_what_is_written_for_it_at_any_size(saved, tmp_path, name, precision):
    ncnn, _, _ = (pytest.importorskip(package) for package in ("ncnn", "pnnx", "onnxscript"))
    form = exporting.ExportOptions(precision)
    result = run(saved(name), "-o", tmp_path / "out.param", *options(form))
    assert result.exit_code == 0, result.stderr
    assert {path.suffix for path in tmp_path.glob("out.*")} == {".param", ".bin"}
    net = ncnn.Net()
    assert net.load_param(str(tmp_path / "out.param")) == 0
    assert net.load_model(str(tmp_path / "out.bin")) == 0

    def program(images):
        results = []
        for image in images:
            extractor = net.create_extractor()
            extractor.input("in0", ncnn.Mat(image).clone())
            results.append(np.array(extractor.extract("out0")[1]))
        return np.stack(results)

    check(program, name, form, [(1, 60, 84), (2, 17, 31), (1, 9, 200)])


def test_litert_runs_what_is_written_for_it_at_its_size(saved, tmp_path):
    pytest.importorskip("litert_torch")
    interpreters = pytest.importorskip("ai_edge_litert.interpreter")
    for name, form in (
        ("base", exporting.ExportOptions(size=(33, 70))),
        ("zero-dce-pp", exporting.ExportOptions(size=(60, 84))),
    ):
        height, width = form.size
        result = run(saved(name), "-o", tmp_path / "net.tflite", "--size", f"{height}x{width}")
        assert (result.exit_code, result.stdout.split()) == (0, [str(tmp_path / "net.tflite")]), result.stderr
        assert "checked with 3 images" in result.stderr
        interpreter = interpreters.Interpreter(str(tmp_path / "net.tflite"))
        interpreter.allocate_tensors()
        (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
        assert taken["shape"].tolist() == given["shape"].tolist() == [1, 3, height, width]

        def program(image):
            interpreter.set_tensor(taken["index"], image)  # noqa: B023 (called in this turn)
            interpreter.invoke()  # noqa: B023
            return interpreter.get_tensor(given["index"])  # noqa: B023

        check(program, name, form, [(1, height, width)])
    for name, more in (("local", ()), ("base", ("--uint8",)), ("base", ("--precision", "fp16"))):
        result = run(saved(name), "-o", tmp_path / "no.tflite", "--size", "60x84", *more)
        assert (result.exit_code, ".tflite files are" in result.stderr) == (1, True), result.stderr
    assert not (tmp_path / "no.tflite").exists()


def test_a_size_is_for_files_of_one_size(saved, tmp_path):
    for suffix, more, message, code in (
        (".tflite", (), "files for LiteRT take images of one size: expected size, a height and a width", 1),
        (".pt2", ("--size", "60x84"), ".pt2 files take any size; leave size out", 1),
        (".tflite", ("--size", "0x84"), "size must be two sides from 1 to 16384, got 0x84", 1),
        (".tflite", ("--size", "large"), "expected a side or HEIGHTxWIDTH in pixels, got 'large'", 2),
    ):
        result = run(saved("iters4"), "-o", tmp_path / f"net{suffix}", *more)
        assert (result.exit_code, message in result.stderr) == (code, True), result.stderr
    assert not list(tmp_path.glob("net*"))


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A package for darktable, of base."""
    for name in ("onnxruntime", "onnxscript"):
        pytest.importorskip(name)
    folder = tmp_path_factory.mktemp("darktable")
    network("base").save(folder / "base.safetensors")
    assert run(folder / "base.safetensors", "-o", folder / "zdce-night.dtmodel").exit_code == 0
    return folder / "zdce-night.dtmodel"


def test_a_package_for_darktable_is_what_its_loader_and_its_sdk_take(package, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    with zipfile.ZipFile(package) as file:
        assert file.namelist() == ["zdce-night/config.json", "zdce-night/model.onnx"]
        file.extractall(tmp_path / "models")
    described = json.loads((tmp_path / "models" / "zdce-night" / "config.json").read_text())
    assert (described["id"], described["task"], described["num_inputs"]) == ("zdce-night", "denoise", 1)
    model = tmp_path / "models" / "zdce-night" / "model.onnx"
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    ((taken,), (given,)) = session.get_inputs(), session.get_outputs()
    assert (taken.shape, given.shape, taken.type) == ([1, 3, "height", "width"], [1, 3, "height", "width"], "tensor(float)")
    check(
        lambda image: session.run(None, {taken.name: image})[0], "base", exporting.ExportOptions(), [(1, 60, 84), (1, 17, 31)]
    )
    if importlib.util.find_spec("dt_ai_sdk"):
        validate = importlib.import_module("dt_ai_sdk.validate")
        assert validate.validate_config_json(model.parent / "config.json")
        assert validate.validate_onnx(model)


def test_tiles_of_darktable_meet_without_a_seam(saved, tmp_path):
    """Its tiles overlap by 64 pixels, which are cut off."""
    onnxruntime, _ = (pytest.importorskip(package) for package in ("onnxruntime", "onnxscript"))
    target = tmp_path / "layers7.dtmodel"
    assert run(saved("layers7"), "-o", target).exit_code == 0
    session = onnxruntime.InferenceSession(darktable.model_in(target.read_bytes()), providers=["CPUExecutionProvider"])
    image = (pictures(1, 200, 300).permute(0, 3, 1, 2) / 255).numpy()
    (whole,) = session.run(None, {"image": image})
    (tile,) = session.run(None, {"image": np.ascontiguousarray(image[..., :256])})
    np.testing.assert_allclose(tile[..., : 256 - 64], whole[..., : 256 - 64], atol=1e-6)


def test_networks_and_names_that_other_programs_can_not_take_are_refused(saved, tmp_path):
    for package in ("onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    for name, more, message in (
        ("local", (), "packages for darktable are for networks that see a few pixels around each, such as base"),
        ("base", ("--scale", 4), "at scale 1, got base at scale 4"),
        ("base", ("--uint8",), "packages for darktable take float32 images; leave uint8 out"),
    ):
        result = run(saved(name), "-o", tmp_path / "net.dtmodel", *more)
        assert (result.exit_code, message in result.stderr) == (1, True), result.stderr
    result = run(saved("base"), "-o", tmp_path / "my net.dtmodel")
    assert "expected letters, digits, -, _ and single dots, got 'my net'" in result.stderr
    assert not list(tmp_path.glob("*.dtmodel"))


def test_a_scale_above_the_settings_largest_is_a_wrong_option(saved, tmp_path):
    result = run(saved("base"), "-o", tmp_path / "net.pt2", "--scale", MAX_SCALE + 1)
    assert (result.exit_code, f"is not in the range 1<=x<={MAX_SCALE}" in result.stderr) == (2, True)


def test_a_package_that_darktable_would_not_install_is_an_error(package):
    with zipfile.ZipFile(package) as file:
        files = {name: file.read(name) for name in file.namelist()}

    def packed(changed):
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as made:
            for name, data in changed.items():
                made.writestr(name, data)
        return content.getvalue()

    assert darktable.model_in(packed(files)) == files["zdce-night/model.onnx"]
    named = {name.replace("zdce-night/", "other/"): data for name, data in files.items()}
    for changed, message in (
        ({**files, "../x": b""}, "expected a package with one folder"),
        (named, "must be of other, denoise and onnx"),
        ({**files, "zdce-night/config.json": b"{}"}, "lacks id, name, description, task, backend, version"),
    ):
        with pytest.raises(ValueError, match=message):
            darktable.model_in(packed(changed))


def test_a_wrong_export_is_an_error_and_nothing_is_written(saved, tmp_path, monkeypatch):
    model, folder = saved("iters4"), tmp_path / "exports"
    folder.mkdir()
    (folder / "net.pt2").write_text("what was there")
    monkeypatch.setattr(exporting._ExportedNetwork, "_enhanced", lambda self, image: image * 0.99)
    result = run(model, "-o", folder / "net.pt2")
    assert result.exit_code == 1
    assert "net.pt2 is not written: its results differ" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [("net.pt2", "what was there")]


def test_a_network_that_gives_no_numbers_is_an_error(tmp_path):
    model = zdce.DCENet("iters4").eval()
    model.convolutions[4].bias.data[0] = torch.nan
    with pytest.raises(ValueError, match=r"^weights must be finite, got one that is not$"):
        exporting.export(model, tmp_path / "net.pt2", exporting.ExportOptions())
    assert not list(tmp_path.iterdir())


def test_mistakes_are_one_line(saved, tmp_path, monkeypatch):
    model = saved("iters4")
    for arguments, message, code in (
        ((model, "-o", "net.pb"), "net.pb: expected one of the formats .onnx, .pt2, .param, .dtmodel, .tflite", 1),
        (("none.safetensors", "-o", "net.onnx"), "no weights at none.safetensors", 1),
        (("none", "-o", "net.onnx", "base"), "expected options alone, got base: a network is given by -m base", 2),
        ((model, "-o", "net.onnx", "--precision", "int8"), "'int8' is not one of 'fp32', 'fp16'", 2),
    ):
        result = run(*arguments)
        assert (result.exit_code, message in result.stderr) == (code, True), result.stderr
    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxruntime" else found(name))
    assert "Error: onnxruntime is needed for ONNX files: pip install 'zdce[export]'" in run(model, "-o", "net.onnx").stderr
    with pytest.raises(ValueError, match="precision must be one of fp32, fp16, got 'fp8'"):
        exporting.ExportOptions("fp8")
    for scale in (0, 513):
        with pytest.raises(ValueError, match=f"scale must be 1 to 512, got {scale}"):
            exporting.ExportOptions(scale=scale)


@pytest.mark.parametrize(("name", "scale"), [("base", 5), ("zero-dce-pp", 5), ("zero-dce-pp", None), ("iters4", 1)])
def test_curve_maps_at_a_scale_are_those_of_the_enhancer(name, scale):
    model = random_network(name)
    given = pictures(1, 23, 35)
    images = given.permute(0, 3, 1, 2) / 255
    maps = model.curve_maps(images, scale)
    with torch.no_grad():
        enhanced = zdce.reference.apply_curve(images, maps, model.variant.iterations)
        torch.testing.assert_close(enhanced, zdce.Enhancer(model, scale=scale)(images), rtol=0, atol=1e-5)
    maps.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
