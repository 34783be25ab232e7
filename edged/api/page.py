"""The dashboard: files that a browser gets, with the policy that it holds them to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, Response

FOLDER = Path(__file__).parent / "static"
_KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
_KINDS |= {".svg": "image/svg+xml"}
PATHS = frozenset(
    {"/", *(f"/{path.name}" for path in FOLDER.iterdir() if path.suffix in _KINDS)}
    - {"/index.html"}
)
"""Where its files are. They hold nothing secret: a browser that has no token yet gets them, for
they are what asks for it."""


def headers(policy: str) -> dict[str, str]:
    """Of everything that a browser shows, with what a page may load beside that."""
    return {
        "Content-Security-Policy": (
            f"default-src 'none'; {policy}; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }


_HEADERS = {
    **headers(
        "script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
}


def add_page(app: FastAPI) -> None:
    """Serve `/` and the files that it asks for."""
    for path in PATHS:
        app.add_api_route(
            path, _sender(FOLDER / (path[1:] or "index.html")), include_in_schema=False
        )


def _sender(file: Path) -> Callable[[], Response]:
    """An endpoint without parameters: those of a query are the client's to choose."""

    def send() -> Response:
        return FileResponse(file, media_type=_KINDS[file.suffix], headers=_HEADERS)

    return send
