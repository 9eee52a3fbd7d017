"""The code blocks of the documentation run, from top to bottom of each page, and do what the text says."""

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"


def run(page, **names):
    """The names that the page's code leaves behind; it begins with ``names``."""
    for code in re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE):
        exec(compile(code, page, "exec"), names)
    return names


def test_another_network_trains_with_the_objective(capsys):
    names = run("library.md")
    losses = names["losses"]
    assert len(losses) == 100
    # It falls to less than half, and not by one lucky step.
    assert losses[-1] < losses[0] / 2
    assert losses[50] < losses[0] / 2
    assert names["bright"].mean() > 2 * names["dark"].mean()
    assert all(parameter.grad.isfinite().all() for parameter in names["estimator"].parameters())
    assert "the loss fell from" in capsys.readouterr().out
