"""The core without torch: the module zdce._core, the C interface, and errors."""

import ctypes
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import zdce
from zdce import noise_constants, reference, scene_constants
from zdce.models import weights
from zdce.models.engine import PixelSettings
from zdce.models.torch_engine import TorchEngine
from zdce.settings import MAX_SCALE

core = pytest.importorskip("zdce._core")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", autouse=True)
def _compiled_backend():
    with zdce.backend("cpp"):
        yield


def saved(tmp_path, name):
    """A network with random weights, and the bytes of its file."""
    torch.manual_seed(3)
    model = zdce.DCENet(name)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.15)
    model.save(tmp_path / "network.safetensors")
    return model.eval(), (tmp_path / "network.safetensors").read_bytes()


def dark(size, dtype=np.uint8):
    picture = np.random.default_rng(0).integers(0, 60, (*size, 3))
    return (picture * (257 if dtype == np.uint16 else 1)).astype(dtype)


def enhanced(network, picture, strength=1.0, scale=None):
    own = core.describe(network)
    result = np.empty_like(picture)
    how = (strength, own["brightness"], own["noise"], scale or own["scale"])
    core.enhance(network, picture, result, *how)
    return result


@pytest.mark.parametrize("name", ["base", "iters4", "zero-dce", "zero-dce-pp", "adaptive"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("scale", [None, 3])
def test_a_file_that_the_core_reads_gives_the_bits_of_an_enhancer(tmp_path, name, dtype, scale):
    model, data = saved(tmp_path, name)
    network = core.read_network(data, False)
    for size in ((1, 1), (17, 30), (70, 133)):
        picture = dark(size, dtype)
        expected = zdce.Enhancer(model, scale=scale, strength=0.8)(picture)
        np.testing.assert_array_equal(enhanced(network, picture, 0.8, scale), expected)


@pytest.mark.parametrize("name", ["local", "adaptive"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("scale", [None, 1, 12])
def test_scenes_are_judged_as_by_torch_within_rounding(name, dtype, scale):
    model = zdce.load(name)
    network = core.read_network(weights.file(name).read_bytes(), False)
    own = model.variant
    settings = PixelSettings(scale or own.scale, 1.0, own.brightness, own.noise)
    for size in ((1, 1), (17, 30), (70, 133)):
        picture = dark(size, dtype)
        expected = TorchEngine(model, "fp32").enhance(picture, settings)
        # Sums in another order move a strength by a halving's 4 / 2^16 and a level of 65535 by the rest, which may round an
        # 8-bit level otherwise, before the noise is smoothed and after.
        off = np.abs(enhanced(network, picture, scale=scale).astype(int) - expected)
        assert off.max() <= (2 if dtype == np.uint8 else 60)
        assert off.mean() < (0.02 if dtype == np.uint8 else 5)
        if own.guided:
            how = settings._replace(shadows=-0.5, highlights=0.25)
            result = np.empty_like(picture)
            core.enhance(network, picture, result, 1.0, own.brightness, own.noise, how.scale, how.shadows, how.highlights)
            off = np.abs(result.astype(int) - TorchEngine(model, "fp32").enhance(picture, how))
            assert off.mean() < (0.02 if dtype == np.uint8 else 5)
    lit = dark((40, 50), dtype) * 3 + np.array(70 * (257 if dtype == np.uint16 else 1), dtype)
    assert np.array_equal(enhanced(network, lit, scale=scale), lit)


@pytest.mark.skipif(not core.has_bfloat16(), reason="the processor has no matrix unit")
@pytest.mark.parametrize("name", ["base", "zero-dce-pp"])
def test_bfloat16_gives_the_bits_of_an_enhancer(tmp_path, name):
    model, data = saved(tmp_path, name)
    picture = dark((40, 70))
    expected = zdce.Enhancer(model, precision="bf16")(picture)
    np.testing.assert_array_equal(enhanced(core.read_network(data, True), picture), expected)


def test_each_step_gives_what_the_operator_gives(tmp_path):
    model, data = saved(tmp_path, "base")
    network, picture = core.read_network(data, False), dark((31, 45))
    own = zdce.Enhancer(model, scale=2)
    maps = np.empty((24, 16, 23), np.float32)
    core.curve_maps(network, picture, 2, maps)
    np.testing.assert_array_equal(maps, own.maps(picture)[0])
    result = np.empty_like(picture)
    core.enhance_picture(picture, maps, 8, 2, False, 1.0, result)
    applied = zdce.ops.enhance_picture(torch.from_numpy(picture), torch.from_numpy(maps)[None], scale=2)
    np.testing.assert_array_equal(result, applied.numpy())
    np.testing.assert_array_equal(result, own.apply(picture, maps[None]))
    small = np.empty((3, 16, 23), np.float32)
    core.reduce_picture(picture, 2, True, small)
    np.testing.assert_array_equal(small, zdce.ops.reduce_picture(torch.from_numpy(picture), 2)[0].numpy())
    smooth = result.copy()
    core.denoise_picture(picture, smooth, 2.55, 1.02)
    expected = zdce.ops.denoise_picture(torch.from_numpy(picture), torch.from_numpy(result), 2.55 / 255, 1.02 / 255)
    np.testing.assert_array_equal(smooth, expected.numpy())
    image = np.random.default_rng(1).random((3, 16, 23), np.float32)
    curved = np.empty_like(image)
    core.apply_curve(image, maps, 8, curved)
    expected = zdce.ops.apply_curve(torch.from_numpy(image)[None], torch.from_numpy(maps)[None])[0]
    np.testing.assert_array_equal(curved, expected.numpy())


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_noise_is_measured_as_by_the_reference(dtype):
    random = np.random.default_rng(0)
    white = 1 if dtype == np.float32 else np.iinfo(dtype).max
    for size, deviation in (((15, 90), 3), ((16, 40), 3), ((90, 331), 2), ((700, 500), 4), ((400, 400), 30)):
        levels = random.normal(np.linspace(-20, 290, size[1])[:, None], deviation, (*size, 3)).clip(0, 255)
        picture = (levels * (white / 255)).astype(dtype)
        expected = 255 * reference.picture_noise(torch.from_numpy(picture), 0.0)
        assert core.measure_noise(picture) == pytest.approx(expected.tolist(), rel=1e-4)
    assert min(core.measure_noise(picture)) > 5
    assert core.measure_noise(np.zeros((90, 90, 3), dtype)) == (0, 0)


def test_strips_do_not_show_where_noise_is_taken_out():
    # More than 2^21 pixels, the core's strips.
    picture = np.random.default_rng(0).integers(5, 15, (2**16, 33, 3)).astype(np.uint8)
    smooth = picture * 10
    core.denoise_picture(picture, smooth, 2.55, 1.02)
    expected = zdce.ops.denoise_picture(torch.from_numpy(picture), torch.from_numpy(picture * 10), 2.55 / 255, 1.02 / 255)
    np.testing.assert_array_equal(smooth, expected.numpy())


def test_a_network_can_be_made_of_numbers(tmp_path):
    model, data = saved(tmp_path, "iters4")
    plan = [0, 0, 4, len(model.variant.sources)]
    for sources, (_, outputs) in zip(model.variant.sources, model.variant.convolutions(), strict=True):
        plan += [outputs, len(sources), *sources]
    parameters = torch.cat([p.detach().flatten() for p in model.parameters()]).numpy()
    network = core.make_network(np.array(plan), parameters, 1, False)
    picture = dark((20, 20))
    np.testing.assert_array_equal(enhanced(network, picture), enhanced(core.read_network(data, False), picture))


def test_rows_may_lie_apart_and_upside_down(tmp_path):
    _, data = saved(tmp_path, "base")
    network, wide = core.read_network(data, False), dark((40, 60))
    expected = enhanced(network, np.ascontiguousarray(wide[::-1, 10:50]))
    result = np.empty((40, 80, 3), np.uint8)[:, 20:60]
    core.enhance(network, wide[::-1, 10:50], result, 1.0, 0.0, 0.0, 1)
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((dark((4, 4)), np.empty((4, 5, 3), np.uint8), 1.0, 0.0, 0.0, 1), "result must have the picture's shape and type"),
        ((dark((4, 4)), np.empty((4, 4, 3), np.uint16), 1.0, 0.0, 0.0, 1), "result must have the picture's shape and type"),
        ((dark((4, 4))[..., :2], np.empty((4, 4, 3), np.uint8), 1.0, 0.0, 0.0, 1), r"picture must be \(H, W, 3\)"),
        ((dark((4, 4)).astype(np.int32), np.empty((4, 4, 3), np.uint8), 1.0, 0.0, 0.0, 1), "picture must be uint8, uint16"),
        ((dark((4, 4)), np.empty((4, 4, 3), np.uint8), np.nan, 0.0, 0.0, 1), "strength must be a finite number"),
        ((dark((4, 4)), np.empty((4, 4, 3), np.uint8), 1.0, 1.0, 0.0, 1), "brightness must be at least 0 and below 1"),
        ((dark((4, 4)), np.empty((4, 4, 3), np.uint8), 1.0, 0.0, -0.1, 1), "noise must be at least 0 and below 255"),
        ((dark((4, 4)), np.empty((4, 4, 3), np.uint8), 1.0, 0.0, 0.0, 1, 1.5), "shadows must be from -1 to 1"),
        ((dark((4, 4)), np.empty((4, 4, 3), np.uint8), 1.0, 0.0, 0.0, 1, 0.0, np.nan), "highlights must be from 0 to 1"),
        ((dark((4, 4)), np.empty((4, 4, 3), np.uint8), 1.0, 0.0, 0.0, 1, 0.0, 1.0, -1.0), "grain must be at least 0"),
        ((dark((4, 4)), np.empty((4, 4, 3), np.uint8), 1.0, 0.0, 0.0, 0), "scale must be 1 to 1048576, got 0"),
        (
            (dark((4, 4)), np.empty((4, 4, 3), np.uint8), 1.0, 0.0, 0.0, MAX_SCALE + 1),
            "scale must be 1 to 1048576, got 1048577",
        ),
    ],
)
def test_arguments_that_are_wrong_are_named(tmp_path, arguments, message):
    _, data = saved(tmp_path, "base")
    with pytest.raises(ValueError, match=message):
        core.enhance(core.read_network(data, False), *arguments)


def test_the_largest_scale_is_that_of_the_settings(tmp_path):
    network, picture, result = core.read_network(saved(tmp_path, "base")[1], False), dark((4, 4)), np.empty((4, 4, 3), np.uint8)
    core.enhance(network, picture, result, 1.0, 0.0, 0.0, MAX_SCALE)
    assert (result != picture).any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    model, _ = saved(tmp_path, "base")
    with torch.no_grad():
        model.convolutions[2].weight[1, 2, 0, 1] = value
    model.save(tmp_path / "broken.safetensors")
    with pytest.raises(ValueError, match="weights must be finite"):
        core.read_network((tmp_path / "broken.safetensors").read_bytes(), False)


def test_broken_files_are_refused(tmp_path):
    _, data = saved(tmp_path, "iters4")
    end = 8 + int.from_bytes(data[:8], "little")
    broken = [b"", data[:7], data[:100], data[:end], data[:-1], b"\xff" * 8 + data[8:], data.replace(b"F32", b"F64"),
              data.replace(b"[16,16,3,3]", b"[16,16,9,1]"), data.replace(b"zdce.variant", b"zdce.unknown"),
              data.replace(b'\\"filters\\": 16', b'\\"filters\\": 99'),
              data.replace(b'"__metadata__":{', b'"__metadata__":[')]  # fmt: skip
    for bytes_ in broken:
        with pytest.raises(ValueError, match=r"must|ends|longer|character|shape|not say"):
            core.read_network(bytes_, False)


def test_several_python_threads_at_once_give_the_same(tmp_path):
    _, data = saved(tmp_path, "base")
    network = core.read_network(data, False)
    pictures = [dark((50 + i, 300)) for i in range(12)]
    expected = [enhanced(network, picture) for picture in pictures]
    with ThreadPoolExecutor(6) as pool:
        for got, wanted in zip(pool.map(lambda picture: enhanced(network, picture), pictures), expected, strict=True):
            np.testing.assert_array_equal(got, wanted)


# Each line is a process of its own, so that the core's threads are those that it makes.
_FORKING = """
import os, sys, numpy as np
from zdce import _core as core
assert "torch" not in sys.modules
core.set_threads(4)
network = core.read_network(open(sys.argv[1], "rb").read(), False)
picture = np.full((200, 300, 3), 20, np.uint8)
def run():
    result = np.empty_like(picture)
    core.enhance(network, picture, result, 1.0, 0.0, 0.0, 1)
    return result
before = run()
child = os.fork()
same = np.array_equal(before, run())
if child == 0:
    os._exit(0 if same else 3)
assert same and os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_a_forked_process_works_on(tmp_path):
    saved(tmp_path, "base")
    subprocess.run([sys.executable, "-c", _FORKING, str(tmp_path / "network.safetensors")], check=True, timeout=60)


@pytest.mark.parametrize(("environment", "threads"), [({"OMP_NUM_THREADS": "3"}, 3), ({"OMP_NUM_THREADS": "1"}, 1)])
def test_the_number_of_threads_is_that_of_the_environment(environment, threads):
    shown = subprocess.run(
        [sys.executable, "-c", "from zdce import _core; print(_core.threads())"],
        env={**os.environ, **environment}, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert int(shown.stdout) == threads


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity")
def test_the_number_of_threads_is_no_more_than_the_processors_that_are_allowed():
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); from zdce import _core; print(_core.threads())"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    shown = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    assert int(shown.stdout) == 1


_HUNGRY = """
import resource, sys, numpy as np
from zdce import _core as core
core.set_threads(2)
network = core.read_network(open(sys.argv[1], "rb").read(), False)
picture = np.full((64, 2**20, 3), 20, np.uint8)
result = np.empty_like(picture)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**20, used + 2**20))
try:
    core.enhance(network, picture, result, 1.0, 0.0, 0.0, 2)
