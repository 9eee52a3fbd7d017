#!/usr/bin/env python3
"""A filter of GIMP 3 that brightens dark layers.

GIMP runs this file, which lies in a folder of its own name among the plug-ins and may be executed, with a Python in which zdce
is installed; PyTorch is not needed.
"""

import sys
from typing import Any

import gi

gi.require_version("Gegl", "0.4")
gi.require_version("Gimp", "3.0")
from gi.repository import Gegl, Gimp, GLib, GObject  # noqa: E402

from zdce.settings import EnhanceSettings, Option, options  # noqa: E402

NAME = "plug-in-zdce-enhance"

# Colours are GIMP's business, and the precision is the processor's.
SETTINGS = {name: option for name, option in options("pixels").items() if name not in ("transfer", "precision")}

# Bounds of numbers that have none.
_FARTHEST = 10.0

# sRGB's colours and encoding, with opacity, whatever the image's precision and profile are.
_FORMAT = "R'G'B'A float"


def _add_argument(procedure: Any, name: str, option: Option) -> None:
    """Makes a setting an argument of the procedure; a number one below the least stands for None."""
    title, flags = name.replace("_", " ").capitalize(), GObject.ParamFlags.READWRITE
    default = getattr(EnhanceSettings(), name)
    if option.kind is bool:
        procedure.add_boolean_argument(name.replace("_", "-"), title, option.help, default, flags)
        return
    least = -_FARTHEST if option.least is None else option.least
    most = next((bound for bound in (option.most, option.below) if bound is not None), _FARTHEST)
    lowest = least - 1 if option.unset else least
    blurb = f"{option.help} Below {least:g}: {option.unset}." if option.unset else option.help
    add = procedure.add_int_argument if option.kind is int else procedure.add_double_argument
    numbers = [option.kind(value) for value in (lowest, most, lowest if default is None else default)]
    add(name.replace("_", "-"), title, blurb, *numbers, flags)


def _settings(config: Any) -> dict[str, Any]:
    """The chosen settings."""
    values = {name: config.get_property(name.replace("_", "-")) for name in SETTINGS}
    return {
        name: None if SETTINGS[name].unset and value < (SETTINGS[name].least or 0) else value for name, value in values.items()
    }


def _brighten(drawable: Any, values: dict[str, Any]) -> None:
    """Brightens the selected part of a layer."""
    import numpy as np

    import zdce

    whole = Gegl.Rectangle.new(0, 0, drawable.get_width(), drawable.get_height())
    data = drawable.get_buffer().get(whole, 1.0, _FORMAT, Gegl.AbyssPolicy.NONE)
    pixels = np.frombuffer(data, np.float32).reshape(whole.height, whole.width, 4)
    inside = pixels.clip(0, 1)
    # What lies beyond sRGB's colours, or is brighter than white, stays as far beyond.
    enhanced = zdce.enhance(inside, **values) + (pixels - inside)
    shadow = drawable.get_shadow_buffer()
    shadow.set(whole, _FORMAT, np.ascontiguousarray(enhanced, np.float32).tobytes())
    shadow.flush()
    drawable.merge_shadow(True)
    drawable.update(0, 0, whole.width, whole.height)


def _ask(procedure: Any, config: Any) -> bool:
    """Shows the window of settings; returns whether the user confirmed it."""
    gi.require_version("GimpUi", "3.0")
    from gi.repository import GimpUi

    GimpUi.init("zdce")
    dialog = GimpUi.ProcedureDialog.new(procedure, config, None)
    dialog.fill(None)
    chosen = bool(dialog.run())
    dialog.destroy()
    return chosen


class Zdce(Gimp.PlugIn):  # type: ignore[misc]
    """The plug-in, as GIMP calls it."""

    def do_set_i18n(self, name: str) -> bool:
        return False

    def do_query_procedures(self) -> list[str]:
        return [NAME]

    def do_create_procedure(self, name: str) -> Any:
        procedure = Gimp.ImageProcedure.new(self, name, Gimp.PDBProcType.PLUGIN, self.run, None)
        procedure.set_image_types("RGB*, GRAY*")
        procedure.set_menu_label("Brighten Dark Image (zdce)...")
        procedure.add_menu_path("<Image>/Colors/")
        procedure.set_documentation("Brighten dark layers; lit ones stay nearly as they are", None, name)
        procedure.set_attribution("the zdce authors", "the zdce authors", "2026")
        for setting, option in SETTINGS.items():
            _add_argument(procedure, setting, option)
        return procedure

    def run(self, procedure: Any, mode: Any, image: Any, drawables: list[Any], config: Any, data: Any) -> Any:
        """Shows the settings in interactive mode, and brightens all chosen layers."""
        if mode == Gimp.RunMode.INTERACTIVE and not _ask(procedure, config):
            return procedure.new_return_values(Gimp.PDBStatusType.CANCEL, GLib.Error())
        image.undo_group_start()
        try:
            for drawable in drawables:
                _brighten(drawable, _settings(config))
        except (ValueError, OSError) as error:
            return procedure.new_return_values(Gimp.PDBStatusType.EXECUTION_ERROR, GLib.Error(str(error)))
        finally:
            image.undo_group_end()
        Gimp.displays_flush()
        return procedure.new_return_values(Gimp.PDBStatusType.SUCCESS, GLib.Error())


Gimp.main(Zdce.__gtype__, sys.argv)
