"""Lines about what a result lacks of its source."""

from collections.abc import Mapping


def left_out(counts: Mapping[str, int]) -> list[str]:
    """A line about each thing, by its name in the singular, that was left out at least once.

    >>> left_out({"gain map": 1, "further picture": 2, "preview": 0})
    ['gain map left out', '2 further pictures left out']
    """
    return [f"{what} left out" if count == 1 else f"{count} {what}s left out" for what, count in counts.items() if count > 0]
