"""Where edged keeps its files: systemd's directories first, then the user's own.

Each can be moved by one variable (`EDGED_CACHE_DIR`, `EDGED_STATE_DIR`, `EDGED_CONFIG_DIR`,
`EDGED_RUNTIME_DIR`).
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import platformdirs

_PACKAGE = Path(__file__).parent


def shipped(name: str) -> Path:
    """A data folder of ours: inside the package once installed, beside it in a checkout."""
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


def installed_models() -> Path:
    """Built models that came with the environment that edged is installed in: a package's."""
    return Path(sys.prefix) / "share" / "edged" / "models"


def _directory(kind: str, systemd: str, fallback: str) -> Path:
    for variable in (f"EDGED_{kind}_DIR", systemd):
        if value := os.environ.get(variable):
            return Path(value.split(":")[0])
    return Path(fallback)


def cache_directory() -> Path:
    """Built models and measurements: can be deleted, will be made again."""
    return _directory("CACHE", "CACHE_DIRECTORY", platformdirs.user_cache_dir("edged"))


def state_directory() -> Path:
    """Transcripts and what must survive a restart."""
    return _directory("STATE", "STATE_DIRECTORY", platformdirs.user_state_dir("edged"))


def configuration_directory() -> Path:
    """`edged.toml` and the user's own profiles."""
    return _directory("CONFIG", "CONFIGURATION_DIRECTORY", platformdirs.user_config_dir("edged"))


def runtime_directory() -> Path:
    """The Unix socket."""
    own = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    if not os.access(own, os.X_OK):  # there is none, or a service may not look
        own = f"{tempfile.gettempdir()}/edged-{os.getuid()}"
    return _directory("RUNTIME", "RUNTIME_DIRECTORY", f"{own}/edged")
