"""A CUDA graph's behaviour on the CPU: it repeats what operations did to tensors, and none of Python's decisions."""

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


class RecordedGraph:
    """Stands for ``zdce.training.step_graph.CudaGraph``, on tensors of the CPU.

    As on a GPU, a capture changes no tensor that was there before, and results lie where they lay in the capture.
    """

    made = []  # noqa: RUF012 (of the test that patches it in)

    def __init__(self, device):
        self.captures = self.replays = 0
        self.warmed_up = []
        self.made.append(self)

    def warm_up(self, compute):
        self.warmed_up.append(self.captures)
        return compute()

    def capture(self, compute):
        self.captures += 1
        with _Recording() as recording:
            result = compute()
        self._operations = recording.operations
        for tensor, before in recording.before.values():
            tensor.detach().copy_(before)
        return result

    @torch.no_grad()
    def replay(self):
        self.replays += 1
        for operator, arguments, keywords, results in self._operations:
            again = operator(*arguments, **keywords)
            for there, result in zip(tensors(results), tensors(again), strict=True):
                if there is not result:
                    there.copy_(result)
