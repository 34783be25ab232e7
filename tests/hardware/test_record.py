from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from edged.hardware.machine import find
from edged.hardware.record import record
from edged.hardware.root import Root
from tests.conftest import ROOT


def write(folder: Path, path: str, text: str) -> None:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_text(text)


def test_this_machine_replays(tmp_path: Path) -> None:
    assert record(Root(), tmp_path) == find(Root(tmp_path))


def test_a_living_tree_replays_with_links_and_own_group(tmp_path: Path) -> None:
    living, target = tmp_path / "living", tmp_path / "record"
    device = "sys/devices/pci0000:00/0000:00:0b.0"
    for name, text in {"vendor": "0x8086", "device": "0x7d1d", "class": "0x120000"}.items():
        write(living, f"{device}/{name}", text)
    (living / "sys/bus/pci/devices").mkdir(parents=True)
    (living / "sys/bus/pci/devices/0000:00:0b.0").symlink_to(living / device)
    (living / device / "driver").symlink_to("../../../bus/pci/drivers/intel_vpu")
    write(living, f"{device}/accel/accel0/dev", "261:0")
    write(living, "dev/accel/accel0", "")
    (living / "dev/accel/accel0").chmod(0o600)
    write(living, "proc/meminfo", "MemTotal: 1000000 kB\nMemAvailable: 900000 kB\n")
    write(living, "proc/self/cgroup", "0::/lxc/kitchen/edged.service\n")
    write(living, "sys/fs/cgroup/lxc/kitchen/memory.max", "500000000\n")
    write(living, "sys/fs/cgroup/lxc/kitchen/edged.service/memory.max", "max\n")

    machine = record(Root(living), target)
    [npu] = machine.accelerators
    assert npu.driver == "intel_vpu"
    assert [node.mode for node in npu.nodes] == [0o600]
    assert npu.nodes[0].uid == os.geteuid()
    assert machine.memory.limit_bytes == 500_000_000
    assert machine == find(Root(target))
    assert "kitchen" not in everything(target)


def everything(folder: Path) -> str:
    """All names and texts in a folder."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return "\n".join(f"{path}\n{path.read_text('utf-8', 'replace')}" for path in files)


def test_a_record_gives_nobody_away(tmp_path: Path) -> None:
    living, target = tmp_path / "living", tmp_path / "record"
    write(living, "proc/cpuinfo", "processor : 0\n\nSerial\t\t: 10000000deadbeef\nModel : Pi\n")
    write(living, "proc/device-tree/serial-number", "10000000deadbeef")
    write(living, "sys/class/dmi/id/product_serial", "deadbeef")
    write(living, "sys/class/dmi/id/product_name", "Box")
    write(living, "proc/sys/kernel/hostname", "deadbeef")
    supply = "sys/class/power_supply/hid-de:ad:be:ef:00:01-battery"
    write(living, f"{supply}/scope", "Device")
    write(living, "sys/bus/usb/devices/1-1/idVendor", "046d")
    write(living, "sys/bus/usb/devices/1-1/idProduct", "c52b")
    write(living, "sys/bus/usb/devices/1-1/serial", "deadbeef")
    machine = record(Root(living), target)
    assert machine == find(Root(target))
    text = everything(target).lower()
    assert "box" in text
    assert "deadbeef" not in text
    assert "de:ad:be:ef" not in text


def test_looking_needs_nothing_but_the_standard_library_and_msgspec() -> None:
    code = (
        "import sys, edged.hardware.record, edged.hardware.explain;"
        "print(*{name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = set(done.stdout.split())
    assert {"edged", "msgspec"} <= loaded
    assert not loaded & {"numpy", "pydantic", "onnxruntime", "onnx", "fastapi", "typer", "rich"}
