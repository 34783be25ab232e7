"""`edged doctor` finds faults that are really there, each by its code."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from bench.soak import faults
from edged.models import check
from edged.models.inventory import store
from edged.models.store import MANIFEST
from tests import chaos
from tests.audio.sound_server import SoundServer
from tests.conftest import TINY
from tests.daemon import DaemonProcess

Findings = dict[str, dict[str, Any]]


class Doctor:
    """The real command, with folders of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "EDGED_STATE_DIR": str(folder),
            "EDGED_RUNTIME_DIR": str(folder),
            "EDGED_CONFIG_DIR": str(folder),
        }

    def configure(self, text: str) -> Path:
        file = self.folder / "edged.toml"
        file.write_text(text)
        return file

    def __call__(
        self,
        *subjects: str,
        prefix: Sequence[str] = (),
        environment: Mapping[str, str | Path] | None = None,
    ) -> tuple[int, Findings]:
        """The exit code, and findings by code."""
        done = subprocess.run(
            [*prefix, sys.executable, "-m", "edged", "doctor", "--json", "--seconds=1", *subjects],
            env={**self.environment, **{k: str(v) for k, v in (environment or {}).items()}},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout, done.stderr
        findings = json.loads(done.stdout)["findings"]
        assert all(f["remedy"] for f in findings if f["verdict"] in {"warn", "fail"})
        return done.returncode, {finding["code"]: finding for finding in findings}


@pytest.fixture
def doctor(tmp_path: Path) -> Doctor:
    return Doctor(tmp_path)


# -- sound ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoundServer]:
    if reason := SoundServer.missing():
        pytest.skip(reason)
    server = SoundServer(tmp_path_factory.mktemp("room") / "server")
    yield server
    server.stop()


@pytest.fixture
def hear(
    room: SoundServer, doctor: Doctor, tmp_path: Path
) -> Iterator[Callable[..., tuple[int, Findings]]]:
    """Play samples to a microphone and have it examined."""
    handles = []

    def examine(samples: np.ndarray, muted: bool = False) -> tuple[int, Findings]:
        channels = 1 if samples.ndim == 1 else samples.shape[1]
        handles.append(room.plug(channels=channels))
        room.mute(muted)
        sound = tmp_path / "sound.wav"
        soundfile.write(sound, samples, 16000, subtype="FLOAT")
        player = room.play(sound)
        code, findings = doctor("audio", environment=room.environment)
        player.kill()
        player.wait()
        return code, findings

    yield examine
    for handle in handles:
        room.unplug(handle)


@pytest.fixture
def talk(speech: np.ndarray) -> np.ndarray:
    """30 s of speech in a room that is not quite silent."""
    hiss = np.random.default_rng(1).normal(0, 1e-3, 30 * 16000)
    return (speech[16000 : 31 * 16000] * 4 + hiss).astype(np.float32)


def test_a_good_microphone_is_left_alone(
    hear: Callable[..., tuple[int, Findings]], talk: np.ndarray
) -> None:
    code, found = hear(talk)
    assert {finding["verdict"] for finding in found.values()} == {"ok"}, found
    assert code == 0
    assert found["microphone"]["reason"].startswith("pulse:vmic.monitor")


def test_a_muted_microphone(hear: Callable[..., tuple[int, Findings]], talk: np.ndarray) -> None:
    code, found = hear(talk, muted=True)
    assert found["muted_in_sound_server"]["remedy"] == "pactl set-source-mute vmic.monitor 0"
    assert code == 2


@pytest.mark.long
def test_a_microphone_that_hears_nothing(hear: Callable[..., tuple[int, Findings]]) -> None:
    _, found = hear(np.zeros(16000, np.float32))
    assert found["only_zeros"]["verdict"] == "fail"


def test_sound_off_zero(hear: Callable[..., tuple[int, Findings]], talk: np.ndarray) -> None:
    code, found = hear(talk + np.float32(0.05))
    assert "+5.0%" in found["dc_offset"]["reason"]
    assert "clipping" not in found
    assert code == 1


def test_sound_that_is_cut_off(hear: Callable[..., tuple[int, Findings]], talk: np.ndarray) -> None:
    _, found = hear(np.clip(talk * 30, -1, 1))
    assert found["clipping"]["remedy"].startswith("pactl set-source-volume vmic.monitor")


@pytest.mark.long
def test_a_hum(hear: Callable[..., tuple[int, Findings]], talk: np.ndarray) -> None:
    hum = 0.1 * np.sin(2 * np.pi * 50 / 16000 * np.arange(len(talk)))
    _, found = hear((talk + hum).astype(np.float32))
    assert "never below -23 dBFS" in found["noise_floor"]["reason"]


def test_a_channel_that_hears_nothing(
    hear: Callable[..., tuple[int, Findings]], talk: np.ndarray
) -> None:
    _, found = hear(np.stack([np.zeros_like(talk), talk], axis=1))
    assert found["dead_channel"]["remedy"] == "set microphone.channel = 1 in edged.toml"


@pytest.mark.long
def test_the_wrong_channel_is_chosen(
    hear: Callable[..., tuple[int, Findings]], talk: np.ndarray, doctor: Doctor
) -> None:
    doctor.configure("[microphone]\nchannel = 0\n")
    code, found = hear(np.stack([talk / 1000, talk], axis=1))
    assert found["wrong_channel"]["remedy"] == "set microphone.channel = 1 in edged.toml"
    assert code == 2


@pytest.mark.long
def test_a_microphone_that_is_not_there(room: SoundServer, doctor: Doctor) -> None:
    doctor.configure('[microphone]\nsource = "pulse:other"\n')
    _, found = doctor("audio", environment=room.environment)
    assert "pulse:other is not there" in found["no_microphone"]["reason"]


@pytest.mark.long
def test_a_sound_server_that_is_frozen(room: SoundServer, doctor: Doctor) -> None:
    with room.frozen():
        code, found = doctor("audio", environment=room.environment)
    assert found["sound_server_hung"]["verdict"] == "fail"
    assert code == 2


def test_a_sound_server_that_died(room: SoundServer, doctor: Doctor, tmp_path: Path) -> None:
    server = SoundServer(tmp_path / "server")
    server.stop()
    _, found = doctor("audio", environment=server.environment)
    assert server.environment["PULSE_SERVER"] in found["no_sound_server"]["reason"]


@pytest.mark.long
def test_a_daemon_that_was_told_to_hear_nothing(
    room: SoundServer,
    doctor: Doctor,
    start_daemon: Callable[..., DaemonProcess],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its own microphone is looked at, whatever the configuration says to doctor."""
    for name, value in room.environment.items():
        monkeypatch.setenv(name, value)
    handle = room.plug("other")
    daemon = start_daemon("--source", "pulse:other.monitor", "--model", TINY)
    daemon.post("/v1/microphone", {"muted": True})
    _, found = doctor("audio", environment={"EDGED_RUNTIME_DIR": daemon.folder})
    room.unplug(handle)
    assert str(daemon.unix_socket) in found["muted"]["remedy"]
    assert found["microphone"]["reason"].startswith("pulse:other.monitor")


# -- disk, clock ----------------------------------------------------------------------------------


def in_a_mount(folder: Path, options: str, then: str = "true") -> list[str]:
    """A command's prefix: it sees a small file system at `folder`, which nobody else does."""
    alone = ["unshare", "--mount", *["--user", "--map-root-user"] * (os.getuid() != 0)]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    script = (
        f'mount -t tmpfs -o {options} tmpfs {shlex.quote(str(folder))} && {{ {then}; exec "$@"; }}'
    )
    return [*alone, "sh", "-c", script, "sh"]


def test_a_disk_that_is_full(doctor: Doctor, tmp_path: Path) -> None:
    fill = f"head -c 4M /dev/zero > {shlex.quote(str(tmp_path / 'full'))} 2>&-"
    code, found = doctor("disk", prefix=in_a_mount(tmp_path, "size=2m", fill))
    assert str(tmp_path) in found["disk_full"]["reason"]
    assert code == 2


def test_a_disk_that_is_read_only(doctor: Doctor, tmp_path: Path) -> None:
    _, found = doctor("disk", prefix=in_a_mount(tmp_path, "ro"))
    assert found["read_only"]["remedy"] == f"sudo mount -o remount,rw {tmp_path}"


@pytest.mark.long
def test_a_clock_that_was_set_back(doctor: Doctor, tmp_path: Path) -> None:
    (tmp_path / "transcripts.sqlite").touch()
    clock = tmp_path / "clock"
    try:
        with faults.clock_of_its_own(clock):
            faults.set_clock(clock, -2 * 3600)
            preload = {"LD_PRELOAD": os.environ["LD_PRELOAD"], "EDGED_SOAK_CLOCK": clock}
            _, found = doctor("clock", environment=preload)
    except SystemExit as error:
        pytest.skip(str(error))
    assert found.keys() & {"clock_stepped", "clock_behind"}


# -- network, configuration, permissions ----------------------------------------------------------


def test_a_token_that_everybody_can_read(doctor: Doctor, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a secret that is long enough\n")
    token.chmod(0o644)
    doctor.configure(f'[server]\ntoken_file = "{token}"\n')
    code, found = doctor("network")
    assert found["token_readable"]["remedy"] == f"chmod o= {token}"
    assert code == 2


def test_a_port_that_is_open_to_the_network(doctor: Doctor) -> None:
    doctor.configure('[server]\nhost = "0.0.0.0"\nport = 0\nallowed_origins = ["*"]\n')
    _, found = doctor("network")
    assert "other machines" in found["exposed"]["reason"]
    assert found["any_origin"]["verdict"] == "warn"


def test_a_port_that_another_program_has(doctor: Doctor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        doctor.configure(f"[server]\nport = {port}\n")
        other.settimeout(0)
        _, found = doctor("network")
    assert f"(process {os.getpid()})" in found["port_in_use"]["reason"]


def test_a_configuration_with_a_mistake(doctor: Doctor) -> None:
    file = doctor.configure("[engine]\nmodle = 1\n")
    code, found = doctor("configuration")
    assert f"{file}, line 2" in found["configuration"]["reason"]
    assert code == 2


@pytest.mark.long
def test_files_of_another_user(doctor: Doctor, tmp_path: Path) -> None:
    if os.getuid():
        pytest.skip("only root can give files away")
    file = tmp_path / "transcripts.sqlite"
    file.touch()
    os.chown(file, 1, 1)
    _, found = doctor("permissions")
    assert found["foreign_owner"]["remedy"] == f"sudo chown -R root: {tmp_path}"


# -- engine, daemon -------------------------------------------------------------------------------


def test_a_model_that_is_damaged(doctor: Doctor, tiny_cache: Path) -> None:
    folder = tiny_cache / "models" / TINY
    manifest = tomllib.loads((folder / MANIFEST).read_text())
    name = next(name for name in manifest["files"] if name.endswith(".wav"))
    whole = (folder / name).read_bytes()
    (folder / name).unlink()
    (folder / name).write_bytes(whole[:-1] + b"!")
    environment = {"EDGED_CACHE_DIR": tiny_cache}
    code, found = doctor("engine", environment=environment)
    assert str(folder / name) in found["model_corrupt"]["reason"]
    assert found["model_corrupt"]["remedy"].startswith("edged models build")
    assert code == 2


@pytest.mark.long
def test_workers_that_die_one_after_the_other(
    doctor: Doctor,
    start_daemon: Callable[..., DaemonProcess],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chaos.install(tmp_path, monkeypatch)
    model = store().get(TINY)
    clip = check.read_clip(model.path(check.CHECK_CLIP))
    monkeypatch.setenv("EDGED_TEST_TRAP", str(len(clip)))
    daemon = start_daemon(
        *("--no-microphone", "--model", TINY),
        wait=False,
        engine_provider="chaos",
        engine_fallback="fail",
    )
    daemon.wait(lambda: daemon.get("/v1/engine")[1]["workers"] >= 3)
    code, found = doctor("engine", environment={"EDGED_RUNTIME_DIR": daemon.folder})
    assert "SIGABRT" in found["worker_loop"]["reason"]
    assert code == 2


@pytest.mark.long
def test_a_daemon_that_hangs(doctor: Doctor, start_daemon: Callable[..., DaemonProcess]) -> None:
    daemon = start_daemon("--no-microphone", "--model", TINY)
    there = {"EDGED_RUNTIME_DIR": daemon.folder}
    _, well = doctor("service", environment=there)
    assert well["daemon"]["verdict"] == "ok"
    daemon.process.send_signal(signal.SIGSTOP)
    code, found = doctor("service", environment=there)
    daemon.process.send_signal(signal.SIGCONT)
    assert str(daemon.unix_socket) in found["daemon_hung"]["reason"]
    assert code == 2


def test_a_subject_that_there_is_not(doctor: Doctor) -> None:
    command = [sys.executable, "-m", "edged", "doctor", "teeth"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "teeth is no subject; there are configuration" in done.stderr


def test_people_get_lines_with_remedies(doctor: Doctor) -> None:
    file = doctor.configure("[engine]\nmodle = 1\n")
    command = [sys.executable, "-m", "edged", "doctor", "configuration"]
    done = subprocess.run(
        command, env=doctor.environment, capture_output=True, text=True, check=False
    )
    assert f"edit {file}, then: edged config" in done.stdout
    assert shutil.which("edged") or done.returncode == 2
