"""Every hook, from a stranger's plugin to what a user sees of it."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import tomli_w
from websockets.sync.client import connect

from edged import hookspecs
from edged.messages import Rung
from edged.plugins import NAMED_BY, Plugins
from edged.policy import Candidate, Demand
from edged.sinks import QUEUE
from tests.client import recognize, silence, texts
from tests.conftest import BASE, ROOT, TINY
from tests.daemon import DaemonProcess

Install = Callable[[str, str], None]
Start = Callable[..., DaemonProcess]

DOCUMENT = (ROOT / "docs" / "plugins.md").read_text("utf-8")
SECTIONS = {
    heading: text
    for part in DOCUMENT.split("\n## ")[1:]
    for heading, _, text in [part.partition("\n")]
}


def snippet(hook: str) -> str:
    """The module in the section of docs/plugins.md about a hook."""
    [found] = re.findall(r"```python\n(.*?)```", SECTIONS[hook], re.DOTALL)
    return str(found)


HOOKS = [name for name in vars(hookspecs) if name.startswith("edged_")]
SOURCE, SINK = snippet("edged_audio_sources"), snippet("edged_transcript_sinks")
ROUTER, COMMAND = snippet("edged_api_routers"), snippet("edged_cli_commands")
BAD_ROUTES = """
    @router.get("/stuck")
    async def stuck() -> None:
        import time

        time.sleep(1000)

    @router.get("/broken")
    def broken() -> None:
        raise RuntimeError("a stranger's mistake")

    return [router]
"""


def edged(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edged", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def heard(daemon: DaemonProcess, samples: np.ndarray) -> str:
    return " ".join(texts(recognize(daemon.url, samples))).lower()


# -- the hooks that were there first --------------------------------------------------------------


def test_edged_execution_providers(install: Install, start_daemon: Start, speech: Any) -> None:
    install("other", snippet("edged_execution_providers"))
    daemon = start_daemon("--no-microphone", "--model", TINY, engine_provider="other")
    assert daemon.get("/v1/health")[1]["engine"]["effective"]["provider"] == "other"
    assert "best of time" in heard(daemon, speech[:64000])


def test_edged_recognizers(install: Install, tmp_path: Path) -> None:
    install("claps", snippet("edged_recognizers"))
    model = tmp_path / "claps"
    (model / "fp32").mkdir(parents=True)
    (model / "fp32" / "level.txt").write_text("0.5")
    described = {"name": "claps", "family": "claps", "language": "", "licence": "", "source": ""}
    (model / "model.toml").write_text(tomli_w.dumps(described))
    refused = edged("models", "add", str(model))
    assert (refused.returncode, refused.stderr.count("\n")) == (3, 1)
    assert "check.wav" in refused.stderr
    write_claps(model / "check.wav", 3)
    assert edged("models", "add", str(model)).stdout == "claps: fp32, writes 'clap clap clap '\n"
    results = json.loads(edged("conformance", "claps", "--json").stdout)
    assert [r for r in results if not r["passed"]] == []


def write_claps(path: Path, count: int) -> None:
    samples = np.zeros(16000 * (count + 1), np.float32)
    samples[16000::16000] = 0.9
    soundfile.write(path, samples, 16000, subtype="PCM_16")


def test_edged_voice_detectors(install: Install, start_daemon: Start, speech: Any) -> None:
    install("loud", snippet("edged_voice_detectors"))
    daemon = start_daemon("--no-microphone", "--model", TINY, engine_detector="loud")
    assert "best of time" in heard(daemon, speech[:64000])


def test_edged_policies(
    install: Install, start_daemon: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("first", snippet("edged_policies"))
    monkeypatch.syspath_prepend(tmp_path / "site")
    plugins = Plugins.discover()
    candidates = [
        Candidate(Rung(BASE, "onnxruntime", "cpu", precision), "cpu", None, None)
        for precision in ("fp32", "int8")
    ]
    orders = [plugins.policy(name).order(candidates, Demand()) for name in ("first", "adaptive")]
    assert [[rung.precision for rung in order] for order in orders] == [["fp32"], ["int8"]]
    daemon = start_daemon("--no-microphone", "--model", BASE, engine_policy="first")
    rungs = [step["rung"]["model"] for step in daemon.get("/v1/engine")[1]["steps"]]
    assert rungs.count(BASE) == 1


# -- audio sources --------------------------------------------------------------------------------


@pytest.fixture
def udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def send(port: int, samples: np.ndarray) -> None:
    """At the pace of time, in 32 ms blocks; an empty one says that it is over."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for first in range(0, len(samples), 512):
            sock.sendto(samples[first : first + 512].tobytes(), ("127.0.0.1", port))
            time.sleep(0.032)
        sock.sendto(b"", ("127.0.0.1", port))


