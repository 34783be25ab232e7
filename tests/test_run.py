"""What the daemon's process does beside serving."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from edged import run


class Closed:
    """Something that refers to itself, as a closed stream does by way of its tasks."""

    def __init__(self) -> None:
        self.itself = self


def test_what_was_closed_goes_without_being_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "TIDY_SECONDS", 0.01)
    gc.disable()
    try:
        left = weakref.ref(Closed())
        assert left()

        async def serve() -> None:
            tidying = asyncio.create_task(run._tidy())
            async with asyncio.timeout(5):
                while left():
                    await asyncio.sleep(0.01)
            tidying.cancel()

        asyncio.run(serve())
    finally:
        gc.enable()
