"""Which accelerators are plugged in, look by look."""

from __future__ import annotations

from dataclasses import dataclass

from edged.hardware import accelerators, board
from edged.hardware.root import Root
from edged.hardware.uevents import Uevents


@dataclass(frozen=True, slots=True)
class Change:
    """Devices as rungs name them: "openvino npu"."""

    gone: frozenset[str] = frozenset()
    came: frozenset[str] = frozenset()


NONE = Change()


class Attendance:
    """Notices what is unplugged and plugged in. Costs nothing while nothing happens."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._uevents = Uevents()
        self._settled = True
        self._known = self._seen = self._present()

    def look(self) -> Change:
        """What has changed for good: a stick that boots goes and comes again under another id, so
        two looks must see the same."""
        if self._uevents.heard():
            self._settled = False
        if self._settled:
            return NONE
        before, self._seen = self._seen, self._present()
        if self._seen != before:
            return NONE
        self._settled = True
        known, self._known = self._known, self._seen
        return Change(known - self._seen, self._seen - known)

    def _present(self) -> frozenset[str]:
        found = accelerators.read(self._root, board.read(self._root))
        return frozenset(device for accelerator in found for device in accelerator.providers)

    def close(self) -> None:
        self._uevents.close()
