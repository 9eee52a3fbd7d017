"""Results of a study: rows for pictures, epochs and networks, written as CSV and JSON, read again, and averaged."""

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, TypeVar

from zdce.errors import InputError, MissingFileError
from zdce.metrics.evaluation import Interval, interval
from zdce.runtime import atomic
from zdce.study.measures import MEASURES, Measured


@dataclass(frozen=True)
class Loss:
    """Mean losses of one split in one epoch, terms unweighted, and their time in seconds."""

    variant: str
    seed: int
    epoch: int
    split: str
    total: float
    illumination: float
    spatial: float
    color: float
    exposure: float
    seconds: float


@dataclass(frozen=True)
class Network:
    """A variant's properties and cost; ``milliseconds`` are for one megapixel of an 8-bit picture, input to output."""

    variant: str
    summary: str
    part: str
    parameters: int
    macs: int
    iterations: int
    milliseconds: float


Row = TypeVar("Row", Measured, Loss, Network)
_TYPES = {"str": str, "int": int, "float": float, str: str, int: int, float: float}


def to_csv(kind: type[Row], rows: Iterable[Row]) -> str:
    """CSV with a header and one line per row."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(kind)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()


def from_csv(kind: type[Row], path: Path) -> list[Row]:
    """Reads a file that ``to_csv`` wrote.

    Raises:
        InputError: the file has other content.
    """
    types: dict[str, Any] = {field.name: _TYPES[field.type] for field in fields(kind)}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [kind(**{name: types[name](value) for name, value in row.items()}) for row in csv.DictReader(file)]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} must have the columns {', '.join(types)}, got {error}") from error


@dataclass(frozen=True)
class Average:
    """Means of a method over all pictures and seeds.

    Attributes:
        means: means by measure; infinite PSNRs are left out unless all are infinite.
        spread: standard deviation between seeds by measure, empty with one seed.
        intervals: intervals of the mean by measure, for ``psnr_reference`` and ``ssim_reference`` of at least two references.
    """

    method: str
    epoch: int
    pictures: int
    means: dict[str, float]
    spread: dict[str, float]
    intervals: dict[str, Interval]


def mean(values: Sequence[float]) -> float:
    """Mean of the finite values; if there are none, the first value."""
    finite = [value for value in values if math.isfinite(value)]
    return fmean(finite) if finite else values[0]


@dataclass(frozen=True)
class Results:
    """Results of a finished study.

    Attributes:
        settings: ``Settings.to_dict``.
        environment: versions and machine.
        seconds: time by kind of work, over all runs of the command.
        shown: names of the pictures on the page, in order.
    """

    settings: dict[str, Any]
    environment: dict[str, Any]
    seconds: dict[str, float]
    shown: tuple[str, ...]
    measured: tuple[Measured, ...]
    losses: tuple[Loss, ...]
    networks: tuple[Network, ...]

    @property
    def variants(self) -> tuple[str, ...]:
        return tuple(self.settings["variants"])

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(range(self.settings["seeds"]))

    @property
    def epochs(self) -> tuple[int, ...]:
        """Epochs whose weights were measured."""
        return tuple(sorted({row.epoch for row in self.measured if row.epoch}))

    @property
    def has_references(self) -> bool:
        return any(not math.isnan(row.psnr_reference) for row in self.measured)

    def rows(self, method: str, epoch: int, seed: int | None = None) -> list[Measured]:
        """Rows of all pictures, of one seed or of all seeds."""
        return [r for r in self.measured if (r.method, r.epoch) == (method, epoch) and seed in (None, r.seed)]

    def average(self, method: str, epoch: int = 0) -> Average | None:
        """Average of a method after an epoch; None if it was not measured."""
        rows = self.rows(method, epoch)
        if not rows:
            return None
        by_seed = [[r for r in rows if r.seed == seed] for seed in sorted({r.seed for r in rows})]
        spread = {}
        if len(by_seed) > 1:
            spread = {m: stdev(mean([getattr(r, m) for r in group]) for group in by_seed) for m in MEASURES}
        return Average(
            method,
            epoch,
            len(by_seed[0]),
            {m: mean([getattr(r, m) for r in rows]) for m in MEASURES},
            spread,
            {m: bounds for m in ("psnr_reference", "ssim_reference") if (bounds := _over_pictures(rows, m))},
        )

    def averages(self) -> list[Average]:
        """Averages of all methods and epochs, in the order of their measurement."""
        places = dict.fromkeys((r.method, r.epoch) for r in self.measured)
        return [average for place in places if (average := self.average(*place))]

    def save(self, folder: Path) -> None:
        """Writes ``results.json``, ``measures.csv``, ``losses.csv`` and ``networks.csv``."""
        for name, text in (
            ("measures.csv", to_csv(Measured, self.measured)),
            ("losses.csv", to_csv(Loss, self.losses)),
            ("networks.csv", to_csv(Network, self.networks)),
            ("results.json", json.dumps(self._head(), indent=2) + "\n"),
        ):
            atomic.write_text(folder / name, text)

    def _head(self) -> dict[str, Any]:
        names = ("settings", "environment", "seconds", "shown")
        return {name: getattr(self, name) for name in names} | {"averages": [to_json(a) for a in self.averages()]}

    @classmethod
    def load(cls, folder: Path) -> "Results":
        """Reads the files of ``save``; averages are computed again.

        Raises:
            FileNotFoundError: ``folder`` has no results.
            InputError: they are broken.
        """
        path = folder / "results.json"
        if not path.is_file():
            raise MissingFileError(f"no results of a study in {folder}: expected {path.name} and its tables there")
        try:
            head = json.loads(path.read_text(encoding="utf-8"))
            kept = {name: head[name] for name in ("settings", "environment", "seconds")}
            shown = tuple(head["shown"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} holds no results of a study: {error}") from error
        tables = (from_csv(Measured, folder / "measures.csv"), from_csv(Loss, folder / "losses.csv"))
        networks = from_csv(Network, folder / "networks.csv")
        return cls(**kept, shown=shown, measured=tuple(tables[0]), losses=tuple(tables[1]), networks=tuple(networks))


def to_json(average: Average) -> dict[str, Any]:
    """Dictionary for JSON; values that are not finite become None."""
    values = {**average.means, **{f"{name}_spread": value for name, value in average.spread.items()}}
    for name, (low, high) in average.intervals.items():
        values |= {f"{name}_low": low, f"{name}_high": high}
    finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
    return {"method": average.method, "epoch": average.epoch, "pictures": average.pictures, **finite}


def _over_pictures(rows: Sequence[Measured], measure: str) -> Interval | None:
    """Interval of a measure's mean; the seeds of each picture are averaged first. None for less than two pictures."""
    pictures: dict[str, list[float]] = {}
    for row in rows:
        if math.isfinite(value := getattr(row, measure)):
            pictures.setdefault(row.picture, []).append(value)
    return interval([fmean(values) for values in pictures.values()]) if len(pictures) > 1 else None
