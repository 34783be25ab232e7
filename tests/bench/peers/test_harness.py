"""The harness, with a peer in a process of its own that answers at known times."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bench.corpus import RATE, Utterance
from bench.peers import phases, streams
from bench.peers.hearing import judge
from bench.peers.results import LASTING, Results
from bench.peers.systems import (
    ADAPTERS,
    Edged,
    EdgedRunning,
    MissingError,
    Peer,
    PeerRunning,
    Running,
    confined,
    cpu_seconds,
    pss_megabytes,
)
from edged.bench.client import Arrival, Exchange
from tests.conftest import TINY
from tests.test_layers import imports

FAKE = Path(__file__).with_name("fake.py")
PARTIAL_AFTER, FINAL_AFTER = 0.2, 0.3
"""Seconds that it waits after speech began, and after it ended"""
LATE = 0.4
"""What a busy machine may add, in seconds"""


@dataclass(frozen=True)
class Fake:
    name: str = "fake"
    weights: str = "none"
    streams: bool = True
    flags: tuple[str, ...] = ()

    def start(self, *, offline: bool = False, threads: int | None = None) -> Running:
        waits = ("--partial-after", str(PARTIAL_AFTER), "--final-after", str(FINAL_AFTER))
        command = [sys.executable, FAKE, *waits, *["--offline"] * offline, *self.flags]
        return PeerRunning(command)


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path / "peers.json", dict.fromkeys(LASTING, "x"), fresh=False)


@pytest.fixture(scope="module")
def peer() -> Iterator[Running]:
    started = Fake().start()
    yield started
    started.stop()


@pytest.fixture(autouse=True)
def short_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer here waits for less than others."""
    monkeypatch.setattr(phases, "SILENCE_SECONDS", 2 * FINAL_AFTER)


def tone(seconds: float = 0.6) -> np.ndarray:
    """A tone with silence before and after it."""
    tone = np.sin(np.arange(round(seconds * RATE)) * 0.2) * 10000 + 1
    return np.concatenate([np.zeros(4800), tone, np.zeros(1600)]).astype(np.int16)


def test_latencies_are_what_the_peer_waited_and_its_cost_is_counted(peer: Running) -> None:
    before = cpu_seconds(peer)
    heard = judge(tone(), phases.hear(peer, tone()))
    assert heard.first_partial == pytest.approx(PARTIAL_AFTER + LATE / 2, abs=LATE)
    assert heard.final == pytest.approx(FINAL_AFTER + LATE / 2, abs=LATE)
    assert (heard.finals, heard.text, heard.early) == (1, "one three", False)
    assert (heard.shown, heard.changed) == (3, 1)
    assert 0 < cpu_seconds(peer) - before < 1
    assert 5 < pss_megabytes(peer) < 200
    assert peer.model_bytes == FAKE.stat().st_size
    assert 0 < peer.ready_seconds < 30


def test_streams_are_heard_each_for_itself(peer: Running) -> None:
    pauses = np.zeros(round(0.6 * RATE), np.int16)
    samples = np.concatenate([tone(), pauses, tone(0.3), pauses])
    parts = [streams.Part(tone(), 0), streams.Part(tone(0.3), len(tone()) + len(pauses))]
    later = streams.Part(parts[0].samples, 8000)
    scripts = [
        streams.Script(samples, parts),
        streams.Script(np.concatenate([np.zeros(8000, np.int16), tone(), pauses]), [later]),
    ]
    exchanges = streams.speak(peer, scripts)
    heard = [streams.listen(s, e) for s, e in zip(scripts, exchanges, strict=True) if e]
    assert [[one.finals for one in stream] for stream in heard] == [[1, 1], [1]]
    for one in (one for stream in heard for one in stream):
        assert one.final == pytest.approx(FINAL_AFTER + LATE / 2, abs=LATE)


def test_a_recording_offline(tmp_path: Path, results: Results) -> None:
    soundfile.write(tmp_path / "a.wav", tone(), RATE)
    with phases.running(Fake(), results, offline=True) as started:
        assert started
        assert started.transcribe(tmp_path / "a.wav") == f"{len(tone())} samples"


