from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edged.engine.stabilizer import Stabilizer
from edged.recognizer import Hypothesis


def sure(text: str) -> Hypothesis:
    return Hypothesis(text, sure=len(text))


def unsure(text: str) -> Hypothesis:
    return Hypothesis(text, sure=0)


def test_an_unsure_word_is_shown_when_two_hypotheses_agree_on_it() -> None:
    stabilizer = Stabilizer()
    assert stabilizer.update(unsure("it was"))[0] == ""
    assert stabilizer.update(unsure("it was the"))[0] == "it was"


def test_a_sure_word_is_shown_at_once_but_for_the_last() -> None:
    assert Stabilizer().update(sure("it was the fool"))[0] == "it was the"


def test_stable_text_is_what_was_agreed_on_but_for_the_last_word() -> None:
    stabilizer = Stabilizer()
    stabilizer.update(sure("it was the best"))
    text, stable = stabilizer.update(sure("it was the best of"))
    assert text[:stable] == "it was the"


def test_punctuation_at_the_end_is_not_shown() -> None:
    stabilizer = Stabilizer()
    stabilizer.update(sure("It was."))
    assert stabilizer.update(sure("It was."))[0] == "It was"


@given(st.lists(st.lists(st.sampled_from(["a", "b", "c."]), max_size=8), max_size=12))
def test_stable_text_never_changes(hypotheses: list[list[str]]) -> None:
    stabilizer = Stabilizer()
    before = ""
    for words in hypotheses:
        text, stable = stabilizer.update(sure(" ".join(words)))
        assert text[:stable].startswith(before)
        before = text[:stable]
