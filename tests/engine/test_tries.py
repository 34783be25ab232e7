"""A final of which the model is not sure is tried with other paddings, two at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from edged.errors import ModelError
from edged.models.moonshine import Moonshine, _Try

Tries = list[tuple[int, threading.Thread]]
"""Paddings, and the threads that tried them"""


@pytest.fixture(scope="module")
def samples(speech: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(speech[16000:64000])


@pytest.fixture
def tries(recognizer: Moonshine, monkeypatch: pytest.MonkeyPatch) -> Tries:
    """Those of a model that is never sure."""
    made: Tries = []
    attempt = recognizer._try

    def watched(samples: np.ndarray, padding: int, *given: Any) -> _Try:
        made.append((padding, threading.current_thread()))
        return attempt(samples, padding, *given)

    monkeypatch.setattr(recognizer, "_sure", 0.0)
    monkeypatch.setattr(recognizer, "_try", watched)
    return made


@pytest.fixture
def busy(recognizer: Moonshine) -> Iterator[None]:
    """The other thread has something else to do."""
    done = threading.Event()
    recognizer._helper.submit(done.wait)
    yield
    done.set()


def test_two_threads_write_what_one_writes(
    recognizer: Moonshine, samples: np.ndarray, tries: Tries, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert recognizer._shares
    shared = recognizer.transcribe(samples)
    here = threading.current_thread()
    assert [thread is here for _, thread in sorted(tries, key=lambda made: made[0])] == [
        True,
        True,
        False,
    ]
    monkeypatch.setattr(recognizer, "_shares", False)
    tries.clear()
    assert recognizer.transcribe(samples) == shared
    assert [thread for _, thread in tries] == [here] * 3


@pytest.mark.usefixtures("busy")
def test_nobody_waits_for_a_thread_that_is_busy(
    recognizer: Moonshine, samples: np.ndarray, tries: Tries
) -> None:
    recognizer.transcribe(samples)
    assert [thread for _, thread in tries] == [threading.current_thread()] * 3


def test_what_fails_on_the_other_thread_fails_here(
    recognizer: Moonshine, samples: np.ndarray, tries: Tries, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt, last = recognizer._try, recognizer._others[-1]

    def broken(samples: np.ndarray, padding: int, *given: Any) -> _Try:
        if padding == last:
            raise ModelError("It computes numbers that are none", code="wrong_numbers")
        return attempt(samples, padding, *given)

    monkeypatch.setattr(recognizer, "_try", broken)
    with pytest.raises(ModelError, match="numbers that are none"):
        recognizer.transcribe(samples)
