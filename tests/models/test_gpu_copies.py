"""Arrays' way to a GPU and back, here with a stand-in for its copies; tests that need streams are in tests/gpu."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest

from zdce.bench.infer import random_network
from zdce.models.engine import PixelSettings
from zdce.models.torch_engine import TorchEngine

SETTINGS = PixelSettings(scale=1, strength=0.8, brightness=0.0, noise=2.0, shadows=0.0, highlights=1.0)


class Recorded:
    """Copies on the host that fail outside of the stream."""

    def __init__(self):
        self.inside, self.log, self.streams = threading.local(), [], set()

    @contextmanager
    def stream(self):
        self.inside.stream = threading.get_ident()
        self.streams.add(self.inside.stream)
        yield
        del self.inside.stream

    def to_gpu(self, tensor):
        assert self.inside.stream == threading.get_ident()
        self.log.append(("in", tuple(tensor.shape)))
        return tensor.clone()

    def to_host(self, tensor):
        assert self.inside.stream == threading.get_ident()
        self.log.append(("out", tuple(tensor.shape)))
        return tensor.numpy().copy()


@pytest.fixture
def engines():
    """The engine as it is on the CPU, and one with recorded copies."""
    plain, recorded = (TorchEngine(random_network("iters4"), "fp32") for _ in range(2))
    recorded._copies = Recorded()
    return plain, recorded


def picture(seed=0):
    return np.random.default_rng(seed).integers(0, 90, (20, 31, 3), np.uint8)


def test_every_array_is_copied_in_the_stream_in_which_it_is_used(engines):
    plain, recorded = engines
    pixels = picture()
    np.testing.assert_array_equal(recorded.enhance(pixels, SETTINGS), plain.enhance(pixels, SETTINGS))
    maps = recorded.maps(pixels, SETTINGS)
    np.testing.assert_array_equal(maps, plain.maps(pixels, SETTINGS))
    np.testing.assert_array_equal(recorded.apply(pixels, maps, SETTINGS), plain.apply(pixels, maps, SETTINGS))
    size, of_maps = (20, 31, 3), (1, 12, 20, 31)
    expected = [("in", size), ("out", size), ("in", size), ("out", of_maps), ("in", size), ("in", of_maps), ("out", size)]
    assert recorded._copies.log == expected


def test_each_thread_has_its_stream(engines):
    plain, recorded = engines
    pictures = [picture(seed) for seed in range(8)]
    started = threading.Barrier(2)

    def enhanced(half):
        started.wait(10)
        return [recorded.enhance(pixels, SETTINGS) for pixels in half]

    with ThreadPoolExecutor(2) as threads:
        results = [result for half in threads.map(enhanced, (pictures[:4], pictures[4:])) for result in half]
    assert len(recorded._copies.streams) == 2
    for result, pixels in zip(results, pictures, strict=True):
        np.testing.assert_array_equal(result, plain.enhance(pixels, SETTINGS))


@pytest.mark.parametrize("pixels", [picture()[::2, ::-1], np.broadcast_to(picture()[:1], (20, 31, 3))])
def test_views_and_read_only_arrays_are_taken(engines, pixels):
    plain, recorded = engines
    np.testing.assert_array_equal(recorded.enhance(pixels, SETTINGS), plain.enhance(pixels.copy(), SETTINGS))
