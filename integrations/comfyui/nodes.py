"""A node that brightens dark images. Its inputs are the settings of ``zdce.EnhanceSettings`` that have an effect on pixels."""

import os
from typing import Any

import comfy.utils
import folder_paths
import torch
from torch import Tensor

import zdce
from zdce.models import weights
from zdce.settings import EnhanceSettings, Option, options

# Folder of the user's own networks, below ComfyUI's folder of models.
FOLDER = "zdce"
folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, FOLDER))

# Choice that stands for None, and bounds of numbers that have none: ComfyUI's own would be 0 and 2048.
_UNSET = "default"
_FARTHEST = 10.0


def _networks() -> list[str]:
    """Shipped networks, the default first, and the files in the user's folder."""
    files = [name for name in folder_paths.get_filename_list(FOLDER) if name.endswith(".safetensors")]
    return [*sorted(weights.names(), key=weights.DEFAULT.__ne__), *files]


def _path_or_name(model: str) -> str:
    return model if model in weights.names() else folder_paths.get_full_path_or_raise(FOLDER, model)


def _input(name: str, option: Option) -> tuple[Any, dict[str, Any]]:
    """Type and properties of a setting's widget."""
    default = getattr(EnhanceSettings(), name)
    if option.kind is bool:
        return "BOOLEAN", {"default": default, "tooltip": option.help}
    if option.choices:
        choices = [_UNSET, *option.choices] if option.unset else list(option.choices)
        tooltip = f"{option.help} {_UNSET}: {option.unset}." if option.unset else option.help
        return choices, {"default": _UNSET if default is None else default, "tooltip": tooltip}
    return _number(option, default)


def _number(option: Option, default: float | None) -> tuple[str, dict[str, Any]]:
    """Widgets have no empty value: a number one below the least stands for None."""
    least = -_FARTHEST if option.least is None else option.least
    most = next((bound for bound in (option.most, option.below) if bound is not None), _FARTHEST)
    step = 1 if option.kind is int else 0.01 if most - least <= 2 * _FARTHEST else 0.1
    lowest = least - 1 if option.unset else least
    highest = most if option.below is None else most - step
    tooltip = f"{option.help} Below {least:g}: {option.unset}." if option.unset else option.help
    widget = {"default": lowest if default is None else default, "min": lowest, "max": highest, "step": step}
    kind = option.kind
    typed = {key: kind(value) if key != "step" else value for key, value in widget.items()}
    return "INT" if kind is int else "FLOAT", {**typed, "tooltip": tooltip}


def _setting(option: Option, value: Any) -> Any:
    """What a widget's value means: None where it stands for that."""
    if option.unset and (value == _UNSET if option.choices else value < option.least):
        return None
    return value


class ZdceEnhance:
    """Brightens dark images; lit images hardly change."""

    CATEGORY = "image/postprocessing"
    DESCRIPTION = __doc__
    SEARCH_ALIASES = ("low light", "brighten", "night", "exposure", "Zero-DCE")
    FUNCTION = "enhance"
    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Any]]:  # noqa: N802
        # Saved workflows know widgets by their places: settings come last, so that a new one moves none of the others here.
        return {
            "required": {
                "image": ("IMAGE", {"tooltip": "RGB images, or RGBA, whose opacity is kept."}),
                "model": (_networks(), {"tooltip": f"Network that comes with zdce, or a file in models/{FOLDER}."}),
                "device": (["auto", "cpu"], {"tooltip": "Where the network runs; auto takes the GPU if there is one."}),
                **{name: _input(name, option) for name, option in options("pixels").items()},
            }
        }

    @classmethod
    def IS_CHANGED(cls, model: str, **_: Any) -> int:  # noqa: N802
        """A number that is another one when the network's file was written anew."""
        return 0 if model in weights.names() else os.stat(_path_or_name(model)).st_mtime_ns

    def enhance(self, image: Tensor, model: str, device: str, **values: Any) -> tuple[Tensor]:
        """The enhanced images, each for itself.

        Args:
            image: (B, H, W, C) with 3 or 4 channels, floating in [0, 1]; what lies outside is clipped.
            model: a name of ``_networks``.
            device: ``"auto"`` or ``"cpu"``.
            values: those of the widgets.
        """
        settings = EnhanceSettings(**{name: _setting(option, values[name]) for name, option in options("pixels").items()})
        network = _path_or_name(model)
        pictures = image.detach().float().clamp(0, 1).cpu()
        enhanced = torch.empty_like(pictures)
        bar = comfy.utils.ProgressBar(len(pictures))
        for to, picture in zip(enhanced, pictures, strict=True):
            to.copy_(torch.from_numpy(zdce.enhance(picture.numpy(), network, settings, device=device)))
            bar.update(1)
        return (enhanced.to(image),)


NODE_CLASS_MAPPINGS = {"ZdceEnhance": ZdceEnhance}
NODE_DISPLAY_NAME_MAPPINGS = {"ZdceEnhance": "Brighten Dark Image (zdce)"}
