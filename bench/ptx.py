"""Facts about a kernel from the assembler's report and from PTX."""

import re


def ptxas_words(report: str) -> dict[str, int]:
    """Registers and spilled bytes in the output of ``ptxas -v`` for one kernel."""
    spills = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", report)
    registers = re.search(r"Used (\d+) registers", report)
    if spills is None or registers is None:
        raise ValueError(f"ptxas did not say what it did: {report!r}")
    return {"registers": int(registers[1]), "spills": int(spills[1]) + int(spills[2])}


def widest(ptx: str) -> dict[str, int]:
    """Bytes of the widest load from and store to global memory; 0 if there is none."""
    accesses = re.findall(r"\b(ld|st)\.global(?:\.[a-zA-Z][\w:]*?)*?(?:\.v(\d))?\.[a-z](\d+)\b", ptx)
    widths: dict[str, list[int]] = {"ld": [0], "st": [0]}
    for way, vector, bits in accesses:
        widths[way].append(int(vector or 1) * int(bits) // 8)
    return {"widest_load": max(widths["ld"]), "widest_store": max(widths["st"])}
