"""The configuration: three sources, faults with their place, reload of a running daemon."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import BaseModel
from websockets.sync.client import connect

from edged import config, renames
from edged.config import Configuration, ServerSection, check_exposure, load, read_token
from edged.errors import ConfigurationError
from tests.api.http import ask
from tests.conftest import TINY
from tests.daemon import DaemonProcess

Start = Callable[..., DaemonProcess]
Write = Callable[[str], Path]


@pytest.fixture(autouse=True)
def _clean(clean_environment: None) -> None:
    """No variable of the caller's."""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "edged.toml"
        path.write_text(text)
        return path

    return write


# -- sources ------------------------------------------------------------------------------------


def test_everything_has_a_default() -> None:
    configuration = load(None)
    assert configuration.server.host == "127.0.0.1"
    assert configuration.server.port == 7333
    assert configuration.engine.model == "auto"
    assert configuration.microphone.source == "auto"


def test_flags_win_over_the_environment_and_that_over_the_file(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write("[server]\nport = 1\nhost = '127.0.0.2'\nmax_streams = 3\n[log]\nlevel = 'error'")
    monkeypatch.setenv("EDGED_SERVER_PORT", "2")
    monkeypatch.setenv("EDGED_SERVER_HOST", "127.0.0.3")
    server = load(file, {"server": {"port": 3}}).server
    assert (server.port, server.host, server.max_streams) == (3, "127.0.0.3", 3)
    assert load(file).server.port == 2
    monkeypatch.delenv("EDGED_SERVER_PORT")
    assert load(file).server.port == 1
    assert load(file).log.level == "error"


def test_keys_with_underscores_and_lists_can_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EDGED_SERVER_ALLOWED_ORIGINS", '["http://a.example"]')
    monkeypatch.setenv("EDGED_SERVER_MAX_MESSAGE_BYTES", "4096")
    monkeypatch.setenv("EDGED_PROVIDERS", '{"onnxruntime": {"threads": 2}}')
    configuration = load(None)
    assert configuration.server.allowed_origins == ["http://a.example"]
    assert configuration.server.max_message_bytes == 4096
    assert configuration.providers == {"onnxruntime": {"threads": 2}}


def test_a_providers_options_are_handed_over_as_they_stand(write: Write) -> None:
    file = write(
        "[providers.openvino]\ncache = '/tmp'\nstreams = 2\n[providers.openvino.deep]\na=1"
    )
    options = {"cache": "/tmp", "streams": 2, "deep": {"a": 1}}
    assert load(file).providers == {"openvino": options}


def test_every_key_is_described() -> None:
    for name, field in Configuration.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            for key, described in section.model_fields.items():
                assert described.description, f"{name}.{key}"


# -- faults -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("[server]\nport = 7333\nprot = 1\n", 3, "server.prot"),
        ("# first\n\n[sever]\nport = 1\n", 3, "sever"),
        ("colour = 'red'\n[log]\nlevel = 'info'\n", 1, "colour"),
        ("[log]\nlevel = 'info'\n[server]\nlevel = 'info'\n", 4, "server.level"),
        ("server = { port = 1, prot = 2 }\n", 1, "server.prot"),
        ("[server]\n'prot' = 1\n", 2, "server.prot"),
        ("[server.tls]\nkey = 'a'\n", 1, "server.tls"),
    ],
)
def test_an_unknown_key_is_named_with_file_and_line(
    write: Write, text: str, line: int, key: str
) -> None:
    file = write(text)
    with pytest.raises(ConfigurationError) as raised:
        load(file)
    assert raised.value.message == f"{file}, line {line}: {key}: unknown key"


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("[server]\nhost = 'a'\nport = 'many'\n", 3, "server.port"),
        ("[server]\nport = 65536\n", 2, "server.port"),
        ("[log]\nlevel = 'loud'\n", 2, "log.level"),
        ("[server]\nallowed_origins = 'http://a'\n", 2, "server.allowed_origins"),
        ("[server]\n\nallowed_origins = ['a', 1]\n", 3, "server.allowed_origins"),
        ("[microphone]\nchannel = -1\n", 2, "microphone.channel"),
        ("[microphone]\nenabled = 'perhaps'\n", 2, "microphone.enabled"),
        ("log = 'info'\n", 1, "log"),
        ("[server]\nmax_clients = 0\n", 2, "server.max_clients"),
    ],
)
def test_a_wrong_value_is_named_with_file_and_line(
    write: Write, text: str, line: int, key: str
) -> None:
    file = write(text)
    with pytest.raises(ConfigurationError) as raised:
        load(file)
    assert raised.value.message.startswith(f"{file}, line {line}: {key}")
    assert "\n" not in raised.value.message


