"""The log: one event, one record. What was said is in none unless `log.texts` says so.

Under systemd a record goes to the journal with its fields: `journalctl EDGED_EVENT=worker_gone`.
Elsewhere it is a line on stderr.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

from edged.journal import VISIBLE, JournalHandler, priority


def get_logger(name: str) -> logging.Logger:
    return logging.getLogger(name)


def fields(event: str, **about: object) -> dict[str, Any]:
    """`extra` of a record: a stable word for what happened, and what it happened to.

    They are EDGED_EVENT and EDGED_NAME in the journal; a field without a value is left out.
    """
    return {"edged": {"event": event, **about}}


class _LineFormatter(logging.Formatter):
    """A message is one line, whatever a client or a library put into it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return super().formatMessage(record).translate(VISIBLE)


class _PriorityFormatter(_LineFormatter):
    """`<6>module: message`, as systemd reads it from stderr; the journal adds the time."""

    def format(self, record: logging.LogRecord) -> str:
        before = f"<{priority(record)}>"
        return "\n".join(before + line for line in super().format(record).splitlines())


def set_up(level: str = "info") -> None:
    """Log to where stderr leads, once for the process."""
    logging.basicConfig(level=level.upper(), handlers=[_handler()], force=True)
    for noisy in ("uvicorn.access", "uvicorn.error", "websockets", "multipart"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _handler() -> logging.Handler:
    plain = logging.StreamHandler(sys.stderr)
    if not _is_journal(2):
        plain.setFormatter(
            _LineFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S")
        )
        return plain
    plain.setFormatter(_PriorityFormatter("%(name)s: %(message)s"))
    return JournalHandler.opened() or plain


def _is_journal(descriptor: int) -> bool:
    """Whether a descriptor is what systemd connected to the journal (systemd.exec(5))."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
