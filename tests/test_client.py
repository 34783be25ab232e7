"""The Python client, both ways, against real daemons that stop and crash under it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged.client import AsyncClient, Client, Closed, Event, Final, Hello, Partial
from edged.client.following import Following
from edged.client.requests import Address
from edged.errors import EdgedError
from edged.messages import EngineState
from edged.transcripts import UNCERTAIN
from tests.api.test_access import own_address
from tests.client import s16, silence
from tests.conftest import TINY
from tests.daemon import DaemonProcess

RATE = 16000
Start = Callable[..., DaemonProcess]


@pytest.fixture
def sentence(speech: np.ndarray) -> np.ndarray:
    """One utterance."""
    return np.concatenate([speech[: 4 * RATE], silence(1.5)])


def blocks(samples: np.ndarray) -> Iterator[bytes]:
    data = s16(samples)
    for first in range(0, len(data), RATE):
        yield data[first : first + RATE]


def said(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Final)]


def follow(client: Client | AsyncClient, events: list[Event], **options: Any) -> threading.Thread:
    """Collect events in a thread until the source ends."""

    async def collect() -> None:
        assert isinstance(client, AsyncClient)
        async for event in client.listen(**options):
            events.append(event)

    def run() -> None:
        if isinstance(client, AsyncClient):
            asyncio.run(collect())
        else:
            for event in client.listen(**options):
                events.append(event)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


# -- audio of one's own ---------------------------------------------------------------------------


def test_audio_is_sent_and_its_text_comes_back(daemon: DaemonProcess, sentence: np.ndarray) -> None:
    events = list(Client(daemon.url).stream(blocks(sentence), words=True))
    assert isinstance(events[0], Hello)
    assert isinstance(events[-1], Closed)
    [final] = [event for event in events if isinstance(event, Final)]
    assert "best of times" in final.text
    assert final.words
    assert any(isinstance(event, Partial) for event in events)
    quiet = Client(f"unix:{daemon.unix_socket}").stream(blocks(sentence), partials=False)
    assert not [event for event in quiet if isinstance(event, Partial)]


def test_so_does_asyncio(daemon: DaemonProcess, sentence: np.ndarray, recording: Path) -> None:
    async def microphone() -> AsyncIterator[bytes]:
        for block in blocks(sentence):
            yield block

    async def main() -> None:
        client = AsyncClient(daemon.url)
        one = [event async for event in client.stream(microphone())]
        other = [event async for event in client.stream(blocks(sentence))]
        assert said(one) == said(other)
        assert "best of times" in said(one)[0]
        assert (await client.health())["ready"]

    asyncio.run(main())


def test_a_recording_is_recognised(daemon: DaemonProcess, tmp_path: Path, sentence: Any) -> None:
    import soundfile

    path = tmp_path / 'a \N{SNOWMAN} "name".wav'
    soundfile.write(path, sentence, RATE)
    text = Client(f"unix:{daemon.unix_socket}").transcribe(path, words=True)
    assert "best of times" in text.text
    assert text.duration == pytest.approx(5.5, abs=0.1)
    assert text.words[0].word == "It"
    assert text.segments


def test_what_the_audio_raises_is_raised_where_it_is_read(daemon: DaemonProcess) -> None:
    def broken() -> Iterator[bytes]:
        yield bytes(3200)
        raise KeyError("the microphone")

    async def main() -> None:
        async for _ in AsyncClient(daemon.url).stream(broken()):
            pass

    with pytest.raises(KeyError, match="microphone"):
        list(Client(daemon.url).stream(broken()))
    with pytest.raises(KeyError, match="microphone"):
        asyncio.run(main())


def test_refusals_keep_their_code(daemon: DaemonProcess, free_port: int, tmp_path: Path) -> None:
    client = Client(daemon.url)
    with pytest.raises(EdgedError) as error:
        list(client.stream([], encoding="mp3"))
    assert error.value.code == "bad_encoding"
    (tmp_path / "noise.wav").write_bytes(b"no sound")
    with pytest.raises(EdgedError) as error:
        client.transcribe(tmp_path / "noise.wav")
    assert error.value.code == "unknown_audio"
    with pytest.raises(EdgedError, match="cannot be read"):
        client.transcribe(tmp_path / "nowhere.wav")
    nobody = Client(f"http://127.0.0.1:{free_port}")
    for call in (
        nobody.health,
        nobody.mute,
        lambda: list(nobody.stream([])),
        lambda: list(nobody.listen(patience=0.1)),
        lambda: nobody.transcribe(tmp_path / "noise.wav"),
    ):
        with pytest.raises(EdgedError, match="Start one: edged run") as error:
            call()  # type: ignore[operator]
        assert error.value.code == "no_daemon"
    for url in ("localhost:7333", "ftp://host", "http://", "http://h:99999"):
        with pytest.raises(EdgedError, match="use http://HOST:PORT"):
            Client(url)


def test_a_token_is_shown(start_daemon: Start, tmp_path: Path) -> None:
    """To a daemon that is reached from outside: on loopback none is needed."""
    address = own_address()
    secret = tmp_path / "token"
    secret.write_text("open-sesame")
    secret.chmod(0o600)
    daemon = start_daemon(
        *("--no-microphone", "--model", TINY, "--host", "0.0.0.0"),
        wait=False,
        server_token_file=secret,
    )
    url = f"http://{address}:{daemon.wait(lambda: daemon.port)}"
    good = Client(url, "open-sesame")
    daemon.wait(lambda: good.health()["live"])
    for client in (Client(url), Client(url, "wrong")):
        with pytest.raises(EdgedError, match="401"):
            list(client.listen(patience=5))
        with pytest.raises(EdgedError, match="401"):
            client.mute()
    good.mute()
    assert good.health()["microphone"]["muted"]
    assert isinstance(next(good.listen()), Hello)


# -- the microphone -------------------------------------------------------------------------------


class Fed:
    """A daemon on a port that stays, with a pipe for a microphone, that is started again."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self._port = port
        self._fifo = folder / "microphone"
        os.mkfifo(self._fifo)
        self.start()

    def start(self) -> None:
        flags = ("--model", TINY, "--source", f"program:cat {self._fifo}")
        self.daemon = DaemonProcess(
            self._folder / "daemon", (*flags, "--port", str(self._port)), {}
        )
        self.pipe = self._fifo.open("wb", buffering=0)
        self.daemon.wait(
            lambda: self.daemon.get("/v1/health")[1]["microphone"]["state"] == "listening"
        )

    def end(self, number: int) -> None:
        self.daemon.process.send_signal(number)
        self.daemon.process.wait(30)
        self.pipe.close()

    def stored(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.daemon.get("/v1/transcripts?limit=1000")[1][
            "transcripts"
        ]
        return found

    def say(self, samples: np.ndarray) -> None:
        """One utterance, and wait until it is known."""
        before = len(self.stored())
        self.pipe.write(s16(samples))
        self.daemon.wait(lambda: len(self.stored()) > before)


@pytest.fixture
def fed(tmp_path: Path, free_port: int) -> Iterator[Fed]:
    made = Fed(tmp_path, free_port)
    yield made
    made.daemon.stop()


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_final_is_lost_or_doubled_when_the_daemon_is_started_anew(
    fed: Fed, speech: np.ndarray, sentence: np.ndarray, number: int
) -> None:
    """Two clients follow; one final comes before the end, one in its midst, one while only one
    of them could be back, one after."""
    blocking: list[Event] = []
    other: list[Event] = []
    url = fed.daemon.url
    threads = [follow(Client(url), blocking), follow(AsyncClient(url), other)]
    fed.daemon.wait(lambda: blocking and other)
    fed.say(sentence)
    fed.daemon.wait(lambda: said(blocking) and said(other))
    fed.pipe.write(s16(speech[: 6 * RATE]))  # it is speaking still
    time.sleep(1.0)
    fed.end(number)
    fed.start()
    fed.say(np.concatenate([speech[6 * RATE : 9 * RATE], silence(1.5)]))
    fed.say(sentence)
    fed.pipe.close()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    stored = [(entry["id"], entry["text"]) for entry in fed.stored()]
    for events in (blocking, other):
        assert [(e.id, e.text) for e in events if isinstance(e, Final) and e.text] == stored
        assert len([event for event in events if isinstance(event, Hello)]) == 2
    assert len(stored) >= (4 if number == signal.SIGTERM else 3)


@pytest.mark.long
def test_finals_that_came_while_nobody_followed_come_first(fed: Fed, sentence: np.ndarray) -> None:
    fed.say(sentence)
    fed.say(sentence)
    first, second = fed.stored()
    late: list[Event] = []
    thread = follow(Client(fed.daemon.url), late, after=first["id"], partials=False)
    fed.daemon.wait(lambda: said(late))
    fed.say(sentence)
    fed.pipe.close()
    thread.join(30)
    assert [event.id for event in late if isinstance(event, Final)] == [
        second["id"],
        fed.stored()[-1]["id"],
    ]
    assert not [event for event in late if isinstance(event, Partial)]


def hello(last: int | None) -> Hello:
    return Hello("microphone", None, EngineState(None, None), RATE, False, last=last)


def final(number: int) -> Final:
    from edged.messages import Latency

    return Final(1, "x", 0.0, 1.0, 1.0, EngineState(None, None), Latency(0, 0, 0), 0.0, id=number)


def test_a_follower_knows_what_it_missed() -> None:
    seen = Following(Address("http://127.0.0.1:1"), 1.0, None)
    assert seen.greeted(hello(7)) is None  # what was before it came is not its business
    assert seen.is_new(final(8))
    assert not seen.is_new(final(8))
    seen.broken(None)
    assert seen.greeted(hello(8)) is None
    assert seen.greeted(hello(11)) == 8
    seen.caught_up(10)
    assert [seen.is_new(final(n)) for n in (9, 10, 11)] == [False, False, True]
    assert seen.greeted(hello(11 + UNCERTAIN)) == 11


def test_one_that_has_seen_no_final_yet_misses_none_either() -> None:
    seen = Following(Address("http://127.0.0.1:1"), 1.0, None)
    assert seen.greeted(hello(7)) is None
    assert seen.greeted(hello(9)) == 7


def test_a_follower_is_patient_from_the_break_on() -> None:
    seen = Following(Address("http://127.0.0.1:1"), 0.05, None)
    seen.greeted(hello(None))
    time.sleep(0.1)
    assert seen.broken(OSError("gone")) < 1
    time.sleep(0.1)
    with pytest.raises(EdgedError, match="No daemon answers"):
        seen.broken(OSError("gone"))


def test_something_else_listens_there(free_port: int) -> None:
    """A server that is no edged, and one that says nothing: said, and tried again."""
    with socket.create_server(("127.0.0.1", free_port)) as server:

        def answer() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(1000)
                    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        threading.Thread(target=answer, daemon=True).start()
        client = Client(f"http://127.0.0.1:{free_port}")
        with pytest.raises(EdgedError) as error:
            list(client.listen(patience=0.5))
        assert error.value.code == "no_daemon"
        with pytest.raises(EdgedError) as error:
            client.health()
        assert error.value.code == "no_daemon"


def test_the_client_needs_no_engine() -> None:
    """It can run on a small box beside the daemon's."""
    code = (
        "import sys, edged.client; "
        "print([m for m in ('numpy', 'fastapi', 'onnxruntime', 'soundfile') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
