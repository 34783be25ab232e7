"""Whether the microphone was ordered to be mute, remembered over restarts."""

from __future__ import annotations

from pathlib import Path

from edged import paths
from edged.log import get_logger

log = get_logger(__name__)


def _file() -> Path:
    """It is there while the microphone is mute."""
    return paths.state_directory() / "muted"


def remembered() -> bool:
    return _file().exists()


def remember(muted: bool) -> None:
    """Keep it for the next start, if that can be."""
    file = _file()
    try:
        if muted:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        else:
            file.unlink(missing_ok=True)
    except OSError as error:
        log.warning(
            "whether the microphone is muted cannot be kept for the next start: %s: %s",
            file,
            error.strerror,
        )
