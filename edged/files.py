"""Files that others may read at any time, in directories that may not be writable."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

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
    with (folder.parent / f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
