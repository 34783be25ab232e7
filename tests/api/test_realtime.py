"""`WS /v1/realtime`: OpenAI's Realtime protocol, by OpenAI's own client."""

from __future__ import annotations

import base64
import json
import random
import signal
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
import soxr
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from edged.audio.pcm import PcmConverter, PcmFormat
from tests import chaos
from tests.api.garbage import leaves_nothing
from tests.client import load, recognize, s16, silence, texts
from tests.conftest import TINY
from tests.daemon import DaemonProcess

# The package's way of opening a socket, which the newest `websockets` would have otherwise.
pytestmark = pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager")

RATE = 16000
BUFFER = "input_audio_buffer"
TRANSCRIPTION = "conversation.item.input_audio_transcription"
PCM16 = {"type": "audio/pcm", "rate": RATE}
Event = dict[str, Any]
Start = Callable[..., DaemonProcess]


class Talk:
    """A session by the `openai` package, and every event that came."""

    def __init__(self, daemon: DaemonProcess, **options: Any) -> None:
        client = openai.OpenAI(
            api_key="unused",
            base_url=f"{daemon.url}/v1",
            websocket_base_url=daemon.ws("/v1"),
            max_retries=0,
        )
        self._entered = client.realtime.connect(
            extra_query={"intent": "transcription"}, extra_headers=options.get("headers", {})
        )
        self.events: list[Event] = []

    def __enter__(self) -> Talk:
        self.connection = self._entered.enter()
        self.created = self.receive()
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def receive(self) -> Event:
        event: Event = json.loads(self.connection.recv_bytes())
        assert self.connection.parse_event(json.dumps(event).encode()).type == event["type"]
        assert event["event_id"].startswith("event_")
        self.events.append(event)
        return event

    def until(self, kind: str, count: int = 1) -> list[Event]:
        """Everything up to so many events whose type ends like that."""
        first = len(self.events)
        for _ in range(count):
            while not self.receive()["type"].endswith(kind):
                pass
        return self.events[first:]

    def to_the_end(self) -> int | None:
        """Everything until the connection is closed; the code that it was closed with."""
        try:
            while True:
                self.receive()
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else None

    def update(self, include: list[str] | None = None, **audio_input: Any) -> Event:
        """Change the session; what the daemon says is in force."""
        session: Any = {"type": "transcription", "audio": {"input": audio_input}}
        if include is not None:
            session["include"] = include
        self.connection.session.update(session=session)
        return self.until("")[-1]

    def append(self, data: bytes, pace: float | None = None, rate: int = RATE) -> None:
        """Send audio: at once, or in 20 ms pieces at a pace (of s16le)."""
        step = rate // 50 * 2 if pace else max(1, len(data))
        started = time.monotonic()
        for first in range(0, len(data), step):
            if pace:
                due = started + first / 2 / rate / pace
                time.sleep(max(0.0, due - time.monotonic()))
            piece = base64.b64encode(data[first : first + step]).decode()
            self.connection.input_audio_buffer.append(audio=piece)

    def commit(self) -> None:
        self.connection.input_audio_buffer.commit()

    def send(self, event: Any) -> None:
        """Anything at all."""
        text = event if isinstance(event, str) else json.dumps(event)
        self.connection._connection.send(text)

    def error(self) -> dict[str, Any]:
        """The next event, which is an error."""
        event = self.receive()
        assert event["type"] == "error", event
        assert set(event["error"]) == {"message", "type", "param", "code", "event_id"}
        error: dict[str, Any] = event["error"]
        return error


def of(events: Iterable[Event], kind: str, item: str | None = None) -> list[Event]:
    return [
        event
        for event in events
        if event["type"].endswith(kind) and item in {None, event.get("item_id")}
    ]


def transcripts(events: Iterable[Event]) -> list[str]:
    return [event["transcript"] for event in of(events, f"{TRANSCRIPTION}.completed")]


def spoken(texts: Iterable[str]) -> str:
    return " ".join(text for text in texts if text)


@pytest.fixture(scope="module")
def sentence(speech: np.ndarray) -> np.ndarray:
    """About 4 s that say `It was the best of times, it was the worst of times`."""
    return np.concatenate([speech[: round(4.2 * RATE)], silence(0.6)])


@pytest.fixture(scope="module")
def clip(speech: np.ndarray) -> np.ndarray:
    """Three utterances."""
    return np.concatenate([speech[: 12 * RATE], silence(1)])


