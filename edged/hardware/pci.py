"""Devices on the PCI bus."""

from __future__ import annotations

import msgspec

from edged.hardware.root import Root

DEVICES = "sys/bus/pci/devices"


class PciDevice(msgspec.Struct, frozen=True):
    """A device on the PCI bus."""

    address: str
    """0000:01:00.0"""
    vendor: str
    """Four hexadecimal digits, as in pci.ids"""
    product: str
    kind: str
    """Class and subclass: 0300 is a display controller"""
    driver: str | None

    @property
    def folder(self) -> str:
        """Where its attributes are."""
        return f"{DEVICES}/{self.address}"


def read(root: Root) -> list[PciDevice]:
    """Every device that names its vendor."""
    found = []
    for address in root.names(DEVICES):
        folder = f"{DEVICES}/{address}"
        vendor, product = _digits(root, f"{folder}/vendor"), _digits(root, f"{folder}/device")
        if vendor and product:
            kind = _digits(root, f"{folder}/class")[:4]
            found.append(PciDevice(address, vendor, product, kind, root.link(f"{folder}/driver")))
    return found


def _digits(root: Root, path: str) -> str:
    """Hexadecimal digits without their 0x."""
    return (root.text(path) or "").removeprefix("0x").lower()
