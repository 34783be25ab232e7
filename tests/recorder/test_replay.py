"""A real daemon records itself; what it wrote is written again."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from edged.messages import Final, Gap, Guessed, Introduced, Judged, Mute, Partial, Playback, Said
from edged.recorder.lines import Line, Sound, decode_line
from edged.recorder.plan import plan, utterances
from edged.recorder.recording import read
from edged.recorder.tape import segments
from edged.replay import Result, Wish, wanted
from tests.client import recognize, silence, texts
from tests.conftest import BASE, TINY
from tests.daemon import DaemonProcess

RATE, WINDOW = 16000, 512
FLAGS = ("--model", TINY)


def replay(*arguments: object) -> tuple[int, Any]:
    """Exit code and JSON, or the complaint."""
    command = [sys.executable, "-m", "edged", "replay", *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr


def recorded(folder: Path) -> list[Line]:
    return [
        decode_line(line)
        for path in segments(folder)
        for line in path.read_bytes().splitlines()[1:]
    ]


def said(folder: Path) -> list[Said]:
    return [line.what for line in recorded(folder) if isinstance(line.what, Said)]


@pytest.fixture(scope="module")
def flight(tmp_path_factory: pytest.TempPathFactory, speech: np.ndarray) -> Path:
    """What is left of 21 s of speech, with a worker killed half-way."""
    folder = tmp_path_factory.mktemp("flight")
    halves = folder / "first.pcm", folder / "second.pcm"
    pcm = np.round(speech[: 21 * RATE] * 32767).astype("<i2")
    for path, samples in zip(halves, np.array_split(pcm, 2), strict=True):
        samples.tofile(path)
    killed = folder / "killed"
    waiting = f"until [ -e {killed} ]; do sleep 0.05; done"
    flags = (*FLAGS, "--source", f"program:cat {halves[0]}; {waiting}; cat {halves[1]}")
    daemon = DaemonProcess(folder, flags, {"recorder_enabled": 1})
    ring = folder / "recordings"
    daemon.wait(lambda: len(said(ring)) >= 2)
    daemon.worker().kill()
    killed.touch()
    daemon.wait(lambda: len(said(ring)) >= 5)
    assert daemon.stop() == 0
    return ring


@pytest.fixture(scope="module")
def incident(tmp_path_factory: pytest.TempPathFactory, recording: Path) -> Path:
    """What is left of a session at the pace of time: muted for a while, deaf to its own voice for
    another, killed in the middle of a sentence."""
    folder = tmp_path_factory.mktemp("incident")
    flags = (*FLAGS, "--source", f"file:{recording}")
    daemon = DaemonProcess(folder, flags, {"recorder_enabled": 1})
    ring = folder / "recordings"
    daemon.wait(lambda: said(ring))
    daemon.post("/v1/microphone", {"muted": True})
    time.sleep(0.7)
    muted = read(ring).tracks[0].end
    time.sleep(0.7)
    assert read(ring).tracks[0].end == muted, "something was recorded while it was muted"
    daemon.post("/v1/microphone", {"muted": False})
    time.sleep(0.7)
    daemon.post("/v1/playback", {})
    time.sleep(1.0)
    daemon.post("/v1/playback", {"state": "stopped"})
    count = len(said(ring))
    daemon.wait(lambda: len(said(ring)) > count)
    time.sleep(1.3)
    daemon.process.kill()
    (folder / "killed").write_text(str(time.monotonic()))
    daemon.process.wait()
    return ring


def test_every_decision_is_there_with_the_audio_clock(flight: Path) -> None:
    lines = recorded(flight)
    finals = [line.what for line in lines if isinstance(line.what, Final)]
    raw = [line.what for line in lines if isinstance(line.what, Said)]
    assert [final.text for final in finals] == [one.text for one in raw]
    assert {one.reason for one in raw} <= {"early", "late", "limit", "mark"}
    assert all(line.sample >= one.decided for line in lines if isinstance(one := line.what, Said))
    guesses = [line.what for line in lines if isinstance(line.what, Guessed)]
    assert all(guess.seconds > 0 for guess in guesses)
    judged = [line.what for line in lines if isinstance(line.what, Judged)]
    assert all((one.end - one.start) // WINDOW == len(one.probabilities) for one in judged)
    assert np.mean([p for one in judged for p in one.probabilities if one.start > RATE]) > 0.5
    openings = [line.what for line in lines if isinstance(line.what, Introduced)]
    assert len(openings) == 2
    assert openings[0].model == openings[1].model != ""
    assert {one.encoding for line in lines if isinstance(one := line.what, Sound)} == {"s16le"}


def test_a_replay_comes_out_the_same(flight: Path) -> None:
    code, result = replay(flight)
    assert code == 0, result
    assert result["differences"] == result["warnings"] == []
    assert result["utterances"] == len({one.start for one in said(flight)}) >= 5
    assert result["unheard"] == 0


def test_another_rule_shows_what_it_changes(flight: Path) -> None:
    code, result = replay(flight, "--silence", 0.2, "--early-silence", 0.2)
    assert code == 1
    assert {"end", "text", "new"} <= {one["what"] for one in result["differences"]}
    text = next(one for one in result["differences"] if one["what"] == "text")
    assert text["recorded"].startswith(text["replayed"].rstrip("."))


def test_what_has_lost_its_audio_is_not_compared(flight: Path, tmp_path: Path) -> None:
    """The ring has given up the beginning; the header says how the stream was opened."""
    folder = tmp_path / "rest"
    shutil.copytree(flight, folder)
    [path] = segments(folder)
    first, *lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    opened = next(line["what"] for line in lines if line["what"]["type"] == "introduced")
    first["streams"] = [{"stream": 1, "name": "microphone", "introduced": opened}]
    lines = [line for line in lines if line["what"]["type"] not in {"opened", "introduced"}]
    sound = next(line["what"] for line in lines if line["what"]["type"] == "sound")
    gone = sound["ends"].pop(0)
    sound.update(start=gone, at=sound["at"] + 2 * gone)
    path.write_text("".join(json.dumps(line) + "\n" for line in [first, *lines]))
    [track] = read(folder).tracks
    assert track.holes() == [(0, gone)]
    runs, unheard = plan(track, lambda _utterance: True)
    assert unheard > 0
    assert unheard + sum(len(run.wanted) for run in runs) == len(list(utterances(track)))
    assert all(run.begin >= gone for run in runs)


def test_a_mistake_is_one_line(flight: Path) -> None:
    code, complaint = replay(flight, "--model", "moonshine-other")
    assert (code, complaint.count("\n"), "moonshine-other" in complaint) == (3, 1, True)
    code, complaint = replay(flight, "--from", "noon")
    assert (code, complaint.count("\n"), "'noon' is no time" in complaint) == (2, 1, True)
    code, complaint = replay(flight, "--from", "10000")
    assert (code, complaint.count("\n"), "no utterance" in complaint) == (2, 1, True)


def test_killed_at_any_time_it_has_all_but_the_last_second(incident: Path) -> None:
    killed = float((incident.parent / "killed").read_text())
    lines = recorded(incident)
    assert killed - lines[-1].clock < 1.1
    assert {Guessed, Partial} <= {type(line.what) for line in lines}
    assert {one.final for line in lines if isinstance(one := line.what, Guessed)} == {True, False}


def test_muted_and_gated_stretches_are_told_apart(incident: Path) -> None:
    lines = recorded(incident)
    muted, own_voice = [line.what for line in lines if isinstance(line.what, Gap)]
    assert (muted.reason, own_voice.reason) == ("muted", "playback")
    mutes = [line for line in lines if isinstance(line.what, Mute)]
    assert [line.what.muted for line in mutes if isinstance(line.what, Mute)] == [True, False]
    assert mutes[0].sample == pytest.approx(muted.start * RATE, abs=RATE)
    states = [line.what.state for line in lines if isinstance(line.what, Playback)]
    assert states == ["started", "stopped"]
    [track] = read(incident).tracks
    end = track.gap_at(round(muted.start * RATE) + WINDOW)
    assert end == pytest.approx(muted.end * RATE, abs=RATE / 1000)
    assert track.gap_at(round(own_voice.start * RATE) + WINDOW) is None


def test_what_was_left_after_the_kill_is_replayed_too(incident: Path) -> None:
    code, result = replay(incident)
    assert code == 0, result
    assert result["utterances"] == len(said(incident)) >= 3


def test_a_time_chooses_what_is_replayed(incident: Path) -> None:
    recording = read(incident)
    [track] = recording.tracks
    first, *rest = utterances(track)
    start = recording.time_of(track.session, first.line, first.said.start)
    moment = str(start + 1 - recording.began)
    assert len(wanted(recording, Wish(until=moment), Result())[0].wanted) == 1
    later = wanted(recording, Wish(since=moment), Result())
    assert sum(len(run.wanted) for run in later) == len(rest)
    stamp = datetime.fromtimestamp(start + 1).isoformat()
    assert recording.moment(stamp) == pytest.approx(start + 1, abs=0.001)
    assert recording.moment(stamp.partition("T")[2]) == pytest.approx(start + 1, abs=0.001)


@pytest.mark.long
def test_every_rung_replays_what_it_wrote(
    start_daemon: Callable[..., DaemonProcess], recording: Path
) -> None:
    """Moved down and up in the middle of speech."""
    flags = ("--model", BASE, "--source", f"file:{recording}")
    daemon = start_daemon(*flags, recorder_enabled=1)
    folder = daemon.folder / "recordings"
    for action in ("demote", "promote"):
        count = len(said(folder))
        daemon.wait(lambda count=count: len(said(folder)) > count)
        moves = daemon.get("/v1/engine")[1]["moves"]
        daemon.post("/v1/engine", {"action": action})
        daemon.wait(lambda moves=moves: daemon.get("/v1/engine")[1]["moves"] > moves)
    daemon.wait(lambda: daemon.get("/v1/health")[1]["microphone"]["state"] == "ended")
    daemon.stop()
    openings = [line.what for line in recorded(folder) if isinstance(line.what, Introduced)]
    assert [opening.rung.model for opening in openings] == [BASE, TINY, BASE]
    code, result = replay(folder)
    assert code == 0, result
    assert result["utterances"] >= 7


@pytest.mark.long
def test_clients_streams_are_recorded_where_that_is_wished(
    start_daemon: Callable[..., DaemonProcess], speech: np.ndarray
) -> None:
    daemon = start_daemon(*FLAGS, "--no-microphone", recorder_enabled=1, recorder_clients=1)
    heard = recognize(daemon.url, np.concatenate([speech[: 5 * RATE], silence(1)]))
    daemon.stop()
    folder = daemon.folder / "recordings"
    [track] = read(folder).tracks
    assert track.name.startswith("stream-")
    assert [one.text for one in said(folder) if one.text] == [text for text in texts(heard) if text]
    assert replay(folder, "--stream", track.name)[0] == 0


@pytest.mark.long
def test_clients_streams_are_not_recorded_by_themselves(
    start_daemon: Callable[..., DaemonProcess], speech: np.ndarray
) -> None:
    daemon = start_daemon(*FLAGS, "--no-microphone", recorder_enabled=1)
    recognize(daemon.url, speech[: 2 * RATE])
    daemon.stop()
    assert not list(segments(daemon.folder / "recordings"))


@pytest.mark.long
def test_a_disk_that_takes_nothing_disturbs_nobody(
    start_daemon: Callable[..., DaemonProcess], recording: Path
) -> None:
    """No file may grow for a while: what a full disk does, but to this process alone."""
    daemon = start_daemon(*FLAGS, "--source", f"file:{recording}", recorder_enabled=1)
    folder = daemon.folder / "recordings"
    process = psutil.Process(daemon.pid)
    daemon.wait(lambda: len(said(folder)) >= 1)
    _, hard = process.rlimit(resource.RLIMIT_FSIZE)
    process.rlimit(resource.RLIMIT_FSIZE, (1, hard))
    daemon.wait(lambda: any("recorder" in reason for reason in _reasons(daemon)))
    before = daemon.get("/v1/health")[1]["uptime"]
    process.rlimit(resource.RLIMIT_FSIZE, (hard, hard))
    daemon.wait(lambda: not any("recorder" in reason for reason in _reasons(daemon)))
    count = len(said(folder))
    daemon.wait(lambda: len(said(folder)) > count)
    assert daemon.get("/v1/health")[1]["uptime"] > before
    daemon.stop()
    assert any(b"dropped" in path.read_bytes() for path in segments(folder))
    code, result = replay(folder)
    assert code == 0, result
    assert all(path.stat().st_size for path in segments(folder))


def _reasons(daemon: DaemonProcess) -> list[str]:
    reasons: list[str] = daemon.get("/v1/health")[1]["reasons"]
    return reasons
