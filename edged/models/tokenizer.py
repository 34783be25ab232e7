"""Token ids to text, from Moonshine's `tokenizer.bin`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

UNKNOWN, START, END = 0, 1, 2
"""The three ids that carry no text."""

_BYTE_TOKEN = re.compile(rb"<0x([0-9A-F]{2})>")
_WORD_START = "\u2581"  # SentencePiece's mark for "a space stands here"


def _entries(data: bytes) -> list[bytes]:
    """Split the length-prefixed byte strings; a length byte of 128 or more takes a second byte."""
    entries: list[bytes] = []
    position = 0
    while position < len(data):
        length = data[position]
        position += 1
        if length >= 128:
            length = data[position] * 128 + length - 128
            position += 1
        entries.append(data[position : position + length])
        position += length
    return entries


def _as_bytes(entry: bytes) -> bytes:
    match = _BYTE_TOKEN.fullmatch(entry)
    return bytes([int(match.group(1), 16)]) if match else entry


class Tokenizer:
    """The vocabulary of one model."""

    def __init__(self, path: Path) -> None:
        self._tokens = [_as_bytes(entry) for entry in _entries(path.read_bytes())]

    def __len__(self) -> int:
        return len(self._tokens)

    def text(self, tokens: Iterable[int]) -> str:
        """The text of `tokens`, without the space before the first word."""
        known = (token for token in tokens if END < token < len(self._tokens))
        joined = b"".join(self._tokens[token] for token in known)
        return joined.decode("utf-8", "replace").replace(_WORD_START, " ").strip()

    def starts_word(self, token: int) -> bool:
        """Whether `token` begins a new word."""
        known = END < token < len(self._tokens)
        return known and self._tokens[token].startswith(_WORD_START.encode())
