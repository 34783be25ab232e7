"""Wyoming, spoken by the `wyoming` package's own client."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import soxr
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncClient
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong
from zeroconf import Zeroconf

from edged.api.wyoming import announcement
from edged.api.wyoming.request import Growth
from edged.errors import ConfigurationError
from tests.api.conftest import Shared
from tests.api.garbage import leaves_nothing, mutated
from tests.api.http import ask
from tests.api.test_access import own_address
from tests.client import load, s16, silence
from tests.conftest import GUESTS, TINY, Said
from tests.daemon import DaemonProcess

SAMPLES = 1024
"""A chunk, as satellites send it"""


def client(daemon: DaemonProcess) -> AsyncClient:
    return AsyncClient.from_uri(daemon.guest("wyoming"), read_timeout=60)


async def send(
    connection: AsyncClient,
    samples: np.ndarray,
    *,
    rate: int = 16000,
    channels: int = 1,
    pause: float = 0,
) -> None:
    """From `transcribe` to the last chunk."""
    if rate != 16000:
        samples = soxr.resample(samples, 16000, rate)
    data = s16(np.repeat(samples[:, None], channels, axis=1))
    size = 2 * channels * SAMPLES
    await connection.write_event(Transcribe(language="en").event())
    await connection.write_event(AudioStart(rate, 2, channels).event())
    for first in range(0, len(data), size):
        chunk = AudioChunk(rate, 2, channels, data[first : first + size])
        await connection.write_event(chunk.event())
        await asyncio.sleep(pause)


async def until(connection: AsyncClient, kind: str) -> list[Event]:
    """All events up to one of a kind."""
    events: list[Event] = []
    while not events or events[-1].type != kind:
        event = await connection.read_event()
        assert event is not None, f"it was closed after {events}"
        events.append(event)
    return events


async def transcribe(connection: AsyncClient, samples: np.ndarray, **how: float) -> list[Event]:
    """One request, to `transcript-stop`."""
    reading = asyncio.create_task(until(connection, "transcript-stop"))
    await send(connection, samples, **how)  # type: ignore[arg-type]
    await connection.write_event(AudioStop().event())
    return await reading


def transcript(events: list[Event]) -> str:
    [text] = [Transcript.from_event(e).text for e in events if Transcript.is_type(e.type)]
    return text


def of_type(events: list[Event], kind: str) -> list[Event]:
    return [event for event in events if event.type == kind]


# -- transcripts --------------------------------------------------------------------------------


def test_a_transcript_comes_in_chunks_and_whole(daemon: DaemonProcess, said: Said) -> None:
    async def main() -> list[Event]:
        async with client(daemon) as connection:
            return await transcribe(connection, said.samples[: round(5.6 * 16000)], pause=0.032)

    events = asyncio.run(main())
    kinds = [event.type for event in events]
    assert kinds[0] == "transcript-start"
    assert kinds[-2:] == ["transcript", "transcript-stop"]
    text = transcript(events)
    assert said.text.startswith(text.partition(". ")[0])
    assert events[0].data["language"] == events[-2].data["language"] == "en"
    chunks = [event.data["text"] for event in of_type(events, "transcript-chunk")]
    assert len("".join(chunks).split()) == len(text.split())
    assert kinds.index("transcript-chunk") < kinds.index("voice-stopped"), "while it is spoken"
    started = [event.data["timestamp"] for event in of_type(events, "voice-started")]
    stopped = [event.data["timestamp"] for event in of_type(events, "voice-stopped")]
    assert len(started) == len(stopped) == 2
    assert all(0 < start < stop <= 5600 for start, stop in zip(started, stopped, strict=True))


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (44100, 2)])
def test_the_same_is_heard_at_any_rate(
    daemon: DaemonProcess, said: Said, rate: int, channels: int
) -> None:
    async def main() -> list[Event]:
        async with client(daemon) as connection:
            sentence = said.samples[: round(4.8 * 16000)]
            return await transcribe(connection, sentence, rate=rate, channels=channels)

    heard = transcript(asyncio.run(main())).lower()
    assert "best of times" in heard
    assert "worst of time" in heard


def test_one_connection_may_ask_again_and_again(daemon: DaemonProcess, said: Said) -> None:
    sentence = said.samples[: round(4.8 * 16000)]

    async def main() -> None:
        async with client(daemon) as connection:
            await connection.write_event(AudioStop().event())
            assert transcript(await until(connection, "transcript-stop")) == ""
            first = transcript(await transcribe(connection, sentence))
            assert "best of times" in first
            assert transcript(await transcribe(connection, silence(1))) == ""
            assert transcript(await transcribe(connection, sentence)) == first
            await send(connection, sentence)  # given up for another
            again = AudioChunk(16000, 2, 1, s16(silence(0.1)))
            await connection.write_event(AudioStart(16000, 2, 1).event())
            await connection.write_event(again.event())
            await connection.write_event(AudioStop().event())
            assert transcript(await until(connection, "transcript-stop")) == ""
            await connection.write_event(again.event())  # without audio-start
            await connection.write_event(AudioStop().event())
            assert transcript(await until(connection, "transcript-stop")) == ""

    asyncio.run(main())


def test_several_at_once_each_get_their_own(daemon: DaemonProcess, said: Said) -> None:
    async def one(samples: np.ndarray) -> str:
        async with client(daemon) as connection:
            return transcript(await transcribe(connection, samples))

    async def main() -> list[str]:
        return await asyncio.gather(one(said.samples), one(silence(2)), one(said.samples))

    assert asyncio.run(main()) == [said.text, "", said.text]


def test_chunks_are_never_taken_back() -> None:
    growth = Growth()
    pieces = [
        growth.partial(""),
        growth.partial("it was"),
        growth.partial("it was"),
        growth.partial("it was the best"),
        growth.final("It was the best, of times."),
        growth.partial("and"),
        growth.partial("and then some"),
        growth.final("And then."),
        growth.final(""),
        growth.final("The end."),
    ]
    assert pieces == [
        *("", "it was", "", " the best", " of times.", " and", " then some", "", "", " The end.")
    ]


# -- questions ----------------------------------------------------------------------------------


def test_describe_is_answered_with_what_there_is(daemon: DaemonProcess) -> None:
    async def main() -> Info:
        async with client(daemon) as connection:
            await connection.write_event(Describe().event())
            return Info.from_event((await until(connection, "info"))[0])

    info = asyncio.run(main())
    [program] = info.asr
    [model] = program.models
    assert program.supports_transcript_streaming
    assert program.requires_external_vad
    assert program.installed
    assert (model.name, model.languages) == (TINY, ["en"])
    assert not info.mic


def test_a_ping_is_answered_and_what_is_unknown_is_not(daemon: DaemonProcess) -> None:
    async def main() -> None:
        async with client(daemon) as connection:
            await connection.write_event(Event("run-satellite"))
            await connection.write_event(Event("detect", {"names": ["x"]}, b"payload"))
            await connection.write_event(Ping("a").event())
            await connection.write_event(Ping().event())
            first, second = [(await until(connection, "pong"))[-1] for _ in range(2)]
            assert Pong.from_event(first).text == "a"
            assert Pong.from_event(second).text is None

    asyncio.run(main())


def test_data_in_the_first_line_counts_too(daemon: DaemonProcess) -> None:
    data = b'{"text": "merged"}'
    line = b'{"type": "ping", "data": {"text": "lost"}, "data_length": %d}\n' % len(data)
    with raw(daemon) as sock:
        sock.sendall(b'{"type": "ping", "data": {"text": "inline"}}\n' + line + data)
        received = b""
        while b"merged" not in received:
            received += sock.recv(1000)
    assert b"inline" in received


# -- what goes wrong ----------------------------------------------------------------------------


def raw(daemon: DaemonProcess, address: str = "127.0.0.1") -> socket.socket:
    sock = socket.create_connection((address, urlsplit(daemon.guest("wyoming")).port or 0))
    sock.settimeout(30)
    return sock


def to_the_end(sock: socket.socket) -> bytes:
    received = b""
    try:
        while block := sock.recv(65536):
            received += block
    except ConnectionResetError:
        pass  # with bytes of ours unread
    return received


@pytest.mark.parametrize("line", [b"GET / HTTP/1.1", b"POST / HTTP/1.1", b"\x16\x03\x01", b"[]"])
def test_a_browser_is_dropped_at_its_first_byte(daemon: DaemonProcess, line: bytes) -> None:
    """Nothing that follows is looked at: a page can put any event into a body."""
    with raw(daemon) as sock:
        sock.sendall(line + b'\r\nHost: localhost\r\n\r\n{"type": "ping"}\n')
        assert to_the_end(sock) == b""


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"{nonsense}\n", "bad_message"),
        (b"{}\n", "bad_message"),
        (b'{"type": 1}\n', "bad_message"),
        (b'{"type": "ping", "data": []  , "data_length": 2}\n[]', "bad_message"),
        (b'{"type": "ping", "data_length": -1}\n', "bad_message"),
        (b'{"type": "ping", "data_length": "9"}\n', "bad_message"),
        (b'{"type": "ping", "data_length": 99999999999}\n', "bad_message"),
        (b'{"type": "audio-chunk", "payload_length": 99999999999}\n', "bad_message"),
        (b'{"type": "' + b"x" * 100_000 + b'"}\n', "bad_message"),
        (b'{"type": "ping", "data": {"text": "\\ud800"}}\n', "bad_message"),
        (b'{"type": "ping", "data": {"text": "\xff"}}\n', "bad_message"),
        (b'{"type": "a", "data": ' + b"[" * 30_000 + b"}\n", "bad_message"),
        (b'{"type": "audio-start"}\n', "bad_rate"),
        (b'{"type": "audio-chunk", "payload_length": 2}\nab', "bad_rate"),
        (b'{"type":"audio-start","data":{"rate":16000,"width":4,"channels":1}}\n', "bad_encoding"),
        (b'{"type":"audio-start","data":{"rate":100,"width":2,"channels":1}}\n', "bad_rate"),
        (b'{"type":"audio-start","data":{"rate":16000,"width":2,"channels":99}}\n', "bad_channels"),
        (
            b'{"type":"audio-start","data":{"rate":16000,"width":2,"channels":1}}\n'
            b'{"type":"audio-chunk","data":{"rate":8000,"width":2,"channels":1}}\n',
            "bad_encoding",
        ),
    ],
)
def test_a_client_s_mistake_is_told_and_ends_its_connection(
    daemon: DaemonProcess, message: bytes, code: str
) -> None:
    with raw(daemon) as sock:
        sock.sendall(message)
        received = to_the_end(sock)
    assert b'"type":"error"' in received
    assert f'"code":"{code}"'.encode() in received


def test_a_client_that_goes_on_talking_is_told_too(daemon: DaemonProcess, said: Said) -> None:
    """Of its mistake: closing at once would make the system forget what it was told."""

    async def main() -> list[Event]:
        async with client(daemon) as connection:
            reading = asyncio.create_task(until(connection, "error"))
            await connection.write_event(AudioStart(16000, 4, 1).event())
            for _ in range(100):
                chunk = AudioChunk(16000, 4, 1, bytes(4096))
                await connection.write_event(chunk.event())
            return await reading

    [error] = asyncio.run(main())
    assert error.data["code"] == "bad_encoding"


@pytest.mark.long
def test_an_event_that_does_not_end_is_not_waited_for(daemon: DaemonProcess) -> None:
    for begun in (b'{"type"', b'{"type": "ping", "data_length": 9}\n{}'):
        with raw(daemon) as sock:
            sock.sendall(begun)
            assert b"did not come" in to_the_end(sock)


@pytest.mark.long
def test_a_client_that_does_not_read_is_let_go_and_others_are_not(
    daemon: DaemonProcess, said: Said
) -> None:
    text = json.dumps({"text": "x" * 30_000}).encode()
    ping = b'{"type": "ping", "data_length": %d}\n' % len(text) + text
    with raw(daemon) as lazy:
        lazy.settimeout(60)
        with pytest.raises(OSError):  # reset, or a broken pipe
            while True:
                lazy.sendall(ping)

    async def main() -> str:
        async with client(daemon) as connection:
            return transcript(await transcribe(connection, said.samples[: 5 * 16000]))

    assert "best of times" in asyncio.run(main())
    assert "a client of wyoming is let go: it reads too slowly" in daemon.log.read_text()


@pytest.mark.long
def test_a_client_without_a_first_word_is_let_go(daemon: DaemonProcess) -> None:
    """Browsers open connections that they may need, and each would hold a place."""
    with raw(daemon) as sock:
        assert to_the_end(sock) == b""
    daemon.wait(lambda: b"edged_clients 0" in ask(daemon, "/metrics").body)


@pytest.mark.long
def test_one_who_gets_the_microphone_and_does_not_read_it_is_let_go(
    shared_daemon: Shared, recording: Path
) -> None:
    daemon = shared_daemon("--source", f"file:{recording}", **GUESTS, wyoming_microphone=1)
    with raw(daemon) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        daemon.wait(lambda: b"edged_clients 1" in ask(daemon, "/metrics").body)
        daemon.wait(lambda: b"edged_clients 0" in ask(daemon, "/metrics").body, 90)
    assert "Traceback" not in daemon.log.read_text()


def test_who_vanishes_while_speaking_frees_its_place(daemon: DaemonProcess, said: Said) -> None:
    async def main() -> None:
        connection = client(daemon)
        await connection.connect()
        await send(connection, said.samples[: 2 * 16000])
        await until(connection, "voice-started")
        await connection.disconnect()

    asyncio.run(main())
    daemon.wait(lambda: b"edged_streams 0" in ask(daemon, "/metrics").body)


def pester(daemon: DaemonProcess, count: int, seed: int) -> None:
    """Send so many events nobody would, over as many connections as it takes."""
    random_ = random.Random(seed)
    seeds = [
        b'{"type": "describe", "version": "1.9.0"}\n',
        b'{"type": "transcribe", "data_length": 18}\n{"language": "en"}',
        b'{"type": "audio-start", "data_length": 42}\n{"rate": 16000, "width": 2, "channels": 1}',
        b'{"type": "audio-chunk", "data_length": 42, "payload_length": 64}\n'
        b'{"rate": 16000, "width": 2, "channels": 1}' + bytes(range(64)),
        b'{"type": "audio-stop", "data_length": 19}\n{"timestamp": null}',
        b'{"type": "ping", "data": {"text": "x"}}\n',
    ]
    left = count
    while left:
        with raw(daemon) as sock:
            sock.settimeout(0.01)
            try:
                while left:
                    left -= 1
                    event = random_.choice(seeds)
                    mutate = random_.random() < 0.3
                    sock.sendall(mutated(random_, event) if mutate else event)
                    if random_.random() < 0.2 and not sock.recv(65536):
                        break
            except TimeoutError:  # it waits for the rest of an event, say
                continue
            except OSError:
                continue


@pytest.mark.parametrize("count", [1000, pytest.param(100_000, marks=pytest.mark.long)])
def test_garbage_ends_at_most_its_own_connection(
    daemon: DaemonProcess, said: Said, count: int
) -> None:
    pester(daemon, count // 10, seed=12)
    with leaves_nothing(daemon):
        pester(daemon, count, seed=11)

    async def main() -> str:
        async with client(daemon) as connection:
            return transcript(await transcribe(connection, said.samples))

    assert asyncio.run(main()) == said.text


# -- the network and the microphone -------------------------------------------------------------


@pytest.fixture(scope="module")
def open_daemon(
    shared_daemon: Shared, recording: Path, tmp_path_factory: pytest.TempPathFactory
) -> DaemonProcess:
    """Hears a recording of 44 s, and is open to the network."""
    token = tmp_path_factory.mktemp("token") / "token"
    token.write_text("secret")
    token.chmod(0o600)
    return shared_daemon(
        *("--source", f"file:{recording}", "--host", "0.0.0.0"),
        **GUESTS,
        server_token_file=token,
        wyoming_open_to_network=1,
        wyoming_zeroconf=1,
        wyoming_microphone=1,
    )


def test_a_client_that_says_nothing_hears_the_microphone(
    open_daemon: DaemonProcess, recording: Path
) -> None:
    """As satellites take a microphone's service; what it hears is what was said."""

    async def listen() -> tuple[AudioStart, np.ndarray]:
        async with client(open_daemon) as connection:
            start = AudioStart.from_event((await until(connection, "audio-start"))[0])
            pcm = b""
            while len(pcm) < 2 * 16000:
                event = await connection.read_event()
                assert event is not None
                chunk = AudioChunk.from_event(event)
                assert (chunk.rate, chunk.width, chunk.channels) == (16000, 2, 1)
                pcm += chunk.audio
            await connection.write_event(Describe().event())
            info = Info.from_event((await until(connection, "info"))[-1])
            assert info.mic[0].mic_format.rate == 16000
            return start, np.frombuffer(pcm, "<i2") / 32767

    start, heard = asyncio.run(listen())
    assert (start.rate, start.width, start.channels) == (16000, 2, 1)
    assert likeness(load(recording), heard) > 0.99
    assert open_daemon.post("/v1/microphone", {"muted": True})[0] == 200

    async def listen_in_vain() -> None:
        async with client(open_daemon) as connection:
            await until(connection, "audio-start")
            async with asyncio.timeout(0.5):
                await connection.read_event()

    time.sleep(0.2)  # what had been heard before is given out
    with pytest.raises(TimeoutError):
        asyncio.run(listen_in_vain())


