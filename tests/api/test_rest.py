"""The native REST API: health, lists, stored transcripts, errors."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import numpy as np
import psutil
import pytest
from websockets.sync.client import connect

from edged import __version__
from edged.api.page import PATHS
from edged.engine.probe import ProbeReport, probe_recorded, report_file
from edged.engine.verdicts import write_whole
from tests.api.conftest import Shared
from tests.api.http import Answer, ask, form
from tests.client import recognize, texts
from tests.conftest import MACHINES, TINY
from tests.daemon import DaemonProcess

RATE = 16000
JSON = {"Content-Type": "application/json"}
Start = Callable[..., DaemonProcess]


def problem(answer: Answer) -> dict[str, Any]:
    """The RFC 9457 problem in an answer."""
    assert answer.kind == "application/problem+json"
    body: dict[str, Any] = answer.json
    assert set(body) == {"type", "title", "status", "code", "detail"}
    assert body["status"] == answer.status
    assert body["code"].replace("_", "").isalnum()
    assert body["title"] != "Error"
    return body


# -- health -------------------------------------------------------------------------------------


def test_a_daemon_that_can_recognise_is_ready(daemon: DaemonProcess) -> None:
    answer = ask(daemon, "/v1/health")
    health = answer.json
    assert answer.status == 200
    assert (health["live"], health["ready"], health["reasons"]) == (True, True, [])
    assert health["version"] == __version__
    assert health["uptime"] > 0
    assert health["engine"]["effective"]["model"] == TINY
    assert health["microphone"]["state"] == "off"
    assert health["microphone"]["muted"] is False


def test_a_daemon_that_cannot_recognise_is_live_and_not_ready(start_daemon: Start) -> None:
    daemon = start_daemon(
        *("--no-microphone", "--model", TINY),
        wait=False,
        engine_provider="nonesuch",
        engine_fallback="fail",
    )
    status, health = daemon.wait(lambda: daemon.get("/v1/health"))
    assert status == 503
    assert (health["live"], health["ready"]) == (True, False)
    assert health["engine"]["effective"] is None
    assert any(reason.startswith("engine: ") for reason in health["reasons"])

    def tried() -> bool:
        return "nonesuch" in str(daemon.get("/v1/health")[1]["reasons"])

    daemon.wait(tried)
    upload = form(b"RIFF", model="any")
    answer = ask(daemon, "/v1/audio/transcriptions", method="POST", **upload)
    assert (answer.status, answer.json["error"]["code"]) == (503, "engine_not_ready")
    assert answer.json["error"]["type"] == "server_error"
    with connect(daemon.ws("/v1/stream")) as websocket:
        assert json.loads(websocket.recv())["engine"]["effective"] is None


# -- hardware -----------------------------------------------------------------------------------


def test_what_the_probe_found_is_served_with_its_age(start_daemon: Start, tiny_cache: Path) -> None:
    daemon = start_daemon("--no-microphone", "--model", TINY)
    missing = problem(ask(daemon, "/v1/hardware"))
    assert (missing["status"], missing["code"]) == (404, "not_probed")
    assert "edged probe" in missing["detail"]
    report = probe_recorded(MACHINES / "raspberry-pi-5-hailo")
    write_whole(report_file(), msgspec.json.encode(report))
    answer = ask(daemon, "/v1/hardware")
    assert answer.status == 200
    assert 0 <= answer.json["age_seconds"] < 60
    assert msgspec.convert(answer.json["report"], ProbeReport) == report


# -- lists --------------------------------------------------------------------------------------


def test_devices_are_listed_or_the_cure_is_named(daemon: DaemonProcess) -> None:
    status, found = daemon.get("/v1/devices")
    assert status == 200
    if found["error"]:
        assert found["devices"] == []
        assert "apt-get install" in found["error"]
    for device in found["devices"]:
        assert device["identity"]
        assert not device["in_use"]


def test_plugins_are_listed_with_what_they_find(daemon: DaemonProcess) -> None:
    status, found = daemon.get("/v1/plugins")
    assert status == 200
    usable = {plugin["name"] for plugin in found["plugins"] if plugin["usable"]}
    assert usable >= {"onnxruntime", "moonshine", "silero"}
    assert all((plugin["reason"] is None) == plugin["usable"] for plugin in found["plugins"])
    [runtime] = [p for p in found["providers"] if p["name"] == "onnxruntime"]
    assert "cpu" in runtime["devices"]
    assert runtime["error"] is None


def test_models_are_listed_with_the_one_in_use(daemon: DaemonProcess) -> None:
    status, found = daemon.get("/v1/models")
    assert status == 200
    models = {model["name"]: model for model in found["models"]}
    assert models[TINY]["in_use"]
    assert models[TINY]["usable"]
    assert "int8" in models[TINY]["precisions"]
    assert sum(model["in_use"] for model in models.values()) == 1
    for model in models.values():
        assert (model["reason"] is None) == model["usable"]


# -- microphone ---------------------------------------------------------------------------------


def test_muting_is_echoed_in_health_and_hello(start_daemon: Start) -> None:
    daemon = start_daemon("--no-microphone", "--model", TINY)
    for muted in (True, False):
        status, report = daemon.post("/v1/microphone", {"muted": muted})
        assert (status, report["muted"]) == (200, muted)
        assert daemon.get("/v1/health")[1]["microphone"]["muted"] is muted
        with connect(daemon.ws("/v1/transcripts")) as websocket:
            assert json.loads(websocket.recv())["muted"] is muted


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"{}", b'{"muted": "perhaps"}', b'{"muted": null}', b"\xff"]
)
def test_an_order_that_makes_no_sense_is_refused(daemon: DaemonProcess, body: bytes) -> None:
    answer = ask(daemon, "/v1/microphone", method="POST", headers=JSON, body=body)
    assert answer.status == (400 if body == b"\xff" else 422)
    assert problem(answer)["code"] in {"invalid_request", "bad_request"}


# -- stored transcripts -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def filled(shared_daemon: Shared, speech: np.ndarray) -> DaemonProcess:
    """A daemon that has stored some finals, each different."""
    daemon = shared_daemon("--no-microphone")
    said = texts(recognize(daemon.url, speech[: 30 * RATE], query="&partials=0"))
    assert len(said) >= 5

    def all_stored() -> bool:
        return len(found(daemon)) == len([text for text in said if text])

    daemon.wait(all_stored)
    return daemon


def found(daemon: DaemonProcess, query: str = "") -> list[dict[str, Any]]:
    status, page = daemon.get(f"/v1/transcripts?{query}")
    assert status == 200
    transcripts: list[dict[str, Any]] = page["transcripts"]
    return transcripts


def test_a_stored_transcript_holds_its_final(filled: DaemonProcess) -> None:
    for entry in found(filled):
        assert entry["text"] == entry["event"]["text"]
        assert entry["id"] == entry["event"]["id"]
        assert entry["stream"].startswith("stream-")
        assert entry["event"]["type"] == "final"


def test_transcripts_come_in_the_order_of_their_numbers(filled: DaemonProcess) -> None:
    numbers = [entry["id"] for entry in found(filled)]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
def test_pages_are_joined_by_their_cursor(filled: DaemonProcess, limit: int) -> None:
    everything = found(filled)
    joined: list[dict[str, Any]] = []
    cursor = None
    while True:
        more = f"&cursor={cursor}" if cursor else ""
        page = filled.get(f"/v1/transcripts?limit={limit}{more}")[1]
        assert len(page["transcripts"]) <= limit
        joined += page["transcripts"]
        cursor = page["cursor"]
        if cursor is None:
            break
        assert len(page["transcripts"]) == limit
    assert joined == everything


def test_the_newest_come_first_where_that_is_asked_for(filled: DaemonProcess) -> None:
    everything = found(filled)[::-1]
    assert found(filled, "order=newest") == everything
    page = filled.get("/v1/transcripts?order=newest&limit=2")[1]
    assert page["transcripts"] == everything[:2]
    assert found(filled, f"order=newest&limit=2&cursor={page['cursor']}") == everything[2:4]


def test_a_stream_s_transcripts_are_told_apart(filled: DaemonProcess) -> None:
    [name] = {entry["stream"] for entry in found(filled)}
    assert found(filled, f"stream={name}") == found(filled)
    assert found(filled, "stream=microphone") == []


@pytest.mark.parametrize("query", ["", "&q=it+was", "&q=elephants"])
def test_transcripts_are_downloaded(filled: DaemonProcess, query: str) -> None:
    wanted = found(filled, query)

    def file(kind: str) -> Answer:
        answer = ask(filled, f"/v1/transcripts/download?format={kind}{query}")
        assert answer.status == 200
        name = answer.headers["content-disposition"]
        assert name == f'attachment; filename="transcripts.{kind}"'
        return answer

    assert file("json").json == wanted
    assert file("txt").text.splitlines() == [entry["text"] for entry in wanted]
    vtt, srt = file("vtt"), file("srt")
    assert (vtt.kind, srt.kind) == ("text/vtt", "application/x-subrip")
    assert vtt.text.startswith("WEBVTT\n\n")
    assert vtt.text.count(" --> ") == srt.text.count(" --> ") == len(wanted)
    if wanted:
        length = wanted[0]["event"]["end"] - wanted[0]["event"]["start"]
        assert srt.text.startswith(f"1\n00:00:00,000 --> 00:00:{length:06.3f}".replace(".", ","))
        assert srt.text.endswith(f"{wanted[-1]['text']}\n\n")


def test_an_unknown_form_of_a_download_is_a_problem(filled: DaemonProcess) -> None:
    answer = ask(filled, "/v1/transcripts/download?format=docx")
    assert answer.status == 422
    assert problem(answer)["code"] == "invalid_request"


def test_since_and_until_part_the_transcripts(filled: DaemonProcess) -> None:
    everything = found(filled)
    moment = sorted(entry["time"] for entry in everything)[len(everything) // 2]
    later, earlier = found(filled, f"since={moment}"), found(filled, f"until={moment}")
    assert later
    assert earlier
    assert sorted(e["id"] for e in later + earlier) == [e["id"] for e in everything]
    assert found(filled, f"since={moment}&until={moment}") == []


def test_words_are_found_whatever_their_case_and_order(filled: DaemonProcess) -> None:
    [entry] = found(filled, "q=WORST+best")
    assert "best of times" in entry["text"].lower()
    assert found(filled, "q=best+elephants") == []


@pytest.mark.parametrize(
    "query",
    [
        *('"', '"best', 'best"', '""', "'", "it's", "*", "best*", "b*", "(", ")", "NEAR(best)"),
        *("best AND", "OR", "NOT best", "text:best", "^best", "-best", "{best}", "best + worst"),
        *("; DROP TABLE transcripts; --", "%", "_", "\\", " ", "\t\n", "\0", "best\0worst"),
        *("né", "日本語", "🎤", "a" * 1000, "“best”"),
    ],
)
def test_no_character_of_a_search_has_a_meaning(filled: DaemonProcess, query: str) -> None:
    answer = ask(filled, f"/v1/transcripts?q={quote(query)}")
    assert answer.status == 200
    hits = answer.json["transcripts"]
    if query in {'"best', 'best"', "best*", "^best", "-best", "{best}", "“best”"}:
        assert [hit["text"] for hit in hits] == [h["text"] for h in found(filled, "q=best")]
        assert hits
    if not query.strip():
        assert hits == found(filled)


@pytest.mark.parametrize(
    "query",
    [
        *("limit=0", "limit=1001", "limit=-1", "limit=ten", "limit=", "limit=1.5"),
        *("cursor=last", "cursor=-1", "cursor=", "cursor=1e3", "cursor=" + "9" * 30),
        *("since=yesterday", "until=", "since=1,5", f"q={'a' * 1001}"),
        *("limit=" + "9" * 5000, "cursor=%D9%A3"),
    ],
)
def test_a_query_that_makes_no_sense_is_a_problem(filled: DaemonProcess, query: str) -> None:
    answer = ask(filled, f"/v1/transcripts?{query}")
    assert answer.status == 422
    assert query.partition("=")[0] in problem(answer)["detail"]


@pytest.mark.parametrize(
    "query",
    [
        *("since=nan", "until=nan", "since=inf", "since=-inf", "until=inf", "since=1e400"),
        *("since=-1", "until=1e308", "cursor=999999999999999999", "cursor=000", "limit=%201"),
        *("unknown=1", "limit=1&limit=2", "%00", "=", "&&&", "q=%FF%FE", "q=%ED%A0%80"),
        *("partials=1", "q=a&q=b"),
    ],
)
def test_odd_values_are_never_our_fault(filled: DaemonProcess, query: str) -> None:
    assert ask(filled, f"/v1/transcripts?{query}").status in {200, 422}


@pytest.mark.parametrize("query", ["partials=perhaps", "words=2"])
def test_odd_values_for_the_event_stream_are_refused(daemon: DaemonProcess, query: str) -> None:
    answer = ask(daemon, f"/v1/transcripts/events?{query}")
    assert answer.status == 422
    problem(answer)


def test_without_a_store_there_are_no_transcripts(start_daemon: Start, speech: np.ndarray) -> None:
    daemon = start_daemon("--no-microphone", "--model", TINY, transcripts_enabled="false")
    said = " ".join(texts(recognize(daemon.url, speech[: 4 * RATE])))
    assert said
    answer = ask(daemon, "/v1/transcripts")
    assert answer.status == 404
    assert problem(answer)["code"] == "no_store"
    longest = max(said.split(), key=len).encode()
    files = [path for path in daemon.folder.rglob("*") if path.is_file()]
    assert not [path.name for path in files if longest in path.read_bytes()]


# -- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/v1",
        "/v1/",
        "/v2/health",
        "/v1/nothing",
        "/health",
        "/v1/health/x",
        "/redoc",
        "/%00",
        "/..",
    ],
)
def test_an_unknown_path_is_a_problem(daemon: DaemonProcess, path: str) -> None:
    answer = ask(daemon, path)
    assert answer.status == 404
    assert problem(answer)["code"] == "not_found"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/health"),
        ("PUT", "/v1/transcripts"),
        ("GET", "/v1/microphone"),
        ("PUT", "/v1/microphone"),
        ("PATCH", "/"),
        ("POST", "/openapi.json"),
    ],
)
def test_an_unknown_method_is_a_problem(daemon: DaemonProcess, method: str, path: str) -> None:
    answer = ask(daemon, path, method=method)
    assert answer.status == 405
    assert problem(answer)["code"] == "method_not_allowed"
    assert answer.headers["allow"]


def test_a_websocket_path_is_no_page(daemon: DaemonProcess) -> None:
    answer = ask(daemon, "/v1/stream")
    assert answer.status in {404, 426}
    problem(answer)


@pytest.mark.parametrize("name", ["file", "path", "name", "kind"])
def test_no_query_makes_the_page_another_file(
    daemon: DaemonProcess, tmp_path: Path, name: str
) -> None:
    secret = tmp_path / "secret.js"
    secret.write_text("secret")
    for path in PATHS:
        answer = ask(daemon, f"{path}?{name}={quote(str(secret))}")
        assert answer.body == ask(daemon, path).body


# -- the page -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"),
        ("/dashboard.js", "text/javascript"),
        ("/dashboard.css", "text/css"),
    ],
)
def test_the_page_comes_with_a_strict_policy(daemon: DaemonProcess, path: str, kind: str) -> None:
    answer = ask(daemon, path)
    assert (answer.status, answer.kind) == (200, kind)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert not re.search("unsafe|\\*|data:|ws:|http", policy)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not any(word in answer.text for word in ("http://", "https://", "eval("))


def test_providers_are_asked_once_however_many_want_to_know(
    start_daemon: Start,
) -> None:
    daemon = start_daemon("--no-microphone", "--model", TINY)
    most = 0
    with ThreadPoolExecutor() as pool:
        answers = [pool.submit(daemon.get, "/v1/plugins") for _ in range(6)]
        while not all(answer.done() for answer in answers):
            children = psutil.Process(daemon.pid).children()
            most = max(most, sum("edged.engine.ask" in arguments(child) for child in children))
            time.sleep(0.02)
    first, *others = [answer.result()[1]["providers"] for answer in answers]
    assert all(other == first for other in others)
    assert 0 < most <= len(first)


def arguments(process: psutil.Process) -> list[str]:
    with suppress(psutil.NoSuchProcess):
        return process.cmdline()
    return []
