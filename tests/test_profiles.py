from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import pytest
import tomli_w

from edged import profiles
from edged.errors import ConfigurationError
from edged.hardware.accelerators import FAMILIES
from edged.hardware.board import Board
from edged.hardware.cpu import ARM_FEATURES, X86_FEATURES, Cpu
from edged.hardware.machine import Machine
from edged.hardware.memory import Memory
from edged.hardware.power import Power
from edged.profiles import Profile, explain, load, matching
from tests.conftest import ROOT

FILES = sorted((ROOT / "hw_profiles").glob("*.toml"))


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the user's own profiles."""
    monkeypatch.setenv("EDGED_CONFIG_DIR", str(tmp_path))
    folder = tmp_path / "hw_profiles"
    folder.mkdir()
    return folder


def machine(architecture: str, features: list[str] | None = None, board: str = "") -> Machine:
    return Machine(
        architecture=architecture,
        kernel="6.12",
        board=Board(None, [board] if board else []),
        cpu=Cpu(name="", features=features or [], threads=4, cores=4, clusters=[]),
        memory=Memory(total_bytes=4 << 30, available_bytes=3 << 30),
        power=Power(source="unknown"),
    )


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_shipped_profiles_are_valid(path: Path) -> None:
    profile = load(path)
    wanted = profile.machine
    assert wanted.architectures or wanted.accelerators or wanted.boards
    assert profile.engine.encoder_threads >= profile.engine.decoder_threads >= 1
    assert set(wanted.features) <= {*X86_FEATURES, *ARM_FEATURES}
    assert set(wanted.accelerators) <= FAMILIES.keys()
    provided = {device for family in FAMILIES.values() for device in family.providers}
    wishes = {wish.rpartition(" ")[0] for wish in profile.engine.order}
    # A wish may name the worker whose Python runs the provider.
    wishes = {re.sub(r"@\S+", "", wish) for wish in wishes}
    assert wishes <= provided | {"onnxruntime cpu", "tflite cpu"}
    assert profile.engine.order[-1].startswith("onnxruntime cpu")


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_what_was_not_measured_says_so(path: Path) -> None:
    measured = path.stem in ("generic-x86-64", "x86-vnni")
    assert ("not yet measured" in path.read_text()) is not measured


def test_the_architecture_decides() -> None:
    assert "aarch64" in matching(machine("aarch64")).machine.architectures
    assert "x86_64" in matching(machine("x86_64")).machine.architectures
    assert "x86_64" in matching(machine("riscv64")).machine.architectures


def test_this_machine_has_a_profile() -> None:
    assert explain()[0].profile == matching()


def test_features_come_before_architecture_and_boards_before_features(own: Path) -> None:
    [best, second, *_] = explain(machine("x86_64", ["avx512_vnni"]))
    assert (best.name, second.name) == ("x86-vnni", "generic-x86-64")
    write(own / "bench.toml", boards=["acme,"])
    assert explain(machine("x86_64", ["avx512_vnni"], "acme,robot"))[0].name == "bench"


def test_each_profile_says_why_it_does_not_match() -> None:
    found = {match.name: match for match in explain(machine("aarch64"))}
    assert found["generic-arm64"].chosen
    assert found["generic-arm64"].obstacles == []
    assert found["x86-vnni"].obstacles == [
        "the architecture is aarch64",
        "the processor has no avx512_vnni",
    ]
    assert found["nvidia-gpu"].obstacles == ["there is no nvidia-gpu"]
    assert "raspberrypi,5-" in found["raspberry-pi-5"].obstacles[0]


def write(path: Path, **conditions: object) -> None:
    shipped = tomllib.loads((ROOT / "hw_profiles" / "generic-x86-64.toml").read_text())
    shipped["machine"] = conditions
    shipped["engine"]["encoder_threads"] = 7
    path.write_text(tomli_w.dumps(shipped))


def test_a_user_s_file_takes_the_place_of_a_shipped_one(own: Path) -> None:
    write(own / "generic-x86-64.toml", architectures=["x86_64"])
    assert matching(machine("x86_64")).engine.encoder_threads == 7
    assert list(profiles.all()).count("generic-x86-64") == 1


def test_a_user_s_file_is_added_and_wins_between_equals(own: Path) -> None:
    write(own / "a-robot.toml", architectures=["x86_64"])
    assert "a-robot" in profiles.all()
    assert explain(machine("x86_64"))[0].name == "a-robot"


def test_priority_decides_between_equals(own: Path) -> None:
    write(own / "a.toml", architectures=["x86_64"], priority=1)
    write(own / "b.toml", architectures=["x86_64"])
    assert explain(machine("x86_64"))[0].name == "a"


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("engine", "order", ["gpu please"]),
        ("engine", "order", []),
        ("engine", "encoder_threads", 0),
        ("engine", "cores", "small"),
        ("engine", "speed", 11),
        ("machine", "architecture", "x86_64"),
        ("governor", "battery_percent", 101),
    ],
)
def test_a_mistake_names_its_file(section: str, key: str, value: object, own: Path) -> None:
    data = msgspec.to_builtins(load(ROOT / "hw_profiles" / "generic-x86-64.toml"))
    data[section][key] = value
    path = own / "mine.toml"
    path.write_text(tomli_w.dumps(data))
    with pytest.raises(ConfigurationError, match=rf"mine\.toml.*{section}|mine\.toml.*{key}"):
        matching(machine("x86_64"))


def test_what_is_left_out_has_a_default() -> None:
    engine = {"encoder_threads": 1, "decoder_threads": 1, "room_to_spare": 0.05}
    text = {"machine": {}, "engine": {**engine, "order": ["onnxruntime cpu int8"]}}
    profile = msgspec.convert(text, Profile)
    assert profile.engine.cores == "any"
    assert profile.governor.battery_percent == 20
