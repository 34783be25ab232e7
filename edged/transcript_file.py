"""The file of the transcript store: its layout, older layouts, and what is deleted for good.

An older layout is brought up in one transaction, after a copy was made. A file of a newer edged is
left as it is. A broken one is set aside.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from edged.errors import EdgedError
from edged.log import fields, get_logger

log = get_logger(__name__)

LAYOUT = 2
PRIVATE = 0o600
CACHE_KB = 256
"""Pages of the file that a connection keeps in memory: it reads what is new, and that rarely"""
LOG_PAGES = 64
"""Pages of 4096 bytes in the write-ahead log from which on it is taken over. With SQLite's 1000 it
grows to 4 MB, and one that has filled a small disk cannot be emptied any more"""
_FILES = ("", "-wal", "-shm")
"""SQLite's files, by what follows the name"""
_BROKEN = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_TABLE = """CREATE TABLE transcripts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    time REAL NOT NULL,
    stream TEXT NOT NULL,
    text TEXT NOT NULL,
    event BLOB NOT NULL
)"""
_AROUND = (
    "CREATE INDEX transcripts_time ON transcripts (time)",
    """CREATE VIRTUAL TABLE transcripts_text USING fts5 (
        text, content='transcripts', content_rowid='id'
    )""",
    """CREATE TRIGGER transcripts_added AFTER INSERT ON transcripts BEGIN
        INSERT INTO transcripts_text (rowid, text) VALUES (new.id, new.text);
    END""",
    """CREATE TRIGGER transcripts_removed AFTER DELETE ON transcripts BEGIN
        INSERT INTO transcripts_text (transcripts_text, rowid, text)
        VALUES ('delete', old.id, old.text);
    END""",
)
_INDEX = "INSERT INTO transcripts_text (transcripts_text) VALUES ('rebuild')"
_STEPS: dict[int, tuple[str, ...]] = {
    0: (_TABLE, *_AROUND),
    # The first stores let a number be given again once its row was deleted.
    1: (
        "DROP TRIGGER transcripts_added",
        "DROP TRIGGER transcripts_removed",
        "DROP TABLE transcripts_text",
        "DROP INDEX transcripts_time",
        "ALTER TABLE transcripts RENAME TO before",
        _TABLE,
        "INSERT INTO transcripts SELECT id, time, stream, text, event FROM before",
        # Where SQLite kept the last number, it may be higher than that of any row.
        "DELETE FROM sqlite_sequence WHERE name = 'transcripts' "
        "AND EXISTS (SELECT * FROM sqlite_sequence WHERE name = 'before')",
        "INSERT INTO sqlite_sequence (name, seq) "
        "SELECT 'transcripts', seq FROM sqlite_sequence WHERE name = 'before'",
        "DROP TABLE before",
        *_AROUND,
        _INDEX,
    ),
}
"""By layout, 0 for an empty file, what brings it to the next; 0 to the last"""


def open_file(path: Path) -> sqlite3.Connection:
    """A file in the present layout, made if there is none.

    Raises EdgedError for one that is not ours to change, sqlite3.Error and OSError.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE))
    connection = sqlite3.connect(path, check_same_thread=False, timeout=5)
    try:
        # Nothing is written unless it must be: a full disk keeps no daemon from starting.
        layout = _layout(connection, path)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KB}")
        connection.execute("PRAGMA secure_delete = ON")
        if layout != LAYOUT:
            _bring_up(connection, path, layout)
    except BaseException:
        connection.close()
        raise
    return connection


def _layout(connection: sqlite3.Connection, path: Path) -> int:
    """The file's, 0 if it is empty. Raises EdgedError if we must not touch it."""
    layout: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if layout > LAYOUT:
        raise EdgedError(
            f"{path} was written by a newer edged (layout {layout}; this one knows {LAYOUT}) and "
            "is left as it is. Install that edged again, or set transcripts.path",
            code="store_newer",
        )
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if layout == 0 and tables:
        raise EdgedError(
            f"{path} is a database of something else. Set transcripts.path", code="store"
        )
    return layout


def _bring_up(connection: sqlite3.Connection, path: Path, layout: int) -> None:
    if layout:
        backup = _back_up(connection, path, layout)
        log.warning(
            "%s is brought up from layout %d; as it was: %s",
            path,
            layout,
            backup,
            extra=fields("store_brought_up", path=path, layout=LAYOUT),
        )
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        for step in range(layout, LAYOUT) if layout else (0,):
            for statement in _STEPS[step]:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {LAYOUT}")


def _back_up(connection: sqlite3.Connection, path: Path, layout: int) -> Path:
    """A copy, whole or not there. Raises sqlite3.Error and OSError."""
    backup = path.with_name(f"{path.name}.layout{layout}")
    partial = backup.with_name(f"{backup.name}.partial")
    partial.unlink(missing_ok=True)
    os.close(os.open(partial, os.O_RDWR | os.O_CREAT, PRIVATE))
    with contextlib.closing(sqlite3.connect(partial)) as copy:
        connection.backup(copy)
    partial.replace(backup)
    return backup


def backups(path: Path) -> Iterator[Path]:
    """Copies of older layouts."""
    yield from path.parent.glob(f"{path.name}.layout*")


def is_broken(error: Exception) -> bool:
    """Whether SQLite says that the file itself is damaged."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _BROKEN


def is_sound(connection: sqlite3.Connection) -> bool:
    """Whether the file is whole; all of it is read."""
    try:
        return bool(connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
    except sqlite3.Error as error:
        return not is_broken(error)


def set_aside(path: Path) -> Path:
    """Give a broken file, which nobody has open, another name; returns it."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = path.with_name(f"{path.name}.broken-{stamp}")
    while aside.exists():
        aside = aside.with_name(f"{aside.name}-")
    for ending in _FILES:
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{ending}").rename(f"{aside}{ending}")
    return aside


def set_aside_before(path: Path) -> list[Path]:
    """Broken files that are still there."""
    return sorted(path.parent.glob(f"{path.name}.broken-*"))


def used_bytes(connection: sqlite3.Connection) -> int:
    """What the file's content takes; it may be larger."""
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def rewrite(connection: sqlite3.Connection) -> None:
    """Write the file anew from what it holds: no byte of what was deleted is left in it.

    `secure_delete` alone leaves words in the search index, and copies that were made when pages
    were divided. Raises sqlite3.Error.
    """
    with connection:
        connection.execute(_INDEX)
    connection.execute("VACUUM")
    busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    if busy:
        raise sqlite3.OperationalError("another program reads it")
