from __future__ import annotations

import numpy as np

from edged.models.alignment import path, spans, token_frames
from edged.recognizer import SAMPLE_RATE


def test_the_path_takes_what_fits_best_and_never_goes_back() -> None:
    score = np.zeros((3, 9))
    for row in range(3):
        score[row, row * 3 : row * 3 + 3] = 1
    score[0, 8] = 1.5
    assert path(score).tolist() == [0, 3, 6]
    assert path(np.zeros((4, 2))).shape == (4,)


def test_tokens_begin_where_attention_moves_on() -> None:
    attention = np.full((4, 3, 60), 1e-4, np.float32)
    for token in range(3):
        attention[:, token, token * 20 : token * 20 + 20] = 0.05
    boundaries = token_frames([np.zeros_like(attention), attention])
    assert np.abs(boundaries - np.array([0, 20, 40])).max() <= 2


def test_an_edge_at_a_pause_becomes_its_two_ends() -> None:
    tone = np.sin(np.arange(SAMPLE_RATE) * 0.3).astype(np.float32)
    hush = np.zeros(SAMPLE_RATE // 2, np.float32)
    samples = np.concatenate([hush, tone, hush, tone])
    seconds = [0.3, 1.6, 2.5, 3.2]
    found = spans([s * SAMPLE_RATE for s in seconds], samples)
    near = [[round(p / SAMPLE_RATE, 1) for p in span] for span in found]
    assert near == [[0.5, 1.5], [2.0, 2.5], [2.5, 3.0]]  # the last is held to the recording
    assert spans([0, 10], np.zeros(0, np.float32)) == [(0, 0)]


def test_words_stay_in_order_and_inside_whatever_the_edges_and_pauses() -> None:
    random = np.random.default_rng(1)
    for _ in range(300):
        length = int(random.integers(0, 50_000))
        loud = np.repeat(random.random(length // 800 + 1) < 0.5, 800)[:length]
        samples = (random.normal(size=length) * loud).astype(np.float32)
        edges = np.sort(random.integers(-500, length + 500, int(random.integers(2, 12))))
        times = [time for span in spans(edges.tolist(), samples) for time in span]
        assert times == sorted(times)
        assert 0 <= times[0] <= times[-1] <= length
