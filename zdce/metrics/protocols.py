"""Protocols: which pictures are measured, and how, frozen by the pictures' bytes and the versions of the measures."""

import hashlib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

import tomli_w

from zdce.data.datasets import DARKENED, LIT, Item, collection
from zdce.errors import InputError, MissingFileError, library_call
from zdce.metrics import registry
from zdce.metrics.registry import INPUT, METRICS, REFERENCE, TARGETS


@dataclass(frozen=True)
class Part:
    """One data set of a protocol.

    Attributes:
        name: name in tables.
        folder: folder inside the one that is measured, or a built-in collection such as "lit"; empty for that folder itself.
        split: "all", or "validation" for the pictures that training keeps out.
        files: pattern of the pictures' names, as a shell has it.
        names: the names of all pictures, without suffixes; empty if any will do.
        counts: numbers of pictures that the set is known with; empty if any will do.
        metrics: names of measures.
        against: targets.
        note: what a reader of the figures should know.
        layout: how to lay out the folder.
        sha256: fingerprint of the pictures and references, of a frozen protocol.
    """

    name: str
    folder: str = ""
    split: str = "all"
    files: str = "*"
    names: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    metrics: tuple[str, ...] = registry.USUAL
    against: tuple[str, ...] = (REFERENCE,)
    note: str = ""
    layout: str = ""
    sha256: str = ""

    def items(self, data: str) -> tuple[Item, ...]:
        """The pictures of this part in the folder ``data``, in order.

        Raises:
            InputError: they are not those of the protocol.
            FileNotFoundError: the folder does not exist.
        """
        built_in = self.folder in DARKENED or self.folder == LIT
        pictures = collection(self.folder if built_in else str(Path(data) / self.folder))
        items = pictures.items if self.split == "all" else pictures.validation_items()
        items = tuple(item for item in items if fnmatch(item.name, self.files))
        if self.names:
            items = self._named(items, data)
        if not items or (self.counts and len(items) not in self.counts):
            raise self._other_pictures(f"{' or '.join(map(str, self.counts)) or 'at least 1'} pictures", str(len(items)), data)
        missing = [item.name for item in items if item.load_reference is None]
        if REFERENCE in self.against and missing:
            raise self._other_pictures("a reference of every picture", f"none of {', '.join(missing[:3])}", data)
        if self.sha256 and fingerprint(items) != self.sha256:
            raise self._other_pictures(f"the files of fingerprint {self.sha256[:12]}", fingerprint(items)[:12], data)
        return items

    def _named(self, items: Sequence[Item], data: str) -> tuple[Item, ...]:
        found = {PurePosixPath(item.name).stem: item for item in items}
        missing = [name for name in self.names if name not in found]
        if missing:
            raise self._other_pictures(f"{len(self.names)} pictures by name", f"no {', '.join(missing[:5])}", data)
        return tuple(found[name] for name in self.names)

    def _other_pictures(self, expected: str, got: str, data: str) -> InputError:
        layout = f"; lay it out as {self.layout}" if self.layout else ""
        return InputError(f"{self.name}: {Path(data) / self.folder} must have {expected}, got {got}{layout}")


@dataclass(frozen=True)
class Protocol:
    """Data sets, and the measures that each is measured by.

    Attributes:
        versions: versions of the measures that a frozen protocol was made with.
    """

    name: str
    parts: tuple[Part, ...]
    versions: Mapping[str, int] | None = None

    def check(self) -> None:
        """Checks measures, targets and versions.

        Raises:
            InputError: a measure or target does not exist, or has another version.
        """
        for part in self.parts:
            _check_known("metrics", part.metrics, METRICS)
            _check_known("against", part.against, TARGETS)
            _check_known("split", [part.split], ("all", "validation"))
        for name, version in (self.versions or {}).items():
            _check_known("versions", [name], METRICS)
            if METRICS[name].version != version:
                raise InputError(
                    f"{self.name} was frozen with version {version} of {name}, this zdce has {METRICS[name].version}"
                )

    def frozen(self, items: Sequence[Sequence[Item]]) -> "Protocol":
        """This protocol with the fingerprints of its parts' ``items`` and today's versions of the measures."""
        parts = tuple(replace(part, sha256=fingerprint(pictures)) for part, pictures in zip(self.parts, items, strict=True))
        return Protocol(self.name, parts, {name: METRICS[name].version for part in parts for name in part.metrics})

    @property
    def digest(self) -> str:
        """Twelve digits that stand for all that decides the figures; words for readers are left out."""
        parts = [replace(part, note="", layout="", folder="") for part in self.parts]
        return hashlib.sha256(repr((parts, sorted((self.versions or {}).items()))).encode()).hexdigest()[:12]

    def to_toml(self) -> str:
        parts = [{key: value for key, value in asdict(part).items() if value} for part in self.parts]
        return tomli_w.dumps({"name": self.name, "versions": dict(self.versions or {}), "parts": parts})