def test_every_phase_of_a_peer(tmp_path: Path, results: Results) -> None:
    soundfile.write(tmp_path / "a.wav", tone(), RATE)
    said = Utterance(tmp_path / "a.wav", "a set", "one two")
    phases.paced([Fake()], results, [said])
    phases.offline([Fake()], results, [said], cores=1)
    heard = results.of("paced", "fake")["a set/a.wav"]
    assert (heard["text"], heard["reference"]) == ("one three", "one two")
    assert results.of("offline 1", "fake")["a set/a.wav"]["duration"] == len(tone()) / RATE


def test_what_was_measured_is_not_measured_again(tmp_path: Path, results: Results) -> None:
    assert results.once("paced", "fake", "a", lambda: 1) == 1
    again = Results(tmp_path / "peers.json", dict.fromkeys(LASTING, "x"), fresh=False)
    assert again.once("paced", "fake", "a", lambda: 2) == 1
    fresh = Results(tmp_path / "peers.json", dict.fromkeys(LASTING, "x"), fresh=True)
    assert fresh.once("paced", "fake", "a", lambda: 3) == 3


def test_results_of_another_version_are_not_gone_on_with(tmp_path: Path, results: Results) -> None:
    results.save()
    with pytest.raises(SystemExit, match=r"revision was x.*--fresh"):
        Results(tmp_path / "peers.json", dict.fromkeys(LASTING, "x") | {"revision": "y"}, False)


def test_a_peer_that_does_not_start_is_skipped_with_its_last_words(results: Results) -> None:
    with phases.running(Fake(flags=("--refuse",)), results) as started:
        assert started is None
    assert results.document["skipped"] == {"fake": "the model is not here"}


def test_a_peer_that_is_not_installed_says_how(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"python -m bench.peers install nobody"):
        Peer("a", "b", "nobody", "fake.py").start()


def test_a_peer_that_dies_is_no_measurement(results: Results) -> None:
    with phases.running(Fake(flags=("--die",)), results) as started:
        assert started
        with pytest.raises(RuntimeError, match="dies at the end"):
            started.open().finish()


def test_an_early_final_is_told_apart() -> None:
    event = {"type": "final", "utterance": 0, "text": "one", "start": 0.3, "end": 0.4}
    sent = [(len(tone()), 1.0)]
    heard = judge(tone(), Exchange([Arrival(1.2, event)], sent, 2.0))
    assert heard.early
    assert heard.final == pytest.approx(0.2)


def test_nothing_was_understood() -> None:
    heard = judge(tone(), Exchange([], [(len(tone()), 1.0)], 2.0))
    assert (heard.final, heard.first_partial, heard.finals, heard.text) == (None, None, 0, "")


def test_finals_that_never_come_are_late() -> None:
    lost = [0.1] * 18 + [float("inf")] * 2
    assert streams._percentile(lost, 95) is None
    assert streams._percentile(lost, 50) == 0.1
    assert not streams.kept({"p95": None})


def test_processes_are_confined_while_they_start() -> None:
    mine = os.sched_getaffinity(0)
    with confined(1):
        assert len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == mine


@pytest.mark.parametrize("adapter", sorted(ADAPTERS.glob("*.py")), ids=lambda path: path.stem)
def test_adapters_of_peers_know_nothing_of_edged(adapter: Path) -> None:
    ours = {name.partition(".")[0] for name, _ in imports(adapter)} & {"edged", "bench", "tests"}
    assert ours == ({"edged"} if adapter.stem == "own" else set())


def test_a_stream_that_edged_refuses_is_told_from_those_it_takes(
    speech: np.ndarray, results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGED_SERVER_MAX_STREAMS", "1")
    samples = (speech[: 2 * RATE] * 32767).astype(np.int16)
    script = streams.Script(samples, [streams.Part(samples, 0)])
    with phases.running(Edged("edged", "", TINY), results) as started:
        assert isinstance(started, EdgedRunning)
        taken, refused = streams.speak(started, [script, script])
        copied, model = started.copied(), started.model_bytes
    assert refused is None
    assert taken
    assert "It was the best" in streams.listen(script, taken)[0].text
    assert copied == pytest.approx(1.0, abs=0.1)
    assert 30e6 < model < 80e6
