"""`edged report`: one archive for a bug report, with what helps and without what is nobody's
business."""

from __future__ import annotations

import io
import json
import os
import platform
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import tomli_w

from edged import __version__
from edged.client.requests import Address
from edged.config import Configuration, read_token
from edged.engine.probe import last_report
from edged.errors import EdgedError
from edged.recorder.tape import SOUND, recordings, segments
from edged.redaction import Redaction, unsaid

ANSWER_SECONDS = 10.0
LOG_SECONDS = 20.0
MOST_LOG_LINES = 10_000
PATHS = ("health", "engine", "devices", "plugins", "models", "clock")
"""What is asked of a running daemon"""
LIBRARIES = ("onnxruntime", "numpy", "sounddevice", "fastapi", "uvicorn", "websockets", "msgspec")


@dataclass(frozen=True, slots=True)
class Part:
    """One file of the archive."""

    name: str
    content: bytes
    about: str


@dataclass(frozen=True, slots=True)
class Wish:
    """What goes in beside the usual."""

    audio: bool = False
    """The recorder's audio; its texts with it, since they can be heard in it"""
    text: bool = False
    """What was said, as text"""
    minutes: float = 30.0
    """Of the log and the recorder, back from now"""

    @property
    def said(self) -> bool:
        return self.audio or self.text


def collect(
    configuration: Configuration | EdgedError, url: str | None, token: str | None, wish: Wish
) -> Iterator[Part]:
    """All parts, one after the other; one that cannot be had says why instead. `url` and `token`
    are the running daemon's, where they are not as configured. Raises EdgedError for a bad url."""
    settings: Mapping[str, Any] = {}
    configured = None
    if isinstance(configuration, Configuration):
        settings = configuration.model_dump(mode="json", exclude_none=True)
        configured = _token(configuration)
    redaction = Redaction(settings, token, configured)
    address = Address(url, token or configured)
    yield _json("about.json", _about(), "versions, system", redaction)
    if isinstance(configuration, EdgedError):
        yield _text("configuration.txt", configuration.message, "what is wrong with it", redaction)
        configuration = Configuration()
    else:
        content = tomli_w.dumps(redaction.value(settings)).encode()
        yield Part("configuration.toml", content, "in force, without secrets")
    if (probed := last_report()) is not None:
        yield _json("probe.json", msgspec.to_builtins(probed), "the last edged probe", redaction)
    yield from _daemon(address, redaction)
    yield _log(wish, redaction)
    yield from _recorder(recordings(configuration.recorder), wish, redaction)


def _token(configuration: Configuration) -> str | None:
    try:
        return read_token(configuration.server)
    except EdgedError:
        return None


def _about() -> dict[str, Any]:
    return {
        "edged": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "libraries": {name: version for name in LIBRARIES if (version := _version(name))},
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _daemon(address: Address, redaction: Redaction) -> Iterator[Part]:
    """What the running one says of itself."""
    for path in PATHS:
        try:
            answer = json.loads(address.ask("GET", f"/v1/{path}", seconds=ANSWER_SECONDS))
        except (EdgedError, OSError, ValueError) as error:
            yield _text(f"{path}.txt", f"no answer: {error}", "the daemon did not say", redaction)
            if isinstance(error, OSError):
                return
            continue
        yield _json(f"{path}.json", answer, f"GET /v1/{path}", redaction)
    try:
        metrics = address.ask("GET", "/metrics", seconds=ANSWER_SECONDS).decode()
        yield _text("metrics.txt", metrics, "GET /metrics", redaction)
    except (EdgedError, OSError):
        return


def _log(wish: Wish, redaction: Redaction) -> Part:
    """The journal of the service, the system's or the user's."""
    reason = "nothing of edged's is in the journal"
    for whose in ([], ["--user"]):
        command = ["journalctl", *whose, "--unit=edged", "--no-pager", "--output=short-iso"]
        command += [f"--since=-{wish.minutes:.0f}min", f"--lines={MOST_LOG_LINES}"]
        try:
            done = subprocess.run(
                command, capture_output=True, timeout=LOG_SECONDS, check=False, text=True
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            reason = f"no journal: {error}"
            continue
        if done.returncode == 0 and "edged" in done.stdout:
            return _text("log.txt", done.stdout, "the service's log, without secrets", redaction)
    return _text("log.txt", f"{reason}\n", "there is none", redaction)


def _recorder(folder: Path, wish: Wish, redaction: Redaction) -> Iterator[Part]:
    """The flight recorder's segments of late."""
    earliest = time.time() - wish.minutes * 60
    for path in segments(folder):
        sound = path.with_suffix(SOUND)
        try:
            if path.stat().st_mtime < earliest:
                continue
            lines = b"".join(_lines(path, wish, redaction))
            samples = sound.read_bytes() if wish.audio else b""
        except OSError:  # it made room for a newer one
            continue
        about = "decisions, with texts" if wish.said else "decisions, without texts"
        yield Part(f"recorder/{path.name}", lines, about)
        if wish.audio:
            yield Part(f"recorder/{sound.name}", samples, "audio")


def _lines(path: Path, wish: Wish, redaction: Redaction) -> Iterator[bytes]:
    for line in path.read_bytes().splitlines():
        try:
            value = json.loads(line)
        except ValueError:  # the last one is being written
            continue
        value = redaction.value(value)
        yield msgspec.json.encode(value if wish.said else unsaid(value)) + b"\n"


def _json(name: str, value: Any, about: str, redaction: Redaction) -> Part:
    content = msgspec.json.format(msgspec.json.encode(redaction.value(value)), indent=2)
    return Part(name, content + b"\n", about)


def _text(name: str, text: str, about: str, redaction: Redaction) -> Part:
    return Part(name, redaction.text(text).encode(), about)


def write(path: Path, parts: list[Part]) -> None:
    """Make the archive, for its owner alone. Raises EdgedError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise EdgedError(f"{path} is there already. Name another with --output") from error
    except OSError as error:
        raise EdgedError(
            f"{path} cannot be written ({error.strerror}). Name another place with --output"
        ) from error
    try:
        with (
            os.fdopen(descriptor, "wb") as file,
            tarfile.open(fileobj=file, mode="w:gz") as archive,
        ):
            for part in parts:
                _add(archive, f"{path.name.partition('.')[0]}/{part.name}", part.content)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise EdgedError(f"{path} cannot be written ({error.strerror})") from error


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = len(content), int(time.time()), 0o600
    archive.addfile(member, io.BytesIO(content))
