"""Results of compilers for tests: made once for all workers, and again when their sources change."""

import hashlib
from pathlib import Path

from zdce.runtime import atomic, locks

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "tests"


def kept(name, sources, settings, make):
    """The file ``name``, which ``make(path)`` writes where none was written from the same contents and settings.

    Args:
        name: name of the file, to which a hash is added.
        sources: files that are compiled or included.
        settings: what else decides the result, such as the compiler's version and options.
    """
    contents = [(str(path.relative_to(ROOT)), path.read_bytes()) for path in sorted(sources)]
    key = hashlib.sha256(repr((contents, settings)).encode()).hexdigest()[:16]
    stem, suffix = Path(name).stem, Path(name).suffix
    target = FOLDER / f"{stem}-{key}{suffix}"
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / f"{name}.lock").open("w") as lock:
        locks.lock(lock.fileno(), wait=True)
        if not target.exists():
            with atomic.replacing(target) as temporary:
                make(temporary)
            for former in FOLDER.glob(f"{stem}-*{suffix}"):
                if former != target:
                    former.unlink()
    return target


def cuda_sources():
    """All that the CUDA kernels are compiled from."""
    return [path for path in (ROOT / "csrc").rglob("*") if path.suffix in {".cu", ".cuh", ".h"}]
