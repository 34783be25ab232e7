"""A Debian with systemd, to install packages on: booted by systemd-nspawn, changed in memory."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

PROGRAMS = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "nsenter": "util-linux",
    "dpkg-deb": "dpkg",
}
"""Programs that are needed, and the package that has each"""
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "dbus-user-session", "libpam-systemd", "udev", "man-db"),
    *("bash-completion", "pulseaudio", "pulseaudio-utils"),
)
"""Beside what edged's package depends on"""
HIERARCHIES = ("unified", "systemd")
"""Control groups of a host that is not run by systemd"""
BOOT_SECONDS = 60.0


def missing() -> str | None:
    """Why there can be no such machine here."""
    if os.geteuid() != 0:
        return "only root can boot a container"
    for program, package in PROGRAMS.items():
        if shutil.which(program) is None:
            return f"{program} is not installed: apt-get install {package}"
    return None


def base(folder: Path, depends: Sequence[str]) -> Path:
    """A bare Debian of this machine's release, with what a package depends on; made once."""
    release = platform.freedesktop_os_release()["VERSION_CODENAME"]
    root = folder / f"debian-{release}"
    wanted = ",".join([*PACKAGES, *depends])
    stamp = root / "etc" / "made-for"
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(root, ignore_errors=True)
        root.parent.mkdir(parents=True, exist_ok=True)
        command = ["mmdebstrap", "--variant=minbase", f"--include={wanted}", release, str(root)]
        subprocess.run(command, check=True)
        stamp.write_text(wanted)
    return root


class Machine:
    """A running one. What is written lies in a tmpfs, over the base."""

    def __init__(self, base: Path, folder: Path, shared: Path) -> None:
        """`shared` is seen inside at /shared."""
        self._folder = folder
        self._name = f"edged-test-{os.getpid()}"
        self.root = folder / "root"
        self._mount(base)
        self._process = self._boot(shared)
        self._leader = 0
        """Its first process"""
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    def _mount(self, base: Path) -> None:
        layers = self._folder / "layers"
        layers.mkdir()
        self.root.mkdir()
        _mount("-t", "tmpfs", "-o", "size=2g", "tmpfs", str(layers))
        (layers / "upper").mkdir()
        (layers / "work").mkdir()
        options = f"lowerdir={base},upperdir={layers}/upper,workdir={layers}/work"
        _mount("-t", "overlay", "-o", options, "overlay", str(self.root))

    def _boot(self, shared: Path) -> subprocess.Popen[bytes]:
        # Where systemd does not run the host, nobody gives us a control group of our own.
        alone = not Path("/run/systemd/system").is_dir()
        groups = [Path("/sys/fs/cgroup", name) for name in HIERARCHIES if alone]
        self._groups = [group / self._name for group in groups if group.is_dir()]
        for group in self._groups:
            group.mkdir()
        join = "".join(f"echo $$ > {group}/cgroup.procs; " for group in self._groups)
        command = [
            *("systemd-nspawn", "--quiet", f"--directory={self.root}", f"--machine={self._name}"),
            *("--private-network", "--console=pipe", "--kill-signal=SIGRTMIN+3"),
            # Else limits on devices and addresses are silently not enforced.
            "--system-call-filter=bpf",
            "--capability=CAP_BPF,CAP_PERFMON,CAP_NET_ADMIN",
            f"--bind-ro={shared}:/shared",
            *(("--register=no", "--keep-unit") if alone else ()),
            "--boot",
        ]
        with (self._folder / "console").open("wb") as console:
            return subprocess.Popen(
                ["sh", "-c", f'{join}exec "$@"', "sh", *command],
                env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )

    def _wait(self) -> None:
        deadline = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(IndexError):
                self._leader = self._child()
                if self.try_("systemctl", "is-system-running")[1] in {"running", "degraded"}:
                    return
            time.sleep(0.1)
        raise RuntimeError((self._folder / "console").read_text())

    def _child(self) -> int:
        """Its first process, as the host numbers it."""
        tasks = Path(f"/proc/{self._process.pid}/task").glob("*/children")
        return int("".join(path.read_text() for path in tasks).split()[0])

    def _inside(self, command: Sequence[str]) -> list[str]:
        return ["nsenter", f"--target={self._leader}", "--all", "--", *command]

    def try_(self, *command: str) -> tuple[int, str]:
        """Exit code of a command inside, and what it prints, errors included."""
        done = subprocess.run(
            self._inside(command),
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout.strip()

    def run(self, *command: str) -> str:
        """What a command inside prints; it must not fail."""
        code, text = self.try_(*command)
        assert code == 0, f"{command}: {text}"
        return text

    def does(self, *command: str) -> bool:
        """Whether a command succeeds."""
        return self.try_(*command)[0] == 0

    @contextlib.contextmanager
    def running(self, *command: str) -> Iterator[subprocess.Popen[str]]:
        """A program inside, with its stdout."""
        options: dict[str, Any] = {"env": ENVIRONMENT, "stdout": subprocess.PIPE, "text": True}
        process = subprocess.Popen(self._inside(command), start_new_session=True, **options)
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # nsenter leaves its child behind otherwise
            process.communicate()

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for group in self._groups:
            for path in sorted(group.rglob("*"), reverse=True):
                if path.is_dir():
                    path.rmdir()
            group.rmdir()
        for mounted in (self.root, self._folder / "layers"):
            subprocess.run(["umount", "--lazy", str(mounted)], check=True)


ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "SYSTEMD_PAGER": ""}


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)
