"""The folder of compiled graphs, which the runtime fills and reads itself."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

MOST = 24
"""Blobs to keep: a rung of fixed shapes has twelve, three for each of four lengths of audio"""


def tidy(folder: Path) -> bool:
    """Make room for new blobs; whether the folder is there.

    What another version of the runtime or of the model left is never read again, and nothing in a
    blob says so: the oldest go. One that was still wanted is compiled anew, and is then the newest.
    The runtime itself takes no harm from a folder that it cannot write to, but from none.
    """
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    with suppress(OSError):
        blobs = sorted(folder.glob("*.blob"), key=lambda blob: -blob.stat().st_mtime)
        for blob in blobs[MOST - 1 :]:
            blob.unlink()
    return folder.is_dir()
