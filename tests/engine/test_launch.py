"""A worker's Python is started before it is known what it will run."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Coroutine
from typing import Any

import pytest

from edged.config import load
from edged.engine.assembly import make_supervisor
from edged.engine.launch import Launched, launch
from tests.conftest import TINY


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 60))


async def serving(early: Launched) -> int | None:
    """The worker that an engine comes to serve with."""
    supervisor = make_supervisor(load(None, {"engine": {"model": TINY}}), early=early)
    supervisor.start()
    try:
        await supervisor.wait_ready()
        return supervisor.worker_pid
    finally:
        await supervisor.stop()


@pytest.mark.usefixtures("tiny_cache")
def test_an_early_worker_serves_once_it_is_told_its_rung() -> None:
    async def main() -> None:
        early = await launch()
        assert await serving(early) == early.process.pid
        assert not early.alive

    run(main())


@pytest.mark.usefixtures("tiny_cache")
def test_one_that_has_died_meanwhile_is_replaced() -> None:
    async def main() -> None:
        early = await launch()
        early.process.kill()
        await early.process.wait()
        assert await serving(early) not in {None, early.process.pid}

    run(main())


def test_one_that_nobody_needs_leaves() -> None:
    async def main() -> None:
        early, other = await launch(), await launch()
        early.socket.close()
        assert await early.process.wait() == 0
        await other.dismiss()
        assert not other.alive

    run(main())


def test_it_waits_with_what_every_rung_needs_and_nothing_else() -> None:
    program = (
        "import sys; from edged.engine import worker; worker._prepare();"
        "print([m for m in ('numpy', 'edged.models.moonshine') if m not in sys.modules]);"
        "print([m for m in ('onnxruntime', 'pydantic', 'asyncio', 'typer') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split("\n") == ["[]", "[]", ""]