@pytest.fixture(scope="module")
def finals(daemon: DaemonProcess, clip: np.ndarray) -> list[str]:
    """What the native protocol makes of the clip."""
    return texts(recognize(daemon.url, clip))


# -- what is in force ---------------------------------------------------------------------------


def test_the_first_event_tells_what_is_in_force(daemon: DaemonProcess) -> None:
    with Talk(daemon) as talk:
        assert talk.created["type"] == "session.created"
        session = talk.created["session"]
    assert session["id"].startswith("sess_")
    assert session["object"] == "realtime.transcription_session"
    assert session["type"] == "transcription"
    given = session["audio"]["input"]
    assert given["format"] == {"type": "audio/pcm", "rate": 24000}
    assert given["transcription"]["model"] == TINY
    assert given["noise_reduction"] is None
    detection = given["turn_detection"]
    assert (detection["type"], detection["threshold"]) == ("server_vad", 0.5)
    assert (detection["prefix_padding_ms"], detection["silence_duration_ms"]) == (300, 416)


def test_an_update_changes_what_it_names_and_tells_all(daemon: DaemonProcess) -> None:
    with Talk(daemon) as talk:
        wished = {"type": "server_vad", "silence_duration_ms": 700}
        given = talk.update(turn_detection=wished)["session"]["audio"]["input"]
        assert given["turn_detection"]["silence_duration_ms"] == 700
        assert given["turn_detection"]["threshold"] == 0.5
        answer = talk.update(
            format={"type": "audio/pcmu"},
            noise_reduction={"type": "near_field"},
            transcription={"model": "whisper-1", "language": "en", "prompt": "x"},
        )
        assert answer["type"] == "session.updated"
        given = answer["session"]["audio"]["input"]
        assert given["format"] == {"type": "audio/pcmu"}
        assert given["noise_reduction"] is None
        assert given["transcription"] == {"model": TINY, "language": "en", "prompt": ""}
        assert given["turn_detection"]["silence_duration_ms"] == 700
        eager = {"type": "semantic_vad", "eagerness": "high"}
        given = talk.update(turn_detection=eager)["session"]["audio"]["input"]
        assert given["turn_detection"] == eager
        given = talk.update(turn_detection=None)["session"]["audio"]["input"]
        assert given["turn_detection"] is None
        talk.send({"type": "session.update", "session": {"input_audio_format": "g711_alaw"}})
        given = talk.receive()["session"]["audio"]["input"]  # from a client that mixes the schemas
        assert given["format"] == {"type": "audio/pcma"}
        too_little = {"type": "server_vad", "silence_duration_ms": 1}
        given = talk.update(turn_detection=too_little)["session"]["audio"]["input"]
        assert given["turn_detection"]["silence_duration_ms"] == 64


def test_the_beta_schema_is_answered_in_kind(daemon: DaemonProcess, sentence: np.ndarray) -> None:
    with Talk(daemon, headers={"OpenAI-Beta": "realtime=v1"}) as talk:
        assert talk.created["type"] == "transcription_session.created"
        session = {
            "input_audio_format": "g711_alaw",
            "input_audio_transcription": {"model": "gpt-4o-transcribe", "language": "en"},
            "turn_detection": None,
            "input_audio_noise_reduction": {"type": "far_field"},
            "include": ["item.input_audio_transcription.logprobs"],
        }
        talk.send({"type": "transcription_session.update", "session": session})
        updated = talk.receive()
        assert updated["type"] == "transcription_session.updated"
        assert updated["session"]["input_audio_format"] == "g711_alaw"
        assert updated["session"]["turn_detection"] is None
        assert updated["session"]["include"] == session["include"]
        talk.append(companded(sentence, "alaw"))
        talk.commit()
        kinds = [event["type"] for event in talk.until("completed")]
        assert kinds[:2] == [f"{BUFFER}.committed", "conversation.item.created"]
        assert "best of times" in transcripts(talk.events)[0]


@pytest.mark.long
def test_nvidias_words_of_the_beta_schema_are_known(
    daemon: DaemonProcess, sentence: np.ndarray
) -> None:
    with Talk(daemon) as talk:
        session = {
            "input_audio_params": {"sample_rate_hz": RATE, "num_channels": 1},
            "turn_detection": None,
        }
        talk.send({"type": "transcription_session.update", "session": session})
        params = talk.receive()["session"]["input_audio_params"]
        assert params["sample_rate_hz"] == RATE
        talk.append(s16(sentence))
        talk.send({"type": f"{BUFFER}.done"})
        talk.until("completed")
        assert "best of times" in transcripts(talk.events)[0]


