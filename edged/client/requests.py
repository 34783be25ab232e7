"""Where the daemon is, and what one asks it over HTTP; blocking, over TCP or the Unix socket."""

from __future__ import annotations

import http.client
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from edged import paths
from edged.errors import EdgedError
from edged.messages import Final

ANSWER_SECONDS = 30.0
"""Longest silence of the daemon while something is asked"""
RECOGNISE_SECONDS = 600.0
"""The same while it recognises a recording"""
PAGE = 1000
"""Finals asked for at once"""
BLOCK = 1 << 16
UNIX = "unix:"
TRANSCRIPTIONS = "/v1/audio/transcriptions"


class Word(msgspec.Struct, frozen=True):
    """A word of a recording, in seconds."""

    word: str
    start: float
    end: float


class Segment(msgspec.Struct, frozen=True):
    """One utterance of a recording, in seconds."""

    text: str
    start: float
    end: float


class Transcription(msgspec.Struct, frozen=True):
    """What a recording says."""

    text: str
    duration: float
    """Seconds"""
    segments: list[Segment] = []
    words: list[Word] = []


class _Stored(msgspec.Struct, frozen=True):
    id: int
    stream: str
    event: Final


class _Page(msgspec.Struct, frozen=True):
    transcripts: list[_Stored]
    cursor: str | None


def default_socket() -> Path:
    """The Unix socket of this user's daemon, else of the machine's."""
    own = paths.runtime_directory() / "edged.sock"
    service = Path("/run/edged/edged.sock")
    return own if own.exists() or not service.exists() else service


class Address:
    """A daemon: `http://HOST:PORT`, `unix:PATH`, or None for this machine's Unix socket."""

    def __init__(self, url: str | None, token: str | None = None) -> None:
        """Raises EdgedError when it is no address."""
        self.unix: Path | None = None
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._url = url
        if url is None or url.startswith(UNIX):
            self.unix = Path(url.removeprefix(UNIX)) if url else default_socket()
            url = "http://localhost"
        self._parts = _split(url)

    def __str__(self) -> str:
        return str(self.unix or self._url)

    @property
    def port(self) -> int | None:
        """Of TCP, where it is named."""
        return None if self.unix else self._parts.port

    def websocket(self, path: str, **query: object) -> str:
        """The address of a WebSocket."""
        scheme = "wss" if self._parts.scheme == "https" else "ws"
        written = {key: int(v) if isinstance(v, bool) else v for key, v in query.items()}
        return f"{scheme}://{self._parts.netloc}{path}?{urlencode(written)}"

    def _connection(self, seconds: float) -> http.client.HTTPConnection:
        if self.unix:
            return _UnixConnection(self.unix, seconds)
        kind = (
            http.client.HTTPSConnection
            if self._parts.scheme == "https"
            else http.client.HTTPConnection
        )
        assert self._parts.hostname
        return kind(self._parts.hostname, self._parts.port, timeout=seconds)

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        seconds: float = ANSWER_SECONDS,
    ) -> bytes:
        """The body of an answer. Raises EdgedError for a refusal, OSError without an answer."""
        connection = self._connection(seconds)
        try:
            connection.request(method, path, body, {**self.headers, **(headers or {})})
            answer = connection.getresponse()
            content = answer.read()
        except http.client.HTTPException as error:
            raise ConnectionError(f"the answer broke off ({error!r})") from error
        finally:
            connection.close()
        if answer.status >= 400 and not (path == "/v1/health" and answer.status == 503):
            raise refusal(answer.status, content)
        return content

    def get(self, path: str) -> Any:
        return msgspec.json.decode(self.ask("GET", path))

    def finals(self, after: int) -> Iterator[tuple[int, Final]]:
        """What the microphone has heard since a final's number, each with its number."""
        cursor: str | None = str(after)
        while cursor is not None:
            content = self.ask("GET", f"/v1/transcripts?limit={PAGE}&cursor={cursor}")
            page = msgspec.json.decode(content, type=_Page)
            for stored in page.transcripts:
                if stored.stream == "microphone":
                    yield stored.id, stored.event
            cursor = page.cursor

    def mute(self, muted: bool) -> None:
        order = msgspec.json.encode({"muted": muted})
        self.ask("POST", "/v1/microphone", order, {"Content-Type": "application/json"})

    def reload(self) -> list[str]:
        """Have the configuration read again; what changes only with the next start. Raises
        EdgedError."""
        try:
            answer = msgspec.json.decode(self.ask("POST", "/v1/reload"))
        except OSError as error:
            raise no_daemon(self, error) from error
        sentences: list[str] = answer["later"]
        return sentences

    def transcribe(self, path: Path, words: bool) -> Transcription:
        """Have a recording recognised. Raises EdgedError."""
        fields = [("response_format", "verbose_json"), ("timestamp_granularities[]", "segment")]
        fields += [("timestamp_granularities[]", "word")] if words else []
        try:
            file = path.open("rb")
        except OSError as error:
            raise EdgedError(f"{path} cannot be read: {error.strerror}", code="no_file") from error
        with file:
            body, headers = _form(file, path.name, fields)
            try:
                content = self.ask("POST", TRANSCRIPTIONS, body, headers, RECOGNISE_SECONDS)
            except OSError as error:
                raise no_daemon(self, error) from error
        return msgspec.json.decode(content, type=Transcription)


def _split(url: str) -> Any:
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise EdgedError(f"{url} is no address; use http://HOST:PORT", code="bad_url")
    return parts


def _form(
    file: BinaryIO, name: str, fields: list[tuple[str, str]]
) -> tuple[Iterator[bytes], dict[str, str]]:
    """A form with a file, read as it is sent; and its headers."""
    boundary = secrets.token_hex(16)
    head = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
        for key, value in fields
    )
    head += f'--{boundary}\r\nContent-Disposition: form-data; name="file"; '
    head += f'filename="{quote(name)}"\r\n\r\n'
    tail = f"\r\n--{boundary}--\r\n"
    length = len(head) + os.fstat(file.fileno()).st_size + len(tail)

    def body() -> Iterator[bytes]:
        yield head.encode()
        while block := file.read(BLOCK):
            yield block
        yield tail.encode()

    kind = f"multipart/form-data; boundary={boundary}"
    return body(), {"Content-Type": kind, "Content-Length": str(length)}


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def refusal(status: int, content: bytes) -> EdgedError:
    """The daemon's reason as an error, with its code."""
    try:
        problem = msgspec.json.decode(content)
        problem = problem.get("error", problem)
        message, code = problem.get("detail") or problem["message"], problem.get("code")
    except (msgspec.DecodeError, UnicodeError, AttributeError, KeyError):
        message, code = content[:200].decode("utf-8", "replace"), None
    return EdgedError(f"The daemon refuses ({status}): {message}", code=code or "refused")


def no_daemon(address: Address, error: Exception) -> EdgedError:
    """Nobody is there."""
    return EdgedError(
        f"No daemon answers at {address} ({error}). Start one: edged run", code="no_daemon"
    )
