"""`zdce variants` and `zdce info`."""

from typing import Any

import click

from zdce import backends
from zdce.commands import options
from zdce.commands.printing import print_json, print_table
from zdce.models import weights
from zdce.models.variants import VARIANTS
from zdce.runtime import packages, system


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    return f"{value:,}" if isinstance(value, int) else str(value)


@click.command("variants")
@options.as_json
def list_variants(as_json: bool) -> None:
    """List the networks that can be trained; some come with trained weights."""
    shipped = weights.names()
    rows = [
        {
            "name": v.name,
            "part": v.part,
            "parameters": v.parameters,
            "macs_per_pixel": v.macs,
            "receptive_field": v.receptive_field,
            "iterations": v.iterations,
            "scale": v.scale,
            "formula": v.formula,
            "weights": v.weights._asdict(),
            "shipped": v.name in shipped,
            "summary": v.summary,
        }
        for v in VARIANTS.values()
    ]
    if as_json:
        print_json(rows)
        return
    columns = {"name": "name", "part": "part", "parameters": "parameters", "macs_per_pixel": "MACs/px", "iterations": "steps"}
    columns |= {"scale": "scale", "shipped": "weights", "summary": "what it is"}
    cells = [[_cell(row[c]) for c in columns] for row in rows]
    print_table("Variants", list(columns.values()), cells, least_width=140)


@click.command()
@options.as_json
def info(as_json: bool) -> None:
    """Show versions, instruction set, threads, and which backends run here; if one does not, why."""
    facts = {**system.facts(), "backends": _backends()}
    if as_json:
        print_json(facts)
        return
    print_table("zdce", ["what", "here"], [[key, str(value)] for key, value in facts.items() if key != "backends"])
    rows = [[b["name"], b["device"], "yes" if b["available"] else "no", b["reason"] or ""] for b in facts["backends"]]
    print_table("Backends", ["backend", "device", "runs", "why not"], rows)


def _backends() -> list[dict[str, Any]]:
    """Each backend with its device and, if it can't run there, the reason. Without PyTorch only the core can run."""
    if reason := packages.missing("torch", extra="torch"):
        found = [_backend("cpp", "cpu", backends.cpp_missing("zdce._core"))]
        return found + [_backend(name, "cpu", reason) for name in backends.NAMES if name != "cpp"]
    import torch

    from zdce.ops import dispatch

    gpu = "cuda" if torch.cuda.is_available() else "cpu"
    places = (("reference", "cpu"), ("cpp", "cpu"), ("triton", gpu), ("cuda", gpu))
    return [_backend(name, device, dispatch.why_missing(name, device)) for name, device in places]


def _backend(name: str, device: str, reason: str | None) -> dict[str, Any]:
    return {"name": name, "device": device, "available": reason is None, "reason": reason}
