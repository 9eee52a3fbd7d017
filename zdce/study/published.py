"""Figures of the report, from ``published.toml``."""

import tomllib
from functools import cache
from importlib import resources
from typing import NamedTuple


class Published(NamedTuple):
    """PSNR and SSIM of the report: base's by target and epoch, and the ablations' against autocontrast at the end."""

    base: dict[str, dict[int, tuple[float, float]]]
    ablations: dict[str, tuple[float, float]]


@cache
def published() -> Published:
    """Figures as printed in the report."""
    text = resources.files(__package__).joinpath("published.toml").read_text(encoding="utf-8")
    tables = tomllib.loads(text)
    base: dict[str, dict[int, tuple[float, float]]] = {"autocontrast": {}, "input": {}}
    for row in tables["base"]:
        for target in base.keys() & row.keys():
            base[target][row["epoch"]] = tuple(row[target])
    return Published(base, {name: tuple(pair) for name, pair in tables["ablations"].items()})