# -- turns that the server finds ------------------------------------------------------------------


def test_items_follow_each_other_with_the_text_of_the_daemons_finals(
    daemon: DaemonProcess, clip: np.ndarray, finals: list[str]
) -> None:
    with Talk(daemon) as talk:
        talk.update(format=PCM16, include=["item.input_audio_transcription.logprobs"])
        talk.append(s16(clip))
        talk.until("completed", len(finals))
        events = talk.events
    assert transcripts(events) == finals
    items = [event["item_id"] for event in of(events, "committed")]
    assert len(set(items)) == len(finals) >= 3
    befores = [event["previous_item_id"] for event in of(events, "committed")]
    assert befores == [None, *items[:-1]]
    for item in items:
        mine = [e for e in events if item in {e.get("item_id"), e.get("item", {}).get("id")}]
        kinds = [e["type"].rpartition(".")[2] for e in mine if not e["type"].endswith("delta")]
        steps = ["speech_started", "speech_stopped", "committed", "added", "done", "completed"]
        assert kinds == steps
        [stopped] = of(mine, "speech_stopped")
        assert mine[0]["audio_start_ms"] < stopped["audio_end_ms"]
        [completed] = of(mine, "completed")
        assert completed["usage"]["type"] == "duration"
        assert 1 < completed["usage"]["seconds"] < 10
        tokens = completed["logprobs"]
        assert b"".join(bytes(t["bytes"]) for t in tokens).decode() == completed["transcript"]
        told = "".join(e["delta"] for e in of(mine, "delta"))
        assert completed["transcript"].startswith(told) is (told == completed["transcript"])


def test_deltas_come_while_somebody_speaks_and_are_never_taken_back(
    daemon: DaemonProcess, sentence: np.ndarray
) -> None:
    with Talk(daemon) as talk:
        talk.update(format=PCM16)
        talk.append(s16(sentence), pace=2.0)
        events = talk.until("completed")
    kinds = [event["type"] for event in events]
    assert kinds.index(f"{TRANSCRIPTION}.delta") < kinds.index(f"{BUFFER}.speech_stopped")
    assert len(of(events, "delta")) > 1
    assert "".join(event["delta"] for event in of(events, "delta")) == transcripts(events)[0]


@pytest.mark.long
def test_the_text_that_may_change_is_told_to_those_who_ask(
    daemon: DaemonProcess, sentence: np.ndarray
) -> None:
    with Talk(daemon) as talk:
        talk.update(format=PCM16, include=["edged.partials"])
        talk.append(s16(sentence), pace=2.0)
        talk.until("completed")
        partials = of(talk.events, "edged.partial")
    assert partials
    assert all(partial["text"].startswith(partial["stable"]) for partial in partials)


@pytest.mark.long
def test_a_longer_silence_makes_one_item_of_several(
    daemon: DaemonProcess, clip: np.ndarray
) -> None:
    with Talk(daemon) as talk:
        wished = {"type": "server_vad", "silence_duration_ms": 900}
        talk.update(format=PCM16, turn_detection=wished)
        talk.append(s16(clip))
        talk.until("completed")
        assert len(of(talk.events, "committed")) == 1
        assert transcripts(talk.events)[0].count("it was") >= 2


def test_a_client_may_commit_what_is_being_said(daemon: DaemonProcess, speech: np.ndarray) -> None:
    """In the flow of words: no endpoint of its own."""
    with Talk(daemon) as talk:
        talk.update(format=PCM16)
        talk.append(s16(speech[: round(2.2 * RATE)]))
        [started] = talk.until("speech_started")
        talk.commit()
        events = talk.until("completed")
        assert of(events, "committed")[0]["item_id"] == started["item_id"]
        assert not of(events, "speech_stopped")
        assert "best" in transcripts(events)[0]
        talk.append(s16(speech[round(2.2 * RATE) : 5 * RATE]))
        again = talk.until("completed")
    assert "worst" in transcripts(again)[0]
    assert of(again, "speech_started")[0]["audio_start_ms"] >= 2200


# -- turns that the client says -------------------------------------------------------------------


