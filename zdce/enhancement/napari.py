"""A widget for napari that adds a brighter layer. ``napari.yaml`` in this folder registers it."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zdce.enhancement.enhance import enhance
from zdce.errors import InputError
from zdce.settings import EnhanceSettings

if TYPE_CHECKING:
    import napari

# Properties that the new layer takes from the original one.
_KEPT = (
    "scale",
    "translate",
    "rotate",
    "shear",
    "affine",
    "units",
    "axis_labels",
    "colormap",
    "contrast_limits",
    "gamma",
    "interpolation2d",
)


def brighten(
    image: "napari.layers.Image", strength: float = EnhanceSettings.strength, only_if_dark: bool = False
) -> "napari.types.LayerDataTuple":
    """A brighter layer.

    Args:
        image: RGB or RGBA in 8 or 16 bits or floating point in [0, 1]; or grey of any type, used as it is shown, between its
            contrast limits. Pictures of a stack are brightened separately.
        strength: as in ``EnhanceSettings``.
        only_if_dark: leave pictures that are not dark as they are.

    Returns:
        Data with the layer's shape and type, its properties, and its kind, for ``Layer.create``.

    Raises:
        ValueError: the layer is multiscale, or has values outside of the range of its type.
    """
    if image.multiscale:
        raise InputError(f"{image.name}: expected a layer of one scale, got {len(image.data)}")
    data, settings = np.asarray(image.data), EnhanceSettings(strength=strength, only_if_dark=only_if_dark)
    result = _each(data, 3, settings) if image.rgb else _in_limits(data, image.contrast_limits, settings)
    kept = {name: getattr(image, name) for name in _KEPT if name != "contrast_limits" or not image.rgb}
    return result, {"name": f"{image.name} (brighter)", "rgb": image.rgb, **kept}, "image"


def _each(data: NDArray[Any], dimensions: int, settings: EnhanceSettings) -> NDArray[Any]:
    """Every picture of a stack; a picture has this number of ``dimensions``."""
    pictures = data.reshape(-1, *data.shape[data.ndim - dimensions :])
    result = np.empty_like(pictures)
    for i, picture in enumerate(pictures):
        result[i] = enhance(picture, None, settings)
    return result.reshape(data.shape)


def _in_limits(data: NDArray[Any], limits: tuple[float, float], settings: EnhanceSettings) -> NDArray[Any]:
    """Grey pictures scaled so that ``limits`` are black and white; values beyond are kept beyond."""
    black, white = limits
    shown = ((data.astype(np.float32) - np.float32(black)) / np.float32(white - black)).clip(0, 1)
    change = (_each(shown, 2, settings) - shown) * np.float32(white - black)
    result = data + change
    if np.issubdtype(data.dtype, np.integer):
        bounds = np.iinfo(data.dtype)
        result = np.rint(result).clip(bounds.min, bounds.max)
    return result.astype(data.dtype)
