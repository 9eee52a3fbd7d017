"""``zdce bench infer --device cuda``: whole networks on a GPU, from uint8 pictures there to the same, beside PyTorch.

``python -P -m zdce.bench.infer_gpu '{...}'``, the fields of Job; prints rows as JSON. The first and the last picture of every
provider's results are checked against float64 at the measured size. With ``device="cpu"`` all steps run without a GPU.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zdce import backends
from zdce.enhancement.enhancer import Enhancer
from zdce.errors import InputError
from zdce.models import fused_network
from zdce.models.network import DCENet, load
from zdce.models.variants import Variant
from zdce.ops import dispatch
from zdce.runtime import float32, progress, system
from zdce.runtime.cuda_graph import CudaGraph
from zdce.settings import LEVELS

from . import infer, memory, network_costs
from .engines import NETWORK, PICTURE, Textbook, dark_picture
from .gpus import GPUS, check_device
from .processes import KEEP_FREED_MEMORY, JsonJob, Outcome, measured
from .rows import Row, spread
from .timing import Clock, Timed, rounds

SIZES = ((1080, 1920), (2160, 3840))

# A matrix product in bfloat16, whose rate is the measured peak of the tensor cores.
PEAK = "matmul-peak"
_PEAK_SIDE = {"cpu": 128, "cuda": 8192}

_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

# Largest errors in levels of 255, without rounding and on average with it. PyTorch's peers also compute the curve in bfloat16.
# Measured at 480x270: 3.1 and 0.37 levels, denoised 36 and 0.91.
_TOLERANCES = {**infer.TOLERANCES, "bf16": 8.0}
_MEAN_TOLERANCES = {**infer.MEAN_TOLERANCES, "bf16": 1.2}

# Calls before the measurement: zdce captures a CUDA graph in the second one, torch.compile too.
_WARM_UP = 3

# From uint8 pictures (B, H, W, 3) to the same, on the device; the result is valid until the next call.
Pictures = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Job(JsonJob):
    """Work of one process.

    Attributes:
        models: weights, by name or file; if empty, ``variants`` with random weights are measured.
        variants, precisions, providers: names.
        shapes: (B, H, W) of pictures that are computed together.
        seconds: time to measure each network and shape for, in at least ``least`` rounds.
        device: ``cuda``, or ``cpu`` to try it.
        suite: suite of the rows.
    """

    models: tuple[str, ...] = ()
    variants: tuple[str, ...] = ("base",)
    shapes: tuple[tuple[int, int, int], ...] = tuple((1, *size) for size in SIZES)
    precisions: tuple[str, ...] = ("fp32", "bf16")
    providers: tuple[str, ...] = ()
    seconds: float = 3.0
    least: int = 5
    device: str = "cuda"
    suite: str = infer.SUITE

    def networks(self) -> Iterator[DCENet]:
        return map(load, self.models) if self.models else map(infer.random_network, self.variants)


def quick() -> Job:
    """A job of some seconds, without compilation."""
    return Job(shapes=((1, *SIZES[0]),), providers=UNCOMPILED, seconds=0.0, least=3)


def run(job: Job) -> Outcome:
    """Measures in a process of its own; a provider that can't run or is wrong is left out with a note.

    Raises:
        InputError: torch sees no GPU, or a size is below 16 pixels.
        FileNotFoundError, ValueError: of a model.
        ChildProcessError: the measuring process failed.
    """
    for _, height, width in job.shapes:
        if min(height, width) < 16:
            raise InputError(f"size must be at least 16 pixels, got {height}x{width}")
    for name in job.models:
        load(name)
    check_device(job.device)
    return measured("infer_gpu", job.to_json(), KEEP_FREED_MEMORY, "whole networks on a GPU")


def _zdce(backend: str, model: DCENet, precision: str) -> Pictures:
    enhancer = Enhancer(model, precision=precision, noise=model.variant.noise)

    def call(pictures: Tensor) -> Tensor:
        with backends.backend(backend):  # around every call: the first one chooses between the single kernel and layers
            return enhancer.pictures(pictures)

    return call


def _torch(layout: torch.memory_format, compiled: bool, model: DCENet, precision: str) -> Pictures:
    textbook: Pictures = Textbook(model.to(_TYPES[precision]), PICTURE, layout).eval()
    if compiled:
        textbook = torch.compile(textbook, mode="max-autotune", dynamic=False)

    def call(pictures: Tensor) -> Tensor:
        with backends.backend("reference"):
            return textbook(pictures)

    return call


def _graphed(model: DCENet, precision: str) -> Pictures:
    """PyTorch's layers as one CUDA graph for each shape."""
    function = _torch(torch.channels_last, False, model, precision)
    held: dict[torch.Size, tuple[CudaGraph, Tensor, Tensor]] = {}

    def call(pictures: Tensor) -> Tensor:
        if pictures.shape not in held:
            held[pictures.shape] = _captured(function, pictures)
        graph, given, result = held[pictures.shape]
        given.copy_(pictures)
        graph.replay()
        return result

    return call


