"""The Debian package on a Debian with systemd, step by step: `make test-deb`, as root.

Each step goes on where the last one left the machine. What is done and seen is written to the file
that EDGED_TRANSCRIPT names.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from edged.watchdog import LATELY_SECONDS
from tests.client import silence
from tests.conftest import ROOT
from tests.debian import machine as debian
from tests.debian.machine import Machine

PACKAGES = Path(os.environ.get("EDGED_PACKAGES", ROOT / "dist"))
DROP_INS = "/usr/share/doc/edged/drop-ins"
OWN = "/etc/systemd/system/edged.service.d"
PYTHON = "/opt/edged/bin/python"
MICROPHONE_UNIT = """
[Unit]
Description=the sound server of somebody's session

[Service]
User=robot
SupplementaryGroups=audio
RuntimeDirectory=session
Environment=HOME=/run/session XDG_RUNTIME_DIR=/run/session XDG_CONFIG_HOME=/run/session
ExecStart=/usr/bin/pulseaudio -n --daemonize=no --exit-idle-time=-1 --use-pid-file=no \\
 --disable-shm=yes \\
 --load="module-native-protocol-unix socket=/run/session/native auth-anonymous=1" \\
 --load="module-native-protocol-unix socket=/run/edged-audio/native auth-group=audio \\
 auth-group-enable=1"
"""

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


class Service:
    """edged.service on a machine, as its administrator and its clients see it."""

    def __init__(self, machine: Machine, transcript: Path) -> None:
        self.machine = machine
        self._transcript = transcript
        self._transcript.write_text(
            "What `make test-deb` did and saw. Times are this machine's.\n\n"
        )
        self.sink = ""
        """The handle to unplug the microphone by"""

    def say(self, text: str) -> None:
        with self._transcript.open("a") as file:
            file.write(f"{text}\n")

    def run(self, *command: str, shown: str | None = None) -> str:
        """Run a command, and write it down with what it prints."""
        started = time.monotonic()
        answer = self.machine.run(*command)
        took = time.monotonic() - started
        self.say(f"$ {shown or ' '.join(command)}" + (f"   # {took:.1f} s" if took > 0.5 else ""))
        if answer:
            self.say(re.sub("^", "  ", answer, flags=re.MULTILINE))
        return answer

    def show(self, *names: str) -> dict[str, str]:
        """Properties of the service."""
        wanted = ",".join(names)
        lines = self.machine.run("systemctl", "show", "edged", f"--property={wanted}").splitlines()
        return dict(line.split("=", 1) for line in lines)

    @property
    def main(self) -> int:
        return int(self.show("MainPID")["MainPID"])

    @property
    def restarts(self) -> int:
        return int(self.show("NRestarts")["NRestarts"])

    def get(self, path: str) -> Any:
        code = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())"
        return json.loads(self.machine.run(PYTHON, "-c", code, f"http://127.0.0.1:7333{path}"))

    def hears(self) -> bool:
        """Whether it is ready and listens."""
        with contextlib.suppress(AssertionError):
            health = self.get("/v1/health")
            return bool(health["ready"] and health["microphone"]["state"] == "listening")
        return False

    def connects(self) -> bool:
        """Whether a process of its control group reaches port 7333."""
        group = self.show("ControlGroup")["ControlGroup"]
        code = "import socket; socket.create_connection(('127.0.0.1', 7333), 2)"
        join = f"echo $$ > /sys/fs/cgroup{group}/cgroup.procs"
        done = self.machine.does("sh", "-c", f'{join}; exec {PYTHON} -c "{code}"')
        self.say(f"  a process of its control group reaches port 7333: {'yes' if done else 'no'}")
        return done

    def processes(self) -> dict[int, str]:
        """All of its control group: what each is for."""
        group = self.show("ControlGroup")["ControlGroup"]
        lines = self.machine.run("cat", f"/sys/fs/cgroup{group}/cgroup.procs").split()
        return {int(pid): self._purpose(pid) for pid in lines}

    def _purpose(self, pid: str) -> str:
        command = self.machine.try_("cat", f"/proc/{pid}/cmdline")[1].split("\0")
        module = next((word for word in command if word.startswith("edged.")), None)
        return module or "edged run"

    def kill(self, pid: int, signal: str, purpose: str) -> None:
        """Send a signal to one of its processes."""
        self.run("sh", "-c", f"kill -{signal} {pid}", shown=f"kill -{signal} {purpose}")

    def plug(self) -> None:
        """Add a microphone to the session."""
        self.sink = self._pactl("load-module", "module-null-sink", "sink_name=vmic", "norewinds=1")
        self._pactl("set-default-source", "vmic.monitor")

    def unplug(self) -> None:
        self._pactl("unload-module", self.sink)

    def _pactl(self, *command: str) -> str:
        return self.machine.run("env", "PULSE_SERVER=unix:/run/session/native", "pactl", *command)

    def speaking(self) -> Any:
        """Speak the recording into the microphone."""
        server = "PULSE_SERVER=unix:/run/session/native"
        return self.machine.running("env", server, "paplay", "--device=vmic", "/shared/said.wav")

    def hears_speech(self) -> str:
        """Speak; what a client is told."""
        with self.following() as follower, self.speaking():
            text = ""
            while "worst of times" not in text:
                text += " " + follower.next("final")["text"]
        self.say(f"  spoken into the microphone; a client is told: {text.strip()!r}")
        return text

    @contextlib.contextmanager
    def following(self) -> Iterator[Follower]:
        with self.machine.running(PYTHON, "-u", "/shared/follow.py") as process:
            follower = Follower(process)
            follower.next("hello")
            yield follower

    def configure(self, text: str) -> None:
        (self.machine.root / "etc" / "edged" / "edged.toml").write_text(text)

    def drop_in(self, name: str, text: str) -> None:
        folder = self.machine.root / OWN.lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
        self.say(f"$ cat > {OWN}/{name}   # {' '.join(text.split())}")
        self.run("systemctl", "daemon-reload")


class Follower:
    """A client's events."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, args=(process,), daemon=True).start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout
        for line in process.stdout:
            self._lines.put(line)

    def next(self, kind: str, seconds: float = 30.0) -> dict[str, Any]:
        """The next event of a kind."""
        while True:
            event: dict[str, Any] = json.loads(self._lines.get(timeout=seconds))
            if event["type"] == kind:
                return event


