"""A private PulseAudio with virtual microphones: real PortAudio hears what is played to them."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

MICROPHONE = "vmic"


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
            "PULSE_SERVER": f"unix:{folder / 'native'}",
        }
        script = folder / "server.pa"
        script.write_text(
            f".fail\nload-module module-native-protocol-unix socket={folder / 'native'} "
            "auth-anonymous=1\n"
        )
        self._log = (folder / "server.log").open("wb")
        self._process = subprocess.Popen(
            [
                "pulseaudio", "-n", "-F", str(script), "--daemonize=no", "--exit-idle-time=-1",
                "--use-pid-file=no", "--disable-shm=yes", "--realtime=no", "--high-priority=no",
            ],
            env=self._whole_environment(),
            stdout=self._log,
            stderr=self._log,
        )  # fmt: skip
        self._wait()

    @staticmethod
    def missing() -> str | None:
        """Why there can be no sound server here."""
        for program in ("pulseaudio", "pactl", "paplay"):
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

    def plug(self, name: str = MICROPHONE, rate: int = 16000, channels: int = 1) -> str:
        """Add a microphone and make it the default; returns the handle to unplug it by."""
        handle = self._pactl(
            "load-module", "module-null-sink", f"sink_name={name}", f"rate={rate}",
            f"channels={channels}", "norewinds=1",
        ).stdout.strip()  # fmt: skip
        self._pactl("set-default-sink", name)
        self._pactl("set-default-source", f"{name}.monitor")
        return handle

    def unplug(self, handle: str) -> None:
        self._pactl("unload-module", handle)

    def play(self, recording: Path, name: str = MICROPHONE) -> subprocess.Popen[bytes]:
        """Speak a recording into a microphone."""
        return subprocess.Popen(
            ["paplay", f"--device={name}", str(recording)], env=self._whole_environment()
        )

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()
