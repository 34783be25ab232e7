"""What malloc keeps of freed memory goes back to the system."""

from __future__ import annotations

import ctypes

import psutil
import pytest

from edged.engine.heap import give_back

PIECE, COUNT = 64 * 1024, 1000
"""Bytes; small enough that malloc does not map each apart"""


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="this C library's malloc keeps nothing"
)
def test_freed_memory_goes_back() -> None:
    process = psutil.Process()
    pieces = [bytearray(PIECE) for _ in range(COUNT)]
    last = bytearray(PIECE)  # above the others: what lies below it is not freed by itself
    before = process.memory_info().rss
    pieces.clear()
    give_back()
    assert before - process.memory_info().rss > PIECE * COUNT / 2
    assert len(last) == PIECE