def test_what_is_no_toml_is_named_with_its_line(write: Write) -> None:
    file = write("[server]\nport = \n")
    with pytest.raises(ConfigurationError, match="line 2") as raised:
        load(file)
    assert str(file) in raised.value.message


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes(b"# caf\xe9\n")
    for file in (tmp_path / "missing.toml", tmp_path, tmp_path / "latin.toml"):
        with pytest.raises(ConfigurationError, match=str(file)):
            load(file)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EDGED_SERVER_PORT", "many"),
        ("EDGED_SERVER_PROT", "1"),
        ("EDGED_LOG_LEVEL", "loud"),
    ],
)
def test_a_fault_of_the_environment_names_the_variable(
    write: Write, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=f"environment variable {name}"):
        load(write("[server]\nport = 1\n"))


@pytest.mark.parametrize(
    "name", ["EDGED_SERVER_ALLOWED_ORIGINS", "EDGED_PROVIDERS", "EDGED_SERVER"]
)
def test_a_list_that_is_no_json_is_said_so(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "http://a.example")
    with pytest.raises(ConfigurationError, match="environment"):
        load(None)


def test_a_fault_of_a_flag_names_the_command_line(write: Write) -> None:
    with pytest.raises(ConfigurationError, match=r"^command line: server\.port"):
        load(write("[server]\nport = 1\n"), {"server": {"port": 70000}})


# -- older versions -----------------------------------------------------------------------------


