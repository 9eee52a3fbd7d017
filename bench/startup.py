"""``zdce bench startup``: whole processes as a shell starts them, beside Pillow decoding and encoding and the engine alone."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from zdce.enhancement.enhancer import Enhancer, load
from zdce.models import weights
from zdce.runtime import system

from .rows import Row

SUITE = "startup"

# (height, width) of the enhanced JPEG files: a small photograph, and 12 megapixels.
SIZES = ((400, 600), (3000, 4000))

_PILLOW = "import sys\nfrom PIL import Image\nImage.open(sys.argv[1]).convert('RGB').save(sys.argv[2], quality=95)"


def _commands(folder: Path) -> dict[tuple[str, str, str], list[str]]:
    """Timed commands, with shape, case and provider of their rows."""
    python, zdce = [sys.executable, "-c"], [sys.executable, "-m", "zdce"]
    commands = {
        ("", "start", "python"): [*python, "pass"],
        ("", "start", "import zdce"): [*python, "import zdce"],
        ("", "start", "zdce --help"): [*zdce, "--help"],
        ("", "start", "import torch"): [*python, "import torch"],
    }
    for height, width in SIZES:
        source, shape = str(folder / f"{width}.jpg"), f"{height}x{width}"
        commands[shape, "enhance", "zdce"] = [*zdce, "enhance", source, "--overwrite", "-o", str(folder / f"{width}-zdce.jpg")]
        commands[shape, "enhance", "pillow"] = [*python, _PILLOW, source, str(folder / f"{width}-pillow.jpg")]
    return commands


def photograph(height: int, width: int) -> Image.Image:
    """Dark blocks with noise; a JPEG decoder takes as long for them as for a photograph."""
    random = np.random.default_rng(0)
    blocks = random.integers(5, 60, (height // 50, width // 50, 3), np.uint8)
    large = np.asarray(Image.fromarray(blocks).resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    return Image.fromarray((large + random.integers(-3, 4, (height, width, 1))).clip(0, 255).astype(np.uint8))


# Starts a command and prints its seconds, its processor seconds, its peak memory as the system counts it, and its exit code.
# A process of its own, and a small one: to the system a child's peak is at least what its parent had when it started it.
_LAUNCHER = """
import os, subprocess, sys, time
began = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(time.perf_counter() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss, os.waitstatus_to_exitcode(status))
"""


class Figures(NamedTuple):
    """Costs of a process: seconds, processor seconds (which other work affects less), and peak memory in MiB."""

    seconds: float
    cpu_seconds: float
    mib: float


_METRICS = (("time", "s"), ("cpu_time", "s"), ("memory", "MiB"))


def measured(command: list[str], bytecode: Path) -> Figures:
    """Costs of a process that runs ``command``.

    Args:
        bytecode: folder for compiled Python, as an installation has it; what is missing there is compiled and written.

    Raises:
        OSError: it failed.
    """
    launcher = [sys.executable, "-S", "-c", _LAUNCHER, *command]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(bytecode)
    done = subprocess.run(launcher, capture_output=True, text=True, check=True, env=environment)
    seconds, cpu_seconds, peak, code = done.stdout.split()
    if code != "0":
        raise OSError(f"{' '.join(command)}: {done.stderr}")
    return Figures(float(seconds), float(cpu_seconds), int(peak) / (2**20 if sys.platform == "darwin" else 2**10))


def _engine_times(source: Path, rounds: int) -> list[tuple[float, float]]:
    """Seconds and processor seconds of the engine alone with the pixels of ``source``, in this process."""
    enhancer, pixels = Enhancer(load(weights.DEFAULT)), np.asarray(Image.open(source))
    times = []
    for _ in range(rounds + 1):
        began = time.perf_counter(), time.process_time()
        enhancer(pixels)
        times.append((time.perf_counter() - began[0], time.process_time() - began[1]))
    return times[1:]


def run(rounds: int) -> list[Row]:
    """Measures every command ``rounds`` times, in turns, after one run that does not count, and then the engine alone.

    Raises:
        OSError: a command failed.
    """
    rows, device = [], system.processor()
    with tempfile.TemporaryDirectory() as place:
        for height, width in SIZES:
            photograph(height, width).save(Path(place) / f"{width}.jpg", quality=95)
        commands = _commands(Path(place))
        figures: dict[tuple[str, str, str], list[Figures]] = {key: [] for key in commands}
        for number in range(rounds + 1):
            for key, command in commands.items():
                figure = measured(command, Path(place) / "bytecode")
                if number:
                    figures[key].append(figure)
        for height, width in SIZES:
            times = zip(*_engine_times(Path(place) / f"{width}.jpg", rounds), strict=True)
            for (metric, unit), values in zip(_METRICS[:2], times, strict=True):
                shape = f"{height}x{width}"
                rows.append(Row.of(SUITE, "enhance", "engine", "call", metric, unit, values, shape, "uint8", None, device))
    for (shape, case, provider), taken in figures.items():
        for (metric, unit), values in zip(_METRICS, zip(*taken, strict=True), strict=True):
            rows.append(Row.of(SUITE, case, provider, "process", metric, unit, values, shape, "uint8", None, device))
    return rows


COLUMNS = ("case", "provider", "shape", "s", "20-80 %", "CPU s", "MiB")


def table(rows: list[Row]) -> list[list[str]]:
    """A line for each command."""
    found = {(row.metric, row.case, row.provider, row.shape): row for row in rows}

    def value(row: Row, metric: str, digits: int) -> str:
        other = found.get((metric, row.case, row.provider, row.shape))
        return f"{other.value:.{digits}f}" if other else ""

    return [
        [
            row.case, row.provider, row.shape, f"{row.value:.3f}", "" if row.p20 is None else f"{row.p20:.3f}-{row.p80:.3f}",
            value(row, "cpu_time", 3), value(row, "memory", 0),
        ]
        for row in rows if row.metric == "time"
    ]  # fmt: skip
