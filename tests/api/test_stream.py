"""`WS /v1/stream`: audio in, events out."""

from __future__ import annotations

import itertools
import json
import random
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import soxr
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.protocol import State
from websockets.sync.client import ClientConnection, connect
from websockets.uri import parse_uri

from edged.audio.pcm import PcmConverter, PcmFormat
from tests.api.garbage import leaves_nothing, mutated
from tests.client import Event, of_type, recognize, s16, silence, texts
from tests.conftest import TINY
from tests.daemon import DaemonProcess

RATE = 16000
CLOSE = '{"type": "close"}'
FLUSH = '{"type": "flush"}'
Start = Callable[..., DaemonProcess]


@pytest.fixture(scope="module")
def sentence(speech: np.ndarray) -> np.ndarray:
    """About 4 s that say `It was the best of times, it was the worst of times`."""
    return np.concatenate([speech[: round(4.2 * RATE)], silence(0.5)])


def converse(
    daemon: DaemonProcess, query: str, frames: Iterable[bytes | str]
) -> tuple[list[Event], int | None]:
    """Send all frames, as fast as they are taken; the events to the end and the close code."""
    with connect(daemon.ws(f"/v1/stream?{query}"), max_size=None) as websocket:
        sender = threading.Thread(target=_send, args=(websocket, frames), daemon=True)
        sender.start()
        events = _events(websocket)
        sender.join()
        return events, websocket.close_code


def _send(websocket: ClientConnection, frames: Iterable[bytes | str]) -> None:
    for frame in frames:
        try:
            websocket.send(frame)
        except ConnectionClosed:
            return


def _events(websocket: ClientConnection) -> list[Event]:
    events = []
    try:
        while True:
            events.append(json.loads(websocket.recv()))
    except ConnectionClosed:
        return events


def heard(events: list[Event]) -> str:
    return " ".join(texts(events)).lower()


# -- how a conversation goes --------------------------------------------------------------------


def test_the_first_event_is_hello(daemon: DaemonProcess) -> None:
    with connect(daemon.ws("/v1/stream")) as websocket:
        hello = json.loads(websocket.recv())
    assert hello["type"] == "hello"
    assert hello["protocol"] == 1
    assert hello["model"] == TINY
    assert hello["rate"] == RATE
    assert hello["muted"] is False
    assert hello["stream"]
    assert hello["engine"]["effective"] == hello["engine"]["requested"]
    assert set(hello["engine"]["effective"]) == {"model", "provider", "device", "precision"}
    assert hello["engine"]["reason"] is None


def test_every_stream_has_a_name_of_its_own(daemon: DaemonProcess) -> None:
    with connect(daemon.ws("/v1/stream")) as one, connect(daemon.ws("/v1/stream")) as other:
        assert json.loads(one.recv())["stream"] != json.loads(other.recv())["stream"]


def test_every_utterance_that_began_gets_exactly_one_final(
    daemon: DaemonProcess, speech: np.ndarray
) -> None:
    events = recognize(daemon.url, speech[: 16 * RATE])
    started = [event["utterance"] for event in of_type(events, "speech_started")]
    finals = of_type(events, "final")
    assert len(started) >= 3
    assert started == list(range(1, len(started) + 1))
    assert [final["utterance"] for final in finals] == started
    for number in started:
        mine = [event["type"] for event in events if event.get("utterance") == number]
        assert mine[0] == "speech_started"
        assert mine[-1] == "final"
        assert set(mine[1:-1]) <= {"partial"}


def test_finals_follow_each_other_in_time(daemon: DaemonProcess, speech: np.ndarray) -> None:
    finals = of_type(recognize(daemon.url, speech[: 16 * RATE]), "final")
    for before, after in itertools.pairwise(finals):
        assert before["start"] <= before["end"] <= after["start"]
    assert finals[-1]["end"] <= 16


def test_a_final_has_all_its_fields(daemon: DaemonProcess, sentence: np.ndarray) -> None:
    [final, *_] = of_type(recognize(daemon.url, sentence), "final")
    assert 0 < final["confidence"] <= 1
    assert set(final["latency"]) == {"endpoint", "decode", "total"}
    assert final["engine"]["effective"]["model"] == TINY
    assert "words" not in final


