"""The HTTP application."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from edged import __version__
from edged.api import (
    extensions,
    live,
    metrics,
    openai,
    problems,
    reference,
    routes,
    transcripts,
)
from edged.api.access import AccessControl
from edged.api.page import add_page
from edged.api.problems import Problem
from edged.api.realtime import socket as realtime
from edged.api.schemas import Transcription, VerboseTranscription
from edged.daemon import Daemon
from edged.engine.probe import ProbeReport


class _AllowedOrigins(CORSMiddleware):
    """Lets pages of the configured origins read our answers; a reload changes which."""

    def __init__(self, app: ASGIApp, /, daemon: Daemon) -> None:
        super().__init__(app, allow_methods=["GET", "POST", "DELETE"], allow_headers=["*"])
        self._daemon = daemon

    def is_allowed_origin(self, origin: str) -> bool:
        return origin in self._daemon.configuration.server.allowed_origins


def create_app(daemon: Daemon) -> FastAPI:
    """The application over a daemon."""
    app = FastAPI(
        title="edged",
        version=__version__,
        summary="Local streaming speech recognition",
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        docs_url=None,
        redoc_url=None,
    )
    app.state.daemon = daemon
    app.state.asking = asyncio.Lock()
    app.include_router(routes.router)
    app.include_router(transcripts.router)
    app.include_router(openai.router)
    app.include_router(live.router)
    app.include_router(realtime.router)
    app.include_router(metrics.router)
    app.include_router(reference.router)
    extensions.mount(app, daemon.plugins)
    add_page(app)
    problems.install(app)
    app.add_middleware(_AllowedOrigins, daemon=daemon)
    app.add_middleware(AccessControl, daemon=daemon)
    _describe_answers(app)
    return app


def _describe_answers(app: FastAPI) -> None:
    """Add the schemas that responses name by hand."""
    generate = app.openapi

    def complete() -> dict[str, Any]:
        schema = generate()
        components = schema["components"]["schemas"]
        for model in (Problem, Transcription, VerboseTranscription):
            described = model.model_json_schema(ref_template="#/components/schemas/{model}")
            components.update(described.pop("$defs", {}))
            components[model.__name__] = described
        _, probed = msgspec.json.schema_components(
            [ProbeReport], ref_template="#/components/schemas/{name}"
        )
        schema["components"]["schemas"] = probed | components
        return schema

    app.openapi = complete  # type: ignore[method-assign]
