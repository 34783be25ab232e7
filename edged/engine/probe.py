"""What this machine can do: its hardware, its providers, and every rung, proven.

What was proven once is remembered.
"""

from __future__ import annotations

import importlib.metadata
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from edged import __version__, elsewhere, paths, profiles, workers
from edged.engine import choose
from edged.engine.ask import ASK_SECONDS, ProviderReport, ask_all, run_apart
from edged.engine.peaks import Peaks
from edged.engine.prove import Verdict, prove_apart
from edged.engine.verdicts import Verdicts
from edged.errors import EdgedError, ModelError
from edged.files import write_whole
from edged.hardware import explain
from edged.hardware.explain import Obstacle
from edged.hardware.machine import Machine, find
from edged.hardware.root import RECORD, Root
from edged.messages import Rung
from edged.models.inventory import imported_sources, store
from edged.models.sources import SOURCES, find_source, source_named
from edged.models.store import COMPUTED, FORMATS, Model, formats_of, stored_as
from edged.plugins import Plugins

if TYPE_CHECKING:
    from edged.config import Configuration

FILE = "probe.json"
HARMLESS = "no_provider"
"""The obstacle about which nothing needs to be done"""

Progress = Callable[[str, float], None]


class ProfileReport(msgspec.Struct, frozen=True):
    """The hardware profile that is taken."""

    name: str
    reason: str
    """What of the machine it is recognised by"""


class ProbeReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `edged probe` found."""

    schema_version: Literal[1] = 1
    edged: str = __version__
    time: float
    """When it was put together: Unix time, seconds; a verdict may be older"""
    status: Literal["works", "degraded", "nothing"]
    """Exit code 0, 1 and 2: all that was asked for works; something is in the way or was refused;
    nothing can run"""
    sentence: str
    """What `edged run` would use"""
    effective: Rung | None = None
    """The same for programs"""
    machine: Machine
    recorded: bool = False
    """Another machine's record was looked at: nothing was proven"""
    profile: ProfileReport
    providers: list[ProviderReport] = []
    peaks: Peaks | None = None
    verdicts: list[Verdict] = []
    obstacles: list[Obstacle] = []
    """In the way of accelerators, in the order in which to mend them"""
    notes: list[str] = []
    """What was left out, and why"""


# -- the machine ----------------------------------------------------------------------------------


async def probe_machine(
    configuration: Configuration,
    models: Sequence[str] = (),
    *,
    build: bool = True,
    fresh: bool = False,
    progress: Progress = lambda _stage, _share: None,
) -> ProbeReport:
    """Look at this machine and prove every rung of `models`, of all if none is named.

    What was proven before and still holds is not proven again, unless `fresh`. Raises ModelError
    when a named model is unknown.
    """
    probe = _Probe(configuration, fresh, progress)
    providers = await probe.providers()
    kinds = _formats(providers)
    probe.notes += _build_missing(models, kinds, progress) if build else []
    found = _models(models)
    probe.notes += _left_out(found, models, kinds)
    return await probe.report(found, models, providers)


class _Probe:
    """One look at this machine."""

    def __init__(self, configuration: Configuration, fresh: bool, progress: Progress) -> None:
        self.notes: list[str] = []
        self._configuration = configuration
        self._fresh = fresh
        self._progress = progress
        self._memory = Verdicts(options=configuration.provider_options())

    async def providers(self) -> list[ProviderReport]:
        """What each offers."""
        extra = self._configuration.provider_options()
        # What a configuration adds is no fact of the machine.
        name = f"providers {sorted(extra.items())}" if extra else "providers"
        return await self._fact(name, list[ProviderReport], lambda: ask_all(extra)) or []

    async def report(
        self,
        models: Sequence[Model],
        named: Sequence[str],
        providers: Sequence[ProviderReport],
    ) -> ProbeReport:
        """Everything, put together and saved."""
        machine = self._memory.machine
        extra = self._configuration.provider_options()
        peaks = await self._fact("peaks", Peaks, _measure_peaks)
        rungs = list(_rungs(models, providers, self._memory.plugins))
        verdicts = [v async for v in self._verdicts(rungs)]
        obstacles = explain.explain(machine, installed(extra))
        effective, sentence = _would_run(self._configuration, self._memory)
        report = ProbeReport(
            time=time.time(),
            status=_status(verdicts, obstacles, providers, named),
            sentence=sentence,
            effective=effective,
            machine=machine,
            profile=_profile(machine),
            providers=list(providers),
            peaks=peaks,
            verdicts=[with_shares(verdict, peaks) for verdict in verdicts],
            obstacles=obstacles,
            notes=self.notes,
        )
        self._keep(lambda: write_whole(report_file(), msgspec.json.encode(report)))
        return report

    async def _fact(self, name: str, kind: Any, find_out: Callable[[], Any]) -> Any:
        known = None if self._fresh else self._memory.fact(name, kind)
        if known is not None:
            return known
        self._progress(f"finding {name}", 0.0)
        try:
            value = await find_out()
        except EdgedError as error:
            self.notes.append(f"{name}: {error.message}")
            return None
        self._keep(lambda: self._memory.put_fact(name, value))
        return value

    async def _verdicts(self, rungs: Sequence[Rung]) -> AsyncIterator[Verdict]:
        """One after the other: two at once would slow each other down."""
        # A worker's options, so that it is measured as it would serve.
        options = choose.worker_options(self._configuration)
        for number, rung in enumerate(rungs):
            verdict = None if self._fresh else self._memory.get(rung)
            if verdict is None:
                self._progress(f"proving {rung}", number / len(rungs))
                folder = store().place(rung.model)
                verdict = await prove_apart(rung, folder, options)
                self._put(verdict)
            yield verdict

    def _put(self, verdict: Verdict) -> None:
        self._keep(lambda: self._memory.put(verdict))

    def _keep(self, write: Callable[[], None]) -> None:
        """A cache that cannot be written makes the next probe slow, but not this one wrong."""
        try:
            write()
        except EdgedError as error:
            if error.message not in self.notes:
                self.notes.append(error.message)


