"""A daemon to measure: `edged run` in a process of its own, with folders of its own."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edged.client.requests import Address
from edged.config import FILE
from edged.errors import EdgedError

READY_SECONDS = 60.0
STOP_SECONDS = 30.0
NOTHING: Mapping[str, object] = MappingProxyType({})
_COMPLAINT = re.compile(r"\b(WARNING|ERROR|CRITICAL)\b|Traceback|Fatal|^\w*Error\b")


@dataclass(frozen=True)
class Installation:
    """An edged that can be run: this one, or another environment's."""

    python: str = sys.executable
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)

    @property
    def is_ours(self) -> bool:
        return self.python == sys.executable

    @classmethod
    def of(cls, python: Path) -> Installation:
        """That of another Python, which must not find ours in its place."""
        ours = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
        kept = {name: value for name, value in os.environ.items() if name not in ours}
        found = shutil.which(python) or python
        return cls(str(Path(found).absolute()), kept)  # a link into an environment stays one

    def command(self, *arguments: str) -> list[str]:
        """Ours may be a checkout that is run from where it lies; another's is not."""
        return [self.python, *([] if self.is_ours else ["-P"]), *arguments]


OURS = Installation()


class DaemonProcess:
    """`edged run` on a free port."""

    def __init__(
        self,
        folder: Path,
        flags: Sequence[str],
        settings: Mapping[str, object] = NOTHING,
        launcher: tuple[Sequence[str], Sequence[int]] = ((), ()),
        installation: Installation = OURS,
    ) -> None:
        """`settings` are environment variables without their prefix: server_port=1. `launcher` is
        what stands before the command, and the descriptors that it inherits."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.log = folder / "log"
        self.unix_socket = folder / "edged.sock"
        (folder / FILE).touch()  # else the machine's own configuration would be taken
        environment = {
            **installation.environment,
            "EDGED_STATE_DIR": str(folder),
            "EDGED_RUNTIME_DIR": str(folder),
            "EDGED_CONFIG_DIR": str(folder),
        }
        environment |= {f"EDGED_{k.upper()}": str(v) for k, v in settings.items()}
        port = [] if "--port" in flags else ["--port", "0"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*launcher[0], *installation.command("-m", "edged", "run"), *port, *flags],
                env=environment,
                cwd=None if installation.is_ours else folder,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                pass_fds=launcher[1],
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def port(self) -> int:
        """The TCP port, from the log's line about it. Raises EdgedError before there is one."""
        for line in self.log.read_text().splitlines():
            if "listening on http://" in line:
                return int(line.split("listening on http://")[1].split()[0].rsplit(":", 1)[1])
        raise self._failed("is not listening yet")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> Address:
        return Address(self.url)

    def wait(self, condition: Callable[[], Any], seconds: float = READY_SECONDS) -> Any:
        """Wait until condition() is true; its value. Raises EdgedError with the log."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(EdgedError, OSError):
                if value := condition():
                    return value
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        has_left = self.process.poll() is not None
        raise self._failed("has left" if has_left else f"was waited for {seconds:.0f} s in vain")

    def wait_ready(self, seconds: float = READY_SECONDS) -> None:
        """Wait until it can recognise. Raises EdgedError with the log."""
        self.wait(lambda: self.address.get("/v1/health")["ready"], seconds)

    def stop(self) -> int:
        """Ask it to stop; its exit code. One that does not leave is killed; raises EdgedError."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise self._failed("did not stop") from None
        return self.process.returncode

    def complaints(self) -> list[str]:
        """The lines of its log that speak of trouble."""
        return [line for line in self.log.read_text().splitlines() if _COMPLAINT.search(line)]

    def _failed(self, what: str) -> EdgedError:
        """With what it said last: that is the reason, if it has left."""
        last = (self.log.read_text().splitlines() or ["it said nothing"])[-1]
        sentence = f"The daemon {what}: {last.removeprefix('edged: ')}"
        return EdgedError(sentence, code="daemon_failed")


@contextlib.contextmanager
def running(
    model: str,
    settings: Mapping[str, object] = NOTHING,
    source: Sequence[str] = ("--no-microphone",),
    installation: Installation = OURS,
    patience: float = READY_SECONDS,
) -> Iterator[DaemonProcess]:
    """A ready daemon for one model, without a microphone, with folders of its own."""
    with tempfile.TemporaryDirectory(prefix="edged-bench-") as folder:
        flags = (*source, "--model", model)
        daemon = DaemonProcess(Path(folder), flags, settings, installation=installation)
        try:
            daemon.wait_ready(patience)
            yield daemon
        finally:
            daemon.stop()
