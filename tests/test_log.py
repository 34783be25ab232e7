"""The log: a record for each event, with fields in the journal, and no word of what was said."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edged import journal, stderr
from edged.journal import JournalHandler, encode
from edged.log import fields
from tests.client import recognize, texts
from tests.conftest import ROOT, TINY
from tests.daemon import DaemonProcess

RATE = 16000
Record = dict[str, str]


class Journal:
    """systemd's side of the native protocol, in a thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._records: list[Record] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(0.05)
        self._socket.bind(str(path))
        self._closed = threading.Event()
        self.takes = threading.Event()
        self.takes.set()
        self._read = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._closed.is_set():
            self.takes.wait()
            try:
                datagram = self._socket.recv(1 << 20)
            except TimeoutError:
                self._read.set()
            else:
                self._records.append(parse(datagram))

    def records(self) -> list[Record]:
        """All that came so far."""
        self._read.clear()
        assert self._read.wait(10)
        return self._records

    def close(self) -> None:
        self._closed.set()
        self.takes.set()
        self._thread.join()
        self._socket.close()
        self.path.unlink()

    def of(self, name: str) -> list[Record]:
        """Those of an event."""
        return [record for record in self.records() if record.get("EDGED_EVENT") == name]

    def wait(self, name: str, seconds: float = 60.0) -> Record:
        deadline = time.monotonic() + seconds
        while not self.of(name):
            assert time.monotonic() < deadline, (name, self.records())
            time.sleep(0.02)
        return self.of(name)[-1]


def parse(datagram: bytes) -> Record:
    """https://systemd.io/JOURNAL_NATIVE_PROTOCOL/, to the letter."""
    record = {}
    while datagram:
        line, _, datagram = datagram.partition(b"\n")
        name, plain, value = line.partition(b"=")
        if not plain:
            size = int.from_bytes(datagram[:8], "little")
            value, end, datagram = (
                datagram[8:][:size],
                datagram[8 + size :][:1],
                datagram[9 + size :],
            )
            assert end == b"\n"
        assert name.decode() not in record
        record[name.decode()] = value.decode()
    return record


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal")
    yield journal
    if journal.path.exists():
        journal.close()


@pytest.fixture
def logger(served: Journal) -> Iterator[logging.Logger]:
    """It logs to the journal and nowhere else."""
    found = logging.getLogger("edged.tested")
    handler = JournalHandler(str(served.path))
    found.addHandler(handler)
    found.propagate = False
    found.setLevel(logging.DEBUG)
    yield found
    found.removeHandler(handler)
    handler.close()


# -- records ------------------------------------------------------------------------------------


def test_a_record_has_fields(logger: logging.Logger, served: Journal) -> None:
    logger.error("worker %d is gone", 7, extra=fields("worker_gone", pid=7, rung=None, cause="x"))
    [record] = served.records()
    assert record.pop("CODE_FILE") == __file__
    assert int(record.pop("CODE_LINE")) > 0
    assert record == {
        "MESSAGE": "worker 7 is gone",
        "PRIORITY": "3",
        "SYSLOG_IDENTIFIER": "edged",
        "LOGGER": "edged.tested",
        "CODE_FUNC": "test_a_record_has_fields",
        "EDGED_EVENT": "worker_gone",
        "EDGED_PID": "7",
        "EDGED_CAUSE": "x",
    }


@pytest.mark.parametrize(
    ("level", "priority"), [("debug", "7"), ("info", "6"), ("warning", "4"), ("critical", "2")]
)
def test_levels_are_syslogs(
    logger: logging.Logger, served: Journal, level: str, priority: str
) -> None:
    getattr(logger, level)("something")
    assert served.records()[0]["PRIORITY"] == priority


def test_what_is_no_utf_8_is_sent_all_the_same() -> None:
    assert encode({"MESSAGE": "a\udcffb"}) == b"MESSAGE=a?b\n"


@pytest.mark.parametrize("text", ["two\nlines", "a=b", "\nPRIORITY=0\n", "", "Ärger ☃"])
def test_no_text_becomes_another_field(logger: logging.Logger, served: Journal, text: str) -> None:
    logger.info("%s", text, extra=fields("odd", text=text))
    [record] = served.records()
    as_sent = text.encode("utf-8", "replace").decode()
    assert record["MESSAGE"] == as_sent.replace("\n", "\\n")
    assert (record["EDGED_TEXT"], record["PRIORITY"]) == (as_sent, "6")


def test_an_exception_is_one_record_with_its_traceback(
    logger: logging.Logger, served: Journal
) -> None:
    try:
        raise ValueError("of no use")
    except ValueError:
        logger.exception("looking after it failed")
    [record] = served.records()
    assert record["MESSAGE"] == "looking after it failed: ValueError: of no use"
    assert record["EXCEPTION_TEXT"].startswith("Traceback")
    assert 'raise ValueError("of no use")' in record["EXCEPTION_TEXT"]


def test_what_is_too_long_is_cut(logger: logging.Logger, served: Journal) -> None:
    logger.info("x" * 1_000_000, extra=fields("long", text="y\n" * 1_000_000))
    [record] = served.records()
    assert len(record["MESSAGE"]) == len(record["EDGED_TEXT"]) == journal.LONGEST


