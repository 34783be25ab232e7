"""The command for real: what it measures is what is there."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest
import soundfile

from edged.bench import clips, concurrency, environment, plots, processes, result
from edged.bench.command import Bench
from edged.bench.daemon import Installation
from edged.bench.displays import Flicker
from edged.bench.hearing import Hearing, hear
from edged.bench.idle import pink_noise
from edged.bench.measure import MEASUREMENTS, parse_only
from edged.bench.result import LATENCY, Level, Observation, Result, Roofline, Series
from edged.engine.peaks import Peaks
from edged.engine.prove import GraphRate
from edged.errors import EdgedError
from tests.conftest import TINY, Said
from tests.daemon import DaemonProcess


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edged", "bench", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path, said: Said) -> Path:
    """A recording with what is said in it, and one without."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    soundfile.write(folder / "known.wav", said.samples, 16000, subtype="PCM_16")
    (folder / "known.txt").write_text(said.text)
    soundfile.write(folder / "unknown.flac", said.samples[: 3 * 16000], 16000)
    return folder


def test_recordings_of_ones_own_are_measured(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    flags = ("--model", TINY, "--audio", str(folder), "--only", "offline")
    done = bench(*flags, "--json", "--output", str(output))
    assert done.returncode == 0, done.stderr
    found = msgspec.json.decode(done.stdout, type=Result)
    assert found == result.read(output)
    assert found.rung is not None
    assert found.rung.model == TINY
    assert found.environment["cores"] == len(os.sched_getaffinity(0))
    assert {name: round(s) for name, s in found.recordings.items()} == {
        "known.wav": 9,
        "unknown.flac": 3,
    }
    speed, errors = found.of("offline recognition"), found.of("offline word errors")
    assert speed is not None
    assert errors is not None
    assert [one.of for one in speed.observations] == ["known.wav", "unknown.flac"]
    assert all(0 < one.value < 20 * one.weight for one in speed.observations)
    assert [(one.of, one.value) for one in errors.observations] == [("known.wav", 0)]
    same = bench("compare", str(output), f"{output},{output}")
    assert "offline recognition" in same.stdout
    assert "faster" not in same.stdout


def test_the_command_line_does_not_carry_it() -> None:
    names = "[name for name in sys.modules if name.startswith('edged.bench')]"
    code = f"import sys, edged.cli.bench; print({names})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_its_help_names_every_measurement() -> None:
    words = bench("--help").stdout.replace(",", " ").replace(".", " ").split()
    assert set(MEASUREMENTS) <= set(words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--only", "offline,speed"), "There is no measurement 'speed'; there are offline,"),
        (("--only", "start", "--model", "nobody"), "The daemon has left: "),
        (("compare", "/nowhere/a", "/nowhere/b"), "/nowhere/a cannot be read: No such file"),
    ],
)
def test_a_mistake_is_one_line(arguments: tuple[str, ...], words: str) -> None:
    done = bench(*arguments)
    lines = [line for line in done.stderr.splitlines() if "may be spoilt" not in line]
    assert done.returncode != 0
    assert len(lines) == 1
    assert words in lines[0]


def test_mistakes_have_codes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def code(act: Callable[[], object]) -> str:
        with pytest.raises(EdgedError) as caught:
            act()
        assert "\n" not in caught.value.message
        return caught.value.code

    def other(python: str) -> object:
        return environment.describe(Installation.of(Path(python)))

    (tmp_path / "a.wav").touch()
    soundfile.write(tmp_path / "b.wav", np.zeros(16000), 16000)
    assert code(lambda: parse_only("speed")) == "unknown_measurement"
    assert code(lambda: other("/nowhere/python")) == "no_edged"
    assert code(lambda: other("/bin/false")) == "no_edged"
    assert code(lambda: clips.of_folder(tmp_path / "nowhere")) == "no_recordings"
    assert code(lambda: clips.of_folder(tmp_path)) == "empty_audio"
    assert code(lambda: Bench(folder=tmp_path, format="gif")) == "bad_format"
    assert code(lambda: Bench(output=Path("/proc/nowhere/file"))) == "unwritable"
    assert code(lambda: result.read(tmp_path / "a.wav")) == "bad_result"
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert code(lambda: Bench(folder=tmp_path)) == "no_matplotlib"


def test_results_that_have_nothing_in_common(tmp_path: Path) -> None:
    for name in ("a", "b"):
        seen = [Series(name=name, unit="s", observations=[Observation("", 1.0)])]
        result.write(tmp_path / name, Result(time=0.0, environment={}, series=seen))
    with pytest.raises(EdgedError, match="no figure in common"):
        Bench().compare(str(tmp_path / "a"), str(tmp_path / "b"))


# -- what it is made of ---------------------------------------------------------------------------


def test_processor_time_and_memory_are_those_of_the_process() -> None:
    before, started = processes.cpu_time(os.getpid()), time.process_time()
    while time.process_time() - started < 0.2:
        pass
    used = processes.cpu_time(os.getpid()) - before
    assert used.all == pytest.approx(time.process_time() - started, abs=0.05)
    assert processes.memory_of(os.getpid()).pss == pytest.approx(
        psutil.Process().memory_full_info().pss / 1e6, rel=0.2
    )


def test_a_daemon_s_processes_are_told_apart(daemon: DaemonProcess) -> None:
    assert processes.worker_of(daemon.pid) == daemon.worker().pid
    assert daemon.worker().pid in processes.workers()
    first, *others = processes.memory(daemon.pid)
    assert processes.WORKER in {one.name for one in others}
    assert first.name != processes.WORKER


def test_what_should_be_said_of_a_busy_machine() -> None:
    cores = len(os.sched_getaffinity(0))
    busy = any("load average" in sentence for sentence in environment.spoilers())
    assert busy == (os.getloadavg()[0] > environment.QUIET_LOAD * cores)


