"""systemd's journal by its native protocol: a datagram of fields for each record."""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
import traceback

ADDRESS = "/run/systemd/journal/socket"
"""EDGED_JOURNAL names another one"""
BUFFER_BYTES = 1 << 20
"""Records that the journal may be behind"""
PATIENCE = 0.05
"""Seconds, once: a journal that is stuck is not waited for again until it takes something"""
LONGEST = 32 * 1024
"""Bytes of a field: all of them fit into a datagram"""
VISIBLE = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {10: "\\n", 9: " "}
"""What would begin a line that nobody wrote, or paint a terminal, is shown instead"""
_PRIORITIES = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}


def priority(record: logging.LogRecord) -> int:
    """syslog's number for a record's level."""
    return _PRIORITIES.get(record.levelno, 6)


class JournalHandler(logging.Handler):
    """What a stuck journal does not take is counted, and said once it does."""

    def __init__(self, address: str) -> None:
        """Raises OSError where there is no journal."""
        super().__init__()
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
            wait = struct.pack("@ll", 0, int(PATIENCE * 1e6))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, wait)
            os.stat(address)  # noqa: PTH116
        except OSError:
            self._socket.close()
            raise
        self._lost = 0

    @classmethod
    def opened(cls) -> JournalHandler | None:
        """To this machine's journal, if it has one."""
        try:
            return cls(os.environ.get("EDGED_JOURNAL", ADDRESS))
        except OSError:
            return None

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self._lost and self._send(_fields(_loss(self._lost))):
                self._lost = 0
            self._lost += not self._send(_fields(record))
        except Exception:  # noqa: BLE001  as logging's own handlers do
            self.handleError(record)

    def _send(self, fields: dict[str, str]) -> bool:
        """Whether the journal took it."""
        try:
            wait = socket.MSG_DONTWAIT if self._lost else 0
            self._socket.sendto(encode(fields), wait, self._address)
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                raise
            return False  # it is full, or being started anew
        return True

    def close(self) -> None:
        self._socket.close()
        super().close()


def _loss(count: int) -> logging.LogRecord:
    record = logging.LogRecord(
        __name__, logging.WARNING, __file__, 0, "%d records could not be logged", (count,), None
    )
    record.edged = {"event": "log_lost", "count": count}
    return record


def _fields(record: logging.LogRecord) -> dict[str, str]:
    fields = {
        "MESSAGE": record.getMessage(),
        "PRIORITY": str(priority(record)),
        "SYSLOG_IDENTIFIER": "edged",
        "LOGGER": record.name,
        "CODE_FILE": record.pathname,
        "CODE_LINE": str(record.lineno),
        "CODE_FUNC": record.funcName or "",
    }
    if record.exc_info and record.exc_info[1]:
        error = record.exc_info[1]
        fields["MESSAGE"] += f": {type(error).__name__}: {error}"
        fields["EXCEPTION_TEXT"] = "".join(traceback.format_exception(error))
    fields["MESSAGE"] = fields["MESSAGE"].translate(VISIBLE)
    own = getattr(record, "edged", {})
    fields |= {f"EDGED_{name.upper()}": str(v) for name, v in own.items() if v is not None}
    return fields


def encode(fields: dict[str, str]) -> bytes:
    """As the protocol wants it: values of more than a line come with their length."""
    return b"".join(_encode(name, value) for name, value in fields.items())


def _encode(name: str, value: str) -> bytes:
    data = value.encode("utf-8", "replace")[:LONGEST]
    if b"\n" not in data:
        return b"%s=%s\n" % (name.encode(), data)
    return b"%s\n%s%s\n" % (name.encode(), len(data).to_bytes(8, "little"), data)
