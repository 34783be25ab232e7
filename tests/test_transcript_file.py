"""The transcript store's file: older and newer layouts, damage, bounds, and what is deleted."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edged import transcript_file, transcripts
from edged.errors import EdgedError
from edged.transcript_file import LAYOUT
from edged.transcripts import TranscriptStore
from tests.test_transcripts import final, texts, wait

Open = Callable[..., TranscriptStore]
TEXT = "It was the best of times."
EVENT = (
    b'{"type":"final","utterance":1,"text":"It was the best of times.","start":0.0,"end":1.0,'
    b'"confidence":0.9,"engine":{"requested":null,"effective":null,"reason":null},'
    b'"latency":{"endpoint":0.3,"decode":0.1,"total":0.4},"clock":5.0,"id":7}'
)
"""As the first edged wrote it"""
FIRST = """
CREATE TABLE transcripts (
    id INTEGER PRIMARY KEY,
    time REAL NOT NULL, stream TEXT NOT NULL, text TEXT NOT NULL, event BLOB NOT NULL
);
CREATE INDEX transcripts_time ON transcripts (time);
CREATE VIRTUAL TABLE transcripts_text USING fts5 (
    text, content='transcripts', content_rowid='id'
);
CREATE TRIGGER transcripts_added AFTER INSERT ON transcripts BEGIN
    INSERT INTO transcripts_text (rowid, text) VALUES (new.id, new.text);
END;
CREATE TRIGGER transcripts_removed AFTER DELETE ON transcripts BEGIN
    INSERT INTO transcripts_text (transcripts_text, rowid, text)
    VALUES ('delete', old.id, old.text);
END;
PRAGMA user_version = 1;
"""
SECOND = FIRST.replace("INTEGER PRIMARY KEY", "INTEGER PRIMARY KEY AUTOINCREMENT")
"""It had the same number"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    return folder / "transcripts.sqlite"