def test_a_journal_that_is_stuck_is_hardly_waited_for(
    logger: logging.Logger, served: Journal
) -> None:
    served.takes.clear()
    time.sleep(0.1)  # what it waits for now
    started = time.monotonic()
    for number in range(2000):
        logger.info("number %d", number)
    assert time.monotonic() - started < 5
    served.takes.set()
    taken = len(served.records())
    assert 0 < taken < 2000
    logger.info("after")
    *_, loss, last = served.records()
    assert loss["EDGED_EVENT"] == "log_lost"
    assert int(loss["EDGED_COUNT"]) == 2000 - taken
    assert last["MESSAGE"] == "after"


def test_a_journal_that_is_started_anew_is_found_again(
    logger: logging.Logger, served: Journal
) -> None:
    served.close()
    logger.info("lost")
    again = Journal(served.path)
    logger.info("after")
    assert [record["MESSAGE"] for record in again.records()] == [
        "1 records could not be logged",
        "after",
    ]
    again.close()


def test_fields_are_encoded_as_the_protocol_says() -> None:
    assert encode({"A": "b", "C": "d\ne"}) == b"A=b\nC\n\x03\0\0\0\0\0\0\0d\ne\n"


REAL = r"""
set -e
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/log
mkdir -p /run/systemd/journal /run/log/journal
{journald} & journal=$!
while ! test -S /run/systemd/journal/socket; do sleep 0.1; done
{python} -c "{code}"
for try in 1 2 3 4 5 6 7 8 9 10; do
    journalctl --quiet -D /run/log/journal -o json EDGED_EVENT=worker_gone > {out}
    if test -s {out}; then break; fi
    sleep 0.3
done
kill $journal
"""
CODE = """
import logging
from edged.journal import JournalHandler
from edged.log import fields
log = logging.getLogger('edged.tested')
log.addHandler(JournalHandler.opened())
log.error('it is gone', extra=fields('worker_gone', pid=7, text='two\\nlines'))
"""


@pytest.mark.long
def test_systemds_own_journal_keeps_the_fields(tmp_path: Path) -> None:
    """systemd-journald itself, in a mount namespace of its own."""
    journald, out = Path("/lib/systemd/systemd-journald"), tmp_path / "out.json"
    if not journald.exists() or subprocess.run(["unshare", "-mn", "true"], check=False).returncode:
        pytest.skip("systemd-journald, or a namespace to run it in, cannot be had here")
    script = REAL.format(journald=journald, python=sys.executable, code=CODE, out=out)
    subprocess.run(
        ["unshare", "-mn", "sh", "-c", script],
        cwd=ROOT,
        check=True,
        timeout=60,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    record = json.loads(out.read_text())
    assert record["MESSAGE"] == "it is gone"
    assert (record["EDGED_EVENT"], record["EDGED_PID"]) == ("worker_gone", "7")
    assert record["EDGED_TEXT"] == "two\nlines"
    assert record["PRIORITY"] == "3"


# -- where it goes ------------------------------------------------------------------------------

LOGS = r"""
import logging
from edged.log import get_logger, set_up
set_up()
log = get_logger("edged.tested")
log.warning("first\nsecond \x1b[31m%s", "\r12:00:00 ERROR forged")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("it failed")
"""


def run_logs(output: Path, **environment: str) -> list[str]:
    with output.open("wb") as file:
        subprocess.run(
            [sys.executable, "-c", LOGS],
            env={**os.environ, **environment},
            stderr=file,
            check=True,
            timeout=60,
        )
    return output.read_text().split("\n")


def identity(path: Path) -> str:
    """A file as systemd names stderr in JOURNAL_STREAM."""
    path.touch()
    found = path.stat()
    return f"{found.st_dev}:{found.st_ino}"


def test_on_stderr_nobody_can_write_a_line_of_anothers(tmp_path: Path) -> None:
    first, second, *_ = run_logs(tmp_path / "log")
    assert first.endswith(
        "WARNING edged.tested: first\\nsecond \\x1b[31m\\x0d12:00:00 ERROR forged"
    )
    assert second.endswith("ERROR   edged.tested: it failed")


def test_under_systemd_it_goes_to_the_journal(tmp_path: Path, served: Journal) -> None:
    log = tmp_path / "log"
    assert run_logs(log, JOURNAL_STREAM=identity(log), EDGED_JOURNAL=str(served.path)) == [""]
    assert [record["PRIORITY"] for record in served.records()] == ["4", "3"]


def test_without_its_socket_stderr_has_priorities(tmp_path: Path) -> None:
    log, nowhere = tmp_path / "log", tmp_path / "nowhere"
    lines = run_logs(log, JOURNAL_STREAM=identity(log), EDGED_JOURNAL=str(nowhere))
    assert lines[0].startswith("<4>edged.tested: first\\nsecond")
    assert all(line.startswith("<3>") for line in lines[1:-1])


def test_a_stderr_that_leads_elsewhere_is_not_taken_for_the_journal(
    tmp_path: Path, served: Journal
) -> None:
    """Whoever starts edged from a service has JOURNAL_STREAM, but maybe another stderr."""
    other = identity(tmp_path / "other")
    lines = run_logs(tmp_path / "log", JOURNAL_STREAM=other, EDGED_JOURNAL=str(served.path))
    assert "WARNING" in lines[0]
    assert not served.records()


# -- what children write ------------------------------------------------------------------------


def test_what_a_child_writes_comes_line_by_line() -> None:
    lines: list[str] = []

    async def follow() -> None:
        reader = asyncio.StreamReader()
        following = asyncio.create_task(stderr.follow(reader, lines.append))
        for data in (
            b"one\ntw",
            b"o\r\n\n\xe2\x98",
            b"\x83\xff\n",
            b"z" * 100_000,
            b"\nwithout an end",
        ):
            reader.feed_data(data)
            await asyncio.sleep(0)
        reader.feed_eof()
        await following

    asyncio.run(follow())
    *short, long, last = lines
    assert short == ["one", "two", "", "☃\ufffd"]
    assert long == "z" * stderr.LONGEST_LINE
    assert last == "without an end"


# -- a daemon -----------------------------------------------------------------------------------


class JournalledDaemon(DaemonProcess):
    """Its stderr is the journal's, which is where it says its port."""

    known_port: int

    @property
    def port(self) -> int:
        return self.known_port


@pytest.fixture
def daemon_of(
    tmp_path: Path, served: Journal, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., JournalledDaemon]]:
    """Start one with a configuration."""
    with contextlib.ExitStack() as stack:

        def start(configuration: str, *flags: str) -> JournalledDaemon:
            folder = tmp_path / "daemon"
            folder.mkdir()
            (folder / "edged.toml").write_text(configuration)
            monkeypatch.setenv("JOURNAL_STREAM", identity(folder / "log"))
            monkeypatch.setenv("EDGED_JOURNAL", str(served.path))
            flags = flags or ("--no-microphone",)
            flags += ("--model", TINY, "--port", str(free_port))
            daemon = JournalledDaemon(folder, flags, {})
            daemon.known_port = free_port
            stack.callback(daemon.stop)
            served.wait("engine_ready")
            daemon.wait_ready()
            return daemon

        yield start


