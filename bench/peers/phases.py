"""What is measured of each system: alone on the machine, by turns with the others, and offline."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench import corpus
from bench.corpus import RATE, Utterance
from bench.peers.hearing import judge
from bench.peers.results import Results
from bench.peers.systems import (
    Edged,
    EdgedRunning,
    MissingError,
    Running,
    System,
    cpu_seconds,
    pss_megabytes,
)
from bench.soak.room import MICROPHONE, Room
from edged.bench import daemon, processes
from edged.bench.client import Exchange, Pacer, send_paced

SILENCE_SECONDS = 1.5
"""After each recording, longer than any endpoint waits"""
SETTLE_SECONDS = 2.0
IDLE_SECONDS = 8.0
STEADY_NOISE = "noise/dev/gsc_pink_noise.flac"
STARTS = 3
"""After a first one, which fills the page cache"""
REST_SECONDS = 0.2
"""After a recording, until what it caused has been done"""


@contextlib.contextmanager
def running(
    system: System, results: Results, *, offline: bool = False, threads: int | None = None
) -> Iterator[Running | None]:
    """A system that is ready, or None and a note of why not."""
    try:
        started = system.start(offline=offline, threads=threads)
    except MissingError as error:
        results.skip(system.name, str(error))
        print(f"{system.name}: skipped: {error}", flush=True)
        yield None
        return
    results.document["skipped"].pop(system.name, None)
    try:
        yield started
    finally:
        started.stop()


# -- alone ----------------------------------------------------------------------------------------


def alone(systems: Sequence[System], results: Results, spoken: Utterance, folder: Path) -> None:
    """Start, memory, and what idling costs, with no other system loaded."""
    noise = corpus.load(folder / STEADY_NOISE)
    for system in systems:
        if not results.of("alone", system.name).keys() >= {"ready", "memory", "silence", "noise"}:
            _alone(system, results, spoken, noise)
        if isinstance(system, Edged):
            results.once("alone", system.name, "microphone", partial(_microphone, system, noise))


def _alone(system: System, results: Results, spoken: Utterance, noise: np.ndarray) -> None:
    with running(system, results) as first:
        if first is None:
            return
    _starts(system, results)
    with running(system, results) as started:
        if started:
            _cost_of_nothing(system.name, started, results, spoken, noise)


def _starts(system: System, results: Results) -> None:
    def measure() -> list[float]:
        return [_start(system) for _ in range(STARTS)]

    results.once("alone", system.name, "ready", measure)


def _start(system: System) -> float:
    started = system.start()
    started.stop()
    return started.ready_seconds


def _cost_of_nothing(
    name: str, started: Running, results: Results, spoken: Utterance, noise: np.ndarray
) -> None:
    hear(started, corpus.load(spoken.path))
    results.once("alone", name, "silence", lambda: _idle(started, np.zeros(RATE, np.int16)))
    results.once("alone", name, "noise", lambda: _idle(started, noise))
    results.once("alone", name, "memory", lambda: pss_megabytes(started))
    results.once("alone", name, "model_bytes", lambda: started.model_bytes)
    print(f"{name}: {results.of('alone', name)}", flush=True)


def _idle(started: Running, sound: np.ndarray) -> float:
    """Percent of one core while a stream carries this and nobody speaks."""
    stream, pacer = started.open(), Pacer()
    send_paced(stream, np.resize(sound, round(SETTLE_SECONDS * RATE)), pacer)
    before, begun = cpu_seconds(started), time.monotonic()
    send_paced(stream, np.resize(sound, round(IDLE_SECONDS * RATE)), pacer)
    used, seconds = cpu_seconds(started) - before, time.monotonic() - begun
    stream.finish()
    return 100 * used / seconds


def _microphone(edged: Edged, noise: np.ndarray) -> dict[str, float]:
    """Percent of one core while its own microphone is open, as only edged has one: a source of
    PulseAudio. Nothing where there is no PulseAudio."""
    if shutil.which("pulseaudio") is None:
        return {}
    with (
        tempfile.TemporaryDirectory(prefix="edged-bench-") as folder,
        contextlib.closing(Room(Path(folder))) as room,
        room.heard(),
        daemon.running(edged.model, source=("--source", f"pulse:{MICROPHONE}")) as listener,
    ):
        listener.wait(lambda: _listens(listener))
        used = {"silence": _used(listener)}
        voice = room.speak(np.resize(noise, round((2 * SETTLE_SECONDS + IDLE_SECONDS) * RATE)))
        voice.start()
        used["noise"] = _used(listener)
        voice.join()
    return used


def _listens(listener: daemon.DaemonProcess) -> bool:
    return bool(listener.address.get("/v1/health")["microphone"]["state"] == "listening")


def _used(listener: daemon.DaemonProcess) -> float:
    time.sleep(SETTLE_SECONDS)
    return processes.cpu_percent(listener.pid, IDLE_SECONDS)


# -- at the pace of time --------------------------------------------------------------------------


def hear(started: Running, samples: np.ndarray) -> Exchange:
    """Let it hear an int16 recording and silence after it, at the pace of time."""
    stream = started.open()
    send_paced(stream, np.concatenate([samples, corpus.silence(SILENCE_SECONDS)]), Pacer())
    return stream.finish()


def paced(systems: Sequence[System], results: Results, chosen: Sequence[Utterance]) -> None:
    """Each recording by all systems, one after the other, each time another one first."""
    with contextlib.ExitStack() as stack:
        ready = [(system.name, stack.enter_context(running(system, results))) for system in systems]
        there = [(name, started) for name, started in ready if started]
        if not there:
            return
        for turn, utterance in enumerate(chosen):
            first = turn % len(there)
            for name, started in there[first:] + there[:first]:
                measure = _paced(started, utterance)
                heard = results.once("paced", name, key(utterance), measure)
                print(f"{turn + 1} {name}: {heard['final']} {heard['text']}", flush=True)
        for _, started in there:
            if isinstance(started, EdgedRunning) and (copied := started.copied()):
                results.document["copied"] = copied
                results.save()


def key(utterance: Utterance) -> str:
    return f"{utterance.set}/{utterance.path.name}"


def _paced(started: Running, utterance: Utterance) -> Callable[[], dict[str, Any]]:
    def measure() -> dict[str, Any]:
        samples = corpus.load(utterance.path)
        before = cpu_seconds(started)
        heard = judge(samples, hear(started, samples))
        time.sleep(REST_SECONDS)
        used = cpu_seconds(started) - before
        return {**heard.as_json(), "cpu": used, "reference": utterance.reference}

    return measure


# -- offline --------------------------------------------------------------------------------------


def offline(
    systems: Sequence[System],
    results: Results,
    chosen: Sequence[Utterance],
    cores: int | None,
) -> None:
    """Whole recordings as fast as it goes: with all cores, or confined to some and told so."""
    phase = f"offline {cores or 'all'}"
    for system in systems:
        left = [u for u in chosen if key(u) not in results.of(phase, system.name)]
        with running(system, results, offline=True, threads=cores) as started:
            if started is None or not left:
                continue
            started.transcribe(left[0].path)  # what it does only once is not its pace
            for utterance in left:
                results.once(phase, system.name, key(utterance), _offline(started, utterance))
            print(f"{phase} {system.name}: {len(chosen)} recordings", flush=True)


def _offline(started: Running, utterance: Utterance) -> Callable[[], dict[str, Any]]:
    def measure() -> dict[str, Any]:
        duration = len(corpus.load(utterance.path)) / RATE
        begun = time.monotonic()
        text = started.transcribe(utterance.path)
        seconds = time.monotonic() - begun
        said = {"text": text, "reference": utterance.reference}
        return {"duration": duration, "seconds": seconds, **said}

    return measure
