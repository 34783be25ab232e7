"""What is examined: a configuration, and the daemon that runs with it, if one does."""

from __future__ import annotations

import contextlib
import os
import re
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import msgspec

from edged import config
from edged.client.requests import Address, default_socket
from edged.config import Configuration, ServerSection
from edged.doctor.holders import process
from edged.doctor.sockets import holder_of
from edged.errors import ConfigurationError, EdgedError

ANSWER_SECONDS = 3.0
"""A daemon that takes longer over its health hangs"""
SERVICE = {
    "STATE_DIRECTORY": Path("/var/lib/edged"),
    "CACHE_DIRECTORY": Path("/var/cache/edged"),
    "CONFIGURATION_DIRECTORY": Path("/etc/edged"),
}
"""Where the system's unit has its files; root looks at these while it does not run"""
_PLACES = re.compile(r"EDGED_.*|\w+_DIRECTORY|HOME|XDG_\w+|PULSE_\w+")
"""Variables that say where things are"""
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  read, not bound


class Request(msgspec.Struct, frozen=True):
    """What `edged doctor` was asked."""

    config: Path | None = None
    url: str | None = None
    token_file: Path | None = None
    seconds: float = 3.0
    """How long to listen"""


class Daemon(msgspec.Struct, frozen=True):
    """Who answers, and how."""

    state: Literal["none", "hung", "refuses", "stranger", "answers"]
    address: str
    reason: str = ""
    health: dict[str, Any] = {}


class Patient:
    """Of one examination."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self._read()
        if self.pid and self.pid != os.getpid():
            self._adopt()
            self._read()
        elif not self.pid and os.getuid() == 0 and SERVICE["STATE_DIRECTORY"].is_dir():
            for name, folder in SERVICE.items():
                os.environ.setdefault(name, str(folder))
            self._read()

    def _read(self) -> None:
        request = self.request
        self.file = request.config or config.default_file()
        self.problem: ConfigurationError | None = None
        """Of the configuration, which is the default one then"""
        try:
            self.configuration = config.load(self.file)
        except ConfigurationError as error:
            self.problem = error
            self.configuration = Configuration.model_validate({})

    @cached_property
    def _addresses(self) -> list[Address]:
        """Where its daemon may be."""
        if self.request.url:
            return [Address(self.request.url, self._token)]
        section = self.configuration.server
        addresses = [Address(f"unix:{path}")] if (path := self.unix_socket) else []
        if section.port:
            host = WILDCARDS.get(section.host, section.host)
            name = f"[{host}]" if ":" in host else host
            addresses.append(Address(f"http://{name}:{section.port}", self._token))
        return addresses

    @property
    def unix_socket(self) -> Path | None:
        """Of the daemon."""
        named = self.configuration.server.unix_socket
        if named == "auto":
            return default_socket()
        return Path(named) if named else None

    @property
    def _token(self) -> str | None:
        file = self.request.token_file or self.configuration.server.token_file
        with contextlib.suppress(ConfigurationError):
            return config.read_token(ServerSection(token_file=file))
        return None

    @cached_property
    def daemon(self) -> Daemon:
        """The first that answers at all."""
        found = Daemon("none", " or ".join(map(str, self._addresses)))
        for address in self._addresses:
            answer = _ask(address)
            if answer.state == "answers":
                return answer
            if found.state == "none" and answer.state != "none":
                found = answer
        return found

    def ask(self, path: str) -> Any:
        """What the daemon that answers says. Raises EdgedError or OSError."""
        address = next(one for one in self._addresses if str(one) == self.daemon.address)
        return msgspec.json.decode(address.ask("GET", path, seconds=ANSWER_SECONDS))

    @property
    def pid(self) -> int | None:
        """The daemon's process, if it is one of this machine's."""
        return _is_edged(self.daemon.health.get("pid")) if not self.request.url else None

    def _adopt(self) -> None:
        """Take the daemon's view: folders and sound server of its user or unit, not of ours."""
        with contextlib.suppress(OSError):
            theirs = Path(f"/proc/{self.pid}/environ").read_bytes().decode("utf-8", "replace")
            given = dict(line.partition("=")[::2] for line in theirs.split("\0"))
            os.environ.update((k, v) for k, v in given.items() if _PLACES.fullmatch(k))


def _is_edged(pid: int | None) -> int | None:
    """A daemon in a container tells a number that means another process here."""
    with contextlib.suppress(OSError):
        if pid and process(pid).is_edged:
            return pid
    return None


def _ask(address: Address) -> Daemon:
    name = str(address)
    try:
        health = msgspec.json.decode(address.ask("GET", "/v1/health", seconds=ANSWER_SECONDS))
        if "live" in health:
            return Daemon("answers", name, health=health)
    except TimeoutError:
        if not _is_held_by_another(address):
            return Daemon("hung", name, f"it did not answer in {ANSWER_SECONDS:.0f} s")
    except EdgedError as error:
        if error.code in {"token_required", "unknown_host", "unknown_origin"}:
            return Daemon("refuses", name, error.message)
    except PermissionError:
        return Daemon("refuses", name, "this user may not connect")
    except OSError as error:
        # What breaks off has answered; what is not there has not.
        if isinstance(error, ConnectionRefusedError) or not isinstance(error, ConnectionError):
            return Daemon("none", name)
    except (msgspec.DecodeError, TypeError):
        pass
    return Daemon("stranger", name, "what answers there is no edged")


def _is_held_by_another(address: Address) -> bool:
    """Whether a port belongs to a program that is no edged, as far as that may be known."""
    holder = holder_of(address.port) if address.port else None
    return holder is not None and not holder.is_edged
