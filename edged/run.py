"""`edged run`: the daemon with its server, signals and exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from edged.activation import Passed, check_sockets
from edged.config import Configuration, check_exposure, read_token
from edged.daemon import Daemon
from edged.engine import heap
from edged.engine.building import ensure_models
from edged.engine.launch import Launched
from edged.errors import EdgedError, ModelError
from edged.log import fields, get_logger
from edged.notify import is_wanted, more_time

if TYPE_CHECKING:
    from edged.api.listeners import Listener

log = get_logger(__name__)

LOAD_SECONDS = 600.0
"""What systemd is asked for while the engine loads: each rung may compile for minutes"""
TIDY_SECONDS = 60.0
"""Time between two looks for memory that nobody uses"""


async def run(read: Callable[[], Configuration], passed: Passed, early: Launched) -> None:
    """Serve until a signal says stop, on the sockets that systemd passed and with the worker that
    was launched early. Raises EdgedError when it cannot start."""
    configuration = read()
    check_exposure(configuration, read_token(configuration.server))
    check_sockets(passed, configuration.server.host)
    await ensure_models(configuration)
    if configuration.trace.folder:
        from edged.trace.watching import watch

        watch(configuration.trace.folder)
    daemon = Daemon(configuration, read, early)
    await daemon.start()
    try:
        # The engine loads in its own process while the API is imported here.
        await daemon.supervisor.begun()
        await _serve(daemon, passed)
    finally:
        await daemon.stop()


async def _serve(daemon: Daemon, passed: Passed) -> None:
    from edged.api.listeners import open_listeners

    listeners = open_listeners(daemon, passed)
    stop = asyncio.Event()
    reloads = _Reloads(daemon)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reloads.request)
    serving = [asyncio.create_task(listener.serve()) for listener in listeners]
    watching = asyncio.create_task(_watch_engine(daemon))
    stopping = asyncio.create_task(stop.wait())
    tidying = asyncio.create_task(_tidy())
    try:
        await asyncio.wait({*serving, watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if watching.done():
            watching.result()
    finally:
        watching.cancel()
        stopping.cancel()
        tidying.cancel()
        await _shut(daemon, listeners, serving)


async def _shut(
    daemon: Daemon, listeners: Sequence[Listener], serving: Sequence[asyncio.Task[None]]
) -> None:
    """Finals first, then the clients' sockets, then the servers."""
    await daemon.finish()
    for listener in listeners:
        listener.stop()
    await asyncio.gather(*serving)


async def _watch_engine(daemon: Daemon) -> None:
    """Raise when no model can be loaded at all; any other trouble is served and reported."""
    more_time(LOAD_SECONDS)
    try:
        await daemon.supervisor.wait_ready()
    except EdgedError as error:
        if error.code.startswith("model_"):
            raise ModelError(error.message, code=error.code) from error
        log.error("%s", error.message, extra=fields("engine_unusable", code=error.code))
    daemon.announce()
    _settle()
    if is_wanted():
        from edged.watchdog import Watchdog

        await Watchdog(daemon).run()
    await asyncio.Event().wait()


def _settle() -> None:
    """What is there now stays: the garbage collector need not look through it again and again, and
    finds what has come since, closed streams above all, the sooner."""
    gc.collect()
    gc.freeze()


async def _tidy() -> None:
    """What closed streams leave behind goes back before it lies scattered: a daemon that runs for
    months must not grow by it."""
    while True:
        await asyncio.sleep(TIDY_SECONDS)
        gc.collect()
        heap.give_back()


class _Reloads:
    """SIGHUP: read the configuration again."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._tasks: set[asyncio.Task[None]] = set()

    def request(self) -> None:
        task = asyncio.create_task(self._reload())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reload(self) -> None:
        with contextlib.suppress(EdgedError):  # the log has it
            await self._daemon.reload()
