"""Optional packages, which come with zdce's extras: whether they are installed, and one form of message if they are not."""

import importlib
import importlib.util

from zdce.errors import InputError

# Purpose of each extra, for the message.
_PURPOSES = {
    "bench": "this benchmark",
    "browser": "pages in Chromium",
    "export": "ONNX files",
    "formats": "RAW, HEIC and 16-bit files",
    "keras": "Keras files",
    "litert": "files for LiteRT",
    "naturalness": "naturalness scores",
    "ncnn": "ncnn files",
    "ray": "Ray Data",
    "serve": "the local web page",
    "spandrel": "networks in spandrel",
    "study": "reports",
    "tensorboard": "TensorBoard logs",
    "torch": "tensors, GPUs, training and networks of other programs",
    "vapoursynth": "clips of VapourSynth",
    "video": "videos",
    "virtualcamera": "a virtual camera",
    "watch": "watching folders",
}


def missing(*modules: str, extra: str) -> str | None:
    """Why ``modules`` can't be used: those that are not installed, what needs them and what installs them; None if all are.

    Nothing but the packages of submodules is imported.

    Args:
        modules: names as in an import statement; the first part is the package's name.
        extra: the extra of zdce that installs them.

    >>> missing("json", extra="video")
    >>> missing("no_such_package", extra="video")
    "no_such_package is needed for videos: pip install 'zdce[video]'"
    """
    absent = [module.partition(".")[0] for module in modules if importlib.util.find_spec(module.partition(".")[0]) is None]
    return _message(" and ".join(absent), "are" if len(absent) > 1 else "is", "", extra) if absent else None


def require(*modules: str, extra: str) -> None:
    """Imports ``modules``, so that import statements after it succeed; takes the arguments of ``missing``.

    Raises:
        InputError: one is not installed or can't be imported.
    """
    if reason := missing(*modules, extra=extra):
        raise InputError(reason)
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise InputError(_message(module, "is", f" and can't be imported ({error})", extra)) from error


def _message(packages: str, verb: str, problem: str, extra: str) -> str:
    return f"{packages} {verb} needed for {_PURPOSES[extra]}{problem}: pip install 'zdce[{extra}]'"
