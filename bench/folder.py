"""``zdce bench folder``: speed of ``zdce enhance`` on a folder of pictures, with decoding and encoding."""

import tempfile
import threading
import time
from pathlib import Path

import torch

from zdce.enhancement import batch, colour, manifest, video
from zdce.enhancement.enhancer import Enhancer
from zdce.errors import FileError
from zdce.io import images
from zdce.io.images import Picture
from zdce.runtime import system
from zdce.runtime.processes import Ranks

from .rows import Row

SUITE = "folder"


class _Watch:
    """An enhancer that counts its time, of all threads that call it, and its pixels."""

    def __init__(self, enhancer: Enhancer) -> None:
        self.enhancer, self.seconds, self.pixels = enhancer, 0.0, 0
        self._turn = threading.Lock()

    def __call__(self, picture: Picture) -> Picture:
        started = time.perf_counter()
        enhanced = colour.enhance(picture, self.enhancer)
        took = time.perf_counter() - started
        with self._turn:
            self.seconds += took
            self.pixels += picture.pixels.shape[0] * picture.pixels.shape[1]
        return enhanced


def run(folder: Path, enhancer: Enhancer, threads: int, at_once: int = 1) -> list[Row]:
    """Enhances every picture of ``folder`` once into a temporary folder, after one picture to warm up.

    Args:
        at_once: number of pictures that are worked on at once.

    Raises:
        InputError: there are no pictures.
        OSError: a picture can't be read.
    """
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as out:
        jobs = batch.plan(images.find([str(folder)]), out)
        enhancer(images.read(jobs[0].source).pixels)
        watch = _Watch(enhancer)
        started = time.perf_counter()
        rows: list[manifest.Row] = []
        counts = batch.run(jobs, batch.Work(watch, video.enhance, enhancer.settings), Ranks(), rows.append, at_once=at_once)
        seconds = time.perf_counter() - started
    if counts[batch.BUGS]:
        raise RuntimeError(next(row.reason for row in rows if row.status == manifest.FAILED))
    for row in rows:
        if row.status == manifest.FAILED:
            raise FileError(row.reason)
    figures = {
        ("time", "s"): seconds,
        ("pictures_per_second", "1/s"): len(jobs) / seconds,
        ("megapixels_per_second", "MP/s"): watch.pixels / seconds / 1e6,
        ("engine_share", "of the time"): watch.seconds / seconds / at_once,
    }
    shape = f"{len(jobs)} pictures, {watch.pixels / 1e6:.1f} MP, {at_once} at once"
    device = next(enhancer.model.parameters()).device if isinstance(enhancer.model, torch.nn.Module) else torch.device("cpu")
    dtype = {"fp32": "float32", "bf16": "bfloat16"}[enhancer.precision]
    return [
        Row(
            SUITE, enhancer.model.variant.name, "zdce", "decode, enhance, encode", metric, unit, value, None, None,
            shape, dtype, threads, system.processor() if device.type == "cpu" else torch.cuda.get_device_name(device),
        )
        for (metric, unit), value in figures.items()
    ]  # fmt: skip


COLUMNS = ("threads", "pictures/s", "MP/s", "engine")


def table(rows: list[Row]) -> list[list[str]]:
    """A line for each number of threads."""
    found: dict[int | None, dict[str, float]] = {}
    for row in rows:
        found.setdefault(row.threads, {})[row.metric] = row.value
    return [
        [str(n), f"{v['pictures_per_second']:.2f}", f"{v['megapixels_per_second']:.2f}", f"{100 * v['engine_share']:.0f} %"]
        for n, v in found.items()
    ]
