"""Word times from cross-attention: which frames a token looked at when it was chosen.

As in Whisper's word timestamps (openai/whisper, timing.py), attention is averaged over heads,
smoothed along time by a median filter, and followed by the best path that never goes back. Unlike
there, every frame belongs to one token (Viterbi), attention stays as it is, and only the upper half
of the layers is asked: against forced alignment that is 36 and 30 ms off in the median, where
Whisper's way is 58 and 44 (tiny-en, base-en; bench/words.py). Pauses, in which attention says
little, are then taken from the samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from edged.recognizer import SAMPLE_RATE

STEP = SAMPLE_RATE // 100
"""Samples whose level is looked at together"""
QUIET = 0.03
"""Of a pause's level, as a share of speech's"""
FLOOR = 2.0
"""What is at most so many times the quietest is a pause too, in a noisy room"""
LOUDEST_FLOOR = 0.3
"""But not what is louder than this share of speech"""
SHORTEST_PAUSE = 8
"""Steps; the closure of a plosive is shorter"""
REACH = SAMPLE_RATE // 10
"""Samples within which an edge between words belongs to a pause"""


def token_frames(layers: Sequence[np.ndarray]) -> np.ndarray:
    """Where each token begins, in frames, from attention of [heads, 1 + tokens, frames] a layer.

    Row i of the attention is the look of the choice of token i. Returns tokens + 1 boundaries.
    """
    upper = layers[len(layers) // 2 :]
    attention = np.concatenate([np.asarray(layer, np.float32) for layer in upper])
    return path(_median(attention).mean(axis=0))


def _median(values: np.ndarray) -> np.ndarray:
    """Of each frame and its two neighbours, edges reflected."""
    if values.shape[-1] < 2:
        return values
    before = np.concatenate((values[..., 1:2], values[..., :-1]), axis=-1)
    after = np.concatenate((values[..., 1:], values[..., -2:-1]), axis=-1)
    least, most = np.minimum(before, values), np.maximum(before, values)
    return np.asarray(np.maximum(least, np.minimum(most, after)))


def path(score: np.ndarray) -> np.ndarray:
    """The first column of each row on the best path through score [rows, columns].

    It begins in the first row and ends in the last, and with each column stays in its row or goes
    on to the next. Rows for which there are no columns begin with the first.
    """
    rows, columns = score.shape
    total = np.full(rows, -np.inf)
    total[0] = score[0, 0]
    advanced = np.zeros((columns, rows), bool)
    for column in range(1, columns):
        before = np.concatenate(([-np.inf], total[:-1]))
        advanced[column] = before > total
        total = np.maximum(before, total) + score[:, column]
    first = np.zeros(rows, np.int64)
    row = rows - 1
    for column in range(columns - 1, 0, -1):
        if advanced[column, row]:
            first[row] = column
            row -= 1
    return first


def spans(edges: Sequence[float], samples: np.ndarray) -> list[tuple[int, int]]:
    """Where words begin and end, in samples, given the edges between them: one more than words.

    At an edge that lies at a pause, the word before ends with the pause's beginning, and the next
    begins with its end.
    """
    whole = [int(min(max(edge, 0), len(samples))) for edge in edges]
    before, after = list(whole), list(whole)
    found = list(_pauses(samples))
    for number, edge in enumerate(whole):
        near = [pause for pause in found if _distance(edge, pause) <= REACH]
        if not near:
            continue
        begin, end = min(near, key=lambda pause: _distance(edge, pause))
        word_before = after[number - 1] if number else -1
        word_after = whole[number + 1] if number + 1 < len(whole) else len(samples) + 1
        if word_before < begin and end < word_after:
            before[number], after[number] = begin, end
    return list(zip(after[:-1], before[1:], strict=True))


def _distance(edge: int, pause: tuple[int, int]) -> int:
    return max(pause[0] - edge, edge - pause[1], 0)


def _pauses(samples: np.ndarray) -> Iterator[tuple[int, int]]:
    """Where it is quiet for a while, in samples."""
    steps = len(samples) // STEP
    if not steps:
        return
    level = np.sqrt((samples[: steps * STEP].reshape(steps, STEP) ** 2).mean(axis=1))
    speech, floor = np.percentile(level, 95), np.percentile(level, 5)
    limit = min(max(QUIET * speech, FLOOR * floor), LOUDEST_FLOOR * speech)
    turns = np.flatnonzero(np.diff(np.concatenate(([0], level < limit, [0]))))
    for begin, end in turns.reshape(-1, 2):
        if end - begin >= SHORTEST_PAUSE:
            yield int(begin) * STEP, int(end) * STEP
