"""The command line, as its users run it: exit codes, one line for a mistake, never a traceback."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
import soundfile

from edged import __version__, cli
from edged.cli.commands import OURS
from edged.engine.probe import ProbeReport
from tests.client import silence
from tests.conftest import BASE, MACHINES, TINY
from tests.daemon import DaemonProcess

RATE = 16000


class Edged:
    """Runs `edged` with folders of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = dict(os.environ)
        for name in ("STATE", "RUNTIME", "CONFIG"):
            self.environment[f"EDGED_{name}_DIR"] = str(folder)

    def __call__(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "edged", *map(str, arguments)],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        assert "Traceback" not in done.stderr + done.stdout
        return done


@pytest.fixture
def edged(tmp_path: Path) -> Edged:
    return Edged(tmp_path)


def complaint(done: subprocess.CompletedProcess[str], code: int) -> str:
    """The one line that says what was wrong."""
    assert done.returncode == code, done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith("edged: ")
    return line


# -- lists --------------------------------------------------------------------------------------


def test_version_names_what_a_report_needs(edged: Edged) -> None:
    lines = dict(line.split(" ", 1) for line in edged("version").stdout.splitlines())
    assert lines["edged"] == __version__
    assert set(lines) >= {"python", "onnxruntime", "numpy"}
    assert json.loads(edged("version", "--json").stdout) == lines


def test_plugins_are_listed(edged: Edged) -> None:
    done = edged("plugins", "--json")
    assert done.returncode == 0
    found = json.loads(done.stdout)
    usable = {plugin["name"] for plugin in found["plugins"] if plugin["usable"]}
    assert usable >= {"onnxruntime", "moonshine", "silero"}
    [runtime] = [p for p in found["providers"] if p["name"] == "onnxruntime"]
    assert "cpu" in runtime["devices"]
    table = edged("plugins").stdout
    assert "onnxruntime" in table
    assert "silero" in table


def test_profiles_are_listed(edged: Edged) -> None:
    done = edged("profiles", "--json")
    assert done.returncode == 0
    first, *others = json.loads(done.stdout)
    assert first["chosen"]
    assert first["profile"]["engine"]["encoder_threads"] >= 1
    assert any(match["obstacles"] for match in others)
    table = edged("profiles").stdout
    assert first["name"] in table
    assert "chosen" in table


def test_models_are_listed(edged: Edged) -> None:
    done = edged("models", "list", "--json")
    assert done.returncode == 0
    models = {model["name"]: model for model in json.loads(done.stdout)}
    assert set(models) >= {TINY, BASE}
    assert "int8" in models[TINY]["precisions"]
    assert TINY in edged("models", "list").stdout


def test_without_built_models_the_cure_is_named(edged: Edged, tmp_path: Path) -> None:
    edged.environment["EDGED_CACHE_DIR"] = str(tmp_path / "empty")
    models = json.loads(edged("models", "list", "--json").stdout)
    for model in models:
        assert model["reason"]
        assert not model["precisions"]


def test_devices_are_listed_or_the_cure_is_named(edged: Edged) -> None:
    done = edged("devices", "--json")
    if done.returncode:
        assert "sudo apt-get install libportaudio2" in complaint(done, 1)
        return
    for device in json.loads(done.stdout):
        assert device["identity"].partition(":")[0] in {"usb", "alsa", "name"}
    assert edged("devices").stdout


def test_config_prints_toml_and_json(edged: Edged) -> None:
    assert "[server]" in edged("config").stdout
    assert json.loads(edged("config", "--json").stdout)["server"]["port"] == 7333


def test_help_is_there_for_every_command(edged: Edged) -> None:
    done = edged("--help")
    assert done.returncode == 0
    for command in (
        "run",
        "transcribe",
        "listen",
        "devices",
        "plugins",
        "models",
        "config",
        "probe",
    ):
        assert command in done.stdout
    assert edged().returncode in {0, 2}


def test_every_module_is_a_command_or_shared_by_them() -> None:
    modules = {path.stem for path in Path(cli.__file__).parent.glob("*.py")}
    assert modules == {*OURS, "__init__", "commands", "options", "output"}


