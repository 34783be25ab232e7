"""The transcript store: finals in SQLite, with full-text search.

A thread of its own writes; a full disk or a slow card delays the store and nothing else. What
cannot be written is kept in memory, within bounds, and tried again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import msgspec

from edged.errors import EdgedError
from edged.log import get_logger
from edged.messages import Final

log = get_logger(__name__)

RETRY_SECONDS = 2.0
MOST_WAITING = 10_000
"""Finals kept in memory while the disk takes none"""
UNCERTAIN = 10 * MOST_WAITING
"""Numbers left out after a crash: some may have been given to finals that clients know and the disk
does not"""
PAGE = 1000
"""Finals read at once"""
CLOSED = "closed"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS transcripts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    time REAL NOT NULL,
    stream TEXT NOT NULL,
    text TEXT NOT NULL,
    event BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS transcripts_time ON transcripts (time);
CREATE VIRTUAL TABLE IF NOT EXISTS transcripts_text USING fts5 (
    text, content='transcripts', content_rowid='id'
);
CREATE TRIGGER IF NOT EXISTS transcripts_added AFTER INSERT ON transcripts BEGIN
    INSERT INTO transcripts_text (rowid, text) VALUES (new.id, new.text);
END;
CREATE TRIGGER IF NOT EXISTS transcripts_removed AFTER DELETE ON transcripts BEGIN
    INSERT INTO transcripts_text (transcripts_text, rowid, text)
    VALUES ('delete', old.id, old.text);
END;
PRAGMA user_version = 1;
"""
_LAST_NUMBER = "SELECT seq FROM sqlite_sequence WHERE name = 'transcripts'"


class Transcript(msgspec.Struct, frozen=True):
    """One stored final."""

    id: int
    time: float
    """Unix time of the utterance's start, seconds"""
    stream: str
    text: str
    event: Final


