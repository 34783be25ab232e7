from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from edged.hardware.root import RECORD, Record, Root, User, may_open


def test_what_is_not_there_is_nothing(tmp_path: Path) -> None:
    root = Root(tmp_path)
    assert root.text("no/file") is None
    assert root.number("no/file") is None
    assert root.strings("no/file") == []
    assert root.names("no/folder") == []
    assert root.link("no/link") is None
    assert root.node("no/node") is None
    assert not root.exists("no/file")


def test_a_folder_is_no_text(tmp_path: Path) -> None:
    assert Root(tmp_path.parent).text(tmp_path.name) is None


def test_names_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    for name in ("zone10", "zone9", "cooling1", "zone"):
        (tmp_path / name).touch()
    assert Root(tmp_path.parent).names(tmp_path.name, "zone*") == ["zone", "zone9", "zone10"]


def test_strings_of_a_device_tree(tmp_path: Path) -> None:
    (tmp_path / "compatible").write_bytes(b"raspberrypi,5-model-b\0brcm,bcm2712\0")
    assert Root(tmp_path).strings("compatible") == ["raspberrypi,5-model-b", "brcm,bcm2712"]


def test_a_link_is_its_last_part(tmp_path: Path) -> None:
    (tmp_path / "driver").symlink_to("../../bus/pci/drivers/nvidia")
    assert Root(tmp_path).link("driver") == "nvidia"


def test_a_living_node() -> None:
    node = Root().node("dev/null")
    assert node is not None
    assert node.path == "/dev/null"
    assert node.openable
    assert stat.S_IMODE(Path("/dev/null").stat().st_mode) == node.mode


def test_a_living_machine_speaks_for_itself(tmp_path: Path) -> None:
    assert Root(tmp_path).machine == os.uname().machine
    assert Root(tmp_path).user.uid == os.geteuid()


@pytest.mark.parametrize("record", ["", "{", "[]", '{"machine": 1}', '{"mystery": true}'])
def test_a_broken_record_is_none(record: str, tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text(record)
    assert Root(tmp_path).record is None


def test_a_recorded_node_with_rubbish_for_a_mode_is_none(tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text(
        '{"machine": "x86_64", "kernel": "6.1", "user": {"uid": 1},'
        ' "nodes": {"dev/x": {"mode": "rw", "uid": 0, "gid": 0, "group": "root"}}}'
    )
    root = Root(tmp_path)
    assert isinstance(root.record, Record)
    assert root.node("dev/x") is None


@pytest.mark.parametrize(
    ("mode", "user", "allowed"),
    [
        (0o660, User(0), True),
        (0o660, User(1000, [1000]), False),
        (0o660, User(1000, [1000, 44]), True),
        (0o666, User(1000, [1000]), True),
        (0o664, User(1000, [1000]), False),
        (0o600, User(7, [7]), True),
        (0o066, User(7, [44]), False),  # the owner's bits count for the owner
    ],
)
def test_permission_bits(mode: int, user: User, allowed: bool) -> None:
    assert may_open(mode, uid=7, gid=44, user=user) is allowed
