"""Pairs of dark pictures and references, found by the names of folders and files in published data sets."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from zdce.errors import InputError
from zdce.io import images


class Scheme(NamedTuple):
    """Words for dark pictures and references in a data set, in any case.

    Folders have these names; files have them before or after the name that both share (``low0001``, ``normal0001``). An empty
    word means all folders or files without the other word.
    """

    dark: str
    reference: str


# Two folders beside each other. Files need not have the words in their names, and may have those of another scheme.
FOLDERS = (
    Scheme("low", "high"),  # LOL's our485 and eval15, LSRW
    Scheme("low", "normal"),  # LOL-v2, real and synthetic
    Scheme("low", "gt"),  # SDSD, SMID
    Scheme("input", "gt"),  # UHD-LL, BAID
    Scheme("input", "target"),  # FiveK as restoration networks lay it out
    Scheme("dark", "bright"),  # own collections
    Scheme("short", "long"),  # SID
    Scheme("", "label"),  # SICE: each scene's exposures in a folder of the name of its reference
)

# One folder: every file's name begins or ends with one of the words, separated by "_", "-" or a space.
FILES = (
    Scheme("low", "high"),
    Scheme("low", "normal"),
    Scheme("low", "gt"),
    Scheme("input", "gt"),
    Scheme("dark", "bright"),
    Scheme("dark", "light"),
    Scheme("dark", ""),  # a_dark.png is a.png made dark
    Scheme("low", ""),  # a_low.png is a.png made dark
)

# Fewest pairs that make other files of a folder strays.
_FEWEST = 2

# Levels of folders that are searched for pairs of folders.
_DEPTH = 3


class Pairs(NamedTuple):
    """Dark pictures and their references.

    Attributes:
        folder: folder that the pictures' names are relative to.
        pictures: pictures in the string order of their paths, each with its reference or None.
        strays: references without a picture, and files beside pairs that are neither.
        layout: names of folders or files, such as ``low/high``; empty if the folder has no references.
    """

    folder: Path
    pictures: list[tuple[Path, Path | None]]
    strays: list[Path]
    layout: str = ""


def pairs(folder: Path) -> Pairs:
    """The dark pictures of ``folder``: in two folders of a known scheme, in one folder of a scheme, or all pictures.

    Raises:
        InputError: the folder has several data sets, or two references of one picture.
    """
    if (folder / "our485" / "low").is_dir():
        folder /= "our485"
    if found := _in_folders(folder):
        return found
    if (low := _named(folder, "low")) is not None and (dark := images.in_folder(low)):
        return Pairs(low, [(path, None) for path in dark], [])
    inside = list(_data_sets(folder, _DEPTH))
    if len(inside) == 1:
        return pairs(inside[0])
    if inside:
        several = ", ".join(place.relative_to(folder).as_posix() for place in inside)
        raise InputError(f"{folder} holds several data sets with references: name one of {several}")
    files = images.in_folder(folder)
    return _in_files(folder, files) or Pairs(folder, [(path, None) for path in files], [])


def _named(folder: Path, word: str) -> Path | None:
    """The folder named ``word``, in any case, inside ``folder``."""
    found = (place for place in sorted(folder.iterdir()) if place.name.lower() == word and place.is_dir())
    return next(found, None)


def _data_sets(folder: Path, depth: int) -> Iterator[Path]:
    """Folders below ``folder`` that have the two folders of a scheme."""
    for place in sorted(folder.iterdir()) if depth else []:
        if place.is_dir() and not place.name.startswith("."):
            if _scheme_of(place):
                yield place
            else:
                yield from _data_sets(place, depth - 1)


def _scheme_of(folder: Path) -> tuple[Scheme, Path, Path] | None:
    """First scheme that fits ``folder``, and the folders of dark pictures and references."""
    for scheme in FOLDERS:
        dark = _named(folder, scheme.dark) if scheme.dark else folder
        reference = _named(folder, scheme.reference)
        if dark is not None and reference is not None:
            return scheme, dark, reference
    return None


def _in_folders(folder: Path) -> Pairs | None:
    laid_out = _scheme_of(folder)
    if laid_out is None:
        return None
    scheme, dark, reference = laid_out
    pictures = [path for path in images.in_folder(dark) if reference not in path.parents]
    if scheme.dark:
        names = {path: (_name(path, dark), _shared(_name(path, dark), _DARK)) for path in pictures}
    else:
        # The folder of a picture is the name of its reference.
        places = {path: path.relative_to(dark).parts[0].lower() for path in pictures if path.parent != dark}
        names = {path: (place, place) for path, place in places.items()}
    layout = f"{dark.name}/{reference.name}" if scheme.dark else f"*/{reference.name}"
    references = {path: _name(path, reference) for path in images.in_folder(reference)}
    return _matched(dark, names, references, layout)


def _in_files(folder: Path, files: list[Path]) -> Pairs | None:
    """The pairs of the first scheme that all files belong to; else of the first of which at least two pairs are two thirds of
    the files, and the others strays.
    """
    named = [(scheme, *_by_words(folder, files, scheme)) for scheme in FILES]
    for scheme, dark, references, others in named:
        if dark and references and not others:
            found = _in_scheme(folder, dark, references, scheme)
            if scheme.reference or not found.strays:  # files without a word may be anything
                return found
    for scheme, dark, references, others in named:
        if 3 * len(dark) < len(files):
            continue
        try:
            found = _in_scheme(folder, dark, references, scheme)
        except InputError:  # two references of a picture: the files are of another scheme
            continue
        count = sum(reference is not None for _, reference in found.pictures)
        if count >= _FEWEST and 3 * count >= len(files):  # two files each
            return found._replace(strays=sorted([*found.strays, *others]))
    return None


def _by_words(folder: Path, files: list[Path], scheme: Scheme) -> tuple[list[Path], list[Path], list[Path]]:
    """The files that have the scheme's word for dark pictures, those that have its word for references (all others if it has
    none), and the rest.
    """
    dark, references, others = list[Path](), list[Path](), list[Path]()
    for path in files:
        name = _name(path, folder)
        if _marked(name, scheme.dark):
            dark.append(path)
        elif not scheme.reference or _marked(name, scheme.reference):
            references.append(path)
        else:
            others.append(path)
    return dark, references, others


def _in_scheme(folder: Path, dark: list[Path], references: list[Path], scheme: Scheme) -> Pairs:
    names = {path: (_shared(_name(path, folder), {scheme.dark}),) * 2 for path in dark}
    shared = {path: _shared(_name(path, folder), {scheme.reference} - {""}) for path in references}
    return _matched(folder, names, shared, f"*_{scheme.dark}/*{'_' * bool(scheme.reference)}{scheme.reference}")


def _matched(folder: Path, names: dict[Path, tuple[str, str]], references: dict[Path, str], layout: str) -> Pairs:
    """Pictures by their whole name, else by what is left of it without a scheme's word; ``references`` by their whole name."""
    whole, shared = _by_name(references), _by_name({path: _shared(name, _REFERENCE) for path, name in references.items()})
    pictures = [(path, _only(path, whole.get(name) or shared.get(short) or [])) for path, (name, short) in names.items()]
    used = {reference for _, reference in pictures}
    return Pairs(folder, pictures, [path for path in references if path not in used], layout)


