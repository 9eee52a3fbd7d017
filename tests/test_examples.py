"""The examples in the docstrings."""

import doctest
import importlib
import pkgutil

import numpy as np
import pytest
import torch

import zdce

MODULES = [info.name for info in pkgutil.iter_modules(zdce.__path__, "zdce.") if info.name not in ("zdce._C", "zdce.__main__")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_say(name):
    torch.manual_seed(0)
    module = importlib.import_module(name)
    result = doctest.testmod(module, extraglobs={"np": np, "torch": torch, "zdce": zdce})
    assert result.failed == 0