def test_edged_audio_sources(
    install: Install, start_daemon: Start, speech: Any, udp_port: int
) -> None:
    install("udp", SOURCE)
    daemon = start_daemon("--source", f"udp:{udp_port}", "--model", TINY)
    daemon.wait(lambda: daemon.get("/v1/health")[1]["microphone"]["state"] == "listening")
    send(udp_port, np.concatenate([speech[:64000], silence(0.5)]))
    daemon.wait(lambda: daemon.get("/v1/health")[1]["microphone"]["state"] == "ended")
    daemon.wait(lambda: daemon.get("/v1/transcripts")[1]["transcripts"])
    said = " ".join(t["text"] for t in daemon.get("/v1/transcripts")[1]["transcripts"])
    assert "best of time" in said.lower()


def test_a_source_that_cannot_be_opened_is_tried_again(
    install: Install, start_daemon: Start, udp_port: int
) -> None:
    install("udp", SOURCE)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", udp_port))
        daemon = start_daemon("--source", f"udp:{udp_port}", "--model", TINY)
        daemon.wait(lambda: daemon.get("/v1/health")[1]["microphone"]["code"] == "port_taken")
    daemon.wait(lambda: daemon.get("/v1/health")[1]["microphone"]["state"] == "listening")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("        yield [0.0]\n        raise OSError('unplugged')", "unplugged"),
        ("        yield 'no numbers'", "no numbers"),
        ("        import os; os._exit(3)\n        yield", "the capture process died"),
    ],
)
def test_a_source_that_fails_is_waited_for(
    install: Install, start_daemon: Start, speech: Any, fault: str, words: str
) -> None:
    install("udp", SOURCE.split("    def __init__", maxsplit=1)[0] + BAD_SOURCE.format(fault=fault))
    daemon = start_daemon("--source", "udp:1", "--model", TINY)
    daemon.wait(lambda: words in (daemon.get("/v1/health")[1]["microphone"]["reason"] or ""))
    assert "best of time" in heard(daemon, speech[:64000])


BAD_SOURCE = """
    def __init__(self, address):
        pass

    def blocks(self):
{fault}

@hookimpl
def edged_audio_sources():
    return [Udp]
"""


# -- transcript sinks -----------------------------------------------------------------------------


