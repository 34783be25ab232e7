"""System libraries without which a provider finds no device, by their files."""

from __future__ import annotations

from edged.hardware.root import Root

FOLDERS = (
    *("usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "usr/lib/arm-linux-gnueabihf"),
    *("usr/lib64", "usr/lib", "usr/local/lib"),
)
FILES = {
    "intel-opencl-icd": ("libigdrcl.so", "intel-opencl/libigdrcl.so"),
    "intel-level-zero-npu": ("libze_intel_npu.so.1", "libze_intel_vpu.so.1"),
    "libedgetpu": ("libedgetpu.so.1",),
    "libusb-1.0-0": ("libusb-1.0.so.0",),
}
"""Debian's name of the package, and files of which it installs one"""


def read(root: Root) -> list[str]:
    """The libraries that are installed in one of the usual folders."""
    return [name for name, files in FILES.items() if _installed(root, files)]


def _installed(root: Root, files: tuple[str, ...]) -> bool:
    return any(root.exists(f"{folder}/{file}") for folder in FOLDERS for file in files)
