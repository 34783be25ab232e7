"""From rung to rung while somebody speaks: one final each, as one of the two rungs writes it."""

from __future__ import annotations

import asyncio
import itertools
import random
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edged.config import load
from edged.engine import governor, ladder
from edged.engine.assembly import make_supervisor
from edged.engine.patrol import Patrol
from edged.engine.supervisor import SAME_TEXTS, Supervisor
from edged.hardware.root import Root
from edged.messages import EngineState, Event, Final, Gap, Rung, SpeechStarted
from edged.models.inventory import store
from edged.paths import cache_directory
from edged.profiles import GovernorProfile
from tests import chaos
from tests.client import silence
from tests.conftest import BASE, ROOT, TINY
from tests.engine.test_supervisor import RATE, engine, finals, hear

HOT_MACHINE = ROOT / "tests" / "hardware" / "machines" / "raspberry-pi-5-hailo"


def two_rungs(on_change: Callable[[EngineState], None] = lambda _state: None) -> Supervisor:
    return make_supervisor(load(None, {"engine": {"model": BASE}}), on_change)


def speech_events(supervisor: Supervisor, samples: np.ndarray, **how: object) -> list[Event]:
    return asyncio.run(hear(supervisor, samples, **how))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def twenty(speech: np.ndarray) -> np.ndarray:
    return np.concatenate([speech[: 20 * RATE], silence(1)])


def test_moves_down_and_up_in_the_middle_of_speech_lose_nothing(twenty: np.ndarray) -> None:
    states: list[EngineState] = []
    supervisor = two_rungs(states.append)

    async def harm(supervisor: Supervisor) -> None:
        await asyncio.sleep(2.5)
        assert supervisor.step_down("a test")
        await _serves(supervisor, TINY)
        await asyncio.sleep(2)
        assert supervisor.climb(patient=False)
        await _serves(supervisor, BASE)

    events = speech_events(supervisor, twenty, harm=harm, pace=2.0)
    served = [state.effective.model for state in states if state.effective]
    assert served == [BASE, TINY, BASE]
    # The old worker ended only when the new one was ready.
    assert all(state.effective for state in states)
    _check_nothing_lost(events)
    alone = [finals(speech_events(engine(model), twenty, pace=20.0)) for model in _only(BASE, TINY)]
    texts = {text for rung in alone for _, text, *_ in rung}
    assert {text for _, text, *_ in finals(events)} <= texts


async def _serves(supervisor: Supervisor, model: str) -> None:
    """Wait until it does, however long a busy machine takes to load it."""
    async with asyncio.timeout(60):
        while supervisor.state.effective is None or supervisor.state.effective.model != model:
            await asyncio.sleep(0.05)


def _only(*models: str) -> list[dict[str, dict[str, str]]]:
    return [{"engine": {"model": model, "fallback": "fail"}} for model in models]


def _check_nothing_lost(events: list[Event]) -> None:
    started = [event.utterance for event in events if isinstance(event, SpeechStarted)]
    assert started == [number for number, *_ in finals(events)]
    assert not [event for event in events if isinstance(event, Gap)]


def test_fewer_partials_are_a_step_without_a_new_worker(twenty: np.ndarray) -> None:
    supervisor = engine()

    async def harm(supervisor: Supervisor) -> None:
        supervisor.step_down("a test")
        await asyncio.sleep(0.5)
        assert supervisor.state.pace == ladder.SLOW_PACE

    _check_nothing_lost(speech_events(supervisor, twenty, harm=harm, pace=4.0))
    assert supervisor.starts == 1


