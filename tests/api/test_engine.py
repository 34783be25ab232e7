"""The ladder over the API, and what happens when what is asked for cannot run."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.api.conftest import Shared
from tests.api.http import ask, form
from tests.client import of_type, recognize, silence, texts
from tests.conftest import BASE, TINY
from tests.daemon import DaemonProcess

RATE = 16000
Start = Callable[..., DaemonProcess]


@pytest.fixture(scope="module")
def movable(shared_daemon: Shared) -> DaemonProcess:
    return shared_daemon("--no-microphone")


def order(daemon: DaemonProcess, **what: object) -> dict[str, Any]:
    status, ladder = daemon.post("/v1/engine", what)
    assert status == 200, ladder
    return dict(ladder)


def until_closed(client: ClientConnection) -> list[dict[str, Any]]:
    """All events until the daemon closes."""
    events = []
    with pytest.raises(ConnectionClosed):
        while True:
            events.append(json.loads(client.recv(timeout=10)))
    return events


def serving(daemon: DaemonProcess) -> int | None:
    steps = daemon.get("/v1/engine")[1]["steps"]
    return next((number for number, step in enumerate(steps) if step["serving"]), None)


def test_the_ladder_says_which_step_serves(movable: DaemonProcess) -> None:
    status, ladder = movable.get("/v1/engine")
    assert status == 200
    assert ladder["engine"] == movable.get("/v1/health")[1]["engine"]
    assert [step["pace"] for step in ladder["steps"]] == [1.0, 3.0]
    assert [step["serving"] for step in ladder["steps"]] == [True, False]
    assert all(step["rung"]["model"] == TINY for step in ladder["steps"])


def test_orders_move_it_and_clients_are_told(movable: DaemonProcess, speech: np.ndarray) -> None:
    with connect(movable.ws("/v1/stream?rate=16000")) as client:
        assert json.loads(client.recv())["type"] == "hello"
        order(movable, action="demote")
        event = json.loads(client.recv(timeout=10))
        assert (event["type"], event["reason"]) == ("engine", "it was asked to")
    assert serving(movable) == 1
    order(movable, action="promote")
    movable.wait(lambda: serving(movable) == 0)
    order(movable, action="pin", step=1)
    movable.wait(lambda: serving(movable) == 1)
    assert order(movable, action="promote")["pinned"]
    assert serving(movable) == 1
    order(movable, action="release")
    order(movable, action="promote")
    movable.wait(lambda: serving(movable) == 0)
    assert texts(recognize(movable.url, np.concatenate([speech[: 4 * RATE], silence(1)])))


def test_a_step_that_is_not_there_is_a_mistake(movable: DaemonProcess) -> None:
    status, problem = movable.post("/v1/engine", {"action": "pin", "step": 9})
    assert (status, problem["code"]) == (422, "no_step")


def test_what_cannot_run_serves_nothing_else_when_told_to_fail(start_daemon: Start) -> None:
    daemon = start_daemon(
        "--no-microphone",
        wait=False,
        engine_model=TINY,
        engine_device="cuda",
        engine_fallback="fail",
    )
    daemon.wait(lambda: "listening on" in daemon.log.read_text())
    daemon.wait(lambda: "no device cuda" in json.dumps(daemon.get("/v1/health")[1]["reasons"]))
    status, health = daemon.get("/v1/health")
    assert (status, health["live"], health["ready"]) == (503, True, False)
    assert "Run: edged probe" in health["reasons"][0]
    answer = ask(daemon, "/v1/audio/transcriptions", method="POST", **form(b"RIFF", model="any"))
    assert answer.status == 503


@pytest.fixture(scope="module")
def degraded(shared_daemon: Shared) -> DaemonProcess:
    """Something that is not there was asked for; the processor serves."""
    return shared_daemon("--no-microphone", engine_device="cuda")


def test_less_than_asked_for_is_said_everywhere(
    degraded: DaemonProcess, speech: np.ndarray
) -> None:
    health = degraded.get("/v1/health")[1]
    assert health["ready"]
    assert "less than asked for" in health["reasons"][0]
    engine = health["engine"]
    assert (engine["requested"]["device"], engine["effective"]["device"]) == ("cuda", "cpu")
    assert "no device cuda" in engine["reason"]
    events = recognize(degraded.url, np.concatenate([speech[: 4 * RATE], silence(1)]))
    assert events[0]["engine"] == engine
    assert of_type(events, "final")[0]["engine"] == engine


def test_a_client_may_refuse_less_than_was_asked_for(degraded: DaemonProcess) -> None:
    with connect(degraded.ws("/v1/stream?fallback=fail")) as client:
        events = until_closed(client)
    assert client.close_code == 1013
    assert [event["type"] for event in events] == ["error"]
    assert (events[0]["code"], events[0]["fatal"]) == ("engine_degraded", True)
    assert "no device cuda" in events[0]["message"]
    answer = ask(
        degraded,
        "/v1/audio/transcriptions",
        method="POST",
        **form(b"RIFF", model="any", fallback="fail"),
    )
    assert (answer.status, answer.json["error"]["code"]) == (503, "engine_degraded")


def test_allow_serves_less_without_a_word_in_health(start_daemon: Start) -> None:
    daemon = start_daemon(
        "--no-microphone", engine_model=TINY, engine_device="cuda", engine_fallback="allow"
    )
    assert daemon.get("/v1/health")[1]["reasons"] == []


def test_a_strict_client_is_let_go_when_the_engine_steps_down(
    start_daemon: Start, speech: np.ndarray
) -> None:
    daemon = start_daemon("--no-microphone", "--model", BASE)
    with connect(daemon.ws("/v1/stream?rate=16000&fallback=fail")) as client:
        assert json.loads(client.recv())["type"] == "hello"
        order(daemon, action="demote")
        assert [event["type"] for event in until_closed(client)] == ["engine", "error"]
        assert client.close_code == 1013


def test_metrics_are_for_prometheus(movable: DaemonProcess) -> None:
    answer = ask(movable, "/metrics")
    assert answer.status == 200
    assert answer.kind.startswith("text/plain")
    lines = answer.text.splitlines()
    assert "edged_ready 1.0" in lines
    [info] = [line for line in lines if line.startswith("edged_engine_info{")]
    assert 'model="moonshine-tiny-en"' in info