except MemoryError:
    print("no memory")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits and their use are read as on Linux")
def test_no_memory_is_a_memory_error(tmp_path):
    saved(tmp_path, "base")
    command = [sys.executable, "-c", _HUNGRY, str(tmp_path / "network.safetensors")]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert shown.stdout == "no memory\n"


_HUNGRY_TORCH = """
import resource, torch, zdce.ops, zdce._C
torch.set_num_threads(2)
maps = torch.rand(2, 24, 100, 300)
results = torch.empty(2), torch.empty(2, 24, 100, 300)
torch.ops.zdce_cpp.tv_sums(maps, results[0])  # starts the threads
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used, used))
try:
    torch.ops.zdce_cpp.tv_sums_backward(results[0], maps, results[1])
except MemoryError:
    print("no memory")
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits and their use are read as on Linux")
def test_no_memory_in_a_thread_of_torch_keeps_its_name():
    command = [sys.executable, "-c", _HUNGRY_TORCH]
    # What is allocated then counts at once: none of it comes from room that an arena has.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "4096", "MALLOC_ARENA_MAX": "1"}
    shown = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=100)
    assert shown.stdout == "no memory\n"


def test_scenes_have_the_constants_of_python():
    text = (ROOT / "csrc/core/scene.cpp").read_text()
    head = text[text.index("constexpr int64_t kSide") : text.index("using Thumbnail")]
    written = dict(re.findall(r"\bk([A-Za-z]+) = ([^,;]+)", head))
    assert (written.pop("Pixels"), written["Brightest"]) == ("kSide * kSide", "kPixels / 1000")
    written |= {"White": written.pop("WhiteLevel"), "Brightest": "64 * 64 // 1000"}
    values = {re.sub(r"(?<!^)(?=[A-Z])", "_", name).upper(): eval(value.removesuffix("f")) for name, value in written.items()}
    expected = {name: value for name, value in vars(scene_constants).items() if name.isupper()}
    assert values == expected


def test_noise_has_the_constants_of_python():
    sources = ("picture_noise.cpp", "denoise_picture.cpp", "kernels/denoise_picture.h")
    text = "".join((ROOT / "csrc/core" / name).read_text() for name in sources)
    written = {name: value.removesuffix("f") for name, value in re.findall(r"\bk([A-Za-z]+) = ([^,;]+)", text)}
    for name, value in vars(noise_constants).items():
        if name.isupper():
            assert eval(written[name.title().replace("_", "")]) == value, name


def test_the_module_never_imports_torch():
    code = "import sys; from zdce import _core; sys.exit('torch' in sys.modules or 'scipy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """The C example, linked with the library that stands beside the extension."""
    library = Path(core.__file__).with_name("libzdce.so")
    if shutil.which("cc") is None or not library.is_file():
        pytest.skip("there is no C compiler, or no library for it")
    program = tmp_path_factory.mktemp("example") / "example"
    flags = ["-std=c11", "-Wall", "-Wextra", "-pedantic", "-Werror", f"-Wl,-rpath,{library.parent}"]
    subprocess.run(["cc", *flags, str(ROOT / "csrc/core/example.c"), str(library), "-o", str(program)], check=True)
    return program


def write_ppm(path, picture):
    height, width, _ = picture.shape
    brightest = np.iinfo(picture.dtype).max
    path.write_bytes(
        f"P6\n{width} {height}\n{brightest}\n".encode() + picture.astype(picture.dtype.newbyteorder(">")).tobytes()
    )


def read_ppm(path):
    _, size, brightest, data = path.read_bytes().split(b"\n", 3)
    width, height = map(int, size.split())
    dtype = np.dtype(np.uint8 if brightest == b"255" else ">u2")
    return np.frombuffer(data, dtype).reshape(height, width, 3).astype(dtype.newbyteorder("="))


@pytest.mark.parametrize("name", ["base", "adaptive"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_example_in_c_brightens_a_picture_as_python_does(tmp_path, example, name, dtype):
    model, _ = saved(tmp_path, name)
    picture = dark((60, 90), dtype)
    write_ppm(tmp_path / "dark.ppm", picture)
    subprocess.run([example, "network.safetensors", "dark.ppm", "bright.ppm"], check=True, cwd=tmp_path)
    np.testing.assert_array_equal(read_ppm(tmp_path / "bright.ppm"), zdce.Enhancer(model)(picture))


# What stands around the page's lines: a picture of 24 x 16, and the checks of what they leave.
_AROUND = """
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
{include}
int main(int count, char** names) {{
  static unsigned char bytes[1 << 20], pixels[16 * 24 * 3], result[sizeof pixels];
  const int height = 16, width = 24;
  FILE* file = fopen(names[count - 1], "rb");
  const size_t size = fread(bytes, 1, sizeof bytes, file);
  if (fclose(file) != 0 || fread(pixels, 1, sizeof pixels, stdin) != sizeof pixels) return 1;
  {lines}
  return fwrite(result, 1, sizeof result, stdout) != sizeof result;
}}
"""


def test_the_code_of_the_page_about_c_runs(tmp_path, example):
    page = (ROOT / "docs" / "c.md").read_text()
    (code,) = re.findall(r"```c\n(.*?)```", page, re.DOTALL)
    include, _, lines = code.partition("\n")
    (tmp_path / "page.c").write_text(_AROUND.format(include=include, lines=lines))
    library = Path(core.__file__).with_name("libzdce.so")
    flags = ["-std=c11", "-Wall", "-Werror", f"-I{ROOT / 'csrc/core'}", f"-Wl,-rpath,{library.parent}"]
    subprocess.run(["cc", *flags, "page.c", str(library), "-o", "page"], check=True, cwd=tmp_path)
    picture = dark((16, 24), np.uint8)
    weights = Path(zdce.__file__).parent / "models" / "weights" / "base.safetensors"
    done = subprocess.run([tmp_path / "page", weights], check=True, input=picture.tobytes(), capture_output=True)
    got = np.frombuffer(done.stdout, np.uint8).reshape(picture.shape)
    np.testing.assert_array_equal(got, zdce.Enhancer(zdce.load("base"), strength=0.8, noise=0)(picture))
    assert done.stderr == b""


def test_the_commands_of_the_page_about_c_build_the_example(tmp_path, example):
    for name in ("csrc", "zdce"):
        (tmp_path / name).symlink_to(ROOT / name)
    write_ppm(tmp_path / "dark.ppm", dark((60, 90), np.uint8))
    (commands,) = re.findall(r"```text\n(.*?)```", (ROOT / "docs" / "c.md").read_text(), re.DOTALL)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-euc", commands], check=True, cwd=tmp_path, env=environment)
    assert read_ppm(tmp_path / "bright.ppm").mean() > read_ppm(tmp_path / "dark.ppm").mean() + 10


def test_the_example_in_c_says_what_is_wrong(tmp_path, example):
    (tmp_path / "network.safetensors").write_bytes(b"\x05\0\0\0\0\0\0\0hello")
    command = [example, "network.safetensors", "a.ppm", "b.ppm"]
    shown = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True)
    assert (shown.returncode, shown.stderr) == (1, "network.safetensors: JSON has an unexpected character\n")


class CPicture(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p), ("type", ctypes.c_int),
        *((name, ctypes.c_int64) for name in ("height", "width", "row_stride")),
    ]  # fmt: skip


class CSettings(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_double) for name in ("strength", "brightness", "noise")), ("scale", ctypes.c_int64),
        *((name, ctypes.c_double) for name in ("shadows", "highlights", "grain")),
    ]  # fmt: skip


@pytest.fixture
def library():
    """The C interface."""
    if not (path := Path(core.__file__).with_name("libzdce.so")).exists():
        pytest.skip("libzdce.so is built on Linux alone")
    loaded = ctypes.CDLL(path)
    loaded.zdce_network_from_safetensors.restype = ctypes.c_void_p
    loaded.zdce_network_settings.restype = CSettings
    loaded.zdce_last_error.restype = ctypes.c_char_p
    return loaded


@pytest.fixture
def network(library):
    """``local``, read through the C interface."""
    data = weights.file("local").read_bytes()
    yield (made := ctypes.c_void_p(library.zdce_network_from_safetensors(data, ctypes.c_size_t(len(data)), 0)))
    library.zdce_network_destroy(made)


def test_c_names_the_limits_of_numbers_that_are_too_large(library):
    pixels, maps = dark((2, 2)), np.zeros(1, np.float32)
    given = ctypes.byref(CPicture(pixels.ctypes.data, 0, 2, 2, 6))
    for count, iterations, scale, message in (
        (49, 8, 1, b"map_count must be 2 to 48, got 49"),
        (24, 17, 1, b"iterations must be 1 to 16, got 17"),
        (24, 8, 2**20 + 1, b"scale must be 1 to 1048576, got 1048577"),
    ):
        numbers = (ctypes.c_int64(count), ctypes.c_int64(iterations), ctypes.c_int64(scale))
        assert library.zdce_apply(given, ctypes.c_void_p(maps.ctypes.data), *numbers, 0, ctypes.c_double(1), given) == 1
        assert library.zdce_last_error() == message
    layers, none = ctypes.c_int64(65), ctypes.c_int64(0)
    assert library.zdce_network_create(None, layers, ctypes.c_int64(8), 0, None, none, 0) == 0
    assert library.zdce_last_error() == b"layer_count must be 2 to 64, got 65"


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -0.1, 1.1])
def test_c_refuses_floats_outside_of_0_to_1_wherever_a_picture_is_read(library, network, wrong):
    picture = np.full((70, 333, 3), 0.25, np.float32)
    picture[0, 0], picture[0, 1] = -1 / 255, 1 + 1 / 255  # as much as rounding may add
    result = np.empty_like(picture)
    given, to = (ctypes.byref(CPicture(pixels.ctypes.data, 2, 70, 333, 333 * 12)) for pixels in (picture, result))
    maps, number, other, one = np.zeros((3, 70, 333), np.float32), ctypes.c_double(), ctypes.c_double(), ctypes.c_double(1)
    plane, scale = ctypes.c_void_p(maps.ctypes.data), ctypes.c_int64(1)
    calls = [
        lambda: library.zdce_enhance(network, given, None, to),
        lambda: library.zdce_scene_strength(network, given, ctypes.c_double(0.4), ctypes.byref(number)),
        lambda: library.zdce_apply(given, plane, ctypes.c_int64(3), ctypes.c_int64(8), scale, 0, one, to),
        lambda: library.zdce_reduce(given, ctypes.c_int64(2), 1, plane),
        lambda: library.zdce_measure_noise(given, ctypes.byref(number), ctypes.byref(other)),
        lambda: library.zdce_denoise(given, to, one, one),
    ]
    assert [call() for call in calls] == [0] * 6, library.zdce_last_error()
    picture[-1, -1, -1] = wrong
    for call in calls:
        assert call() == 1
        assert library.zdce_last_error() == b"picture must have values in [0, 1], got others, or NaN"


def test_measured_noise_and_grain_make_c_do_what_python_does(library, network):
    picture = dark((120, 160)) // 2
    result = np.empty_like(picture)
    given, to = (CPicture(pixels.ctypes.data, 0, 120, 160, 480) for pixels in (picture, result))
    settings, found, grain = library.zdce_network_settings(network), ctypes.c_double(), ctypes.c_double()
    assert (settings.noise, settings.highlights, settings.grain) == (1.4, 1, 0)
    assert library.zdce_measure_noise(ctypes.byref(given), ctypes.byref(found), ctypes.byref(grain)) == 0
    assert (found.value, grain.value) == core.measure_noise(picture)
    settings.noise, settings.grain = max(settings.noise, found.value), grain.value
    assert library.zdce_enhance(network, ctypes.byref(given), ctypes.byref(settings), ctypes.byref(to)) == 0
    np.testing.assert_array_equal(result, zdce.Enhancer(zdce.load("local"))(picture))
    settings.grain = 0
    assert library.zdce_enhance(network, ctypes.byref(given), ctypes.byref(settings), ctypes.byref(to)) == 0
    assert (result != zdce.Enhancer(zdce.load("local"))(picture)).any()


def test_the_shipped_networks_give_the_bits_of_the_torch_operators():
    folder = Path(zdce.__file__).parent / "models" / "weights"
    # Guided maps are equal within rounding: they have a test of their own.
    files = sorted(path for path in folder.glob("*.safetensors") if path.stem != "local")
    assert files
    picture = dark((90, 120))
    for path in files:
        network, model = core.read_network(path.read_bytes(), False), zdce.load(path.stem)
        np.testing.assert_array_equal(enhanced(network, picture), zdce.Enhancer(model, noise=model.variant.noise)(picture))
