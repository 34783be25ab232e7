"""Daemons of a kind, shared by the tests of one file."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.conftest import TINY
from tests.daemon import DaemonProcess

Shared = Callable[..., DaemonProcess]


@pytest.fixture(scope="module")
def shared_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """Start a daemon for a whole module: flags, then settings as environment."""
    daemons: list[DaemonProcess] = []

    def start(*flags: str, **settings: object) -> DaemonProcess:
        folder = tmp_path_factory.mktemp("daemon")
        daemons.append(DaemonProcess(folder, ("--model", TINY, *flags), settings))
        daemons[-1].wait_ready()
        return daemons[-1]

    yield start
    for daemon in daemons:
        assert daemon.stop() == 0