def test_nothing_is_decided_before_a_commit(
    daemon: DaemonProcess, clip: np.ndarray, finals: list[str]
) -> None:
    with Talk(daemon) as talk:
        talk.update(format=PCM16, turn_detection=None)
        for _ in range(2):
            talk.append(s16(clip))
            talk.send({"type": "no.such.event"})
            before = talk.until("error")
            assert [event["type"] for event in before] == ["error"]
            talk.commit()
            events = talk.until("completed")
            kinds = [event["type"] for event in events]
            assert kinds[0] == f"{BUFFER}.committed"
            assert kinds[1:3] == ["conversation.item.added", "conversation.item.done"]
            assert transcripts(events) == [spoken(finals)]
            assert "".join(event["delta"] for event in of(events, "delta")) == spoken(finals)
            assert of(events, "completed")[0]["usage"]["seconds"] == 13
    first, second = of(talk.events, "committed")
    assert second["previous_item_id"] == first["item_id"]


def test_silence_that_is_committed_is_an_item_without_text(daemon: DaemonProcess) -> None:
    with Talk(daemon) as talk:
        talk.update(format=PCM16, turn_detection=None)
        talk.append(s16(silence(0.5)))
        talk.commit()
        talk.until("completed")
        assert transcripts(talk.events) == [""]
        assert not of(talk.events, "delta")


@pytest.mark.parametrize("detection", [None, {"type": "server_vad"}])
def test_what_is_cleared_is_never_heard_of(
    daemon: DaemonProcess, speech: np.ndarray, sentence: np.ndarray, detection: Any
) -> None:
    secret = speech[17 * RATE : round(19.5 * RATE)]
    with Talk(daemon) as talk:
        talk.update(format=PCM16, turn_detection=detection)
        talk.append(s16(secret))
        talk.connection.input_audio_buffer.clear()
        talk.until("cleared")
        talk.append(s16(sentence))
        if detection is None:
            talk.commit()
        talk.until("completed")
        [text] = transcripts(talk.events)
    assert "best of times" in text
    assert "hope" not in text
    newest = daemon.get("/v1/transcripts?limit=1000")[1]["transcripts"][-3:]
    assert not any("hope" in entry["text"] for entry in newest)


# -- kinds of audio -------------------------------------------------------------------------------


def companded(samples: np.ndarray, encoding: str) -> bytes:
    """16 kHz as G.711 at 8 kHz."""
    values = PcmConverter(PcmFormat(encoding=encoding)).feed(bytes(range(256)))
    order = np.argsort(values)
    narrow = soxr.resample(samples, RATE, 8000)
    return order[np.searchsorted(values[order], narrow).clip(0, 255)].astype(np.uint8).tobytes()


@pytest.mark.parametrize(
    "kind", [8000, pytest.param(48000, marks=pytest.mark.long), "pcmu", "pcma"]
)
def test_the_same_is_heard_in_every_kind_of_audio(
    daemon: DaemonProcess, sentence: np.ndarray, kind: int | str
) -> None:
    if isinstance(kind, int):
        given = {"type": "audio/pcm", "rate": kind}
        data = s16(soxr.resample(sentence, RATE, kind))
    else:
        given = {"type": f"audio/{kind}"}
        data = companded(sentence, {"pcmu": "mulaw", "pcma": "alaw"}[kind])
    with Talk(daemon) as talk:
        talk.update(format=given, turn_detection=None)
        talk.append(data[:10_001])  # a sample cut in two
        talk.append(data[10_001:])
        talk.commit()
        talk.until("completed")
    [text] = transcripts(talk.events)
    assert "best of times" in text
    assert "worst of time" in text


@pytest.mark.long
def test_a_minute_of_audio_may_come_in_one_event(daemon: DaemonProcess, recording: Path) -> None:
    whole = load(recording)
    with Talk(daemon) as talk:
        talk.update(format={"type": "audio/pcm", "rate": 48000}, turn_detection=None)
        talk.append(s16(soxr.resample(whole, RATE, 48000)))
        talk.commit()
        talk.until("completed")
    assert "winter of despair" in transcripts(talk.events)[0]


# -- what goes wrong ------------------------------------------------------------------------------

UPDATE = {"type": "session.update", "event_id": "mine"}


def updating(**audio_input: Any) -> Event:
    return {**UPDATE, "session": {"type": "transcription", "audio": {"input": audio_input}}}


