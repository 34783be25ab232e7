"""A soak: one daemon hears a script for an hour, by a microphone and by a client, while every 20
seconds something fails. Then an undisturbed daemon hears the same, and the words are compared.

    python -m bench.soak --write          an hour, to docs/soak.json and docs/soak.svg
    python -m bench.soak --minutes 5      a shorter one, shown only

Needs root (to fill a small disk of its own), PulseAudio and a C compiler.
"""

from __future__ import annotations

import argparse
import pickle
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bench import corpus, report
from bench.soak import faults, plot
from bench.soak.judge import judge
from bench.soak.room import MICROPHONE, Room
from bench.soak.script import Script, write
from bench.soak.talkers import Client, Follower, Notes, Word
from bench.soak.watch import Sample, Watch
from edged.bench.client import exchange
from edged.bench.daemon import running
from edged.bench.figures import percentile
from tests.daemon import DaemonProcess

MODEL = "moonshine-tiny-en"
RUNG = {
    "engine_provider": "onnxruntime",
    "engine_device": "cpu",
    "engine_precision": "int8",
    "engine_fallback": "fail",
}
"""One rung, so that texts can be compared"""
WARM_UP_SECONDS = 300.0
"""Left out of the slopes: allocators and caches fill"""
COURSE = ("samples", "lags", "fault_times")
"""What is drawn"""
SHIFT_SAMPLES = 137
"""What an undisturbed run is delayed by, to see how much chance there is in words"""


def main() -> None:
    options = _parse()
    document = report.begin()
    script = write(options.minutes, options.corpus)
    print(f"{script.seconds / 60:.1f} min, {len(script.blocks)} blocks of speech", flush=True)
    with tempfile.TemporaryDirectory(prefix="edged-soak-") as folder:
        course = _run(Path(folder), script, options)
    if options.raw:
        options.raw.write_bytes(pickle.dumps(course))
    expected, again = _undisturbed(script)
    document["soak"] = _result(script, course, expected, again)
    _print(document["soak"])
    if options.write:
        report.finish(_summary(document), corpus.ROOT / "docs" / "soak.json")
        plot.draw(document, corpus.ROOT / "docs" / "soak.svg")
    report.finish(document, options.output)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="wall time (60)")
    parser.add_argument("--fault-every", type=float, default=20.0, help="seconds (20)")
    parser.add_argument("--every", type=float, default=10.0, help="seconds between samples (10)")
    parser.add_argument("--corpus", type=Path, default=corpus.FOLDER, help="folder of the corpus")
    parser.add_argument("--output", type=Path, help="write the results as JSON to this file")
    parser.add_argument("--write", action="store_true", help="write them and a plot to docs/")
    parser.add_argument("--raw", type=Path)
    return parser.parse_args()


# -- the run --------------------------------------------------------------------------------------


def _run(folder: Path, script: Script, options: argparse.Namespace) -> dict[str, Any]:
    room = Room(folder / "room")
    clock = folder / "clock"
    with faults.small_disk(folder / "disk") as disk:
        settings = {**RUNG, "state_dir": disk}
        with room.heard(), faults.clock_of_its_own(clock):
            flags = ("--model", MODEL, "--source", f"pulse:{MICROPHONE}")
            daemon = DaemonProcess(folder / "daemon", flags, settings)
        try:
            daemon.wait_ready()
            return _hear(daemon, room, disk, clock, script, options)
        finally:
            daemon.stop()
            room.close()


def _hear(
    daemon: DaemonProcess,
    room: Room,
    disk: Path,
    clock: Path,
    script: Script,
    options: argparse.Namespace,
) -> dict[str, Any]:
    follower, client = Follower(daemon.url), Client(daemon.url, script.samples)
    watch = Watch(daemon, options.every)
    voice = room.speak(script.samples)
    stage = faults.Stage(daemon, client, room, disk, clock)
    injected = faults.Faults(stage, options.fault_every, watch.look)
    started = time.monotonic()
    for thread in (follower, watch, voice, client, injected):
        thread.start()
    voice.join()
    injected.stop()
    client.join(180)
    time.sleep(5)  # the microphone's last final
    watch.stop()
    return {
        "started": started,
        "voice": voice.started,
        "microphone": follower.notes,
        "client": client.notes,
        "faults": injected.happened,
        "problems": injected.problems,
        "samples": watch.samples,
        "stored": _stored(daemon),
        "health": daemon.get("/v1/health")[1],
        "log": daemon.complaints(),
    }


