"""The transcript store: finals in SQLite, with full-text search.

A thread of its own writes; a full disk or a slow card delays the store and nothing else. What
cannot be written is kept in memory, within bounds, and tried again. What is too old, or too much,
makes room; what is forgotten on request is gone from the files when `forget` returns.
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
from typing import Any, NamedTuple, TextIO

import msgspec

from edged.errors import EdgedError
from edged.log import fields, get_logger
from edged.messages import Final
from edged.transcript_file import (
    backups,
    is_broken,
    is_sound,
    open_file,
    rewrite,
    set_aside,
    set_aside_before,
    used_bytes,
)

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
TIDY_SECONDS = 600.0
"""Between looks for finals that are too old or too many"""
REWRITE_SECONDS = 86400.0
"""Between rewrites of the file after such were deleted: it is written whole, and cards wear"""
CLOCK_STEP = 60.0
"""Seconds; a wall clock that moved more since the last look decides nothing"""
_LAST_NUMBER = "SELECT seq FROM sqlite_sequence WHERE name = 'transcripts'"


class Transcript(msgspec.Struct, frozen=True):
    """One stored final."""

    id: int
    time: float
    """Unix time of the utterance's start, seconds"""
    stream: str
    text: str
    event: Final


class Forgotten(NamedTuple):
    """What a deletion did."""

    deleted: int
    remains: list[Path]
    """Files that may hold it yet, and that are not ours to change: broken ones that were set
    aside"""