@pytest.mark.parametrize(
    ("event", "code", "param"),
    [
        ("", "invalid_json", None),
        ("{", "invalid_json", None),
        ("[" * 50_000, "invalid_json", None),
        ("[]", "invalid_json", None),
        ({}, "invalid_value", "type"),
        ({"type": ["session.update"]}, "invalid_value", "type"),
        ({"type": "response.create"}, "invalid_value", "type"),
        (UPDATE, "invalid_value", "session"),
        ({**UPDATE, "session": {"type": "realtime"}}, "invalid_value", "session.type"),
        (
            updating(format={"type": "audio/mp3"}),
            "invalid_value",
            "session.audio.input.format.type",
        ),
        (
            updating(format={"type": "audio/pcm", "rate": 7999}),
            "invalid_value",
            "session.audio.input.format.rate",
        ),
        (
            updating(format={"type": "audio/pcm", "rate": 48001}),
            "invalid_value",
            "session.audio.input.format.rate",
        ),
        (
            updating(turn_detection={"type": "server_vad", "threshold": 2}),
            "invalid_value",
            "session.audio.input.turn_detection.threshold",
        ),
        (
            updating(transcription={"language": "de"}),
            "language_not_supported",
            "session.language",
        ),
        ({"type": f"{BUFFER}.append"}, "missing_required_parameter", "audio"),
        ({"type": f"{BUFFER}.append", "audio": 7}, "missing_required_parameter", "audio"),
        ({"type": f"{BUFFER}.append", "audio": "a?b"}, "invalid_value", "audio"),
        ({"type": f"{BUFFER}.append", "audio": "é"}, "invalid_value", "audio"),
        ({"type": f"{BUFFER}.commit"}, f"{BUFFER}_commit_empty", f"{BUFFER}.commit"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_makes_no_sense_is_an_error_and_the_session_goes_on(
    daemon: DaemonProcess, event: Any, code: str, param: str | None
) -> None:
    with Talk(daemon) as talk:
        talk.send(event)
        error = talk.error()
        assert (error["type"], error["code"]) == ("invalid_request_error", code)
        assert error["param"] == param
        assert error["event_id"] == (event.get("event_id") if isinstance(event, dict) else None)
        assert len(error["message"]) < 500
        assert talk.update()["session"] == talk.created["session"]


def test_settings_do_not_change_under_audio_that_is_not_committed(
    daemon: DaemonProcess, sentence: np.ndarray
) -> None:
    with Talk(daemon) as talk:
        talk.update(format=PCM16, turn_detection=None)
        talk.append(s16(sentence))
        talk.send(updating(format={"type": "audio/pcmu"}))
        error = talk.error()
        assert (error["code"], error["event_id"]) == (f"{BUFFER}_not_empty", "mine")
        talk.commit()
        talk.until("completed")
        assert "best of times" in transcripts(talk.events)[0]
        updated = talk.update(format={"type": "audio/pcmu"})
        assert updated["session"]["audio"]["input"]["format"] == {"type": "audio/pcmu"}


def test_a_commit_of_next_to_nothing_is_refused(daemon: DaemonProcess) -> None:
    with Talk(daemon) as talk:
        talk.update(format=PCM16, turn_detection=None)
        talk.append(s16(silence(0.05)))
        talk.commit()
        error = talk.error()
        assert error["code"] == f"{BUFFER}_commit_empty"
        assert "50 ms" in error["message"]


def test_two_sessions_do_not_mix(daemon: DaemonProcess, speech: np.ndarray) -> None:
    parts = [speech[: round(4.2 * RATE)], speech[17 * RATE : 21 * RATE]]
    with Talk(daemon) as one, Talk(daemon) as other:
        for talk in (one, other):
            talk.update(format=PCM16, turn_detection=None)
        for first in range(0, 4 * RATE, RATE):
            for talk, part in zip((one, other), parts, strict=True):
                talk.append(s16(part[first : first + RATE]))
        for talk, word in ((one, "best of"), (other, "winter of despair")):
            talk.commit()
            talk.until("completed")
            assert word in transcripts(talk.events)[0]


@pytest.fixture
def small(start_daemon: Start) -> DaemonProcess:
    """A daemon with little patience."""
    return start_daemon(
        *("--no-microphone", "--model", TINY),
        server_max_streams=1,
        server_client_queue=8,
        server_idle_seconds=1.5,
        server_max_audio_seconds=2,
    )


@pytest.mark.long
def test_limits_hold_and_places_are_given_back(small: DaemonProcess) -> None:
    with Talk(small) as talk, Talk(small) as other:
        assert (other.created["type"], other.created["error"]["code"]) == (
            "error",
            "too_many_clients",
        )
        assert other.to_the_end() == 1013
        talk.update(format=PCM16, turn_detection=None)
        talk.append(s16(silence(2.5)))
        talk.append(s16(silence(0.5)))
        assert talk.error()["code"] == "audio_too_long"
        assert talk.to_the_end() == 1000  # nothing was sent for long
        assert talk.events[-1]["error"]["code"] == "session_expired"
    with connect(small.ws("/v1/realtime"), max_size=None) as websocket:
        json.loads(websocket.recv())
        for _ in range(2000):
            try:
                websocket.send("no event")
            except ConnectionClosed:
                break
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                websocket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4000

    def place() -> bool:
        with Talk(small) as third:
            return bool(third.created["type"] == "session.created")

    small.wait(place)
    assert "Traceback" not in small.log.read_text()


def test_a_browser_is_told_which_subprotocol_was_taken(daemon: DaemonProcess) -> None:
    offered: Any = ["realtime", "openai-insecure-api-key.secret", "openai-beta.realtime-v1"]
    with connect(daemon.ws("/v1/realtime"), subprotocols=offered) as websocket:
        assert websocket.subprotocol == "realtime"
        assert json.loads(websocket.recv())["type"] == "transcription_session.created"


# -- clients that vanish, daemons that stop, engines that fail ------------------------------------


def test_a_daemon_that_stops_tells_the_text_first(start_daemon: Start, speech: np.ndarray) -> None:
    daemon = start_daemon("--no-microphone", "--model", TINY)
    with Talk(daemon) as detecting, Talk(daemon) as waiting:
        for talk, detection in ((detecting, {"type": "server_vad"}), (waiting, None)):
            talk.update(format=PCM16, turn_detection=detection)
            talk.append(s16(speech[: round(2.5 * RATE)]))
            talk.send("?")  # what was sent before its answer has arrived
            talk.until("error")
        daemon.process.send_signal(signal.SIGTERM)
        for talk in (detecting, waiting):
            assert talk.to_the_end() == 1001
            assert "it was the best" in transcripts(talk.events)[0].lower()
            assert len(of(talk.events, "committed")) == 1
    assert daemon.process.wait(30) == 0
    assert "Traceback" not in daemon.log.read_text()


def test_what_a_client_said_is_stored_only_once_it_is_an_item(
    daemon: DaemonProcess, speech: np.ndarray
) -> None:
    def stored() -> int:
        return len(daemon.get("/v1/transcripts?limit=1000&q=despair")[1]["transcripts"])

    before = stored()
    for detection in (None, {"type": "server_vad"}):
        with Talk(daemon) as talk:
            talk.update(format=PCM16, turn_detection=detection)
            talk.append(s16(speech[17 * RATE : 21 * RATE]))
            talk.send("?")
            talk.until("error")
    daemon.wait(lambda: stored() > before)
    assert stored() == before + 1
    assert "Traceback" not in daemon.log.read_text()


@pytest.mark.long
@pytest.mark.parametrize("detection", [{"type": "server_vad"}, None])
def test_audio_that_the_engine_dies_of_is_said_to_have_failed(
    start_daemon: Start,
    speech: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    detection: Any,
) -> None:
    chaos.install(tmp_path, monkeypatch)
    settings = {"engine_provider": "chaos", "engine_fallback": "fail"}
    samples = np.concatenate([speech[: round(4.4 * RATE)], silence(1)])
    daemon = start_daemon("--no-microphone", "--model", TINY, **settings)
    events = recognize(daemon.url, samples)
    [final] = [event for event in events if event["type"] == "final"]
    monkeypatch.setenv("EDGED_TEST_TRAP", str(round((final["end"] - final["start"]) * RATE)))
    daemon = start_daemon("--no-microphone", "--model", TINY, **settings)
    with Talk(daemon) as talk:
        talk.update(format=PCM16, turn_detection=detection)
        talk.append(s16(samples))
        if detection is None:
            talk.commit()
        failed = talk.until("failed")[-1]
        assert failed["error"]["code"] == "audio_lost"
        talk.append(s16(speech[17 * RATE : 21 * RATE]))
        talk.append(s16(silence(1)))
        if detection is None:
            talk.commit()
        talk.until("completed")
        assert "winter of despair" in spoken(transcripts(talk.events))


@pytest.mark.long
@pytest.mark.parametrize("detection", [{"type": "server_vad"}, None])
def test_an_engine_that_dies_in_between_costs_no_word(
    start_daemon: Start, clip: np.ndarray, finals: list[str], detection: Any
) -> None:
    daemon = start_daemon("--no-microphone", "--model", TINY)
    half = len(clip) // 2
    with Talk(daemon) as talk:
        talk.update(format=PCM16, turn_detection=detection)
        talk.append(s16(clip[:half]))
        talk.send("?")
        talk.until("error")
        daemon.worker().kill()
        talk.append(s16(clip[half:]))
        if detection is None:
            talk.commit()
        while len(of(talk.events, "completed")) < (len(finals) if detection else 1):
            talk.receive()
        assert spoken(transcripts(talk.events)) == spoken(finals)
        assert not of(talk.events, "failed")


# -- anything at all ------------------------------------------------------------------------------

SEEDS: list[Event] = [
    updating(format=PCM16, turn_detection=None),
    updating(turn_detection={"type": "server_vad", "silence_duration_ms": 200, "threshold": 0.3}),
    updating(turn_detection={"type": "semantic_vad", "eagerness": "low"}),
    updating(format={"type": "audio/pcma"}, transcription={"model": "m", "language": "en"}),
    {
        "type": "transcription_session.update",
        "session": {"input_audio_format": "pcm16", "turn_detection": None, "include": []},
    },
    {"type": f"{BUFFER}.append", "audio": base64.b64encode(bytes(6400)).decode()},
    {"type": f"{BUFFER}.append", "audio": base64.b64encode(bytes(range(256)) * 8).decode()},
    {"type": f"{BUFFER}.commit"},
    {"type": f"{BUFFER}.clear", "event_id": "x"},
    {"type": f"{BUFFER}.done"},
]
ODD: list[Any] = [None, True, -1, 0, 1e308, 2**63, 10**30, "", "\ud83d", "é" * 50, [], {}, [[]]]


def mutated(chance: random.Random) -> str:
    """A message that is nearly one of the protocol's."""
    event = json.loads(json.dumps(chance.choice(SEEDS)))
    for _ in range(chance.randrange(3)):
        node = event
        while chance.random() < 0.6:
            inner = [value for value in node.values() if isinstance(value, dict)]
            if not inner:
                break
            node = chance.choice(inner)
        if node:
            key = chance.choice(list(node))
            if chance.random() < 0.3:
                del node[key]
            else:
                node[key] = chance.choice(ODD)
    text = json.dumps(event)
    if chance.random() < 0.3:
        first = chance.randrange(len(text))
        cut = text[:first] + chance.choice(["", "\x00", '"', "}", "9"]) + text[first + 1 :]
        text = cut[: chance.randrange(1, len(cut) + 1)] if chance.random() < 0.5 else cut
    return text


def rubbish(daemon: DaemonProcess, seed: int, messages: int) -> None:
    """Send so many on one connection; it answers to the last, and nobody else is disturbed."""
    chance = random.Random(seed)
    address = daemon.ws("/v1/realtime")
    with connect(address, max_size=None, close_timeout=60) as websocket:
        reader = threading.Thread(target=_read_all, args=(websocket,), daemon=True)
        reader.start()
        for _ in range(messages):
            websocket.send(mutated(chance))
        websocket.close()
        reader.join()
        assert websocket.close_code == 1000


def _read_all(websocket: Any) -> None:
    for message in websocket:
        assert json.loads(message)["event_id"]


def healthy(daemon: DaemonProcess, sentence: np.ndarray) -> None:
    assert "best of times" in spoken(texts(recognize(daemon.url, sentence)))
    assert "Traceback" not in daemon.log.read_text()


def test_messages_that_are_nearly_right_disturb_nobody(
    daemon: DaemonProcess, sentence: np.ndarray
) -> None:
    rubbish(daemon, seed=1, messages=200)
    healthy(daemon, sentence)


@pytest.mark.long
def test_a_hundred_thousand_such_messages_disturb_nobody(
    start_daemon: Start, sentence: np.ndarray
) -> None:
    daemon = start_daemon("--no-microphone", "--model", TINY, server_client_queue=100_000)
    for seed in range(2, 7):
        rubbish(daemon, seed, messages=2000)
    with leaves_nothing(daemon):
        for seed in range(7, 57):
            rubbish(daemon, seed, messages=2000)
    healthy(daemon, sentence)
