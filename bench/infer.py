"""``zdce bench infer``: whole networks in several engines, each in its own process, in turns, on the same picture.

All results are checked against float64 first. Each round also measures multiply-adds on registers, the limit of arithmetic.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zdce import reference
from zdce.convert import exporting
from zdce.convert.exporting import ExportOptions
from zdce.enhancement import video
from zdce.enhancement.smoothing import Smoothing
from zdce.errors import InputError
from zdce.io.images import Pixels
from zdce.models import guided_scene, illumination
from zdce.models.engine import computed_precision
from zdce.models.network import DCENet, load
from zdce.models.variants import ILLUMINATION, Variant
from zdce.runtime import allocator, progress, system
from zdce.settings import LEVELS

from . import arithmetic, clip, memory
from .engine_process import EngineProcess
from .engines import (
    ENGINES,
    FMA_PEAK,
    MODES,
    NETWORK,
    PICTURE,
    SCALED,
    VIDEO,
    Task,
    Textbook,
    clip_file,
    dark_picture,
    scale_in,
)
from .processes import CLEARED, KEEP_FREED_MEMORY, Outcome, described
from .rows import VERSION, Row, spread
from .timing import rounds

SUITE = "infer"
DTYPES = {"fp32": "float32", "bf16": "bfloat16"}

# Variables that limit the engines to an instruction set, except ONNX Runtime. torch.compile follows ATEN_CPU_CAPABILITY,
# OpenVINO the variable of oneDNN, which it contains.
ISAS = {"avx2": {"ZDCE_ISA": "avx2", "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}}

# Variables of the caller's shell that would affect some of the engines.
_CLEARED = {
    *CLEARED, *(name for isa in ISAS.values() for name in isa), "DNNL_MAX_CPU_ISA",
    *(f"OMP_{name}" for name in ("NUM_THREADS", "WAIT_POLICY", "PROC_BIND", "PLACES", "DYNAMIC")),
}  # fmt: skip

# Largest error without rounding, in levels of 255. float32: 1e-4 of the range, as for single operations. bfloat16: 8 bits make
# a relative error of a hundredth in the logits, and of 1 or 2 levels in the result, in PyTorch too.
TOLERANCES = {"fp32": 1e-4 * 255, "bf16": 5.0}

# Largest error of denoised pictures: zdce rounds them before denoising, other engines do not, and that decides which pixels of
# white noise count as similar; the worst pixel of a megapixel differs by 32 levels. Mode ``network`` has no rounding and needs
# no such tolerance.
ROUNDED_TWICE = 40.0

# Largest mean error of denoised pictures. Measured: 0.35 to 0.38 with both roundings, 0.47 in bfloat16; 0.8 with a strength
# that is wrong by 2 %, 1.1 with a noise that is wrong by 20 %.
MEAN_TOLERANCES = {"fp32": 0.6, "bf16": 0.75}

# Largest mean error of a video, in levels of 255: the loss of the encoder, which mainly removes noise.
_VIDEO_TOLERANCE = 5.0

# Default sizes (H, W).
SIZES = {PICTURE: ((480, 640), (900, 1200)), SCALED: ((2160, 3840),), VIDEO: ((720, 1280),)}

# Seconds above which a call runs once per round.
_LONG = 0.25


@dataclass(frozen=True)
class Options:
    """Options of ``zdce bench infer``.

    Attributes:
        models: weights, by name or file; if empty, ``variants`` with random weights are measured.
        variants, engines, threads, precisions, modes: what is measured.
        sizes: sizes (H, W) of pictures; None: ``SIZES``.
        isa: one of ``ISAS``, or None for no limit.
        seconds: time to measure each setting for, in at least ``least`` rounds.
    """

    models: tuple[str, ...] = ()
    variants: tuple[str, ...] = ("base",)
    sizes: tuple[tuple[int, int], ...] | None = None
    threads: tuple[int, ...] = (1,)
    precisions: tuple[str, ...] = ("fp32",)
    modes: tuple[str, ...] = MODES
    engines: tuple[str, ...] = tuple(ENGINES)
    isa: str | None = None
    seconds: float = 6.0
    least: int = 5

    def groups(self) -> Iterator[tuple[tuple[str, ...], tuple[int, int]]]:
        """Modes that are measured together, with a size: ``picture`` and ``network`` are the same work."""
        still = tuple(mode for mode in self.modes if mode in (PICTURE, NETWORK))
        for modes, usual in ((still, PICTURE), ((SCALED,), SCALED), ((VIDEO,), VIDEO)):
            if set(modes) & set(self.modes) and any(set(modes) & set(ENGINES[name].modes) for name in self.engines):
                yield from ((modes, size) for size in self.sizes or SIZES[usual])


def quick() -> Options:
    """Options for a run in less than a minute."""
    uncompiled = tuple(name for name, engine in ENGINES.items() if not engine.compiles)
    return Options(sizes=((480, 640),), modes=("picture",), engines=uncompiled, seconds=0.0, least=3)


@dataclass(frozen=True)
class _Setting:
    """One comparison; ``truth`` is the enhanced image (1, 3, H, W) in float64, of a video the frames of ``clip.checked``."""

    model: DCENet
    truth: NDArray[np.float64]
    modes: tuple[str, ...]
    precision: str
    threads: int

    @property
    def size(self) -> tuple[int, int]:
        return self.truth.shape[2], self.truth.shape[3]

    @property
    def frames(self) -> int:
        """Of a call."""
        return clip.FRAMES if VIDEO in self.modes else 1

    @property
    def macs(self) -> int:
        """Multiply-adds of the network in one call, with direct convolutions."""
        scale = scale_in(self.modes[0], self.model) or self.model.variant.scale
        height, width = (-(-side // scale) for side in self.size)
        return self.frames * self.model.variant.macs * height * width


def run(options: Options) -> Outcome:
    """Measures; an engine that is not installed, fails or is wrong is left out with a note.

    Raises:
        FileNotFoundError, ValueError: of the model, or a size is below 16 pixels.
    """
    for modes, (height, width) in options.groups():
        if min(height, width) < 16:
            raise InputError(f"size must be at least 16 pixels, got {height}x{width}")
        if VIDEO in modes and (height % 2 or width % 2):
            raise InputError(f"size must be even for videos, got {height}x{width}")
    outcome = Outcome()
    if VIDEO in options.modes and (reason := video.why_missing()):
        outcome.notes.append(f"{VIDEO} is left out: {reason}")
        options = replace(options, modes=tuple(mode for mode in options.modes if mode != VIDEO))
    if reason := memory.why_missing("cpu"):
        outcome.notes.append(f"peak memory is left out: {reason}")
    if reason := arithmetic.why_missing():
        outcome.notes.append(f"the share of the FMA peak is left out: {reason}")
    with tempfile.TemporaryDirectory() as folder:
        networks = len(options.models or options.variants)
        total = networks * len(list(options.groups())) * len(options.precisions) * len(options.threads)
        for setting in progress.track(_settings(options, Path(folder), outcome), total, SUITE):
            _Comparison(options, setting, folder, outcome).run()
    outcome.notes = list(dict.fromkeys(outcome.notes))
    return outcome


def _settings(options: Options, folder: Path, outcome: Outcome) -> Iterator[_Setting]:
    """All comparisons; the files of each replace the former ones in ``folder``."""
    models = map(load, options.models) if options.models else map(random_network, options.variants)
    for model in models:
        model.save(folder / "net.safetensors")
        _export(options, model, folder, outcome)
        for modes, (height, width) in options.groups():
            with allocator.memory_given_back():
                expected = _truth(model, modes, height, width, folder)
            for precision in options.precisions:
                for threads in options.threads:
                    yield _Setting(model, expected, modes, precision, threads)


def random_network(variant: str | Variant) -> DCENet:
    """A network with the same random weights at every call, scaled so that its logits on noise have the deviation 1."""
    torch.manual_seed(0)
    model = DCENet(variant).eval()
    with torch.no_grad():
        deviation = model(torch.rand(1, 3, 64, 64)).std()
        last = [p for p in model.convolutions[-1].parameters() if p.dim() == 4][-1]
        last.div_(deviation)
    return model


def _truth(model: DCENet, modes: tuple[str, ...], height: int, width: int, folder: Path) -> NDArray[np.float64]:
    if VIDEO in modes:
        path = clip_file(Task("", str(folder), height, width, 1))
        clip.write(path, height, width)
        return film_truth(model, path)
    return scaled_truth(model, dark_picture(height, width)) if SCALED in modes else truth(model, height, width)


def _exact(model: DCENet) -> DCENet:
    exact = DCENet(model.variant).double().eval()
    exact.load_state_dict(model.state_dict())
    return exact


def truth(model: DCENet, height: int, width: int) -> NDArray[np.float64]:
    """The enhanced ``dark_picture`` in float64, (1, 3, H, W)."""
    image = torch.from_numpy(dark_picture(height, width)).permute(2, 0, 1)[None].double() / 255
    with torch.inference_mode():
        return Textbook(_exact(model), NETWORK)(image).numpy()


@torch.inference_mode()
def scaled_truth(model: DCENet, picture: Pixels) -> NDArray[np.float64]:
    """``picture`` (H, W, 3), enhanced at the scale of mode ``scale-12``, in float64, (1, 3, H, W)."""
    values = torch.from_numpy(picture).double() / 255
    return _applied(model, values, _small_maps(_exact(model), values))


def film_truth(model: DCENet, path: Path) -> NDArray[np.float64]:
    """The frames of ``clip.checked``, enhanced in float64 with maps smoothed as for a video, (3, 3, H, W)."""
    exact, smoothing = _exact(model), Smoothing(partial(_formed_array, model))
    pictures: list[Pixels] = []
    maps: list[NDArray[Any]] = []
    with torch.inference_mode():
        for pixels, time in clip.read(path):
            pictures.append(pixels)
            maps.append(smoothing(_small_maps(exact, torch.from_numpy(pixels).double() / 255).numpy(), pixels, time))
        pairs = zip(clip.checked(pictures), clip.checked(maps), strict=True)
        return np.concatenate([_applied(model, torch.from_numpy(p).double() / 255, torch.from_numpy(m)) for p, m in pairs])


def _formed_array(model: DCENet, picture: NDArray[Any], maps: NDArray[Any]) -> NDArray[Any]:
    """``picture`` (h, w, 3) in [0, 1] with the curves or illumination of ``maps`` (1, C, h, w), in float64."""
    return _formed(model, torch.from_numpy(picture).double(), torch.from_numpy(maps), 1, False).numpy()


def _formed(model: DCENet, values: Tensor, maps: Tensor, scale: int, align_corners: bool) -> Tensor:
    """``values`` (H, W, 3) in [0, 1] with the curves or illumination of ``maps`` (1, C, ceil(H / scale), ceil(W / scale))."""
    if model.variant.formula == ILLUMINATION:
        return illumination.divided_picture(values, maps, scale, align_corners=align_corners)
    return reference.enhance_picture(values, maps, model.variant.iterations, scale, align_corners, 1.0, False)


def _small_maps(exact: DCENet, values: Tensor) -> Tensor:
    """Curve maps (1, C, h, w) of ``values`` (H, W, 3) in [0, 1] at the scale of ``scale-12`` and ``video``."""
    scale, image = video.own_scale(exact.variant), values.permute(2, 0, 1)[None]
    small = reference.reduce_picture(values, scale, antialias=not exact.variant.published_sampling)
    if exact.variant.guided:
        seen = guided_scene.thumbnail(image, guided_scene.seen_scale(image.shape[2], image.shape[3], scale))
        return exact.guided_maps(small, reference.apply_curve, seen)
    return torch.tanh(exact(small)) * exact.scene_strength(image, reference.apply_curve)


# Rows of maps that are interpolated at a time: those of a large picture would take gigabytes in float64.
_STRIP = 8


def _applied(model: DCENet, values: Tensor, maps: Tensor) -> NDArray[np.float64]:
    """``values`` (H, W, 3), enhanced with ``maps`` (1, C, h, w), (1, 3, H, W)."""
    scale = video.own_scale(model.variant)
    if model.variant.published_sampling:  # three maps, whose corners are those of the whole picture
        return _denoised(model, values, _formed(model, values, maps, scale, True))
    strips = []
    for top in range(0, maps.shape[2], _STRIP):
        first = max(0, top - 1)  # interpolation also reads the row above
        rows = slice(first * scale, min(len(values), (top + _STRIP + 1) * scale))
        strip = _formed(model, values[rows], maps[:, :, first : top + _STRIP + 1], scale, False)
        strips.append(strip[(top - first) * scale :][: _STRIP * scale])
    return _denoised(model, values, torch.cat(strips))


def _denoised(model: DCENet, values: Tensor, enhanced: Tensor) -> NDArray[np.float64]:
    """``enhanced`` (H, W, 3) from ``values`` (H, W, 3), denoised if the network's variant denoises, (1, 3, H, W)."""
    noise = model.variant.noise
    levels = torch.tensor([noise / LEVELS, 0.0], dtype=torch.float64)
    done = reference.denoise_picture(values, enhanced, levels) if noise else enhanced
    return done.permute(2, 0, 1)[None].numpy()