def until(condition: Callable[[], Any], seconds: float = 60.0) -> float:
    """Wait for it; how long it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "waited in vain"
        time.sleep(0.1)
    return time.monotonic() - started


@pytest.fixture(scope="module")
def package() -> Path:
    if reason := debian.missing():
        pytest.skip(reason)
    found = sorted(PACKAGES.glob("edged_*.deb"), key=lambda path: path.stat().st_mtime)
    if not found:
        pytest.skip(f"there is no package in {PACKAGES}: make deb")
    return found[-1]


@pytest.fixture(scope="module")
def service(
    package: Path, speech: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("debian")
    shared = folder / "shared"
    shared.mkdir()
    samples = np.concatenate([silence(0.5), speech[: 5 * 16000], silence(1.5)])
    soundfile.write(shared / "said.wav", samples, 16000)
    shutil.copyfile(Path(__file__).parent / "follow.py", shared / "follow.py")
    shutil.copyfile(package, shared / "edged.deb")
    _newer(package, folder / "newer", shared / "newer.deb")
    machine = Machine(debian.base(PACKAGES, _depends(package)), folder, shared)
    try:
        yield Service(machine, Path(os.environ.get("EDGED_TRANSCRIPT", folder / "transcript")))
    finally:
        print(machine.try_("journalctl", "--unit=edged", "--lines=60")[1])
        machine.stop()


def _depends(package: Path) -> list[str]:
    """The names of what it depends on."""
    field = ["dpkg-deb", "--field", str(package), "Depends"]
    text = subprocess.check_output(field, text=True)
    return list(dict.fromkeys(part.split()[0] for part in text.split(",")))


def _newer(package: Path, folder: Path, target: Path) -> None:
    """The same package in a later version."""
    subprocess.run(["dpkg-deb", "--raw-extract", str(package), str(folder)], check=True)
    control = folder / "DEBIAN" / "control"
    control.write_text(re.sub("(?m)^(Version: .*)$", r"\1+1", control.read_text()))
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(folder), str(target)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    shutil.rmtree(folder)


# -- the steps ------------------------------------------------------------------------------------


def test_it_installs_and_the_service_is_ready(service: Service) -> None:
    service.say("## A bare Debian with systemd and without a network\n")
    service.run("cat", "/etc/debian_version")
    service.run("sh", "-c", "systemctl --version | head -1", shown="systemctl --version")
    service.say(
        "\n## It is installed: the service is ready, and the engine's state is its status\n"
    )
    service.run("dpkg", "--install", "/shared/edged.deb")
    took = until(lambda: service.machine.does("systemctl", "is-active", "edged"))
    service.say(f"  ready after {took:.1f} s")
    for unit in ("edged.service", "edged.socket"):
        assert service.run("systemctl", "is-enabled", unit) == "enabled"
        assert service.run("systemctl", "is-active", unit) == "active"
    status = service.run("systemctl", "show", "edged", "--property=StatusText")
    assert " int8 on onnxruntime cpu" in status
    assert service.get("/v1/health")["ready"]
    assert set(service.processes().values()) >= {"edged run", "edged.engine.worker"}


def test_its_doctor_finds_what_is_wrong_and_nothing_else(service: Service) -> None:
    service.say("\n## Its doctor finds nothing that is not there, and what is\n")
    subjects = ("configuration", "service", "network", "disk", "permissions")

    def findings() -> dict[str, dict[str, str]]:
        _, text = service.machine.try_("edged", "doctor", "--json", *subjects)
        return {finding["code"]: finding for finding in json.loads(text)["findings"]}

    well = findings()
    assert {finding["verdict"] for finding in well.values()} == {"ok"}, well
    assert well["unit"]["reason"] == "edged.service is active (running)"
    assert well["state_directory"]["reason"].startswith("/var/lib/edged:")
    assert well["configuration"]["reason"] == "/etc/edged/edged.toml"
    service.run("edged", "doctor", *subjects)
    service.machine.run("touch", "/var/lib/edged/of-root")
    assert findings()["foreign_owner"]["remedy"] == "sudo chown -R edged: /var/lib/edged"
    service.machine.run("rm", "/var/lib/edged/of-root")


def test_it_is_confined(service: Service) -> None:
    service.say("\n## It is confined\n")
    limits = {
        "User": "edged",
        "MemoryMax": None,
        "TasksMax": "256",
        "LimitCORE": "0",
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "DevicePolicy": "closed",
        "DeviceAllow": "char-alsa rw",
        "CapabilityBoundingSet": "",
        "IPAddressDeny": "::/0 0.0.0.0/0",
        "IPAddressAllow": "::1/128 127.0.0.0/8",
        "WatchdogUSec": "30s",
    }
    told = service.show(*limits)
    service.say("\n".join(f"  {name}={told[name]}" for name in limits))
    for name, wanted in limits.items():
        assert wanted is None or sorted(told[name].split()) == sorted(wanted.split()), name
    assert told["MemoryMax"] != "infinity"
    verdict = service.run("systemctl", "is-system-running", shown="systemctl is-system-running")
    assert verdict == "running"
    analyzed = service.machine.run("systemd-analyze", "security", "--no-pager", "edged")
    service.say(f"$ systemd-analyze security edged\n  {analyzed.splitlines()[-1]}")
    assert float(analyzed.splitlines()[-1].split(":")[1].split()[0]) < 2.0
    assert service.machine.run("systemd-analyze", "verify", "edged.service", "edged.socket") == ""
    worker = next(p for p, purpose in service.processes().items() if "worker" in purpose)
    inside = ("nsenter", f"--target={worker}", "--mount", "--")
    service.machine.run("touch", "/home/secret")
    assert service.machine.does("test", "-e", "/home/secret")
    assert not service.machine.does(*inside, "test", "-e", "/home/secret")
    assert not service.machine.does(*inside, "touch", "/usr/bin/edged")


def test_the_kernel_keeps_its_packets_here(service: Service) -> None:
    service.say(
        "\n## Its own packets are filtered, those of the sockets that it is given are not\n"
    )
    service.drop_in("none.conf", "[Service]\nIPAddressAllow=\n")
    service.run("systemctl", "restart", "edged")
    assert service.get("/v1/health")["ready"]
    assert not service.connects()
    service.run("rm", f"{OWN}/none.conf")
    service.run("systemctl", "daemon-reload")
    service.run("systemctl", "restart", "edged")
    assert service.connects(), "loopback is allowed as shipped"


def test_its_manuals_completion_and_rules_are_there(service: Service) -> None:
    service.say("\n## Manuals, completion, rules for accelerators\n")
    for page in ("edged", "edged.toml"):
        assert service.machine.run("man", "--where", page)
    listed = service.run("sh", "-c", "man edged | grep -A1 'edged reload'")
    assert "read its configuration again" in listed
    script = (
        "source /usr/share/bash-completion/completions/edged; "
        "COMP_WORDS=(edged tran); COMP_CWORD=1; _edged_completion edged; echo ${COMPREPLY[@]}"
    )
    assert service.run("bash", "-c", script, shown="edged tran<TAB>") == "transcribe"
    _, tested = service.machine.try_("udevadm", "test", "/sys/devices/virtual/mem/null")
    assert "60-edged.rules" in tested
    assert not re.search(r"60-edged\.rules:\d+", tested), "udev complains of no line"


def test_every_user_s_command_line_has_the_models(service: Service) -> None:
    service.say("\n## An ordinary user, who has built nothing\n")
    service.machine.run("useradd", "--create-home", "--groups", "audio", "robot")
    command = ("runuser", "--login", "robot", "--command", "edged transcribe /shared/said.wav")
    text = service.run(*command, shown="edged transcribe said.wav")
    assert "best of times" in text


def test_a_session_s_microphone_is_heard(service: Service) -> None:
    service.say("\n## A session exports its microphone, and the drop-in points there\n")
    machine = service.machine
    unit = machine.root / "etc" / "systemd" / "system" / "session.service"
    unit.write_text(MICROPHONE_UNIT)
    machine.run("systemctl", "start", "session")
    until(lambda: machine.does("test", "-S", "/run/edged-audio/native"))
    service.plug()
    service.run("mkdir", "--parents", OWN)
    service.run("cp", f"{DROP_INS}/sound-server.conf", OWN)
    service.run("systemctl", "daemon-reload")
    service.run("systemctl", "restart", "edged")
    service.say(f"  listens after {until(service.hears):.1f} s")
    assert "best of times" in service.hears_speech()
    status = service.show("StatusText")["StatusText"]
    assert "microphone:" not in status


def test_every_process_may_be_killed(service: Service) -> None:
    service.say("\n## kill -9 of each of its processes, one by one\n")
    purposes = set(service.processes().values())
    assert purposes == {"edged run", "edged.engine.worker", "edged.audio.capture"}
    for purpose in sorted(purposes):
        before = service.processes()
        victim = next(pid for pid, what in before.items() if what == purpose)
        restarts, main = service.restarts, service.main
        service.kill(victim, "KILL", purpose)

        def recovered(victim: int = victim) -> bool:
            now = service.processes()
            return victim not in now and set(now.values()) == purposes and service.hears()

        service.say(f"  all are there again, ready and listening after {until(recovered):.1f} s")
        assert "best of times" in service.hears_speech()
        assert service.restarts - restarts == (purpose == "edged run")
        assert (service.main == main) == (purpose != "edged run")
        if purpose == "edged run":
            assert not set(before) & set(service.processes()), "nothing of the old one is left"


def test_it_reads_its_configuration_again(service: Service) -> None:
    service.say("\n## It reads its configuration again, and a mistake changes nothing\n")
    main = service.main
    service.configure('[log]\nlevel = "debug"\n[transcripts]\nenabled = false\n')
    service.run("systemctl", "reload", "edged")
    log = service.machine.run("journalctl", "--unit=edged", "--output=cat", "--lines=20")
    assert "transcripts changes with the next start, not now" in log
    service.configure("[server]\nprot = 7000\n")
    assert not service.machine.does("systemctl", "reload", "edged")
    service.say("$ systemctl reload edged   # with a mistake in the file: it fails")
    log = service.run("journalctl", "--unit=edged", "--output=cat", "--lines=3")
    assert "/etc/edged/edged.toml, line 2: server.prot: unknown key" in log
    assert "Traceback" not in log
    service.configure("")
    service.run("systemctl", "reload", "edged")
    assert service.main == main
    assert service.hears()


def test_a_hang_is_ended_and_a_known_loss_is_not(service: Service) -> None:
    service.say("\n## The watchdog, shortened to 5 s: a loss that is known, then a hang\n")
    service.drop_in("short.conf", "[Service]\nWatchdogSec=5\nTimeoutAbortSec=3\n")
    service.run("systemctl", "restart", "edged")
    until(service.hears)
    restarts, main = service.restarts, service.main
    service.unplug()
    until(lambda: not service.hears())
    time.sleep(LATELY_SECONDS + 10)
    status = service.run("systemctl", "show", "edged", "--property=StatusText,NRestarts")
    assert "microphone:" in status
    assert (service.restarts, service.main) == (restarts, main)
    service.say(
        f"  no microphone for {LATELY_SECONDS + 10:.0f} s: it says so, and is not started anew;"
    )
    service.say("  without canaries of its engine it would have been")
    service.plug()
    service.say(f"  plugged in again; it listens after {until(service.hears):.1f} s")
    assert "best of times" in service.hears_speech()
    service.kill(main, "STOP", "edged run")
    took = until(lambda: service.restarts > restarts)
    service.say(f"  started anew after {took:.1f} s; it listens {until(service.hears):.1f} s later")
    assert "best of times" in service.hears_speech()
    service.run("rm", f"{OWN}/short.conf")
    service.run("systemctl", "daemon-reload")


def test_it_stops_with_the_last_words_sent(service: Service) -> None:
    service.say("\n## It is stopped while somebody speaks: the client is told what was said\n")
    with service.following() as follower, service.speaking():
        follower.next("speech_started")
        time.sleep(1.5)
        service.run("systemctl", "stop", "edged.socket", "edged.service")
        final, closed, cut = (follower.next(kind) for kind in ("final", "closed", "cut"))
    service.say(f"  a client is told: {final['text']!r}, {closed['reason']!r}, {cut['code']}")
    assert "It was the best" in final["text"]
    assert closed["reason"] == "stopping"
    assert cut["code"] == 1001
    told = service.show("ActiveState", "Result", "MainPID")
    assert told == {"ActiveState": "inactive", "Result": "success", "MainPID": "0"}


def test_a_client_that_connects_starts_it(service: Service) -> None:
    service.say("\n## Its socket starts it, and turns nobody away\n")
    service.run("systemctl", "start", "edged.socket")
    assert service.show("ActiveState")["ActiveState"] == "inactive"
    started = time.monotonic()
    with service.following():
        service.say(f"  a client that connects is greeted after {time.monotonic() - started:.1f} s")
    until(service.hears)


def test_wyoming_s_socket_is_served_too(service: Service) -> None:
    service.say("\n## Wyoming, by a socket of its own\n")
    service.configure("[wyoming]\nenabled = true\n")
    service.run("systemctl", "enable", "edged-wyoming.socket")
    service.run("systemctl", "stop", "edged")
    service.run("systemctl", "start", "edged-wyoming.socket", "edged")
    until(service.hears)
    code = (
        "import socket; s = socket.create_connection(('127.0.0.1', 10300), 10); "
        's.sendall(b\'{"type": "describe"}\\n\'); print(s.makefile().readline()[:40])'
    )
    assert '"info"' in service.run(PYTHON, "-c", code, shown="describe to 127.0.0.1:10300")


def test_it_is_upgraded(service: Service) -> None:
    service.say("\n## It is upgraded: started anew, the configuration kept, the sockets held\n")
    main = service.main
    command = ("systemctl", "show", "edged.socket", "--property=ActiveEnterTimestampMonotonic")
    since = service.machine.run(*command)
    service.run("dpkg", "--install", "/shared/newer.deb")
    until(lambda: service.main not in {0, main} and service.hears())
    assert service.machine.run(*command) == since
    assert "enabled = true" in service.run("cat", "/etc/edged/edged.toml")
    assert "best of times" in service.hears_speech()


def test_a_user_s_own_runs_as_well(service: Service) -> None:
    service.say("\n## In a user's session\n")
    machine = service.machine
    service.run(
        "systemctl", "disable", "--now", "edged.service", "edged.socket", "edged-wyoming.socket"
    )
    service.run("loginctl", "enable-linger", "robot")
    uid = machine.run("id", "--user", "robot")
    until(lambda: machine.does("test", "-S", f"/run/user/{uid}/bus"))

    def manage(*command: str) -> str:
        line = f"XDG_RUNTIME_DIR=/run/user/{uid} systemctl --user {' '.join(command)}"
        shown = f"systemctl --user {' '.join(command)}"
        return service.run("runuser", "--login", "robot", "--command", line, shown=shown)

    manage("set-environment", "PULSE_SERVER=unix:/run/session/native")
    manage("start", "edged")
    assert "ActiveState=active" in manage("show", "edged", "--property=ActiveState,StatusText")
    until(service.hears)
    assert "best of times" in service.hears_speech()
    manage("stop", "edged")


def test_it_is_removed_and_purged(service: Service) -> None:
    service.say("\n## It is removed, then purged\n")
    machine = service.machine
    machine.run("systemctl", "enable", "--now", "edged.service", "edged.socket")
    until(service.hears)
    service.run("dpkg", "--remove", "edged")
    left = service.run("find", "/etc/edged", "/var/lib/edged", "-maxdepth", "1")
    assert "/etc/edged/edged.toml" in left
    assert not machine.does("sh", "-c", "grep --files-with-matches /opt/[e]dged /proc/*/cmdline")
    service.run("dpkg", "--purge", "edged")
    not_its = ("/proc", "/sys", "/shared", "/home", "/var/cache/man", OWN)
    without = [word for path in not_its for word in ("-path", path, "-prune", "-o")]
    find = ("find", "/", *without, "-name", "*edged*", "-print")
    assert service.run(*find, shown="find / -name '*edged*'") == ""
    assert machine.run("systemctl", "is-system-running") == "running"
