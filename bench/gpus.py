"""Published limits of GPUs, and predictions from them: theoretical occupancy and the least time for memory traffic."""

from dataclasses import dataclass

import torch

from zdce.errors import InputError


@dataclass(frozen=True)
class Gpu:
    """Limits of one multiprocessor and the bandwidth of the board.

    CUDA C++ Programming Guide, "Technical Specifications per Compute Capability"; bandwidths from NVIDIA's data sheets of
    A100 80GB SXM (2,039 GB/s), H100 SXM (3.35 TB/s) and B200 (8 TB/s).
    """

    name: str
    arch: int
    bandwidth: float  # GB/s
    shared_memory: int  # bytes per multiprocessor
    registers: int = 65536
    warps: int = 64
    blocks: int = 32


def check_device(device: str) -> None:
    """Checks that torch sees a GPU if ``device`` is one.

    Raises:
        InputError: it sees none.
    """
    if device != "cpu" and not torch.cuda.is_available():
        raise InputError(f"device must be cpu here, got {device!r}: torch sees no GPU")


GPUS = {
    80: Gpu("A100", 80, 2039, 164 * 1024),
    90: Gpu("H100", 90, 3350, 228 * 1024),
    100: Gpu("B200", 100, 8000, 228 * 1024),
}

_WARP = 32
_REGISTER_UNIT = 256  # registers are allocated to a warp in such units,
_PARTITIONS = 4  # from its scheduler's quarter of the register file
_SHARED_UNIT, _SHARED_RESERVED = 128, 1024  # bytes: granularity, and reserved for each block


def occupancy(gpu: Gpu, registers: int, shared_memory: int, threads: int) -> float:
    """Resident warps over the multiprocessor's maximum, as in NVIDIA's occupancy calculator.

    Nsight Compute's "Occupancy Calculator", formerly CUDA_Occupancy_Calculator.xls: the least of what warps, blocks, registers
    and shared memory allow.
    """
    warps = -(-threads // _WARP)
    a_warp = -(-registers * _WARP // _REGISTER_UNIT) * _REGISTER_UNIT
    by_registers = gpu.registers // _PARTITIONS // a_warp * _PARTITIONS // warps if a_warp else gpu.blocks
    a_block = -(-shared_memory // _SHARED_UNIT) * _SHARED_UNIT + _SHARED_RESERVED
    blocks = min(gpu.blocks, gpu.warps // warps, by_registers, gpu.shared_memory // a_block)
    return blocks * warps / gpu.warps


def floor(gpu: Gpu, moved: int) -> float:
    """Seconds for ``moved`` bytes at the published bandwidth: a lower bound of a kernel's time."""
    return moved / gpu.bandwidth / 1e9