def test_pink_noise_is_as_loud_as_it_should_be() -> None:
    noise = pink_noise(2.0) / 32768
    assert 10 * np.log10(np.mean(noise**2)) == pytest.approx(-40, abs=0.5)
    assert np.array_equal(noise, pink_noise(2.0) / 32768)


def test_who_is_made_to_wait_is_late(daemon: DaemonProcess, said: Said) -> None:
    """A final's time counts from when its last sample was due, not from when it could be sent."""
    samples = (said.samples[: 2 * 16000] * 32767).astype(np.int16)
    stopped = psutil.Process(daemon.pid)

    def hold() -> None:
        time.sleep(1.0)
        stopped.suspend()
        time.sleep(2.5)  # beyond the end of speech
        stopped.resume()

    thread = threading.Thread(target=hold)
    thread.start()
    heard = hear(daemon.url, "said", samples)
    thread.join()
    assert heard.final is not None
    assert heard.final > 1.2


def heard(final: float | None, finals: int = 1) -> Hearing:
    times = {"endpoint": [0.3], "decode": [0.1], "reported": [0.4], "intervals": [0.3]}
    return Hearing(
        name="a", duration=2.0, speech=1.5, final=final, first_partial=0.3, flicker=Flicker(),
        finals=finals, early=False, after_close=False, text="", broken=[], **times,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("finals", "troubles", "kept"),
    [
        ([heard(0.4)] * 20, [], True),
        ([heard(0.4)] * 18 + [heard(1.5)] * 2, [], False),
        ([heard(0.4)] * 19 + [heard(None, 0)], [], False),
        ([heard(0.4)] * 20, ["a stream was refused"], False),
        ([], ["a stream was refused"], False),
    ],
)
def test_a_level_is_kept_if_all_are_served_in_time(
    finals: list[Hearing], troubles: list[str], kept: bool
) -> None:
    level = concurrency.judge(20, finals, troubles)
    assert level.kept == kept
    assert bool(level.trouble) == (bool(troubles) or any(not one.finals for one in finals))


def everything() -> Result:
    generator = np.random.default_rng(5)
    values = [
        Observation(f"r{n}", float(v)) for n, v in enumerate(generator.lognormal(-1, 0.2, 30))
    ]
    megabytes = [
        Series(name=f"memory {when}{who}", unit="MB PSS", observations=[Observation("", 60.0)])
        for when in ("ready", "after speech")
        for who in ("", ", daemon", ", worker")
    ]
    latency = Series(name="streaming final", unit="s", statistics=LATENCY, observations=values)
    return Result(
        time=0.0,
        environment={"cpu": "a CPU", "cores": 2, "kernel": "6", "edged": "1"},
        recordings={"a": 2.0},
        series=[latency, *megabytes],
        levels=[
            Level(streams=2, kept=True, final_p50=0.3, final_p95=0.4),
            Level(streams=4, kept=False, trouble="a stream was refused"),
        ],
        roofline=Roofline(
            peaks=Peaks(measured_gigaflops=200.0, measured_gigabytes_per_second=10.0),
            graphs={
                "encoder": GraphRate(0.02, 100.0, 500.0),
                "decoder": GraphRate(0.02, 10.0, 2.0),
            },
        ),
    )


def test_what_a_graph_could_reach() -> None:
    found = everything().roofline
    assert found is not None
    assert found.roof(2.0) == (20.0, "memory")
    assert found.roof(500.0) == (200.0, "compute")


def test_all_is_shown_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Bench(folder=tmp_path / "plots").show(everything())
    shown = capsys.readouterr().out
    for words in ("streaming final", "memory ready, worker", "a stream was refused", "decoder"):
        assert words in shown
    drawn = sorted((tmp_path / "plots").iterdir())
    assert [path.stem for path in drawn] == sorted(plots.PICTURES)
    for path in drawn:
        assert xml.etree.ElementTree.parse(path).getroot().tag.endswith("svg")
    again = plots.draw(everything(), tmp_path / "again", "svg")
    assert sorted(path.read_bytes() for path in again) == sorted(
        path.read_bytes() for path in drawn
    )


# -- minutes --------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_quick_look_sees_everything(tmp_path: Path) -> None:
    output, folder = tmp_path / "result.json", tmp_path / "plots"
    started = time.monotonic()
    done = bench("--model", TINY, "--output", str(output), "--plots", str(folder))
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started < 240  # on a machine that has nothing else to do, 180
    found = result.read(output)
    measured = {series.name.partition(" ")[0] for series in found.series}
    told = {note.partition(":")[0] for note in found.notes}
    assert set(MEASUREMENTS) <= measured | (told & {"switch"})
    assert {path.stem for path in folder.iterdir()} == set(plots.PICTURES)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_two_installations_are_measured_by_turns(tmp_path: Path) -> None:
    """The other is this one again, through a program that knows nothing of our environment."""
    python = tmp_path / "python"
    script = (
        f'#!/bin/sh\nPYTHONPATH={os.environ.get("PYTHONPATH", "")} exec {sys.executable} "$@"\n'
    )
    python.write_text(script)
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    output = tmp_path / "result.json"
    flags = ("--model", TINY, "--only", "offline,start", "--rounds", "2")
    done = bench(*flags, "--against", str(python), "--json", "--output", str(output))
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    assert {d["name"] for d in answer["differences"]} >= {"offline recognition", "start"}
    for side, file in (("ours", output), ("theirs", tmp_path / "result.against.json")):
        kept = result.read(file)
        speed = kept.of("offline recognition")
        assert speed is not None
        assert {one.round for one in speed.observations} == {0, 1}
        assert answer[side]["rounds"] == 2
