"""A private PulseAudio with virtual microphones: real PortAudio hears what is played to them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

MICROPHONE = "vmic"


def open_server(folder: Path) -> SoundServer:
    """PulseAudio, or what has taken its place on this machine."""
    return PipeWire(folder) if PipeWire.missing() is None else SoundServer(folder)


class SoundServer:
    """One PulseAudio server; its null sinks' monitors are the microphones."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "home").mkdir()
        self.folder = folder
        self.environment = {
            "HOME": str(folder / "home"),
            "XDG_RUNTIME_DIR": str(folder),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "PULSE_RUNTIME_PATH": str(folder / "pulse"),
            "PULSE_SERVER": f"unix:{folder / self.socket}",
        }
        script = folder / "server.pa"
        script.write_text(
            f".fail\nload-module module-native-protocol-unix socket={folder / 'native'} "
            "auth-anonymous=1\n"
        )
        self._players: list[subprocess.Popen[bytes]] = []
        self._log = (folder / "server.log").open("wb")
        self.start()

    def start(self) -> None:
        """Start it, without any microphone; also again after `kill`."""
        self._process = subprocess.Popen(
            [
                "pulseaudio", "-n", "-F", str(self.folder / "server.pa"), "--daemonize=no",
                "--exit-idle-time=-1", "--use-pid-file=no", "--disable-shm=yes", "--realtime=no",
                "--high-priority=no",
            ],
            env=self._whole_environment(),
            stdout=self._log,
            stderr=self._log,
        )  # fmt: skip
        self._wait()

    socket = "native"
    programs = ("pulseaudio", "pactl", "paplay")

    @classmethod
    def missing(cls) -> str | None:
        """Why there can be no sound server here."""
        for program in cls.programs:
            if shutil.which(program) is None:
                return f"{program} is not installed: make system-packages"
        try:
            import sounddevice  # noqa: F401
        except OSError:
            return "PortAudio is not installed: make system-packages"
        return None

    def _whole_environment(self) -> dict[str, str]:
        return {**os.environ, **self.environment, "DBUS_SESSION_BUS_ADDRESS": ""}

    def _wait(self) -> None:
        deadline = time.monotonic() + 10
        while self._pactl("info", check=False).returncode:
            if time.monotonic() > deadline:
                raise RuntimeError((self.folder / "server.log").read_text())
            time.sleep(0.02)

    def _pactl(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["pactl", *arguments],
            env=self._whole_environment(),
            check=check,
            capture_output=True,
            text=True,
        )

    def plug(
        self, name: str = MICROPHONE, rate: int = 16000, channels: int = 1, layout: str = ""
    ) -> str:
        """Add a microphone and make it the default; returns the handle to unplug it by.

        `layout` names the channels, as PulseAudio does: aux0,aux1
        """
        options = [f"channel_map={layout}"] if layout else []
        handle = self._pactl(
            "load-module", "module-null-sink", f"sink_name={name}", f"rate={rate}",
            f"channels={channels}", "norewinds=1", *options,
        ).stdout.strip()  # fmt: skip
        self._pactl("set-default-sink", name)
        self.make_default(name)
        return handle

    def make_default(self, name: str) -> None:
        self._pactl("set-default-source", f"{name}.monitor")

    def move(self, name: str) -> None:
        """Have whoever records record this microphone, as a desktop's settings do."""
        for line in self._pactl("list", "short", "source-outputs").stdout.splitlines():
            with contextlib.suppress(subprocess.CalledProcessError):  # it has ended meanwhile
                self._pactl("move-source-output", line.split()[0], f"{name}.monitor")

    def suspend(self, suspended: bool, name: str = MICROPHONE) -> None:
        """Have it deliver nothing, though it is there."""
        self._pactl("suspend-sink", name, str(int(suspended)))

    def mute(self, muted: bool, name: str = MICROPHONE) -> None:
        """Have it deliver zeros."""
        self._pactl("set-source-mute", f"{name}.monitor", str(int(muted)))

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Answer nobody meanwhile."""
        self._process.send_signal(signal.SIGSTOP)
        yield
        self._process.send_signal(signal.SIGCONT)

    def unplug(self, handle: str) -> None:
        self._pactl("unload-module", handle)

    def play(
        self, recording: Path, name: str = MICROPHONE, layout: str = ""
    ) -> subprocess.Popen[bytes]:
        """Speak a recording into a microphone, its channels into those of `layout`."""
        options = [f"--channel-map={layout}"] if layout else []
        player = subprocess.Popen(
            ["paplay", f"--device={name}", *options, str(recording)],
            env=self._whole_environment(),
            stderr=self._log,
        )
        self._players.append(player)
        return player

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        self.kill()
        for player in self._players:
            player.kill()
            player.wait()
        self._log.close()


class PipeWire(SoundServer):
    """PipeWire with WirePlumber and pipewire-pulse, on a bus of its own."""

    socket = "pulse/native"
    programs = ("pipewire", "wireplumber", "pipewire-pulse", "dbus-run-session", "pactl", "paplay")

    def start(self) -> None:
        self.folder.chmod(0o700)
        session = "pipewire & sleep 0.3; wireplumber & sleep 0.3; exec pipewire-pulse"
        self._process = subprocess.Popen(
            ["dbus-run-session", "--", "sh", "-c", session],
            env=self._whole_environment(),
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        self._wait()

    def plug(
        self, name: str = MICROPHONE, rate: int = 16000, channels: int = 1, layout: str = ""
    ) -> str:
        layout = layout or ",".join(f"aux{number}" for number in range(channels))
        handle = self._pactl(
            "load-module", "module-null-sink", f"sink_name={name}", f"rate={rate}",
            "media.class=Audio/Sink", f"channel_map={layout if channels > 1 else 'mono'}",
        ).stdout.strip()  # fmt: skip
        while f"{name}.monitor" not in self._pactl("list", "short", "sources").stdout:
            time.sleep(0.02)
        self.make_default(name)
        return handle

    def make_default(self, name: str) -> None:
        while self._pactl("set-default-source", f"{name}.monitor", check=False).returncode:
            time.sleep(0.02)  # the session manager has yet to find it

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
