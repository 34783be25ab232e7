"""Which board or computer this is."""

from __future__ import annotations

import msgspec

from edged.hardware.root import Root

TREE = "proc/device-tree"
DMI = "sys/class/dmi/id"


class Board(msgspec.Struct, frozen=True):
    """A board by its device tree, or a computer by its firmware."""

    model: str | None
    """For people: Raspberry Pi 5 Model B Rev 1.0"""
    compatible: list[str] = []
    """The device tree's words, the most exact first: raspberrypi,5-model-b, brcm,bcm2712"""


def read(root: Root) -> Board:
    """The board. The model alone where there is no device tree."""
    model = root.text(f"{TREE}/model") or _product(root)
    return Board(model, root.strings(f"{TREE}/compatible"))


def _product(root: Root) -> str | None:
    words = [root.text(f"{DMI}/{name}") for name in ("sys_vendor", "product_name")]
    return " ".join(word for word in words if word) or None
