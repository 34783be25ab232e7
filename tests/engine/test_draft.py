"""Draft and verify writes what greedy decoding writes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edged.models.moonshine import DOUBTFUL, Moonshine, _Decoded, is_repetition, token_limit
from edged.provider import Loop


@pytest.fixture(scope="module")
def samples(speech: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(speech[16000:96000])


def plain(recognizer: Moonshine, samples: np.ndarray) -> tuple[Any, int, _Decoded]:
    """The encoder's values, the most tokens, and what greedy decoding without a draft gives."""
    cross, limit = recognizer.encode(samples), token_limit(len(samples))
    return cross, limit, recognizer.decode(cross, limit)


def counted_runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tokens of each decoder run from now on."""
    runs: list[int] = []
    run = Loop.run

    def counting_run(self: Loop, inputs: Any, outputs: Any) -> Any:
        runs.append(inputs["input_ids"].size)
        return run(self, inputs, outputs)

    monkeypatch.setattr(Loop, "run", counting_run)
    return runs


@pytest.mark.parametrize("kept", [0, 1, 3, 100])
def test_any_draft_gives_the_greedy_text(
    recognizer: Moonshine, samples: np.ndarray, kept: int
) -> None:
    cross, limit, greedy = plain(recognizer, samples)
    draft = [*greedy.said[:kept], 1000, 2000]
    assert recognizer.decode(cross, limit, draft).tokens == greedy.tokens


def test_a_right_draft_is_verified_in_one_run(
    recognizer: Moonshine, samples: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    cross, limit, greedy = plain(recognizer, samples)
    runs = counted_runs(monkeypatch)
    assert recognizer.decode(cross, limit, greedy.said).tokens == greedy.tokens
    assert len(runs) == 1


def test_a_draft_that_is_wrong_at_one_word_is_taken_up_again(
    recognizer: Moonshine, samples: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    cross, limit, greedy = plain(recognizer, samples)
    runs = counted_runs(monkeypatch)
    draft = [*greedy.said[:4], 1000, *greedy.said[5:]]
    assert recognizer.decode(cross, limit, draft).tokens == greedy.tokens
    assert len(runs) <= 4


def test_a_partial_ends_where_the_model_is_in_doubt_and_not_within_its_first_word(
    recognizer: Moonshine, speech: np.ndarray
) -> None:
    ended_early = 0
    for end in range(24000, 96000, 4000):
        cross, limit, greedy = plain(recognizer, speech[16000:end])
        partial = recognizer.decode(cross, limit, doubtful=DOUBTFUL)
        count = len(partial.tokens)
        assert partial.tokens == greedy.tokens[:count]
        first = recognizer.hypothesis(greedy).text.split()[0]
        assert recognizer.hypothesis(partial).text.split()[0] == first
        if count < len(greedy.tokens):
            ended_early += 1
            assert partial.log_probabilities[-1] < DOUBTFUL
    assert ended_early > 3


def test_a_text_that_goes_in_circles_is_told_from_one_that_says_things_twice() -> None:
    assert is_repetition("please call stella please call stella please call stella")
    assert is_repetition("no no no no")
    assert not is_repetition("tear down the fence, tear down the fence")
    assert not is_repetition("no no no")
