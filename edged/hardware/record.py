"""Writes what was read of a machine into a folder that a Root can replay.

A record holds the files that `machine.find` read, under their paths, with symbolic links dissolved;
links, device nodes, folders of which only names were read, and the user stand in `record.json`.
It can be attached to a report: no serial number, no network address, no host name and no user name
is in it.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from edged.hardware.machine import Machine, find
from edged.hardware.root import RECORD, Node, Record, RecordedNode, Root, may_open

# A Bluetooth keyboard's battery is a folder named by its address; a Raspberry Pi writes its serial
# number into /proc/cpuinfo.
_NETWORK_ADDRESS = re.compile(rb"\b(?:[0-9A-Fa-f]{2}[:_-]){5}[0-9A-Fa-f]{2}\b")
_SERIAL_NUMBER = re.compile(rb"(?mi)^serial\b.*\n?")
# The path of our own control group can hold the name of a container or host.
_OWN = ("proc/self/", "sys/fs/cgroup/")
_LIMIT = "sys/fs/cgroup/memory.max"


class Recording(Root):
    """A Root that remembers what was read."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.files: dict[str, bytes] = {}
        self.links: dict[str, str] = {}
        self.nodes: dict[str, Node] = {}
        self.folders: dict[str, set[str]] = {}

    def content(self, path: str) -> bytes | None:
        found = super().content(path)
        if found is not None:
            self.files[path] = found
        return found

    def names(self, folder: str, pattern: str = "*") -> list[str]:
        found = super().names(folder, pattern)
        self.folders.setdefault(folder, set()).update(found)
        return found

    def exists(self, path: str) -> bool:
        found = super().exists(path)
        if found:
            folder, _, name = path.rpartition("/")
            self.folders.setdefault(folder, set()).add(name)
        return found

    def link(self, path: str) -> str | None:
        target = super().link(path)
        if target is not None:
            self.links[path] = target
        return target

    def node(self, path: str) -> Node | None:
        found = super().node(path)
        if found:
            self.nodes[path] = found
        return found


def record(root: Root, target: Path) -> Machine:
    """Find the machine under `root` and write all that was read for it into `target`."""
    recording = Recording(root.path)
    machine = find(recording)
    files = {p: c for p, c in recording.files.items() if not p.startswith(_OWN)}
    if machine.memory.limit_bytes is not None:
        files[_LIMIT] = b"%d\n" % machine.memory.limit_bytes
    for path, content in files.items():
        file = target / _clean(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(_scrub(content))
    summary = msgspec.json.format(msgspec.json.encode(_summary(recording, set(files))), indent=2)
    target.mkdir(parents=True, exist_ok=True)
    (target / RECORD).write_bytes(_scrub(summary) + b"\n")
    return machine


def _summary(recording: Recording, written: set[str]) -> Record:
    user = recording.user
    return Record(
        machine=recording.machine,
        kernel=recording.kernel,
        user=user,
        nodes={
            path: RecordedNode(
                mode=f"{node.mode:o}",
                uid=node.uid,
                gid=node.gid,
                group=node.group,
                listed=node.openable and not may_open(node.mode, node.uid, node.gid, user),
            )
            for path, node in sorted(recording.nodes.items())
        },
        links=dict(sorted(recording.links.items())),
        names=_names(recording, written),
    )


def _names(recording: Recording, written: set[str]) -> dict[str, list[str]]:
    """The names that replaying would not find, because no file below them was written."""
    known = {str(folder) for path in written for folder in (Path(path), *Path(path).parents)}
    unseen = {
        folder: sorted(name for name in names if f"{folder}/{name}" not in known)
        for folder, names in sorted(recording.folders.items())
        if not folder.startswith(_OWN)
    }
    return {folder: names for folder, names in unseen.items() if names}


def _scrub(content: bytes) -> bytes:
    return _NETWORK_ADDRESS.sub(b"00:00:00:00:00:00", _SERIAL_NUMBER.sub(b"", content))


def _clean(path: str) -> str:
    return _scrub(path.encode()).decode()