def entries(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for line in path.read_text().splitlines():
        stream, _, event = line.partition(" ")
        if stream != "the":
            yield stream, json.loads(event)


def test_edged_transcript_sinks(
    install: Install, start_daemon: Start, speech: Any, recording: Path, tmp_path: Path
) -> None:
    install("diary", SINK)
    path = tmp_path / "diary.txt"
    daemon = start_daemon(
        "--source",
        f"file:{recording}",
        "--model",
        TINY,
        sinks=json.dumps({"diary": {"path": str(path)}}),
    )
    events = recognize(daemon.url, speech[:64000])
    daemon.wait(lambda: any(s == "microphone" and e["type"] == "final" for s, e in entries(path)))
    daemon.stop()
    written = list(entries(path))
    assert path.read_text().endswith("the end\n")
    mine = [e for s, e in written if s == "stream-1"]
    assert mine == [e for e in events if e["type"] != "hello"]
    assert {e["type"] for s, e in written if s == "microphone"} >= {
        "speech_started", "partial", "final", "closed",
    }  # fmt: skip


BAD_SINKS = {
    "raises": "        raise OSError('no network')",
    "leaves": "        import sys; sys.exit('I am leaving')",
    "blocks": "        import time; time.sleep(1000)",
}


@pytest.mark.parametrize("place", ["__init__(self, settings)", "take(self, stream, event)"])
@pytest.mark.parametrize("fault", BAD_SINKS)
def test_a_bad_sink_harms_nobody(
    install: Install, start_daemon: Start, speech: Any, tmp_path: Path, fault: str, place: str
) -> None:
    install("diary", SINK)
    bad = SINK.replace("Diary", "Bad").replace('"diary"', '"bad"')
    name = place.partition("(")[0]
    install(
        "bad",
        bad.replace(f"def {name}(", "def other(").replace(
            "    def close", f"    def {place}:\n{BAD_SINKS[fault]}\n\n    def close"
        ),
    )
    path = tmp_path / "diary.txt"
    settings = {"diary": {"path": str(path)}, "bad": {"path": "/dev/null"}}
    daemon = start_daemon("--no-microphone", "--model", TINY, sinks=json.dumps(settings))
    events = recognize(daemon.url, speech[:64000])
    assert "best of time" in " ".join(texts(events)).lower()
    started = time.monotonic()
    daemon.stop()
    assert time.monotonic() - started < 8
    written = [e for stream, e in entries(path) if stream != "microphone"]
    assert written == [e for e in events if e["type"] != "hello"]
    log = daemon.log.read_text()
    assert ("did not stop" if fault == "blocks" else "sink bad failed 1 times") in log


def test_what_a_sink_has_no_time_for_is_dropped_counted_and_logged(
    install: Install, start_daemon: Start
) -> None:
    install("bad", SINK.replace("print(stream", "__import__('time').sleep(1000); print(stream"))
    daemon = start_daemon(
        "--no-microphone", "--model", TINY, sinks=json.dumps({"diary": {"path": "/dev/null"}})
    )
    assert 'edged_sink_dropped_total{sink="diary"} 0.0\n' in metrics(daemon)
    with connect(daemon.ws("/v1/stream")) as websocket:
        for _ in range(QUEUE + 11):
            websocket.send("nonsense")  # each is answered with an event
            websocket.recv(timeout=10)
    # Two more than that went before: what edged is at first, and that its engine is ready.
    daemon.wait(lambda: 'edged_sink_dropped_total{sink="diary"} 12.0\n' in metrics(daemon))
    assert "sink diary is too slow: 1 events dropped" in daemon.log.read_text()


def metrics(daemon: DaemonProcess) -> str:
    with urllib.request.urlopen(daemon.url + "/metrics", timeout=10) as answer:
        return str(answer.read().decode())


# -- routers --------------------------------------------------------------------------------------


def test_edged_api_routers(install: Install, start_daemon: Start) -> None:
    install("mine", ROUTER.replace("    return [router]\n", BAD_ROUTES))
    daemon = start_daemon("--no-microphone", "--model", TINY)
    assert daemon.get("/v1/plugins/mine/twice/21") == (200, 42)
    assert daemon.get("/v1/plugins/mine/twice/much")[1]["code"] == "invalid_request"
    assert daemon.get("/v1/plugins/mine/nothing")[1]["code"] == "not_found"
    assert daemon.get("/v1/plugins/mine/broken")[1]["code"] == "internal"
    assert "/twice/{number}" in daemon.get("/v1/plugins/mine/openapi.json")[1]["paths"]
    with connect(daemon.ws("/v1/plugins/mine/echo")) as websocket:
        websocket.send("again")
        assert websocket.recv(timeout=10) == "again"
    assert daemon.get("/v1/plugins")[0] == 200


def test_routers_stand_behind_the_same_door(install: Install, start_daemon: Start) -> None:
    install("mine", ROUTER.replace("    return [router]\n", BAD_ROUTES))
    daemon = start_daemon("--no-microphone", "--model", TINY)
    for header in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        request = urllib.request.Request(daemon.url + "/v1/plugins/mine/twice/21", headers=header)
        with pytest.raises(urllib.error.HTTPError) as raised:
            urllib.request.urlopen(request, timeout=10)
        assert raised.value.code == 403
        raised.value.close()


def test_a_route_that_blocks_keeps_nobody_else_waiting(
    install: Install, start_daemon: Start, speech: Any
) -> None:
    install("mine", ROUTER.replace("    return [router]\n", BAD_ROUTES))
    daemon = start_daemon("--no-microphone", "--model", TINY)
    with socket.create_connection(("127.0.0.1", daemon.port)) as stuck:
        stuck.sendall(b"GET /v1/plugins/mine/stuck HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(0.5)
        started = time.monotonic()
        assert daemon.get("/v1/health")[0] == 200
        assert time.monotonic() - started < 1
        assert "best of time" in heard(daemon, speech[:64000])
        daemon.stop()


@pytest.mark.parametrize("answer", ["42", "[42]"])
def test_routers_that_are_none_are_said_to_be(
    install: Install, start_daemon: Start, answer: str
) -> None:
    install("mine", ROUTER.replace("return [router]", f"return {answer}"))
    daemon = start_daemon("--no-microphone", "--model", TINY)
    [plugin] = [p for p in daemon.get("/v1/plugins")[1]["plugins"] if p["name"] == "mine"]
    assert plugin["usable"] is False
    assert "int" in plugin["reason"]


# -- commands -------------------------------------------------------------------------------------


def test_edged_cli_commands(install: Install) -> None:
    install("greet", COMMAND)
    assert edged("greet", "hello", "robot").stdout == "hello robot\n"
    failed = edged("greet", "fail")
    assert (failed.returncode, failed.stderr) == (
        1,
        "edged: this cannot be done. Run: something else\n",
    )
    assert "Says hello." in edged("--help").stdout
    assert "greet" not in edged("plugins", "--help").stdout


def test_a_command_of_ours_is_not_a_plugins_to_take(install: Install) -> None:
    install("version", COMMAND)
    assert edged("version").stdout.startswith("edged ")


def test_a_command_that_is_none_harms_no_other(install: Install) -> None:
    install("greet", COMMAND)
    install("wrong", COMMAND.replace("return [app]", "return [42]"))
    assert edged("greet", "hello", "robot").stdout == "hello robot\n"
    assert "greet" in edged("--help").stdout


# -- all of them ----------------------------------------------------------------------------------


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_has_a_test_a_section_and_is_called(hook: str) -> None:
    assert f"test_{hook}" in globals()
    assert hook in SECTIONS
    assert hook in NAMED_BY


@pytest.mark.parametrize("hook", HOOKS)
def test_a_section_s_snippet_keeps_its_contract(
    install: Install, monkeypatch: pytest.MonkeyPatch, hook: str
) -> None:
    if hook == "edged_recognizers":
        pytest.skip("needs a model: test_edged_recognizers makes one")
    install("shown", snippet(hook))
    monkeypatch.setenv("EDGED_SINKS", json.dumps({"diary": {"path": os.devnull}}))
    done = edged("conformance", "shown", "--json")
    assert [r for r in json.loads(done.stdout) if not r["passed"]] == []
