"""``zdce.enhance``: pictures of many kinds, enhanced and returned in the same kind."""

import functools
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, Unpack, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zdce.enhancement import colour, picture_files, video
from zdce.enhancement.enhancer import Enhancer, Network, is_tensor, load
from zdce.enhancement.transparency import enhance_visible
from zdce.errors import InputError
from zdce.io import images
from zdce.models import weights
from zdce.settings import EnhanceSettings, SettingsKeywords

if TYPE_CHECKING:
    from torch import Tensor

# A loaded network, or an argument of ``zdce.load``.
Model: TypeAlias = Network | str | os.PathLike[str]

# The network if none is given; None: one must be given.
DEFAULT: str | None = weights.DEFAULT

_Scalar = TypeVar("_Scalar", bound=np.generic)


@overload
def enhance(
    image: NDArray[_Scalar], model: Model | None = None, settings: EnhanceSettings | None = None, *, device: str | None = None,
    **keywords: Unpack[SettingsKeywords],
) -> NDArray[_Scalar]: ...  # fmt: skip
@overload
def enhance(
    image: "Tensor", model: Model | None = None, settings: EnhanceSettings | None = None, *, device: str | None = None,
    **keywords: Unpack[SettingsKeywords],
) -> "Tensor": ...  # fmt: skip
@overload
def enhance(
    image: Image.Image | str | os.PathLike[str], model: Model | None = None, settings: EnhanceSettings | None = None, *,
    device: str | None = None, **keywords: Unpack[SettingsKeywords],
) -> Image.Image: ...  # fmt: skip
@overload
def enhance(
    image: str | os.PathLike[str], model: Model | None = None, settings: EnhanceSettings | None = None, *,
    output: str | os.PathLike[str], device: str | None = None, **keywords: Unpack[SettingsKeywords],
) -> Path: ...  # fmt: skip
def enhance(
    image: Any,
    model: Model | None = None,
    settings: EnhanceSettings | None = None,
    *,
    output: str | os.PathLike[str] | None = None,
    device: str | None = None,
    **keywords: Unpack[SettingsKeywords],
) -> Any:
    """The enhanced picture, in the same kind: an array for an array, a tensor for a tensor, a Pillow image for one or for a
    path.

    A network given by name or path is loaded once, and again when its file has changed. A loaded network runs on its own
    device, with its present weights.

    Args:
        image: one of

            - an array (H, W, 3); grey (H, W) or (H, W, 1); (H, W, 4) with opacity, which is kept; or a batch (B, H, W, C);
              uint8, uint16, or floating in [0, 1].
            - a tensor (3, H, W) or (B, 3, H, W); uint8, uint16, or floating in [0, 1]. The result has no gradient.
            - a Pillow image. Modes RGB, RGBA, L, LA and I;16 are kept; others become the nearest of these; F and La are
              refused.
            - the path of a picture file, which is read upright; with ``output`` also of a video file (the extra ``video``).
        model: a loaded network, or a name or path that ``zdce.load`` takes. None is the default network, ``local``.
        settings: the settings; None stands for the defaults.
        output: for a path: the file to write, in the format of its suffix, with the metadata of the input. An existing file is
            replaced.
        device: device of a network given by name or path, such as ``"cuda"``; ``"auto"`` is the GPU if PyTorch has one. None is
            a tensor's own device, and the CPU for all other images.
        keywords: fields of ``EnhanceSettings``, which replace those in ``settings``.

    Returns:
        The enhanced picture, with the kind, shape and type of ``image``; or the path ``output`` if that is given.

    Raises:
        TypeError: ``image`` or ``model`` is of another kind, or a keyword is not a setting.
        ValueError: ``image`` has another shape, or values that are not finite or outside of [0, 1]; a setting is out of range,
            or not one of the network's; ``output`` is the input itself, or ``image`` no path beside it; ``device`` is given
            with a loaded network.
        OSError: a file can't be read or written, or there is no such network.

    >>> zdce.enhance(np.full((5, 7, 3), 20, np.uint8), zdce.DCENet("iters4")).shape
    (5, 7, 3)
    """
    if output is not None and not isinstance(image, str | os.PathLike):
        raise InputError(f"output needs an image that is a path, got {type(image).__name__} and output {str(output)!r}")
    if device is None and is_tensor(image) and (model is None or isinstance(model, str | os.PathLike)):
        device = str(image.device)
    asked = EnhanceSettings.of(settings, **keywords)
    enhancer = enhancer_for(model, asked, device)
    if output is None:
        return enhanced(image, enhancer)
    source, target = Path(image), Path(output)
    if target.resolve() == source.resolve():
        raise InputError(f"output must be another file than image, got {target}")
    if video.is_video(source):
        return _film(source, target, enhancer.with_settings(video.settings_for(enhancer.variant, asked)))
    return _file(source, target, enhancer)


