"""A whole recording through the engine, as fast as it goes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from edged.engine.supervisor import Supervisor
from edged.errors import AudioError
from edged.messages import Event, Turns
from edged.recognizer import SAMPLE_RATE

PIECE = SAMPLE_RATE
"""Samples written at once"""


async def transcribe(
    supervisor: Supervisor,
    blocks: Iterator[np.ndarray],
    listener: Callable[[Event], None],
    *,
    words: bool = False,
    tokens: bool = False,
    turns: Turns | None = None,
    longest_seconds: float = float("inf"),
) -> float:
    """Recognise float32 blocks at 16 kHz; events go to `listener`. Returns the length in seconds.

    Raises AudioError for no audio at all, or for more than `longest_seconds`.
    """
    stream = supervisor.open(listener, partials=False, words=words, tokens=tokens, turns=turns)
    try:
        while (block := await asyncio.to_thread(next, blocks, None)) is not None:
            await _write(supervisor, stream, block)
            if stream.written > longest_seconds * SAMPLE_RATE:
                raise AudioError(
                    f"The audio is longer than {longest_seconds:.0f} s; "
                    "send it in parts, or raise server.max_audio_seconds",
                    code="audio_too_long",
                )
        if not stream.written:
            raise AudioError("There are no samples in it", code="empty_audio")
        await stream.reached(supervisor.flush(stream))
        return stream.written / SAMPLE_RATE
    finally:
        supervisor.close(stream)


async def _write(supervisor: Supervisor, stream: Any, block: np.ndarray) -> None:
    for first in range(0, len(block), PIECE):
        piece = block[first : first + PIECE]
        await stream.room(len(piece))
        stream.write(piece)
        supervisor.notify(stream)
