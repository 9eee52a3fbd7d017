"""Time of a loop by kind of work."""

import time
from collections import defaultdict


class Clock:
    """Seconds by kind of work, measured from one lap to the next."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._last = time.perf_counter()

    def start(self) -> None:
        """Ignores the time since the last lap."""
        self._last = time.perf_counter()

    def lap(self, spent_on: str) -> float:
        """Adds the time since the last lap to ``spent_on``, and returns it."""
        before, self._last = self._last, time.perf_counter()
        self.seconds[spent_on] += self._last - before
        return self._last - before

    def share(self, spent_on: str, of: tuple[str, ...]) -> float:
        """Share of ``spent_on`` in the time of all kinds in ``of``; 0 if that time is 0."""
        total = sum(self.seconds[name] for name in of)
        return self.seconds[spent_on] / total if total else 0.0
