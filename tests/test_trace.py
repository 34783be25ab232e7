"""`edged trace`: real speech through real processes, and what is seen of it."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import soundfile

from edged.audio.tracing import level_of
from edged.engine.tracing import DETECTION, FINAL, OPERATORS, PARTIAL
from edged.errors import EdgedError
from edged.trace.journeys import Journey, finals, partials
from edged.trace.latencies import TOTAL, latency, operators, work
from edged.trace.parts import Spans, read
from edged.trace.timeline import write
from edged.tracer import Event, Tracer
from tests.conftest import TINY
from tests.daemon import DaemonProcess

SECONDS = 5
CLOCKS = 1000.0
"""Microseconds that a runtime's clock may be off"""
PHASES = {"X", "i", "C", "M", "s", "t", "f"}


@dataclass(frozen=True)
class Traced:
    """A trace of the first sentences of the recording."""

    printed: str
    document: dict[str, Any]
    events: list[Event]
    """Of its file"""
    recording: Path

    def row(self, event: Event) -> str:
        """What a span's row is called."""
        [name] = {
            e.args["name"]
            for e in self.events
            if e.name == "thread_name" and (e.pid, e.tid) == (event.pid, event.tid)
        }
        return str(name)

    @property
    def processes(self) -> dict[int, str]:
        return {e.pid: e.args["name"] for e in self.events if e.name == "process_name"}

    @property
    def rows(self) -> dict[tuple[int, int], list[Event]]:
        """The spans of each, in the order in which they began."""
        found = defaultdict(list)
        for event in sorted(self.events, key=lambda event: (event.ts, -event.end)):
            if event.ph == "X":
                found[event.pid, event.tid].append(event)
        return found


