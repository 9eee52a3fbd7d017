"""The networks that a server offers, by name, and their enhancers."""

import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zdce.enhancement.enhancer import Enhancer, Network, load
from zdce.errors import InputError
from zdce.settings import FAST_SCALE, VIDEO_SCALE, EnhanceSettings


class Networks:
    """Networks by the names that visitors see.

    Args:
        sources: names or paths that ``zdce.load`` takes, each once. A file is offered under its name, with as many of its
            folders as distinguish it from the others.
        device: device of the networks, as torch names it.

    Raises:
        ValueError: ``sources`` is empty, or has a network twice.
        FileNotFoundError, ValueError: as for ``zdce.load``.
    """

    def __init__(self, sources: Sequence[str], device: str = "cpu") -> None:
        networks: list[Network] = [load(source, device) for source in sources]
        self._networks = dict(zip(_names(sources), networks, strict=True))
        self._enhancers: dict[tuple[str, str], Enhancer] = {}

    @property
    def default(self) -> str:
        return next(iter(self._networks))

    def described(self) -> list[dict[str, Any]]:
        """Each network's name, summary, and useful scales, the most exact one first."""
        return [
            {
                "name": name,
                "variant": network.variant.name,
                "summary": network.variant.summary,
                "parameters": network.variant.parameters,
                "scales": _scales(network),
            }
            for name, network in self._networks.items()
        ]

    def enhancer(self, name: str | None, settings: EnhanceSettings) -> Enhancer:
        """An enhancer with the network of that ``name`` (None: the first); packed weights are shared.

        Raises:
            ValueError: there is no such network.
        """
        name = self.default if name is None else name
        if name not in self._networks:
            raise InputError(f"model must be one of {', '.join(self._networks)}, got {reprlib.repr(name)}")
        key = name, settings.precision
        if key not in self._enhancers:
            self._enhancers[key] = Enhancer(self._networks[name], precision=settings.precision)
        return self._enhancers[key].with_settings(settings)


def _scales(network: Network) -> list[int]:
    own = network.variant.scale
    return [own, *(scale for scale in (FAST_SCALE, VIDEO_SCALE) if scale > own)]


def _names(sources: Sequence[str]) -> list[str]:
    if not sources:
        raise InputError("expected at least one model")
    paths = [Path(source.removesuffix(".safetensors")) for source in sources]
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    raise InputError(f"expected each model once, got {', '.join(sources)}")
