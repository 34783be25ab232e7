"""The mute switch: a file or a command; what cannot be read mutes."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from edged.audio.switch import Switch


def test_without_a_switch_nothing_mutes() -> None:
    assert Switch(None, None).read() == (False, None)


@pytest.mark.parametrize(
    ("held", "muted"),
    [("0\n", False), ("1\n", True), ("off", False), ("Muted\n", True), ('"17"=inactive\n', False)],
)
def test_a_file_says_so_now(tmp_path: Path, held: str, muted: bool) -> None:
    file = tmp_path / "value"
    file.write_text(held)
    switch = Switch(str(file), None)
    assert switch.read() == (muted, None)
    file.write_text("1" if not muted else "0")
    assert switch.read() == (not muted, None)


@pytest.mark.parametrize("held", [b"", b"2\n", b"\xff\xfe", b"0" * 4096])
def test_a_file_that_says_something_else_mutes(tmp_path: Path, held: bytes) -> None:
    file = tmp_path / "value"
    file.write_bytes(held)
    muted, problem = Switch(str(file), None).read()
    assert muted
    assert problem
    assert "neither 0 nor 1" in problem


def test_a_file_that_is_not_there_mutes(tmp_path: Path) -> None:
    muted, problem = Switch(str(tmp_path / "value"), None).read()
    assert muted
    assert problem == f"the mute switch {tmp_path}/value cannot be read: No such file or directory"


def wait_for(switch: Switch, muted: bool, problem: str | None) -> None:
    deadline = time.monotonic() + 10
    while switch.read() != (muted, problem):
        assert time.monotonic() < deadline, switch.read()
        time.sleep(0.01)


def test_a_command_says_so_line_by_line(tmp_path: Path) -> None:
    line = tmp_path / "line"
    command = f"echo 0; while [ ! -e {line} ]; do sleep 0.02; done; echo 1; exec sleep 60"
    switch = Switch(None, command)
    muted, problem = switch.read()
    assert not muted or "has said nothing yet" in str(problem)
    wait_for(switch, False, None)
    line.touch()
    wait_for(switch, True, None)


def test_a_command_that_ends_mutes_and_is_started_again(tmp_path: Path) -> None:
    once = tmp_path / "once"
    command = f"[ -e {once} ] && echo 0 && exec sleep 60; touch {once}; echo 0; exit 3"
    switch = Switch(None, command)
    wait_for(switch, True, "the mute command has left with exit code 3")
    wait_for(switch, False, None)


def test_either_mutes(tmp_path: Path) -> None:
    file = tmp_path / "value"
    file.write_text("0")
    switch = Switch(str(file), "echo 1; exec sleep 60")
    wait_for(switch, True, None)
    both = Switch(str(file), "echo 0; exec sleep 60")
    wait_for(both, False, None)
    file.write_text("1")
    assert both.read() == (True, None)