def test_the_stable_text_of_a_partial_is_a_prefix_that_stays(
    daemon: DaemonProcess, speech: np.ndarray
) -> None:
    # Partials are given at the pace of time; faster audio may get none.
    events = recognize(daemon.url, speech[: 4 * RATE], pace=2.0)
    partials = of_type(events, "partial")
    assert partials
    stable: dict[int, str] = {}
    for partial in partials:
        assert partial["text"].startswith(partial["stable"])
        assert partial["stable"].startswith(stable.get(partial["utterance"], ""))
        assert partial["start"] <= partial["end"]
        assert partial["age"] >= 0
        stable[partial["utterance"]] = partial["stable"]


def test_close_is_answered_and_the_connection_ends_well(
    daemon: DaemonProcess, sentence: np.ndarray
) -> None:
    events, code = converse(daemon, "", [s16(sentence), CLOSE])
    assert events[-1] == {"type": "closed", "reason": "done"}
    assert code == 1000
    assert "best of times" in heard(events)


def test_a_close_without_any_audio_is_answered(daemon: DaemonProcess) -> None:
    events, code = converse(daemon, "", [CLOSE])
    assert [event["type"] for event in events] == ["hello", "closed"]
    assert code == 1000


def test_audio_after_close_is_not_listened_to(daemon: DaemonProcess, sentence: np.ndarray) -> None:
    frames = [CLOSE] + [s16(sentence)] * 3 + [CLOSE]
    events, code = converse(daemon, "rate=48000", frames)
    assert [event["type"] for event in events] == ["hello", "closed"]
    assert code == 1000


def test_flush_finishes_the_open_utterance_and_the_stream_goes_on(
    daemon: DaemonProcess, speech: np.ndarray
) -> None:
    half = speech[: round(2.2 * RATE)]  # in the flow of words: no endpoint of its own
    with connect(daemon.ws("/v1/stream?partials=0")) as websocket:
        websocket.send(s16(half))
        websocket.send(FLUSH)
        events = []
        while not of_type(events, "final"):
            events.append(json.loads(websocket.recv(timeout=20)))
        assert "best" in heard(events)
        websocket.send(s16(speech[len(half) : 4 * RATE]))
        websocket.send(CLOSE)
        rest = _events(websocket)
    assert "worst" in heard(rest)
    assert rest[-1]["type"] == "closed"


def test_flush_without_speech_says_nothing(daemon: DaemonProcess) -> None:
    events, _ = converse(daemon, "", [FLUSH, s16(silence(1)), FLUSH, FLUSH, CLOSE])
    assert [event["type"] for event in events] == ["hello", "closed"]


def test_words_lie_inside_their_utterance(daemon: DaemonProcess, speech: np.ndarray) -> None:
    events = recognize(daemon.url, speech[: 8 * RATE], query="&words=1")
    finals = of_type(events, "final")
    assert finals
    for final in finals:
        words = final["words"]
        assert " ".join(word["word"] for word in words) == final["text"]
        for word in words:
            assert final["start"] <= word["start"] <= word["end"] <= final["end"]
            assert 0 <= word["confidence"] <= 1
        starts = [word["start"] for word in words]
        assert starts == sorted(starts)


@pytest.mark.parametrize("no", ["0", "false", "no"])
def test_partials_can_be_left_out(daemon: DaemonProcess, speech: np.ndarray, no: str) -> None:
    events = recognize(daemon.url, speech[: 3 * RATE], query=f"&partials={no}", pace=3.0)
    assert of_type(events, "final")
    assert not of_type(events, "partial")


# -- kinds of audio -----------------------------------------------------------------------------


def pcm(samples: np.ndarray, rate: int, encoding: str, channels: int) -> bytes:
    """16 kHz mono as any kind of PCM, the same in every channel."""
    if rate != RATE:
        samples = soxr.resample(samples, RATE, rate)
    frames = np.repeat(np.clip(samples, -1, 1)[:, None], channels, axis=1).astype(np.float32)
    if encoding == "f32le":
        return frames.tobytes()
    if encoding == "s16le":
        return s16(frames)
    values = PcmConverter(PcmFormat(encoding=encoding)).feed(bytes(range(256)))
    order = np.argsort(values)
    places = np.searchsorted(values[order], frames.ravel()).clip(0, 255)
    return order[places].astype(np.uint8).tobytes()


def pieces(data: bytes, size: int = 1 << 19) -> Iterator[bytes]:
    for first in range(0, len(data), size):
        yield data[first : first + size]