def _export(options: Options, model: DCENet, folder: Path, outcome: Outcome) -> None:
    """Writes the files of `zdce export` that the engines read, and removes former ones."""
    readers = [e for e in map(ENGINES.get, options.engines) if e and e.exported and e.why_missing("fp32", None) is None]
    for suffix in {engine.exported for engine in readers}:
        for mode in [mode for mode in options.modes if any(mode in engine.modes for engine in readers)]:
            file = folder / f"{mode}{suffix}"
            file.unlink(missing_ok=True)
            try:
                form = ExportOptions(scale=scale_in(mode, model), uint8=mode != NETWORK)
                file.write_bytes(exporting.content(model, suffix, form))
            except Exception as error:  # the exporter may raise anything
                outcome.notes.append(f"no {suffix} file of {model.variant.name}: {described(error)}")


def error(result: NDArray[Any], expected: NDArray[np.float64]) -> float:
    """Largest difference in levels of 255; for a picture, (H, W, 3) uint8, minus half a level of rounding.

    For frames of a video, (frames, H, W, 3), the mean difference.
    """
    if len(expected) > 1:
        return mean_error(result, expected)
    return exporting.error(result[None] if result.dtype == np.uint8 else result, expected)


def mean_error(result: NDArray[Any], expected: NDArray[np.float64]) -> float:
    """Mean difference in levels of 255, with rounding, for the same arguments as ``error``."""
    pictures = result.dtype == np.uint8
    levels = 255 * (expected.transpose(0, 2, 3, 1) if pictures else expected)
    values = result if len(expected) > 1 else result[None] if pictures else 255.0 * result
    return float(np.abs(values - levels).mean()) if values.shape == levels.shape else float("inf")


