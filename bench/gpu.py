"""The measurements of ``.ci/gpu`` on a machine with one GPU, and their report.

``python -P -m zdce.bench.gpu facts --out FILE`` writes the card, its driver and clocks, and versions. ``measure --seconds S
--out FILE`` measures what fits into S seconds, the most telling first, and writes rows as it goes. ``report --out FOLDER``
makes gpu.json and gpu.md of both and of the tests' results. ``measure --device cpu --tiny`` tries all of it with no GPU.
"""

import argparse
import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

import torch
from PIL import Image

from zdce.enhancement import video
from zdce.enhancement.enhancer import Enhancer
from zdce.ops import dispatch
from zdce.runtime import atomic, system
from zdce.settings import VIDEO_SCALE
from zdce.version import __version__

from . import clip, folder, infer_gpu, steps
from .cases import Setting
from .infer import random_network
from .measuring import Job, Measurement
from .processes import Outcome
from .rows import Row, spread
from .timing import Clock, Timed, rounds

SUITE = "gpu"

_QUERIES = (
    "name", "driver_version", "vbios_version", "memory.total", "clocks.sm", "clocks.max.sm", "clocks.mem", "clocks.max.mem",
    "power.limit", "temperature.gpu", "ecc.mode.current", "persistence_mode",
)  # fmt: skip


def facts() -> dict[str, Any]:
    """The machine and its software, for JSON."""
    found: dict[str, Any] = {"time": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())}
    found |= {"python": platform.python_version(), "torch": torch.__version__, "zdce": __version__}
    found |= {"cuda": torch.version.cuda, "processor": system.processor(), "cores": os.cpu_count()}
    with contextlib.suppress(ImportError):
        import triton

        found["triton"] = triton.__version__
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found["backends"] = {name: dispatch.why_missing(name, device) or "runs" for name in ("triton", "cuda")}
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "gpu": properties.name, "capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count, "memory_bytes": properties.total_memory,
            "cudnn": torch.backends.cudnn.version(),
        }  # fmt: skip
    return found | {"card": _card()}


