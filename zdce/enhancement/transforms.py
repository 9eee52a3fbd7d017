"""``zdce.transforms.Enhance``: enhancement as a step of a torchvision-style pipeline."""

import copy
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

from PIL import Image

from zdce.enhancement.enhance import Model, enhanced, enhancer_for
from zdce.enhancement.enhancer import is_tensor
from zdce.settings import EnhanceSettings, SettingsKeywords

if TYPE_CHECKING:
    from torch import Tensor

_Image = TypeVar("_Image", Image.Image, "Tensor")


class Enhance:
    """A callable for pipelines such as ``torchvision.transforms.v2.Compose``; torchvision is not needed.

    It takes an image or, like the transforms of torchvision's v2, any sample: several arguments, or tuples, lists and
    dictionaries of values. Pillow images and torchvision's ``Image`` tensors in it are enhanced; if there are none, the first
    plain tensor is. Everything else (labels, boxes, masks) is returned unchanged. The transform can be pickled for the workers
    of a ``DataLoader``.

    Args:
        model: a loaded network, or a name or path that ``zdce.load`` takes; None is the default network, ``local``.
        settings: the settings; None stands for the defaults.
        device: device of a network given by name or path, as for ``zdce.load``; None is the CPU.
        keywords: fields of ``zdce.EnhanceSettings``, which replace those in ``settings``.

    Raises:
        FileNotFoundError, TypeError, ValueError: there is no such network or setting, or a value is out of range.

    >>> brighten = zdce.transforms.Enhance(zdce.DCENet("iters4"))
    >>> image, label = brighten(torch.rand(3, 20, 30), 7)
    >>> image.shape, label
    (torch.Size([3, 20, 30]), 7)
    """

    def __init__(
        self, model: Model | None = None, settings: EnhanceSettings | None = None, *, device: str | None = None,
        **keywords: Unpack[SettingsKeywords],
    ) -> None:  # fmt: skip
        self._enhancer = enhancer_for(model, EnhanceSettings.of(settings, **keywords), device)

    @overload
    def __call__(self, image: _Image, /) -> _Image: ...

    @overload
    def __call__(self, *inputs: Any) -> Any: ...

    def __call__(self, *inputs: Any) -> Any:
        """The image, or the sample with its images enhanced.

        Args:
            inputs: a Pillow image; a tensor (3, H, W) or (B, 3, H, W), uint8, uint16 or floating in [0, 1]; or a sample.

        Raises:
            TypeError: the sample has no image.
            ValueError: a tensor has another shape.
        """
        sample = inputs[0] if len(inputs) == 1 else inputs
        chosen = _images(list(_leaves(sample)))
        if not chosen:
            raise TypeError(f"inputs must hold a Pillow image or a tensor, got {type(sample).__name__}")
        return self._replaced(sample, chosen)

    def __repr__(self) -> str:
        enhancer = self._enhancer
        return f"Enhance({enhancer.variant.name}, {enhancer.settings})"

    def _replaced(self, value: Any, chosen: set[int]) -> Any:
        if isinstance(value, dict):
            replaced = copy.copy(value)  # Some types, such as defaultdict, can't be made from their items alone.
            replaced.update((key, self._replaced(inside, chosen)) for key, inside in value.items())
            return replaced
        if isinstance(value, list | tuple):
            values = [self._replaced(inside, chosen) for inside in value]
            return type(value)(*values) if hasattr(value, "_fields") else type(value)(values)
        if id(value) not in chosen:
            return value
        result = enhanced(value, self._enhancer)
        # as_subclass keeps torchvision's Image type.
        return result.as_subclass(type(value)) if is_tensor(value) else result


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for inside in value.values():
            yield from _leaves(inside)
    elif isinstance(value, list | tuple):
        for inside in value:
            yield from _leaves(inside)
    else:
        yield value


def _images(leaves: list[Any]) -> set[int]:
    """The ``id`` of each value that is an image."""
    # Image tensors can exist only if torchvision is imported.
    kinds = (Image.Image, *([sys.modules[name].Image] if (name := "torchvision.tv_tensors") in sys.modules else []))
    marked = {id(leaf) for leaf in leaves if isinstance(leaf, kinds)}
    plain = [id(leaf) for leaf in leaves if is_tensor(leaf) and type(leaf) is sys.modules["torch"].Tensor]
    return marked or set(plain[:1])