def enhancer_for(model: Model | None, settings: EnhanceSettings, device: str | None = None) -> Enhancer:
    """An enhancer with ``model``. A name or path is loaded onto ``device`` (None: the CPU), once as long as the file is the
    same.

    Raises:
        FileNotFoundError, ValueError: as ``zdce.load``; or ``device`` is given with a loaded network.
    """
    if model is not None and not isinstance(model, str | os.PathLike):
        if device is not None:
            raise InputError(f"device must be None for a loaded network, which runs on its own device, got {device!r}")
        return Enhancer(model, settings)
    name = DEFAULT if model is None else os.fspath(model)
    if name is None:
        raise InputError("model must be a network or a .safetensors file of zdce train, got None")
    return _kept(name, _stamp(Path(name)), device or "cpu", settings.precision).with_settings(settings)


def _stamp(path: Path) -> tuple[int, int] | None:
    if not path.is_file():
        return None
    status = path.stat()
    return status.st_mtime_ns, status.st_size


@functools.lru_cache(maxsize=4)
def _kept(name: str, stamp: tuple[int, int] | None, device: str, precision: str) -> Enhancer:
    return Enhancer(load(name, device), precision=precision)


def enhanced(image: Any, enhancer: Enhancer) -> Any:
    """``image``, of any kind that ``enhance`` takes, enhanced by ``enhancer``; results and errors are those of ``enhance``."""
    if is_tensor(image):
        return _tensor(image, enhancer)
    if isinstance(image, np.ndarray):
        return _array(image, enhancer)
    if isinstance(image, Image.Image):
        return images.to_pillow(colour.enhance(images.from_pillow(image), enhancer))
    if isinstance(image, str | os.PathLike):
        return images.to_pillow(colour.enhance(images.read(Path(image)), enhancer))
    raise TypeError(f"image must be an array, a tensor, a Pillow image or a path, got {type(image).__name__}")


def _file(source: Path, target: Path, enhancer: Enhancer) -> Path:
    result = picture_files.write(source, target, enhancer.settings, functools.partial(colour.enhance, enhancer=enhancer))
    for note in result.notes:
        warnings.warn(f"{target}: {note}", stacklevel=3)  # The warning names the line that called zdce.enhance.
    return target


def _film(source: Path, target: Path, enhancer: Enhancer) -> Path:
    report = video.enhance(source, target, enhancer)
    for line in filter(None, [*report.notes, report.fault]):
        warnings.warn(f"{target}: {line}", stacklevel=3)  # The warning names the line that called zdce.enhance.
    return target


def _tensor(image: "Tensor", enhancer: Enhancer) -> "Tensor":
    """A tensor (3, H, W) or (B, 3, H, W), enhanced."""
    import torch

    from zdce.interleaved import WHITE

    if not (image.is_floating_point() or image.dtype in WHITE):
        raise TypeError(f"image must be a uint8, uint16 or floating tensor, got {image.dtype}")
    if image.dim() not in (3, 4) or image.shape[-3] != 3 or 0 in image.shape:
        raise InputError(f"image must be (3, H, W) or (B, 3, H, W) with no side of 0, got {tuple(image.shape)}")
    white = WHITE.get(image.dtype, 1)
    batch = (image.detach() if image.dim() == 4 else image.detach()[None]).to(torch.float32) / white
    result = enhancer(batch).reshape(image.shape)
    # A clone of a tensor from inference mode can be used in training.
    return (result * white).round().to(image.dtype) if white > 1 else result.clone().to(image.dtype)


def _array(image: NDArray[Any], enhancer: Enhancer) -> NDArray[Any]:
    """An array (H, W), (H, W, C) or (B, H, W, C), C being 1, 3 or 4, enhanced."""
    if image.dtype not in (np.uint8, np.uint16) and not np.issubdtype(image.dtype, np.floating):
        raise TypeError(f"image must be a uint8, uint16 or floating array, got {image.dtype}")
    if image.ndim == 2 and image.size:
        return _colors(image[..., None].repeat(3, 2), enhancer, grey=True)[..., 0]
    if image.ndim not in (3, 4) or image.shape[-1] not in (1, 3, 4) or not image.size:
        raise InputError(f"image must be (H, W), (H, W, C) or (B, H, W, C) with 1, 3 or 4 channels C, got {image.shape}")
    if image.ndim == 4:
        return np.stack([_array(one, enhancer) for one in image])
    if image.shape[2] == 1:
        return _array(image[..., 0], enhancer)[..., None]
    alpha = image[..., 3] if image.shape[2] == 4 else None
    colours = enhance_visible(image[..., :3], alpha, lambda pixels: _colors(pixels, enhancer, grey=False))
    return np.concatenate([colours, image[..., 3:]], axis=2)


def _colors(image: NDArray[Any], enhancer: Enhancer, grey: bool) -> NDArray[Any]:
    """``image`` (H, W, 3) enhanced. For ``grey`` pictures the channels' mean (H, W, 1), because the network changes channels
    differently.
    """
    floating = np.issubdtype(image.dtype, np.floating)
    result: NDArray[Any] = enhancer(image.astype(np.float32, copy=False) if floating else image)
    if not grey:
        return result.astype(image.dtype, copy=False)
    mean = result.mean(axis=2, keepdims=True, dtype=np.float32)
    return (mean if floating else np.rint(mean)).astype(image.dtype)
