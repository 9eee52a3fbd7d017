"""Puts the rows of one network, measured again, in the place of its former ones: quality_rows.py ROWS DOCS.

ROWS is what `zdce eval FOLDER -m NETWORK --protocol DOCS/results/quality.toml --baselines none --json` prints. Writes
DOCS/results/quality.json and the tables of DOCS/quality.md.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

from zdce.metrics import leaderboard, protocols
from zdce.metrics.evaluation import Average
from zdce.metrics.leaderboard import MeasuredSet
from zdce.metrics.registry import METRICS
from zdce.runtime import atomic


def average(row: dict[str, Any], metrics: tuple[str, ...]) -> Average:
    """The average that a row of JSON was made of; null is an infinite PSNR, or a measure that was not asked for."""
    values = {name: math.nan if row[name] is None else row[name] for name in METRICS}
    if "psnr" in metrics and row["psnr"] is None:
        values["psnr"] = math.inf
    intervals = {name: (low, high) for name, (low, high) in row["intervals"].items()}
    return Average(row["method"], row["against"], values, row["images"], intervals)


def main(rows: str, docs: Path) -> None:
    stored = docs / "results" / "quality.json"
    new, report = json.loads(Path(rows).read_text()), json.loads(stored.read_text())
    [network] = new["models"]
    for key in ("sets", "protocol"):
        if new[key] != report[key]:
            sys.exit(f"{stored} was measured on other pictures or by other measures: measure all networks again")
    fresh = {(row["data"], row["against"]): row for row in new["rows"] if row["method"] == "model"}
    report["rows"] = [
        {**fresh[row["data"], row["against"]], "method": row["method"]} if row["method"] == network["model"] else row
        for row in report["rows"]
    ]
    parameters = {model["method"]: model["parameters"] for model in report["models"]}
    metrics = {part.name: part.metrics for part in protocols.read(str(docs / "results" / "quality.toml")).parts}
    sets = []
    for data_set in report["sets"]:
        name = data_set["data"]
        averages = tuple(average(row, metrics[name]) for row in report["rows"] if row["data"] == name)
        sets.append(MeasuredSet(name, data_set["measured"], metrics[name], averages))
    page = docs / "quality.md"
    atomic.write_text(page, leaderboard.placed(page, leaderboard.markdown(sets, parameters)))
    atomic.write_text(stored, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
