"""The transcript store: what is said stays, whatever the disk does."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edged import transcripts
from edged.errors import EdgedError
from edged.messages import EngineState, Final, Latency
from edged.transcripts import TranscriptStore

Open = Callable[[], TranscriptStore]


def final(text: str) -> Final:
    latency = Latency(endpoint=0.3, decode=0.1, total=0.4)
    engine = EngineState(None, None)
    return Final(1, text, 0.0, 1.0, 0.9, engine=engine, latency=latency, clock=5.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "transcripts.sqlite"


@pytest.fixture
def opened(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Open stores; all are closed at the end."""
    monkeypatch.setattr(transcripts, "RETRY_SECONDS", 0.02)
    stores: list[TranscriptStore] = []

    def open_store() -> TranscriptStore:
        stores.append(TranscriptStore(path))
        return stores[-1]

    yield open_store
    for store in stores:
        store.close()


def texts(store: TranscriptStore, **query: object) -> list[str]:
    store.flush()
    return [entry.text for entry in store.find(**query)]  # type: ignore[arg-type]


def wait(condition: Callable[[], object]) -> None:
    """Until the writing thread has come so far."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# -- numbers ------------------------------------------------------------------------------------


def test_finals_are_numbered_and_kept_in_order(opened: Open) -> None:
    store = opened()
    numbers = [store.add("microphone", final(f"text {i}"), i).id for i in range(50)]
    assert numbers == list(range(1, 51))
    store.flush()
    entries = store.find(limit=1000)
    assert [entry.id for entry in entries] == numbers
    assert [entry.event.id for entry in entries] == numbers
    assert entries[7].text == entries[7].event.text == "text 7"
    assert entries[7].time == 7


def test_finals_survive_a_restart(opened: Open) -> None:
    store = opened()
    store.add("microphone", final("before"), 1)
    store.close()
    again = opened()
    assert texts(again) == ["before"]
    assert again.add("microphone", final("after"), 2).id == 2
    assert texts(again) == ["before", "after"]


def test_what_was_queued_is_written_before_it_closes(opened: Open) -> None:
    store = opened()
    for i in range(500):
        store.add("microphone", final(f"text {i}"), i)
    store.close()
    assert len(texts(opened(), limit=1000)) == 500


def test_a_number_is_not_used_again_when_its_row_is_deleted(opened: Open, path: Path) -> None:
    store = opened()
    for i in range(3):
        store.add("microphone", final("text"), i)
    store.close()
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("DELETE FROM transcripts WHERE id = 3")
    connection.close()
    assert opened().add("microphone", final("text"), 4).id == 4


def test_numbers_stay_unique_whoever_adds(opened: Open) -> None:
    store = opened()
    numbers: list[int | None] = []

    def add() -> None:
        for _ in range(100):
            numbers.append(store.add("microphone", final("text"), 0).id)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(n or 0 for n in numbers) == list(range(1, 401))
    store.flush()
    assert len(store.find(limit=1000)) == 400


# -- search -------------------------------------------------------------------------------------


@pytest.fixture
def filled(opened: Open) -> TranscriptStore:
    store = opened()
    for number, text in enumerate(
        [
            "It was the best of times.",
            'He said "stop" twice.',
            "It's 5 o'clock, isn't it?",
            "Café au lait; NEAR the ÉCOLE.",
            "the worst of times",
        ]
    ):
        store.add("microphone", final(text), float(number))
    return store


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("times", 2),
        ("TIMES best", 1),
        ("best times of", 1),
        ("tim", 0),
        ("best worst", 0),
        ('"stop"', 1),
        ('"', 0),
        ("it's", 1),
        ("o'clock", 1),
        ("near", 1),
        ("NEAR(the", 1),
        ("cafe ecole", 1),
        ("best*", 1),
        ("times OR stop", 0),
        ("text:times", 0),
        ("-times", 2),
        ("\0", 5),
        ("   ", 5),
        ("", 5),
    ],
)
def test_a_search_finds_whole_words_all_of_them(
    filled: TranscriptStore, query: str, found: int
) -> None:
    assert len(texts(filled, query=query)) == found


def test_conditions_narrow_each_other(filled: TranscriptStore) -> None:
    assert texts(filled, query="times", since=1) == ["the worst of times"]
    assert texts(filled, query="times", until=4) == ["It was the best of times."]
    assert texts(filled, query="times", after=1) == ["the worst of times"]
    assert texts(filled, query="times", limit=1) == ["It was the best of times."]
    assert texts(filled, since=4, until=4) == []
    assert len(texts(filled, since=1, until=4)) == 3


def test_what_is_deleted_is_found_no_more(filled: TranscriptStore, path: Path) -> None:
    filled.flush()
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("DELETE FROM transcripts WHERE id = 1")
    connection.close()
    assert texts(filled, query="best") == []


# -- disks --------------------------------------------------------------------------------------


def test_a_store_that_cannot_be_written_is_made_up_for(opened: Open, path: Path) -> None:
    """Another program holds the file; nothing waits for it, nothing is lost."""
    store = opened()
    store.add("microphone", final("before"), 1)
    store.flush()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("DROP TRIGGER transcripts_added")
    connection.execute(
        "CREATE TRIGGER full BEFORE INSERT ON transcripts BEGIN "
        "SELECT raise(ABORT, 'disk is full'); END"
    )
    assert store.add("microphone", final("meanwhile"), 2).id == 2
    wait(lambda: store.problem)
    assert "disk is full" in str(store.problem)
    assert store.add("microphone", final("and more"), 3).id == 3
    assert [entry.text for entry in store.find()] == ["before"]
    connection.execute("DROP TRIGGER full")
    connection.close()
    wait(lambda: store.problem is None)
    assert texts(store) == ["before", "meanwhile", "and more"]


def test_only_so_much_waits_for_the_disk(
    opened: Open, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcripts, "MOST_WAITING", 10)
    store = opened()
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(
        "CREATE TRIGGER full BEFORE INSERT ON transcripts BEGIN "
        "SELECT raise(ABORT, 'disk is full'); END"
    )
    for i in range(25):
        assert store.add("microphone", final(f"text {i}"), i).id == i + 1
    assert store.dropped == 15
    connection.execute("DROP TRIGGER full")
    connection.close()
    assert texts(store) == [f"text {i}" for i in range(15, 25)]


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from edged import transcripts
from tests.test_transcripts import final, wait

transcripts.RETRY_SECONDS = 0.02
path = Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = transcripts.TranscriptStore(path)
store.add("microphone", final("before"), 1)
store.flush()
size = sum(file.stat().st_size for file in path.parent.iterdir())
resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
for i in range(200):
    store.add("microphone", final(f"meanwhile {i} " + "word " * 200), 2)
wait(lambda: store.problem)
print(store.problem)
found = store.find(limit=1000)
assert found and len(found) < 201, len(found)
store.close()
store = transcripts.TranscriptStore(path)  # a daemon that starts on a full disk
assert store.find(), "it can still be read"
store.add("microphone", final("after all"), 3)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
wait(lambda: store.find(query="after all"))
store.close()
"""


def test_a_full_disk_stops_nothing(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_a_folder_that_cannot_be_made_is_an_error_with_a_cure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EdgedError, match=r"transcripts\.path"):
        TranscriptStore(tmp_path / "file" / "transcripts.sqlite")