@pytest.mark.parametrize(
    ("rate", "encoding", "channels"),
    [
        *((rate, "s16le", 1) for rate in (8000, 16000, 44100, 48000, 192000)),
        *((16000, encoding, 1) for encoding in ("f32le", "mulaw", "alaw")),
        *((16000, "s16le", channels) for channels in (2, 6)),
        (8000, "mulaw", 1),
        (8000, "alaw", 2),
        (44100, "f32le", 6),
        (48000, "f32le", 2),
        (192000, "s16le", 6),
    ],
)
def test_the_same_is_heard_in_every_kind_of_audio(
    daemon: DaemonProcess, sentence: np.ndarray, rate: int, encoding: str, channels: int
) -> None:
    data = pcm(sentence, rate, encoding, channels)
    query = f"rate={rate}&encoding={encoding}&channels={channels}&partials=0"
    events, code = converse(daemon, query, [*pieces(data), CLOSE])
    assert "best of times" in heard(events)
    assert "worst of time" in heard(events)
    assert code == 1000
    assert not of_type(events, "error")


@pytest.mark.parametrize(
    ("encoding", "channels", "sizes"),
    [("s16le", 1, (1, 333, 4095)), ("f32le", 6, (7, 1023, 65537)), ("s16le", 2, (3, 8191))],
)
def test_frames_may_be_cut_anywhere(
    daemon: DaemonProcess,
    sentence: np.ndarray,
    encoding: str,
    channels: int,
    sizes: tuple[int, ...],
) -> None:
    data = pcm(sentence, RATE, encoding, channels)
    query = f"encoding={encoding}&channels={channels}&partials=0"
    cut: list[bytes | str] = []
    first = 0
    while first < len(data):
        size = sizes[len(cut) % len(sizes)]
        cut.append(data[first : first + size])
        first += size
    events, _ = converse(daemon, query, [*cut, b"", CLOSE])
    whole, _ = converse(daemon, query, [*pieces(data), CLOSE])
    assert texts(events) == texts(whole)
    assert "best of times" in heard(events)


def test_half_a_sample_at_the_end_is_dropped(daemon: DaemonProcess, sentence: np.ndarray) -> None:
    events, code = converse(daemon, "", [s16(sentence) + b"\x7f", CLOSE])
    assert "worst of time" in heard(events)
    assert code == 1000


def test_samples_that_are_no_numbers_become_silence(
    daemon: DaemonProcess, sentence: np.ndarray
) -> None:
    bad = np.full(1600, np.nan, np.float32)
    bad[::3], bad[1::3] = np.inf, -np.inf
    frames: list[bytes | str] = [bad.tobytes(), bad.tobytes()]
    frames += [sentence.astype("<f4").tobytes(), bad.tobytes(), CLOSE]
    events, code = converse(daemon, "encoding=f32le&partials=0", frames)
    [error] = of_type(events, "error")
    assert (error["code"], error["fatal"]) == ("bad_samples", False)
    assert "best of times" in heard(events)
    assert code == 1000


def test_samples_beyond_full_scale_are_limited(daemon: DaemonProcess, sentence: np.ndarray) -> None:
    loud = (sentence * 3e38).astype("<f4")
    events, code = converse(daemon, "encoding=f32le&partials=0", [loud.tobytes(), CLOSE])
    assert events[-1]["type"] == "closed"
    assert code == 1000


# -- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("rate=0", "bad_rate"),
        ("rate=7999", "bad_rate"),
        ("rate=192001", "bad_rate"),
        ("rate=-16000", "bad_rate"),
        ("rate=fast", "bad_rate"),
        ("rate=", "bad_rate"),
        ("rate=16000.5", "bad_rate"),
        ("rate=" + "9" * 5000, "bad_rate"),
        ("encoding=mp3", "bad_encoding"),
        ("encoding=", "bad_encoding"),
        ("encoding=" + "%C3%A9" * 300, "bad_encoding"),
        ("channels=0", "bad_channels"),
        ("channels=65", "bad_channels"),
        ("channels=two", "bad_channels"),
    ],
)
def test_audio_that_cannot_be_read_is_refused(daemon: DaemonProcess, query: str, code: str) -> None:
    events, close = converse(daemon, query, [])
    [error] = events
    assert (error["type"], error["code"], error["fatal"]) == ("error", code, True)
    assert len(error["message"]) < 500
    assert close == 1008


