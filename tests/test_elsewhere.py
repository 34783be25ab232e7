"""Providers in another Python: the same edged, with that Python's packages and no others."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edged import elsewhere, profiles, workers
from edged.config import EngineSection
from edged.engine.ask import ask_all
from edged.engine.choose import ladder_here
from edged.engine.prove import Verdict, prove_apart
from edged.engine.verdicts import Verdicts, runtimes
from edged.engine.wheels import conflict
from edged.errors import EdgedError
from edged.messages import Rung, WorkerOptions
from edged.models.inventory import store
from edged.plugins import Plugins
from edged.recognizer import SAMPLE_RATE
from edged.testing.apart import run
from edged.testing.plan import Wish
from tests.client import recognize
from tests.conftest import ROOT, TINY, create_workers
from tests.daemon import DaemonProcess

OTHER = "onnxruntime@other"
RUNG = Rung(TINY, OTHER, "cpu", "int8")
OPENVINO = "onnxruntime@onnxruntime-openvino"


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGED_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("EDGED_STATE_DIR", str(tmp_path / "state"))


def environment(folder: Path, *distributions: str) -> Path:
    """A Python with nothing but these, which are those of this environment."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    site = next(folder.glob("lib/python3*/site-packages"))
    for name in distributions:
        distribution = importlib.metadata.distribution(name)
        tops = {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}
        for top in tops:
            (site / top).symlink_to(str(distribution.locate_file(top)))
    return folder / "bin" / "python"


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("other")
    return environment(folder, "onnxruntime", "numpy", "msgspec")


def named(python: Path | str) -> dict[str, dict[str, str]]:
    """The options of a configuration that names a Python for the worker `other`."""
    return {"other": {"python": str(python)}}


def proven(rung: Rung, python: Path | str) -> Verdict:
    folder = store().folder / rung.model
    return asyncio.run(prove_apart(rung, folder, WorkerOptions(extra=named(python))))


# -- what runs there ------------------------------------------------------------------------------


def test_a_provider_is_proven_in_another_python(python: Path) -> None:
    verdict = proven(RUNG, python)
    assert verdict.ok, verdict.reason
    assert verdict.text == store().get(TINY).check_text
    assert verdict.runtime == f"{OTHER} {importlib.metadata.version('onnxruntime')}"


def test_it_is_asked_there_and_told_apart(python: Path) -> None:
    reports = {report.name: report for report in asyncio.run(ask_all(named(python)))}
    assert reports[OTHER].devices == ["cpu"]
    assert reports["onnxruntime"].devices == ["cpu"]
    assert "openvino@other" not in reports, "its package is not there"


SEEN = """
import importlib.util, json, sys, edged, edged.plugins as plugins
found = plugins.Plugins.discover()
print(json.dumps({
    "python": sys.prefix,
    "edged": edged.__file__,
    "plugins": sorted(p.name for p in found.all),
    "unusable": [p.name for p in found.all if p.error],
    "others": [n for n in ("fastapi", "openvino", "typer") if importlib.util.find_spec(n)],
}))
"""