def _stored(daemon: DaemonProcess) -> list[int]:
    """The numbers of all finals in the store."""
    numbers: list[int] = []
    cursor = ""
    while True:
        _, page = daemon.get(f"/v1/transcripts?limit=1000{cursor}")
        numbers += [transcript["id"] for transcript in page["transcripts"]]
        if page["cursor"] is None:
            return numbers
        cursor = f"&cursor={page['cursor']}"


def _undisturbed(script: Script) -> tuple[list[Word], list[Word]]:
    """What is understood when nothing fails, twice: the second time a few milliseconds later."""
    with running(MODEL, RUNG) as daemon:
        first = _words(daemon, script.samples)
        late = np.concatenate([np.zeros(SHIFT_SAMPLES, np.int16), script.samples])
        return first, _words(daemon, late)


def _words(daemon: DaemonProcess, samples: np.ndarray) -> list[Word]:
    finals = exchange(daemon.url, samples, words=True).of_type("final")
    return [Word(w["start"], w["word"]) for final in finals for w in final.event["words"] or ()]


# -- the result -----------------------------------------------------------------------------------


def _result(
    script: Script, course: dict[str, Any], expected: list[Word], again: list[Word]
) -> dict[str, Any]:
    microphone, client = course["microphone"], course["client"]
    started = course["started"]
    samples: list[Sample] = course["samples"]
    stored = course["stored"]
    given = sorted({*microphone.ids, *client.ids})
    return {
        "minutes": script.seconds / 60,
        "faults": Counter(fault.kind for fault in course["faults"]),
        "not_injected": course["problems"],
        "words": {
            "undisturbed, again": asdict(judge(expected, again, script.blocks)),
            "client": asdict(judge(expected, client.words, script.blocks, client.gaps)),
            "microphone": asdict(
                judge(expected, microphone.words, script.blocks, microphone.gaps, course["voice"])
            ),
        },
        "gaps": {
            name: Counter(reason for _, _, reason in notes.gaps)
            for name, notes in (("client", client), ("microphone", microphone))
        },
        "connections": client.connections,
        "errors": microphone.errors + client.errors,
        "finals": {"client": client.finals, "microphone": microphone.finals},
        "store": {
            "finals": len(given),
            "missing": len(set(given) - set(stored)),
            "in_order": stored == sorted(stored),
        },
        "memory": _memory(samples, started),
        "held": _held(samples, started),
        "lag": {
            "client": _lags(client, started),
            "microphone": _lags(microphone, started),
        },
        "health": course["health"],
        "complaints": Counter(line.split(" ", 1)[-1][:60] for line in course["log"]),
        "fault_times": [(round(f.at - started, 1), f.kind) for f in course["faults"]],
        "samples": [{**asdict(s), "at": round(s.at - started, 1)} for s in samples],
        "lags": {
            name: [(round(at - started, 1), round(lag, 3)) for at, lag in notes.lags]
            for name, notes in (("client", client), ("microphone", microphone))
        },
    }


def _summary(document: dict[str, Any]) -> dict[str, Any]:
    """Without the course of it, which the picture shows, and every single word."""
    soak = {k: v for k, v in document["soak"].items() if k not in {*COURSE, "words"}}
    words = {
        name: {k: v if k == "holes" or isinstance(v, int) else len(v) for k, v in judged.items()}
        for name, judged in document["soak"]["words"].items()
    }
    return {"environment": document["environment"], "soak": {**soak, "words": words}}