def likeness(samples: np.ndarray, heard: np.ndarray) -> float:
    """How well what was heard fits where it fits best: 1 is the very same."""
    size = 1 << (len(samples) + len(heard)).bit_length()
    products = np.fft.irfft(np.fft.rfft(samples, size) * np.conj(np.fft.rfft(heard, size)), size)
    at = int(np.argmax(products[: len(samples) - len(heard)]))
    piece = samples[at : at + len(heard)]
    return float(piece @ heard / np.linalg.norm(piece) / np.linalg.norm(heard))


def test_it_is_found_on_the_network(open_daemon: DaemonProcess) -> None:
    address = own_address()
    with raw(open_daemon, address) as sock:
        sock.sendall(b'{"type": "ping"}\n')
        assert b"pong" in sock.recv(1000)
    zeroconf = Zeroconf()
    try:
        name = f"edged on {socket.gethostname()}"[:63].replace(".", " ")
        service = "_wyoming._tcp.local."
        found = zeroconf.get_service_info(service, f"{name}.{service}", timeout=10_000)
    finally:
        zeroconf.close()
    assert found is not None
    assert found.port == urlsplit(open_daemon.guest("wyoming")).port
    assert address in found.parsed_addresses()


def test_without_its_package_the_announcement_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(announcement, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'edged\[wyoming\]'"):
        announcement.require()


@pytest.mark.parametrize("protocol", ["vosk", "sherpa"])
def test_there_other_protocols_need_the_token(open_daemon: DaemonProcess, protocol: str) -> None:
    url = f"ws://{own_address()}:{urlsplit(open_daemon.guest(protocol)).port}"
    with pytest.raises(InvalidStatus) as refused, connect(url):
        pass
    assert refused.value.response.status_code == 401
    with connect(f"{url}/?access_token=secret"):
        pass
