"""Where a loop's time goes."""

import time
from collections import defaultdict


class Clock:
    """Seconds by what they were spent on, from one lap to the next."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._last = time.perf_counter()

    def start(self) -> None:
        """Leaves out what passed since the last lap."""
        self._last = time.perf_counter()

    def lap(self, spent_on: str) -> float:
        """Adds the time since the last lap to ``spent_on``, and gives it."""
        before, self._last = self._last, time.perf_counter()
        self.seconds[spent_on] += self._last - before
        return self._last - before

    def share(self, spent_on: str, of: tuple[str, ...]) -> float:
        """The share of ``spent_on`` in the time of ``of``; 0 where none was spent."""
        total = sum(self.seconds[name] for name in of)
        return self.seconds[spent_on] / total if total else 0.0
