"""What holds at the doors of all other projects' protocols, and when the daemon stops."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from wyoming.client import AsyncClient

from edged.api.server import GuestServer, HttpServer
from edged.config import ServerSection
from edged.errors import PortInUseError
from tests.api import test_sherpa, test_vosk, test_wyoming
from tests.api.garbage import leaves_nothing, mutated
from tests.api.http import ask
from tests.client import s16
from tests.conftest import GUESTS, TINY, Said
from tests.daemon import DaemonProcess

Start = Callable[..., DaemonProcess]


@pytest.mark.parametrize("protocol", ["vosk", "sherpa"])
def test_pages_of_others_are_refused(daemon: DaemonProcess, protocol: str) -> None:
    url = daemon.guest(protocol)
    port = int(url.rsplit(":", 1)[1])
    for origin in ("https://evil.example", "null", f"http://127.0.0.1:{daemon.port}"):
        with pytest.raises(InvalidStatus) as refused, connect(url, origin=origin):  # type: ignore[arg-type]
            pass
        assert refused.value.response.status_code == 403
    with connect(url, origin=f"http://127.0.0.1:{port}"):  # type: ignore[arg-type]
        pass


@pytest.mark.parametrize("protocol", ["vosk", "sherpa"])
def test_a_name_that_is_rebound_to_loopback_does_not_get_in(
    daemon: DaemonProcess, protocol: str
) -> None:
    port = int(daemon.guest(protocol).rsplit(":", 1)[1])
    with (
        socket.create_connection(("127.0.0.1", port)) as sock,
        pytest.raises(InvalidStatus) as refused,
        connect(f"ws://evil.example:{port}", sock=sock),
    ):
        pass
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize("protocol", ["vosk", "sherpa"])
def test_plain_http_is_told_that_it_is_wrong_there(daemon: DaemonProcess, protocol: str) -> None:
    port = int(daemon.guest(protocol).rsplit(":", 1)[1])
    answer = ask(daemon, "/", port=port)
    assert (answer.status, answer.json["code"]) == (426, "websocket_only")


def test_what_is_not_switched_on_is_not_imported() -> None:
    """And with that costs nothing."""
    code = (
        "import sys, edged.run, edged.api.listeners\n"
        "guests = ('guest', 'vosk', 'sherpa', 'wyoming')\n"
        "print([name for name in guests if f'edged.api.{name}' in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_port_that_is_taken_is_told_with_its_setting(free_port: int) -> None:
    with socket.create_server(("127.0.0.1", free_port)):
        with pytest.raises(PortInUseError, match=r"vosk\.port"):
            GuestServer(ServerSection(), None, free_port, "vosk")  # type: ignore[arg-type]
        with pytest.raises(PortInUseError, match="--port"):
            HttpServer(ServerSection(port=free_port), None)  # type: ignore[arg-type]


# -- places, and the end ------------------------------------------------------------------------


def test_a_daemon_that_stops_sends_what_was_said_first(
    start_daemon: Start, said: Said, tmp_path: Path
) -> None:
    """To clients of every protocol; while they hold all places, there is none for another."""
    path = tmp_path / "wyoming.sock"
    daemon = start_daemon(
        *("--no-microphone", "--model", TINY),
        **GUESTS,
        sherpa_sample_rate=32000,
        wyoming_unix_socket=path,
        server_max_streams=3,
    )
    begun = said.samples[: 2 * 16000]  # in the flow of words

    async def main() -> tuple[str, str, str]:
        uri = f"unix://{path}"
        async with (
            connect_async(daemon.guest("vosk")) as vosk,
            connect_async(daemon.guest("sherpa")) as sherpa,
            AsyncClient.from_uri(uri, read_timeout=60) as wyoming,
            AsyncClient.from_uri(uri, read_timeout=60) as idle,
        ):
            await test_wyoming.send(wyoming, begun)
            events = await test_wyoming.until(wyoming, "voice-started")
            await vosk.send(test_vosk.CONFIG)
            await vosk.send(s16(begun))
            await vosk.recv()
            await sherpa.send(begun.repeat(2).astype("<f4").tobytes())
            await sherpa.recv()
            await is_full(daemon)
            daemon.process.send_signal(signal.SIGTERM)
            events += await test_wyoming.until(wyoming, "transcript-stop")
            assert await wyoming.read_event() is None
            assert await idle.read_event() is None
            replies = [json.loads(message) async for message in vosk]
            *results, goodbye = [message async for message in sherpa]
            assert goodbye == "Done!"
            assert vosk.close_code == sherpa.close_code == 1001
            return (
                test_vosk.text(replies),
                test_sherpa.text([json.loads(result) for result in results]),
                test_wyoming.transcript(events),
            )

    assert path.stat().st_mode & 0o777 == 0o660
    for text in asyncio.run(main()):
        assert "it was the best" in text.lower()
    assert daemon.process.wait(30) == 0
    assert "Traceback" not in daemon.log.read_text()
    assert not path.exists()


async def is_full(daemon: DaemonProcess) -> None:
    for protocol in ("vosk", "sherpa"):
        with pytest.raises(InvalidStatus) as refused:
            await connect_async(daemon.guest(protocol))
        assert refused.value.response.status_code == 503
        assert b"too_many_clients" in refused.value.response.body
    async with test_wyoming.client(daemon) as connection:
        await connection.write_event(test_wyoming.AudioStart(16000, 2, 1).event())
        [error] = await test_wyoming.until(connection, "error")
        assert error.data["code"] == "too_many_clients"
        assert await connection.read_event() is None


# -- garbage ------------------------------------------------------------------------------------


SEEDS = [
    test_vosk.CONFIG.encode(),
    test_vosk.EOF.encode(),
    test_vosk.RESET.encode(),
    b'{"config" : {"phrase_list" : ["zero one"], "words" : 0, "max_alternatives" : 2}}',
    b"Done",
    struct.pack("<8f", *(0.1 * n for n in range(8))),
    struct.pack("<4f", float("nan"), float("inf"), -1e38, 1e-45),
]


def pester(url: str, count: int, seed: int) -> None:
    """Send so many messages nobody would, over as many connections as it takes."""
    random_ = random.Random(seed)
    left = count
    while left:
        try:
            with connect(url, compression=None) as websocket:
                for _ in range(left):
                    left -= 1
                    message = mutated(random_, random_.choice(SEEDS))
                    as_text = random_.random() < 0.5
                    websocket.send(message.decode("latin-1") if as_text else message)
                    if random_.random() < 0.2:
                        with contextlib.suppress(TimeoutError):
                            websocket.recv(timeout=0)
        except InvalidStatus as refused:  # places are free once all is recognised
            assert refused.response.status_code == 503
            time.sleep(0.05)
        except ConnectionClosed:
            continue


@pytest.mark.parametrize("protocol", ["vosk", "sherpa"])
@pytest.mark.parametrize("count", [1000, pytest.param(100_000, marks=pytest.mark.long)])
def test_garbage_ends_at_most_its_own_connection(
    daemon: DaemonProcess, said: Said, protocol: str, count: int
) -> None:
    pester(daemon.guest(protocol), count // 10, seed=8)
    with leaves_nothing(daemon):
        pester(daemon.guest(protocol), count, seed=7)
    assert test_vosk.text(test_vosk.converse(daemon.guest("vosk"), said.samples)) == said.text
