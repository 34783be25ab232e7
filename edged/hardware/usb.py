"""Devices on the USB."""

from __future__ import annotations

import msgspec

from edged.hardware.root import Root

DEVICES = "sys/bus/usb/devices"


class UsbDevice(msgspec.Struct, frozen=True):
    """A device on the USB."""

    port: str
    """Bus and the ports to it: 2-1.4"""
    vendor: str
    """Four hexadecimal digits, as in usb.ids"""
    product: str
    node: str | None
    """dev/bus/usb/002/005: what a program opens to use it"""


def read(root: Root) -> list[UsbDevice]:
    """Every device; interfaces, which have a colon in their name, are parts of one."""
    ports = [name for name in root.names(DEVICES) if ":" not in name]
    devices = [_device(root, port) for port in ports]
    return [device for device in devices if device.vendor and device.product]


def _device(root: Root, port: str) -> UsbDevice:
    folder = f"{DEVICES}/{port}"
    bus, number = root.number(f"{folder}/busnum"), root.number(f"{folder}/devnum")
    placed = bus is not None and number is not None
    return UsbDevice(
        port=port,
        vendor=(root.text(f"{folder}/idVendor") or "").lower(),
        product=(root.text(f"{folder}/idProduct") or "").lower(),
        node=f"dev/bus/usb/{bus:03d}/{number:03d}" if placed else None,
    )
