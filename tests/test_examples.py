"""The examples in the docstrings."""

import doctest
import importlib
import pkgutil

import numpy as np
import pytest
import torch

import zdce

# Those with parts that only some machines have are imported by the tests of what they do.
LEFT_OUT = (
    "zdce._C", "zdce._core", "zdce._cuda", "zdce.libzdce", "zdce.__main__", "zdce.kernels.", "zdce.convert.spandrel",
)  # fmt: skip
MODULES = [info.name for info in pkgutil.walk_packages(zdce.__path__, "zdce.") if not info.name.startswith(LEFT_OUT)]


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_say(name):
    torch.manual_seed(0)
    module = importlib.import_module(name)
    result = doctest.testmod(module, extraglobs={"np": np, "torch": torch, "zdce": zdce})
    assert result.failed == 0


def test_examples_are_found():
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [example for name in MODULES for example in finder.find(importlib.import_module(name)) if example.examples]
    # A walk that misses a package would find fewer.
    assert len(found) >= 45
