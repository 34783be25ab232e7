"""MQTT: orders that nobody would give, and a broker that is none."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from tests.api.garbage import leaves_nothing, mutated
from tests.conftest import TINY
from tests.daemon import DaemonProcess
from tests.plugins import hostile
from tests.plugins.broker import Broker, Listener, wait_for
from tests.plugins.test_mqtt import FINAL, HELLO


@pytest.mark.parametrize("count", [2000, pytest.param(100_000, marks=pytest.mark.long)])
def test_a_broker_that_answers_nonsense_does_not_end_it(
    tmp_path: Path, free_port: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a real one is there, it is told what is so."""
    from edged_mqtt import sink as module

    monkeypatch.setattr(module, "SHORTEST_WAIT", 0.001)
    monkeypatch.setattr(module, "LONGEST_WAIT", 0.002)
    ourselves = psutil.Process()
    enemy = hostile.HostileBroker(free_port)
    settings = {"host": "127.0.0.1", "port": free_port, "name": "box", "allow_commands": True}
    sink = module.MqttSink(settings)
    sink.may_mute(lambda muted: None)
    sink.take("microphone", HELLO)
    try:
        wait_for(lambda: enemy.sent > count // 10, 100, lambda: str(enemy.sent))
        before = (ourselves.num_fds(), threading.active_count(), ourselves.memory_info().rss)
        wait_for(lambda: enemy.sent > count, 3000, lambda: str(enemy.sent))
        after = (ourselves.num_fds(), threading.active_count(), ourselves.memory_info().rss)
        assert after[0] <= before[0] + 2
        assert after[1] <= before[1]
        assert after[2] < before[2] + 20e6
        enemy.stop()
        broker = Broker(tmp_path / "broker", free_port)
        broker.start()
        listener = Listener(broker)
        listener.wait("edged/box/state", "online")
        sink.take("microphone", FINAL)
        assert listener.json("edged/box/final")["text"] == FINAL["text"]
        listener.stop()
        sink.close()
        broker.stop()
    finally:
        enemy.stop()


ORDERS = [
    b"ON",
    b"OFF",
    b"true",
    b"0",
    b'{"muted": true}',
    b"\xff\xfe",
    bytes(100_000),
    b"on\n" * 9,
]


def order(port: int, count: int, seed: int) -> None:
    """Give so many orders to a microphone, most of them wrong in some way; the last is OFF."""
    chance = random.Random(seed)
    client = Client(CallbackAPIVersion.VERSION2)
    client.max_inflight_messages_set(500)
    client.connect("127.0.0.1", port)
    client.loop_start()
    for number in range(count):
        payload = chance.choice(ORDERS)
        told = payload if chance.random() < 0.2 else mutated(chance, payload)
        sent = client.publish("edged/robot/mute/set", told, 1)
        if number % 500 == 0:
            sent.wait_for_publish(60)
    client.publish("edged/robot/mute/set", "OFF", 1).wait_for_publish(60)
    client.disconnect()
    client.loop_stop()


@pytest.mark.long
def test_a_hundred_thousand_orders_that_nobody_would_give_disturb_nobody(
    start_daemon: Callable[..., DaemonProcess], tmp_path: Path, free_port: int
) -> None:
    if reason := Broker.missing():
        pytest.skip(reason)
    broker = Broker(tmp_path / "broker", free_port, "allow_anonymous true", "max_queued_messages 0")
    broker.start()
    settings = {"host": "127.0.0.1", "port": free_port, "name": "robot", "allow_commands": True}
    daemon = start_daemon("--no-microphone", "--model", TINY, sinks=json.dumps({"mqtt": settings}))
    listener = Listener(broker, "edged/robot/mute")
    listener.wait("edged/robot/mute", "OFF")
    order(free_port, 10_000, seed=5)
    with leaves_nothing(daemon):
        order(free_port, 100_000, seed=6)
        listener.publish("edged/robot/mute/set", "ON")
        listener.wait("edged/robot/mute", "ON")
        daemon.wait(lambda: daemon.get("/v1/health")[1]["microphone"]["muted"])
        listener.publish("edged/robot/mute/set", "OFF")
        daemon.wait(lambda: not daemon.get("/v1/health")[1]["microphone"]["muted"])
        listener.wait("edged/robot/mute", "OFF")
    listener.stop()
    broker.stop()
