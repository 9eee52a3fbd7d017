"""The report's own figures, from the one file that holds them."""

import tomllib
from functools import cache
from importlib import resources
from typing import NamedTuple


class Published(NamedTuple):
    """The report's PSNR and SSIM against a target: base's by epoch, and the ablations' at the end."""

    base: dict[str, dict[int, tuple[float, float]]]
    ablations: dict[str, tuple[float, float]]


@cache
def published() -> Published:
    """What the report printed."""
    text = resources.files(__package__).joinpath("published.toml").read_text(encoding="utf-8")
    tables = tomllib.loads(text)
    base: dict[str, dict[int, tuple[float, float]]] = {"autocontrast": {}, "input": {}}
    for row in tables["base"]:
        for target in base.keys() & row.keys():
            base[target][row["epoch"]] = tuple(row[target])
    return Published(base, {name: tuple(pair) for name, pair in tables["ablations"].items()})
