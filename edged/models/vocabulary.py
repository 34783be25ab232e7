"""The part of a model's vocabulary that it was taught to write.

Moonshine's tokens were chosen for many languages and for source text. A model of one language
writes three quarters of them, but the product that chooses the next one reads them all: near half
of what a token costs.

The rows of that product that belong to no text at all were never right in training, and so were
only ever moved away from what the decoder says: all to the same place. A row that lies there too
belongs to a token that was never right either (Land and Bartolo, "Fishing for Magikarp:
Automatically Detecting Under-trained Tokens in Large Language Models", arXiv 2405.05417). What is
left is numbered anew, in the same order.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edged.models.tokenizer import END

if TYPE_CHECKING:
    from edged.models.weights import Weights

EMBEDDING, CHOICE = "decoder.embed_tokens.weight", "decoder.proj_out.weight"
UNTAUGHT = 0.3
"""Likeness to the rows without a text from which a token was not taught either. By what
`python -m bench.vocabulary` shows the surest choice lies at 0.2"""
_PLACEHOLDER = re.compile(rb"<<ST_\d+>>")


def taught(rows: np.ndarray, entries: Sequence[bytes]) -> np.ndarray:
    """The numbers of the tokens to keep, rising, int64 [N]; all where every row has a text.

    `rows` are those of the product that chooses, [V, W]; `entries` the texts of the first of them.
    The three tokens that carry no text keep their places.
    """
    likenesses = likeness(rows, entries)
    return np.flatnonzero((likenesses < UNTAUGHT) | (np.arange(len(rows)) <= END))


def likeness(rows: np.ndarray, entries: Sequence[bytes]) -> np.ndarray:
    """How like each row is to those without a text, float [V]: 0 as the median row is, 1 the same;
    0 for all where every row has a text."""
    blank = [number for number in range(len(rows)) if _is_blank(entries, number)]
    if not blank:
        return np.zeros(len(rows))
    place = rows[blank].mean(axis=0)
    cosines = rows @ place / (np.linalg.norm(rows, axis=1) * np.linalg.norm(place))
    usual = np.median(cosines)
    return np.asarray((cosines - usual) / (1 - usual))


def _is_blank(entries: Sequence[bytes], number: int) -> bool:
    return number >= len(entries) or bool(_PLACEHOLDER.fullmatch(entries[number]))


def trimmed(weights: Weights, entries: Sequence[bytes]) -> tuple[Weights, list[bytes]]:
    """The weights and the texts of the tokens that were taught alone."""
    kept = taught(weights[CHOICE].T, entries)
    smaller = {EMBEDDING: weights[EMBEDDING][kept], CHOICE: weights[CHOICE][:, kept]}
    return weights | smaller, [entries[number] for number in kept if number < len(entries)]
