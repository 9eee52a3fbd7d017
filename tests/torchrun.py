"""Starts `zdce` in real processes of torchrun."""

import os
import subprocess
import sys
from pathlib import Path

from runs import zdce_after


def start(count, *arguments, code="", seconds=0.1):
    """``torchrun --nproc-per-node COUNT zdce ARGUMENTS``; each process runs ``code`` before.

    As often as ``seconds`` say torchrun looks for processes that ended, and ends the others.
    """
    return subprocess.Popen(
        [
            sys.executable, "-m", "torch.distributed.run",
            f"--nproc-per-node={count}", f"--monitor-interval={seconds}", "--no-python",
            *zdce_after(code, *arguments),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def rank(process, number):
    """The process of that rank, among those that ``process`` started."""
    for children in Path(f"/proc/{process.pid}/task").glob("*/children"):
        for child in children.read_text().split():
            if f"RANK={number}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
                return int(child)
    raise ProcessLookupError(f"no process of rank {number}")
