"""Which rungs to try, in which order, and whether one is fast enough to stay."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache

from edged import profiles
from edged.config import Configuration, EngineSection
from edged.engine.prove import Verdict
from edged.engine.verdicts import Verdicts
from edged.hardware import cpu, memory
from edged.hardware.root import Root
from edged.messages import CHECK_CLIP_SECONDS, Ready, Rung, WorkerOptions
from edged.models.inventory import store
from edged.models.sources import SOURCES
from edged.models.store import COMPUTED, FORMAT_OF, stored_as
from edged.plugins import Plugins
from edged.policy import Candidate, Demand, Policy

AUTO = "auto"
DEFAULT = ("onnxruntime", "cpu", "int8")
"""What every machine can do"""
ON_REQUEST = {"int4"}
"""Precisions that write noticeably worse: only for those who ask for them"""
MEMORY_FACTOR = 2
"""A worker takes about this many times the size of its files, and some"""
MEMORY_TO_SPARE = 128 << 20
"""Bytes that must still be available when `auto` keeps the better model"""


def ladder(
    section: EngineSection, candidates: Mapping[str, Sequence[Candidate]], policy: Policy
) -> list[Rung]:
    """The rungs that the configuration allows, best first.

    `candidates` are given by model, the better model first. What is asked for comes first; unless
    `fallback` is fail, what is lighter follows.
    """
    models = list(candidates)
    asked = models if section.model == AUTO else [section.model]
    groups = [[c for c in candidates[m] if meets(section, c.rung)] for m in asked]
    if section.fallback != "fail":
        groups += [
            [candidate for candidate in candidates[model] if not meets(section, candidate.rung)]
            for model in [*asked, *_after(models, asked)]
        ]
    wanted = demand(section)
    return list(dict.fromkeys(rung for group in groups for rung in policy.order(group, wanted)))


def ladder_here(section: EngineSection, verdicts: Verdicts) -> list[Rung]:
    """The same with what is built and proven on this machine."""
    endings = {name: verdicts.plugins.formats(name) for name in verdicts.providers}
    # Of one that is not installed nothing is known: its own error will say so.
    endings.setdefault(section.provider, frozenset(FORMAT_OF))
    built = {
        name: {provider: model.precisions_for(endings[provider]) for provider in endings}
        for name, model in store().built().items()
    }
    selection = Selection(section, built, profiles.matching().engine.order, verdicts.get)
    return ladder(section, selection.candidates(), verdicts.plugins.policy(section.policy))


def demand(section: EngineSection) -> Demand:
    return Demand(section.expected_streams, section.decode_seconds)


class Selection:
    """The rungs that may serve.

    One that was refused on this machine may not. A processor's that was never tried is proven when
    it loads; another device has to be proven first. What is asked for by name is tried in any case:
    its error says what is missing.
    """

    def __init__(
        self,
        section: EngineSection,
        built: Mapping[str, Mapping[str, Collection[str]]],
        order: Sequence[str],
        known: Callable[[Rung], Verdict | None],
    ) -> None:
        """`built` names the precisions of each model by provider, `order` is the profile's wishes,
        as "provider device precision", `known` tells what was found out about a rung here."""
        self._section = section
        self._built = built
        self._wishes = list(dict.fromkeys(tuple(words.split()) for words in order))
        self._known = cache(known)

    def candidates(self) -> dict[str, list[Candidate]]:
        """By model, the better model first."""
        models = [source.name for source in SOURCES if source.name in self._built]
        named = [] if self._section.model == AUTO else [self._section.model]
        return {
            model: [
                self._candidate(rung)
                for device in self._devices(model)
                for precision in COMPUTED
                if self._may_serve(rung := Rung(model, *device, precision))
            ]
            for model in dict.fromkeys([*models, *named])
        }

    def _devices(self, model: str) -> list[tuple[str, str]]:
        """Those that are wished; what is named beside them is else as on any machine."""
        section = self._section
        wished = list(dict.fromkeys((provider, device) for provider, device, _ in self._wishes))
        runs = [provider for provider, built in self._built.get(model, {}).items() if built]
        if any(
            _fits(section.provider, p) and _fits(section.device, d) and (p in runs or not runs)
            for p, d in wished
        ):
            return wished
        usual = DEFAULT[0] if DEFAULT[0] in runs or not runs else runs[0]
        provider = usual if section.provider == AUTO else section.provider
        return [*wished, (provider, DEFAULT[1] if section.device == AUTO else section.device)]

    def _may_serve(self, rung: Rung) -> bool:
        if not self._is_there(rung):
            return False
        verdict = self._known(rung)
        is_proven = verdict.ok if verdict else rung.device == "cpu"
        is_named = meets(self._section, rung) and self._section.device != AUTO
        return self._suits(rung, verdict) and (is_proven or is_named)

    def _is_there(self, rung: Rung) -> bool:
        if stored_as(rung.precision) in self._built.get(rung.model, {}).get(rung.provider, ()):
            return True
        is_named = self._section.model == rung.model and meets(self._section, rung)
        return is_named and (
            rung.model not in self._built or self._section.precision == rung.precision
        )

    def _suits(self, rung: Rung, verdict: Verdict | None) -> bool:
        """Whether this precision is wanted on its device."""
        if self._is_wished(rung) or self._section.precision == rung.precision:
            return True
        return verdict is not None and verdict.ok and rung.precision not in ON_REQUEST

    def _is_wished(self, rung: Rung) -> bool:
        """By the profile; where that names nothing that is built, what every machine can do."""
        built = self._built.get(rung.model, {}).get(rung.provider, ())
        wished = [wish[2] for wish in self._wishes if wish[:2] == (rung.provider, rung.device)]
        if wished and (not built or any(stored_as(precision) in built for precision in wished)):
            return self._wish(rung) is not None
        if not built or DEFAULT[-1] in built:
            return rung.precision == DEFAULT[-1]
        return rung.precision == min(built, key=COMPUTED.index)

    def _wish(self, rung: Rung) -> int | None:
        words = (rung.provider, rung.device, rung.precision)
        return self._wishes.index(words) if words in self._wishes else None

    def _candidate(self, rung: Rung) -> Candidate:
        verdict = self._known(rung)
        kind = (verdict and verdict.kind) or rung.device_kind
        factor = verdict.real_time_factor if verdict else None
        return Candidate(rung, kind, self._wish(rung), factor)


def worker_options(configuration: Configuration) -> WorkerOptions:
    """How this machine's profile wants a worker to run."""
    engine = profiles.matching().engine
    policy = Plugins.discover().policy(configuration.engine.policy)
    return WorkerOptions(
        detector=configuration.engine.detector,
        encoder_threads=engine.encoder_threads,
        decoder_threads=engine.decoder_threads,
        lanes=engine.lanes,
        processors=cpu.read(Root()).big if engine.cores == "big" else [],
        partial_interval=policy.interval(engine.partial_interval, demand(configuration.engine)),
        extra=configuration.provider_options(),
        trace=str(configuration.trace.folder or ""),
        profile=configuration.trace.operators,
    )


