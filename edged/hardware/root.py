"""The one way to files: everything in this package reads through a Root.

A Root is `/`, or a folder that `record.py` wrote on another machine. Nothing here raises: what is
not there, not allowed or not text is None or empty, because a machine that lacks a file is normal.
"""

from __future__ import annotations

import grp
import os
import re
import stat
from contextlib import suppress
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path

import msgspec

RECORD = "record.json"
MOST_BYTES = 1 << 20
"""No file that is read here is larger"""


class User(msgspec.Struct, frozen=True):
    """Who reads."""

    uid: int
    groups: list[int] = []


class RecordedNode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A device node in a record."""

    mode: str
    """Permission bits in octal: "660" """
    uid: int
    gid: int
    group: str
    listed: bool = False
    """An access list of the desktop session opens it to the user, whatever the mode says"""


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a recorded machine says beside its files."""

    machine: str
    """Its architecture, as `uname -m` says it"""
    kernel: str
    user: User
    nodes: dict[str, RecordedNode] = {}
    links: dict[str, str] = {}
    """The last part of what a symbolic link leads to: {".../driver": "nvidia"}"""
    names: dict[str, list[str]] = {}
    """Names in a folder whose files were not read: /dev/bus/usb, renderD128"""


class Node(msgspec.Struct, frozen=True):
    """A device node."""

    path: str
    """As on the machine itself: /dev/dri/renderD128"""
    mode: int
    """Permission bits"""
    uid: int
    gid: int
    group: str
    """The group's name, its number where it has none"""
    openable: bool
    """This user may open it for reading and writing"""


class Root:
    """Files below one folder. Paths are relative to it: `proc/cpuinfo`."""

    def __init__(self, path: Path = Path("/")) -> None:
        self.path = path

    @cached_property
    def record(self) -> Record | None:
        """What a recorded machine says; None on a living one."""
        try:
            return msgspec.json.decode((self.path / RECORD).read_bytes(), type=Record)
        except (OSError, msgspec.DecodeError):
            return None

    @property
    def machine(self) -> str:
        """The architecture: x86_64, aarch64."""
        return self.record.machine if self.record else os.uname().machine

    @property
    def kernel(self) -> str:
        """The kernel's release: 6.12.34-v8+."""
        return self.record.kernel if self.record else os.uname().release

    @property
    def user(self) -> User:
        """Who reads: the one who made the record, else who runs this."""
        if self.record:
            return self.record.user
        return User(os.geteuid(), sorted({os.getegid(), *os.getgroups()}))

    def content(self, path: str) -> bytes | None:
        """A file as it is."""
        try:
            with (self.path / path).open("rb") as file:
                return file.read(MOST_BYTES)
        except OSError:
            return None

    def text(self, path: str) -> str | None:
        """A file's text, without the white space and zero bytes around it."""
        content = self.content(path)
        return None if content is None else content.decode("utf-8", "replace").strip(" \t\n\0")

    def strings(self, path: str) -> list[str]:
        """A device tree's list of strings: each ends with a zero byte; a line each in a record."""
        return [part for part in re.split(r"[\0\n]", self.text(path) or "") if part]

    def number(self, path: str) -> int | None:
        """A file that holds one decimal number."""
        try:
            return int(self.text(path) or "")
        except ValueError:
            return None

    def names(self, folder: str, pattern: str = "*") -> list[str]:
        """What is in a folder, sorted so that 10 comes after 9."""
        found = set(self._recorded_names(folder))
        with suppress(OSError):
            found.update(path.name for path in (self.path / folder).iterdir())
        return sorted((name for name in found if fnmatch(name, pattern)), key=_natural)

    def _recorded_names(self, folder: str) -> list[str]:
        return self.record.names.get(folder, []) if self.record else []

    def exists(self, path: str) -> bool:
        """Whether there is such a file or folder."""
        folder, _, name = path.rpartition("/")
        return (self.path / path).exists() or name in self._recorded_names(folder)

    def link(self, path: str) -> str | None:
        """The last part of what a symbolic link leads to: the name of a device's driver."""
        if self.record:
            return self.record.links.get(path)
        try:
            return (self.path / path).readlink().name
        except OSError:
            return None

    def node(self, path: str) -> Node | None:
        """A device node, and whether this user may open it."""
        if self.record:
            return self._recorded_node(path)
        try:
            found = (self.path / path).stat()
        except OSError:
            return None
        openable = os.access(self.path / path, os.R_OK | os.W_OK)
        mode = stat.S_IMODE(found.st_mode)
        group = _group_name(found.st_gid)
        return Node(f"/{path}", mode, found.st_uid, found.st_gid, group, openable)

    def _recorded_node(self, path: str) -> Node | None:
        node = self.record.nodes.get(path) if self.record else None
        if not node:
            return None
        try:
            mode = int(node.mode, 8)
        except ValueError:
            return None
        openable = node.listed or may_open(mode, node.uid, node.gid, self.user)
        return Node(f"/{path}", mode, node.uid, node.gid, node.group, openable)


def may_open(mode: int, uid: int, gid: int, user: User) -> bool:
    """Whether permission bits let a user read and write."""
    if user.uid == 0:
        return True
    shift = 6 if user.uid == uid else 3 if gid in user.groups else 0
    return (mode >> shift) & 6 == 6


def _natural(name: str) -> list[tuple[int, str]]:
    return [
        (int(part or 0), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)
    ]


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
