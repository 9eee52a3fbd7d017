"""setuptools' build backend with one change: it requires PyTorch, for its headers, only if none is installed.

An isolated build sees no package of the environment that it is made for, but their folder is known.
"""

import os
import re
import sys
from importlib.metadata import distributions
from pathlib import Path
from sysconfig import get_path

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403 (the hooks that are not changed)

HEADERS = "torch==2.13.0"  # 2.10 and later are suitable: the extension uses the stable ABI of 2.10.


def torch_folder() -> Path | None:
    """Folder of PyTorch 2.10 or later that the build can import or, in an isolated build, of the environment it is made for."""
    for found in distributions(name="torch", path=[*sys.path, get_path("platlib")]):
        folder = Path(found.locate_file("torch"))
        if _version(found.version) >= (2, 10) and (folder / "include").is_dir():
            return folder
    return None


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:2])


def _with_headers(requirements: list[str]) -> list[str]:
    used = os.environ.get("ZDCE_CPP") != "0" or os.environ.get("ZDCE_CUDA") == "1"
    return [*requirements, HEADERS] if used and torch_folder() is None else requirements


def get_requires_for_build_wheel(config_settings: dict | None = None) -> list[str]:
    """Requirements of an isolated build of a wheel."""
    return _with_headers(build_meta.get_requires_for_build_wheel(config_settings))


def get_requires_for_build_editable(config_settings: dict | None = None) -> list[str]:
    """Requirements of an isolated build of an editable installation."""
    return _with_headers(build_meta.get_requires_for_build_editable(config_settings))
