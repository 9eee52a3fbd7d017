"""Every function, command and integration that enhances takes each field of ``EnhanceSettings``, and each has its effect."""

import importlib
import shutil
import subprocess
import sys
import warnings
from dataclasses import fields, replace
from pathlib import Path
from typing import get_type_hints

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import ExifTags, Image

import comfyui
import zdce
from setting_values import VALUES
from zdce import cli
from zdce.bench.engines import dark_picture
from zdce.bench.infer import random_network
from zdce.commands import options as command_options
from zdce.enhancement import batch, ray_data, transforms, video
from zdce.errors import InputError
from zdce.models.engine import computed_precision
from zdce.runtime import devices
from zdce.settings import EFFECTS, EnhanceSettings, SettingsKeywords, options

# The picture that a setting is tried on, where it is another than "dark.png".
SOURCES = {"only_if_dark": "lit.png", "strip": "lit.png", "shadows": "backlit.png", "highlights": "backlit.png"}

# Settings of networks with guided maps, such as the one in the subfolder "guided".
GUIDED = {"shadows", "highlights"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A network, a dark picture and a dark video that flickers."""
    folder = tmp_path_factory.mktemp("settings")
    random_network("base").save(folder / "net.safetensors")
    (folder / "guided").mkdir()
    zdce.load("local").save(folder / "guided" / "net.safetensors")
    noisy = dark_picture(60, 90) + np.random.default_rng(0).integers(0, 12, (60, 90, 3), np.uint8)
    Image.fromarray(noisy).save(folder / "dark.png")
    place = Image.Exif()
    place[ExifTags.Base.GPSInfo] = {ExifTags.GPS.GPSLatitudeRef: "N"}
    Image.fromarray(noisy + np.uint8(90)).save(folder / "lit.png", exif=place)
    backlit = noisy // 2
    backlit[:, :30] = 150
    Image.fromarray(backlit).save(folder / "backlit.png")
    if video.why_missing() is None:
        film(folder / "dark.mp4")
        film(folder / "interlaced.mp4", flags="+ildct+ilme")
    return folder


def film(path, **options):
    av = importlib.import_module("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast", **options})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for level in (0, 9, 3, 12):
            frame = av.VideoFrame.from_ndarray(dark_picture(48, 64) + np.uint8(level), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def as_array(source):
    return np.asarray(Image.open(source))


def by_enhancer(folder, source, target, **settings):
    return zdce.Enhancer(zdce.load(folder / "net.safetensors"), **settings)(as_array(source))


def by_settings(folder, source, target, **settings):
    return zdce.Enhancer(zdce.load(folder / "net.safetensors"), EnhanceSettings(**settings))(as_array(source))


def by_another_enhancer(folder, source, target, **settings):
    return zdce.Enhancer(zdce.load(folder / "net.safetensors")).with_settings(**settings)(as_array(source))


def by_transform(folder, source, target, **settings):
    enhance = transforms.Enhance(folder / "net.safetensors", **settings)
    return np.asarray(enhance(Image.open(source)))


def by_function(folder, source, target, **settings):
    assert zdce.enhance(source, folder / "net.safetensors", output=target, **settings) == target
    return target


def by_command(folder, source, target, **settings):
    arguments = [word for name, value in settings.items() for word in option(name, value)]
    model = ["-m", str(folder / "net.safetensors")]
    result = CliRunner().invoke(
        cli.main, ["enhance", str(source), "-o", str(target), *model, *arguments], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return target


def option(name, value):
    flag = f"--{name.replace('_', '-')}"
    return [flag] if value is True else [flag, str(value)]


class Rows:
    """A data set that does on the spot what Ray would do in its actors."""

    def __init__(self, row):
        self.row = row

    def map(self, kind, fn_constructor_args):
        return kind(*fn_constructor_args)(self.row)


def by_ray_files(folder, source, target, **settings):
    rows = Rows({"source": str(source), "target": str(target)})
    kept = "bright" if settings.get("only_if_dark") else "written"
    assert ray_data.enhance_files(rows, folder / "net.safetensors", **settings)["status"] == kept
    return target


def by_ray_images(folder, source, target, **settings):
    return ray_data.enhance_images(Rows({"image": as_array(source)}), folder / "net.safetensors", **settings)["image"]


def test_ray_takes_the_default_network_as_others_do(folder, monkeypatch):
    monkeypatch.setattr(ray_data, "_ray_data", lambda: None)
    picture = as_array(folder / "dark.png")
    assert np.array_equal(ray_data.enhance_images(Rows({"image": picture}))["image"], zdce.enhance(picture))


# The ways in, and the effects that settings can have there.
WAYS = {
    by_enhancer: ("pixels",),
    by_settings: ("pixels",),
    by_another_enhancer: ("pixels",),
    by_transform: ("pixels",),
    by_ray_images: ("pixels",),
    by_function: EFFECTS,
    by_command: EFFECTS,
    by_ray_files: EFFECTS,
}
WALK = [(way, name) for way, effects in WAYS.items() for name in options(*effects) if name != "deinterlace"]


def content(result):
    """Pixels of arrays and pictures; of files with loss their bytes."""
    if isinstance(result, Path) and result.suffix == ".png":
        result = np.asarray(Image.open(result))
    return result.read_bytes() if isinstance(result, Path) else result.tobytes()


@pytest.fixture
def precisions(monkeypatch):
    """The precisions of the enhancers that ran: without a unit for bfloat16 both give the same pixels."""
    ran, engine = [], zdce.Enhancer._engine.fget
    monkeypatch.setattr(zdce.Enhancer, "_engine", property(lambda self: ran.append(self.precision) or engine(self)))
    return ran


def changed_by(name, before, after, precisions):
    """Whether the setting had its effect: ``before`` and ``after`` are the results without and with it."""
    if name == "precision":
        rounded = computed_precision("bf16") == "bf16"
        return set(precisions) == {"fp32", "bf16"} and (before != after) == rounded
    return before != after


@pytest.mark.parametrize(("way", "name"), WALK, ids=lambda part: getattr(part, "__name__", part))
def test_every_way_in_takes_every_setting(folder, tmp_path, monkeypatch, precisions, way, name):
    monkeypatch.setattr(ray_data, "_ray_data", lambda: None)
    effect = options()[name].effect
    suffix = {"pixels": ".png", "picture files": ".jpg", "files": ".jpg"}.get(effect, ".mp4")
    if suffix == ".mp4" and (reason := video.why_missing()):
        pytest.skip(reason)
    source = folder / ("dark.mp4" if suffix == ".mp4" else SOURCES.get(name, "dark.png"))
    home = folder / "guided" if name in GUIDED else folder
    before, after = (
        content(way(home, source, tmp_path / f"{i}{suffix}", **changes)) for i, changes in enumerate(({}, {name: VALUES[name]}))
    )
    assert changed_by(name, before, after, precisions)
    if effect == "pixels":
        assert after == content(by_enhancer(home, source, None, **{name: VALUES[name]}))


@pytest.mark.parametrize("name", options("pixels"))
def test_the_node_for_comfyui_takes_every_setting(folder, tmp_path, precisions, name):
    network = "guided/net.safetensors" if name in GUIDED else "net.safetensors"
    shutil.copytree(folder, tmp_path / "zdce")
    image = torch.from_numpy(as_array(folder / SOURCES.get(name, "dark.png")) / np.float32(255))[None]
    with comfyui.loaded(tmp_path) as module:
        node = module.NODE_CLASS_MAPPINGS["ZdceEnhance"]
        widgets = node.INPUT_TYPES()["required"]
        unchanged = {setting: widgets[setting][1]["default"] for setting in options("pixels")}
        before, after = (
            node().enhance(image, network, "cpu", **unchanged | changes)[0].numpy() for changes in ({}, {name: VALUES[name]})
        )
    assert changed_by(name, content(before), content(after), precisions)
    assert np.array_equal(after, zdce.enhance(image.numpy(), folder / network, **{name: VALUES[name]}))


@pytest.mark.parametrize("way", [way for way, effects in WAYS.items() if effects == EFFECTS])
def test_interlaced_videos_are_refused_unless_they_are_deinterlaced(folder, tmp_path, monkeypatch, way):
    if reason := video.why_missing():
        pytest.skip(reason)
    monkeypatch.setattr(ray_data, "_ray_data", lambda: None)
    target = tmp_path / "out.mp4"
    with pytest.raises((OSError, AssertionError)):
        way(folder, folder / "interlaced.mp4", target)
    assert not target.exists()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zdce.enhance says that it did
        assert way(folder, folder / "interlaced.mp4", target, deinterlace=True).exists()


def test_all_settings_are_walked_and_typed():
    assert set(VALUES) == set(options())
    assert get_type_hints(SettingsKeywords) == {
        f.name: get_type_hints(EnhanceSettings)[f.name] for f in fields(EnhanceSettings)
    }
    assert [name for name in options() if f"        {name}: " not in EnhanceSettings.__doc__] == []
    page = (Path(__file__).resolve().parents[1] / "docs" / "python.md").read_text()
    assert [name for name in options() if f"\n| `{name}` | " not in page] == []


@pytest.mark.parametrize(
    ("command", "effects", "without"),
    [
        ("enhance", EFFECTS, set()),
        ("live", ("pixels", "frames"), set()),
        ("eval", ("pixels",), set()),
        ("bench folder", ("pixels", "picture files", "files"), set()),
        ("bench flicker", ("pixels", "frames"), set()),
        ("bench live", ("pixels", "frames"), set()),
        ("bench scales", ("pixels",), {"scale"}),
    ],
)
def test_commands_have_an_option_for_each_setting(command, effects, without):
    found = cli.main
    for word in command.split():
        found = found.get_command(click.Context(found), word)
    assert set(options(*effects)) - without <= {parameter.name for parameter in found.params}


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("scale", 0, "a whole number from 1 to 1048576, got 0"),
        ("scale", 1.5, "a whole number from 1 to 1048576, got 1.5"),
        ("scale", True, "a whole number from 1 to 1048576, got True"),
        ("strength", float("nan"), "a finite number, got nan"),
        ("strength", None, "a finite number, got None"),
        ("strength", "1", "a finite number, got '1'"),
        ("precision", "fp64", "one of fp32, bf16, got 'fp64'"),
        ("brightness", 1.0, "a number of at least 0 and below 1, got 1.0"),
        ("brightness", -0.1, "a number of at least 0 and below 1, got -0.1"),
        ("noise", 255, "a number of at least 0 and below 255, got 255"),
        ("noise", float("nan"), "a number of at least 0 and below 255, got nan"),
        ("shadows", -1.5, "a number from -1 to 1, got -1.5"),
        ("highlights", 1.5, "a number from 0 to 1, got 1.5"),
        ("transfer", "gamma", "one of srgb, linear, log, got 'gamma'"),
        ("only_if_dark", 1, "True or False, got 1"),
        ("subsampling", "4:1:1", "one of 4:4:4, 4:2:2, 4:2:0, got '4:1:1'"),
        ("strip", True, "one of gps, all, got True"),
        ("smoothing", -0.5, "a number of at least 0, got -0.5"),
        ("smoothing", float("inf"), "a number of at least 0, got inf"),
        ("quality", 101, "a whole number from 1 to 100, got 101"),
        ("crf", -1, "a whole number from 0 to 51, got -1"),
        ("deinterlace", 1, "True or False, got 1"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(name, value, expected):
    message = f"^{name} must be {expected}$"
    with pytest.raises(ValueError, match=message):
        EnhanceSettings(**{name: value})
    with pytest.raises(ValueError, match=message):
        replace(EnhanceSettings(), **{name: value})
    with pytest.raises(ValueError, match=message):
        zdce.enhance(np.zeros((4, 4, 3), np.uint8), zdce.DCENet("iters4"), **{name: value})


def test_a_name_that_is_no_setting_is_named():
    model = zdce.DCENet("iters4")
    with pytest.raises(TypeError, match=r"settings are scale, strength, .*, got 'strenght'"):
        zdce.Enhancer(model, strenght=1.0)
    with pytest.raises(TypeError, match=r"settings must be a zdce\.EnhanceSettings, got 'fp32'"):
        zdce.Enhancer(model, "fp32")
    with pytest.raises(AttributeError):
        zdce.Enhancer(model).strength = 2.0


def test_numbers_of_numpy_become_pythons():
    settings = EnhanceSettings(scale=np.int64(4), strength=np.float32(0.5), noise=np.uint8(3))
    assert (type(settings.scale), type(settings.strength), type(settings.noise)) == (int, float, float)
    assert settings == EnhanceSettings(scale=4, strength=0.5, noise=3.0)


def test_keywords_come_before_the_settings_and_these_before_the_networks_own():
    model = zdce.load("adaptive")
    settings = EnhanceSettings(strength=0.5, noise=4)
    enhancer = zdce.Enhancer(model, settings, strength=0.7)
    assert (enhancer.settings.strength, enhancer.settings.noise, enhancer.scale) == (0.7, 4.0, 1)
    assert enhancer.settings.brightness == model.variant.brightness
    assert enhancer.with_settings(noise=None).settings.noise is None
    assert enhancer.with_settings(settings).settings.strength == 0.5


@pytest.mark.parametrize(("name", "value"), [("shadows", 0.5), ("highlights", 0.5)])
def test_settings_of_guided_maps_need_a_network_that_has_them(name, value):
    with pytest.raises(InputError, match=f"^{name} needs a network with guided maps, such as local, got 0.5 for iters4$"):
        zdce.Enhancer(zdce.DCENet("iters4"), **{name: value})


def test_packed_weights_are_shared_where_they_are_the_same():
    enhancer = zdce.Enhancer(zdce.DCENet("iters4"))
    if enhancer._engine is None:
        pytest.skip("no compiled engine here")
    assert enhancer.with_settings(strength=0.5, scale=4)._engine is enhancer._engine
    assert enhancer.with_settings(precision="bf16")._engine is not enhancer._engine


@pytest.mark.parametrize("transfer", ["linear", "log"])
def test_arrays_tensors_and_maps_are_taken_in_their_encoding(transfer):
    model, pixels = random_network("base"), (257 * dark_picture(40, 50).astype(np.uint16)) // 2
    enhancer = zdce.Enhancer(model, transfer=transfer)
    whole = enhancer(pixels)
    assert np.abs(whole.astype(int) - zdce.Enhancer(model)(pixels)).max() > 257
    assert np.abs(enhancer.apply(pixels, enhancer.maps(pixels)).astype(int) - whole).max() <= 257
    tensor = torch.from_numpy((pixels / 65535).astype(np.float32)).permute(2, 0, 1)[None]
    same = enhancer(tensor)[0].permute(1, 2, 0).numpy() * 65535
    # The array is rounded to 16 bits of sRGB before the curve and after it, each up to 9 steep.
    assert np.abs(same - whole).max() < 20


def test_work_takes_videos_at_a_scale_of_their_own():
    model = zdce.DCENet("iters4")
    for settings, still, moving in ((EnhanceSettings(), 1, 12), (EnhanceSettings(scale=3), 3, 3)):
        work = batch.Work.of(model, settings)
        assert work.picture.keywords["enhancer"].scale == still
        assert work.film.keywords["enhancer"].scale == moving
    assert batch.Work.of(zdce.DCENet("zero-dce-pp"), EnhanceSettings()).film.keywords["enhancer"].scale == 12


@pytest.mark.parametrize(("name", "picture", "film"), [("base", 4, 12), ("local", 6, 6), ("zero-dce-pp", 12, 12)])
def test_fast_never_makes_an_image_larger_than_without(name, picture, film):
    work = batch.Work.of(zdce.DCENet(name), EnhanceSettings(), fast=True)
    assert work.picture.keywords["enhancer"].scale == picture
    assert work.film.keywords["enhancer"].scale == film


def test_auto_is_the_gpu_where_there_is_one(monkeypatch, tmp_path):
    here = "cuda" if torch.cuda.is_available() else "cpu"
    assert next(zdce.load("base", "auto").parameters()).device.type == here
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert devices.named("auto") == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert command_options.usable_device("auto") == "cpu"
    pixels = np.full((4, 4, 3), 20, np.uint8)
    assert np.array_equal(zdce.enhance(pixels, "base", device="auto"), zdce.enhance(pixels, "base"))


def test_a_wrong_device_is_named():
    for name in ("gpu", "meta"):
        with pytest.raises(ValueError, match=f"^device must be auto, cpu, .* got '{name}'"):
            zdce.load("base", name)
    with pytest.raises(ValueError, match=r"device must be None for a loaded network, .* got 'cpu'"):
        zdce.enhance(np.zeros((4, 4, 3), np.uint8), zdce.DCENet("iters4"), device="cpu")
    result = CliRunner().invoke(cli.main, ["enhance", "x.jpg", "--device", "gpu"], catch_exceptions=False)
    assert result.exit_code == 2
    assert "got 'gpu': " in result.stderr


def test_the_module_needs_nothing_heavy():
    code = "import sys, zdce.settings; print(sorted({'torch', 'numpy', 'PIL', 'skimage', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
