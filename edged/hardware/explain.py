"""Why an accelerator cannot be used now, and what mends it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from edged.hardware.accelerators import FAMILIES, Accelerator
from edged.hardware.machine import Machine
from edged.hardware.root import Node

Code = Literal[
    "no_provider",
    "generation_ended",
    "kernel_too_old",
    "no_driver",
    "wrong_driver",
    "no_node",
    "no_permission",
    "library_missing",
    "package_missing",
]


class Obstacle(msgspec.Struct, frozen=True):
    """One thing in the way of one accelerator."""

    device: str
    """The accelerator's id"""
    code: Code
    sentence: str
    """In plain words"""
    remedy: str
    """The command that mends it, or what to do where no command does"""


INTEL_NPU_KERNEL = (6, 3)
"""The first with intel_vpu"""
MYRIAD_WORKER = "worker movidius"
"""In `installed`: the Python of its own that drives a Myriad X"""
PACKAGES = {
    "openvino npu": "openvino",
    "openvino gpu": "openvino",
    "onnxruntime cuda": "onnxruntime-gpu",
    "onnxruntime tensorrt": "onnxruntime-gpu",
    "onnxruntime openvino-npu": "onnxruntime-openvino",
    "onnxruntime openvino-gpu": "onnxruntime-openvino",
    "tflite edgetpu": "ai-edge-litert",
}
"""The Python package that a provider's device needs"""
INSTALL = {
    "openvino": "pip install 'edged[openvino]'",
    "ai-edge-litert": "pip install 'edged[tflite]'",
    # In a Python of its own: in this one it would lie over onnxruntime.
    "onnxruntime-gpu": "edged workers create onnxruntime-gpu",
}
BUILD_FOR_JETSON = (
    "./build.sh --config Release --build_wheel --parallel --use_cuda "
    "--cuda_home /usr/local/cuda --cudnn_home /usr/lib/aarch64-linux-gnu "
    "in a checkout of https://github.com/microsoft/onnxruntime, then pip install its wheel"
)
NVIDIA_DRIVER = (
    "sudo ubuntu-drivers install (Ubuntu) or sudo apt-get install nvidia-driver (Debian), "
    "then restart"
)
DRIVER = {
    "intel-npu": "sudo modprobe intel_vpu, and sudo apt-get install linux-firmware "
    "where the log of the kernel asks for firmware",
    "intel-gpu": "sudo modprobe i915 || sudo modprobe xe",
    "nvidia-gpu": NVIDIA_DRIVER,
    "jetson-gpu": "sudo modprobe nvgpu",
    "coral": "sudo apt-get install gasket-dkms (from https://packages.cloud.google.com/apt "
    "coral-edgetpu-stable), then sudo modprobe apex",
}
"""By family, how to get the kernel driver"""
LIBRARY = {
    "intel-npu": (
        "intel-level-zero-npu",
        "sudo apt-get install ./intel-*-npu_*.deb with the files of "
        "https://github.com/intel/linux-npu-driver/releases",
    ),
    "intel-gpu": ("intel-opencl-icd", "sudo apt-get install intel-opencl-icd"),
    "coral": (
        "libedgetpu",
        "sudo apt-get install libedgetpu1-std (from https://packages.cloud.google.com/apt "
        "coral-edgetpu-stable)",
    ),
    "movidius": ("libusb-1.0-0", "sudo apt-get install libusb-1.0-0"),
}
"""By family, the system library that its provider needs, and how to get it"""
USB_MATCH = {
    "movidius": 'SUBSYSTEM=="usb", ATTRS{idVendor}=="03e7"',
    "coral": 'SUBSYSTEM=="usb", ATTRS{idVendor}=="1a6e|18d1", ATTRS{idProduct}=="089a|9302"',
}
"""By family, a udev rule's match for its sticks, before and after their firmware is loaded"""
CONTAINER = {
    "intel-npu": "--device /dev/accel",
    "intel-gpu": "--device /dev/dri",
    "nvidia-gpu": "--gpus all",
    "jetson-gpu": "--runtime nvidia",
    "movidius": "--volume /dev/bus/usb:/dev/bus/usb --device-cgroup-rule 'c 189:* rmw'",
    "coral": "--privileged --volume /dev:/dev",
}
"""By family, how a container is given its nodes; a stick's changes when its firmware is loaded"""


def explain(machine: Machine, installed: Mapping[str, str]) -> list[Obstacle]:
    """All that is in the way of each accelerator, in the order in which to mend it.

    `installed` has the versions of provider packages by name: {"openvino": "2025.3.0"}, and of
    the Pythons beside edged's own.
    """
    return [
        obstacle
        for accelerator in machine.accelerators
        for obstacle in _obstacles(accelerator, machine, installed)
    ]


def _obstacles(
    accelerator: Accelerator, machine: Machine, installed: Mapping[str, str]
) -> Iterator[Obstacle]:
    if not accelerator.providers:
        yield _without_provider(accelerator)
    elif accelerator.hardware == "03e7:2150":
        yield _myriad_2(accelerator)
    else:
        driver = list(_driver(accelerator, machine.kernel))
        yield from driver or _nodes(accelerator)  # another driver's nodes say nothing
        yield from _library(accelerator, machine.libraries)
        yield from _package(accelerator, machine.architecture, installed)


