"""Which tokens a model keeps: those that it was taught to write."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from bench.vocabulary import split
from edged.models.inventory import imported_sources, store
from edged.models.sources import find_source, source_named
from edged.models.tokenizer import END, START, Tokenizer, entries_of
from edged.models.vocabulary import CHOICE, EMBEDDING, likeness, taught, trimmed
from tests.conftest import BASE, TINY

WIDTH = 64
WORDS = [f"word{number}".encode() for number in range(20)]
ENTRIES = [b"<unk>", b"<s>", b"</s>", "один".encode(), *WORDS, b"<<ST_0>>"]
KEPT = [0, START, END, *range(4, 24)]


@pytest.fixture
def rows() -> np.ndarray:
    """START, a word, the placeholder and two rows beyond the entries lie in one place."""
    random = np.random.default_rng(1)
    rows = random.normal(size=(len(ENTRIES) + 2, WIDTH))
    for number in (START, 3, 24, 25, 26):
        rows[number] = 1 + 0.01 * random.normal(size=WIDTH)
    return rows


def test_rows_that_lie_where_no_text_is_are_left_out(rows: np.ndarray) -> None:
    assert likeness(rows, ENTRIES)[[3, 24, 25, 26]].min() > 0.9
    assert taught(rows, ENTRIES).tolist() == KEPT


def test_weights_and_texts_are_trimmed_alike(rows: np.ndarray) -> None:
    other = np.ones(3)
    weights = {EMBEDDING: rows * 2, CHOICE: rows.T, "other": other}
    smaller, entries = trimmed(weights, ENTRIES)
    assert entries == [b"<unk>", b"<s>", b"</s>", *WORDS]
    assert np.array_equal(smaller[CHOICE].T, rows[KEPT])
    assert np.array_equal(smaller[EMBEDDING], rows[KEPT] * 2)
    assert smaller["other"] is other


def test_a_vocabulary_without_empty_rows_is_kept_whole(rows: np.ndarray) -> None:
    assert len(taught(rows[:24], ENTRIES[:24])) == 24


@pytest.mark.parametrize("model", [TINY, BASE])
def test_the_default_models_keep_their_own_language(model: str) -> None:
    built = store().get(model)
    path = built.path("tokenizer.bin")
    tokenizer = Tokenizer(path)
    table = next(
        constant
        for constant in onnx.load(built.path("int8/decoder.onnx")).graph.initializer
        if constant.name.startswith("embed_tokens") and len(constant.dims) > 1
    )
    assert table.dims[0] == len(tokenizer)
    texts = [entry.decode("utf-8", "replace") for entry in entries_of(path.read_bytes())]
    scripts = Counter({text: _script(text) for text in texts}.values())
    assert scripts["LATIN"] > 20000
    assert scripts["CYRILLIC"] < 400  # of 2951


def _script(text: str) -> str:
    """That of its last letter."""
    return next((unicodedata.name(c, "?").split()[0] for c in reversed(text) if c.isalpha()), "")


@pytest.mark.corpus
@pytest.mark.parametrize("model", [TINY, BASE])
def test_what_people_say_can_be_written(model: str, corpus: Path) -> None:
    """With the very tokens that the whole vocabulary has for it."""
    files = find_source(source_named(model), imported_sources())
    assert files
    before = entries_of(files.tokenizer.read_bytes())
    after = set(entries_of(store().get(model).path("tokenizer.bin").read_bytes()))
    numbers = {entry.decode("utf-8", "replace"): n for n, entry in enumerate(before) if n > END}
    lines = (corpus / "manifest.jsonl").read_text("utf-8").splitlines()
    words = {word for line in lines for word in json.loads(line)["text"].split()}
    words = {word for word in words if not word.isupper()}  # some references are all in capitals
    assert len(words) > 900
    lost = {word for word in words for part in split(word, numbers) if part.encode() not in after}
    assert not lost