def test_what_is_not_a_number_is_the_rung_s_fault_and_loses_nothing(
    twenty: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states, events, _, taken = _with_faults(["nan"], twenty, tmp_path, monkeypatch)
    providers = [state.effective.provider for state in states if state.effective]
    assert providers == ["chaos", "onnxruntime"]
    assert "numbers" in (states[-1].reason or "")
    assert taken == 1
    _check_nothing_lost(events)


@pytest.mark.long
def test_one_output_whatever_is_heard_is_noticed_while_it_serves(
    speech: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device works at load and then computes one thing for ever."""
    chaos.install(tmp_path, monkeypatch)
    fault = tmp_path / "fault"
    monkeypatch.setenv("EDGED_TEST_FAULT", str(fault))
    states: list[EngineState] = []
    flags = {"engine": {"model": TINY, "provider": "chaos"}}
    supervisor = make_supervisor(load(None, flags), states.append)
    patrol = Patrol(supervisor, GovernorProfile(lag_seconds=60, p95_seconds=60))

    async def harm(supervisor: Supervisor) -> None:
        fault.write_text("constant")
        for _ in range(300):
            patrol.look(time.monotonic())
            await asyncio.sleep(0.1)

    lines = [speech[first * RATE : (first + 3) * RATE] for first in range(0, 40, 4)]
    many = np.concatenate([np.concatenate([line, silence(1)]) for line in lines])
    events = speech_events(supervisor, many, harm=harm, pace=2.0)
    patrol.close()
    _check_nothing_lost(events)
    assert "refused" in (states[-1].reason or "")
    texts = [text for _, text, *_ in finals(events)]
    assert len(set(texts[:SAME_TEXTS])) == 1
    assert len(set(texts[-2:]) - set(texts[:SAME_TEXTS])) == 2


@pytest.mark.long
@pytest.mark.timeout(2400)
def test_two_hundred_faults_change_no_final(
    speech: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every kind of fault, at random moments; both providers write the same, so must this."""
    monkeypatch.setattr("edged.engine.supervisor.HANG_SECONDS", 1.5)
    monkeypatch.setattr("edged.engine.process.STILL_SECONDS", 3.0)
    samples = np.concatenate([np.concatenate([speech, silence(1)])] * 18)
    faults = random.Random(7).choices(chaos.FAULTS, k=200)
    calm = speech_events(engine(), samples, pace=20.0)
    _, events, stalls, taken = _with_faults(faults, samples, tmp_path, monkeypatch)
    print(f"{taken} faults, {len(stalls)} stalls, p50 {statistics.median(stalls):.2f} s, ", end="")
    print(f"max {max(stalls):.2f} s")
    assert taken == len(faults)
    assert finals(events) == finals(calm)
    _check_nothing_lost(events)
    assert statistics.median(stalls) < 1.5


MIXED = [Rung(TINY, name, "cpu", "fp32") for name in ("chaos", "chaos-openvino", "chaos-tflite")]
"""Three runtimes and three processes' libraries, which write the same in float32"""


@pytest.fixture
def mixed_cache(request: pytest.FixtureRequest) -> Path:
    """A cache directory with tiny-en in float32 for all three: ours, or one that is built."""
    built = store().built().get(TINY)
    if built and {("fp32", "onnx"), ("fp32", "tflite")} <= built.parts:
        return cache_directory()
    folder: Path = request.getfixturevalue("static_cache")
    return folder


@pytest.mark.timeout(300)
def test_a_walk_over_three_runtimes_in_the_middle_of_speech_loses_nothing(
    twenty: np.ndarray, mixed_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Down by numbers that are none, and up again, while somebody speaks."""
    faults = ["nan", "nan"]
    samples = np.concatenate([twenty[: 14 * RATE], silence(1)])
    calm, events, served = _mixed(faults, samples, mixed_cache, tmp_path, monkeypatch)
    assert served[:3] == [rung.provider for rung in MIXED]
    assert finals(events) == finals(calm)
    _check_nothing_lost(events)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_sixty_faults_over_three_runtimes_change_no_final(
    speech: np.ndarray, mixed_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edged.engine.supervisor.HANG_SECONDS", 1.5)
    monkeypatch.setattr("edged.engine.process.STILL_SECONDS", 3.0)
    samples = np.concatenate([np.concatenate([speech, silence(1)])] * 6)
    faults = random.Random(9).choices(chaos.FAULTS, k=60)
    calm, events, served = _mixed(faults, samples, mixed_cache, tmp_path, monkeypatch)
    moves = sum(a != b for a, b in itertools.pairwise(served))
    print(f"{len(faults)} faults, {moves} moves from one runtime to another")
    assert set(served) == {rung.provider for rung in MIXED}
    assert moves > 10
    assert finals(events) == finals(calm)
    _check_nothing_lost(events)


def _mixed(
    faults: list[str],
    samples: np.ndarray,
    cache: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[list[Event], list[Event], list[str]]:
    """The events without faults and with them, and the providers that served one after another.

    Each fault strikes whichever runtime serves; from the last one the ladder is climbed again.
    """
    pytest.importorskip("openvino")
    monkeypatch.setenv("EDGED_CACHE_DIR", str(cache))
    monkeypatch.setenv("EDGED_TEST_MIXED", "1")
    chaos.install(folder, monkeypatch)
    fault = folder / "fault"
    monkeypatch.setenv("EDGED_TEST_FAULT", str(fault))
    configuration = load(None, {"engine": {"model": TINY, "provider": "chaos"}})
    calm = make_supervisor(configuration)
    calm.ladder = ladder.Ladder(MIXED)
    states: list[EngineState] = []
    supervisor = make_supervisor(configuration, states.append)
    supervisor.ladder = ladder.Ladder(MIXED)
    moments = random.Random(10)

    async def harm(supervisor: Supervisor) -> None:
        climbing = False
        for name in faults:
            await asyncio.sleep(moments.uniform(0.3, 1.2))
            await supervisor.wait_ready()  # so that it strikes while it serves
            left, leaves = supervisor.ladder.index, name == "nan"
            (folder / "next").write_text(name)
            (folder / "next").rename(fault)
            while fault.exists() or (leaves and supervisor.ladder.index == left):
                await asyncio.sleep(0.05)
            while supervisor.ladder.index >= len(MIXED) - 1 or climbing:
                climbing = supervisor.ladder.index > 0
                supervisor.climb(patient=False)
                await asyncio.sleep(0.1)

    undisturbed = speech_events(calm, samples, pace=20.0)
    events = speech_events(supervisor, samples, harm=harm, pace=1.0)
    served = [state.effective.provider for state in states if state.effective]
    return undisturbed, events, served


def _with_faults(
    faults: list[str], samples: np.ndarray, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[EngineState], list[Event], list[float], int]:
    """Let the chaos provider fail, one fault after the other.

    Returns the engine's states, the events, how long it was without an engine each time, and how
    many faults happened.
    """
    chaos.install(folder, monkeypatch)
    fault = folder / "fault"
    monkeypatch.setenv("EDGED_TEST_FAULT", str(fault))
    states: list[EngineState] = []
    stalls: list[float] = []
    since = [0.0]
    taken = 0

    def changed(state: EngineState) -> None:
        states.append(state)
        if state.effective is None:
            since[0] = since[0] or time.monotonic()
        elif since[0]:
            stalls.append(time.monotonic() - since[0])
            since[0] = 0.0

    flags = {"engine": {"model": TINY, "provider": "chaos"}}
    supervisor = make_supervisor(load(None, flags), changed)
    moments = random.Random(8)

    async def harm(supervisor: Supervisor) -> None:
        nonlocal taken
        for name in faults:
            await asyncio.sleep(moments.uniform(0.3, 1.5))
            # Whole at first, then in one step: the worker must not find half a word.
            (folder / "next").write_text(name)
            (folder / "next").rename(fault)
            while fault.exists():  # on the other rung nobody takes it
                if supervisor.ladder.index:
                    supervisor.climb(patient=False)
                await asyncio.sleep(0.05)
            taken += 1

    events = speech_events(supervisor, samples, harm=harm, pace=1.0)
    return states, events, stalls, taken


def test_a_hot_day_walks_the_ladder_down_and_up_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ladder, "HOLD_SECONDS", 1.0)
    monkeypatch.setattr(governor, "SETTLE_SECONDS", 2.0)
    monkeypatch.setattr(governor, "CALM_SECONDS", 2.0)
    machine = tmp_path / "machine"
    shutil.copytree(HOT_MACHINE, machine)
    sensor = machine / "sys/class/thermal/thermal_zone0/temp"
    states: list[EngineState] = []

    async def day() -> None:
        supervisor = two_rungs(states.append)
        supervisor.start()
        try:
            await supervisor.wait_ready()
            patrol = Patrol(supervisor, GovernorProfile(), Root(machine))
            for celsius in [50, 70, 80, *[108] * 4, 104, 103, 101, *[60] * 10]:
                sensor.write_text(f"{celsius * 1000}\n")
                for _ in range(2):
                    patrol.look(time.monotonic())
                    await asyncio.sleep(0.8)
        finally:
            patrol.close()
            await supervisor.stop()

    asyncio.run(day())
    walked = [(s.effective.model, s.pace) for s in states if s.effective]
    assert walked == [(BASE, 1), (TINY, 1), (TINY, 3), (BASE, 1)]
    assert "°C" in (states[1].reason or "")
    assert states[-1].reason is None


def test_a_worker_that_leaks_is_renewed(
    twenty: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edged.engine.patrol.GROWTH_BYTES", 100 << 20)
    chaos.install(tmp_path, monkeypatch)
    fault = tmp_path / "fault"
    monkeypatch.setenv("EDGED_TEST_FAULT", str(fault))
    supervisor = make_supervisor(load(None, {"engine": {"model": TINY, "provider": "chaos"}}))

    async def harm(supervisor: Supervisor) -> None:
        patrol = Patrol(supervisor, GovernorProfile(), Root(tmp_path))
        patrol.look(time.monotonic())
        fault.write_text("leak")
        while supervisor.starts < 2:
            await asyncio.sleep(0.1)
            patrol.look(time.monotonic())

        patrol.close()

    _check_nothing_lost(speech_events(supervisor, twenty, harm=harm, pace=2.0))
    assert isinstance(supervisor.state.effective, object)


def test_finals_name_the_rung_that_wrote_them(twenty: np.ndarray) -> None:
    supervisor = two_rungs()

    async def harm(supervisor: Supervisor) -> None:
        await asyncio.sleep(2.5)
        supervisor.step_down("a test")
        await asyncio.sleep(3)

    events = speech_events(supervisor, twenty, harm=harm, pace=2.0)
    models = [
        e.engine.effective.model for e in events if isinstance(e, Final) and e.engine.effective
    ]
    assert models[0] == BASE
    assert models[-1] == TINY
