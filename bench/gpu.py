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
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree

import torch
from PIL import Image

from zdce.enhancement import video
from zdce.enhancement.enhancer import Enhancer
from zdce.models.network import load
from zdce.ops import dispatch
from zdce.runtime import atomic, float32, system
from zdce.settings import VIDEO_SCALE
from zdce.study.settings import Settings
from zdce.training import seconds_a_step
from zdce.version import __version__

from . import clip, folder, infer_gpu, steps
from .cases import Setting
from .measuring import Job, Measurement
from .processes import Outcome, described
from .rows import Row, spread
from .timing import Clock, Timed, rounds

SUITE = "gpu"

# Reason why a measurement is left out; tests/conftest.py skips tests with the same.
TIME_UP = "the time was up"

# Training pictures of the study: those of LOL's `our485` that are not for validation.
_TRAINING_PICTURES = 399

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
            self.notes.append(f"{what} is left out: {TIME_UP}")
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
        self.notes.append(f"{what} failed: {described(error)}")

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
        _network_part(session, shape, ("fp32", "bf16"))
    for model in ("adaptive", "local", "zero-dce"):
        networks = partial(_networks, session, shapes[0], ("zdce", "zdce-layers"), ("bf16",), model)
        session.part(f"network {model}", networks)
    session.part("calls", partial(_calls, session, shapes[0]))
    _operation_parts(session, ("reference", "zdce-triton", "zdce-cuda"))
    _training_part(session, ("eager", "eager_graph", "bf16_autocast", "bf16_autocast_graph", "zdce", "zdce_amp"))
    session.part("study", partial(_study, session))
    _files_part(session, shapes[0])
    for shape in shapes[2:]:
        _network_part(session, shape, ("bf16",))
    session.part("compiled networks", partial(_networks, session, shapes[0], ("zdce", "torch-compile"), ("bf16",)))
    if not session.tiny:
        _training_part(session, ("compiled", "zdce", "zdce_amp"))
        _operation_parts(session, ("compiled", "zdce-cuda"))
        _files_part(session, shapes[1])


def _network_part(session: Session, shape: tuple[int, int, int], precisions: tuple[str, ...]) -> None:
    networks = partial(_networks, session, shape, infer_gpu.UNCOMPILED, precisions)
    session.part(f"network {'x'.join(map(str, shape))}", networks)


def _operation_parts(session: Session, providers: tuple[str, ...]) -> None:
    """Curve and objective by ``providers``, for a batch of training and for a picture."""
    for setting in [Setting(2, 32, 32)] if session.tiny else [Setting(), Setting(1, 1080, 1920)]:
        for dtype in ("float32", "bfloat16"):
            asked = replace(setting, dtype=dtype, device=session.device)
            session.part(f"operations {asked.shape} {dtype}, {providers[0]}", partial(_operations, session, asked, providers))


def _training_part(session: Session, providers: tuple[str, ...]) -> None:
    with float32.convolutions("ieee"):
        session.part(f"training, {providers[0]}", partial(_training, session, providers))


def _files_part(session: Session, shape: tuple[int, int, int]) -> None:
    session.part(f"files {shape[1]}x{shape[2]}", partial(_files, session, *shape[1:]))


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
    model: str = "base",
) -> None:
    """The network that comes with zdce as ``model``."""
    seconds, least = (0.0, 3) if session.tiny else (1.5, infer_gpu.Job.least)
    job = infer_gpu.Job(
        models=(model,), shapes=(shape,), precisions=precisions, providers=providers, seconds=seconds, least=least,
        device=session.device, suite=SUITE,
    )  # fmt: skip
    infer_gpu.measure(job, Outcome(session.rows, session.notes))  # into the session's lists, also if it is stopped


def _calls(session: Session, shape: tuple[int, int, int]) -> None:
    """Time of each of many calls in a row, including what the host does beyond the GPU's work; of networks that smooth noise
    with noise given, too, and measured, the default.
    """
    pictures = torch.from_numpy(infer_gpu.darker_pictures(*shape)).to(session.device)
    count, least = (2, 3) if session.tiny else (50, 5)
    for model in ("base", "adaptive", "local"):
        network = load(model).to(session.device)
        own = network.variant.noise
        given = [("zdce, noise given", own)] if own else []
        for name, noise in [*given, ("zdce", None)]:
            enhancer = Enhancer(network, precision="bf16", noise=noise)

            def calls(enhancer: Enhancer = enhancer) -> float:
                _synchronize(session.device)
                started = time.perf_counter()
                for _ in range(count):
                    enhancer.pictures(pictures)
                _synchronize(session.device)
                return 1e3 * (time.perf_counter() - started) / count

            calls()
            times = [calls() for _ in range(least)]
            session.row(model, name, "time of calls in a row", "ms", times, "x".join(map(str, shape)), "bfloat16")


