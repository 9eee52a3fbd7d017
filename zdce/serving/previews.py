"""Previews: small versions of visitors' pictures with their curve maps, in bounded memory, each under a secret name."""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from zdce.enhancement import colour
from zdce.enhancement.enhancer import Floats
from zdce.io import images
from zdce.io.images import Picture
from zdce.serving.limits import Limits

# Longer side in pixels. The maps of a preview take 24 floats a pixel, at scale 1 about 105 MB.
SIDE = 1280


@dataclass
class Preview:
    """A small version of a picture, and the curve maps that were estimated on it.

    Attributes:
        picture: the small version, of at most ``SIDE`` pixels on its longer side.
        width, height: size of the whole picture.
        format: Pillow's name of the file's format.
        maps: curve maps by the settings of their estimation, the least recently used first.
        lock: held while maps are estimated, so that this is done only once.
    """

    picture: Picture
    width: int
    height: int
    format: str
    used: float = 0.0
    maps: OrderedDict[Any, Floats] = field(default_factory=OrderedDict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, picture: Picture) -> "Preview":
        height, width = picture.pixels.shape[:2]
        return cls(_small(picture), width, height, picture.format)

    @property
    def bytes(self) -> int:
        alpha = 0 if self.picture.alpha is None else self.picture.alpha.nbytes
        return self.picture.pixels.nbytes + alpha + sum(maps.nbytes for maps in self.maps.values())


def _small(picture: Picture) -> Picture:
    small = Image.fromarray(images.as_uint8(picture.pixels))
    small.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
    alpha = None
    if picture.alpha is not None:
        alpha = np.asarray(Image.fromarray(images.as_uint8(picture.alpha)).resize(small.size, Image.Resampling.BICUBIC))
    profile = {key: value for key, value in picture.metadata.items() if key in colour.PROFILES}
    return colour.srgb(Picture(np.array(small), picture.grey, alpha, profile, picture.format))


class Previews:
    """Previews by secret names, within ``limits`` of number, memory and time."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._clock = limits, clock
        self._held: OrderedDict[str, Preview] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, preview: Preview) -> str:
        """Keeps ``preview`` and returns its name, which can't be guessed."""
        name = secrets.token_urlsafe(24)
        with self._lock:
            preview.used = self._clock()
            self._held[name] = preview
            self._shrink()
        return name

    def get(self, name: str) -> Preview:
        """The preview of that name.

        Raises:
            KeyError: there is none, or it was deleted.
        """
        with self._lock:
            self._expire()
            preview = self._held[name]
            self._held.move_to_end(name)
            preview.used = self._clock()
            return preview

    def remove(self, name: str) -> None:
        """Deletes the preview of that name, if there is one."""
        with self._lock:
            self._held.pop(name, None)

    def maps(self, preview: Preview, key: Any, estimate: Callable[[], Floats]) -> Floats:
        """The maps of ``preview`` under ``key``; ``estimate`` makes them if there are none."""
        with preview.lock:
            found = preview.maps.get(key)
            if found is None:
                found = estimate()
            with self._lock:
                preview.maps[key] = found
                preview.maps.move_to_end(key)
                self._shrink()
            return found

    def expire(self) -> None:
        """Deletes previews that were not used for the limit's time."""
        with self._lock:
            self._expire()

    @property
    def bytes(self) -> int:
        """Memory of all previews."""
        with self._lock:
            return self._bytes()

    def __len__(self) -> int:
        return len(self._held)

    def _bytes(self) -> int:
        return sum(preview.bytes for preview in self._held.values())

    def _expire(self) -> None:
        oldest = self._clock() - self._limits.idle
        while self._held and next(iter(self._held.values())).used < oldest:
            self._held.popitem(last=False)

    def _shrink(self) -> None:
        """Maps are deleted before pictures, because they can be estimated again."""
        while len(self._held) > self._limits.pictures:
            self._held.popitem(last=False)
        for preview in self._held.values():
            while preview.maps and self._bytes() > self._limits.memory:
                preview.maps.popitem(last=False)
        while len(self._held) > 1 and self._bytes() > self._limits.memory:
            self._held.popitem(last=False)