class _Comparison:
    """Measurement of all engines with one setting."""

    def __init__(self, options: Options, setting: _Setting, folder: str, outcome: Outcome) -> None:
        self.options, self.setting, self.outcome = options, setting, outcome
        height, width = setting.size
        self.task = Task("", folder, height, width, setting.threads, setting.precision, setting.modes)
        inherited = {name: value for name, value in os.environ.items() if name not in _CLEARED}
        self.environment = {**inherited, **KEEP_FREED_MEMORY, **ISAS.get(options.isa or "", {})}
        self.suite = SUITE if options.isa is None else f"{SUITE}-{options.isa}"

    def run(self) -> None:
        with ExitStack() as stack:
            # All processes prepare at the same time, before the measurements.
            started = {name: self._start(name, stack) for name in self._names()}
            said = {name: self._ready(name, process) for name, process in started.items()}
            ready = {name: process for name, process in started.items() if said[name] is not None}
            entered = [(n, mode) for n in ready if n != FMA_PEAK for mode in self._modes(n) if self._right(n, mode, ready[n])]
            turns = [*entered, *((FMA_PEAK, FMA_PEAK) for _ in [0] if FMA_PEAK in ready)]
            measured = {f"{name} {mode}": partial(self._turn, name, mode, ready[name]) for name, mode in turns}
            times = rounds(measured, self.options.seconds, self.options.least, _LONG)
        seconds = {turn: [run[0] for run in times[" ".join(turn)]] for turn in turns}
        seconds = {turn: own for turn, own in seconds.items() if not np.isnan(own).any()}
        peak = self._peak(seconds.pop((FMA_PEAK, FMA_PEAK), None), said.get(FMA_PEAK))
        for (name, mode), own in seconds.items():
            self._timed(name, mode, own, seconds.get(("zdce", mode)), peak)
        for name, mode in entered:
            if mode == self.setting.modes[0] and (words := said[name]) and words["peak_memory"] is not None:
                self._row(name, mode, "peak_memory", "MiB", [words["peak_memory"]])

    def _modes(self, name: str) -> tuple[str, ...]:
        return tuple(mode for mode in self.setting.modes if mode in ENGINES[name].modes)

    def _names(self) -> list[str]:
        names = []
        if self.setting.precision == "bf16" and (self.options.isa or computed_precision("bf16") == "fp32"):
            self.outcome.notes.append("without a matrix unit zdce computes bf16 in float32; the errors show which others do")
        for name in filter(self._modes, self.options.engines):
            if reason := ENGINES[name].why_missing(self.setting.precision, self.options.isa):
                self.outcome.notes.append(f"{name} is left out ({self.setting.precision}): {reason}")
            else:
                names.append(name)
            if self.options.isa and not reason and not ENGINES[name].limited:
                self.outcome.notes.append(f"{name} can't be held to {self.options.isa}: it uses all that the processor has")
        return [*names, *([FMA_PEAK] if arithmetic.why_missing() is None else [])]

    def _start(self, name: str, stack: ExitStack) -> EngineProcess:
        return stack.enter_context(EngineProcess(replace(self.task, engine=name), self.environment))

    def _ready(self, name: str, process: EngineProcess) -> dict[str, Any] | None:
        try:
            said = process.ready()
        except ChildProcessError as problem:
            said = {"failed": str(problem)}
        if "failed" in said:
            self.outcome.notes.append(f"{name} is left out of {self._where()}: {said['failed']}")
            return None
        return said

    def _right(self, name: str, mode: str, process: EngineProcess) -> bool:
        result, truth, precision = process.result(mode), self.setting.truth, self.setting.precision
        denoised = self.setting.model.variant.noise > 0 and mode != NETWORK
        tolerated = (_VIDEO_TOLERANCE if mode == VIDEO else TOLERANCES[precision]) + ROUNDED_TWICE * denoised
        found = {"error": ("", error(result, truth), tolerated)}
        if denoised and mode != VIDEO:
            found["mean_error"] = (" on average", mean_error(result, truth), MEAN_TOLERANCES[precision])
        for metric, (how, value, most) in found.items():
            self._row(name, mode, metric, "levels of 255", [value])
            if not value <= most:
                self.outcome.wrong = True
                reason = f"it is {value:.3g} levels off{how}, {most:.3g} are tolerated"
                self.outcome.notes.append(f"{name} is wrong in {self._where()} ({mode}) and not timed: {reason}")
        return all(value <= most for _, value, most in found.values())

    def _turn(self, name: str, mode: str, process: EngineProcess) -> tuple[float, ...]:
        """Seconds of a call; NaN if the process ended, because of an error or lack of memory."""
        try:
            return (process.seconds(mode),)
        except ChildProcessError as problem:
            self.outcome.notes.append(f"{name} is left out of {self._where()} ({mode}): {problem}")
            return (float("nan"),)

    def _where(self) -> str:
        height, width = self.setting.size
        return f"{self.setting.model.variant.name} {height}x{width} {self.setting.precision}"

    def _peak(self, seconds: list[float] | None, said: Mapping[str, Any] | None) -> float | None:
        """Multiply-adds per second."""
        if seconds is None or said is None:
            return None
        self._row(FMA_PEAK, FMA_PEAK, "arithmetic", "GMAC/s", [said["multiply_adds"] / s / 1e9 for s in seconds])
        return said["multiply_adds"] / spread(seconds)[0]

    def _timed(self, name: str, mode: str, seconds: list[float], ours: list[float] | None, peak: float | None) -> None:
        (height, width), frames = self.setting.size, self.setting.frames
        self._row(name, mode, "time", "ms", [1e3 * s for s in seconds])
        self._row(name, mode, "frames_per_second", "1/s", [frames / s for s in seconds])
        self._row(name, mode, "megapixels_per_second", "MP/s", [frames * height * width / s / 1e6 for s in seconds])
        if peak is not None:
            self._row(name, mode, "peak_share", "of the FMA peak", [self.setting.macs / s / peak for s in seconds])
        if ours is not None and name != "zdce":
            self._row(name, mode, "time_over_zdce", "x", [spread(seconds)[0] / spread(ours)[0]])

    def _row(self, name: str, mode: str, metric: str, unit: str, values: list[float]) -> None:
        height, width = self.setting.size
        limits = ", any instruction set" if name in ENGINES and self.options.isa and not ENGINES[name].limited else ""
        version = VERSION + (ENGINES[name].versions if name in ENGINES else "") + limits
        self.outcome.rows.append(
            Row.of(
                self.suite, self.setting.model.variant.name, name, mode, metric, unit, values,
                f"{self.setting.frames}x3x{height}x{width}", DTYPES[self.setting.precision], self.setting.threads,
                system.processor(), version,
            )
        )  # fmt: skip


