"""The trained networks that come with the package, each with the settings that it was trained by.

``NAME.safetensors`` are the weights of the variant NAME, ``NAME.toml`` the ``config.toml`` of the run that made them.
``zdce train --config NAME.toml`` makes them again.
"""

from pathlib import Path

from zdce.errors import InputError
from zdce.models.variants import VARIANTS

FOLDER = Path(__file__).parent

# What commands use where no model is named.
DEFAULT = "adaptive"


def file(name: str) -> Path:
    """Where the shipped weights of the variant ``name`` lie, or would lie."""
    return FOLDER / f"{name}.safetensors"


def recipe(name: str) -> Path:
    """The settings that the shipped weights of the variant ``name`` were trained by."""
    return FOLDER / f"{name}.toml"


def names() -> list[str]:
    """The variants that have shipped weights, in the order of the table of variants."""
    return [name for name in VARIANTS if file(name).is_file()]


def resolve(path_or_name: str | Path) -> Path:
    """The file of a variant's shipped weights where ``path_or_name`` is a variant's name, else that path.

    Raises:
        ValueError: it names a variant whose weights are not shipped.
    """
    if path_or_name not in VARIANTS:
        return Path(path_or_name)
    if path_or_name not in names():
        raise InputError(f"no weights of {path_or_name} are shipped, only of {', '.join(names())}: train it or name a file")
    return file(str(path_or_name))
