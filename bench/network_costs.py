"""What the kernel of a whole network (csrc/cuda/network.cuh) costs on a GPU, by counting: nothing here is measured.

A warp computes bands of 16 columns and 4 rows. Counted for each are its matrix products (m16n8k16) and the passes of 128 bytes
through the multiprocessor's shared memory and cache: matrices of feature maps are 4 passes each, a product's weights 2.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from zdce.models.variants import Variant

from .gpus import GPUS, Gpu
from .rows import Row

SUITE = "static"

# Luo et al., "Dissecting the NVIDIA Hopper Architecture through Microbenchmarking" (arXiv 2501.12084): on Hopper products of
# one warp reach 0.63 of the published rate, which asks for those of four warps together.
_SHARE = {80: 1.0, 90: 0.63}

# Cycles of a product in one of four tensor cores at the published rate, and boost clocks in GHz, from NVIDIA's white papers.
_CYCLES, CLOCK = {80: 8, 90: 4}, {80: 1.41, 90: 1.83}

# Cycles of a quarter for the depthwise filters of 16 channels, pixels and 4 rows: 288 instructions that multiply and add, of
# which an A100 starts one in two cycles, and 144 conversions from the half type.
_FILTERED = {80: 2 * 288, 90: 288 + 144}

_MULTIPROCESSORS = {80: 108, 90: 132}
_RESERVED = 1024  # bytes of shared memory for each block
_BAND = 4
_QUARTERS = (0, 1.7, 2.2, 3)  # kQuarters of network.cuh
_FRAMES = {"1080p": (1080, 1920), "4K": (2160, 3840)}


@dataclass(frozen=True)
class Layer:
    """One convolution: blocks of 16 inputs (0: the image), tiles of 8 outputs, rows that are kept, and bands before the last
    layer's first one."""

    inputs: int
    tiles: int
    ring: int
    ahead: int
    separable: bool

    @property
    def products(self) -> int:
        if self.separable:
            return _BAND * self.tiles * (self.inputs or 1)
        return _BAND * self.tiles * (9 * self.inputs or 3)

    @property
    def filtered(self) -> int:
        """Blocks of 16 channels with depthwise filters."""
        return (self.inputs or 1) if self.separable else 0

    @property
    def passes(self) -> int:
        """Of operands; products of feature maps share a matrix between three rows, and weights between four. Depthwise filters
        are 64 bytes a tap for the warp, and the image's colours are loaded for each tap and half of the pixels.
        """
        if self.separable:
            return self.filtered * (10 + self.tiles * 2) + (self.inputs * 3 * 6 * 4 or 3 * 6 * 2)
        if self.inputs == 0:
            return 6 * 4 + 3 * self.tiles * 2
        return 3 * self.inputs * 6 * 4 + 9 * self.inputs * self.tiles * 2


