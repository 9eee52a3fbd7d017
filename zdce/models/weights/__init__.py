"""Trained networks that come with the package, with their training settings.

``NAME.safetensors`` has the weights of the variant NAME, ``NAME.toml`` the ``config.toml`` of their training run.
``zdce train --config NAME.toml`` repeats it.
"""

from pathlib import Path

from zdce.errors import InputError
from zdce.models.variants import VARIANTS

FOLDER = Path(__file__).parent

# Default of commands.
DEFAULT = "local"


def file(name: str) -> Path:
    """Path of the shipped weights of the variant ``name``; the file may not exist."""
    return FOLDER / f"{name}.safetensors"


def recipe(name: str) -> Path:
    """Path of the training settings of the shipped weights of the variant ``name``."""
    return FOLDER / f"{name}.toml"


def names() -> list[str]:
    """Names of the variants with shipped weights, in the order of ``VARIANTS``."""
    return [name for name in VARIANTS if file(name).is_file()]


def resolve(path_or_name: str | Path) -> Path:
    """Path of the shipped weights if ``path_or_name`` is the name of a variant, otherwise the path itself.

    Raises:
        InputError: the named variant has no shipped weights.
    """
    if path_or_name not in VARIANTS:
        return Path(path_or_name)
    if path_or_name not in names():
        raise InputError(
            f"there are no shipped weights of {path_or_name}, only of {', '.join(names())}: train it or give a file"
        )
    return file(str(path_or_name))
