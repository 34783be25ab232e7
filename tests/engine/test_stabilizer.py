from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edged.engine.stabilizer import PATIENCE, Stabilizer
from edged.recognizer import Hypothesis


def said(text: str, *certainty: float) -> Hypothesis:
    """A hypothesis; words without a certainty of their own are certain."""
    words = text.split()
    rest = [0.99] * (len(words) - len(certainty))
    return Hypothesis(text, certainty=(*certainty, *rest))


def test_a_fairly_certain_word_is_shown_when_two_hypotheses_agree_on_it() -> None:
    stabilizer = Stabilizer()
    assert stabilizer.update(said("it was the", 0.7, 0.7, 0.7))[0] == "it"
    assert stabilizer.update(said("it was the best", 0.7, 0.7, 0.5, 0.7))[0] == "it was"


def test_a_doubtful_word_is_not_shown_however_often_it_is_said() -> None:
    stabilizer = Stabilizer()
    for _ in range(5):
        assert stabilizer.update(said("it wisdom was", 0.95, 0.2, 0.95))[0] == "it"


def test_a_model_that_does_not_say_how_sure_it_is_is_believed_when_it_says_it_again() -> None:
    stabilizer = Stabilizer()
    assert stabilizer.update(Hypothesis("it was")) == ("it", 0)
    assert stabilizer.update(Hypothesis("it was the")) == ("it was", 0)
    assert stabilizer.update(Hypothesis("he was the best")) == ("he", 0)


def test_a_certain_word_is_shown_at_once_but_for_the_last() -> None:
    assert Stabilizer().update(said("it was the fool"))[0] == "it was the"


def test_the_first_word_is_shown_early_if_it_is_no_mere_guess() -> None:
    assert Stabilizer().update(said("it", 0.3))[0] == "it"
    assert Stabilizer().update(said("it", 0.2))[0] == ""
    assert Stabilizer().update(said("it was", 0.3, 0.3))[0] == "", (
        "with more to go by still a guess"
    )


def test_a_doubtful_first_word_does_not_hide_all_for_long() -> None:
    stabilizer = Stabilizer()
    shown = [stabilizer.update(said("it was", 0.2, 0.2))[0] for _ in range(PATIENCE + 1)]
    assert shown == [*[""] * PATIENCE, "it"]
    hopeless = Stabilizer()
    assert not any(hopeless.update(said("it was", 0.05))[0] for _ in range(3 * PATIENCE))


def test_what_was_shown_stays_while_the_model_says_it() -> None:
    stabilizer = Stabilizer()
    stabilizer.update(said("it was the best"))
    assert stabilizer.update(said("it was the best of", 0.9, 0.2, 0.2))[0] == "it was the"
    assert stabilizer.update(said("it were the best of", 0.9, 0.2, 0.2))[0] == "it"


def test_stable_text_is_certain_and_agreed_on_but_for_the_last_word() -> None:
    stabilizer = Stabilizer()
    stabilizer.update(said("it was the best"))
    text, stable = stabilizer.update(said("it was the best of"))
    assert text[:stable] == "it was the"


def test_punctuation_at_the_end_is_not_shown() -> None:
    stabilizer = Stabilizer()
    stabilizer.update(said("It was."))
    assert stabilizer.update(said("It was."))[0] == "It was"


@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from(["a", "b", "c."]), st.floats(0, 1)), max_size=8),
        max_size=12,
    )
)
def test_stable_text_never_changes(hypotheses: list[list[tuple[str, float]]]) -> None:
    stabilizer = Stabilizer()
    before = ""
    for words in hypotheses:
        text = " ".join(word for word, _ in words)
        shown, stable = stabilizer.update(Hypothesis(text, certainty=tuple(p for _, p in words)))
        assert shown[:stable].startswith(before)
        before = shown[:stable]
