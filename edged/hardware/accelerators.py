"""GPUs, NPUs and their kin, by the ids that their makers gave them.

Sources: the kernel's drivers (drivers/accel/ivpu, drivers/accel/amdxdna, Hailo's hailort-drivers,
Google's gasket), pci.ids, usb.ids, and the device tree bindings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

import msgspec

from edged.hardware import pci, usb
from edged.hardware.board import Board
from edged.hardware.root import Node, Root

PLATFORM = "sys/bus/platform/devices"


class Family(msgspec.Struct, frozen=True):
    """Accelerators that one driver and one provider serve."""

    kind: Literal["gpu", "npu", "tpu", "dsp"]
    providers: tuple[str, ...] = ()
    """Provider and device that drive it: "openvino npu"; none where edged has no way to it"""
    drivers: tuple[str, ...] = ()
    """Kernel drivers that its provider works with"""


NVIDIA = ("onnxruntime cuda", "onnxruntime tensorrt")
FAMILIES = {
    "intel-npu": Family("npu", ("openvino npu", "onnxruntime openvino-npu"), ("intel_vpu",)),
    "intel-gpu": Family("gpu", ("openvino gpu", "onnxruntime openvino-gpu"), ("i915", "xe")),
    "nvidia-gpu": Family("gpu", NVIDIA, ("nvidia",)),
    "jetson-gpu": Family("gpu", NVIDIA, ("nvgpu",)),
    "movidius": Family("npu", ("movidius myriad", "movidius mixed")),
    "coral": Family("tpu", ("tflite edgetpu",), ("apex",)),
    "amd-gpu": Family("gpu"),
    "amd-npu": Family("npu"),
    "hailo": Family("npu"),
    "rockchip-npu": Family("npu"),
    "hexagon": Family("dsp"),
    "adreno": Family("gpu"),
    "mali": Family("gpu"),
    "ethos-u": Family("npu"),
    "ethos-n": Family("npu"),
}
PCI_PRODUCTS = {
    # drivers/accel/ivpu/ivpu_drv.h
    "8086:7d1d": ("intel-npu", "Intel NPU (Meteor Lake)"),
    "8086:ad1d": ("intel-npu", "Intel NPU (Arrow Lake)"),
    "8086:643e": ("intel-npu", "Intel NPU (Lunar Lake)"),
    "8086:b03e": ("intel-npu", "Intel NPU (Panther Lake)"),
    "8086:fd3e": ("intel-npu", "Intel NPU (Wildcat Lake)"),
    "8086:d71d": ("intel-npu", "Intel NPU (Nova Lake)"),
    # drivers/accel/amdxdna/amdxdna_pci_drv.c
    "1022:1502": ("amd-npu", "AMD XDNA NPU (Phoenix, Hawk Point)"),
    "1022:17f0": ("amd-npu", "AMD XDNA 2 NPU (Strix, Krackan)"),
    # hailort-drivers, common/pcie_common.h
    "1e60:2864": ("hailo", "Hailo-8"),
    "1e60:45c4": ("hailo", "Hailo-10H"),
    "1e60:43a2": ("hailo", "Hailo-15L"),
    # gasket, apex_driver.c
    "1ac1:089a": ("coral", "Coral Edge TPU (PCIe)"),
}
PCI_DISPLAYS = {
    "8086": ("intel-gpu", "Intel GPU"),
    "10de": ("nvidia-gpu", "NVIDIA GPU"),
    "1002": ("amd-gpu", "AMD GPU"),
}
"""Makers of display controllers (PCI class 03): their GPUs have too many ids to list"""
USB_PRODUCTS = {
    "03e7:2150": ("movidius", "Neural Compute Stick (Myriad 2)"),
    "03e7:2485": ("movidius", "Neural Compute Stick 2 (Myriad X)"),
    "03e7:f63b": ("movidius", "Neural Compute Stick, in use"),
    # The first before, the second after libedgetpu has loaded its firmware.
    "1a6e:089a": ("coral", "Coral Edge TPU (USB)"),
    "18d1:9302": ("coral", "Coral Edge TPU (USB)"),
}
JETSONS = {
    "nvidia,tegra264": "Jetson Thor GPU",
    "nvidia,tegra234": "Jetson Orin GPU",
    "nvidia,tegra194": "Jetson Xavier GPU",
    "nvidia,tegra186": "Jetson TX2 GPU",
    "nvidia,tegra210": "Jetson Nano GPU",
}
TREE_PRODUCTS = (
    (re.compile(r"rockchip,(rk\d+)-(?:rknpu|rknn-core)"), "rockchip-npu", "Rockchip NPU"),
    (re.compile(r"qcom,(adreno.*|kgsl-3d0)"), "adreno", "Qualcomm Adreno GPU"),
    (re.compile(r"(?:arm,|rockchip,rk\d+-)(mali.*)"), "mali", "Arm Mali GPU"),
    (re.compile(r"arm,(ethos-?u.*)"), "ethos-u", "Arm Ethos-U NPU"),
    (re.compile(r"(?:arm,)?(ethos-?n.*)"), "ethos-n", "Arm Ethos-N NPU"),
)
"""Words of a device tree node's `compatible`, and the part of them that names the hardware"""
_TREE_NAMES = re.compile("npu|gpu|mali|ethos|kgsl|rknn")
"""A platform device has the name of its node; there are hundreds, and few are worth a look"""
_EXTRA_NODES = {
    "nvidia-gpu": ("nvidiactl", "nvidia-uvm", "nvidia[0-9]*"),
    "jetson-gpu": ("nvmap", "nvhost-gpu"),
    "coral": ("apex_*",),
    "hailo": ("hailo[0-9]*",),
    "rockchip-npu": ("rknpu",),
    "hexagon": ("fastrpc-cdsp*", "fastrpc-adsp*", "adsprpc-smd*"),
    "adreno": ("kgsl-3d0",),
    "mali": ("mali[0-9]*",),
    "ethos-u": ("ethosu[0-9]*",),
    "ethos-n": ("ethosn[0-9]*",),
}
"""By family, nodes in /dev that are not listed below the device itself"""


