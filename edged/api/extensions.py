"""The plugins' own routes, below /v1/plugins/NAME/.

Each plugin's routers are an application of their own, run by an event loop in a thread of its own:
an endpoint that blocks keeps nobody waiting but those who asked for it. Access is checked before,
as for every other path.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edged.api import problems
from edged.log import get_logger
from edged.plugins import Plugin, Plugins

log = get_logger(__name__)

PREFIX = "/v1/plugins"


def mount(app: FastAPI, plugins: Plugins) -> None:
    """Serve the routers of every plugin; one whose routers cannot be served says why."""
    by_plugin: dict[str, tuple[Plugin, list[Any]]] = {}
    for plugin, router in plugins.supplied("edged_api_routers"):
        by_plugin.setdefault(plugin.name, (plugin, []))[1].append(router)
    for plugin, routers in by_plugin.values():
        try:
            served = application(plugin, routers)
        except Exception as error:  # noqa: BLE001  a stranger's code
            plugin.error = f"its routers cannot be served: {error!r}"
            log.warning("plugin %s: %s", plugin.name, plugin.error)
        else:
            app.mount(f"{PREFIX}/{plugin.name}", _Apart(served, plugin.name))


def application(plugin: Plugin, routers: list[APIRouter]) -> FastAPI:
    """One plugin's routers as an application; its reference is at /v1/plugins/NAME/openapi.json."""
    app = FastAPI(title=plugin.name, version=plugin.version, docs_url=None, redoc_url=None)
    for router in routers:
        app.include_router(router)
    problems.install(app)
    return app


class _Apart:
    """Runs an application in another thread's event loop."""

    def __init__(self, app: ASGIApp, name: str) -> None:
        self._app = app
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        here = asyncio.get_running_loop()
        there = self._running_loop()

        async def received() -> Message:
            message: Message = await _in(here, receive)
            return message

        async def sent(message: Message) -> None:
            await _in(here, lambda: send(message))

        await _in(there, lambda: self._app(scope, received, sent))

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        """The plugin's loop, started with the first request."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            name = f"routes of {self._name}"
            threading.Thread(target=self._loop.run_forever, name=name, daemon=True).start()
        return self._loop


async def _in(loop: asyncio.AbstractEventLoop, call: Callable[[], Awaitable[Any]]) -> Any:
    """Await something that belongs to another thread's loop."""

    async def wrapped() -> Any:
        return await call()

    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(wrapped(), loop))
