"""The notebook of the documentation runs from its first cell to its last, in a kernel of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"

for package in ("ipykernel", "nbclient"):
    pytest.importorskip(package, reason="the extra `notebook` is not installed")

# In another process: Jupyter's packages warn of their own deprecated parts.
RUN = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], 4)
NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[2])
"""


def test_the_notebook_shows_a_brighter_picture(tmp_path):
    command = [sys.executable, "-c", RUN, str(DOCS / "notebook.ipynb"), str(tmp_path / "run.ipynb")]
    ran = subprocess.run(command, cwd=DOCS, capture_output=True, text=True, timeout=400, check=False)
    assert ran.returncode == 0, ran.stderr
    cells = [cell for cell in json.loads((tmp_path / "run.ipynb").read_text())["cells"] if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in cells)
    shown = [output["data"] for cell in cells for output in cell["outputs"] if "data" in output]
    assert sum("image/png" in data for data in shown) == 3
    text = "".join(
        output["text"] if isinstance(output["text"], str) else "".join(output["text"])
        for cell in cells
        for output in cell["outputs"]
        if "text" in output
    )
    assert "(1, 2, " in text
    changed = float(text.split("changed by ")[1].split()[0])
    assert changed < 3
    gains = [tuple(map(float, line.split(": ")[1].split(" -> "))) for line in text.splitlines() if line.startswith("rows")]
    assert all(after > before for before, after in gains)
