"""MQTT: a real daemon, a real Mosquitto; the broker comes and goes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest

from edged.errors import EdgedError
from edged_mqtt import hermes
from edged_mqtt.settings import Settings, read
from tests.api.http import ask
from tests.client import recognize, s16, silence
from tests.conftest import ROOT, TINY
from tests.daemon import DaemonProcess
from tests.plugins.broker import Broker, Listener, wait_for

RATE = 16000
Start = Callable[..., DaemonProcess]
StartBroker = Callable[..., Broker]
HELLO: dict[str, Any] = {
    "type": "hello",
    "stream": "microphone",
    "muted": False,
    "engine": {"requested": None, "effective": {"model": "m"}, "reason": None},
}
FINAL: dict[str, Any] = {
    "type": "final",
    "utterance": 1,
    "text": "to be, to go",
    "start": 2.0,
    "end": 3.5,
    "confidence": 0.75,
    "words": [
        {"word": "to", "start": 2.0, "end": 2.2, "confidence": 0.9},
        {"word": "be,", "start": 2.2, "end": 2.5, "confidence": 0.8},
        {"word": "to", "start": 2.5, "end": 3.0, "confidence": 0.7},
        {"word": "go", "start": 3.0, "end": 3.5, "confidence": 0.6},
    ],
}


@pytest.fixture
def new_broker(tmp_path: Path, free_port: int) -> Iterator[StartBroker]:
    """Make a broker, which is yet to be started; all are stopped."""
    if reason := Broker.missing():
        pytest.skip(reason)
    brokers: list[Broker] = []

    def new(*lines: str) -> Broker:
        brokers.append(Broker(tmp_path / f"broker{len(brokers)}", free_port, *lines))
        return brokers[-1]

    yield new
    for broker in brokers:
        broker.stop()


@pytest.fixture
def broker(new_broker: StartBroker) -> Broker:
    started = new_broker()
    started.start()
    return started


@pytest.fixture
def listen() -> Iterator[Callable[..., Listener]]:
    listeners: list[Listener] = []

    def start(broker: Broker, topic: str = "#") -> Listener:
        listeners.append(Listener(broker, topic))
        return listeners[-1]

    yield start
    for listener in listeners:
        listener.stop()


@pytest.fixture
def open_sink() -> Iterator[Callable[..., Any]]:
    """The sink alone, as edged opens it: within one process, the broker is real."""
    from edged_mqtt.sink import MqttSink

    sinks: list[MqttSink] = []

    def new(broker: Broker, **settings: Any) -> MqttSink:
        written = {"host": "localhost", "port": broker.port, "name": "box", **settings}
        sinks.append(MqttSink(written))
        return sinks[-1]

    yield new
    for sink in sinks:
        sink.close()


class Spoken:
    """A daemon whose microphone is a pipe, and which publishes to a broker as `robot`."""

    def __init__(self, start: Start, folder: Path, broker: Broker, **settings: Any) -> None:
        fifo = folder / "microphone"
        os.mkfifo(fifo)
        sink = {"host": "127.0.0.1", "port": broker.port, "name": "robot", **settings}
        self.daemon = start(
            *("--model", TINY, "--source", f"program:cat {fifo}"), sinks=json.dumps({"mqtt": sink})
        )
        self._pipe: BinaryIO = fifo.open("wb", buffering=0)
        self.daemon.wait(lambda: self.state == "listening")

    @property
    def state(self) -> str:
        return str(self.daemon.get("/v1/health")[1]["microphone"]["state"])

    def say(self, samples: np.ndarray) -> None:
        self._pipe.write(s16(samples))

    def close(self) -> None:
        self._pipe.close()


@pytest.fixture
def speak_to(start_daemon: Start, tmp_path: Path) -> Iterator[Callable[..., Spoken]]:
    started: list[Spoken] = []

    def start(broker: Broker, **settings: Any) -> Spoken:
        started.append(Spoken(start_daemon, tmp_path, broker, **settings))
        return started[-1]

    yield start
    for spoken in started:
        spoken.close()


@pytest.fixture
def sentence(speech: np.ndarray) -> np.ndarray:
    """One utterance."""
    return np.concatenate([speech[: 4 * RATE], silence(1.5)])


def test_what_is_said_and_what_is_so_becomes_topics(
    speak_to: Callable[..., Spoken],
    broker: Broker,
    listen: Callable[..., Listener],
    sentence: np.ndarray,
) -> None:
    listener = listen(broker)
    spoken = speak_to(broker, allow_commands=True, partials=True)
    listener.wait("edged/robot/state", "online")
    spoken.say(sentence)
    final = listener.json("edged/robot/final")
    captured = listener.json("hermes/asr/textCaptured")
    assert "best of times" in final["text"]
    assert final["stream"] == "microphone"
    assert captured["text"] == final["text"]
    assert [token["value"] for token in captured["asrTokens"][0]] == final["text"].split()
    assert listener.json("edged/robot/partial")["type"] == "partial"
    assert listener.json("edged/robot/engine")["effective"]["model"] == TINY
    listener.wait("edged/robot/speaking", "OFF")
    assert listener.payloads("edged/robot/speaking") == ["OFF", "ON", "OFF"]

    listener.publish("edged/robot/mute/set", "ON")
    listener.wait("edged/robot/mute", "ON")
    assert spoken.state == "muted"
    before = list(listener.messages)
    spoken.say(sentence)
    recognize(spoken.daemon.url, sentence)  # a client's is nobody's business, muted or not
    listener.publish("edged/robot/mute/set", "OFF")
    listener.wait("edged/robot/mute", "OFF")
    told = [name for name, *_ in listener.messages[len(before) :]]
    assert set(told) == {"edged/robot/mute", "edged/robot/mute/set"}

    spoken.daemon.process.kill()
    listener.wait("edged/robot/state", "offline")
    spoken.daemon.process.wait()


@pytest.mark.long
def test_a_broker_that_is_away_harms_nobody_and_misses_no_final(
    speak_to: Callable[..., Spoken],
    new_broker: StartBroker,
    listen: Callable[..., Listener],
    sentence: np.ndarray,
) -> None:
    broker = new_broker()
    spoken = speak_to(broker)
    stored = lambda: spoken.daemon.get("/v1/transcripts")[1]["transcripts"]  # noqa: E731
    spoken.say(sentence)
    spoken.daemon.wait(lambda: len(stored()) == 1)
    assert (
        "it cannot be reached ([Errno 111] Connection refused); it is tried again"
        in spoken.daemon.log.read_text()
    )
    broker.start()
    broker.wait_for("'edged/robot/final'", 1)
    assert broker.received("hermes/asr/textCaptured") == 0, "an order that comes late"

    broker.stop()
    spoken.say(sentence)
    spoken.daemon.wait(lambda: len(stored()) == 2)
    broker.start()
    listener = listen(broker)
    broker.wait_for("'edged/robot/final'", 2)
    listener.wait("edged/robot/state", "online")
    spoken.daemon.process.send_signal(signal.SIGTERM)
    listener.wait("edged/robot/state", "offline")
    assert spoken.daemon.process.wait(30) == 0


def test_nothing_is_opened_without_a_section(daemon: DaemonProcess) -> None:
    assert "mqtt" not in daemon.log.read_text()
    assert 'sink="mqtt"' not in ask(daemon, "/metrics").text


def test_home_assistant_finds_a_switch_or_is_told_that_there_is_none(
    broker: Broker, open_sink: Callable[..., Any], listen: Callable[..., Listener]
) -> None:
    open_sink(broker, allow_commands=True).take("microphone", HELLO)
    first = listen(broker, "homeassistant/#")
    first.wait("homeassistant/switch/edged_box/mute/config")
    found = {
        name.split("/")[1]: json.loads(payload) for name, payload, _ in first.messages if payload
    }
    assert set(found) == {"sensor", "binary_sensor", "switch"}
    assert found["switch"]["command_topic"] == "edged/box/mute/set"
    assert found["sensor"]["value_template"] == "{{ value_json.text[:255] }}"
    assert {entity["availability_topic"] for entity in found.values()} == {"edged/box/state"}
    assert len({entity["unique_id"] for entity in found.values()}) == 3
    open_sink(broker).take("microphone", HELLO)
    first.wait("homeassistant/switch/edged_box/mute/config", "")
    first.wait("homeassistant/binary_sensor/edged_box/mute/config")
    later = listen(broker, "homeassistant/#")
    later.wait("homeassistant/sensor/edged_box/text/config")
    assert not later.payloads("homeassistant/switch/edged_box/mute/config")
    assert all(retained for *_, retained in later.messages)


def test_orders_are_taken_from_those_who_give_them_now(
    broker: Broker, open_sink: Callable[..., Any], listen: Callable[..., Listener]
) -> None:
    """A retained one would mute anew with each connection; nonsense is logged."""
    given: list[bool] = []
    listener = listen(broker)
    listener.publish("edged/box/mute/set", "ON", retain=True)
    open_sink(broker, allow_commands=True).may_mute(given.append)
    listener.wait("edged/box/state", "online")
    for order in ("perhaps", "\N{SNOWMAN}" * 5000, "", "ON", "false"):
        listener.publish("edged/box/mute/set", order)
    wait_for(lambda: len(given) == 2, 10, lambda: str(given))
    assert given == [True, False]


def test_without_leave_nobody_is_listened_to(
    broker: Broker, open_sink: Callable[..., Any], listen: Callable[..., Listener]
) -> None:
    open_sink(broker)
    listen(broker).wait("edged/box/state", "online")
    assert "mute/set" not in broker.log.read_text()


def test_a_muted_microphone_s_last_words_stay_here(
    broker: Broker, open_sink: Callable[..., Any], listen: Callable[..., Listener]
) -> None:
    listener = listen(broker)
    sink = open_sink(broker, clients=True)
    sink.take("microphone", HELLO)
    listener.wait("edged/box/state", "online")
    sink.take("microphone", {"type": "speech_started", "utterance": 1, "start": 1.0})
    sink.take("microphone", HELLO | {"muted": True})
    sink.take("microphone", FINAL)
    sink.take("microphone", {"type": "gap", "start": 1.0, "end": 2.0, "reason": "muted"})
    sink.take("stream-1", FINAL)
    assert listener.json("edged/box/final")["stream"] == "stream-1"
    assert len(listener.payloads("edged/box/final")) == 1
    assert listener.payloads("edged/box/speaking") == ["OFF", "ON", "OFF"]
    assert listener.payloads("edged/box/mute") == ["OFF", "ON"]


def test_what_keeps_speech_from_being_heard_is_an_error_of_hermes(
    broker: Broker, open_sink: Callable[..., Any], listen: Callable[..., Listener]
) -> None:
    listener = listen(broker)
    sink = open_sink(broker, site="kitchen")
    listener.wait("edged/box/state", "online")
    gone = {"requested": None, "effective": None, "reason": "it was ended by SIGSEGV"}
    for _ in range(2):  # said once
        sink.take("microphone", HELLO | {"engine": gone})
    sink.take("microphone", {"type": "gap", "start": 1.0, "end": 3.5, "reason": "device_lost"})
    sink.take("microphone", FINAL)
    listener.wait("hermes/asr/textCaptured")
    errors = [json.loads(payload) for payload in listener.payloads("hermes/error/asr")]
    assert [(e["error"], e["context"], e["siteId"]) for e in errors] == [
        ("engine", "it was ended by SIGSEGV", "kitchen"),
        ("device_lost", "2.5 s of microphone were not heard", "kitchen"),
    ]


def test_tokens_of_hermes_lie_where_they_are_in_text_and_time() -> None:
    message = hermes.captured(FINAL, "default")
    assert (message["likelihood"], message["seconds"]) == (0.75, 1.5)
    [tokens] = message["asrTokens"]
    text = message["text"]
    assert [text[token["rangeStart"] : token["rangeEnd"]] for token in tokens] == text.split()
    assert tokens[2]["time"] == {"start": 0.5, "end": 1.0}
    assert hermes.captured({**FINAL, "words": None}, "x")["asrTokens"] == [[]]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # paho's socket
def test_user_password_and_certificate(
    new_broker: StartBroker,
    open_sink: Callable[..., Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    users, secret, wrong = (tmp_path / name for name in ("users", "secret", "wrong"))
    users.write_text("robot:open sesame\n")
    subprocess.run(["mosquitto_passwd", "-U", users], check=True)
    for path, word in ((secret, "open sesame\n"), (wrong, "sesame\n")):
        path.write_text(word)
        path.chmod(0o600)
    broker = new_broker(
        *("allow_anonymous false", f"password_file {users}", "user root"),
        *(f"cafile {certificate}", f"certfile {certificate}", f"keyfile {key}"),
    )
    broker.start()
    asked = {"tls": True, "ca_file": certificate, "username": "robot"}
    good = open_sink(broker, **asked, password_file=secret)
    wait_for(good._client.is_connected, 10, broker.log.read_text)
    bad = open_sink(broker, **asked, password_file=wrong, name="other")
    wait_for(lambda: "it refuses (Not authorized)" in caplog.text, 10, broker.log.read_text)
    assert not bad._client.is_connected()
    stranger = open_sink(broker, tls=True, name="third", username="robot", password_file=secret)
    wait_for(lambda: "certificate verify failed" in caplog.text, 10, lambda: caplog.text)
    assert not stranger._client.is_connected()


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({}, "sinks.mqtt.host: Field required"),
        ({"host": "x", "prot": 1}, "sinks.mqtt.prot: unknown key"),
        ({"host": "x", "prefix": "a/+/b"}, "sinks.mqtt.prefix: String should match"),
        ({"host": "x", "name": "a/b"}, "sinks.mqtt.name: String should match"),
        ({"host": "x", "port": 0}, "sinks.mqtt.port: Input should be greater"),
    ],
)
def test_a_mistake_is_one_line(written: dict[str, Any], said: str) -> None:
    with pytest.raises(EdgedError) as error:
        read(written)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_password_that_everybody_can_read_is_refused(tmp_path: Path) -> None:
    from edged_mqtt.sink import MqttSink

    secret = tmp_path / "secret"
    secret.write_text("open sesame\n")
    secret.chmod(0o644)
    with pytest.raises(EdgedError, match="chmod o="):
        MqttSink({"host": "localhost", "username": "x", "password_file": secret})


def test_what_waits_for_a_broker_is_bounded(
    new_broker: StartBroker, open_sink: Callable[..., Any]
) -> None:
    from edged_mqtt.sink import KEPT

    sink = open_sink(new_broker())
    started = time.monotonic()
    for _ in range(KEPT):
        sink.take("microphone", FINAL)
    with pytest.raises(EdgedError, match="wait for the broker at localhost"):
        sink.take("microphone", FINAL)
    assert time.monotonic() - started < 5


def test_every_setting_is_documented() -> None:
    table = (ROOT / "docs" / "protocols.md").read_text("utf-8")
    assert [key for key in Settings.model_fields if f"`{key}`" not in table] == []