def _captured(function: Pictures, pictures: Tensor) -> tuple[CudaGraph, Tensor, Tensor]:
    """A graph of ``function``, its input and its result."""
    given, graph = pictures.clone(), CudaGraph(pictures.device)
    graph.warm_up(partial(function, given))
    return graph, given, graph.capture(partial(function, given))


@dataclass(frozen=True)
class Provider:
    """A way to enhance pictures.

    Attributes:
        build: from a network that it may change, and a precision.
        precisions: those that it is measured in.
        compiles: whether the first call compiles.
        graphs: whether it needs a GPU's graphs.
    """

    build: Callable[[DCENet, str], Pictures]
    precisions: tuple[str, ...] = ("fp32", "bf16")
    compiles: bool = False
    graphs: bool = False


# zdce by its own choice, and without the kernel for whole networks; PyTorch in the ways that make it fast.
PROVIDERS = {
    "zdce": Provider(partial(_zdce, "auto")),
    "zdce-layers": Provider(partial(_zdce, "triton"), ("bf16",)),
    "torch": Provider(partial(_torch, torch.contiguous_format, False)),
    "torch-channels-last": Provider(partial(_torch, torch.channels_last, False), ("bf16",)),
    "torch-graph": Provider(_graphed, ("bf16",), graphs=True),
    "torch-compile": Provider(partial(_torch, torch.channels_last, True), compiles=True),
}
UNCOMPILED = tuple(name for name, provider in PROVIDERS.items() if not provider.compiles)


def matmul(device: str) -> tuple[Callable[[], Tensor], float]:
    """A product of two square matrices in bfloat16, and its number of multiplications and additions."""
    side = _PEAK_SIDE[device]
    a, b = (torch.randn(side, side, device=device).bfloat16() for _ in range(2))
    return lambda: a @ b, 2.0 * side**3


def predicted(variant: Variant, card: str, size: tuple[int, int]) -> float | None:
    """Least seconds of a picture of ``size`` (H, W) on the GPU named ``card``, by counting as in ``zdce bench static``.

    None if the kernel for whole networks has no code for the variant, or the GPU's limits are not known. An H200 has the
    multiprocessors of an H100.
    """
    name = card.replace("H200", "H100")
    gpu = next((gpu for gpu in GPUS.values() if gpu.name in name and gpu.arch in network_costs.CLOCK), None)
    if gpu is None or variant.scale > 1 or not fused_network.takes(variant):
        return None
    cost = network_costs.cost(variant, gpu, size)
    return None if cost is None else cost.seconds


def darker_pictures(batch: int, height: int, width: int) -> NDArray[np.uint8]:
    """The same pictures (B, H, W, 3) at every call: scenes that ``adaptive`` and ``local`` brighten, as they would not the
    brighter ``dark_picture``.
    """
    return dark_picture(batch * height, width).reshape(batch, height, width, 3) // 2