class TranscriptStore:
    """Finals by number, newest last. Numbers grow and are never used twice."""

    def __init__(self, path: Path) -> None:
        """Open or create the store. Raises EdgedError."""
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = _take_lock(path.with_suffix(".lock"))
            clean = _was_closed(self._lock)
            self._reader, self._writer = self._connect(), self._connect()
            # Only once: a full disk must not keep a daemon from starting.
            if self._reader.execute("PRAGMA user_version").fetchone() == (0,):
                self._reader.executescript(_SCHEMA)
            # Kept by SQLite itself, so that a number is not used again when its row is deleted.
            row = self._reader.execute(_LAST_NUMBER).fetchone()
        except (sqlite3.Error, OSError) as error:
            if hasattr(self, "_lock"):
                self._lock.close()
            raise EdgedError(
                f"{path} cannot be used as transcript store ({error}). Move it away, or set "
                "transcripts.path, or transcripts.enabled = false",
                code="store",
            ) from error
        self._last: int = row[0] if row else 0
        if row and not clean:
            self._last += UNCERTAIN
        self._waiting: deque[Transcript] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self.problem: str | None = None
        """Why nothing is being written, while that is so"""
        self.dropped = 0
        """Finals given up because the disk took none for too long"""
        self._thread = threading.Thread(target=self._write, name="transcripts", daemon=True)
        self._thread.start()

    @property
    def last(self) -> int:
        """The number given last."""
        return self._last

    @property
    def depth(self) -> int:
        """Finals that wait for the disk."""
        return len(self._waiting)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, check_same_thread=False, timeout=5)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    def add(self, stream: str, event: Final, started: float) -> Final:
        """Number a final and queue it; returns it with its number."""
        with self._changed:
            self._last += 1
            numbered = msgspec.structs.replace(event, id=self._last)
            self._waiting.append(Transcript(self._last, started, stream, event.text, numbered))
            if len(self._waiting) > MOST_WAITING:
                self._waiting.popleft()
                self.dropped += 1
            self._changed.notify()
        return numbered

    def _write(self) -> None:
        connection = self._writer
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    break
                batch = list(self._waiting)
            if self._write_batch(connection, batch):
                with self._changed:
                    while self._waiting and self._waiting[0].id <= batch[-1].id:
                        self._waiting.popleft()
            elif self._closing:
                break
            else:
                time.sleep(RETRY_SECONDS)
        connection.close()

    def _write_batch(self, connection: sqlite3.Connection, batch: list[Transcript]) -> bool:
        rows = [(t.id, t.time, t.stream, t.text, msgspec.json.encode(t.event)) for t in batch]
        try:
            with connection:
                connection.executemany(
                    "INSERT INTO transcripts (id, time, stream, text, event) "
                    "VALUES (?, ?, ?, ?, ?)",
                    rows,
                )
        except sqlite3.Error as error:
            if self.problem != str(error):
                log.error("transcripts cannot be written to %s: %s", self._path, error)
            self.problem = str(error)
            return False
        if self.problem:
            log.info("transcripts are written again")
        self.problem = None
        return True

    def find(
        self,
        *,
        since: float | None = None,
        until: float | None = None,
        query: str | None = None,
        stream: str | None = None,
        after: int | None = None,
        newest: bool = False,
        limit: int = 100,
    ) -> list[Transcript]:
        """Stored finals in the order of their numbers, of all streams or one, from beyond `after`;
        `newest` first. `query` finds whole words, all of them."""
        words = _phrases(query or "") or None
        wanted: dict[str, object] = {
            "id < ?" if newest else "id > ?": after,
            "time >= ?": since,
            "time < ?": until,
            "stream = ?": stream,
            "id IN (SELECT rowid FROM transcripts_text WHERE transcripts_text MATCH ?)": words,
        }
        given = {condition: value for condition, value in wanted.items() if value is not None}
        statement = (
            "SELECT id, time, stream, text, event FROM transcripts "  # noqa: S608
            + ("WHERE " + " AND ".join(given) if given else "")
            + f" ORDER BY id {'DESC' if newest else 'ASC'} LIMIT ?"
        )
        try:
            rows = self._reader.execute(statement, (*given.values(), limit)).fetchall()
        except sqlite3.Error as error:
            raise EdgedError(f"{self._path} cannot be read: {error}", code="store") from error
        return [
            Transcript(number, started, stream, text, msgspec.json.decode(event, type=Final))
            for number, started, stream, text, event in rows
        ]

    def all(self, **wanted: Any) -> Iterator[Transcript]:
        """Every one that `find` would find, oldest first, a page at a time."""
        after: int | None = None
        while page := self.find(after=after, limit=PAGE, **wanted):
            yield from page
            after = page[-1].id

    def flush(self, timeout: float = 5.0) -> None:
        """Wait until everything queued is written, or the time is over."""
        deadline = time.monotonic() + timeout
        while self._waiting and time.monotonic() < deadline:
            time.sleep(0.005)

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(5)
        self._reader.close()
        if not self._waiting and not self._lock.closed:
            _say_closed(self._lock)
        self._lock.close()


def _take_lock(path: Path) -> TextIO:
    """Keep other daemons out: they would give the same numbers. Raises EdgedError."""
    lock = path.open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise EdgedError(
            f"Another edged keeps its transcripts beside {path}. Give this one a place of its own "
            "with transcripts.path, or set transcripts.enabled = false",
            code="store",
        ) from error
    return lock


def _was_closed(lock: TextIO) -> bool:
    """Whether whoever had the lock last has closed the store; from now on that is not so."""
    lock.seek(0)
    closed = lock.read() == CLOSED
    lock.truncate(0)
    os.fsync(lock.fileno())
    return closed


def _say_closed(lock: TextIO) -> None:
    with contextlib.suppress(OSError):  # a full disk; then some numbers are left out
        lock.write(CLOSED)
        lock.flush()


def _phrases(query: str) -> str:
    """Words as FTS5 strings, so that no character of a user's has a meaning of its own."""
    words = query.replace("\0", " ").split()
    return " ".join('"' + word.replace('"', '""') + '"' for word in words)
