"""``zdce bench static``: facts about the GPU kernels without a GPU.

Registers, spills, shared memory and the widest access are reported by the compilers. The memory that a program touches,
relative to the minimum, is computed from the kernels' tiles. Occupancy and the least time for memory traffic are predictions
from published limits.
"""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from zdce.models import fused_network
from zdce.models.variants import VARIANTS

from . import cuda_kernels, network_costs
from .cases import CASES, DTYPES, Setting
from .gpus import GPUS, floor, occupancy
from .rows import Row

SUITE = "static"
TARGETS = tuple(f"sm_{arch}" for arch in GPUS)


@dataclass(frozen=True)
class Work:
    """Operation of a kernel, and the memory that its programs touch beyond their own values.

    Attributes:
        beside: rows and columns of maps read around a tile.
        extra: values of small grids and repeated reads, per pixel and colour.
        most: largest allowed ratio of touched memory to the minimum.
        columns: neighbouring pixels of a thread, if fixed: 4 are 16 bytes in float32 and 8 in half types, with which 32 threads
            still access whole cache lines.
    """

    case: str
    mode: str
    beside: tuple[int, int] = (0, 0)
    extra: float = 0.0
    most: float = 1.0
    columns: int = 8


# Each forward with tiles reads the row above (or below) and the column to the right, each backward all four sides, without
# corners. Region means are 1/16 of a plane: of each colour in Triton's forward, of all three together in CUDA's.
WORK = {
    "curve_forward": Work("apply_curve", "forward"),
    "curve_backward": Work("apply_curve", "backward"),
    "tv_forward": Work("illumination_smoothness", "forward", (1, 1), most=1.1, columns=4),
    "tv_backward": Work("illumination_smoothness", "backward", (2, 2), most=1.1, columns=4),
    "region_forward": Work("exposure_control", "forward", extra=1 / 48, most=1.1, columns=4),
    "region_backward": Work("exposure_control", "backward", extra=1 / 48, most=1.1),
    "channel_forward": Work("color_constancy", "forward"),
    "channel_backward": Work("color_constancy", "backward"),
    "statistics_forward": Work("zero_reference_objective", "forward", (1, 1), 2 / 16, 1.1),
    "statistics_backward": Work("zero_reference_objective", "backward", (2, 2), 1 / 16, 1.1),
    "objective_forward": Work("zero_reference_objective", "forward", (1, 1), 2 / 48, 1.1),
    "objective_backward": Work("zero_reference_objective", "backward", (2, 2), 1 / 48, 1.1),
    "curve_forward_pixels": Work("apply_curve", "forward"),
    "curve_backward_pixels": Work("apply_curve", "backward"),
    "objective_forward_pixels": Work("zero_reference_objective", "forward", (1, 1), 2 / 48, 1.1),
    "objective_backward_pixels": Work("zero_reference_objective", "backward", (2, 2), 1 / 48, 1.1),
}


# Triton kernels with several versions, and the constant that differs.
_VERSIONS = {"region": ("REGION",), "picture": ("COLUMNS",), "reduce": ("COLUMNS",), "scene": ("CHANNELS",)}


@dataclass(frozen=True)
class Outcome:
    """Rows of all kernels; ``faults`` name spills, and kernels that touch too much memory."""

    rows: list[Row]
    notes: list[str]
    faults: list[str]


def run(setting: Setting) -> Outcome:
    """Compiles all kernels of ``setting``'s type for every architecture.

    Raises:
        InputError: the GPU kernels do not support the type.
        ChildProcessError, OSError: a compiler failed.
    """
    facts, notes = [], []
    if importlib.util.find_spec("triton") is None:
        notes.append("the Triton kernels are left out: triton is not installed")
    else:
        triton = triton_kernels((setting.dtype,), TARGETS, setting.iterations, setting.height, setting.layout)
        facts += [{"provider": "triton", **fact} for fact in triton]
    if reason := cuda_kernels.why_missing():
        notes.append(f"the CUDA kernels are left out: {reason}")
    else:
        facts += [{"provider": "cuda", **fact} for fact in cuda_kernels.compiled()]
    rows = [row for fact in facts if fact["dtype"] in (setting.dtype, "any") for row in _rows(fact, setting)]
    rows += network_costs.rows([variant for variant in VARIANTS.values() if fused_network.takes(variant)])
    return Outcome(rows, notes, [fault for fact in facts for fault in _faults(fact, setting)])


def triton_kernels(
    dtypes: Iterable[str], targets: Iterable[str], iterations: int = 8, size: int = 256, layout: str = "contiguous"
) -> list[dict[str, Any]]:
    """Facts from Triton's compiler about each kernel, by target."""
    order, shape = list(targets), {"iterations": iterations, "size": size, "layout": layout}
    found = triton_facts([{"dtypes": list(dtypes), "targets": [target], **shape} for target in order])
    return sorted(found, key=lambda fact: order.index(fact["target"]))