class Accelerator(msgspec.Struct, frozen=True, kw_only=True):
    """One accelerator, whether it can be used or not."""

    id: str
    """Family and number: nvidia-gpu.0"""
    family: str
    """A key of FAMILIES"""
    kind: Literal["gpu", "npu", "tpu", "dsp"]
    name: str
    """For people"""
    hardware: str
    """Vendor and product, or the device tree's word: 8086:7d1d, tegra234"""
    address: str
    """Where it is: pci 0000:00:0b.0, usb 2-1, fdab0000.npu"""
    driver: str | None = None
    """The kernel driver that has it"""
    driver_version: str | None = None
    """Of a driver that is not part of the kernel"""
    nodes: list[Node] = []
    """What a program opens to use it"""
    providers: list[str] = []
    """Provider and device that could drive it: "openvino npu" """


def read(root: Root, board: Board) -> list[Accelerator]:
    """Every accelerator, numbered within its family in the order of addresses."""
    counts: dict[str, int] = {}
    found = []
    for accelerator in _all(root, board):
        number = counts.setdefault(accelerator.family, 0)
        counts[accelerator.family] += 1
        identity = f"{accelerator.family}.{number}"
        found.append(msgspec.structs.replace(accelerator, id=identity))
    return found


def _all(root: Root, board: Board) -> Iterator[Accelerator]:
    yield from _on_pci(root)
    yield from _on_usb(root)
    yield from _jetson(root, board)
    yield from _in_tree(root)
    yield from _hexagon(root, board)


def _on_pci(root: Root) -> Iterator[Accelerator]:
    for device in pci.read(root):
        hardware = f"{device.vendor}:{device.product}"
        known = PCI_PRODUCTS.get(hardware)
        if not known and device.kind.startswith("03"):
            known = PCI_DISPLAYS.get(device.vendor)
        if known:
            nodes = _nodes(root, known[0], device.folder, device.driver)
            address = f"pci {device.address}"
            yield _make(root, *known, hardware, address, device.driver, nodes)