def probe_recorded(folder: Path) -> ProbeReport:
    """Look at a recorded machine; nothing is proven. Raises EdgedError where there is no record."""
    if not (folder / RECORD).is_file():
        raise EdgedError(
            f"{folder} holds no recorded machine. Make one there: edged probe --record DIR",
            code="no_record",
        )
    machine = find(Root(folder))
    obstacles = explain.explain(machine, installed())
    return ProbeReport(
        time=time.time(),
        status=_status_of_hardware(obstacles),
        sentence="This is a record of another machine: nothing was proven.",
        machine=machine,
        recorded=True,
        profile=_profile(machine),
        obstacles=obstacles,
    )


def report_file() -> Path:
    """Where the last report lies."""
    return paths.cache_directory() / FILE


def last_report() -> ProbeReport | None:
    """What the last `edged probe` found here, or None."""
    try:
        return msgspec.json.decode(report_file().read_bytes(), type=ProbeReport)
    except (OSError, msgspec.DecodeError):
        return None


async def _measure_peaks() -> Any:
    return await run_apart("edged.engine.peaks", Peaks, ASK_SECONDS)


def installed(options: elsewhere.Options = MappingProxyType({})) -> dict[str, str]:
    """Versions of the packages that accelerators need, by name, be they in another Python."""
    pythons = workers.pythons(options)
    versions = {f"worker {name}": "created" for name in pythons}
    for python in pythons.values():
        versions |= workers.packages_of(python)
    for name in set(explain.PACKAGES.values()):
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def with_shares(verdict: Verdict, peaks: Peaks | None) -> Verdict:
    """The verdict with the shares of the processor's peaks that it reached, if it ran there."""
    if peaks is None or verdict.rung.device != "cpu":
        return verdict
    if not verdict.gigaflops or not verdict.gigabytes_per_second:
        return verdict
    return msgspec.structs.replace(
        verdict,
        gigaflops_share=verdict.gigaflops / peaks.measured_gigaflops,
        gigabytes_share=verdict.gigabytes_per_second / peaks.measured_gigabytes_per_second,
    )


def _profile(machine: Machine) -> ProfileReport:
    match = profiles.explain(machine)[0]
    if match.obstacles:
        return ProfileReport(match.name, "none is for this machine")
    words = profiles.recognised_by(match.profile.machine, machine)
    return ProfileReport(match.name, ", ".join(words))


# -- models and rungs -----------------------------------------------------------------------------


def _known_models(named: Sequence[str]) -> list[str]:
    """The models asked for. Raises ModelError when one is neither built nor known."""
    built = store().names()
    for name in named:
        if name not in built:
            source_named(name)
    return list(named) or list(dict.fromkeys([*(source.name for source in SOURCES), *built]))


def _build_missing(named: Sequence[str], kinds: Sequence[str], progress: Progress) -> Iterator[str]:
    """Build what can be built and is not; yields what went wrong."""
    from edged.models.inventory import build

    for source in SOURCES:
        if source.name not in _known_models(named):
            continue
        if find_source(source, imported_sources()) is None:
            continue
        for kind, precisions in _missing(source.name, kinds).items():
            try:
                for _ in build([source.name], precisions, [kind], False, progress):
                    pass
            except ModelError as error:
                yield error.message