def test_a_command_reads_itself_alone() -> None:
    """`edged run` is not kept waiting by the others."""
    code = """
import sys
from edged.cli import app, commands
from typer.testing import CliRunner
assert CliRunner().invoke(app, ["run", "--help"]).exit_code == 0
print(*{f"edged.cli.{name}" for name in commands.OURS}.intersection(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["edged.cli.run"]


def test_completion_works() -> None:
    """Asked from a bash, as a person would: the shell is found by looking at the parents."""
    command = f"{sys.executable} -m edged --show-completion; exit $?"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "complete" in done.stdout


# -- probe --------------------------------------------------------------------------------------


def test_a_machine_is_proven_once_and_then_remembered(edged: Edged, tiny_cache: Path) -> None:
    edged.environment["EDGED_CACHE_DIR"] = str(tiny_cache)
    flags = ("probe", "--model", TINY, "--no-build")
    done = edged(*flags)
    assert done.returncode in {0, 1}, done.stderr
    assert "int8 onnxruntime cpu" in done.stdout
    assert "proven" in done.stdout
    assert f"edged models build {TINY}" in done.stdout, "what is left out is said"
    asked_again = time.time()
    again = edged(*flags, "--json")
    report = msgspec.json.decode(again.stdout, type=ProbeReport)
    assert all(verdict.time < asked_again for verdict in report.verdicts), "nothing is tried twice"
    ours = [verdict for verdict in report.verdicts if verdict.rung.provider == "onnxruntime"]
    assert [verdict.ok for verdict in ours] == [True]
    assert report.sentence in done.stdout.splitlines()[-1]
    assert again.returncode == done.returncode == (0 if report.status == "works" else 1)


def test_where_nothing_can_run_probe_says_so(edged: Edged, tmp_path: Path) -> None:
    edged.environment["EDGED_CACHE_DIR"] = str(tmp_path / "empty")
    done = edged("probe", "--no-build")
    assert done.returncode == 2
    assert "Run: edged models build" in done.stdout.splitlines()[-1]


def test_a_recorded_machine_is_this_machine(edged: Edged, tiny_cache: Path) -> None:
    edged.environment["EDGED_CACHE_DIR"] = str(tiny_cache)
    folder = edged.folder / "record"
    here = json.loads(edged("probe", "--no-build", "--record", folder, "--json").stdout)
    there = json.loads(edged("probe", "--root", folder, "--json").stdout)
    assert there["recorded"]
    assert not there["verdicts"]
    for part in ("architecture", "kernel", "board", "cpu", "accelerators", "audio_inputs"):
        assert here["machine"][part] == there["machine"][part]
    assert (here["profile"], here["obstacles"]) == (there["profile"], there["obstacles"])


def test_a_recorded_machines_obstacles_are_told_with_remedies_to_copy(edged: Edged) -> None:
    done = edged("probe", "--root", MACHINES / "neural-compute-stick-2")
    assert done.returncode == 1
    assert "Profile movidius" in done.stdout
    remedy = "edged workers create movidius"
    assert remedy in map(str.strip, done.stdout.splitlines())


def test_mistakes_in_a_probe_are_one_line(edged: Edged, tmp_path: Path) -> None:
    assert "no recorded machine" in complaint(edged("probe", "--root", tmp_path), 1)
    assert "nonesuch" in complaint(edged("probe", "--model", "nonesuch"), 3)
    (tmp_path / "file").write_text("in the way")
    assert "cannot be written" in complaint(edged("probe", "--record", tmp_path / "file"), 1)


# -- transcribe ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, speech: np.ndarray) -> Path:
    """Two utterances."""
    path = tmp_path_factory.mktemp("clip") / "clip.wav"
    one = speech[: round(4.2 * RATE)]
    soundfile.write(path, np.concatenate([one, silence(1.5), one]), RATE)
    return path


def test_a_file_becomes_text(edged: Edged, clip: Path) -> None:
    done = edged("transcribe", "--model", TINY, clip)
    assert (done.returncode, done.stderr) == (0, "")
    [line] = done.stdout.splitlines()
    assert line.lower().count("best of times") == 2


def test_a_file_becomes_json(edged: Edged, clip: Path) -> None:
    done = edged("transcribe", "--model", TINY, "--format", "json", clip)
    finals = json.loads(done.stdout)
    assert len(finals) == 2
    for final in finals:
        assert final["type"] == "final"
        assert final["words"]
        assert final["start"] < final["end"]


@pytest.mark.parametrize(("format", "point"), [("srt", ","), ("vtt", r"\.")])
def test_a_file_becomes_subtitles(edged: Edged, clip: Path, format: str, point: str) -> None:
    done = edged("transcribe", "--model", TINY, "--format", format, clip)
    clock = rf"\d\d:\d\d:\d\d{point}\d{{3}}"
    assert len(re.findall(f"^{clock} --> {clock}$", done.stdout, re.MULTILINE)) == 2
    assert done.stdout.startswith("WEBVTT\n\n" if format == "vtt" else "1\n")


def test_a_file_that_cannot_be_read_does_not_keep_others_from_it(
    edged: Edged, clip: Path, tmp_path: Path
) -> None:
    letter = tmp_path / "letter.wav"
    letter.write_text("This is a letter.\n" * 100)
    empty = tmp_path / "empty.wav"
    empty.touch()
    missing = tmp_path / "missing.wav"
    done = edged("transcribe", "--model", TINY, letter, empty, missing, tmp_path, clip)
    assert done.returncode == 1
    assert "best of times" in done.stdout.lower()
    lines = done.stderr.splitlines()
    assert len(lines) == 4
    for line, path in zip(lines, (letter, empty, missing, tmp_path), strict=True):
        assert line.startswith(f"edged: {path} ")


def test_a_single_missing_file_is_one_line(edged: Edged, tmp_path: Path) -> None:
    missing = tmp_path / "missing.wav"
    assert str(missing) in complaint(edged("transcribe", "--model", TINY, missing), 1)


def test_a_model_that_does_not_exist_is_one_line(edged: Edged, clip: Path) -> None:
    assert "nonesuch" in complaint(edged("transcribe", "--model", "nonesuch", clip), 3)


def test_an_unknown_format_is_a_mistake_of_usage(edged: Edged, clip: Path) -> None:
    done = edged("transcribe", "--format", "pdf", clip)
    assert done.returncode == 2
    assert "txt, json, srt, vtt" in done.stderr


# -- faults -------------------------------------------------------------------------------------


def test_a_configuration_that_makes_no_sense_is_one_line(edged: Edged) -> None:
    file = edged.folder / "edged.toml"
    file.write_text("[server]\nprot = 1\n")
    for command in (["config"], ["run"], ["transcribe", "a.wav"]):
        line = complaint(edged(*command), 2)
        assert f"{file}, line 2: server.prot: unknown key" in line


def test_a_port_in_use_is_one_line(edged: Edged) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = edged("run", "--no-microphone", "--model", TINY, "--port", str(port))
    assert f"port {port}" in complaint(done, 4)


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host", "nonesuch.invalid", "::1%nope"])
def test_an_address_that_cannot_be_listened_on_is_one_line(edged: Edged, host: str) -> None:
    (edged.folder / "token").write_text("secret")
    (edged.folder / "token").chmod(0o600)
    edged.environment["EDGED_SERVER_TOKEN_FILE"] = str(edged.folder / "token")
    done = edged("run", "--no-microphone", "--model", TINY, "--host", host, "--port", "0")
    assert host in complaint(done, 4)


# -- listen -------------------------------------------------------------------------------------


def test_listening_without_a_daemon_is_one_line(edged: Edged, free_port: int) -> None:
    assert "edged run" in complaint(edged("listen"), 1)
    assert "edged run" in complaint(edged("listen", "--url", f"http://127.0.0.1:{free_port}"), 1)


@pytest.mark.parametrize("url", ["nonsense", "ftp://host", "http://", "http://[::1"])
def test_an_address_to_listen_to_that_makes_no_sense_is_one_line(edged: Edged, url: str) -> None:
    complaint(edged("listen", "--url", url), 1)


def test_listening_to_something_else_is_one_line(edged: Edged) -> None:
    """A server of another kind: it answers, but speaks no WebSocket."""
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "0"],
        cwd=edged.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout is not None
        port = re.search(r"port (\d+)", server.stdout.readline())
        assert port
        done = edged("listen", "--url", f"http://127.0.0.1:{port[1]}")
    finally:
        server.kill()
        server.communicate()
    assert done.returncode == 1
    assert done.stderr.startswith("edged: ")


def test_a_token_file_that_is_missing_is_one_line(edged: Edged) -> None:
    done = edged("listen", "--token-file", "missing")
    assert "missing cannot be read" in complaint(done, 2)


def test_listening_shows_what_the_microphone_hears(
    edged: Edged, clip: Path, tmp_path: Path
) -> None:
    fifo = tmp_path / "microphone"
    os.mkfifo(fifo)
    flags = ("--model", TINY, "--source", f"program:cat {fifo}")
    daemon = DaemonProcess(tmp_path / "daemon", flags, {})
    try:
        daemon.wait_ready()
        edged.environment["EDGED_RUNTIME_DIR"] = str(daemon.folder)
        listeners = [
            subprocess.Popen(
                [sys.executable, "-m", "edged", "listen", *more],
                env=edged.environment,
                stdout=subprocess.PIPE,
                text=True,
            )
            for more in ([], ["--json"])
        ]
        plain, events = listeners
        assert plain.stdout is not None
        assert events.stdout is not None
        assert TINY in plain.stdout.readline()
        assert json.loads(events.stdout.readline())["type"] == "hello"
        samples, _ = soundfile.read(clip, dtype="int16")
        fifo.write_bytes(samples.tobytes())
        text = plain.communicate(timeout=60)[0]
        lines = [json.loads(line) for line in events.communicate(timeout=60)[0].splitlines()]
    finally:
        daemon.stop()
    assert text.lower().count("best of times") == 2
    assert "\x1b" not in text, "no colours where nobody sees them"
    assert [line["type"] for line in lines].count("final") == 2
    assert lines[-1]["type"] == "closed"
    assert [listener.returncode for listener in listeners] == [0, 0]