def _check_known(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    for name in names:
        if name not in known:
            raise InputError(f"{what} must be of {', '.join(known)}, got {name!r}")


def fingerprint(items: Sequence[Item]) -> str:
    """SHA-256 of the names and bytes of all files of ``items``; of made pictures, of their pixels."""
    digest = hashlib.sha256()
    for item in items:
        for content in [path.read_bytes() for path in item.files] or [item.load().tobytes()]:
            digest.update(f"{item.name} {len(content)} ".encode())
            digest.update(content)
    return digest.hexdigest()


def read(name_or_path: str) -> Protocol:
    """The protocol of a name in ``PROTOCOLS``, or of a TOML file.

    Raises:
        InputError: the file is no protocol, or was frozen with other measures.
        FileNotFoundError: there is neither.
    """
    if name_or_path in PROTOCOLS:
        return PROTOCOLS[name_or_path]
    path = Path(name_or_path)
    if not path.is_file():
        raise MissingFileError(f"no protocol {name_or_path}: name a TOML file, or one of {', '.join(PROTOCOLS)}")
    with library_call(InputError):
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    versions = content.get("versions", {})
    if not isinstance(versions, dict):
        raise InputError(f"{path}: versions must be a table of measures and numbers, got {versions!r}")
    protocol = Protocol(content.get("name", path.stem), _parts(path, content), versions or None)
    protocol.check()
    return protocol


def _parts(path: Path, content: Mapping[str, Any]) -> tuple[Part, ...]:
    defaults = asdict(Part(""))
    parts, entries = [], content.get("parts")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"{path} must have [[parts]], each with a name")
    for entry in entries:
        for key, value in entry.items():
            known = defaults.get(key)
            if known is None or not isinstance(value, list if isinstance(known, tuple) else str):
                raise InputError(f"{path}: parts must have the keys {', '.join(defaults)}, got {key} = {value!r}")
        fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
        parts.append(Part(**{"name": "", **fields}))
    if not parts or not all(part.name for part in parts):
        raise InputError(f"{path} must have [[parts]], each with a name")
    return tuple(parts)


_ALONE = ("clipped", "dark_half", "lit_half", "loe", "halo")
_PAIRED = ("psnr", "ssim", "psnr_gt_mean", "ssim_gt_mean")
_FOLDER = "DATA/*.jpg (or .png, .bmp): one folder of its pictures, nothing else"
_SHARED = "LOL's scenes occur several times: this set shares most of its scenes with LOL's training pictures"


def _paired(name: str, layout: str, **known: Any) -> Protocol:
    return Protocol(name, (Part(name, metrics=_PAIRED, layout=layout, **known),))


def _unpaired(name: str, *counts: int) -> Protocol:
    return Protocol(name, (Part(name, counts=counts, metrics=_ALONE, against=(INPUT,), layout=_FOLDER),))


# By what is public about the sets, names of files and numbers of pictures. Their bytes are not known here: fingerprints are
# printed, so that two people can compare theirs.
PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        _paired(
            "lol-eval15",
            "DATA/low/1.png and DATA/high/1.png, the folder eval15 of LOL",
            names=("1", "22", "23", "55", "79", "111", "146", "179", "493", "547", "665", "669", "748", "778", "780"),
            note=_SHARED,
        ),
        _paired(
            "lol-validation85",
            "DATA/low/*.png and DATA/high/*.png, the folder our485 of LOL; its last 85 pictures are measured",
            split="validation",
            counts=(85,),
            note=_SHARED,
        ),
        _paired(
            "lolv2-real",
            "DATA/Low/low00690.png and DATA/Normal/normal00690.png, the folder Real_captured/Test of LOL-v2",
            names=tuple(f"low{number:05d}" for number in range(690, 790)),
            note="LOL-v2-real enlarges LOL: the sets overlap, so a network trained on either one has seen scenes of this one",
        ),
        _paired(
            "sice-part2",
            "DATA/1/*.JPG (the exposures of a scene) and DATA/Label/1.JPG, the folder Dataset_Part2 of SICE",
            note="all exposures of all scenes, the too bright ones too",
        ),
        _unpaired("dicm", 69, 64, 44),
        _unpaired("lime", 10),
        _unpaired("mef", 17),
        _unpaired("npe", 84, 85, 8),
        _unpaired("vv", 24),
    )
}
