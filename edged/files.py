"""Files that others may read at any time, in directories that may not be writable."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from edged.errors import EdgedError


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is never seen half written. Raises EdgedError."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(content)
        beside.replace(path)
    except OSError as error:
        raise EdgedError(
            f"{path} cannot be written ({error.strerror}). "
            "Free it, or choose another place with EDGED_CACHE_DIR",
            code="cache_unwritable",
        ) from error
    finally:
        with suppress(OSError):
            beside.unlink()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time makes this folder anew; the others wait here."""
    path = folder.parent / f".{folder.name}.lock"
    while True:
        with path.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_at(lock, path):  # it was waited for, and removed meanwhile
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def remade(folder: Path) -> Iterator[Path]:
    """A new folder, which takes this one's place at the end unless something is raised: nobody sees
    it half made. One process at a time; what lost ones left behind is removed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        for left in folder.parent.glob(f".{folder.name}.*"):
            shutil.rmtree(left, ignore_errors=True)
        work, old = (folder.with_name(f".{folder.name}.{end}") for end in (os.getpid(), "old"))
        try:
            work.mkdir()
            yield work
            if folder.exists():
                folder.rename(old)
            work.rename(folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)