def _settled(samples: list[Sample], started: float) -> list[Sample]:
    """After warm-up, before each kill of a worker: the same moment of each round of faults."""
    settled = [s for s in samples if s.before == "worker killed"]
    warm = [s for s in settled if s.at - started >= WARM_UP_SECONDS]
    return warm if len(warm) >= 3 else settled


def _memory(samples: list[Sample], started: float) -> dict[str, Any]:
    settled = _settled(samples, started)
    names = sorted({name for sample in settled for name in sample.memory})
    found = {name: _trend(settled, lambda s, name=name: s.memory.get(name, 0.0)) for name in names}
    return {**found, "all": _trend(settled, lambda s: sum(s.memory.values()))}


def _held(samples: list[Sample], started: float) -> dict[str, Any]:
    settled = _settled(samples, started)
    return {
        "descriptors": _trend(settled, lambda s: s.descriptors),
        "threads": _trend(settled, lambda s: s.threads),
        "processes": _trend(settled, lambda s: s.processes),
    }


def _trend(samples: list[Sample], of: Any) -> dict[str, float | None]:
    return _slope([s.at for s in samples], [of(s) for s in samples])


def _lags(notes: Notes, started: float) -> dict[str, float | None]:
    lags = [lag for _, lag in notes.lags]
    percentiles = {f"p{p}": percentile(lags, p) for p in (50, 90, 99)}
    halves = [
        percentile([lag for at, lag in notes.lags if (at < _middle(notes)) == early], 50)
        for early in (True, False)
    ]
    trend = _slope([at for at, _ in notes.lags], lags)
    return {**percentiles, "p50_first_half": halves[0], "p50_second_half": halves[1], **trend}


def _middle(notes: Notes) -> float:
    return (notes.lags[0][0] + notes.lags[-1][0]) / 2 if notes.lags else 0.0


def _slope(times: list[float], values: list[float]) -> dict[str, float | None]:
    """First, last, and growth in an hour by least squares, with its standard error."""
    if len(values) < 3:
        return {"first": None, "last": None, "per_hour": None, "error": None}
    hours = (np.array(times) - times[0]) / 3600
    (slope, level), covariance = np.polyfit(hours, values, 1, cov="unscaled")
    spread = np.array(values) - (level + slope * hours)
    error = np.sqrt(covariance[0, 0] * (spread @ spread) / max(1, len(values) - 2))
    return {
        "first": float(values[0]),
        "last": float(values[-1]),
        "per_hour": float(slope),
        "error": float(error),
    }


# -- what is shown --------------------------------------------------------------------------------


def _print(result: dict[str, Any]) -> None:
    faults_ = ", ".join(f"{count} times {kind}" for kind, count in result["faults"].items())
    print(f"\n{result['minutes']:.1f} min; {faults_}")
    rows = [
        (
            name, j["expected"], j["equal"], j["in_gaps"], len(j["missing"]), len(j["holes"]),
            len(j["changed"]), j["added"], j["outside"],
        )
        for name, j in result["words"].items()
    ]  # fmt: skip
    head = ("", "words", "equal", "in gaps", "missing", "holes", "changed", "added", "in noise")
    report.print_table("against the undisturbed run", head, rows)
    rows = [
        (name, trend["first"], trend["last"], trend["per_hour"], trend["error"])
        for name, trend in {**result["memory"], **result["held"]}.items()
    ]
    report.print_table("settled", ("MB, or count", "first", "last", "an hour", "+-"), rows)
    rows = [
        (name, *(lag[k] for k in ("p50", "p90", "p99", "p50_first_half", "p50_second_half")))
        for name, lag in result["lag"].items()
    ]
    head = ("", "p50", "p90", "p99", "p50 first half", "p50 second half")
    report.print_table("seconds from the end of speech to its final", head, rows)
    print(f"\nstore: {result['store']}; gaps: {result['gaps']}; errors: {result['errors']}")
    for line, count in result["complaints"].items():
        print(f"  {count} x {line}")


if __name__ == "__main__":
    main()