def _synchronize(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def _operations(session: Session, setting: Setting, providers: tuple[str, ...]) -> None:
    cases = ("apply_curve", "zero_reference_objective")
    run = tuple(name for name in providers if name not in ("zdce-triton", "zdce-cuda")) if session.tiny else providers
    outcome = Measurement(Job("time", SUITE, setting, cases, run, 0.0 if session.tiny else 1.0)).run()
    session.rows += outcome.rows
    session.notes += outcome.notes


def _files(session: Session, height: int, width: int) -> None:
    """Pictures and frames a second from file to file, of ``base`` in bfloat16: JPEG files, eight at once, and a film."""
    enhancer = Enhancer(load("base").to(session.device), precision="bf16", noise=0.0)
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
    rates, shape = [report.frames / report.seconds for report in reports], f"{clip.FRAMES}x3x{height}x{width}"
    session.row("base film", "zdce", "decode, enhance, encode", "frames/s", rates, shape, "bfloat16")


def _training(session: Session, providers: tuple[str, ...]) -> None:
    """Steps of ``base`` by ``providers``, in turns."""
    batch, size = (2, 32) if session.tiny else (16, 256)
    image = steps.Job("time", (), (), batch, size).image().to(session.device)
    clock, measured, known = Clock(session.device), {}, steps.providers(session.device)
    for name in filter(known.__contains__, providers):  # graphs are a GPU's
        try:
            trainer = steps.trainer(known[name], "base", image)
            for _ in range(known[name].warm_up):
                trainer.step()
        except Exception as error:  # as above
            session.failed(f"{name} in training", error)
            continue
        measured[name] = trainer.timed(clock)
    times = {name: [sum(run) for run in runs] for name, runs in rounds(measured, 0.0 if session.tiny else 3.0, 3).items()}
    shape = f"{batch}x3x{size}x{size}"
    for name, seconds in times.items():
        dtype = known[name].dtype
        session.row("base training", name, "time", "ms", [1e3 * s for s in seconds], shape, dtype)
        if "eager" in times and name != "eager":
            ratio = spread(times["eager"])[0] / spread(seconds)[0]
            session.row("base training", name, "speed_over_eager", "ratio", [ratio], shape, dtype)


def _study(session: Session) -> None:
    """Seconds of the nine trainings of ``zdce study``, from a step of each: pictures, validation and measuring are left out."""
    study = replace(Settings(), device=session.device)
    study = replace(study, variants=study.variants[:2], size=32, batch_size=2) if session.tiny else study
    updates = study.epochs * (_TRAINING_PICTURES // study.batch_size)
    runs = [updates * seconds_a_step(study.config(variant, 0)) for variant in study.variants]
    shape = f"{len(runs)} runs x {updates} x {study.batch_size}x3x{study.size}x{study.size}"
    session.row("study", "zdce", "training time, extrapolated from a step of each run", "s", [sum(runs)], shape, "float32")


# The report.


_TOOLS, _PROGRAMS = ("memcheck", "racecheck"), ("cuda", "triton")


def report(folder: Path) -> bool:
    """Combines the files of ``folder`` to gpu.json and gpu.md; whether all tests ran and passed."""
    measured, tests = _json(folder / "bench.json"), _tests(folder / "tests.xml", folder / "tests.log")
    content = {
        "facts": _json(folder / "facts.json"), "tests": tests,
        "sanitizers": {
            f"{tool} {program}": _sanitizer(folder / f"{tool}-{program}.log") for tool in _TOOLS for program in _PROGRAMS
        },
        **measured,
    }  # fmt: skip
    atomic.write_text(folder / "gpu.json", json.dumps(content, indent=1))
    atomic.write_text(folder / "gpu.md", _markdown(content))
    return not tests["failed"] and not tests["left out"]


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.is_file() else {}


def _sanitizer(path: Path) -> str:
    """How far the program came, and the tool's summary."""
    lines = [line.strip("= ") for line in path.read_text().splitlines()] if path.is_file() else []
    came = next((line for line in reversed(lines) if re.search(r": part \d+ of \d+, ", line)), None)
    summary = next((line for line in reversed(lines) if "SUMMARY" in line), None)
    told = [line for line in (came, summary) if line]
    return "; ".join(told) if told else lines[-1] if lines else "not run"


def _tests(path: Path, log: Path) -> dict[str, Any]:
    """Counts and failures from pytest's JUnit file, and the number of tests that were left out when the time was up."""
    if not path.is_file():
        return _logged_tests(log.read_text() if log.is_file() else "")
    suites = list(ElementTree.parse(path).iter("testsuite"))
    found = [case for suite in suites for case in suite.iter("testcase")]
    # pytest-xdist calls it an internal error if it is stopped while it waits for its workers. A collection of tests that is
    # stopped has no name.
    internal = {(None, None), ("pytest", "internal")}
    cases = [case for case in found if (case.get("classname"), case.get("name")) not in internal]
    failed = [c for c in cases if c.find("failure") is not None or c.find("error") is not None]
    skipped = [c for c in cases if c.find("skipped") is not None]
    late = [c for c in skipped if TIME_UP in _message(c)]
    # Those that had not ended when it was stopped are not in the file.
    asked = _asked(log.read_text() if log.is_file() else "")
    names = [f"{c.get('classname')}::{c.get('name')}" for c in failed] if cases else ["no test began: see tests.log"]
    return {
        "ran": len(cases) - len(skipped), "skipped": len(skipped) - len(late), "failed": names,
        "left out": len(late) + max(0, asked - len(cases)),
        "seconds": sum(float(suite.get("time", 0)) for suite in suites),
    }  # fmt: skip


# Lines of `pytest -v`, with and without pytest-xdist.
_RESULTS = re.compile(
    r"^(?:\[gw\d+\] \[ *\d+%\] )?(?:(PASSED|FAILED|ERROR|SKIPPED) )?(tests/.*?)(?: (PASSED|FAILED|ERROR|SKIPPED)\b.*)?$", re.M
)


def _asked(log: str) -> int:
    """Number of tests that pytest meant to run, with and without pytest-xdist; 0 if it did not come so far."""
    found = re.findall(r"(?:workers? \[(\d+) items?\]|collected (\d+) items?|/ (\d+) selected)$", log, re.M)
    return max((int(number) for numbers in found for number in numbers if number), default=0)


def _logged_tests(log: str) -> dict[str, Any]:
    """Counts and failures from pytest's own lines, where it was killed before it wrote its file."""
    results = {name.strip(): before or after for before, name, after in _RESULTS.findall(log) if before or after}
    skipped = sum(result == "SKIPPED" for result in results.values())
    failed = [name for name, result in results.items() if result in ("FAILED", "ERROR")]
    return {
        "ran": len(results) - skipped, "skipped": skipped, "failed": failed if results else ["no test ended: see tests.log"],
        "left out": max(0, _asked(log) - len(results)),
        "seconds": float(os.environ.get("TEST_SECONDS", "120")),
    }  # fmt: skip


def _message(case: ElementTree.Element) -> str:
    skipped = case.find("skipped")
    return "" if skipped is None else skipped.get("message", "")


def _markdown(content: dict[str, Any]) -> str:
    told, card, tests = content["facts"], content["facts"].get("card", {}), content["tests"]
    clocks = [card.get("clocks.sm", "?"), content.get("card after", {}).get("clocks.sm", "?"), card.get("clocks.max.sm", "?")]
    versions = ", ".join(f"{name} {told[name]}" for name in ("zdce", "torch", "triton", "cuda", "python") if told.get(name))
    lines = [
        f"### {told.get('gpu', 'no GPU')}", "",
        f"{told.get('time')}; driver {card.get('driver_version', '?')}; SM clock {clocks[0]} before, {clocks[1]} after, at most"
        f" {clocks[2]}; {versions}.", "",
        f"Tests: {_counted(tests)}, {len(tests['failed'])} failed, {tests.get('skipped', 0)} skipped."
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


def _counted(tests: Mapping[str, Any]) -> str:
    if not tests["left out"]:
        return f"{tests['ran']} ran"
    total = tests["ran"] + tests.get("skipped", 0) + tests["left out"]
    return f"stopped after {tests['seconds']:.0f} seconds, {total - tests['left out']} of {total} ran or were skipped"


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
        sys.exit(not report(asked.out))
    else:
        measure(Session(asked.out, asked.device, asked.tiny, time.monotonic() + asked.seconds))


if __name__ == "__main__":
    main()
