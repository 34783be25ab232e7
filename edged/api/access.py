"""Who may come in: Host, Origin, token and size are checked before anything else looks.

A daemon on loopback is reached by every web page that its user visits: a page can send requests
there, open WebSockets, and point its own name at 127.0.0.1 (DNS rebinding). So a request must call
this machine by a name we know, and must not come from a page that is not ours.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edged.api.page import PATHS
from edged.api.problems import problem
from edged.config import ServerSection, is_loopback
from edged.daemon import Daemon

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
KEY_PREFIX = "openai-insecure-api-key."
POLICY = 1008
"""WebSocket close code"""


class _BodyTooLargeError(Exception):
    pass


class AccessControl:
    """ASGI middleware: lets a request through, or answers it."""

    def __init__(self, app: ASGIApp, daemon: Daemon) -> None:
        self._app = app
        self._daemon = daemon

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal:
            await refuse(scope, receive, send, *refusal)
        elif scope["type"] == "http":
            await self._limited(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    @property
    def _section(self) -> ServerSection:
        return self._daemon.configuration.server

    def _refusal(self, scope: Scope) -> tuple[int, str, str] | None:
        """Status, code and sentence for a request that must not pass."""
        headers = _headers(scope)
        if _came_by_unix_socket(scope):
            return None  # the file's permissions have decided
        host = headers.get("host", "")
        if not self._knows(host):
            return 403, "unknown_host", f"Host {host!r} is not this machine's"
        origin = headers.get("origin")
        if origin is None and _is_from_another_page(headers):
            return 403, "unknown_origin", "Pages of other origins may not use this"
        if origin is not None and not self._trusts(origin, host):
            return 403, "unknown_origin", f"Pages of {origin!r} may not connect"
        if not (self._has_token(scope, headers) or _is_open(scope, headers)):
            return 401, "token_required", "Send the header: Authorization: Bearer TOKEN"
        return None

    def _knows(self, host: str) -> bool:
        name = _host_name(host)
        if name is None:
            return False
        section = self._section
        if name in LOOPBACK_NAMES or name in section.allowed_hosts or name == section.host:
            return True
        if is_loopback(section.host):
            return False
        # A page can rebind its own name, never an address; and its name is not ours.
        return _is_address(name) or name in _own_names()

    def _trusts(self, origin: str, host: str) -> bool:
        if origin in self._section.allowed_origins:
            return True
        try:
            parts = urlsplit(origin)
        except ValueError:
            return False
        return parts.scheme in {"http", "https"} and parts.netloc.lower() == host.lower()

    def _has_token(self, scope: Scope, headers: dict[str, str]) -> bool:
        client = scope.get("client")
        if client and is_loopback(client[0]):
            return True
        token = self._daemon.token
        if token is None:  # a reload took it away; the socket may still be open to the network
            return False
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not given:
            # Browsers cannot send headers with a WebSocket or an event stream (RFC 6750, 2.3).
            query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
            given = query.get("access_token", [""])[0] or _token_among(scope.get("subprotocols"))
        return hmac.compare_digest(given.encode(), token.encode())

    async def _limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count the body while it comes; what is too large is refused, whatever it announced."""
        limit = self._section.max_body_bytes
        received = 0
        answered = False

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise _BodyTooLargeError
            return message

        async def observed(message: Message) -> None:
            nonlocal answered
            if received > limit and not answered:
                raise _BodyTooLargeError  # the application made an error of its own of it
            answered = True
            await send(message)

        refusal = (413, "body_too_large", f"The body is larger than {limit} bytes")
        if int_or_zero(_headers(scope).get("content-length")) > limit:
            await refuse(scope, receive, send, *refusal)
            return
        try:
            await self._app(scope, counted, observed)
        except _BodyTooLargeError:
            if not answered:
                await refuse(scope, receive, send, *refusal)


def _token_among(subprotocols: Sequence[str] | None) -> str:
    """Where OpenAI's clients in browsers put their key."""
    for name in subprotocols or ():
        if name.startswith(KEY_PREFIX):
            return name.removeprefix(KEY_PREFIX)
    return ""


def _is_open(scope: Scope, headers: dict[str, str]) -> bool:
    """Whether this is answered without a token: the page, which is what asks for it, and what
    browsers ask before they send one."""
    asks_for_page = scope.get("method") in {"GET", "HEAD"} and scope["path"] in PATHS
    return asks_for_page or _is_preflight(scope, headers)


def _is_preflight(scope: Scope, headers: dict[str, str]) -> bool:
    """Whether a browser asks for a page we trust; it cannot send the token with that."""
    return (
        scope.get("method") == "OPTIONS"
        and "origin" in headers
        and "access-control-request-method" in headers
    )


def int_or_zero(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() else 0


def _headers(scope: Scope) -> dict[str, str]:
    return {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}


def _came_by_unix_socket(scope: Scope) -> bool:
    server = scope.get("server")
    return server is None or server[1] is None


def _host_name(host: str) -> str | None:
    """The name in a Host header, without port and brackets; None if it is none."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_from_another_page(headers: dict[str, str]) -> bool:
    """Whether a page elsewhere embeds this: browsers send no Origin with an image, a script or a
    frame. A link that somebody follows may lead here."""
    foreign = headers.get("sec-fetch-site") in {"cross-site", "same-site"}
    return foreign and headers.get("sec-fetch-dest") != "document"


def _own_names() -> set[str]:
    name = socket.gethostname().lower()
    return {name, f"{name}.local"}


async def refuse(
    scope: Scope, receive: Receive, send: Send, status: int, code: str, detail: str
) -> None:
    """Answer a request, or a WebSocket's handshake, with a problem."""
    if scope["type"] == "http":
        await problem(scope["path"], status, code, detail)(scope, receive, send)
        return
    await receive()  # the client's connect
    if "websocket.http.response" in scope.get("extensions", {}):
        body = problem(scope["path"], status, code, detail)
        headers: Any = body.raw_headers
        await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": body.body})
        return
    await send({"type": "websocket.close", "code": POLICY, "reason": detail[:120]})