def layers_of(variant: Variant) -> list[Layer]:
    """As Geometry of csrc/core/pass_geometry.h divides the rows."""
    number, convolutions = len(variant.sources), variant.convolutions()
    lead, ring, first = [number - 1 - n for n in range(number)], [0] * number, [0] * number
    for m in range(number - 1, -1, -1):
        for source in (s - 1 for s in variant.sources[m] if s > 0):
            ring[source] = max(ring[source], lead[source] - lead[m] + 5)
            first[source] = min(first[source], first[m] + (lead[m] - 1 - lead[source]) // _BAND)
    inputs = [0] + [given // 16 for given, _ in convolutions[1:]]
    return [
        Layer(inputs[n], -(-outputs // 8), ring[n], -first[n], variant.separable) for n, (_, outputs) in enumerate(convolutions)
    ]


@dataclass(frozen=True)
class Layout:
    """How blocks divide a picture: strips of 16 columns in each, columns of results, blocks a multiprocessor, and rows."""

    strips: int
    results: int
    together: int
    rows: int

    def blocks(self, size: tuple[int, int]) -> int:
        """Of a picture of ``size`` (H, W)."""
        return math.ceil(size[1] / self.results) * math.ceil(size[0] / self.rows)

    def at_once(self, gpu: Gpu, size: tuple[int, int]) -> int:
        """Blocks that a multiprocessor has at a time."""
        return min(self.together, math.ceil(self.blocks(size) / _MULTIPROCESSORS[gpu.arch]))

    def quarter(self, gpu: Gpu, size: tuple[int, int]) -> float:
        """Time of a band with the warps of the fullest quarter of a multiprocessor."""
        return _QUARTERS[math.ceil(self.strips * self.at_once(gpu, size) / 4)]


def shared_bytes(layers: Sequence[Layer], filters: int, strips: int) -> int:
    pitch = 16 * strips + 2
    return pitch * (sum(layer.ring * filters * 2 for layer in layers) + 8 * 8)


def layout(variant: Variant, gpu: Gpu, size: tuple[int, int]) -> Layout | None:
    """For an 8-bit picture of ``size`` (H, W), as ``laid_out`` of network.cuh chooses it; None if no block fits."""
    layers = layers_of(variant)
    few = max(layer.tiles for layer in layers) <= 3 and not variant.separable
    warps = 12 if few else 8
    best, least = None, (math.inf, 0)
    for strips in range(1, warps + 1):
        bytes_a_block, results = shared_bytes(layers, variant.filters, strips), 16 * strips - 2 * len(layers)
        together = min(warps // strips, gpu.shared_memory // (bytes_a_block + _RESERVED))
        if results <= 0 or bytes_a_block > gpu.shared_memory - _RESERVED or together == 0:
            continue
        for rows in _heights(size[0]):
            found = Layout(strips, results, together, rows)
            high = rows + _BAND * layers[0].ahead
            took = _turns(found, gpu, size) * high * found.quarter(gpu, size)
            if (took, found.blocks(size) * strips * high) < least:
                best, least = found, (took, found.blocks(size) * strips * high)
    return best


def _heights(height: int) -> Iterator[int]:
    """Rows of a block in all divisions of ``height``."""
    for down in range(1, (height + 31) // 32 + 1):
        yield _BAND * math.ceil(math.ceil(height / down) / _BAND)


def _turns(of: Layout, gpu: Gpu, size: tuple[int, int]) -> int:
    return math.ceil(of.blocks(size) / (_MULTIPROCESSORS[gpu.arch] * of.at_once(gpu, size)))


@dataclass(frozen=True)
class Cost:
    """Of one picture, predicted.

    Attributes:
        layout: the division into blocks.
        work: products that are made, over those of the picture without margins.
        products: seconds of the tensor cores.
        passes: seconds of the shared memory.
        filters: seconds of the arithmetic of depthwise filters.
    """

    layout: Layout
    work: float
    products: float
    passes: float
    filters: float

    @property
    def seconds(self) -> float:
        """A lower bound: none waits for another."""
        return max(self.products, self.passes, self.filters)


def cost(variant: Variant, gpu: Gpu, size: tuple[int, int]) -> Cost | None:
    """For an 8-bit picture of ``size`` (H, W); None if the kernel can't run the network there."""
    found = layout(variant, gpu, size)
    if found is None:
        return None
    layers, bands = layers_of(variant), found.rows // _BAND
    products = sum((bands + layer.ahead) * layer.products for layer in layers)
    kept = sum((bands + layer.ahead) * 2 * _BAND * layer.tiles for layer in layers[:-1])
    # Maps change lanes in 16 shuffles a tile; 3 values of each pixel are read and written, and read once more for the image.
    last = bands * (16 * layers[-1].tiles + 3 * 6)
    passes = sum((bands + layer.ahead) * layer.passes for layer in layers) + kept + last
    blocks, at_once = found.blocks(size), found.at_once(gpu, size)
    warps = math.ceil(found.strips * at_once / 4)
    cycle = _turns(found, gpu, size) * 1e-9 / CLOCK[gpu.arch]
    filtered = sum((bands + layer.ahead) * layer.filtered for layer in layers)
    least = sum(layer.products for layer in layers) * size[0] * size[1] / 64
    return Cost(
        found,
        blocks * found.strips * products / least,
        cycle * warps * products * _CYCLES[gpu.arch] / _SHARE[gpu.arch],
        cycle * found.strips * at_once * passes,
        cycle * warps * filtered * _FILTERED[gpu.arch],
    )


COLUMNS = {
    "work": "work",
    "tensor_cores": "products us",
    "shared_memory_passes": "passes us",
    "depthwise_filters": "filters us",
    "least_time": "least us",
}


def tables(found: Iterable[Row]) -> dict[str, list[list[str]]]:
    """Tables by GPU: a line for each network and frame."""
    lines: dict[str, dict[str, list[str]]] = {}
    for row in found:
        if row.case.startswith("network "):
            line = lines.setdefault(row.device, {}).setdefault(f"{row.case.removeprefix('network ')} {row.shape}", [])
            line.append(f"{row.value:.2f}" if row.metric == "work" else f"{row.value:.0f}")
    return {device: [[name, *figures] for name, figures in each.items()] for device, each in lines.items()}


def rows(variants: Sequence[Variant]) -> Iterator[Row]:
    """Predictions for frames of 8 bits, of the first of variants with the same layers."""
    first: dict[object, Variant] = {}
    for variant in variants:
        first.setdefault((variant.sources, variant.filters, variant.maps, variant.separable), variant)
    for variant in first.values():
        for arch in _MULTIPROCESSORS:
            gpu = GPUS[arch]
            for name, size in _FRAMES.items():
                predicted = cost(variant, gpu, size)
                if predicted is None:
                    continue
                figures = {
                    "work": ("of the least", predicted.work),
                    "tensor_cores": ("us, predicted", 1e6 * predicted.products),
                    "shared_memory_passes": ("us, predicted", 1e6 * predicted.passes),
                    "depthwise_filters": ("us, predicted", 1e6 * predicted.filters),
                    "least_time": ("us, predicted", 1e6 * predicted.seconds),
                }
                for metric, (unit, value) in figures.items():
                    case, shape, device = f"network {variant.name}", f"{name} uint8", f"{gpu.name} (sm_{arch})"
                    yield Row.of(SUITE, case, "cuda", "forward", metric, unit, [value], shape, "bfloat16", None, device)
