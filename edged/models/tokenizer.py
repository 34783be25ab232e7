"""Token ids to text, from Moonshine's `tokenizer.bin`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

UNKNOWN, START, END = 0, 1, 2
"""The three ids that carry no text."""

_BYTE_TOKEN = re.compile(rb"<0x([0-9A-F]{2})>")
_WORD_START = "\u2581"  # SentencePiece's mark for "a space stands here"


def entries_of(data: bytes) -> list[bytes]:
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


def packed(entries: Iterable[bytes]) -> bytes:
    """The file of which these are the entries."""
    return b"".join(_length(entry) + entry for entry in entries)


def _length(entry: bytes) -> bytes:
    size = len(entry)
    return bytes([size]) if size < 128 else bytes([size % 128 + 128, size // 128])


def _as_bytes(entry: bytes) -> bytes:
    match = _BYTE_TOKEN.fullmatch(entry)
    return bytes([int(match.group(1), 16)]) if match else entry


class Tokenizer:
    """The vocabulary of one model."""

    def __init__(self, path: Path) -> None:
        self._tokens = [_as_bytes(entry) for entry in entries_of(path.read_bytes())]

    def __len__(self) -> int:
        return len(self._tokens)

    def text(self, tokens: Iterable[int]) -> str:
        """The text of `tokens`, without the space before the first word."""
        known = (token for token in tokens if END < token < len(self._tokens))
        joined = b"".join(self._tokens[token] for token in known)
        return joined.decode("utf-8", "replace").replace(_WORD_START, " ").strip()

    def pieces(self, tokens: Iterable[int]) -> list[bytes]:
        """Each token's share of `text` in UTF-8: in a row they are all of it."""
        known = (token if END < token < len(self._tokens) else UNKNOWN for token in tokens)
        shares = [b"" if token == UNKNOWN else self._tokens[token] for token in known]
        shares = [share.replace(_WORD_START.encode(), b" ") for share in shares]
        _strip(shares, range(len(shares)), bytes.lstrip)
        _strip(shares, reversed(range(len(shares))), bytes.rstrip)
        return shares

    def starts_word(self, token: int) -> bool:
        """Whether `token` begins a new word."""
        known = END < token < len(self._tokens)
        return known and self._tokens[token].startswith(_WORD_START.encode())


def _strip(shares: list[bytes], order: Iterable[int], strip: Callable[[bytes], bytes]) -> None:
    """Take the spaces from one end of the text, which may be whole tokens."""
    for index in order:
        shares[index] = strip(shares[index])
        if shares[index]:
            return
