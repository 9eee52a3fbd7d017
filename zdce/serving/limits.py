"""Limits of a server."""

from dataclasses import dataclass

MEGABYTE = 1 << 20
MEGAPIXEL = 1_000_000


@dataclass(frozen=True)
class Limits:
    """Limits of a server.

    Attributes:
        file: bytes of one upload.
        pixels: of one picture.
        pictures: that are held as previews, of all visitors together; the one used longest ago goes first.
        memory: bytes that previews with their curve maps hold; uploads and results under way may hold as much again.
        idle: seconds until an unused preview goes.
        workers: threads that decode, enhance and encode whole pictures.
        queue: requests that wait for a worker, their uploads being there; more are told to come back later.
    """

    file: int = 64 * MEGABYTE
    pixels: int = 64 * MEGAPIXEL
    pictures: int = 200
    memory: int = 1024 * MEGABYTE
    idle: float = 1800.0
    workers: int = 2
    queue: int = 32

    def transfer_seconds(self, size: int) -> float:
        """Longest time for a download of ``size`` bytes: 15 s, and a second for every 128 KiB.

        At any moment of an upload, ``size`` being what has come, so much time may have passed: that is its slowest pace.
        """
        return 15 + size / (1 << 17)