def _without_provider(accelerator: Accelerator) -> Obstacle:
    return Obstacle(
        accelerator.id,
        "no_provider",
        f"edged has no execution provider for the {accelerator.name}: it is left alone.",
        "A provider plugin can drive it; without one, nothing needs to be done.",
    )


def _myriad_2(accelerator: Accelerator) -> Obstacle:
    return Obstacle(
        accelerator.id,
        "generation_ended",
        "OpenVINO ended its support of the first Neural Compute Stick (Myriad 2) with 2020.3 LTS.",
        "No command mends this: unplug it, or use a Neural Compute Stick 2.",
    )


def _driver(accelerator: Accelerator, kernel: str) -> Iterator[Obstacle]:
    wanted = FAMILIES[accelerator.family].drivers
    if accelerator.address.startswith("usb") or not wanted or accelerator.driver in wanted:
        return
    names = " or ".join(wanted)
    if accelerator.driver:
        yield Obstacle(
            accelerator.id,
            "wrong_driver",
            f"The {accelerator.name} is held by the kernel driver {accelerator.driver}; "
            f"its provider needs {names}.",
            DRIVER[accelerator.family],
        )
    elif accelerator.family == "intel-npu" and _version(kernel) < INTEL_NPU_KERNEL:
        yield Obstacle(
            accelerator.id,
            "kernel_too_old",
            f"The {accelerator.name} needs Linux 6.3 or newer; this is {kernel}.",
            "sudo apt-get install --install-recommends linux-generic-hwe-22.04 "
            "(Ubuntu 22.04), else a newer release, then restart",
        )
    else:
        yield Obstacle(
            accelerator.id,
            "no_driver",
            f"No kernel driver has taken the {accelerator.name}; it needs {names}.",
            DRIVER[accelerator.family],
        )


def _version(kernel: str) -> tuple[int, ...]:
    match = re.match(r"(\d+)\.(\d+)", kernel)
    return tuple(map(int, match.groups())) if match else (0, 0)


def _nodes(accelerator: Accelerator) -> Iterator[Obstacle]:
    closed = [node for node in accelerator.nodes if not node.openable]
    if closed:
        yield _no_permission(accelerator, closed[0])
    elif not accelerator.nodes:
        yield _no_node(accelerator)


def _no_node(accelerator: Accelerator) -> Obstacle:
    return Obstacle(
        accelerator.id,
        "no_node",
        f"There is no device node of the {accelerator.name} here: "
        "a container sees only the nodes that it is given.",
        f"docker run {CONTAINER[accelerator.family]}; outside of a container, sudo udevadm trigger",
    )


def _no_permission(accelerator: Accelerator, node: Node) -> Obstacle:
    return Obstacle(
        accelerator.id,
        "no_permission",
        f"This user may not open {node.path} of the {accelerator.name} "
        f"(mode {node.mode:o}, group {node.group}).",
        _permit(accelerator, node),
    )


def _permit(accelerator: Accelerator, node: Node) -> str:
    """Join the node's group where that opens it, else a rule that opens it to all."""
    if node.mode & 0o060 == 0o060 and node.gid != 0:
        return f"sudo usermod -aG {node.group} $USER, then log in again"
    if accelerator.address.startswith("usb"):
        return _rule(USB_MATCH[accelerator.family], accelerator.family)
    name = node.path.rpartition("/")[2]
    return _rule(f'KERNEL=="{name}"', name)


def _rule(match: str, name: str) -> str:
    return (
        f"""echo '{match}, MODE="0666"' | sudo tee /etc/udev/rules.d/99-edged-{name}.rules """
        "&& sudo udevadm control --reload && sudo udevadm trigger"
    )


def _library(accelerator: Accelerator, libraries: list[str]) -> Iterator[Obstacle]:
    name, remedy = LIBRARY.get(accelerator.family, (None, ""))
    if name and name not in libraries:
        yield Obstacle(
            accelerator.id,
            "library_missing",
            f"The system library {name}, which the {accelerator.name} needs, "
            "is in none of the usual folders.",
            remedy,
        )


def _package(
    accelerator: Accelerator, architecture: str, installed: Mapping[str, str]
) -> Iterator[Obstacle]:
    if accelerator.family == "movidius":
        if MYRIAD_WORKER not in installed:
            yield _myriad_x(accelerator, architecture)
        return
    packages = [PACKAGES[provider] for provider in accelerator.providers]
    if any(package in installed for package in packages):
        return
    package = packages[0]
    jetson = accelerator.family == "jetson-gpu"
    yield Obstacle(
        accelerator.id,
        "package_missing",
        f"The Python package {package}, which drives the {accelerator.name}, is not installed.",
        BUILD_FOR_JETSON if jetson else INSTALL[package],
    )


def _myriad_x(accelerator: Accelerator, architecture: str) -> Obstacle:
    source = (
        "git clone --branch 2021.4.2 --recursive https://github.com/openvinotoolkit/openvino "
        "and build it into a Python 3.9 that [workers.movidius] python names: its wheels are for "
        "x86-64"
    )
    return Obstacle(
        accelerator.id,
        "generation_ended",
        "OpenVINO dropped the Neural Compute Stick 2 (Myriad X) with 2023.0. The last package that "
        "drives it is openvino 2021.4.2, for Python 3.6 to 3.9: it needs a Python of its own.",
        "edged workers create movidius" if architecture == "x86_64" else source,
    )