class _Comparison:
    """All providers with one network and one shape."""

    def __init__(self, job: Job, model: DCENet, shape: tuple[int, int, int], device: str, outcome: Outcome) -> None:
        self.job, self.model, self.shape, self.device, self.outcome = job, model, shape, device, outcome
        self.pictures = torch.from_numpy(darker_pictures(*shape)).to(job.device)
        self.chosen = {
            (name, precision): PROVIDERS[name]
            for precision in job.precisions
            for name in job.providers or PROVIDERS
            if precision in PROVIDERS[name].precisions and (job.device != "cpu" or not PROVIDERS[name].graphs)
        }

    @torch.inference_mode()
    def run(self) -> None:
        checked = {0, len(self.pictures) - 1}
        truths = {index: self._truth(index) for index in checked}
        ready = {key: function for key in self.chosen if (function := self._ready(key, truths)) is not None}
        del truths
        clock = Clock(self.job.device)
        turns = {key: partial(clock.intervals, partial(function, self.pictures)) for key, function in ready.items()}
        product, operations = matmul(self.job.device)
        turns[PEAK, "bf16"] = partial(clock.intervals, product)
        times = self._times(turns)
        peak = [operations / seconds for seconds in times.pop((PEAK, "bf16"))]
        self._row((PEAK, "bf16"), "rate", "TFLOP/s", [1e-12 * rate for rate in peak])
        for key, seconds in times.items():
            self._timed(key, seconds, times.get(("zdce", key[1])), spread(peak)[0])
        self._predict()

    def _times(self, turns: Mapping[tuple[str, str], Timed]) -> dict[tuple[str, str], list[float]]:
        found = rounds({" ".join(key): timed for key, timed in turns.items()}, self.job.seconds, self.job.least)
        return {key: [run[0] for run in found[" ".join(key)]] for key in turns}

    def _copy(self) -> DCENet:
        copied = DCENet(self.model.variant).eval()
        copied.load_state_dict(self.model.state_dict())
        return copied.to(self.job.device)

    def _truth(self, index: int) -> Tensor:
        """Levels of the enhanced picture ``index`` in float64, (H, W, 3)."""
        exact = Textbook(self._copy().double(), NETWORK)
        with backends.backend("reference"):
            return LEVELS * exact(self.pictures[index].permute(2, 0, 1)[None].double() / LEVELS)[0].permute(1, 2, 0)

    def _ready(self, key: tuple[str, str], truths: Mapping[int, Tensor]) -> Pictures | None:
        """The function of a provider after its first calls; None, with a note, if it fails or is wrong."""
        provider, device = self.chosen[key], self.job.device
        with self.outcome.leaving_out(f"{self._where(key)} is left out"):
            measurable = memory.why_missing(device) is None
            before = memory.used(device) if measurable else 0
            function = provider.build(self._copy(), key[1])
            if provider.compiles:
                function(self.pictures)
            if measurable:
                used = memory.peak(partial(self._warm_up, function), device, before)
                self._row(key, "peak_memory", "MiB", [used / 2**20])
            else:
                self._warm_up(function)
            if self._right(key, function(self.pictures), truths):
                return function
        return None

    def _warm_up(self, function: Pictures) -> tuple[Tensor, ...]:
        for _ in range(_WARM_UP):
            function(self.pictures)
        return ()  # results count as memory of the provider

    def _right(self, key: tuple[str, str], results: Tensor, truths: Mapping[int, Tensor]) -> bool:
        gaps = [(results[index].double() - truth).abs() for index, truth in truths.items()]
        denoised = self.model.variant.noise > 0
        largest = max(0.0, max(gap.max().item() for gap in gaps) - 0.5)
        mean = max(gap.mean().item() for gap in gaps)
        self._row(key, "error", "levels of 255", [largest])
        self._row(key, "mean_error", "levels of 255", [mean])
        most = _TOLERANCES[key[1]] + infer.ROUNDED_TWICE * denoised
        if largest <= most and mean <= _MEAN_TOLERANCES[key[1]]:
            return True
        self.outcome.wrong = True
        tolerated = f"{most:.3g} and {_MEAN_TOLERANCES[key[1]]:.3g} are tolerated"
        found = f"it is {largest:.3g} levels off, {mean:.3g} on average; {tolerated}"
        self.outcome.notes.append(f"{self._where(key)} is wrong and not timed: {found}")
        return False

    def _where(self, key: tuple[str, str]) -> str:
        return f"{key[0]} in {key[1]} ({self.model.variant.name} {'x'.join(map(str, self.shape))})"

    def _timed(self, key: tuple[str, str], seconds: list[float], ours: list[float] | None, peak: float) -> None:
        batch, height, width = self.shape
        scale = self.model.variant.scale
        products = batch * self.model.variant.macs * -(-height // scale) * -(-width // scale)
        self._row(key, "time", "ms", [1e3 * s for s in seconds])
        self._row(key, "frames_per_second", "1/s", [batch / s for s in seconds])
        self._row(key, "rate", "TFLOP/s", [2e-12 * products / s for s in seconds])
        self._row(key, "peak_share", "of the bf16 peak", [2 * products / s / peak for s in seconds])
        if ours is not None and key[0] != "zdce":
            self._row(key, "time_over_zdce", "x", [spread(seconds)[0] / spread(ours)[0]])

    def _predict(self) -> None:
        """Adds the prediction for the kernel, if zdce ran it."""
        batch, *size = self.shape
        if ("zdce", "bf16") in self.chosen and dispatch.why_missing("cuda", self.job.device, operator="apply_curve") is None:
            seconds = predicted(self.model.variant, self.device, (size[0], size[1]))
            if seconds is not None:
                self._row(("zdce", "bf16"), "least_time", "ms, predicted", [1e3 * batch * seconds])

    def _row(self, key: tuple[str, str], metric: str, unit: str, values: list[float]) -> None:
        batch, height, width = self.shape
        self.outcome.rows.append(
            Row.of(
                self.job.suite, self.model.variant.name, key[0], PICTURE, metric, unit, values,
                f"{batch}x3x{height}x{width}", infer.DTYPES[key[1]], None, self.device,
            )
        )  # fmt: skip


def measure(job: Job, outcome: Outcome) -> None:
    """Measures in this process and adds to ``outcome``; convolutions in float32 are not TF32."""
    device = system.processor() if job.device == "cpu" else torch.cuda.get_device_name(0)
    total = len(job.models or job.variants) * len(job.shapes)
    pairs = ((model, shape) for model in job.networks() for shape in job.shapes)
    with float32.convolutions("ieee"):
        for model, shape in progress.track(pairs, total, job.suite):
            if any(PROVIDERS[name].compiles for name in job.providers or PROVIDERS):  # or the compiler is imported for nothing
                torch.compiler.reset()
            try:
                _Comparison(job, model, shape, device, outcome).run()
            except torch.OutOfMemoryError:  # of pictures and their float64 results; the providers' own is noted there
                where = f"{model.variant.name} {'x'.join(map(str, shape))}"
                outcome.notes.append(f"{where} is left out: {device} has not enough memory to check it in float64")
    if reason := memory.why_missing(job.device):
        outcome.notes.append(f"peak memory is left out: {reason}")


# Columns of the printed table.

_METRICS = {
    "ms": "time", "least ms": "least_time", "pictures/s": "frames_per_second", "TFLOP/s": "rate", "share": "peak_share",
    "x zdce": "time_over_zdce", "error": "error", "MiB": "peak_memory",
}  # fmt: skip
COLUMNS = ("type", "provider", "ms", "20-80 %", *(name for name in _METRICS if name != "ms"))


def tables(rows: Iterable[Row]) -> dict[str, list[list[str]]]:
    """Tables by network and shape: a line for each provider and type, with ``COLUMNS``."""
    found: dict[str, dict[tuple[str, str], dict[str, Row]]] = {}
    for row in rows:
        lines = found.setdefault(f"{row.suite} {row.case} {row.shape}", {})
        lines.setdefault((row.dtype, row.provider), {})[row.metric] = row
    return {title: [[*key, *_cells(metrics)] for key, metrics in lines.items()] for title, lines in found.items()}


def _cells(found: Mapping[str, Row]) -> list[str]:
    time = found.get("time")
    between = "" if time is None or time.p20 is None else f"{time.p20:.3g}-{time.p80:.3g}"
    first, *rest = (f"{found[metric].value:.3g}" if metric in found else "" for metric in _METRICS.values())
    return [first, between, *rest]


def main() -> None:
    outcome = Outcome()
    measure(Job.from_json(sys.argv[1]), outcome)
    print(outcome.to_json())  # noqa: T201 (the answer)


if __name__ == "__main__":
    main()
