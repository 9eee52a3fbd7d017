"""Starts `zdce` in real processes of torchrun."""

import os
import subprocess
import sys

from runs import zdce_after


def start(count, *arguments, code=""):
    """``torchrun --nproc-per-node COUNT zdce ARGUMENTS``; each process runs ``code`` before."""
    return subprocess.Popen(
        [
            sys.executable, "-m", "torch.distributed.run",
            f"--nproc-per-node={count}", "--monitor-interval=0.1", "--no-python",
            *zdce_after(code, *arguments),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