@pytest.fixture
def opened(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Open stores that look for what is too old all the time; all are closed at the end."""
    monkeypatch.setattr(transcripts, "RETRY_SECONDS", 0.02)
    monkeypatch.setattr(transcripts, "TIDY_SECONDS", 0.05)
    stores: list[TranscriptStore] = []

    def open_store(**bounds: float) -> TranscriptStore:
        stores.append(TranscriptStore(path, **bounds))  # type: ignore[arg-type]
        return stores[-1]

    yield open_store
    for store in stores:
        store.close()


@contextlib.contextmanager
def database(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path)
    try:
        with connection:
            yield connection
    finally:
        connection.close()


def make(path: Path, layout: str, rows: int) -> None:
    with database(path) as connection:
        connection.executescript("PRAGMA journal_mode = WAL;" + layout)
        for number in range(1, rows + 1):
            connection.execute(
                "INSERT INTO transcripts VALUES (?, ?, 'microphone', ?, ?)",
                (number, float(number), TEXT, EVENT),
            )


def layout_of(path: Path) -> int:
    with database(path) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def files(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.parent.iterdir()}


# -- layouts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [FIRST, SECOND])
def test_an_older_layout_is_brought_up(opened: Open, path: Path, layout: str) -> None:
    make(path, layout, 3)
    store = opened()
    assert texts(store) == [TEXT] * 3
    assert texts(store, query="best") == [TEXT] * 3
    assert store.find()[0].event.text == TEXT
    number = store.add("microphone", final("and after"), 9).id
    assert number is not None
    assert number > 3
    assert texts(store, query="after") == ["and after"]
    store.close()
    assert layout_of(path) == LAYOUT
    assert opened().last == number  # and the next start finds nothing to do
    assert len(list(transcript_file.backups(path))) == 1


def test_a_number_is_not_given_again_after_a_layout_that_would_have(
    opened: Open, path: Path
) -> None:
    make(path, SECOND, 3)
    with database(path) as connection:
        connection.execute("DELETE FROM transcripts")
    assert opened().last >= 3


def test_the_older_file_stays_beside_it_as_it_was(opened: Open, path: Path) -> None:
    make(path, FIRST, 3)
    path.chmod(0o644)
    opened()
    [backup] = transcript_file.backups(path)
    assert layout_of(backup) == 1
    with database(backup) as connection:
        assert connection.execute("SELECT count(*) FROM transcripts").fetchone() == (3,)
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600


def test_a_layout_that_cannot_be_brought_up_stays_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last statement fails: none before it may have been done."""
    make(path, FIRST, 3)
    steps = {1: (*transcript_file._STEPS[1], "INSERT INTO nowhere VALUES (1)")}
    with monkeypatch.context() as patch:
        patch.setattr(transcript_file, "_STEPS", steps)
        with pytest.raises(EdgedError, match="nowhere") as raised:
            TranscriptStore(path)
    assert raised.value.code == "store"
    assert layout_of(path) == 1
    store = TranscriptStore(path)
    assert texts(store) == [TEXT] * 3
    store.close()


KILLED = """
import os, signal, sys
from pathlib import Path
from edged import transcript_file
from edged.transcripts import TranscriptStore

steps = transcript_file._STEPS[1]
class Steps(tuple):
    def __iter__(self):
        for number, statement in enumerate(steps):
            if number == int(sys.argv[2]):
                os.kill(os.getpid(), signal.SIGKILL)
            yield statement
transcript_file._STEPS[1] = Steps()
TranscriptStore(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("statements", [0, 5, 9])
def test_a_crash_meanwhile_loses_nothing(opened: Open, path: Path, statements: int) -> None:
    make(path, SECOND, 200)
    command = [sys.executable, "-c", KILLED, str(path), str(statements)]
    assert subprocess.run(command, check=False, timeout=60).returncode == -9
    assert len(texts(opened(), limit=1000)) == 200


def test_a_file_of_a_newer_edged_is_left_alone(path: Path) -> None:
    make(path, SECOND, 3)
    with database(path) as connection:
        connection.execute(f"PRAGMA user_version = {LAYOUT + 1}")
    before = path.read_bytes()
    with pytest.raises(EdgedError, match="newer edged") as raised:
        TranscriptStore(path)
    assert raised.value.code == "store_newer"
    assert "\n" not in raised.value.message
    assert path.read_bytes() == before


def test_a_database_of_something_else_is_left_alone(path: Path) -> None:
    with database(path) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    before = path.read_bytes()
    with pytest.raises(EdgedError, match="something else"):
        TranscriptStore(path)
    assert path.read_bytes() == before


def test_an_empty_file_is_a_new_store(opened: Open, path: Path) -> None:
    """What a power cut leaves of one that was just made."""
    path.touch()
    store = opened()
    store.add("microphone", final("first"), 1)
    assert texts(store) == ["first"]


def test_nobody_else_can_read_it(opened: Open, path: Path) -> None:
    before = os.umask(0o022)
    try:
        store = opened()
    finally:
        os.umask(before)
    store.add("microphone", final("first"), 1)
    store.flush()
    databases = [file for file in path.parent.iterdir() if file.name.startswith(path.name)]
    assert len(databases) == 3
    assert {stat.S_IMODE(file.stat().st_mode) for file in databases} == {0o600}


# -- damage -------------------------------------------------------------------------------------


def damage(path: Path) -> None:
    """Overwrite everything but the first pages."""
    with path.open("r+b") as file:
        file.seek(3 * 4096)
        size = path.stat().st_size
        file.write(b"\xa5" * (size - 3 * 4096))


def test_what_is_no_database_is_set_aside(opened: Open, path: Path) -> None:
    letter = b"This is a letter.\n" * 500
    path.write_bytes(letter)
    store = opened()
    [aside] = transcript_file.set_aside_before(path)
    assert aside.read_bytes() == letter
    assert store.notice
    assert str(aside) in store.notice
    assert "\n" not in store.notice
    store.add("microphone", final("after"), 1)
    assert texts(store) == ["after"]


def test_numbers_go_on_beyond_those_of_a_file_that_was_set_aside(opened: Open, path: Path) -> None:
    path.write_bytes(b"This is a letter.\n" * 500)
    number = opened().add("microphone", final("after"), 1).id
    assert number is not None
    assert number > time.time() - 60


def test_damage_is_found_after_a_crash_and_the_file_set_aside(opened: Open, path: Path) -> None:
    make(path, SECOND, 3000)
    opened().close()
    path.with_suffix(".lock").write_text("")  # nobody has closed it
    for backup in transcript_file.backups(path):
        backup.unlink()
    damage(path)
    store = opened()
    wait(lambda: store.notice)
    [aside] = transcript_file.set_aside_before(path)
    assert aside.stat().st_size > 100_000
    number = store.add("microphone", final("after"), 1).id
    assert number is not None
    assert number > 3000
    assert texts(store) == ["after"]


def test_damage_that_shows_while_it_runs_loses_no_new_final(opened: Open, path: Path) -> None:
    store = opened()
    for number in range(3000):
        store.add("microphone", final(f"number {number} before"), number)
    store.flush()
    store.close()
    damage(path)
    again = opened()
    numbers = [again.add("microphone", final(f"after {i}"), 5000 + i).id for i in range(300)]
    wait(lambda: again.notice)
    again.flush()
    found = again.find(limit=1000, query="after")
    assert [entry.id for entry in found] == numbers
    assert numbers == list(range(3001, 3301))


def test_damage_that_a_deletion_meets_is_set_aside(opened: Open, path: Path) -> None:
    make(path, SECOND, 3000)
    opened().close()
    damage(path)
    store = opened()
    with pytest.raises(EdgedError, match="Ask again"):
        store.forget(since=0)
    assert store.forget(since=0).remains == transcript_file.set_aside_before(path) != []


# -- bounds -------------------------------------------------------------------------------------


def test_what_is_too_old_is_deleted(opened: Open, path: Path) -> None:
    store = opened(most_seconds=3600)
    now = time.time()
    for age in (8000, 7000, 3000, 10):
        store.add("microphone", final(f"seconds {age} ago"), now - age)
    store.flush()
    wait(lambda: len(store.find()) == 2)
    assert texts(store) == ["seconds 3000 ago", "seconds 10 ago"]
    assert texts(store, query="7000") == []


def test_a_clock_that_was_just_set_deletes_nothing(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A board that wakes in 2099 has to say so twice."""
    store = opened(most_seconds=3600)
    store.add("microphone", final("now"), time.time())
    store.flush()
    monkeypatch.setattr(transcripts, "TIDY_SECONDS", 1e9)
    time.sleep(0.2)  # a look that had begun
    future = time.time() + 70 * 365 * 86400
    monkeypatch.setattr(transcripts.time, "time", lambda: future)
    store._delete_old(time.monotonic())
    assert texts(store) == ["now"]
    with store._disk, store._writer:
        assert store._delete_old(time.monotonic()) == 1


def test_only_so_much_is_kept(opened: Open, path: Path) -> None:
    store = opened(most_bytes=200_000)
    for number in range(2000):
        store.add("microphone", final(f"number {number} " + "word " * 20), number)
    store.flush()
    wait(lambda: store.find(limit=1)[0].id > 1)
    wait(lambda: path.stat().st_size < 250_000)
    found = store.find(limit=5000)
    assert found[-1].id == 2000
    assert 100 < len(found) < 1000
    assert store.add("microphone", final("next"), 1).id == 2001


def test_without_bounds_everything_is_kept(opened: Open) -> None:
    store = opened()
    store.add("microphone", final("old"), 1)
    store.flush()
    time.sleep(0.3)
    assert texts(store) == ["old"]


# -- what is to be forgotten --------------------------------------------------------------------


def test_the_log_beside_it_stays_small(opened: Open, path: Path) -> None:
    """A disk that it has filled could not be emptied of it any more."""
    store = opened()
    for _ in range(80):
        for _ in range(20):
            store.add("microphone", final(TEXT), time.time())
        store.flush()
    assert path.with_name(f"{path.name}-wal").stat().st_size < 700_000


def test_a_thread_that_ends_is_said_to_keep_nothing(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bool:
        raise ValueError("a fault of ours")

    monkeypatch.setattr(threading, "excepthook", lambda _arguments: None)
    store = opened()
    monkeypatch.setattr(store, "_write_batch", fail)
    store.add("microphone", final(TEXT), time.time())
    wait(lambda: store.problem == "a fault of ours")


def fill(store: TranscriptStore, secret: range, total: int = 3000) -> None:
    """Finals with words of their own, so that no index can shorten them."""
    for number in range(total):
        word = f"{number:04}secret" if number in secret else f"{number:04}plain"
        store.add("microphone", final(f"it was {word} that was said"), number)
    store.flush()


def test_what_is_forgotten_is_in_no_byte_of_any_file(opened: Open, path: Path) -> None:
    store = opened()
    fill(store, range(1000, 1500))
    assert any(b"1200secret" in data for data in files(path).values())
    forgotten = store.forget(1000, 1500)
    assert forgotten.deleted == 500
    assert forgotten.remains == []
    for name, data in files(path).items():
        assert b"secret" not in data, name
    joined = b"".join(files(path).values())
    assert b"0999plain" in joined
    assert b"1500plain" in joined
    assert len(store.find(limit=5000)) == 2500
    assert texts(store, query="1200secret") == []
    assert texts(store, query="2500plain") == ["it was 2500plain that was said"]


def test_deleted_rows_alone_would_have_left_traces(opened: Open, path: Path) -> None:
    """So that the test above is known to see something."""
    store = opened()
    fill(store, range(1000, 1500))
    store.close()
    with database(path) as connection:
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("DELETE FROM transcripts WHERE time >= 1000 AND time < 1500")
    with database(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert b"secret" in path.read_bytes()


def test_the_copy_of_an_older_layout_goes_with_it(opened: Open, path: Path) -> None:
    make(path, SECOND, 3)
    store = opened()
    assert list(transcript_file.backups(path))
    assert store.forget(since=0).deleted == 3
    for name, data in files(path).items():
        assert b"best of times" not in data, name


def test_a_broken_file_that_may_hold_it_is_named(opened: Open, path: Path) -> None:
    path.write_bytes(b"It was a secret.\n" * 500)
    assert opened().forget(since=0).remains == transcript_file.set_aside_before(path) != []


def test_what_still_waits_for_the_disk_is_forgotten_too(opened: Open, path: Path) -> None:
    store = opened()
    store.add("microphone", final("first"), 1)
    store.flush()
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute(
        "CREATE TRIGGER full BEFORE INSERT ON transcripts BEGIN "
        "SELECT raise(ABORT, 'disk is full'); END"
    )
    store.add("microphone", final("secret"), 2)
    store.add("microphone", final("kept"), 3)
    wait(lambda: store.problem)
    assert store.forget(2, 3).deleted == 1
    holder.execute("DROP TRIGGER full")
    holder.close()
    assert texts(store) == ["first", "kept"]


def test_a_file_that_somebody_reads_is_not_said_to_be_clean(
    opened: Open, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program's open transaction keeps the old pages in the log."""
    store = opened()
    fill(store, range(5, 10), 20)
    store._writer.execute("PRAGMA busy_timeout = 50")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM transcripts").fetchone()
        with pytest.raises(EdgedError, match="Ask again") as raised:
            store.forget(5, 10)
        assert raised.value.code == "store"
    assert store.forget(5, 10).deleted == 0
    assert not any(b"secret" in data for data in files(path).values())


def test_numbers_of_what_is_forgotten_are_not_given_again(opened: Open) -> None:
    store = opened()
    fill(store, range(0), 10)
    store.forget(since=0)
    store.close()
    assert opened().add("microphone", final("next"), 1).id == 11
