from __future__ import annotations

import random

import pytest

from edged.engine.endpointer import Endpointer, Endpointing, Turn, rules
from edged.messages import Turns

WINDOW = 512
RULES = Endpointing()


def turns(endpointer: Endpointer, probabilities: list[float]) -> list[Turn]:
    return [endpointer.feed(p) for p in probabilities]


def fresh(position: int = 0, floor: int = 0) -> Endpointer:
    return Endpointer(RULES, WINDOW, position, floor)


def windows(samples: int) -> int:
    return samples // WINDOW


def test_silence_begins_nothing() -> None:
    endpointer = fresh()
    assert set(turns(endpointer, [0.0, 0.4, 0.49] * 20)) == {Turn.NOTHING}
    assert not endpointer.speaking


def test_one_loud_window_is_a_click_and_two_are_speech() -> None:
    assert Turn.BEGAN not in turns(fresh(), [0.9, 0.0, 0.9, 0.0])
    assert turns(fresh(), [0.9, 0.9])[-1] is Turn.BEGAN


def test_an_utterance_begins_before_its_onset_but_never_before_the_floor() -> None:
    early = fresh()
    turns(early, [0.0] * 40 + [0.9] * 2)
    assert early.start == 40 * WINDOW - RULES.preroll
    late = fresh(position=0, floor=38 * WINDOW)
    turns(late, [0.0] * 40 + [0.9] * 2)
    assert late.start == 38 * WINDOW


def test_steps_of_silence_come_once_each_and_in_order() -> None:
    endpointer = fresh()
    turns(endpointer, [0.9] * 10)
    quiet = turns(endpointer, [0.0] * windows(RULES.late))
    steps = [turn for turn in quiet if turn is not Turn.NOTHING]
    assert steps == [Turn.PAUSED, Turn.EARLY, Turn.LATE]
    assert quiet.index(Turn.PAUSED) + 1 == windows(RULES.tail)
    assert quiet.index(Turn.EARLY) + 1 == windows(RULES.early)
    assert quiet.index(Turn.LATE) + 1 == windows(RULES.late)


def test_speech_after_a_pause_starts_the_count_anew() -> None:
    endpointer = fresh()
    turns(endpointer, [0.9] * 10 + [0.0] * (windows(RULES.late) - 1) + [0.9])
    assert endpointer.speech_end == endpointer.position
    assert turns(endpointer, [0.0] * windows(RULES.tail))[-1] is Turn.PAUSED


def test_nothing_turns_before_it_is_announced() -> None:
    choice = random.Random(7)
    endpointer = fresh()
    met = set()
    for number in range(20_000):
        speech = (0.98, 0.25)[number // 1000 % 2]
        announced = endpointer.next_turn if endpointer.speaking else 0
        turn = endpointer.feed(0.9 if choice.random() < speech else 0.0)
        met.add(turn)
        if turn not in {Turn.NOTHING, Turn.BEGAN}:
            assert endpointer.position >= announced
        if turn in {Turn.LATE, Turn.LIMIT}:
            endpointer.restart(endpointer.position, endpointer.position)
    assert met == set(Turn)


def test_a_long_utterance_ends_at_the_early_silence_finished_or_not() -> None:
    endpointer = fresh()
    turns(endpointer, [0.9] * (windows(RULES.long) + 2))
    assert turns(endpointer, [0.0] * windows(RULES.early))[-1] is Turn.LATE


def test_endless_speech_reaches_the_limit() -> None:
    endpointer = fresh()
    assert Turn.LIMIT in turns(endpointer, [0.9] * (windows(RULES.limit) + 2))


def test_evidence_reaches_from_the_onset_to_the_last_window_of_speech() -> None:
    endpointer = fresh()
    turns(endpointer, [0.1, 0.5, 0.95, 0.1, 0.3, 0.1])
    assert endpointer.evidence.total == pytest.approx(0.5 + 0.95 + 0.1 + 0.3)
    assert endpointer.evidence.clear == 1


def test_a_restart_forgets_what_was_heard() -> None:
    endpointer = fresh()
    turns(endpointer, [0.9] * 5)
    endpointer.restart(position=5 * WINDOW, floor=4 * WINDOW)
    assert not endpointer.speaking
    assert endpointer.evidence.total == 0
    assert turns(endpointer, [0.9, 0.9])[-1] is Turn.BEGAN
    assert endpointer.start == 4 * WINDOW


def test_without_wishes_the_rules_are_the_engines_own() -> None:
    assert rules(None) == rules(Turns()) == RULES


@pytest.mark.parametrize("silence", [0, 1, 1024, 3200, 8000, 10**9])
def test_a_wished_silence_ends_an_utterance_whose_final_is_there_by_then(silence: int) -> None:
    wished = rules(Turns(early=silence, late=silence))
    endpointer = Endpointer(wished, WINDOW, 0, 0)
    turns(endpointer, [0.9] * 10)
    quiet = turns(endpointer, [0.0] * 400)
    steps = [turn for turn in quiet[: quiet.index(Turn.LATE) + 1] if turn is not Turn.NOTHING]
    assert steps == [Turn.PAUSED, Turn.LATE]
    waited = (quiet.index(Turn.LATE) + 1) * WINDOW
    assert min(max(silence, 2 * WINDOW), 160_000) <= waited < wished.late + WINDOW


def test_a_wished_onset_and_preroll_hold() -> None:
    wished = rules(Turns(onset=0.1, preroll=1600))
    endpointer = Endpointer(wished, WINDOW, 0, 0)
    assert turns(endpointer, [0.0] * 40 + [0.15] * 2)[-1] is Turn.BEGAN
    assert endpointer.start == 40 * WINDOW - 1600
    assert turns(endpointer, [0.09] * windows(wished.late))[-1] is Turn.LATE
