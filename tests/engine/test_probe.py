"""The whole report: hardware, providers, proven rungs, and what it comes to."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edged import config
from edged.engine import probe, verdicts
from edged.engine.peaks import Peaks, theoretical_gigaflops
from edged.engine.probe import ProbeReport, ProviderReport, last_report, probe_machine
from edged.engine.prove import Verdict
from edged.hardware.cpu import Cluster, Cpu
from edged.hardware.explain import Obstacle
from edged.messages import Rung
from edged.models.check import GATE_RATE
from tests import stranger
from tests.conftest import MACHINES, ROOT, TINY, link_tiny


def looked(*models: str, **how: bool) -> ProbeReport:
    configuration = config.load(None, {"engine": {"model": TINY}})
    return asyncio.run(probe_machine(configuration, models, **{"build": False, **how}))


def of_provider(report: ProbeReport, provider: str) -> list[Verdict]:
    """Its verdicts: what else is installed here has its own."""
    return [verdict for verdict in report.verdicts if verdict.rung.provider == provider]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of what a probe of tiny-en in int8 found."""
    cache = link_tiny(tmp_path_factory.mktemp("found"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGED_CACHE_DIR", str(cache))
        looked(TINY)
    return cache / verdicts.FILE


@pytest.fixture
def probed_cache(tiny_cache: Path, found: Path) -> Path:
    shutil.copyfile(found, tiny_cache / verdicts.FILE)
    return tiny_cache


@pytest.fixture
def report(probed_cache: Path) -> ProbeReport:
    return looked(TINY)


def test_every_built_rung_is_proven(report: ProbeReport) -> None:
    [verdict] = of_provider(report, "onnxruntime")
    assert verdict.rung == report.effective == Rung(TINY, "onnxruntime", "cpu", "int8")
    assert verdict.ok
    assert "times faster than real time" in report.sentence
    assert report.peaks is not None
    assert report.peaks.measured_gigaflops > 1
    assert report.peaks.measured_gigabytes_per_second > 0.1
    if verdict.gigaflops:
        assert verdict.gigaflops_share == verdict.gigaflops / report.peaks.measured_gigaflops
    note = report.notes[0]
    assert "for onnx in fp32, fp16, int4" in note
    assert f"edged models build {TINY}" in note


def test_it_is_remembered_until_it_is_asked_for_anew(report: ProbeReport) -> None:
    again = looked(TINY)
    assert (again.verdicts, again.peaks) == (report.verdicts, report.peaks)
    assert again.time > report.time
    fresh = looked(TINY, fresh=True)
    assert fresh.verdicts[0].time > report.verdicts[0].time


def test_it_is_kept_for_the_daemon(report: ProbeReport) -> None:
    assert last_report() == report
    assert verdicts.remembered()[0].rung == report.verdicts[0].rung
    probe.report_file().write_text("{")
    assert last_report() is None


def test_it_is_as_its_schema_says(report: ProbeReport) -> None:
    document = msgspec.to_builtins(report)
    assert msgspec.convert(document, ProbeReport) == report
    schema = json.loads((ROOT / "docs" / "probe.schema.json").read_text())
    try:
        jsonschema = importlib.import_module("jsonschema")
    except ImportError:
        return  # msgspec has checked the same types
    jsonschema.validate(document, schema)


def test_a_cache_that_cannot_be_written_is_told_and_harms_nothing(tiny_cache: Path) -> None:
    (tiny_cache / verdicts.FILE).mkdir()
    (tiny_cache / probe.FILE).mkdir()
    report = looked(TINY)
    assert report.verdicts[0].ok
    assert len([note for note in report.notes if "EDGED_CACHE_DIR" in note]) == 2


@pytest.mark.long  # every rung of every provider
@pytest.mark.timeout(400)
def test_a_model_that_is_missing_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGED_CACHE_DIR", str(tmp_path))
    report = looked(TINY, build=True)
    proven = of_provider(report, "onnxruntime")
    assert [v.rung.precision for v in proven] == ["fp32", "fp16", "int8", "int4"]
    *good, rough = proven
    if importlib.util.find_spec("ai_edge_litert"):
        static = of_provider(report, "tflite")
        assert [v.rung.precision for v in static] == ["fp32", "fp16", "int8"]
        good += static
    assert all(verdict.ok and verdict.gigaflops for verdict in good)
    # tiny-en has hardly enough for 4 bits: whether it passes is a matter of roundings.
    assert rough.ok == ((rough.gate_error_rate or 0) <= GATE_RATE)
    assert report.status == ("works" if rough.ok else "degraded")  # it was asked for by name
    assert not report.notes
    [openvino] = [p for p in report.providers if p.name == "openvino"] or [None]
    if openvino is not None:
        verdicts = {v.rung.precision: v for v in of_provider(report, "openvino")}
        also = openvino.computes.get("cpu", [])
        assert verdicts.keys() == {"fp32", *also, "fp16", "int8", "int4"}
        assert {"fp32", "int8", *also} <= {word for word, v in verdicts.items() if v.ok}
        assert all("ever tried" in (v.text or "").lower() for v in verdicts.values())
        assert {tuple(v.placement) for v in verdicts.values()} == {("cpu",)}


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("segfault asked", "SIGSEGV: the driver said this last"),
        ("leave asked", "without an answer"),
        ("raise asked", "ZeroDivisionError"),
    ],
)
def test_a_provider_that_fails_when_asked_takes_no_other_along(
    probed_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, words: str
) -> None:
    stranger.install(tmp_path, monkeypatch, fault)
    monkeypatch.syspath_prepend(tmp_path)
    report = looked(TINY)
    providers = {provider.name: provider for provider in report.providers}
    assert providers["onnxruntime"].devices == ["cpu"]
    assert not providers["stranger"].devices
    assert words in (providers["stranger"].error or "")
    assert report.status == "degraded"
    assert report.verdicts[0].ok


