"""CUDA's streams and graphs on the CPU. A graph repeats what operations did to tensors, and none of Python's decisions."""

import threading
from contextlib import contextmanager, nullcontext

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def tensors(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def written(operator, arguments, keywords):
    """Tensors that ``operator`` writes."""
    named = {argument.name: value for argument, value in zip(operator._schema.arguments, arguments, strict=False)} | keywords
    return [
        tensor
        for argument in operator._schema.arguments
        if argument.alias_info is not None and argument.alias_info.is_write
        for tensor in tensors(named.get(argument.name))
    ]


class _Recording(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.operations, self.before = [], {}

    def __torch_dispatch__(self, operator, types, arguments=(), keywords=None):
        keywords = keywords or {}
        for tensor in written(operator, arguments, keywords):
            self.before.setdefault(id(tensor), (tensor, tensor.clone()))
        results = operator(*arguments, **keywords)
        if not operator.is_view:
            self.operations.append((operator, arguments, keywords, results))
        return results


class Graph:
    """Stands for ``torch.cuda.CUDAGraph``."""

    def __init__(self, log):
        self.captures = 0
        self._log = log

    @contextmanager
    def capturing(self):
        self.captures += 1
        with _Recording() as recording:
            yield
        self._operations = recording.operations
        for tensor, before in recording.before.values():
            tensor.detach().copy_(before)

    @torch.no_grad()
    def replay(self):
        self._log.append("replay")
        for operator, arguments, keywords, results in self._operations:
            again = operator(*arguments, **keywords)
            for there, result in zip(tensors(results), tensors(again), strict=True):
                if there is not result:
                    there.copy_(result)


class _Stream:
    """Stands for ``torch.cuda.Stream``, and notes when it waits for an event."""

    def __init__(self, log):
        self._log = log

    def wait_stream(self, stream):
        assert stream is not self

    def wait_event(self, event):
        self._log.append("wait")


class _Event:
    """Stands for ``torch.cuda.Event``."""

    def __init__(self, log):
        self._log = log

    def record(self):
        self._log.append("record")


class CudaOnCpu:
    """Stands for what zdce uses of ``torch.cuda`` to make graphs, on tensors of the CPU.

    As on a GPU, a capture changes no tensor that was there before, results lie where they lay in the capture, each thread has a
    current stream, and a capture can't begin while another thread captures.

    Attributes:
        graphs: those that were made.
        log: what was done, in order: work in a stream "beside" the default one, "capture", "replay", and what streams and
            events do, "wait" and "record".
    """

    def __init__(self, monkeypatch):
        self.graphs, self.log = [], []
        self._default, self._of_thread = _Stream(self.log), threading.local()
        self._captures = threading.Lock()
        for name, stands_for_it in {
            "Stream": lambda device=None: _Stream(self.log),
            "Event": lambda: _Event(self.log),
            "CUDAGraph": self._new_graph,
            "device": nullcontext,
            "current_stream": self.current_stream,
            "stream": self._beside,
            "graph": self._capture,
        }.items():
            monkeypatch.setattr(torch.cuda, name, stands_for_it)
        monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: None)

    def current_stream(self, device=None):
        return getattr(self._of_thread, "stream", self._default)

    def _new_graph(self):
        self.graphs.append(Graph(self.log))
        return self.graphs[-1]

    @contextmanager
    def _current(self, stream):
        before, self._of_thread.stream = self.current_stream(), stream
        try:
            yield
        finally:
            self._of_thread.stream = before

    @contextmanager
    def _beside(self, stream):
        self.log.append("beside")
        with self._current(stream):
            yield

    @contextmanager
    def _capture(self, graph, stream, capture_error_mode):
        if not self._captures.acquire(blocking=False):
            raise RuntimeError("operation not permitted when stream is capturing")
        try:
            assert capture_error_mode == "thread_local"  # else what other threads do is an error
            self.log.append("capture")
            with self._current(stream), graph.capturing():
                yield
        finally:
            self._captures.release()