@pytest.mark.parametrize(
    "message",
    [
        "",
        "{",
        "null",
        "[]",
        '"flush"',
        "{}",
        '{"type": null}',
        '{"type": []}',
        '{"type": {"type": "flush"}}',
        '{"type": "Flush"}',
        '{"kind": "flush"}',
        "\x00\x01\x02",
        "[" * 100_000,
        '{"type":' * 50_000,
    ],
    ids=lambda message: message[:20] or "empty",
)
def test_a_message_that_makes_no_sense_disturbs_nothing(
    daemon: DaemonProcess, sentence: np.ndarray, message: str
) -> None:
    half = len(sentence) // 2
    frames = [s16(sentence[:half]), message, s16(sentence[half:]), CLOSE]
    events, code = converse(daemon, "partials=0", frames)
    [error] = of_type(events, "error")
    assert (error["code"], error["fatal"]) == ("bad_message", False)
    assert "best of times" in heard(events)
    assert code == 1000


def test_unknown_fields_of_a_message_are_ignored(daemon: DaemonProcess) -> None:
    events, code = converse(daemon, "", ['{"type": "flush", "why": [1]}', CLOSE])
    assert not of_type(events, "error")
    assert code == 1000


def test_a_client_that_falls_behind_is_let_go(start_daemon: Start, sentence: np.ndarray) -> None:
    daemon = start_daemon("--no-microphone", "--model", TINY, server_client_queue=8)
    events, code = converse(daemon, "", ["no order"] * 5000)
    assert code == 4000
    assert set(map(str, (event["type"] for event in events))) == {"hello", "error"}
    assert "best of times" in heard(recognize(daemon.url, sentence))


# -- garbage ---------------------------------------------------------------------------------------

PATHS = [
    "/v1/stream",
    "/v1/stream?rate=8000&encoding=mulaw",
    "/v1/stream?channels=2&encoding=f32le",
]
PATHS += ["/v1/transcripts", "/v1/stream?fallback=fail&words=1&partials=0"]
SEEDS = [
    b'{"type": "flush"}',
    b'{"type": "close"}',
    b'{"type":"flush","why":[1,{"a":null}]}',
    bytes(640),
    np.sin(np.arange(3200) / 5).astype("<f4").tobytes(),
    np.array([np.nan, np.inf, -np.inf, 1e38, 1e-45], "<f4").tobytes(),
]


def pester(daemon: DaemonProcess, count: int, seed: int) -> None:
    """Send so many messages nobody would, over as many connections as it takes."""
    chance = random.Random(seed)
    left = count
    while left:
        path = mutated(chance, chance.choice(PATHS).encode()) if chance.random() < 0.2 else None
        address = path.decode("ascii", "ignore") if path else chance.choice(PATHS)
        try:
            with connect(
                daemon.ws("/") + quote(address[1:], "/?&="), compression=None
            ) as websocket:
                for _ in range(min(left, chance.randint(1, 2000))):
                    left -= 1
                    message = chance.choice(SEEDS)
                    message = message if chance.random() < 0.3 else mutated(chance, message)
                    as_text = chance.random() < 0.5
                    websocket.send(message.decode("latin-1") if as_text else message)
                    with suppress(TimeoutError):
                        websocket.recv(timeout=0)
        except (InvalidStatus, ConnectionClosed):
            left -= 1