def test_what_was_said_is_logged_only_where_that_is_wished(
    daemon_of: Callable[..., JournalledDaemon], served: Journal, speech: np.ndarray
) -> None:
    """At the level that tells most, first without leave and then with it."""
    daemon = daemon_of("[log]\nlevel = 'debug'\n")
    said = [text for text in texts(recognize(daemon.url, speech[: 8 * RATE])) if text]
    words = {word.strip(".,").lower() for text in said for word in text.split() if len(word) > 4}
    assert len(words) > 3

    def telling() -> list[Record]:
        """Records, and the rest of stderr, that hold what was said."""
        written = [*served.records(), {"MESSAGE": daemon.log.read_text()}]
        return [record for record in written if any(w in str(record).lower() for w in words)]

    about = served.wait("final")
    assert about["EDGED_STREAM"].startswith("stream-")
    assert about["EDGED_UTTERANCE"].isdigit()
    assert about["EDGED_RUNG"].startswith(TINY)
    assert about["PRIORITY"] == "7"
    assert not telling()

    (daemon.folder / "edged.toml").write_text("[log]\ntexts = true\n")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait(lambda: any("reloaded" in record["MESSAGE"] for record in served.records()))
    assert [text for text in texts(recognize(daemon.url, speech[: 8 * RATE])) if text] == said
    daemon.wait(lambda: len(served.of("final")) >= 2 * len(said))
    assert {text for record in telling() for text in said if text in record["MESSAGE"]} == set(said)
    assert {record["PRIORITY"] for record in telling()} == {"6"}


def test_what_children_write_tells_where_it_is_from(
    daemon_of: Callable[..., JournalledDaemon], served: Journal
) -> None:
    """A program complains, a worker crashes: each line is a record, and so is the end."""
    daemon = daemon_of("", "--source", "program:sh -c 'echo no such card >&2; exec cat /dev/zero'")
    complaint = served.wait("capture_said")
    capture = daemon.child("edged.audio.capture")
    assert capture
    assert complaint["MESSAGE"] == "capture: no such card"
    assert complaint["EDGED_PID"] == str(capture.pid)

    worker = daemon.worker().pid
    os.kill(worker, signal.SIGSEGV)
    gone = served.wait("worker_gone")
    assert gone["EDGED_PID"] == str(worker)
    assert gone["EDGED_CAUSE"] == "crashed"
    assert gone["PRIORITY"] == "3"
    lines = served.of("worker_said")
    assert any("Segmentation fault" in record["MESSAGE"] for record in lines)
    for record in lines:
        assert record["EDGED_PROCESS"] == "worker"
        assert record["EDGED_PID"] == str(worker)
        assert record["EDGED_RUNG"] == gone["EDGED_RUNG"]
        assert "\n" not in record["MESSAGE"]
    assert daemon.log.read_text() == ""