def _card() -> dict[str, str]:
    """Facts about the first card from nvidia-smi; nothing if it is missing."""
    if shutil.which("nvidia-smi") is None:
        return {}
    command = ["nvidia-smi", f"--query-gpu={','.join(_QUERIES)}", "--format=csv,noheader", "--id=0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    values = [value.strip() for value in done.stdout.splitlines()[0].split(",")] if done.returncode == 0 and done.stdout else []
    return dict(zip(_QUERIES, values, strict=False))


@dataclass
class Session:
    """Rows and notes of one run, in a file that is written again after each part; no part starts after ``ends``."""

    file: Path
    device: str
    tiny: bool
    ends: float
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    card: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return torch.cuda.get_device_name(0) if self.device == "cuda" else system.processor()

    def part(self, what: str, measure: Callable[[], None]) -> None:
        """Runs a part and keeps its rows, also if it fails or time runs out."""
        if time.monotonic() > self.ends:
            self.notes.append(f"{what} is left out: the time was up")
        else:
            started = time.monotonic()
            try:
                measure()
            except KeyboardInterrupt:  # `.ci/gpu` stops what takes too long.
                self.notes.append(f"{what} is left out: it was stopped")
                self.save()
                sys.exit(0)
            except Exception as error:  # A failing part must not use up the others' time.
                self.failed(what, error)
            print(f"{what}: {time.monotonic() - started:.1f} s", flush=True)  # noqa: T201 (the log)
        self.save()

    def failed(self, what: str, error: Exception) -> None:
        first = next(iter(str(error).splitlines()), "")
        self.notes.append(f"{what} failed: {type(error).__name__}: {first}")

    def save(self) -> None:
        content = {"rows": [row.to_dict() for row in self.rows], "notes": self.notes, "card after": self.card or _card()}
        atomic.write_text(self.file, json.dumps(content, indent=1))

    def row(self, case: str, provider: str, metric: str, unit: str, values: list[float], shape: str, dtype: str) -> None:
        mode = "forward"
        self.rows.append(Row.of(SUITE, case, provider, mode, metric, unit, values, shape, dtype, None, self.name))

    def times(self, measured: Mapping[str, Timed], seconds: float) -> dict[str, list[float]]:
        """Seconds of each function."""
        return {name: [run[0] for run in runs] for name, runs in rounds(measured, seconds, 3).items()}


def measure(session: Session) -> None:
    session.part("copy", partial(_copy, session))
    shapes = [(1, 40, 64)] if session.tiny else [(1, 1080, 1920), (1, 2160, 3840), (8, 1080, 1920), (8, 2160, 3840)]
    for shape in shapes[:2]:
        _network_part(session, shape)
    for variant in ("adaptive", "local", "zero-dce"):
        of = partial(_networks, session, shapes[0], ("zdce", "zdce-layers"), ("bf16",), variant)
        session.part(f"network {variant}", of)
    settings = [Setting(2, 32, 32)] if session.tiny else [Setting(), Setting(1, 1080, 1920)]
    for setting in settings:
        for dtype in ("float32", "bfloat16"):
            asked = replace(setting, dtype=dtype, device=session.device)
            session.part(f"operations {asked.shape} {dtype}", partial(_operations, session, asked))
    with steps.true_float32():
        session.part("training", partial(_training, session))
    for _, height, width in shapes[:2]:
        session.part(f"files {height}x{width}", partial(_files, session, height, width))
    for shape in shapes[2:]:
        _network_part(session, shape)
    session.part("compiled networks", partial(_networks, session, shapes[0], ("zdce", "torch-compile"), ("bf16",)))


def _network_part(session: Session, shape: tuple[int, int, int]) -> None:
    of = partial(_networks, session, shape, infer_gpu.UNCOMPILED, tuple(infer_gpu.Job.precisions))
    session.part(f"network {'x'.join(map(str, shape))}", of)


def _copy(session: Session) -> None:
    """Bytes per second of a copy."""
    clock = Clock(session.device)
    source = torch.ones(2**20 if session.tiny else 2**30, dtype=torch.uint8, device=session.device)
    target = torch.empty_like(source)
    copied = {"copy": partial(clock.intervals, lambda: target.copy_(source))}
    times = session.times(copied, 0.0 if session.tiny else 1.0)
    session.row("copy", "torch", "bandwidth", "GB/s", [2e-9 * source.numel() / t for t in times["copy"]], "1 GiB", "uint8")


def _networks(
    session: Session,
    shape: tuple[int, int, int],
    providers: tuple[str, ...],
    precisions: tuple[str, ...],
    variant: str = "base",
) -> None:
    seconds, least = (0.0, 3) if session.tiny else (infer_gpu.Job.seconds, infer_gpu.Job.least)
    job = infer_gpu.Job(
        variants=(variant,), shapes=(shape,), precisions=precisions, providers=providers, seconds=seconds, least=least, device=session.device,
        suite=SUITE,
    )  # fmt: skip
    infer_gpu.measure(job, Outcome(session.rows, session.notes))  # into the session's lists, also if it is stopped


def _operations(session: Session, setting: Setting) -> None:
    cases = ("apply_curve", "zero_reference_objective")
    providers = ("reference",) if session.tiny else ("reference", "compiled", "zdce-triton", "zdce-cuda")
    outcome = Measurement(Job("time", SUITE, setting, cases, providers, 0.0 if session.tiny else 1.5)).run()
    session.rows += outcome.rows
    session.notes += outcome.notes


def _files(session: Session, height: int, width: int) -> None:
    """Pictures and frames a second from file to file, of ``base`` in bfloat16: JPEG files, eight at once, and a film."""
    model = random_network("base").to(session.device)
    enhancer = Enhancer(model, precision="bf16", noise=0.0)
    with TemporaryDirectory() as name:
        place = Path(name)
        (place / "pictures").mkdir()
        for number, pixels in enumerate(clip.frames(height, width)):
            Image.fromarray(pixels).save(place / "pictures" / f"{number:02}.jpg", quality=90)
        session.rows += folder.run(place / "pictures", enhancer, torch.get_num_threads(), at_once=8)
        clip.write(place / "film.mp4", height, width)
        film = enhancer.with_settings(scale=VIDEO_SCALE)
        video.enhance(place / "film.mp4", place / "warm-up.mp4", film)
        reports = [video.enhance(place / "film.mp4", place / "enhanced.mp4", film) for _ in range(1 if session.tiny else 3)]
    rates = [report.frames / report.seconds for report in reports]
    session.row("base film", "zdce", "decode, enhance, encode", "frames/s", rates, f"{clip.FRAMES}x3x{height}x{width}", "bfloat16")


def _training(session: Session) -> None:
    """Steps of ``base``, in turns; a CUDA graph of the whole step on GPUs."""
    batch, size = (2, 32) if session.tiny else (16, 256)
    image = steps.Job("time", (), (), batch, size).image().to(session.device)
    clock, measured, dtypes = Clock(session.device), {}, {}
    names = ("eager", "zdce") if session.tiny else ("eager", "bf16_autocast", "compiled", "zdce", "zdce_bf16_autocast")
    extra = {"zdce_bf16_autocast": replace(steps.PROVIDERS["zdce_amp"], layout=torch.channels_last)}
    for name in names:
        try:
            provider = (steps.PROVIDERS | extra)[name]
            trainer = steps.Trainer(provider, "base", image)
            for _ in range(3):
                trainer.step()
        except Exception as error:  # as above
            session.failed(f"{name} in training", error)
            continue
        measured[name], dtypes[name] = trainer.timed(clock), provider.dtype
    times = {name: [sum(run) for run in runs] for name, runs in rounds(measured, 0.0 if session.tiny else 4.0, 3).items()}
    shape = f"{batch}x3x{size}x{size}"
    for name, seconds in times.items():
        session.row("base training", name, "time", "ms", [1e3 * s for s in seconds], shape, dtypes[name])
        ratio = spread(times["eager"])[0] / spread(seconds)[0] if "eager" in times else float("nan")
        session.row("base training", name, "speed_over_eager", "ratio", [ratio], shape, dtypes[name])


# The report.


def report(folder: Path) -> None:
    """Combines the files of ``folder`` to gpu.json and gpu.md."""
    measured = _json(folder / "bench.json")
    content = {
        "facts": _json(folder / "facts.json"), "tests": _tests(folder / "tests.xml"),
        "sanitizers": {name: _last_line(folder / f"{name}.log") for name in ("memcheck", "racecheck")}, **measured,
    }  # fmt: skip
    atomic.write_text(folder / "gpu.json", json.dumps(content, indent=1))
    atomic.write_text(folder / "gpu.md", _markdown(content))


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.is_file() else {}


def _last_line(path: Path) -> str:
    lines = path.read_text().strip().splitlines() if path.is_file() else []
    return lines[-1].strip() if lines else "not run"


def _tests(path: Path) -> dict[str, Any]:
    """Counts and failures from pytest's JUnit file."""
    if not path.is_file():
        return {"ran": 0, "failed": ["pytest wrote no result: see tests.log"]}
    cases = list(ElementTree.parse(path).iter("testcase"))
    failed = [c for c in cases if c.find("failure") is not None or c.find("error") is not None]
    skipped = [c for c in cases if c.find("skipped") is not None]
    names = [f"{c.get('classname')}::{c.get('name')}" for c in failed]
    return {"ran": len(cases) - len(skipped), "skipped": len(skipped), "failed": names}


def _markdown(content: dict[str, Any]) -> str:
    told, card, tests = content["facts"], content["facts"].get("card", {}), content["tests"]
    clocks = [card.get("clocks.sm", "?"), content.get("card after", {}).get("clocks.sm", "?"), card.get("clocks.max.sm", "?")]
    versions = ", ".join(f"{name} {told[name]}" for name in ("zdce", "torch", "triton", "cuda", "python") if told.get(name))
    lines = [
        f"### {told.get('gpu', 'no GPU')}", "",
        f"{told.get('time')}; driver {card.get('driver_version', '?')}; SM clock {clocks[0]} before, {clocks[1]} after, at most"
        f" {clocks[2]}; {versions}.", "",
        f"Tests: {tests['ran']} ran, {len(tests['failed'])} failed, {tests.get('skipped', 0)} skipped."
        + "".join(f" `{name}` failed." for name in tests["failed"][:20]), "",
        "; ".join(f"{name}: {line}" for name, line in content["sanitizers"].items()), "",
        "| case | shape | type | provider | metric | median | 20 % | 80 % | unit |", "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in content.get("rows", []):
        figures = ["" if row[name] is None else f"{row[name]:.4g}" for name in ("value", "p20", "p80")]
        metric = row["metric"] if row["suite"] == SUITE and row["mode"] == "forward" else f"{row['mode']} {row['metric']}"
        lines.append(
            f"| {' | '.join([row['case'], row['shape'], row['dtype'], row['provider'], metric, *figures, row['unit']])} |"
        )
    return "\n".join([*lines, "", *(f"* {note}" for note in content.get("notes", [])), ""])


def main() -> None:
    parser = argparse.ArgumentParser(description="What .ci/gpu measures, and its report.")
    parser.add_argument("work", choices=["facts", "measure", "report"])
    parser.add_argument("--out", type=Path, required=True, help="The file that is written; of the report, the folder.")
    parser.add_argument("--seconds", type=float, default=240.0, help="Nothing starts after so many.")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="Small shapes and one round, to try it.")
    asked = parser.parse_args()
    if asked.work == "facts":
        atomic.write_text(asked.out, json.dumps(facts(), indent=1))
    elif asked.work == "report":
        report(asked.out)
    else:
        measure(Session(asked.out, asked.device, asked.tiny, time.monotonic() + asked.seconds))


if __name__ == "__main__":
    main()