_DARK = {scheme.dark for scheme in FOLDERS + FILES} - {""}
_REFERENCE = {scheme.reference for scheme in FOLDERS + FILES} - {""}


def _name(path: Path, folder: Path) -> str:
    """The path inside ``folder`` without its suffix, in small letters."""
    return path.relative_to(folder).with_suffix("").as_posix().lower()


def _shared(name: str, words: Iterable[str]) -> str:
    """``name`` without the first of ``words`` that the file's own name begins or ends in, and its separator."""
    place, slash, own = name.rpartition("/")
    for word in sorted(words):
        rest = re.sub(rf"^{word}[-_ ]?(?=.)|(?<=.)[-_ ]?{word}$", "", own, count=1)
        if rest != own:
            return f"{place}{slash}{rest.strip('-_ ')}"
    return name


def _marked(name: str, word: str) -> bool:
    """Whether the file's own name begins or ends in ``word``, set apart by a separator."""
    return re.search(rf"^{word}[-_ ].|.[-_ ]{word}$", name.rpartition("/")[2]) is not None


def _by_name(names: dict[Path, str]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path, name in names.items():
        found.setdefault(name, []).append(path)
    return found


def _only(picture: Path, references: list[Path]) -> Path | None:
    if len(references) > 1:
        raise InputError(f"{picture} must have one reference, got {references[0]} and {references[1]}")
    return references[0] if references else None