def meets(section: EngineSection, rung: Rung) -> bool:
    """Whether a rung is what the configuration asks for."""
    names = ("model", "provider", "device", "precision")
    return all(_fits(getattr(section, name), getattr(rung, name)) for name in names)


def _fits(wanted: str, word: str) -> bool:
    return wanted in {AUTO, word}


def _after(models: list[str], asked: list[str]) -> list[str]:
    """The models that are lighter than the last one asked for."""
    return models[models.index(asked[-1]) + 1 :] if asked and asked[-1] in models else []


def too_slow(ready: Ready, room_to_spare: float) -> str | None:
    """Why a rung has no room to spare on this machine, or None."""
    available = _available_memory()
    if available < MEMORY_TO_SPARE:
        return f"it leaves {available >> 20} MB of memory"
    share = ready.check_seconds / CHECK_CLIP_SECONDS
    if share <= room_to_spare:
        return None
    return (
        f"it needs {share:.3f} s for a second of audio here; "
        f"auto wants {room_to_spare} s at the most"
    )


def _available_memory() -> int:
    """Bytes that can be had without swapping."""
    return memory.read(Root()).available_bytes or MEMORY_TO_SPARE


def fits(bytes_of_files: int) -> bool:
    """Whether a worker with so large a model has room beside the one that runs."""
    return _available_memory() > bytes_of_files * MEMORY_FACTOR + MEMORY_TO_SPARE
