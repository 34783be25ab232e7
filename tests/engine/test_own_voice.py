"""Which of the words that were heard the machine said itself."""

from __future__ import annotations

import pytest

from edged.engine.own_voice import OwnVoice
from edged.messages import Heard, Said, SpokenWord

TEXT = "I will go to the kitchen now and turn the lights on. Please say stop if I am to wait."
RATE = 16000


def said(text: str, start: int = 0, end: int = 5 * RATE) -> Said:
    return Said(1, start, end, end, end, text, 0.9, end)


def speaking(text: str = TEXT) -> OwnVoice:
    voice = OwnVoice()
    voice.start(0, 20 * RATE, text)
    return voice


@pytest.mark.parametrize(
    ("heard", "kept"),
    [
        ("I will go to the kitchen now and turn the lights on.", ""),
        ("I will go to the kitchen now and turned the light on.", ""),
        ("I will go to the kitchen stop and turn the lights on.", "stop"),
        ("I will go to the Kitchen. Come back here! And turn the lights on", "Come back here!"),
        ("What is the time?", "What is the time?"),
        ("Stop.", "Stop."),
        ("No, not the lights", "No, not"),
        ("", ""),
    ],
)
def test_what_the_text_explains_is_taken_out_and_the_rest_stays(heard: str, kept: str) -> None:
    rest, own = speaking().taken_out(said(heard))
    assert rest.text == kept
    words = heard.split()
    assert sorted([*rest.text.split(), *(own or "").split()]) == sorted(words)


def test_a_single_word_counts_only_where_it_is_to_come_next() -> None:
    voice = speaking()
    assert voice.taken_out(said("Please"))[0].text == "Please"
    voice.taken_out(said("I will go to the kitchen now and turn the lights on"))
    assert voice.taken_out(said("Please"))[0].text == ""
    assert voice.taken_out(said("wait"))[0].text == "wait"


def test_a_text_that_follows_another_is_expected_from_its_beginning() -> None:
    voice = speaking("I am coming.")
    voice.taken_out(said("I am coming", 0, RATE))
    voice.start(RATE, 5 * RATE, "Goodbye now.")
    assert voice.taken_out(said("Goodbye", 2 * RATE, 3 * RATE))[0].text == ""


def test_before_and_after_it_nothing_is_taken_out() -> None:
    voice = OwnVoice()
    voice.start(5 * RATE, 20 * RATE, TEXT)
    assert voice.taken_out(said("I will go to the kitchen", 0, 4 * RATE))[1] is None
    assert voice.current is not None
    voice.current.end_at(8 * RATE, "stopped")
    assert voice.over(8 * RATE) is not None
    assert voice.taken_out(said("I will go to the kitchen", 9 * RATE, 12 * RATE))[1] is None
    late = voice.taken_out(said("I will go to the kitchen", 6 * RATE, 9 * RATE))
    assert late[1] == "I will go to the kitchen"


def test_words_with_times_are_taken_out_only_while_it_is_played() -> None:
    voice = OwnVoice()
    voice.start(3 * RATE, 20 * RATE, TEXT)
    heard = ["go", "to", "the", "kitchen", "I", "will", "go", "to", "the", "kitchen"]
    words = [SpokenWord(w, i * RATE, (i + 1) * RATE, 0.9) for i, w in enumerate(heard)]
    whole = Said(1, 0, 9 * RATE, 9 * RATE, 9 * RATE, " ".join(heard), 0.9, 9 * RATE, words)
    rest, own = voice.taken_out(whole)
    assert own is not None
    assert "go to the" in rest.text
    assert [word.text for word in rest.words] == rest.text.split()


def test_a_partial_holds_as_stable_only_what_cannot_be_its_own() -> None:
    partial = speaking().taken_out_yet(Heard(1, 0, RATE, "hey I will go to", len("hey I will")))
    assert partial.text == "hey"
    assert partial.text[: partial.stable] == "hey"
    single = speaking().taken_out_yet(Heard(1, 0, RATE, "please listen", len("please listen")))
    assert single.text == "please listen"
    assert single.stable == 0


def test_a_gate_keeps_out_each_sample_once_and_no_more_than_its_own() -> None:
    voice = OwnVoice()
    voice.start(100, 1000, None)
    assert voice.keep_out(50) is None
    assert voice.keep_out(300) == (100, 300)
    assert voice.keep_out(300) is None
    assert voice.current is not None
    voice.current.end_at(700, "stopped")
    assert voice.keep_out(900) == (300, 700)
    ended = voice.over(900)
    assert ended is not None
    assert (ended.end, ended.reason) == (700, "stopped")
    assert voice.keep_out(2000) is None


def test_it_is_over_by_itself() -> None:
    voice = OwnVoice()
    voice.start(0, 1000, None)
    assert voice.over(999) is None
    ended = voice.over(1000)
    assert ended is not None
    assert ended.reason == "timed_out"