def triton_facts(requests: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Facts about the kernels of ``requests``, the fields of ``triton_kernels.Request``, in any order.

    They come from processes in which Triton does not interpret, one a core.
    """
    processes = min(len(requests), os.cpu_count() or 1)
    with ThreadPoolExecutor(processes) as pool:
        shares = pool.map(_compiled, (requests[i::processes] for i in range(processes)))
        return [fact for facts in shares for fact in facts]


def _compiled(requests: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_DUMP_PTXAS_LOG": "1"}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "zdce.bench.triton_kernels", *map(json.dumps, requests)],
        stdout=subprocess.PIPE, text=True, check=False, env=environment,
    )  # fmt: skip
    if done.returncode != 0:
        raise ChildProcessError(f"Triton's compiler ended with exit code {done.returncode}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def label(fact: dict[str, Any]) -> str:
    """Name of the kernel, with the constants that distinguish its versions if there are several."""
    keys = ("N", "MAPS") if fact["provider"] == "cuda" else _VERSIONS.get(fact["kernel"].partition("_")[0], ())
    constants = [f"{key}={fact['constants'][key]}" for key in keys if key in fact["constants"]]
    return " ".join([fact["kernel"], *constants])


def touched(fact: dict[str, Any], setting: Setting) -> float | None:
    """Distinct bytes that a program touches, halo included, over the minimum for its pixels; None for small kernels."""
    work = WORK.get(fact["kernel"])
    if work is None:
        return None
    least = sum(CASES[work.case].traffic(setting, work.mode)) / DTYPES[setting.dtype].itemsize / setting.pixels / 3
    # Statistics are float32 for maps of all types.
    extra = work.extra * 4 / DTYPES[setting.dtype].itemsize
    rows, columns = _tile(fact["constants"])
    halo = setting.iterations * (work.beside[0] / rows + work.beside[1] / columns)
    return (least + halo + extra) / least


def _tile(constants: dict[str, int]) -> tuple[float, float]:
    """Rows and columns of a program's tile; without tiles, a run of pixels."""
    if "TILE_ROWS" in constants:
        return constants["TILE_ROWS"], constants["WARP"] * constants.get("N", 1)
    return constants.get("ROWS", 1), constants.get("N", 1) * (1 if constants.get("ALL") else 4)


def shipped(fact: dict[str, Any], setting: Setting) -> bool:
    """Whether this kernel runs for aligned tensors of ``setting``: others serve other strides and shared maps."""
    if fact["provider"] == "triton" or fact["dtype"] == "any":
        return True
    # A thread takes whole pixels where their channels lie side by side, with 8 steps.
    pixels = setting.layout != "contiguous" and setting.iterations == 8
    if fact["kernel"].endswith("_pixels"):
        return pixels
    constants = fact["constants"]
    layout = constants["N"] > 1 if setting.layout == "contiguous" else constants["N"] == 1 and not pixels
    return layout and constants.get("MAPS", 0) in (0, 8 if setting.iterations <= 8 else 16)


def _rows(fact: dict[str, Any], setting: Setting) -> list[Row]:
    gpu = GPUS[int(fact["target"].removeprefix("sm_"))]
    work = WORK.get(fact["kernel"])
    figures: dict[str, tuple[str, float | None]] = {
        "registers": ("a thread", fact["registers"]),
        "spills": ("bytes", fact["spills"]),
        "shared_memory": ("bytes", fact["shared_memory"]),
        "widest_load": ("bytes", fact["widest_load"]),
        "widest_store": ("bytes", fact["widest_store"]),
        "threads": ("a block", fact["threads"]),
        "occupancy": ("ratio", occupancy(gpu, fact["registers"], fact["shared_memory"], fact["threads"])),
    }
    if work is not None and shipped(fact, setting):
        moved = sum(CASES[work.case].traffic(setting, work.mode))
        figures["touched"] = "of the least", touched(fact, setting)
        figures["memory_floor"] = "us, predicted", 1e6 * floor(gpu, moved)
    mode = work.mode if work else "both"
    return [
        Row(
            SUITE, label(fact), fact["provider"], mode, metric, unit, value, None, None, setting.shape, setting.dtype, None,
            f"{gpu.name} ({fact['target']})",
        )
        for metric, (unit, value) in figures.items()
        if value is not None
    ]  # fmt: skip


def _faults(fact: dict[str, Any], setting: Setting) -> list[str]:
    name = f"{fact['provider']} {label(fact)} {fact['dtype']} on {fact['target']}"
    faults = [f"{name} spills {fact['spills']} bytes"] if fact["spills"] else []
    work = WORK.get(fact["kernel"])
    if work is None or fact["dtype"] != setting.dtype or not shipped(fact, setting):
        return faults
    share = touched(fact, setting)
    if share is not None and share > work.most:
        faults.append(f"{name} touches {share:.2f} times what it must, at most {work.most:.2f} is allowed")
    # With channels_last the colours of a step are 12 or 6 bytes without alignment, so that no wider access is possible.
    if setting.layout == "contiguous":
        read, written = CASES[work.case].traffic(setting, work.mode)
        possible = min(16, work.columns * DTYPES[setting.dtype].itemsize)
        ways = [("loads", fact["widest_load"])] * (read > 0) + [("stores", fact["widest_store"])] * (written > 0)
        faults += [
            f"{name} {way} {wide} bytes at a time where {possible} are possible" for way, wide in ways if wide < possible
        ]
    return faults


COLUMNS = {
    "registers": "registers", "spills": "spills", "shared_memory": "shared", "widest_load": "load", "widest_store": "store",
    "threads": "threads", "touched": "touched", "occupancy": "occupancy", "memory_floor": "floor us",
}  # fmt: skip


def tables(rows: Iterable[Row]) -> dict[str, list[list[str]]]:
    """Tables by GPU: a line for each kernel of the setting that has a least time."""
    found: dict[str, dict[tuple[str, str], dict[str, float]]] = {}
    for row in rows:
        found.setdefault(row.device, {}).setdefault((row.case, row.provider), {})[row.metric] = row.value
    lines: dict[str, list[list[str]]] = {}
    for device, kernels in found.items():
        shown = {which: facts for which, facts in kernels.items() if "memory_floor" in facts}
        lines[device] = [[*which, *(_cell(facts[metric]) for metric in COLUMNS)] for which, facts in shown.items()]
    return lines


def _cell(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3f}"
