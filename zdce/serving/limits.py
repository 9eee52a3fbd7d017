"""Limits of a server."""

from dataclasses import dataclass

MEGABYTE = 1 << 20
MEGAPIXEL = 1_000_000


@dataclass(frozen=True)
class Limits:
    """Limits of a server.

    Attributes:
        file: largest upload, in bytes.
        pixels: largest picture, in pixels.
        pictures: most previews, of all visitors together; the least recently used one is deleted first.
        memory: bytes for previews with their curve maps; uploads and results in transit may take as much again.
        idle: seconds after which an unused preview is deleted.
        workers: number of threads that decode, enhance and encode whole pictures.
        queue: most requests with a complete upload that wait for a worker; others are answered 503.
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

        An upload must have received ``size`` bytes within this time at every moment.
        """
        return 15 + size / (1 << 17)
