"""Pictures for training and evaluation: data sets with references, any folder, or photographs made dark."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from zdce.data import pairing, photographs, sample
from zdce.data.darkening import DarkPictures
from zdce.errors import InputError, MissingFileError
from zdce.io import images
from zdce.runtime import progress

Load = Callable[[], NDArray[np.uint8]]

# Left, top, right and bottom of a window of a picture, as shares of its width and height.
Window = tuple[float, float, float, float]
WHOLE: Window = (0.0, 0.0, 1.0, 1.0)

SAMPLE = "sample"
# Collections that are not folders: the built-in sample, and the larger set of `zdce photographs`.
DARKENED = {SAMPLE: sample.PICTURES, "open": photographs.PICTURES}

# Well-lit photographs, of which an enhancement should change nothing: for measuring only.
LIT = "lit"

# The report validates on the last 85 of LOL's 485 pictures, in string order; other sets keep that share.
_VALIDATION_SHARE = 85 / 485


@dataclass(frozen=True)
class Item:
    """A low-light picture to load, (H, W, 3) uint8, and its well-lit reference if there is one.

    Attributes:
        name: name of the picture.
        load: loads the picture.
        load_reference: loads the reference.
        files: files of both; empty for made pictures.
        made_from: parameters that determine a made picture.
    """

    name: str
    load: Load
    load_reference: Load | None = None
    files: tuple[Path, ...] = ()
    made_from: str = ""


@dataclass(frozen=True)
class Collection:
    """Pictures in a fixed order; the last ``validation`` pictures are not used for training.

    Attributes:
        layout: names of the folders or files of pictures and references, such as ``low/high``; empty without references.
        strays: references without a picture, and files beside pairs that are neither.
    """

    items: tuple[Item, ...]
    validation: int
    layout: str = ""
    strays: tuple[Path, ...] = ()

    def training_items(self) -> tuple[Item, ...]:
        return self.items[: len(self.items) - self.validation]

    def validation_items(self) -> tuple[Item, ...]:
        return self.items[len(self.items) - self.validation :]

    def check_paired(self, items: Sequence[Item], hint: str = "") -> None:
        """Checks that ``items`` can be compared with references; references without a picture count if ``items`` are all
        pictures.

        Raises:
            InputError: some pictures have references and others not, or a reference or another file has no picture; ``hint``
                ends the message.
        """
        if not self.layout:
            return
        missing = [item.files[0] for item in items if item.load_reference is None]
        strays = self.strays if len(items) == len(self.items) else ()
        parts = [f"{len(missing)} pictures have no reference ({_some(missing)})"] if missing else []
        parts += [f"{len(strays)} files are the reference of no picture ({_some(strays)})"] if strays else []
        if parts:
            raise InputError(f"{self.layout}: expected a reference of every picture, got others: {'; '.join(parts)}{hint}")


def _some(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths[:3])) + (", ..." if len(paths) > 3 else "")


def collection(source: str) -> Collection:
    """The pictures of ``source``.

    Args:
        source: ``"sample"`` or ``"open"``, photographs made dark; ``"lit"``, the photographs of ``"sample"`` as they are,
            without references; a folder of dark pictures and one of their references in a layout of ``zdce.data.pairing``, such
            as LOL's ``low`` and ``high``, or one that holds such an ``our485``; a folder that holds ``low`` alone; or any
            folder of pictures, searched through.

    Raises:
        FileNotFoundError: the folder does not exist.
        InputError: it has fewer than two pictures, several data sets, or two references of one picture.
    """
    if source in DARKENED:
        return _darkened(DARKENED[source])
    if source == LIT:
        lit = tuple(Item(name, partial(sample.photograph, name), made_from=source) for name in sample.PICTURES.photographs)
        return Collection(lit, 1)
    folder = Path(source)
    if not folder.is_dir():
        if folder.exists():
            raise InputError(f"expected a folder of pictures, got the file {source}")
        raise MissingFileError(f"no such folder: {source} (built-in photographs: {', '.join([*DARKENED, LIT])})")
    paired = pairing.pairs(folder)
    items = tuple(_item(path, reference, paired.folder) for path, reference in paired.pictures)
    if len(items) < 2:
        raise InputError(f"{source} must hold at least 2 pictures ({', '.join(sorted(images.SUFFIXES))}), got {len(items)}")
    return Collection(items, max(1, round(len(items) * _VALIDATION_SHARE)), paired.layout, tuple(paired.strays))


def _item(path: Path, reference: Path | None, folder: Path) -> Item:
    load_reference = partial(images.read_rgb, reference) if reference else None
    files = (path, reference) if reference else (path,)
    return Item(path.relative_to(folder).as_posix(), partial(images.read_rgb, path), load_reference, files)


def _darkened(pictures: DarkPictures) -> Collection:
    made_from = pictures.description
    items = (
        Item(name, partial(pictures.darkened, name), partial(pictures.reference, name), made_from=made_from)
        for name in pictures.names()
    )
    return Collection(tuple(items), pictures.per_photograph)


def resized(picture: NDArray[np.uint8], size: int, window: Window = WHOLE) -> NDArray[np.uint8]:
    """A ``window`` of ``picture`` (H, W, 3), resized to (3, size, size).

    The aspect ratio is ignored, as in the report. Pillow's BILINEAR averages over all source pixels of a target pixel.
    """
    height, width = picture.shape[:2]
    left, top, right, bottom = window
    box = (left * width, top * height, right * width, bottom * height)
    return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR, box)).transpose(2, 0, 1)


def load_resized(items: Sequence[Item], size: int, description: str) -> Tensor:
    """All pictures as one uint8 tensor (N, 3, size, size), decoded and ``resized`` in parallel, with a progress bar.

    Raises:
        OSError: a picture can't be read.
    """
    stacked = torch.empty(len(items), 3, size, size, dtype=torch.uint8)
    filled = stacked.numpy()

    def fill(i: int) -> None:
        filled[i] = resized(items[i].load(), size)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in progress.track(pool.map(fill, range(len(items))), len(items), description):
            pass
    return stacked
