"""`zdce info`, `zdce variants`, help, completion, exit at a closed pipe, and the modules that a start imports."""

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import zdce
from runs import zdce_after
from zdce import cli
from zdce.commands import bench
from zdce.errors import BackendError, InputError
from zdce.models.variants import VARIANTS
from zdce.ops import dispatch


def run(*arguments):
    return CliRunner().invoke(cli.main, arguments, catch_exceptions=False)


def test_variants():
    rows = json.loads(run("variants", "--json").stdout)
    assert [row["name"] for row in rows] == list(VARIANTS)
    assert rows[0]["parameters"] == 16648
    table = run("variants").stdout
    assert all(variant.name in table and variant.summary in table for variant in VARIANTS.values())


def test_info():
    facts = json.loads(run("info", "--json").stdout)
    assert facts["zdce"] == zdce.__version__
    assert facts["torch"] == torch.__version__
    for backend in facts["backends"]:
        assert backend["available"] or backend["reason"]
    assert "reference" in run("info").stdout


def test_who_stops_reading_is_told_nothing():
    reading, writing = os.pipe()
    os.close(reading)
    try:
        command = [sys.executable, "-m", "zdce", "variants", "--json"]
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def children(pid):
    found = subprocess.run(["pgrep", "-P", str(pid)], stdout=subprocess.PIPE, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


def test_a_command_that_is_ended_ends_its_processes():
    if shutil.which("pgrep") is None:
        pytest.skip("no pgrep on this machine")
    command = [sys.executable, "-m", "zdce", "bench", "ops", "--quick"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (measuring := children(process.pid)):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors.strip()) == (143, "stopped")
    assert not [pid for pid in measuring if os.path.exists(f"/proc/{pid}")]


# A signal to the process itself at the import of a module.
_SIGNALLED = """
import os, sys
module, number = sys.argv.pop(1), int(sys.argv.pop(1))
class Signal:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            os.kill(os.getpid(), number)
sys.meta_path.insert(0, Signal())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
@pytest.mark.parametrize("module", ["zdce.cli", "click", "zdce.commands.group", "zdce.commands.enhance", "numpy"])
def test_a_signal_while_modules_are_imported_is_one_line(module, number, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "dark.png")
    command = zdce_after(_SIGNALLED, module, int(number), "enhance", "dark.png")
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", "stopped\n")
    assert os.listdir(tmp_path) == ["dark.png"]


def test_an_ignored_ctrl_c_stays_ignored(tmp_path):
    """As shells start commands in the background of a script."""
    Image.new("RGB", (8, 8)).save(tmp_path / "dark.png")
    ignoring = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n" + _SIGNALLED
    for module in ("click", "numpy"):
        command = zdce_after(ignoring, module, int(signal.SIGINT), "enhance", "dark.png", "--overwrite")
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("backend", "error", "message"),
    [
        ("triton", BackendError, "'triton' was asked for but can't run: it runs on CUDA"),
        ("tpu", InputError, "ZDCE_BACKEND must be one of"),
    ],
)
def test_a_forced_backend_that_cannot_run_is_an_error(monkeypatch, backend, error, message):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(dispatch, "_launcher", dispatch._launcher.__wrapped__)  # which remembers the backends of other tests
    monkeypatch.setenv("ZDCE_BACKEND", backend)
    with pytest.raises(error, match=message):
        zdce.ops.apply_curve(torch.rand(1, 3, 4, 4), torch.rand(1, 24, 4, 4))


def test_a_forced_backend_error_is_one_line_on_the_command_line(tmp_path, monkeypatch):
    zdce.DCENet("iters4").save(tmp_path / "net.safetensors")
    for kind in ("low", "high"):
        (tmp_path / "pairs" / kind).mkdir(parents=True)
        for name in ("1.png", "2.png"):
            Image.new("RGB", (16, 16)).save(tmp_path / "pairs" / kind / name)
    arguments = ["eval", "-m", str(tmp_path / "net.safetensors"), str(tmp_path / "pairs"), "--device", "cpu"]
    backends = {"cuda": "backend 'cuda' was asked for but can't run", "tpu": "ZDCE_BACKEND must be one of auto,"}
    for backend, message in backends.items():
        monkeypatch.setenv("ZDCE_BACKEND", backend)
        result = run(*arguments)
        assert result.exit_code == 1
        assert result.stderr.strip().splitlines()[-1].startswith(f"Error: {message}")
        assert "Traceback" not in result.stderr


@pytest.mark.skipif(dispatch.why_missing("cpp") is not None, reason="the C++ extension is not built")
@pytest.mark.parametrize("command", [("info",), ("train", "--out", "run")])
def test_an_instruction_set_that_is_not_there_is_one_line(tmp_path, command):
    done = subprocess.run(
        [sys.executable, "-m", "zdce", *command], capture_output=True, text=True, check=False, cwd=tmp_path,
        env={**os.environ, "ZDCE_ISA": "mmx"},
    )  # fmt: skip
    sets = {"x86_64": "avx512, avx2, default", "aarch64": "neon, default"}.get(platform.machine(), "default")
    expected = f"Error: ZDCE_ISA must be one of {sets}, got mmx\n"
    assert (done.returncode, done.stderr) == (1, expected)


def test_a_device_that_is_not_there_is_named():
    for device in ("cuda:99", "abacus", "meta", "fpga"):
        result = run("enhance", "x.jpg", "-m", "none", "--device", device)
        assert result.exit_code == 2
        assert f"device must be auto, cpu, cuda or another of PyTorch's that is here, got {device!r}: " in result.stderr
        assert len(result.stderr.splitlines()[-1]) < 400


def imported_by(program):
    """The modules that a fresh Python has imported after ``program``."""
    told = f"{program}\nimport sys\nprint('\\n'.join(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


HEAVY = {"torch", "scipy", "skimage", "numpy", "PIL", "rich", "matplotlib", "safetensors"}


@pytest.mark.parametrize("program", ["import zdce", "from zdce.cli import main\nmain(['--help'], standalone_mode=False)"])
def test_help_waits_for_no_library(program):
    assert not imported_by(program) & HEAVY


def test_enhancing_imports_nothing_of_other_commands():
    modules = imported_by("import zdce.commands.enhance, zdce.enhancement.enhance")
    others = ("skimage", "scipy", "zdce.bench", "zdce.study", "zdce.serving", "zdce.training", "matplotlib")
    assert not [name for name in modules if name.startswith(others)]


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_each_command_is_where_the_list_says(name):
    command = cli.COMMANDS[name].load()
    assert command.name == name
    assert name in run("--help").stdout
    # Names that a panel of the help has, and the command does not, would end it.
    assert run(name, "--help").exit_code == 0


@pytest.mark.parametrize("name", list(bench.COMMANDS))
def test_each_benchmark_is_where_the_list_says(name):
    command = bench.COMMANDS[name].load()
    assert command.name == name
    assert command.help.splitlines()[0] == bench.COMMANDS[name].summary
    assert name in run("bench", "--help").stdout


def test_public_names_are_found():
    for name in zdce.__all__:
        assert getattr(zdce, name) is not None
    assert set(zdce.__all__) <= set(dir(zdce))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = zdce.nothing
