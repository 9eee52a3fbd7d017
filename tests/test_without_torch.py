"""Enhancing on the CPU imports no PyTorch, and works where PyTorch is not installed."""

import json
import os
import signal
import subprocess
import sys
import urllib.request

import numpy as np
import pytest
from PIL import Image

import zdce
from zdce.bench import startup
from zdce.models import weights
from zdce.models.engine import computed_precision

pytest.importorskip("zdce._core", reason="without the C++ core PyTorch does all the work")

# What a photographer's installation lacks; an import of None fails as that of a missing package does.
_ABSENT = "import sys\nsys.modules.update(dict.fromkeys(('torch', 'triton', 'skimage', 'scipy')))\n"
_COMMAND = _ABSENT + "from zdce.cli import main\nmain(sys.argv[1:], prog_name='zdce')"


def run(code, *arguments, **environment):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


def zdce_without_torch(*arguments, **environment):
    return run(_COMMAND, *arguments, **environment)


def dark(height=60, width=90, dtype=np.uint8):
    values = np.random.default_rng(0).integers(0, 60, (height, width, 3))
    return (values * (257 if dtype == np.uint16 else 1)).astype(dtype)


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.jpg"
    Image.fromarray(dark()).save(path)
    return path


_IMPORTED = """
import sys
heavy = {name.partition(".")[0] for name in sys.modules} & {"torch", "scipy", "skimage", "matplotlib", "tifffile", "av"}
assert not heavy, heavy
"""


@pytest.mark.parametrize(
    "code",
    [
        "from zdce.cli import main; main(['enhance', sys.argv[1], '-o', sys.argv[1] + '.png'], standalone_mode=False)",
        "import numpy, zdce; zdce.enhance(numpy.full((4, 4, 3), 20, numpy.uint8))",
        "import numpy, zdce; zdce.enhance(numpy.full((2, 4, 4, 3), 0.1))",
        "import PIL.Image, zdce; zdce.enhance(PIL.Image.open(sys.argv[1]), 'base', scale=4)",
        "import zdce; zdce.enhance(sys.argv[1], output=sys.argv[1] + '.webp')",
        "import zdce; from zdce.models import stored; zdce.Enhancer(stored.read('adaptive'), noise=0)",
    ],
)
def test_enhancing_imports_nothing_heavy(photo, code):
    done = run(f"import sys\n{code}\n{_IMPORTED}", photo)
    assert done.returncode == 0, done.stderr


def test_a_server_starts_without_importing_torch():
    pytest.importorskip("fastapi")
    code = "from zdce.serving import networks, server\nfrom zdce.serving.limits import Limits\n"
    code += "server.server(networks.Networks(['local', 'base']), Limits(), (), lambda: None)"
    done = run(f"{code}\n{_IMPORTED}")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", weights.names())
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_arrays_get_the_same_bits_with_and_without_torch(tmp_path, name, dtype):
    pixels = dark() / np.float32(255) if dtype == np.float32 else dark(dtype=dtype)
    np.save(tmp_path / "in.npy", pixels)
    code = _ABSENT + "import numpy, zdce\n"
    code += "numpy.save(sys.argv[2], zdce.enhance(numpy.load(sys.argv[1]), sys.argv[3], strength=0.8))"
    done = run(code, tmp_path / "in.npy", tmp_path / "out.npy", name)
    assert done.returncode == 0, done.stderr
    expected = zdce.enhance(pixels, zdce.load(name), strength=0.8)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected)


def test_a_folder_a_file_of_weights_and_a_manifest(tmp_path, photo):
    Image.fromarray(dark(31, 40)).save(tmp_path / "other.png")
    zdce.load("iters4").save(tmp_path / "net.safetensors")
    done = zdce_without_torch(
        "enhance", photo, tmp_path / "other.png", "-m", tmp_path / "net.safetensors", "-o", tmp_path / "out",
        "--manifest", tmp_path / "manifest.csv",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "manifest.csv").read_text().count("written") == 2
    expected = zdce.enhance(dark(31, 40), "iters4")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "other.png")), expected)


def test_videos(tmp_path):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264", 25, width=64, height=48, pix_fmt="yuv420p")
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(dark(48, 64), "rgb24")))
        container.mux(stream.encode())
    done = zdce_without_torch("enhance", tmp_path / "clip.mp4", "-o", tmp_path / "bright.mp4")
    assert done.returncode == 0, done.stderr
    with av.open(str(tmp_path / "bright.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 3
    assert frames[0].mean() > 1.5 * dark(48, 64).mean()


def test_a_server(photo):
    pytest.importorskip("fastapi")
    command = [sys.executable, "-u", "-c", _COMMAND, "serve", "--port", "0", "-m", "base"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        address = server.stdout.readline().split()[0].rstrip("/")
        request = urllib.request.Request(
            f"{address}/api/enhance?format=png", photo.read_bytes(), {"Content-Type": "application/octet-stream"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer, Image.open(answer) as image:
            np.testing.assert_array_equal(np.asarray(image), np.asarray(zdce.enhance(photo, "base")))
    finally:
        server.send_signal(signal.SIGINT)
        _, errors = server.communicate(timeout=30)
    assert "Traceback" not in errors


def test_what_is_here_is_told():
    facts = json.loads(zdce_without_torch("info", "--json").stdout)
    assert facts["torch"] is not None  # the package is here, and hidden
    assert facts["threads"] >= 1
    assert facts["instruction set"]
    assert facts["bfloat16"] == ("by a matrix unit" if computed_precision("bf16") == "bf16" else "in float32")
    assert [backend["name"] for backend in facts["backends"] if backend["available"]] == ["cpp"]
    assert zdce_without_torch("variants").returncode == 0


_INSTALL = "needed for tensors, GPUs, training and networks of other programs: pip install 'zdce[torch]'"


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (("train", "--out", "run"), {}),
        (("eval", "sample"), {}),
        (("export", "-o", "net.onnx"), {}),
        (("enhance", "photo.jpg", "--device", "cuda"), {}),
        (("enhance", "photo.jpg"), {"ZDCE_BACKEND": "reference"}),
    ],
)
def test_what_needs_torch_says_what_to_install(photo, arguments, environment):
    done = zdce_without_torch(*(str(photo) if a == "photo.jpg" else a for a in arguments), **environment)
    assert done.returncode in (1, 2)
    assert _INSTALL in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("code", ["zdce.load('base')", "zdce.ops", "zdce.enhance('photo.jpg', device='cuda')"])
def test_what_needs_torch_in_python_says_what_to_install(code):
    done = run(f"{_ABSENT}import zdce\n{code}")
    assert done.stderr.strip().splitlines()[-1].endswith(_INSTALL)


def test_a_small_photograph_takes_little_memory(tmp_path):
    startup.photograph(400, 600).save(tmp_path / "photo.jpg")
    taken = startup.measured([sys.executable, "-m", "zdce", "enhance", str(tmp_path / "photo.jpg")], tmp_path / "bytecode")
    assert taken.mib < 120
