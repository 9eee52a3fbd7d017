"""``zdce bench live``: time from a frame's arrival to its enhanced picture, with films played in real time."""

import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from zdce.enhancement import live
from zdce.enhancement.enhancer import Enhancer
from zdce.errors import InputError
from zdce.io.images import Pixels
from zdce.runtime import system, threads

from . import clip
from .rows import Row

SUITE = "live"

# Height and width of the generated films.
SIZES = ((720, 1280), (1080, 1920))

# Number of frames for the enhancer to warm up: weights are packed and threads started.
_WARM = 15

# Fewest frames of a film: of fewer values, the 95th percentile is next to the largest one.
_FEWEST = 20


def write(path: Path, height: int, width: int, seconds: float) -> None:
    """Writes the dark clip, forwards and backwards, as a camera would send it: in H.264 without delay between input and output
    of a frame.
    """
    once = list(clip.frames(height, width))
    frames = cycle([*once, *reversed(once)])
    options = {"preset": "veryfast", "tune": "zerolatency", "crf": "23", "g": str(clip.FPS)}
    clip.encode(path, islice(frames, round(seconds * clip.FPS)), height, width, options)


def run(enhancer: Enhancer, number: int, seconds: float, paths: Sequence[Path] = ()) -> Iterator[Row]:
    """The rows of each film in turn.

    Args:
        number: threads.
        seconds: length of the films made here.
        paths: films to play in place of those.
    """
    threads.use(number)
    if paths:
        yield from chain.from_iterable(_measured(path, path.name, enhancer, number) for path in paths)
        return
    with tempfile.TemporaryDirectory() as folder:
        for height, width in SIZES:
            path = Path(folder) / "clip.mp4"
            write(path, height, width, seconds)
            yield from _measured(path, f"{height}p, {clip.FPS} frames a second", enhancer, number)


class _Viewer:
    """A simulated viewer of the page: each newest frame is encoded as JPEG, as in the server."""

    def __init__(self, views: Any) -> None:
        self._views = views
        self.latencies: list[float] = []
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        number = -1
        try:
            while True:
                if (shown := self._views.newer(number, 1.0)) is not None:
                    number = shown.number
                    self._views.jpeg(shown, "after")
                    self.latencies.append(time.monotonic() - shown.arrived)
        except EOFError:
            return

    def join(self) -> None:
        self._thread.join()


def _measured(path: Path, case: str, enhancer: Enhancer, number: int) -> list[Row]:
    from zdce.serving.live import Views

    reading, views, sizes = live.reading(), Views(), set()

    def show(shown: live.EnhancedFrame) -> None:
        sizes.add(shown.after.shape[:2])
        views.show(shown)

    _warm_up(enhancer, _first(reading, path))
    viewer = _Viewer(views)
    try:
        with reading.LiveReader(reading.Source.of(str(path))) as reader:
            meter = live.run(reader, enhancer, show, threading.Event(), views.meter)
    finally:
        views.close()
        viewer.join()
    came = meter.shown + meter.dropped
    if came < _FEWEST:
        raise InputError(f"{path}: expected a film of {_FEWEST} frames or more, got {came}")
    (height, width), *_ = sizes
    described = (f"{height}x{width}", "uint8", number, system.processor())
    rows: list[Row] = []
    for mode, latencies in (("enhanced", meter.latencies), ("as JPEG", viewer.latencies)):
        rows += _rows(case, mode, latencies, described)
    share = 100 * meter.dropped / came
    return [*rows, Row.of(SUITE, case, "zdce", "enhanced", "dropped", "%", [share], *described)]


def _first(reading: Any, path: Path) -> Pixels:
    with reading.LiveReader(reading.Source.of(str(path))) as reader:
        first: Pixels = reader.pixels(next(reader.frames(threading.Event())))
    return first


def _warm_up(enhancer: Enhancer, pixels: Pixels) -> None:
    frames = live.LiveFrames(enhancer)
    for i in range(_WARM):
        frames(pixels, i / clip.FPS)


def _rows(case: str, mode: str, latencies: Iterable[float], described: tuple[str, str, int, str]) -> list[Row]:
    values = [1000 * latency for latency in latencies]
    late, middle = np.quantile(values, (0.95, 0.5))
    return [
        Row.of(SUITE, case, "zdce", mode, "latency", "ms", values, *described),
        Row.of(SUITE, case, "zdce", mode, "jitter", "ms", [float(late - middle)], *described),
    ]


COLUMNS = ("film", "pixels", "until", "median ms", "jitter ms", "dropped")


def table(rows: list[Row]) -> list[list[str]]:
    """A line for each film and end point; the jitter is the 95th percentile minus the median."""
    found = {(row.case, row.mode, row.metric): row for row in rows}
    lines = []
    for (case, mode, metric), row in found.items():
        if metric == "latency":
            jitter, dropped = found[case, mode, "jitter"].value, found[case, "enhanced", "dropped"].value
            lines.append([case, row.shape, mode, f"{row.value:.1f}", f"{jitter:.1f}", f"{dropped:.1f} %"])
    return lines