def seen(provider: str, python: Path) -> dict[str, Any]:
    """What a process of the provider finds."""
    there = elsewhere.interpreter(provider, named(python))
    command = [there.python, "-c", SEEN]
    done = subprocess.run(command, env=there.environment, capture_output=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_there_are_edged_and_its_plugins_and_nothing_else_of_ours(python: Path) -> None:
    found = seen(OTHER, python)
    assert found["python"] == str(python.parent.parent)
    assert Path(found["edged"]).resolve() == ROOT / "edged" / "__init__.py"
    assert found["plugins"] == sorted(plugin.name for plugin in Plugins.discover().all)
    assert set(found["unusable"]) <= {"mqtt", "openvino", "tflite"}, "whose packages are not there"
    assert found["others"] == []


def test_an_installed_wheel_is_lent_too(
    python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a folder of packages nothing but edged and its plugins is seen there."""
    pytest.importorskip("hatchling")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    [wheel] = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    shutil.unpack_archive(wheel, site, "zip")
    (site / "fastapi").mkdir()
    (site / "fastapi" / "__init__.py").write_text("")
    program = (
        "import json, sys; from pathlib import Path; from edged import elsewhere;"
        "there = elsewhere.interpreter('onnxruntime@other', json.loads(sys.argv[1]));"
        "print(json.dumps([there.python, dict(there.environment)]))"
    )
    monkeypatch.setenv("PYTHONPATH", str(site))
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(named(python))],
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    interpreter, variables = json.loads(done.stdout)
    done = subprocess.run([interpreter, "-c", SEEN], env=variables, capture_output=True, check=True)
    found = json.loads(done.stdout)
    assert Path(found["edged"]).resolve() == site / "edged" / "__init__.py"
    assert {"onnxruntime", "moonshine", "silero"} <= set(found["plugins"])
    assert found["others"] == []


def test_the_daemon_serves_on_it(
    start_daemon: Callable[..., DaemonProcess],
    python: Path,
    speech: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EDGED_WORKERS", json.dumps(named(python)))
    daemon = start_daemon("--no-microphone", "--model", TINY, engine_provider=OTHER)
    assert engine(daemon)["provider"] == OTHER
    program = Path(f"/proc/{daemon.worker().pid}/cmdline").read_bytes().split(b"\0")[0]
    assert program.decode() == str(python)
    assert said(daemon, speech) != ""


def engine(daemon: DaemonProcess) -> dict[str, str]:
    """The rung that serves."""
    found: dict[str, str] = daemon.get("/v1/engine")[1]["engine"]["effective"]
    return found


def said(daemon: DaemonProcess, speech: np.ndarray) -> str:
    events = recognize(daemon.url, speech[: 8 * SAMPLE_RATE])
    return " ".join(event["text"] for event in events if event["type"] == "final")


def test_it_keeps_the_contract_there(
    python: Path, tiny_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGED_CONFIG_DIR", str(tmp_path))
    (tmp_path / "edged.toml").write_text(f'[workers.other]\npython = "{python}"\n')
    results = list(run(Wish(OTHER, TINY, "cpu")))
    assert len(results) > 10
    assert {result.reason for result in results} == {None}
    assert results[-1].subject == f"provider {OTHER} on cpu"


# -- what is in the way ---------------------------------------------------------------------------


def test_a_python_that_is_gone_is_one_line(tmp_path: Path) -> None:
    gone = tmp_path / "gone" / "bin" / "python"
    verdict = proven(RUNG, gone)
    assert (verdict.ok, verdict.code) == (False, "no_worker")
    assert verdict.reason == (
        f"Worker other cannot be used. {gone} is no program that may be run. "
        "Run: edged workers create other --package PACKAGE"
    )
    [report] = [r for r in asyncio.run(ask_all(named(gone))) if "other" in r.name]
    assert (report.name, report.devices) == ("@other", [])
    assert "is no program that may be run" in str(report.error)


def test_one_that_was_never_made_says_how_to_make_it() -> None:
    with pytest.raises(EdgedError, match=r"Run: edged workers create onnxruntime-gpu$"):
        elsewhere.require("onnxruntime@onnxruntime-gpu", {})
    elsewhere.require("onnxruntime", {})


def test_one_that_lacks_a_package_names_it(tmp_path: Path) -> None:
    bare = environment(tmp_path / "bare", "onnxruntime")
    verdict = proven(RUNG, bare)
    assert verdict.code == "no_worker"
    assert f"lacks numpy and msgspec. Run: {bare} -m pip install numpy msgspec" in str(
        verdict.reason
    )


def test_one_of_an_older_python_says_so(tmp_path: Path) -> None:
    old = environment(tmp_path / "old")
    settings = tmp_path / "old" / "pyvenv.cfg"
    settings.write_text(settings.read_text().replace("version = 3.1", "version = 3.9.1"))
    assert workers.version_of(old) == "3.9"
    assert "is Python 3.9; plugins run on 3.11 to 3.13" in str(workers.fault("other", old))


def test_one_without_a_runtime_is_told(tmp_path: Path) -> None:
    empty = environment(tmp_path / "empty", "numpy", "msgspec")
    plugins = Plugins.discover()
    assert elsewhere.providers(plugins, named(empty)) == {}
    assert elsewhere.useless(plugins, named(empty)) == {
        "other": f"{empty} has no provider's runtime"
    }


def test_what_cannot_be_linked_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").write_text("no folder")
    with pytest.raises(EdgedError, match=r"cannot be written .* EDGED_RUNTIME_DIR"):
        elsewhere.links()


@pytest.mark.long
def test_the_daemon_goes_on_without_it(
    start_daemon: Callable[..., DaemonProcess],
    python: Path,
    tmp_path: Path,
    speech: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its Python vanishes under the daemon: the next worker is another rung's."""
    lost = environment(tmp_path / "lost", "onnxruntime", "numpy", "msgspec")
    monkeypatch.setenv("EDGED_WORKERS", json.dumps(named(lost)))
    daemon = start_daemon("--no-microphone", "--model", TINY, engine_provider=OTHER)
    shutil.rmtree(tmp_path / "lost")
    daemon.worker().kill()
    assert said(daemon, speech) != ""
    assert engine(daemon)["provider"] == "onnxruntime"
    assert "no program that may be run" in (daemon.folder / "log").read_text()


# -- what is known of it --------------------------------------------------------------------------


def test_a_verdict_holds_for_the_packages_of_that_python(tmp_path: Path, tiny_cache: Path) -> None:
    own = environment(tmp_path / "own", "onnxruntime", "numpy", "msgspec")
    verdict = Verdict(rung=RUNG, ok=True, time=1.0)
    Verdicts(options=named(own)).put(verdict)
    assert Verdicts(options=named(own)).get(RUNG) == verdict
    assert Verdicts().get(RUNG) is None, "of a worker that is not there nothing holds"
    known = runtimes(Plugins.discover(), named(own))[OTHER]
    assert f"numpy {np.__version__}" in known
    site = next((tmp_path / "own").glob("lib/python3*/site-packages"))
    metadata = site / "nvidia_cudnn-9.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: nvidia-cudnn\nVersion: 9.0\n")
    assert Verdicts(options=named(own)).get(RUNG) is None


def test_a_profile_may_wish_for_it(
    python: Path, tiny_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wished, usual = Rung(TINY, OTHER, "cuda", "int8"), Rung(TINY, "onnxruntime", "cpu", "int8")
    profile = profiles.matching()
    order = [f"{OTHER} cuda int8", "onnxruntime cpu int8"]
    engine = msgspec.structs.replace(profile.engine, order=order)
    changed = msgspec.structs.replace(profile, engine=engine)
    monkeypatch.setattr(profiles, "matching", lambda: changed)
    here = Verdicts(options=named(python))
    assert ladder_here(EngineSection(model=TINY), here) == [usual], "nothing is proven yet"
    here.put(Verdict(rung=wished, ok=True, time=1.0, kind="gpu", real_time_factor=0.01))
    assert ladder_here(EngineSection(model=TINY), here) == [wished, usual]
    assert ladder_here(EngineSection(model=TINY), Verdicts()) == [usual], "its Python is gone"


def test_the_hardware_is_that_of_its_provider() -> None:
    assert msgspec.structs.replace(RUNG, device="cuda").accelerator == "onnxruntime cuda"


# -- wheels that lie over each other --------------------------------------------------------------


def wheel(site: Path, name: str, version: str, *files: str) -> None:
    """Metadata as pip leaves it."""
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (folder / "RECORD").write_text("".join(f"{file},,\n" for file in files))


PACKAGES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-qnn")


def test_wheels_that_lie_over_each_other_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert conflict(PACKAGES) is None
    wheel(tmp_path, "onnxruntime", "1.27.0", "onnxruntime/__init__.py")
    wheel(tmp_path, "onnxruntime-qnn", "2.7.0", "onnxruntime_qnn/__init__.py")
    assert conflict(PACKAGES) is None, "it lies beside it"
    wheel(tmp_path, "onnxruntime-gpu", "1.31.0", "onnxruntime/__init__.py")
    said = str(conflict(PACKAGES))
    assert said.startswith("onnxruntime 1.27.0 and onnxruntime-gpu 1.31.0 lie over each other")
    assert f"{sys.executable} -m pip uninstall --yes onnxruntime onnxruntime-gpu" in said
    assert said.endswith("edged workers create onnxruntime-gpu")


# -- other runtimes, from the network -------------------------------------------------------------


@pytest.fixture(scope="session")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory with workers as `edged workers create` makes them."""
    wanted = {
        "onnxruntime-openvino": (),
        "both": ("onnxruntime", "onnxruntime-openvino"),
        "qnn": ("onnxruntime", "onnxruntime-qnn"),
    }
    return create_workers(tmp_path_factory.mktemp("state"), wanted)


@pytest.mark.long
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_another_execution_provider_is_proven_with_real_speech(
    state: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    monkeypatch.setenv("EDGED_STATE_DIR", str(state))
    rung = Rung(TINY, OPENVINO, "openvino-cpu", precision)
    verdict = asyncio.run(prove_apart(rung, store().folder / TINY, WorkerOptions()))
    assert (verdict.ok, verdict.code) == (True, None), verdict.reason
    assert verdict.text == store().get(TINY).check_text
    assert set(verdict.placement) == {"openvino-cpu"}
    assert verdict.placement["openvino-cpu"] > 500


@pytest.mark.long
def test_it_keeps_the_contract(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGED_STATE_DIR", str(state))
    results = list(run(Wish(OPENVINO, TINY, "openvino-cpu")))
    assert len(results) > 10
    assert {result.reason for result in results} == {None}


@pytest.mark.long
def test_the_daemon_hears_speech_through_it(
    start_daemon: Callable[..., DaemonProcess],
    state: Path,
    speech: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    python = state / "workers" / "onnxruntime-openvino" / "bin" / "python"
    own = {"onnxruntime-openvino": {"python": str(python)}}
    monkeypatch.setenv("EDGED_WORKERS", json.dumps(own))
    flags = ("--no-microphone", "--model", TINY)
    wanted = {"engine_provider": OPENVINO, "engine_device": "openvino-cpu"}
    daemon = start_daemon(*flags, **wanted, engine_precision="fp32")
    assert engine(daemon)["device"] == "openvino-cpu"
    usual = start_daemon(*flags, engine_precision="fp32")
    assert said(daemon, speech) == said(usual, speech) != ""


@pytest.mark.long
def test_both_wheels_in_one_python_are_named(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGED_STATE_DIR", str(state))
    reports = {report.name: report for report in asyncio.run(ask_all({}))}
    assert "lie over each other" in str(reports["onnxruntime@both"].conflict)
    assert reports[OPENVINO].conflict is None


@pytest.mark.long
def test_what_a_device_leaves_to_the_processor_is_told(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Qualcomm's library computes here in its simulation, and takes little of graphs whose shapes
    are open."""
    monkeypatch.setenv("EDGED_STATE_DIR", str(state))
    rung = Rung(TINY, "onnxruntime@qnn", "qnn", "fp32")
    verdict = asyncio.run(prove_apart(rung, store().folder / TINY, WorkerOptions()))
    assert (verdict.ok, verdict.code) == (True, "partly_on_cpu"), verdict.reason
    assert verdict.placement["cpu"] > verdict.placement["qnn"] > 0