@pytest.mark.parametrize("count", [1000, pytest.param(100_000, marks=pytest.mark.long)])
def test_garbage_ends_at_most_its_own_connection(
    daemon: DaemonProcess, sentence: np.ndarray, count: int
) -> None:
    pester(daemon, count // 10, seed=20)
    with leaves_nothing(daemon):
        pester(daemon, count, seed=21)
    assert "best of times" in heard(recognize(daemon.url, sentence))


# -- clients that vanish, daemons that stop ------------------------------------------------------


class RawClient:
    """A WebSocket over a bare socket, so that it can be cut off without a word."""

    def __init__(self, daemon: DaemonProcess, path: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", daemon.port), 30)
        self._protocol = ClientProtocol(parse_uri(daemon.ws(path)))
        self._protocol.send_request(self._protocol.connect())
        self._flush()
        self.events: list[Event] = []
        while self._protocol.state is not State.OPEN or not self.events:
            self.receive()

    def send(self, data: bytes) -> None:
        self._protocol.send_binary(data)
        self._flush()

    def receive(self) -> None:
        self._protocol.receive_data(self.socket.recv(65536))
        for frame in self._protocol.events_received():
            if hasattr(frame, "opcode"):
                self.events.append(json.loads(frame.data))

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            self.socket.sendall(data)

    def abort(self) -> None:
        """Reset the connection."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def stored(daemon: DaemonProcess, stream: str) -> list[dict[str, Any]]:
    page = daemon.get("/v1/transcripts?limit=1000")[1]
    return [entry for entry in page["transcripts"] if entry["stream"] == stream]


@pytest.mark.parametrize("how", ["reset", "end of file"])
def test_a_client_that_vanishes_disturbs_nobody(
    start_daemon: Start, speech: np.ndarray, how: str
) -> None:
    """What it had said is still recognised and stored, and its place becomes free."""
    daemon = start_daemon("--no-microphone", "--model", TINY, server_max_streams=1)
    client = RawClient(daemon, "/v1/stream")
    name = client.events[0]["stream"]
    client.send(s16(speech[: round(2.2 * RATE)]))
    if how == "reset":  # which discards what the daemon has not read yet
        while not of_type(client.events, "speech_started"):
            client.receive()
        client.abort()
    else:
        client.socket.shutdown(socket.SHUT_WR)
    [entry] = daemon.wait(lambda: stored(daemon, name))
    assert "it was the best of" in entry["text"].lower()

    def next_one() -> bool:
        with connect(daemon.ws("/v1/stream")) as websocket:
            return bool(json.loads(websocket.recv())["type"] == "hello")

    daemon.wait(next_one)
    client.socket.close()
    assert "Traceback" not in daemon.log.read_text()


def test_others_go_on_when_a_client_vanishes(daemon: DaemonProcess, sentence: np.ndarray) -> None:
    clients = [RawClient(daemon, "/v1/stream") for _ in range(3)]
    half = len(sentence) // 2

    def frames() -> Iterator[bytes | str]:
        yield s16(sentence[:half])
        for client in clients:
            client.send(s16(sentence[:half]))
            client.abort()
        yield s16(sentence[half:])
        yield CLOSE

    events, code = converse(daemon, "", frames())
    assert "worst of time" in heard(events)
    assert code == 1000


@pytest.mark.parametrize("rate", [16000, 48000])
def test_a_daemon_that_stops_sends_finals_first(
    start_daemon: Start, speech: np.ndarray, rate: int
) -> None:
    daemon = start_daemon("--no-microphone", "--model", TINY)
    data = pcm(speech[: 12 * RATE], rate, "s16le", 1)
    stop = threading.Event()

    def frames() -> Iterator[bytes | str]:
        """The first words, then more every 20 ms until the connection is closed."""
        first = 2 * 2 * rate
        yield data[:first]
        while first < len(data) and not stop.wait(0.02):
            yield data[first : first + rate // 25]
            first += rate // 25

    with connect(daemon.ws(f"/v1/stream?rate={rate}"), max_size=None) as websocket:
        sender = threading.Thread(target=_send, args=(websocket, frames()), daemon=True)
        sender.start()
        events = []
        while not of_type(events, "speech_started"):
            events.append(json.loads(websocket.recv(timeout=20)))
        daemon.process.send_signal(signal.SIGTERM)
        events += _events(websocket)
        stop.set()
        sender.join()
        code = websocket.close_code
    assert "it was the best" in heard(events)
    assert len(of_type(events, "final")) == len(of_type(events, "speech_started"))
    assert events[-1] == {"type": "closed", "reason": "stopping"}
    assert code == 1001
    assert daemon.process.wait(30) == 0
    assert "Traceback" not in daemon.log.read_text()


def test_a_daemon_that_stops_lets_silent_clients_go(start_daemon: Start) -> None:
    daemon = start_daemon("--no-microphone", "--model", TINY)
    with (
        connect(daemon.ws("/v1/stream")) as stream,
        connect(daemon.ws("/v1/transcripts")) as transcripts,
    ):
        for websocket in (stream, transcripts):
            websocket.recv()
        daemon.process.send_signal(signal.SIGTERM)
        for websocket in (stream, transcripts):
            assert _events(websocket) == [{"type": "closed", "reason": "stopping"}]
            assert websocket.close_code == 1001
    assert daemon.process.wait(30) == 0
