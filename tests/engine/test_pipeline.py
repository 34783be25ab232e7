from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edged.engine.endpointer import Endpointing
from edged.engine.pipeline import IDLE_RESTART, Pipeline
from edged.messages import Began, Heard, Mark, Passed, Report, Said, Working
from edged.models.inventory import store
from edged.models.moonshine import Moonshine
from edged.models.silero import Silero
from tests.client import load, silence
from tests.conftest import BASE, TINY
from tests.engine.conftest import Listening, said

Listen = Callable[[np.ndarray], Listening]
RATE = 16000


@pytest.fixture
def spoken(speech: np.ndarray) -> np.ndarray:
    return np.concatenate([speech[: 14 * RATE], silence(1)])


def test_a_final_is_the_offline_decode_of_its_own_audio(
    listening: Listen, spoken: np.ndarray
) -> None:
    stream = listening(spoken)
    finals = stream.finals()
    assert len(finals) >= 3
    for final in finals:
        offline = stream.pipeline()._recognizer.transcribe(stream.ring.view(final.start, final.end))
        assert final.text == offline.text


def test_partials_do_not_change_the_finals(listening: Listen, spoken: np.ndarray) -> None:
    stream = listening(spoken)
    pipeline = stream.pipeline()
    finals: list[Said] = []
    partials = 0
    for written in range(0, stream.written, 4096):
        finals += said(pipeline.advance(written))
        partials += sum(isinstance(report, Heard) for report in pipeline.partial())
    finals += said(pipeline.advance(stream.written))
    assert partials > 10
    assert finals == stream.finals()


def test_a_pause_in_what_is_there_at_once_is_not_taken_for_an_end(
    listening: Listen, speech: np.ndarray
) -> None:
    samples = np.concatenate([speech[: 2 * RATE], silence(0.25), speech[2 * RATE : 5 * RATE]])
    stream = listening(np.concatenate([samples, silence(1)]))
    at_once = list(stream.pipeline().advance(stream.written))
    pipeline = stream.pipeline()
    as_it_comes = [
        report
        for written in range(0, stream.written + 1, 512)
        for report in pipeline.advance(written)
    ]
    assert said(at_once) == said(as_it_comes)
    assert tried(at_once) < tried(as_it_comes)


def tried(reports: list[Report]) -> int:
    """How often a final was computed, needed or not."""
    return sum(isinstance(report, Working) and report.final for report in reports)


def test_a_replay_from_any_resume_point_writes_the_same_finals(
    listening: Listen, spoken: np.ndarray
) -> None:
    stream = listening(spoken)
    finals = stream.finals()
    for number, final in enumerate(finals):
        floor = min(final.end, final.resume)
        assert stream.finals(final.resume, floor) == finals[number + 1 :]


def test_every_utterance_that_began_gets_one_final_and_they_do_not_overlap(
    listening: Listen, spoken: np.ndarray
) -> None:
    reports = list(listening(spoken).pipeline().advance(len(spoken)))
    began = [r.start for r in reports if isinstance(r, Began)]
    finals = said(reports)
    assert [final.start for final in finals] == began
    for one, two in itertools.pairwise(finals):
        assert one.end <= two.start


def test_a_mark_finishes_the_open_utterance_with_the_audio_that_is_there(
    listening: Listen, spoken: np.ndarray
) -> None:
    stream = listening(spoken)
    pipeline = stream.pipeline()
    at = 3 * RATE
    pipeline.mark(Mark(1, at, at))
    finals = said(pipeline.advance(at))
    assert len(finals) == 1
    assert finals[0].end <= at
    assert finals[0].resume == at
    assert pipeline.position == at
    assert not pipeline.speaking


def test_a_gap_is_jumped_over(listening: Listen, spoken: np.ndarray) -> None:
    stream = listening(spoken)
    pipeline = stream.pipeline()
    pipeline.mark(Mark(1, 3 * RATE, 5 * RATE))
    list(pipeline.advance(stream.written))
    assert all(not 3 * RATE < final.start < 5 * RATE for final in stream.finals(5 * RATE, 5 * RATE))


def test_silence_passes_checkpoints_and_says_nothing(listening: Listen) -> None:
    samples = silence(25)
    reports = list(listening(samples).pipeline().advance(len(samples)))
    assert [type(report) for report in reports] == [Passed, Passed]
    assert isinstance(reports[0], Passed)
    assert reports[0].position >= IDLE_RESTART


def test_noise_writes_no_words(listening: Listen) -> None:
    noise = np.random.default_rng(1).normal(0, 0.05, 20 * RATE).astype(np.float32)
    assert listening(noise).finals() == []


def test_endless_speech_is_cut_and_no_word_is_lost(
    listening: Listen, speech: np.ndarray, detector: object, recognizer: object
) -> None:
    """Without pauses to end it, an utterance is cut: the texts read as the uncut ones do."""
    stream = listening(speech)
    rules = replace(Endpointing(), late=10**9, early=10**9, long=10**9)
    pipeline = Pipeline(1, stream.ring.view, detector, recognizer, rules=rules)  # type: ignore[arg-type]
    pipeline.mark(Mark(1, stream.written, stream.written))
    finals = said(pipeline.advance(stream.written))
    assert len(finals) >= 2
    text = " ".join(final.text for final in finals).lower()
    for phrase in ("best of times", "age of wisdom", "spring of hope", "winter of despair"):
        assert text.count(phrase) == 1


def test_words_lie_inside_their_utterance_and_in_order(
    listening: Listen, spoken: np.ndarray
) -> None:
    stream = listening(spoken)
    for final in said(stream.pipeline(words=True).advance(stream.written)):
        assert " ".join(word.text for word in final.words) == final.text
        times = [time for word in final.words for time in (word.start, word.end)]
        assert times == sorted(times)
        assert final.start <= times[0]
        assert times[-1] <= final.end


@pytest.mark.corpus
@pytest.mark.parametrize("model", [TINY, BASE])
def test_noise_tracks_write_no_words(
    open_session: Any, detector: Silero, corpus: Path, model: str
) -> None:
    """Silence, machines, weather, music and human noises that are no speech."""
    recognizer = Moonshine(store().get(model), "int8", open_session)
    written = {}
    for line in (corpus / "noise_manifest.jsonl").read_text().splitlines():
        track = json.loads(line)
        if not track["contains_speech"]:
            samples = load(corpus / track["path"])
            finals = Listening(detector, recognizer, samples).finals()
            if texts := [final.text for final in finals if final.text]:
                written[track["id"]] = texts
    assert written == {}