@pytest.fixture
def renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if these keys had been called otherwise."""
    old = {"server.listen": "server.host", "ears.open": "microphone.enabled", "log.colour": None}
    monkeypatch.setattr(renames, "RENAMED", old)
    config._warn.cache_clear()


def test_keys_of_older_versions_are_read_and_said(
    write: Write, renamed: None, caplog: pytest.LogCaptureFixture
) -> None:
    file = write(
        "[server]\nport = 1\nlisten = '127.0.0.2'\n[ears]\nopen = false\n[log]\ncolour = 1\n"
    )
    for _ in range(2):
        configuration = load(file)
    assert configuration.server.host == "127.0.0.2"
    assert not configuration.microphone.enabled
    assert caplog.messages == [
        f"{file}, line 3: server.listen is called server.host now and is read as that; rename it",
        f"{file}, line 5: ears.open is called microphone.enabled now and is read as that; "
        "rename it",
        f"{file}, line 7: log.colour means nothing any more; delete it",
    ]


def test_the_present_name_wins_over_the_older_one(
    write: Write, renamed: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = write("[server]\nhost = '127.0.0.3'\nlisten = '127.0.0.2'\n")
    assert load(file).server.host == "127.0.0.3"
    monkeypatch.setenv("EDGED_SERVER_LISTEN", "127.0.0.4")
    assert load(file).server.host == "127.0.0.4"
    assert "environment variable EDGED_SERVER_LISTEN: server.listen is called" in caplog.text


def test_a_wrong_value_under_an_older_name_is_an_error(write: Write, renamed: None) -> None:
    with pytest.raises(ConfigurationError, match=r"microphone\.enabled"):
        load(write("[ears]\nopen = 'perhaps'\n"))


def test_what_was_never_a_key_stays_an_error(write: Write, renamed: None) -> None:
    with pytest.raises(ConfigurationError, match="unknown key"):
        load(write("[server]\nlistens = 'a'\n"))


def test_no_key_is_renamed_to_one_that_is_not_there() -> None:
    for old, new in renames.RENAMED.items():
        for name, is_known in ((old, False), (new, True)):
            section, _, key = (name or "").partition(".")
            field = Configuration.model_fields.get(section)
            known = field is not None and key in getattr(field.annotation, "model_fields", {})
            assert name is None or known == is_known, name


# -- token --------------------------------------------------------------------------------------


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("secret\nsecond line\n")
    path.chmod(0o640)
    return path


def test_the_token_is_the_files_first_word(token_file: Path) -> None:
    assert read_token(ServerSection(token_file=token_file)) == "secret"
    assert read_token(ServerSection()) is None


def test_a_token_that_everybody_can_read_is_refused(token_file: Path) -> None:
    token_file.chmod(0o644)
    with pytest.raises(ConfigurationError, match=f"chmod o= {token_file}"):
        read_token(ServerSection(token_file=token_file))


@pytest.mark.parametrize("content", [b"", b"\n\n", b"  ", b"\xff\xfe"])
def test_an_empty_or_unreadable_token_is_refused(token_file: Path, content: bytes) -> None:
    token_file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=str(token_file)):
        read_token(ServerSection(token_file=token_file))


def test_a_token_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_token(ServerSection(token_file=tmp_path / "missing"))


def test_off_loopback_wyoming_is_open_only_by_word() -> None:
    network = ServerSection(host="0.0.0.0")
    off, closed, opened = (
        Configuration.model_validate({"server": network, "wyoming": section})
        for section in ({}, {"enabled": True}, {"enabled": True, "open_to_network": True})
    )
    for configuration in (off, closed, opened):
        with pytest.raises(ConfigurationError, match=r"server\.token_file"):
            check_exposure(configuration, None)
    check_exposure(off, "secret")
    check_exposure(opened, "secret")
    check_exposure(Configuration.model_validate({"wyoming": {"enabled": True}}), None)
    with pytest.raises(ConfigurationError, match=r"wyoming\.open_to_network"):
        check_exposure(closed, "secret")


# -- `edged config` -----------------------------------------------------------------------------


def test_what_edged_prints_loads_to_the_same_configuration(write: Write, tmp_path: Path) -> None:
    file = write(
        "[server]\nport = 1234\nallowed_hosts = ['a', 'b']\ntoken_file = 'a \"strange\" name'\n"
        "[microphone]\nsource = 'program:echo \"ü\" \\ b'\nchannel = 2\n"
        "[transcripts]\npath = '/var/x.sqlite'\n[providers.onnxruntime]\nthreads = 3\n"
    )
    command = [sys.executable, "-m", "edged", "config", "--config", str(file)]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    again = tmp_path / "again.toml"
    again.write_text(printed)
    assert load(again) == load(file)
    assert tomllib.loads(printed)["server"]["port"] == 1234


# -- reload -------------------------------------------------------------------------------------


class Reloaded:
    """A daemon and the file that it reads again."""

    def __init__(self, start: Start, folder: Path, text: str) -> None:
        folder.mkdir()
        self._file = folder / "edged.toml"
        self._file.write_text(text)
        self.daemon = start("--no-microphone", "--model", TINY)

    def write(self, text: str) -> None:
        self._file.write_text(text)
        self.daemon.process.send_signal(signal.SIGHUP)

    def until_logged(self, text: str) -> None:
        self.daemon.wait(lambda: text in self.daemon.log.read_text())

    def allows(self, origin: str) -> bool:
        answer = ask(self.daemon, "/v1/health", headers={"Origin": origin})
        allowed = answer.headers.get("access-control-allow-origin") == origin
        assert answer.status == (200 if allowed else 403)
        return allowed


@pytest.fixture
def reloaded(start_daemon: Start, tmp_path: Path) -> Reloaded:
    text = "[server]\nallowed_origins = ['http://old.example']\n"
    return Reloaded(start_daemon, tmp_path / "daemon0", text)


OLD, NEW = "http://old.example", "http://new.example"


def test_a_reload_changes_who_may_come_in(reloaded: Reloaded) -> None:
    assert (reloaded.allows(OLD), reloaded.allows(NEW)) == (True, False)
    reloaded.write("[server]\nallowed_origins = ['http://new.example']\n")
    reloaded.until_logged("configuration reloaded")
    assert (reloaded.allows(OLD), reloaded.allows(NEW)) == (False, True)


def test_a_reload_changes_the_log_level(reloaded: Reloaded) -> None:
    reloaded.write("[log]\nlevel = 'error'\n[server]\nallowed_origins = ['http://new.example']\n")
    reloaded.daemon.wait(lambda: reloaded.allows(NEW))
    reloaded.write("")
    reloaded.until_logged("configuration reloaded")
    assert reloaded.daemon.log.read_text().count("configuration reloaded") == 1


def test_a_reload_says_what_it_cannot_change(reloaded: Reloaded) -> None:
    reloaded.write("[server]\nhost = 'localhost'\nmax_message_bytes = 4096\n[vosk]\nenabled = true")
    reloaded.until_logged("configuration reloaded")
    log = reloaded.daemon.log.read_text()
    assert "server.host changes with the next start, not now" in log
    assert "server.max_message_bytes changes with the next start, not now" in log
    assert "vosk changes with the next start, not now" in log
    assert "server.port" not in log


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[server]\nprot = 1\n", "server.prot: unknown key"),
        ("[server\n", "line 1"),
        ("[server]\ntoken_file = '/nowhere/token'\n", "cannot be read"),
    ],
)
def test_a_reload_that_fails_changes_nothing(reloaded: Reloaded, text: str, reason: str) -> None:
    reloaded.write(text)
    reloaded.until_logged("the old configuration stays")
    log = reloaded.daemon.log.read_text()
    assert reason in log
    assert "Traceback" not in log
    assert (reloaded.allows(OLD), reloaded.allows(NEW)) == (True, False)
    reloaded.write("[server]\nallowed_origins = ['http://new.example']\n")
    reloaded.until_logged("configuration reloaded")
    assert reloaded.allows(NEW)


def test_clients_stay_through_a_reload(reloaded: Reloaded) -> None:
    with connect(reloaded.daemon.ws("/v1/stream")) as websocket:
        assert json.loads(websocket.recv())["type"] == "hello"
        reloaded.write("")
        reloaded.until_logged("configuration reloaded")
        websocket.send('{"type": "close"}')
        assert json.loads(websocket.recv())["type"] == "closed"