def test_every_device_of_every_provider_is_tried(
    probed_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger.install(tmp_path, monkeypatch, "segfault loaded")
    monkeypatch.syspath_prepend(tmp_path)
    report = looked(TINY)
    proven = [*of_provider(report, "onnxruntime"), *of_provider(report, "stranger")]
    codes = {(v.rung.provider, v.rung.device): v.code for v in proven}
    assert codes == {
        ("onnxruntime", "cpu"): None,
        ("stranger", "cpu"): "crashed",
        ("stranger", "npu"): "crashed",
        ("stranger", "fake"): "crashed",
    }
    assert report.status == "degraded"
    assert report.effective == Rung(TINY, "onnxruntime", "cpu", "int8")


def test_a_recorded_machine_is_explained() -> None:
    report = probe.probe_recorded(MACHINES / "raspberry-pi-5-hailo")
    assert report.recorded
    assert report.profile.name == "raspberry-pi-5"
    assert report.profile.reason.startswith("raspberrypi,5-")
    assert "Raspberry Pi 5" in (report.machine.board.model or "")


# -- what it comes to -----------------------------------------------------------------------------


def verdict(code: str | None = None, precision: str = "int8", ok: bool | None = None) -> Verdict:
    rung = Rung(TINY, "onnxruntime", "cpu", precision)
    return Verdict(rung=rung, ok=code is None if ok is None else ok, code=code, time=0.0)


GOOD = verdict()
ACCELERATOR: list[Any] = [Obstacle("intel-npu.0", "no_driver", "", "")]
LEFT_ALONE: list[Any] = [Obstacle("amd-gpu.0", "no_provider", "", "")]
FAILED = [ProviderReport("stranger", None, [], "died")]


@pytest.mark.parametrize(
    ("verdicts", "obstacles", "providers", "named", "status"),
    [
        ([GOOD], [], [], [], "works"),
        ([], [], [], [], "nothing"),
        ([verdict("crashed")], [], [], [], "nothing"),
        ([GOOD, verdict("crashed")], [], [], [], "degraded"),
        ([GOOD, verdict("partly_on_cpu", ok=True)], [], [], [], "degraded"),
        ([GOOD, verdict("wrong_text", "int4")], [], [], [], "works"),
        ([GOOD, verdict("wrong_text", "int4")], [], [], [TINY], "degraded"),
        ([GOOD, verdict("wrong_text", "fp16")], [], [], [], "degraded"),
        ([GOOD, verdict("wrong_numbers", "int4")], [], [], [], "degraded"),
        ([GOOD], ACCELERATOR, [], [], "degraded"),
        ([GOOD], LEFT_ALONE, [], [], "works"),
        ([GOOD], [], FAILED, [], "degraded"),
    ],
)
def test_what_it_comes_to(
    verdicts: Sequence[Verdict],
    obstacles: Sequence[Obstacle],
    providers: Sequence[ProviderReport],
    named: Sequence[str],
    status: str,
) -> None:
    assert probe._status(verdicts, obstacles, providers, named) == status


def test_shares_are_of_the_processors_peaks_and_of_no_other_device() -> None:
    peaks = Peaks(measured_gigaflops=100.0, measured_gigabytes_per_second=10.0)
    here = msgspec.structs.replace(GOOD, gigaflops=25.0, gigabytes_per_second=5.0)
    shared = probe.with_shares(here, peaks)
    assert (shared.gigaflops_share, shared.gigabytes_share) == (0.25, 0.5)
    elsewhere = msgspec.structs.replace(here, rung=Rung(TINY, "openvino", "npu", "int8"))
    assert probe.with_shares(elsewhere, peaks) == elsewhere


@pytest.mark.parametrize(
    ("features", "megahertz", "expected"),
    [
        (["avx2"], 3000, 4 * 3.0 * 32),
        (["avx2", "avx512f"], 3000, 4 * 3.0 * 64),
        (["avx2"], None, None),
        (["asimd"], 2400, None),
    ],
)
def test_the_theoretical_peak_is_given_where_it_is_certain(
    features: list[str], megahertz: int | None, expected: float | None
) -> None:
    clusters = [Cluster([0, 1, 2, 3, 4, 5, 6, 7], True, megahertz)]
    cpu = Cpu(name="any", features=features, threads=8, cores=4, clusters=clusters)
    assert theoretical_gigaflops(cpu) == expected
