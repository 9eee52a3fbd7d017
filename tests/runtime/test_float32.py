"""cuDNN's precision of float32, one setting for all threads."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
import torch

from zdce.runtime import float32


def precision():
    return torch.backends.cudnn.conv.fp32_precision


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_contexts_of_several_threads_close_in_any_order(order):
    """The precise one holds while it is open, and the last to close restores what was there before the first."""
    before = precision()
    stacks = [ExitStack() for _ in range(3)]
    wanted = ["tf32", "ieee", "tf32"]
    with ThreadPoolExecutor(1) as other:  # contexts are no thread's own: opened here, closed there
        for stack, name in zip(stacks, wanted, strict=True):
            stack.enter_context(float32.convolutions(name))
        left = list(order)
        while left:
            assert precision() == ("ieee" if 1 in left else "tf32")
            other.submit(stacks[left.pop(0)].close).result()
    assert precision() == before


def test_an_error_inside_restores_the_setting():
    before = precision()
    with pytest.raises(ZeroDivisionError), float32.convolutions("ieee"):
        raise ZeroDivisionError
    assert precision() == before
