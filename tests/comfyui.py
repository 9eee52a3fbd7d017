"""A stand-in for ComfyUI: its import of a folder of ``custom_nodes``, and the few modules that the node uses."""

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from unittest import mock

NODES = Path(__file__).parents[1] / "integrations" / "comfyui"


class ProgressBar:
    """Counts as ComfyUI's does, for all that were made."""

    done = 0

    def __init__(self, total):
        self.total = total

    def update(self, count):
        type(self).done += count


def _folder_paths(models: Path) -> ModuleType:
    folders = {}

    def get_filename_list(name):
        return sorted(str(file.relative_to(folders[name])) for file in folders[name].rglob("*") if file.is_file())

    def get_full_path_or_raise(name, file):
        if not (folders[name] / file).is_file():
            raise FileNotFoundError(f"Model in folder '{name}' with filename '{file}' not found.")
        return str(folders[name] / file)

    module = ModuleType("folder_paths")
    module.models_dir = str(models)
    module.add_model_folder_path = lambda name, path: folders.update({name: Path(path)})
    module.get_filename_list, module.get_full_path_or_raise = get_filename_list, get_full_path_or_raise
    return module


@contextmanager
def loaded(models: Path) -> Iterator[ModuleType]:
    """The module of the nodes as ComfyUI imports it, with its folder of models in ``models``."""
    utils = ModuleType("comfy.utils")
    utils.ProgressBar = ProgressBar
    comfy = ModuleType("comfy")
    comfy.utils = utils
    name = str(NODES).replace(".", "_x_")
    stubs = {"comfy": comfy, "comfy.utils": utils, "folder_paths": _folder_paths(models)}
    with mock.patch.dict(sys.modules, stubs):  # which also takes out what is imported within
        spec = importlib.util.spec_from_file_location(name, NODES / "__init__.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        yield module
