"""`edged report`: a real daemon with secrets in every corner, and none of them in the archive."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import TINY
from tests.daemon import DaemonProcess

SECRETS = ("tok-5f0e1c", "mqtt-pass-77", "rtsp-pass-88", "sk-live-99", "journal-pass-11")
JOURNAL = """#!/bin/sh
echo "edged[1]: listening, token tok-5f0e1c"
echo "edged[1]: rtsp://admin:journal-pass-11@camera refused"
"""


def report(daemon: DaemonProcess, *flags: str, path: str = "") -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        **{f"EDGED_{kind}_DIR": str(daemon.folder) for kind in ("STATE", "RUNTIME", "CONFIG")},
        "PATH": f"{path}:{os.environ['PATH']}",
    }
    command = [sys.executable, "-m", "edged", "report", *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def unpacked(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as file:
        members = [member for member in file.getmembers() if member.isfile()]
        contents = {m.name.partition("/")[2]: file.extractfile(m) for m in members}
        return {name: reader.read() for name, reader in contents.items() if reader}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, speech: np.ndarray) -> Iterator[DaemonProcess]:
    """It has heard a sentence, records itself, and is full of secrets."""
    folder = tmp_path_factory.mktemp("secretive")
    (folder / "token").write_text("tok-5f0e1c\n")
    (folder / "token").chmod(0o600)
    (folder / "edged.toml").write_text(
        f"""
        [server]
        token_file = "{folder}/token"
        [engine]
        model = "{TINY}"
        [microphone]
        source = "program:cat {folder}/speech.raw # rtsp://admin:rtsp-pass-88@camera"
        [recorder]
        enabled = true
        [sinks.nowhere]
        password = "mqtt-pass-77"
        [providers.cloud]
        api_key = "sk-live-99"
        """
    )
    pcm = np.concatenate([speech[: 5 * 16000], np.zeros(24000, np.float32)])
    (folder / "speech.raw").write_bytes((pcm * 32767).astype("<i2").tobytes())
    running = DaemonProcess(folder, (), {})
    lines = folder / "recordings"
    running.wait(lambda: any(b'"said"' in p.read_bytes() for p in lines.glob("*.jsonl")))
    yield running
    running.stop()


def test_no_secret_and_nothing_said_is_in_it(daemon: DaemonProcess, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    journal = tmp_path / "bin" / "journalctl"
    journal.write_text(JOURNAL)
    journal.chmod(0o755)
    archive = tmp_path / "mine.tar.gz"
    done = report(daemon, "--output", str(archive), path=str(journal.parent))
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    parts = unpacked(archive)
    listed = [line.split()[1] for line in done.stdout.splitlines()[:-1]]
    assert listed == list(parts)
    assert {"about.json", "configuration.toml", "health.json", "engine.json", "log.txt"} <= set(
        parts
    )
    assert json.loads(parts["health.json"])["ready"]
    assert b"edged_finals" in parts["metrics.txt"]
    assert b"listening" in parts["log.txt"]
    assert b'"judged"' in next(parts[name] for name in parts if name.startswith("recorder/"))
    everything = b"\n".join(parts.values()) + done.stdout.encode()
    for secret in SECRETS:
        assert secret.encode() not in everything, secret
    for word in (b"best of times", b"worst", b'"times'):
        assert word not in everything
    assert not [name for name in parts if name.endswith(".pcm")]

    again = report(daemon, "--output", str(archive))
    assert (again.returncode, again.stderr.count("\n")) == (1, 1)
    assert "--output" in again.stderr


def test_what_was_said_is_in_it_where_that_is_wished(daemon: DaemonProcess, tmp_path: Path) -> None:
    only_listed = report(daemon, "--audio", "--list")
    assert ".pcm" in only_listed.stdout
    assert not list(tmp_path.glob("*.gz"))
    archive = tmp_path / "all.tar.gz"
    assert report(daemon, "--audio", "--output", str(archive)).returncode == 0
    parts = unpacked(archive)
    lines = next(parts[name] for name in parts if name.endswith(".jsonl"))
    assert b"best of times" in lines
    assert len(next(parts[name] for name in parts if name.endswith(".pcm"))) > 5 * 16000


def test_it_is_made_without_a_daemon_and_with_a_broken_configuration(tmp_path: Path) -> None:
    (tmp_path / "edged.toml").write_text("[server]\nprot = 1\n")
    environment = {
        **os.environ,
        **{f"EDGED_{kind}_DIR": str(tmp_path) for kind in ("STATE", "RUNTIME", "CONFIG")},
    }
    archive = tmp_path / "poor.tar.gz"
    command = [sys.executable, "-m", "edged", "report", "--output", str(archive)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    parts = unpacked(archive)
    assert b"prot" in parts["configuration.txt"]
    assert b"no answer" in parts["health.txt"]