def _on_usb(root: Root) -> Iterator[Accelerator]:
    for device in usb.read(root):
        hardware = f"{device.vendor}:{device.product}"
        if hardware in USB_PRODUCTS:
            node = root.node(device.node) if device.node else None
            family, name = USB_PRODUCTS[hardware]
            nodes = [node] if node else []
            yield _make(root, family, name, hardware, f"usb {device.port}", None, nodes)


def _jetson(root: Root, board: Board) -> Iterator[Accelerator]:
    for word in board.compatible:
        if word in JETSONS:
            driver = "nvgpu" if root.exists("sys/module/nvgpu") else None
            hardware = word.removeprefix("nvidia,")
            nodes = _beside(root, "jetson-gpu")
            yield _make(root, "jetson-gpu", JETSONS[word], hardware, "gpu", driver, nodes)
            return


def _in_tree(root: Root) -> Iterator[Accelerator]:
    """Parts of a system on a chip that have a node in the device tree."""
    for name in root.names(PLATFORM):
        folder = f"{PLATFORM}/{name}"
        words = root.strings(f"{folder}/of_node/compatible") if _TREE_NAMES.search(name) else []
        known = next(filter(None, map(_tree_product, words)), None)
        if known:
            driver = root.link(f"{folder}/driver")
            nodes = _nodes(root, known[0], folder, driver)
            yield _make(root, *known, name, driver, nodes)


def _tree_product(word: str) -> tuple[str, str, str] | None:
    """Family, name and hardware of a device tree's word."""
    for pattern, family, label in TREE_PRODUCTS:
        match = pattern.fullmatch(word)
        if match:
            return family, label, match.group(1)
    return None


def _hexagon(root: Root, board: Board) -> Iterator[Accelerator]:
    """Qualcomm's DSP: a remote processor, reached through fastrpc."""
    chips = [word.removeprefix("qcom,") for word in board.compatible if word.startswith("qcom,")]
    nodes = _beside(root, "hexagon")
    if nodes:
        chip = chips[-1] if chips else "hexagon"
        yield _make(root, "hexagon", "Qualcomm Hexagon DSP", chip, "fastrpc", "fastrpc", nodes)


def _make(
    root: Root,
    family: str,
    name: str,
    hardware: str,
    address: str,
    driver: str | None,
    nodes: list[Node],
) -> Accelerator:
    return Accelerator(
        id=family,
        family=family,
        kind=FAMILIES[family].kind,
        name=name,
        hardware=hardware,
        address=address,
        driver=driver,
        driver_version=root.text(f"sys/module/{driver}/version") if driver else None,
        nodes=nodes,
        providers=list(FAMILIES[family].providers),
    )


def _nodes(root: Root, family: str, folder: str, driver: str | None) -> list[Node]:
    """The nodes by which a device's provider would reach it."""
    if driver is None:
        return []
    # CUDA goes by nodes of its own, and does without the render node.
    below = [] if family == "nvidia-gpu" else _below(root, folder)
    return below + _beside(root, family)


def _below(root: Root, folder: str) -> list[Node]:
    """Nodes that the kernel lists below a device: render nodes and compute accelerators."""
    paths = [f"dev/dri/{name}" for name in root.names(f"{folder}/drm", "renderD*")]
    paths += [f"dev/accel/{name}" for name in root.names(f"{folder}/accel", "accel*")]
    return [node for path in paths if (node := root.node(path))]


def _beside(root: Root, family: str) -> list[Node]:
    """Nodes of a driver that does not say which device they belong to."""
    patterns = _EXTRA_NODES.get(family, ())
    paths = [f"dev/{name}" for pattern in patterns for name in root.names("dev", pattern)]
    return [node for path in paths if (node := root.node(path))]
