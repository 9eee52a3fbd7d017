"""What a request asks for, checked."""

import reprlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from zdce.errors import InputError
from zdce.serving.networks import MOST_SCALE

N = TypeVar("N", int, float)

# The names of what results can be, and their files' suffixes; None is the picture's own.
FORMATS = {"same": None, "jpeg": ".jpg", "png": ".png", "webp": ".webp", "tiff": ".tif", "bmp": ".bmp"}

MOST_STRENGTH = 4.0


@dataclass(frozen=True)
class Wish:
    """What is to be done with a picture.

    Attributes:
        model: a network's name, or None for the first.
        scale: how many times smaller the image is on which the curve is estimated, or None for the network's own.
        strength: 1 as trained, 0 nothing, above 1 stronger, negative darkens.
        format: of the result, a key of ``FORMATS``.
        quality: of JPEG and WebP, 1 to 100.
    """

    model: str | None = None
    scale: int | None = None
    strength: float = 1.0
    format: str = "same"
    quality: int = 95

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Wish":
        """From a query's texts or JSON's values.

        Raises:
            ValueError: one is unknown, or not what it must be.
        """
        known = [field.name for field in fields(cls)]
        if unknown := [name for name in values if name not in known]:
            raise InputError(f"expected the parameters {', '.join(known)}, got {reprlib.repr(unknown[0])}")
        given = {name: value for name, value in values.items() if value is not None}
        if not isinstance(given.get("model", ""), str):
            raise InputError(f"model must be a name, got {reprlib.repr(given['model'])}")
        if given.get("format", "same") not in list(FORMATS):
            raise InputError(f"format must be one of {', '.join(FORMATS)}, got {reprlib.repr(given['format'])}")
        for name, kind, least, most in (
            ("scale", int, 1, MOST_SCALE), ("strength", float, -MOST_STRENGTH, MOST_STRENGTH), ("quality", int, 1, 100),
        ):  # fmt: skip
            if name in given:
                given[name] = _number(name, given[name], kind, least, most)
        return cls(**given)


def _number(name: str, value: Any, kind: type[N], least: N, most: N) -> N:
    what = "a whole number" if kind is int else "a number"
    number: N | None = None
    if not isinstance(value, bool) and not (kind is int and isinstance(value, float) and not value.is_integer()):
        with suppress(ValueError, TypeError, OverflowError):
            number = kind(value)
    if number is None or not least <= number <= most:  # also what is no number at all
        raise InputError(f"{name} must be {what} from {least:g} to {most:g}, got {reprlib.repr(value)}")
    return number