@pytest.fixture(scope="module")
def traced(speech: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Traced:
    folder = tmp_path_factory.mktemp("trace")
    recording = folder / "said.wav"
    soundfile.write(recording, speech[: SECONDS * 16000], 16000, subtype="PCM_16")
    done = edged("trace", str(recording), "--model", TINY, cwd=folder)
    assert done.returncode == 0, done.stderr
    document = json.loads((folder / "said.trace.json").read_text())
    events = msgspec.convert(document["traceEvents"], list[Event])
    return Traced(done.stdout, document, events, recording)


def edged(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edged", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def spans(traced: Traced) -> Spans:
    return Spans(sorted(traced.events, key=lambda event: event.ts))


def test_it_is_a_trace_as_chrome_and_perfetto_read_it(traced: Traced) -> None:
    assert traced.document["displayTimeUnit"] == "ms"
    for event in traced.document["traceEvents"]:
        assert event["ph"] in PHASES
        assert isinstance(event["name"], str)
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        if event["ph"] != "M":
            assert event["ts"] > 0
        if event["ph"] == "X":
            assert event["dur"] >= 0
        if event["ph"] in "stf":
            assert event["cat"]
            assert event["id"] > 0


def test_each_process_and_row_has_a_name(traced: Traced) -> None:
    assert sorted(traced.processes.values()) == ["capture", "client", "daemon", "worker"]
    order = [e for e in traced.events if e.name == "process_sort_index"]
    shown = [traced.processes[e.pid] for e in sorted(order, key=lambda e: e.args["sort_index"])]
    assert shown == ["capture", "worker", "daemon", "client"]
    for row in traced.rows.values():
        assert traced.row(row[0])


def test_spans_of_a_row_lie_inside_or_behind_each_other(traced: Traced) -> None:
    for row in traced.rows.values():
        open_until: list[float] = []
        for event in row:
            while open_until and open_until[-1] <= event.ts:
                open_until.pop()
            assert not open_until or event.end <= open_until[-1], event
            open_until.append(event.end)


def test_every_stage_is_there(traced: Traced) -> None:
    names = {event.name for event in traced.events}
    assert {"block", "take audio", DETECTION, PARTIAL, FINAL} <= names
    assert {"encode", "encoder", "decode", "decoder", "words"} <= names
    assert {"report working", "report began", "report heard", "report said"} <= names
    assert {"take said", "publish final", "send final", "receive final"} <= names
    assert {"take heard", "publish partial", "send partial", "receive partial"} <= names
    assert {"speech", "silence", "lag", "level", "ring"} <= names


def test_all_of_the_sound_is_seen(traced: Traced) -> None:
    found = spans(traced)
    assert max(event.args["written"] for event in found.named("block")) == SECONDS * 16000
    judged = sum(event.args["windows"] for event in found.named(DETECTION))
    assert judged == SECONDS * 16000 // 512
    assert len(found.named(DETECTION)) < judged, "windows that come at once are one span"
    levels = [e.args["dB"] for e in traced.events if e.name == "level"]
    assert -100 < min(levels) < -40 < max(levels) < 0


def test_a_traced_engine_writes_what_any_other_writes(traced: Traced) -> None:
    folder = traced.recording.parent
    plain = edged("transcribe", str(traced.recording), "--model", TINY, cwd=folder).stdout
    texts = [journey.text for journey in finals(spans(traced)) if journey.text]
    assert texts
    assert " ".join(texts) == " ".join(plain.split())


def test_an_arrow_leads_from_the_end_of_speech_through_every_process(traced: Traced) -> None:
    arrows = defaultdict(list)
    for event in traced.events:
        if event.ph in "stf":
            arrows[event.id].append(event)
    assert len(arrows) == len(finals(spans(traced)))
    for arrow in arrows.values():
        assert [point.ph for point in arrow] == ["s", *"t" * (len(arrow) - 2), "f"]
        assert [point.ts for point in arrow] == sorted(point.ts for point in arrow)
        stations = [enclosing(traced, point) for point in arrow]
        assert stations[0] == "speech"
        assert stations[1:] == [
            *(FINAL, "report said", "take said"),
            *("publish final", "send final", "receive final"),
        ]


def enclosing(traced: Traced, point: Event) -> str:
    """The innermost span at a place, which a viewer binds an arrow to."""
    row = traced.rows[point.pid, point.tid]
    found = [event for event in row if event.ts <= point.ts <= event.end]
    return found[-1].name


def journeys(traced: Traced) -> list[Journey]:
    found = spans(traced)
    return [*finals(found), *partials(found)]


def test_the_parts_of_a_latency_add_up(traced: Traced) -> None:
    found = spans(traced)
    assert len(partials(found)) > 3
    for journey in journeys(traced):
        parts = latency(journey, found)
        whole = parts.pop(TOTAL)
        assert sum(parts.values()) == pytest.approx(whole, abs=0.001)
        assert all(part >= -0.001 for part in parts.values())
        assert work(journey, found)[TOTAL] >= parts["encoder"] + parts["decoder"] + parts["words"]


def test_the_latency_is_that_which_the_daemon_tells(traced: Traced) -> None:
    """The daemon counts until it has the report, and the trace until the socket has the event."""
    found = spans(traced)
    for journey in finals(found):
        parts = latency(journey, found)
        until_hub = parts[TOTAL] - parts["hub"] - parts["socket"]
        assert journey.published.args["latency"] * 1000 == pytest.approx(until_hub, abs=3.0)


def test_operators_lie_within_the_runs_of_their_graph(traced: Traced) -> None:
    found = spans(traced)
    rows = [row for row in traced.rows.values() if traced.row(row[0]).startswith(OPERATORS)]
    assert {traced.row(row[0]) for row in rows} == {f"{OPERATORS}encoder", f"{OPERATORS}decoder"}
    for graph in ("encoder", "decoder"):
        runs = found.named(graph)
        listed = [e for row in rows for e in row if traced.row(e) == OPERATORS + graph]
        assert not list(not_inside(listed, runs))
        assert sum(event.dur or 0 for event in listed) > 0.3 * sum(run.dur or 0 for run in runs)


def not_inside(events: Iterable[Event], runs: Iterable[Event]) -> Iterator[Event]:
    edges = [(run.ts - CLOCKS, run.end + CLOCKS) for run in runs]
    for event in events:
        if not any(start <= event.ts and event.end <= end for start, end in edges):
            yield event


def test_what_costs_most_is_told(traced: Traced) -> None:
    listed = operators(traced.events)
    assert len(listed) == 10
    costs = [int(row[3]) for row in listed]
    assert costs == sorted(costs, reverse=True)
    assert {row[0] for row in listed} == {"encoder", "decoder"}
    assert listed[0][1] in traced.printed
    assert f"{len(finals(spans(traced)))} finals" in traced.printed
    for name in ("endpoint silence", "queue", "encoder", "decoder", "words", "hub", "socket"):
        assert name in traced.printed


def test_a_daemon_can_be_traced_for_a_while(
    traced: Traced, start_daemon: Callable[..., DaemonProcess], tmp_path: Path
) -> None:
    """As fast as it goes, without operators, and compressed."""
    noted, output = tmp_path / "noted", tmp_path / "out.json.gz"
    source = f"fast:{traced.recording}"
    settings = {"trace_folder": noted, "trace_operators": 0}
    daemon = start_daemon("--source", source, "--model", TINY, **settings)
    daemon.wait(lambda: b'"report said"' in b"".join(f.read_bytes() for f in noted.iterdir()))
    assert daemon.stop() == 0
    done = edged("trace", str(noted), "--output", str(output), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    document = json.loads(gzip.decompress(output.read_bytes()))
    names = {event["name"] for event in document["traceEvents"]}
    assert {FINAL, "decoder", "report said", "silence"} <= names
    assert " finals" in done.stdout
    assert not any(OPERATORS in str(event.get("args")) for event in document["traceEvents"])


def test_nothing_is_watched_that_is_not_traced() -> None:
    code = "import sys, edged.run, edged.engine.worker, edged.audio.capture, edged.offline;"
    code += "print([m for m in sys.modules if 'trac' in m and m.startswith('edged')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.wav"], "nowhere.wav"),
        (["{here}"], "There is nothing in"),
        (["{recording}", "--output", "/nowhere/x.json"], "Name another file: --output"),
        (["{recording}", "--model", "no-such"], "no-such"),
    ],
)
def test_a_mistake_is_one_line(
    traced: Traced, tmp_path: Path, arguments: list[str], said: str
) -> None:
    given = [a.format(here=tmp_path, recording=traced.recording) for a in arguments]
    done = edged("trace", *given, cwd=tmp_path)
    assert done.returncode != 0
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_process_that_was_killed_leaves_what_it_did(tmp_path: Path) -> None:
    tracer = Tracer(tmp_path, "capture")
    tracer.counter("level", "dB", -30)
    [file] = tmp_path.iterdir()
    whole = '{"ph":"X","name":"block","pid":1,"tid":1,"ts":1,"dur":1,"args":{"written":512}}\n'
    file.write_bytes(file.read_bytes() + (whole + whole[: len(whole) // 2]).encode())
    assert [event.name for event in read(tmp_path)] == ["process_name", "block", "level"]


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    block = Event(ph="X", name="block", pid=1, tid=1, ts=1, dur=1, args={"written": 512})
    (tmp_path / "file").touch()
    with pytest.raises(EdgedError, match=r"Set trace\.folder"):
        Tracer(tmp_path / "file" / "folder", "worker")
    with pytest.raises(EdgedError, match="cannot be written"):
        write([block], tmp_path)


def test_a_level_is_that_of_the_block() -> None:
    assert level_of(np.ones(512, np.float32)) == 0.0
    assert level_of(np.full(512, 0.1, np.float32)) == pytest.approx(-20, abs=0.1)
    assert level_of(np.zeros(512, np.float32)) == -100.0
    assert level_of(np.zeros(0, np.float32)) == -100.0
