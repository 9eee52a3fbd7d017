"""A process for each engine: engines share no threads, libraries or memory, and the parent lets them run in turns.

``python -P -m zdce.bench.engine_process '{...}'``, the fields of Task. It makes its engine ready, saves a result of each mode,
says so in a line of JSON, and then measures a call for each line that it reads.
"""

import contextlib
import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, TextIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import clip, memory
from .engines import ENGINES, FMA_PEAK, VIDEO, Call, Engine, Task, multiply_adds, result_file
from .processes import described

# Seconds after which threads that wait in busy loops sleep: they would take a core from the next engine.
_SETTLED = 0.02


class EngineProcess:
    """The parent's side of a process. Construction returns at once, ``ready`` waits."""

    def __init__(self, task: Task, environment: Mapping[str, str]) -> None:
        self.task = task
        self._log = task.file(f"{task.engine}.log")
        with self._log.open("w") as log:
            # -P: the folder ``zdce`` of a clone must not hide the installed package.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "zdce.bench.engine_process", task.to_json()],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=dict(environment),
            )  # fmt: skip

    def __enter__(self) -> "EngineProcess":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            self._process.kill()
        self._process.communicate()  # the process ends with its input

    def ready(self) -> dict[str, Any]:
        """Answer of the process: ``failed`` with a reason, or its ``peak_memory`` or ``multiply_adds``.

        Raises:
            ChildProcessError: the process ended.
        """
        return self._answer()

    def result(self, mode: str) -> NDArray[Any]:
        """Result of a call; of a video, the frames of ``clip.checked``."""
        file = result_file(self.task, mode)
        return clip.checked([pixels for pixels, _ in clip.read(file)]) if mode == VIDEO else np.load(file)

    def seconds(self, mode: str) -> float:
        """Seconds of one call.

        Raises:
            ChildProcessError: the process ended.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the process ended; its missing answer is reported
            self._process.stdin.write(f"{mode}\n")
            self._process.stdin.flush()
        return float(self._answer()["seconds"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            last = [text for text in self._log.read_text(errors="replace").splitlines() if text.strip()][-1:]
            raise ChildProcessError(": ".join([f"the process of {self.task.engine} ended", *last]))
        return json.loads(line)


def _ready(engine: Engine, task: Task) -> tuple[dict[str, Call], dict[str, Any]]:
    """The calls, after one run each, and the memory of the first one in a new process: megabytes beyond its result."""
    calls: dict[str, Call] = {}
    peak = None
    for mode in task.modes:
        call = engine.build(task, mode)
        if engine.compiles:
            call()
        if mode == task.modes[0] and memory.why_missing("cpu") is None:
            _give_back()
            peak = memory.peak(partial(_tensors, call), "cpu") / 2**20
        result = call()
        if mode != VIDEO:  # a video's call writes its result itself
            np.save(result_file(task, mode), result)
        calls[mode] = call
    return calls, {"peak_memory": peak}


def _tensors(call: Call) -> list[Tensor]:
    return [torch.from_numpy(call())]


def _give_back() -> None:
    """Returns freed memory to the kernel, so that new allocations are measured."""
    if sys.platform.startswith("linux") and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def _work(task: Task) -> tuple[Mapping[str, Callable[[], object]], dict[str, Any]]:
    if task.engine == FMA_PEAK:
        call = multiply_adds(task)
        return {FMA_PEAK: call}, {"multiply_adds": call()}
    torch.set_num_threads(task.threads)
    return _ready(ENGINES[task.engine], task)


def _serve(task: Task, orders: TextIO, answers: TextIO) -> None:
    def answer(**words: Any) -> None:
        print(json.dumps(words), file=answers, flush=True)

    try:
        calls, said = _work(task)
    except Exception as error:  # an engine may raise anything; the others continue
        return answer(failed=described(error))
    answer(**said)
    for order in orders:
        call = calls[order.strip()]
        started = time.perf_counter()
        call()
        seconds = time.perf_counter() - started
        time.sleep(_SETTLED)
        answer(seconds=seconds)
    return None


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # output of libraries must not mix with answers
    _serve(Task.from_json(sys.argv[1]), sys.stdin, answers)


if __name__ == "__main__":
    main()
