"""A private Mosquitto, and a client that remembers what it is told."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

PROGRAM = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


class Broker:
    """Mosquitto on a port and with a configuration of its own."""

    def __init__(self, folder: Path, port: int, *lines: str) -> None:
        """`lines` of its configuration; anybody may connect if there are none."""
        folder.mkdir(parents=True, exist_ok=True)
        self.port = port
        self.log = folder / "mosquitto.log"
        self._configuration = folder / "mosquitto.conf"
        rules = lines or ("allow_anonymous true",)
        text = "\n".join([f"listener {port} 127.0.0.1", *rules, "log_type all", ""])
        self._configuration.write_text(text)
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def missing() -> str | None:
        """Why there can be no broker here."""
        return None if PROGRAM else "mosquitto is not installed: make system-packages"

    def start(self) -> None:
        assert PROGRAM is not None
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [PROGRAM, "-c", str(self._configuration)], stdout=log, stderr=log
            )
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise RuntimeError(self.log.read_text()) from None
                time.sleep(0.02)

    def received(self, topic: str) -> int:
        """How many messages came for a topic, over all its lives."""
        lines = self.log.read_text().splitlines()
        return len([line for line in lines if "Received PUBLISH" in line and topic in line])

    def wait_for(self, topic: str, count: int) -> None:
        """Until so many have come for a topic."""
        wait_for(lambda: self.received(topic) >= count, 60, self.log.read_text)

    def stop(self) -> None:
        """As if its machine were gone: nothing is said to anybody."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None


class Listener:
    """Follows topics of a broker; reconnects like everybody else."""

    def __init__(self, broker: Broker, topic: str = "#") -> None:
        self.messages: list[tuple[str, str, bool]] = []
        """Topic, payload, and whether it was retained"""
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.on_connect = lambda client, *_: client.subscribe(topic, 1)
        self._client.on_message = self._take
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()

    def _take(self, _client: Any, _userdata: Any, message: MQTTMessage) -> None:
        self.messages.append((message.topic, message.payload.decode(), message.retain))

    def publish(self, topic: str, payload: str, retain: bool = False) -> None:
        self._client.publish(topic, payload, 1, retain).wait_for_publish(10)

    def payloads(self, topic: str) -> list[str]:
        return [payload for name, payload, _ in list(self.messages) if name == topic]

    def wait(self, topic: str, *payloads: str, seconds: float = 30.0) -> str:
        """The last payload of a topic, once it is one of these, or any if none is named."""

        def last() -> str | None:
            found = self.payloads(topic)
            return found[-1] if found and (not payloads or found[-1] in payloads) else None

        return str(wait_for(last, seconds, lambda: f"{topic}: {self.messages}"))

    def json(self, topic: str, seconds: float = 30.0) -> Any:
        return json.loads(self.wait(topic, seconds=seconds))

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def wait_for(condition: Callable[[], Any], seconds: float, explain: Callable[[], str]) -> Any:
    """What is true at last. Fails with an explanation."""
    deadline = time.monotonic() + seconds
    while (value := condition()) is None or value is False:
        assert time.monotonic() < deadline, explain()
        time.sleep(0.02)
    return value