def _missing(name: str, kinds: Sequence[str]) -> dict[str, list[str]]:
    """By format, the precisions in which a model is not built."""
    try:
        built = store().get(name).parts
    except ModelError:
        built = set()
    missing = {
        kind: [precision for precision in FORMATS[kind] if (precision, kind) not in built]
        for kind in kinds
    }
    return {kind: precisions for kind, precisions in missing.items() if precisions}


def _formats(reports: Sequence[ProviderReport]) -> list[str]:
    """Those that a device opens which is here."""
    plugins = Plugins.discover()
    endings = {
        ending
        for report in reports
        for device in report.devices
        for ending in plugins.formats(report.name, device)
    }
    known = formats_of(endings)
    return [kind for kind in FORMATS if kind in known]


def _models(named: Sequence[str]) -> list[Model]:
    found = []
    for name in _known_models(named):
        with suppress(ModelError):
            found.append(store().get(name))
    return found


def _left_out(found: Sequence[Model], named: Sequence[str], kinds: Sequence[str]) -> list[str]:
    """What is not proven because it is not built."""
    built = {model.name for model in found}
    recipes = {source.name for source in SOURCES}
    notes = []
    for name in _known_models(named):
        for kind, precisions in _missing(name, kinds).items() if name in recipes else ():
            what = ", ".join(precisions) if name in built else "any precision"
            command = f"edged models build {name}" + f" --format {kind}" * (kind != "onnx")
            notes.append(f"{name} is not built for {kind} in {what}. Run: {command}")
    return notes


def _rungs(
    models: Sequence[Model],
    reports: Sequence[ProviderReport],
    plugins: Plugins,
) -> Iterator[Rung]:
    """Every model x provider x device x precision that could be."""
    for model in models:
        for report in reports:
            for device in report.devices:
                built = model.precisions_for(plugins.formats(report.name, device))
                computed = (p for p in report.computes.get(device, []) if stored_as(p) in built)
                for precision in sorted([*built, *computed], key=_order):
                    yield Rung(model.name, report.name, device, precision)


def _order(precision: str) -> tuple[int, str]:
    known = COMPUTED.index(precision) if precision in COMPUTED else len(COMPUTED)
    return known, precision


# -- what it comes to -----------------------------------------------------------------------------


def _status(
    verdicts: Sequence[Verdict],
    obstacles: Sequence[Obstacle],
    providers: Sequence[ProviderReport],
    named: Sequence[str],
) -> Literal["works", "degraded", "nothing"]:
    if not any(verdict.ok for verdict in verdicts):
        return "nothing"
    wanting = any(_is_wanting(verdict, named) for verdict in verdicts)
    if wanting or any(provider.error or provider.conflict for provider in providers):
        return "degraded"
    return _status_of_hardware(obstacles)


def _status_of_hardware(obstacles: Sequence[Obstacle]) -> Literal["works", "degraded"]:
    return "degraded" if any(o.code != HARMLESS for o in obstacles) else "works"


def _is_wanting(verdict: Verdict, named: Sequence[str]) -> bool:
    """Whether a rung is less than could be hoped for.

    That few bits write other words is in their nature, and so is what a device does not compute in:
    no fault of this machine, unless the model was asked for by name.
    """
    few_bits = verdict.code == "wrong_text" and verdict.rung.precision.startswith("int")
    in_its_nature = few_bits or verdict.code == "precision_unsupported"
    return bool(verdict.code) and not (in_its_nature and verdict.rung.model not in named)


def _would_run(configuration: Configuration, memory: Verdicts) -> tuple[Rung | None, str]:
    """The rung that `edged run` would serve on, and a sentence about it."""
    engine = configuration.engine
    rungs = choose.ladder_here(engine, memory)
    proven = {rung: verdict for rung in rungs if (verdict := memory.get(rung))}
    good = [rung for rung in rungs if rung in proven and proven[rung].ok]
    if not good:
        return None, _nothing_to_run(rungs, proven)
    limit = profiles.matching().engine.room_to_spare if engine.model == choose.AUTO else math.inf
    fast = [rung for rung in good if (proven[rung].real_time_factor or 0) <= limit]
    chosen = fast[0] if fast else good[-1]
    factor = proven[chosen].real_time_factor
    pace = f", {1 / factor:.0f} times faster than real time" if factor else ""
    return chosen, f"edged run would use {chosen}{pace}."


def _nothing_to_run(rungs: Sequence[Rung], proven: dict[Rung, Verdict]) -> str:
    if not rungs:
        return "edged run has no model. Run: edged models build"
    if rungs[0] not in proven:
        return f"edged run would try {rungs[0]}, which was not proven."
    return f"edged run has nothing to use: {rungs[0]}: {proven[rungs[0]].reason}"