# Columns of the printed table.

_METRICS = {
    "ms": "time", "frames/s": "frames_per_second", "MP/s": "megapixels_per_second", "share": "peak_share",
    "x zdce": "time_over_zdce", "error": "error", "MiB": "peak_memory",
}  # fmt: skip
COLUMNS = ("threads", "provider", "ms", "20-80 %", *(name for name in _METRICS if name != "ms"))


def tables(rows: Iterable[Row]) -> dict[str, list[list[str]]]:
    """Tables by network, size, precision and mode: a line for each provider and number of threads, with ``COLUMNS``."""
    found: dict[tuple[str, ...], dict[tuple[int | None, str], dict[str, Row]]] = {}
    for row in rows:
        if row.provider != FMA_PEAK:
            key = (row.suite, row.case, row.shape, row.dtype, row.mode)
            found.setdefault(key, {}).setdefault((row.threads, row.provider), {})[row.metric] = row
    return {
        " ".join(key): [[str(threads), name, *_cells(metrics)] for (threads, name), metrics in lines.items()]
        for key, lines in found.items()
    }


def _cells(found: Mapping[str, Row]) -> list[str]:
    def cell(metric: str) -> str:
        row = found.get(metric)
        if row is None:
            return ""
        return f"{row.value:.2g}" if metric == "error" else f"{row.value:.2f}"

    time = found.get("time")
    between = "" if time is None or time.p20 is None else f"{time.p20:.1f}-{time.p80:.1f}"
    first, *rest = map(cell, _METRICS.values())
    return [first, between, *rest]


def peaks(rows: Iterable[Row]) -> list[str]:
    """A line for each number of threads with the measured peak of multiply-adds, a median."""
    found: dict[tuple[str, int | None], list[float]] = {}
    for row in rows:
        if row.provider == FMA_PEAK:
            found.setdefault((row.suite, row.threads), []).append(row.value)
    return [
        f"{suite}: the FMA peak of {threads} thread{'' if threads == 1 else 's'} is {spread(values)[0]:.1f} GMAC/s in float32"
        for (suite, threads), values in found.items()
    ]
