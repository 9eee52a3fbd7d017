"""Rows of all benchmarks, in one schema, as CSV and JSON."""

import csv
import io
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch

from zdce.version import __version__

VERSION = f"zdce {__version__}, torch {torch.__version__}"


@dataclass(frozen=True)
class Row:
    """One result; ``p20`` and ``p80`` bound the middle three fifths of the measurements, None for a single measurement."""

    suite: str
    case: str
    provider: str
    mode: str
    metric: str
    unit: str
    value: float
    p20: float | None
    p80: float | None
    shape: str
    dtype: str
    threads: int | None
    device: str
    version: str = VERSION

    @classmethod
    def of(
        cls, suite: str, case: str, provider: str, mode: str, metric: str, unit: str, values: Sequence[float], shape: str,
        dtype: str, threads: int | None, device: str, version: str = VERSION,
    ) -> "Row":  # fmt: skip
        """Row with the median of ``values``, and the bounds if there are several."""
        middle, *bounds = spread(values)
        p20, p80 = bounds if len(values) > 1 else (None, None)
        return cls(suite, case, provider, mode, metric, unit, middle, p20, p80, shape, dtype, threads, device, version)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, 20th and 80th percentile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    fifths = statistics.quantiles(values, n=5, method="inclusive")
    return statistics.median(values), fifths[0], fifths[-1]


def to_csv(rows: Iterable[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.to_dict() for row in rows)
    return text.getvalue()
