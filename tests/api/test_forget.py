"""What was said can be deleted for good; a store that cannot be used keeps nobody from hearing."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.api.http import ask, event_stream
from tests.client import recognize, texts
from tests.conftest import TINY
from tests.daemon import DaemonProcess

RATE = 16000
Start = Callable[..., DaemonProcess]


def delete(daemon: DaemonProcess, query: str, **headers: str) -> tuple[int, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = ask(daemon, f"/v1/transcripts?{query}", method="DELETE", headers=named)
    return answer.status, answer.json


def stored(daemon: DaemonProcess) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = daemon.get("/v1/transcripts")[1]["transcripts"]
    return listed


def holding(daemon: DaemonProcess, word: str) -> list[str]:
    """The daemon's files that have a word in them."""
    files = [file for file in daemon.folder.rglob("*") if file.is_file()]
    return [file.name for file in files if word.encode() in file.read_bytes()]


def test_a_span_of_what_the_microphone_heard_is_gone_for_good(
    start_daemon: Start, speech: np.ndarray, tmp_path: Path
) -> None:
    """From the database, its log, the search and what is sent again to those who ask for it."""
    recording = tmp_path / "speech.wav"
    soundfile.write(recording, speech[: 20 * RATE], RATE, subtype="PCM_16")
    daemon = start_daemon("--model", TINY, "--source", f"fast:{recording}")
    path = "/v1/transcripts/events"
    # Speech goes on to the recording's end: the last final is the one that ends there.
    daemon.wait(lambda: any(entry["event"]["end"] > 19.5 for entry in stored(daemon)))
    first, second, *rest = stored(daemon)
    assert rest
    word = max(set(second["text"].split()), key=lambda w: (w not in str([first, rest]), len(w)))
    assert holding(daemon, word)

    status, done = delete(daemon, f"since={second['time']}&until={rest[0]['time']}")
    assert (status, done) == (200, {"deleted": 1, "remains": []})
    assert not holding(daemon, word)
    assert [entry["id"] for entry in stored(daemon)] == [
        first["id"],
        *(entry["id"] for entry in rest),
    ]
    assert not daemon.get(f"/v1/transcripts?q={word}")[1]["transcripts"]
    with event_stream(daemon, path, {"Last-Event-ID": "0"}) as stream:
        assert next(stream)["event"] == "hello"
        assert next(stream)["id"] == str(first["id"])
        assert next(stream)["id"] == str(rest[0]["id"])
    assert delete(daemon, "since=0")[1]["deleted"] == 1 + len(rest)
    assert not stored(daemon)


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("", "no_span"),
        ("since=", "invalid_request"),
        ("since=nan", "invalid_request"),
        ("until=inf", "invalid_request"),
        ("since=yesterday", "invalid_request"),
    ],
)
def test_a_span_must_be_given(daemon: DaemonProcess, query: str, code: str) -> None:
    status, problem = delete(daemon, query)
    assert (status, problem["code"]) == (422, code)


def test_pages_of_others_delete_nothing(daemon: DaemonProcess) -> None:
    for headers in ({"Origin": "http://evil.example"}, {"Sec_Fetch_Site": "cross-site"}):
        status, problem = delete(daemon, "since=0", **headers)
        assert (status, problem["code"]) == (403, "unknown_origin")


def test_a_store_of_a_newer_edged_is_left_alone_and_everything_else_served(
    start_daemon: Start, speech: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "daemon0" / "transcripts.sqlite"
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    daemon = start_daemon("--no-microphone", "--model", TINY)
    assert texts(recognize(daemon.url, speech[: 4 * RATE]))
    assert "newer edged" in json.dumps(daemon.get("/v1/health")[1]["reasons"])
    for method in ("GET", "DELETE"):
        answer = ask(daemon, "/v1/transcripts?since=0", method=method)
        assert (answer.status, answer.json["code"]) == (503, "store")
        assert "newer edged" in answer.json["detail"]
    assert daemon.stop() == 0
    assert path.read_bytes() == before


def test_what_may_hold_it_elsewhere_is_named(
    start_daemon: Start, speech: np.ndarray, tmp_path: Path
) -> None:
    """A broken store, which is set aside, and the flight recorder's files."""
    path = tmp_path / "daemon0" / "transcripts.sqlite"
    path.parent.mkdir()
    path.write_bytes(b"This is a letter.\n" * 500)
    daemon = start_daemon(
        "--no-microphone", "--model", TINY, recorder_enabled=1, recorder_clients=1
    )
    said = [text for text in texts(recognize(daemon.url, speech[: 4 * RATE])) if text]
    assert [entry["text"] for entry in stored(daemon)] == said
    recordings = daemon.wait(
        lambda: [name for name in holding(daemon, said[0]) if name.endswith(".jsonl")]
    )
    [reason] = daemon.get("/v1/health")[1]["reasons"]
    [aside] = path.parent.glob("*.broken-*")
    assert str(aside) in reason
    status, done = delete(daemon, "since=0")
    assert (status, done["deleted"]) == (200, len(said))
    assert str(aside) in done["remains"]
    remains = {Path(name).name for name in done["remains"]}
    assert set(holding(daemon, said[0])) == set(recordings) < remains
    assert all(Path(name).is_file() for name in done["remains"])
    assert "Traceback" not in daemon.log.read_text()
