"""Recorded machines: what is found on each, what is in the way, and the profile it gets."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from edged import profiles
from edged.hardware.accelerators import FAMILIES
from edged.hardware.explain import PACKAGES, Obstacle, explain
from edged.hardware.machine import find
from edged.hardware.record import record
from edged.hardware.root import RECORD, Root

MACHINES = Path(__file__).parent / "machines"
NAMES = sorted(path.parent.name for path in MACHINES.glob(f"*/{RECORD}"))
PLAIN = {"onnxruntime": "1.22.0"}
"""What an installation of edged brings"""


class Expected(NamedTuple):
    """What must be found on a machine."""

    profile: str
    accelerators: dict[str, str]
    """Hardware by id"""
    obstacles: list[tuple[str, str, str]]
    """Device, code and a part of the remedy, in order"""


EXPECTED = {
    "x86-64": Expected("generic-x86-64", {}, []),
    "x86-vnni-server": Expected("x86-vnni", {}, []),
    "intel-core-ultra": Expected(
        "intel-npu",
        {"intel-npu.0": "8086:7d1d", "intel-gpu.0": "8086:7d55"},
        [
            ("intel-npu.0", "no_permission", "sudo usermod -aG render $USER"),
            ("intel-npu.0", "library_missing", "intel/linux-npu-driver"),
            ("intel-npu.0", "package_missing", "pip install 'edged[openvino]'"),
            ("intel-gpu.0", "no_permission", "sudo usermod -aG render $USER"),
            ("intel-gpu.0", "package_missing", "pip install 'edged[openvino]'"),
        ],
    ),
    "intel-arc": Expected(
        "intel-gpu",
        {"intel-gpu.0": "8086:56a0"},
        [
            ("intel-gpu.0", "library_missing", "apt-get install intel-opencl-icd"),
            ("intel-gpu.0", "package_missing", "pip install 'edged[openvino]'"),
        ],
    ),
    "nvidia-desktop": Expected(
        "nvidia-gpu",
        {"nvidia-gpu.0": "10de:2684"},
        [("nvidia-gpu.0", "package_missing", "edged workers create onnxruntime-gpu")],
    ),
    "nvidia-nouveau": Expected(
        "nvidia-gpu",
        {"nvidia-gpu.0": "10de:1c03"},
        [
            ("nvidia-gpu.0", "wrong_driver", "sudo ubuntu-drivers install"),
            ("nvidia-gpu.0", "package_missing", "edged workers create onnxruntime-gpu"),
        ],
    ),
    "amd-xdna-laptop": Expected(
        "x86-vnni",
        {"amd-gpu.0": "1002:150e", "amd-npu.0": "1022:17f0"},
        [("amd-gpu.0", "no_provider", "plugin"), ("amd-npu.0", "no_provider", "plugin")],
    ),
    "neural-compute-stick-2": Expected(
        "movidius",
        {"intel-gpu.0": "8086:5a84", "movidius.0": "03e7:2485"},
        [
            ("intel-gpu.0", "package_missing", "pip install 'edged[openvino]'"),
            ("movidius.0", "no_permission", 'ATTRS{idVendor}=="03e7", MODE="0666"'),
            ("movidius.0", "library_missing", "apt-get install libusb-1.0-0"),
            ("movidius.0", "generation_ended", "edged workers create movidius"),
        ],
    ),
    "neural-compute-stick-1": Expected(
        "movidius",
        {"movidius.0": "03e7:2150"},
        [("movidius.0", "generation_ended", "Neural Compute Stick 2")],
    ),
    "raspberry-pi-4": Expected("raspberry-pi-4", {}, []),
    "raspberry-pi-5-hailo": Expected(
        "raspberry-pi-5", {"hailo.0": "1e60:2864"}, [("hailo.0", "no_provider", "plugin")]
    ),
    "jetson-orin-nano": Expected(
        "jetson-orin",
        {"jetson-gpu.0": "tegra234"},
        [("jetson-gpu.0", "package_missing", "--use_cuda")],
    ),
    "jetson-xavier-nx": Expected(
        "jetson-xavier",
        {"jetson-gpu.0": "tegra194"},
        [
            ("jetson-gpu.0", "no_permission", "sudo usermod -aG video $USER"),
            ("jetson-gpu.0", "package_missing", "--use_cuda"),
        ],
    ),
    "rock-5b": Expected(
        "rockchip-rk3588",
        {"mali.0": "mali-bifrost", "rockchip-npu.0": "rk3588"},
        [("mali.0", "no_provider", "plugin"), ("rockchip-npu.0", "no_provider", "plugin")],
    ),
    "qualcomm-rb3gen2": Expected(
        "qualcomm-hexagon",
        {"adreno.0": "adreno-635.0", "hexagon.0": "qcm6490"},
        [("adreno.0", "no_provider", "plugin"), ("hexagon.0", "no_provider", "plugin")],
    ),
    "coral-imx8": Expected(
        "coral",
        {"coral.0": "1a6e:089a"},
        [
            ("coral.0", "no_permission", 'ATTRS{idVendor}=="1a6e|18d1"'),
            ("coral.0", "library_missing", "libedgetpu1-std"),
            ("coral.0", "package_missing", "pip install 'edged[tflite]'"),
        ],
    ),
}


@pytest.fixture(autouse=True)
def shipped_profiles_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGED_CONFIG_DIR", str(tmp_path / "configuration"))


def test_every_machine_is_in_the_table() -> None:
    assert sorted(EXPECTED) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_accelerators_are_found(name: str) -> None:
    machine = find(Root(MACHINES / name))
    assert {a.id: a.hardware for a in machine.accelerators} == EXPECTED[name].accelerators


@pytest.mark.parametrize("name", NAMES)
def test_what_is_in_the_way_is_explained(name: str) -> None:
    found = explain(find(Root(MACHINES / name)), PLAIN)
    expected = EXPECTED[name].obstacles
    assert [(o.device, o.code) for o in found] == [(device, code) for device, code, _ in expected]
    for obstacle, (_, _, remedy) in zip(found, expected, strict=True):
        assert remedy in obstacle.remedy


@pytest.mark.parametrize("name", NAMES)
def test_the_profile_fits(name: str) -> None:
    [first, *others] = profiles.explain(find(Root(MACHINES / name)))
    assert first.name == EXPECTED[name].profile
    assert first.chosen
    assert not any(match.chosen for match in others)


@pytest.mark.parametrize("name", NAMES)
def test_a_record_of_a_record_is_the_same(name: str, tmp_path: Path) -> None:
    machine = record(Root(MACHINES / name), tmp_path)
    assert machine == find(Root(MACHINES / name))
    assert machine == find(Root(tmp_path))


@pytest.mark.parametrize("name", NAMES)
def test_rubbish_in_every_file_is_survived(name: str, tmp_path: Path) -> None:
    shutil.copytree(MACHINES / name, tmp_path / name)
    for number, path in enumerate(sorted((tmp_path / name).rglob("*"))):
        if path.is_file() and path.name != RECORD:
            path.write_bytes(
                (b"", b"\xff\xfe\0", b"-1", b"99999999999999999999", b":\n-\n\n")[number % 5]
            )
    machine = find(Root(tmp_path / name))
    explain(machine, PLAIN)
    profiles.explain(machine)
    (tmp_path / name / RECORD).write_text("{")
    find(Root(tmp_path / name))


# -- single machines ----------------------------------------------------------------------------


def changed(name: str, folder: Path, **changes: object) -> Root:
    """A copy of a machine with another record."""
    shutil.copytree(MACHINES / name, folder / name)
    path = folder / name / RECORD
    path.write_bytes(msgspec.json.encode(msgspec.json.decode(path.read_bytes()) | changes))
    return Root(folder / name)


def codes(root: Root, installed: dict[str, str]) -> list[tuple[str, str]]:
    return [(o.device, o.code) for o in explain(find(root), installed)]


def test_who_is_in_the_group_may_use_the_npu(tmp_path: Path) -> None:
    root = changed("intel-core-ultra", tmp_path, user={"uid": 1000, "groups": [1000, 992]})
    assert codes(root, {"openvino": "2025.3.0"}) == [("intel-npu.0", "library_missing")]


def test_a_whole_installation_has_no_obstacles() -> None:
    assert explain(find(Root(MACHINES / "nvidia-desktop")), {"onnxruntime-gpu": "1.22.0"}) == []


def test_an_old_kernel_has_no_npu_driver(tmp_path: Path) -> None:
    root = changed("intel-core-ultra", tmp_path, kernel="5.15.0-122-generic", links={})
    [npu, *_] = explain(find(root), {})
    assert (npu.device, npu.code) == ("intel-npu.0", "kernel_too_old")
    assert "6.3" in npu.sentence


def test_a_card_without_driver(tmp_path: Path) -> None:
    root = changed("nvidia-nouveau", tmp_path, links={})
    assert codes(root, {}) == [
        ("nvidia-gpu.0", "no_driver"),
        ("nvidia-gpu.0", "package_missing"),
    ]


def test_a_container_without_nodes_says_how_to_get_them(tmp_path: Path) -> None:
    root = changed("nvidia-desktop", tmp_path, nodes={}, names={})
    [obstacle] = explain(find(root), {"onnxruntime-gpu": "1.22.0"})
    assert obstacle.code == "no_node"
    assert "--gpus all" in obstacle.remedy


def test_an_access_list_opens_a_node(tmp_path: Path) -> None:
    node = {"mode": "664", "uid": 0, "gid": 0, "group": "root", "listed": True}
    root = changed("neural-compute-stick-2", tmp_path, nodes={"dev/bus/usb/001/007": node})
    assert ("movidius.0", "no_permission") not in codes(root, {})


def test_an_old_openvino_drives_the_second_stick(tmp_path: Path) -> None:
    node = {"mode": "666", "uid": 0, "gid": 0, "group": "root"}
    root = changed("neural-compute-stick-2", tmp_path, nodes={"dev/bus/usb/001/007": node})
    library = root.path / "usr/lib/x86_64-linux-gnu/libusb-1.0.so.0"
    library.parent.mkdir(parents=True)
    library.touch()
    created = {"worker movidius": "created"}
    assert [c for c in codes(root, created) if c[0] == "movidius.0"] == []
    newer = codes(root, {"openvino": "2021.4.2"})
    assert ("movidius.0", "generation_ended") in newer, "edged's own Python cannot have it"


def test_on_arm_there_is_no_wheel_for_the_second_stick(tmp_path: Path) -> None:
    root = changed("neural-compute-stick-2", tmp_path, machine="aarch64")
    last = explain(find(root), {})[-1]
    assert last.code == "generation_ended"
    assert "build it" in last.remedy


def test_the_laptop_runs_low() -> None:
    power = find(Root(MACHINES / "amd-xdna-laptop")).power
    assert (power.source, power.battery_percent, power.discharging) == ("battery", 12, True)


def test_a_limited_process_knows_its_memory() -> None:
    memory = find(Root(MACHINES / "x86-vnni-server")).memory
    assert memory.limit_bytes == 4 << 30
    assert memory.total_bytes > memory.limit_bytes


@pytest.mark.parametrize(
    ("name", "big"),
    [
        ("rock-5b", [4, 5, 6, 7]),
        ("qualcomm-rb3gen2", [4, 5, 6, 7]),
        ("intel-arc", list(range(12))),
        ("raspberry-pi-4", [0, 1, 2, 3]),
    ],
)
def test_the_big_cores(name: str, big: list[int]) -> None:
    assert find(Root(MACHINES / name)).cpu.big == big


def test_boards_cores_and_inputs_have_names() -> None:
    machine = find(Root(MACHINES / "raspberry-pi-4"))
    assert machine.board.model == "Raspberry Pi 4 Model B Rev 1.4"
    assert machine.cpu.name == "Cortex-A72"
    [microphone] = machine.audio_inputs
    assert microphone.identity == "alsa:ArrayUAC10,0"
    assert microphone.label == "ReSpeaker 4 Mic Array (UAC1.0): USB Audio"


def test_the_tables_agree() -> None:
    for family in FAMILIES.values():
        assert set(family.providers) <= PACKAGES.keys() | {"movidius myriad", "movidius mixed"}


def test_obstacles_are_json() -> None:
    [obstacle] = explain(find(Root(MACHINES / "neural-compute-stick-1")), PLAIN)
    assert msgspec.json.decode(msgspec.json.encode(obstacle), type=Obstacle) == obstacle
