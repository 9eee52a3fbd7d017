"""Processes of `zdce` that begin as forks of one that has PyTorch and its compiler, whose import takes four seconds."""

import atexit
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

# Forks for each line of JSON and answers the fork's number; or answers a fork's exit code, null where it runs; or stops it.
_SERVER = """
import contextlib, json, os, runpy, signal, sys
import torch._dynamo  # which the first optimizer imports
import zdce.cli, zdce.training
forked, running = False, []
for line in sys.stdin:
    order = json.loads(line)
    if "poll" in order:
        pid, status = os.waitpid(order["poll"], os.WNOHANG)
        answer = os.waitstatus_to_exitcode(status) if pid else None
    elif "stop" in order:
        os.kill(order["stop"], signal.SIGSTOP)
        answer = os.WIFSTOPPED(os.waitpid(order["stop"], os.WUNTRACED)[1])
    else:
        answer = os.fork()
        if forked := answer == 0:
            break
        running.append(answer)
    print(json.dumps(answer), flush=True)
if not forked:  # the tests have ended: forks of those that failed may still run
    for pid in running:
        with contextlib.suppress(ChildProcessError):  # it has been waited for
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                os.kill(pid, signal.SIGKILL)
else:
    for number, name in enumerate((os.devnull, order["output"], order["errors"])):
        os.dup2(os.open(name, os.O_RDWR), number)
    os.environ.clear()
    os.environ.update(order["environment"])
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))  # which it read long ago
    sys.argv = ["zdce", *order["arguments"]]
    os.chdir(order["folder"])
    exec(order["code"], {})
    runpy.run_module("zdce", run_name="__main__", alter_sys=True)
"""


@functools.cache
def _server() -> "subprocess.Popen[str]":
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    server = subprocess.Popen([sys.executable, "-c", _SERVER], text=True, **pipes)
    atexit.register(server.communicate)  # it ends with its input
    return server


def _answer(**order):
    server = _server()
    server.stdin.write(json.dumps(order) + "\n")
    server.stdin.flush()
    answer = server.stdout.readline()
    assert answer, f"the process that forks ended with exit code {server.wait()}"
    return json.loads(answer)


class Process:
    """A process of `zdce ARGUMENTS` that runs ``code`` before; what tests use of ``subprocess.Popen``."""

    def __init__(self, *arguments, code="", environment=None):
        self._files = [tempfile.NamedTemporaryFile("r") for _ in range(2)]  # noqa: SIM115 (closed with the process)
        self.returncode = None
        self.pid = _answer(
            arguments=[*map(str, arguments)], code=code, environment={**os.environ, **(environment or {})}, folder=os.getcwd(),
            output=self._files[0].name, errors=self._files[1].name,
        )  # fmt: skip

    def poll(self):
        if self.returncode is None:
            self.returncode = _answer(poll=self.pid)
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def stop(self):
        """Stops it, to go on no more."""
        assert _answer(stop=self.pid)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout=120):
        """What it wrote to standard output and standard error until its end."""
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"it still ran after {timeout} s")
            time.sleep(0.005)
        told = tuple(file.read() for file in self._files)
        for file in self._files:
            file.close()
        return told


def ranks(count, *arguments):
    """``count`` processes of `zdce ARGUMENTS` that work together, in the environment that torchrun gives them."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    job = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    every = [{**job, "RANK": rank, "LOCAL_RANK": rank, "OMP_NUM_THREADS": 1} for rank in range(count)]
    return [Process(*arguments, environment={name: str(value) for name, value in own.items()}) for own in every]