class TranscriptStore:
    """Finals by number, newest last. Numbers grow and are never used twice."""

    def __init__(self, path: Path, most_seconds: float = 0.0, most_bytes: int = 0) -> None:
        """Open or create the store; 0 bounds nothing. Raises EdgedError."""
        self._path = path
        self._most_seconds = most_seconds
        self._most_bytes = most_bytes
        self._last = 0
        self.notice: str | None = None
        """What happened to the file in this run, if it was broken"""
        self.problem: str | None = None
        """Why nothing is being written, while that is so"""
        self.dropped = 0
        """Finals given up because the disk took none for too long"""
        with _explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = _take_lock(path.with_suffix(".lock"))
        try:
            with _explained(path):
                self._unsure = not _was_closed(self._lock)
                self._open()
        except EdgedError:
            self._lock.close()
            raise
        if self._unsure and self._last:
            self._last += UNCERTAIN
        self._waiting: deque[Transcript] = deque()
        self._changed = threading.Condition()
        self._disk = threading.Lock()
        """Held while the writer is used"""
        self._reading = threading.Lock()
        self._closing = False
        self._looked = -TIDY_SECONDS
        self._clock: float | None = None
        """What the wall clock was ahead of the monotonic one at the last look"""
        self._rewritten = -REWRITE_SECONDS
        self._stale = False
        """Whether traces of what was deleted may be left in the file"""
        self._thread = threading.Thread(target=self._run, name="transcripts", daemon=True)
        self._thread.start()

    def _open(self) -> None:
        """Both connections, to a new file if this one is broken."""
        try:
            self._reader, self._writer = open_file(self._path), open_file(self._path)
            # Kept by SQLite itself, so that a number is not used again when its row is deleted.
            row = self._reader.execute(_LAST_NUMBER).fetchone()
        except sqlite3.Error as error:
            if self.notice or not is_broken(error):
                raise
            self._begin_anew(str(error))
            return
        self._last = max(self._last, row[0] if row else 0)

    def _begin_anew(self, reason: str) -> None:
        """Set the file aside, with nobody using it. Raises sqlite3.Error and OSError."""
        for connection in (getattr(self, "_reader", None), getattr(self, "_writer", None)):
            if connection:
                connection.close()
        aside = set_aside(self._path)
        self.notice = f"{self._path} was broken ({reason}), is set aside as {aside}, and begun anew"
        log.error("%s", self.notice, extra=fields("store_broken", path=self._path))
        self._unsure = False
        # Greater than any number that was given, unless a final came each second all the time.
        self._last = max(self._last, int(time.time()))
        self._open()

    @property
    def last(self) -> int:
        """The number given last."""
        return self._last

    @property
    def depth(self) -> int:
        """Finals that wait for the disk."""
        return len(self._waiting)

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

    # -- in the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._keep()
        except Exception as error:
            self._fail(error)  # nothing is kept from now on, and health says so
            raise

    def _keep(self) -> None:
        if self._unsure:
            self._examine()
        while True:
            self._tidy_in_time()
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing, TIDY_SECONDS / 10)
            if not self._write_waiting():
                if self._closing:
                    break
                time.sleep(RETRY_SECONDS)
            elif self._closing and not self._waiting:
                break
        self._writer.close()

    def _examine(self) -> None:
        """After a crash: what is broken is found now, not with the first search for it."""
        with self._disk:
            if not is_sound(self._writer):
                self._replace("a check found damage")

    def _replace(self, reason: str) -> None:
        """Go on with a new file, once; with the disk held."""
        if self.notice:
            return
        try:
            with self._reading:
                self._begin_anew(reason)
        except (sqlite3.Error, OSError, EdgedError) as error:
            self._fail(error)

    def _write_waiting(self) -> bool:
        """Whether the disk took what waits."""
        with self._disk:
            with self._changed:
                batch = list(self._waiting)
            if not batch:
                return True
            if not self._write_batch(batch):
                return False
            with self._changed:
                while self._waiting and self._waiting[0].id <= batch[-1].id:
                    self._waiting.popleft()
        return True

    def _write_batch(self, batch: list[Transcript]) -> bool:
        rows = [(t.id, t.time, t.stream, t.text, msgspec.json.encode(t.event)) for t in batch]
        try:
            with self._writer:
                self._writer.executemany(
                    "INSERT INTO transcripts (id, time, stream, text, event) "
                    "VALUES (?, ?, ?, ?, ?)",
                    rows,
                )
        except sqlite3.Error as error:
            self._fail(error)
            if is_broken(error):
                self._replace(str(error))
            return False
        if self.problem:
            log.info("transcripts are written again", extra=fields("store_written"))
        self.problem = None
        return True

    def _fail(self, error: Exception) -> None:
        if self.problem != str(error):
            failed = fields("store_failed", path=self._path)
            log.error("transcripts cannot be written to %s: %s", self._path, error, extra=failed)
        self.problem = str(error)

    # -- what makes room ------------------------------------------------------------------------

    def _tidy_in_time(self) -> None:
        now = time.monotonic()
        if now - self._looked < TIDY_SECONDS:
            return
        self._looked = now
        try:
            with self._disk:
                self._tidy(now)
        except (sqlite3.Error, OSError) as error:  # a full disk; the next look may fare better
            log.warning(
                "old transcripts cannot be deleted from %s: %s",
                self._path,
                error,
                extra=fields("store_not_tidied", path=self._path),
            )

    def _tidy(self, now: float) -> None:
        with self._writer:
            deleted = self._delete_old(now) + self._delete_too_many()
        self._stale = self._stale or deleted > 0
        if self._stale and now - self._rewritten > REWRITE_SECONDS:
            with self._reading:
                rewrite(self._writer)
            self._rewritten, self._stale = now, False

    def _delete_old(self, now: float) -> int:
        """What is too old, unless the clock was just set: boards forget the time."""
        ahead = time.time() - now
        steady = self._clock is not None and abs(ahead - self._clock) < CLOCK_STEP
        self._clock = ahead
        if not self._most_seconds or not steady:
            return 0
        oldest = time.time() - self._most_seconds
        for backup in backups(self._path):
            if backup.stat().st_mtime < oldest:
                backup.unlink(missing_ok=True)
        return self._delete("time < ?", oldest)

    def _delete_too_many(self) -> int:
        """The oldest, a tenth at a time, until the rest has room."""
        deleted = 0
        while self._most_bytes and used_bytes(self._writer) > self._most_bytes:
            count = self._writer.execute("SELECT count(*) FROM transcripts").fetchone()[0]
            if not count:
                break
            oldest = "id IN (SELECT id FROM transcripts ORDER BY id LIMIT ?)"
            deleted += self._delete(oldest, max(1, count // 10))
        return deleted

    def _delete(self, condition: str, *values: float) -> int:
        statement = f"DELETE FROM transcripts WHERE {condition}"  # noqa: S608  ours
        return self._writer.execute(statement, values).rowcount

    # -- for everybody --------------------------------------------------------------------------

    def forget(self, since: float | None = None, until: float | None = None) -> Forgotten:
        """Delete the finals of utterances that began from `since` on and before `until`.

        When it returns, none of their bytes are in the store's files. Raises EdgedError when that
        is not so; to ask again does no harm.
        """
        first = float("-inf") if since is None else since
        last = float("inf") if until is None else until
        with self._disk:
            with self._changed:
                kept = [t for t in self._waiting if not first <= t.time < last]
                deleted = len(self._waiting) - len(kept)
                self._waiting = deque(kept)
            try:
                with self._writer:
                    deleted += self._delete("time >= ? AND time < ?", first, last)
                with self._reading:
                    rewrite(self._writer)
                for backup in backups(self._path):
                    backup.unlink(missing_ok=True)
            except (sqlite3.Error, OSError) as error:
                if is_broken(error):
                    self._replace(str(error))
                raise EdgedError(
                    f"Not everything could be deleted from {self._path} ({error}). Ask again",
                    code="store",
                ) from error
        done = fields("transcripts_deleted", count=deleted)
        log.info("%d transcripts are deleted on request", deleted, extra=done)
        return Forgotten(deleted, set_aside_before(self._path))

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
            with self._reading:
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
        if not (self._waiting or self._thread.is_alive() or self._lock.closed):
            _say_closed(self._lock)
        self._lock.close()


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """What the disk or SQLite say becomes an EdgedError with a cure."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise EdgedError(
            f"{path} cannot be used as transcript store ({error}). Move it away, or set "
            "transcripts.path, or transcripts.enabled = false",
            code="store",
        ) from error


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
            code="store_in_use",
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
