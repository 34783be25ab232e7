"""Which rungs to try, in which order, and whether one is fast enough to stay."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from edged import profiles
from edged.config import Configuration, EngineSection
from edged.engine.verdicts import Verdicts
from edged.engine.worker import WorkerOptions
from edged.hardware import cpu, memory
from edged.hardware.root import Root
from edged.messages import Ready, Rung
from edged.models.inventory import store
from edged.models.sources import SOURCES

AUTO = "auto"
DEFAULT = ("onnxruntime", "cpu", "int8")
"""What every machine can do"""
CHECK_CLIP_SECONDS = 6.0
MEMORY_FACTOR = 2
"""A worker takes about this many times the size of its files, and some"""
MEMORY_TO_SPARE = 128 << 20
"""Bytes that must still be available when `auto` keeps the better model"""


def ladder(
    section: EngineSection,
    built: Mapping[str, Collection[str]],
    order: Sequence[str],
    usable: Callable[[Rung], bool],
) -> list[Rung]:
    """The rungs that the configuration allows, best first.

    `built` names the precisions of each built model, `order` is the profile's wishes, as
    "provider device precision", and `usable` says whether a rung may be tried at all. First comes
    what is asked for; unless `fallback` is fail, what is lighter follows.
    """
    models = [source.name for source in SOURCES if source.name in built]
    asked = models if section.model == AUTO else [section.model]
    wishes = _first_of_each_device([_wish(words) for words in order])
    rungs = [Rung(m, *wish) for m in asked for wish in _asked_wishes(section, wishes)]
    if section.fallback != "fail":
        rungs += [Rung(m, *wish) for m in [*asked, *_after(models, asked)] for wish in wishes]
    return [rung for rung in dict.fromkeys(rungs) if _may_be_tried(rung, section, built, usable)]


def _may_be_tried(
    rung: Rung,
    section: EngineSection,
    built: Mapping[str, Collection[str]],
    usable: Callable[[Rung], bool],
) -> bool:
    """Whether it is built and proven; what is named is tried: its error says what is missing."""
    is_named = meets(section, rung)
    is_built = rung.precision in built.get(rung.model, ())
    return (is_built or (is_named and section.model != AUTO)) and (
        usable(rung) or (is_named and section.device != AUTO)
    )


def ladder_here(section: EngineSection, verdicts: Verdicts) -> list[Rung]:
    """The same with what is built and proven on this machine, in its profile's order.

    A rung that was refused here is left out. A processor's that was never tried is proven when it
    loads; another device has to be proven first.
    """

    def usable(rung: Rung) -> bool:
        verdict = verdicts.get(rung)
        return verdict.ok if verdict else rung.device == "cpu"

    return ladder(section, store().built(), profiles.matching().engine.order, usable)


def worker_options(configuration: Configuration) -> WorkerOptions:
    """How this machine's profile wants a worker to run."""
    engine = profiles.matching().engine
    return WorkerOptions(
        detector=configuration.engine.detector,
        encoder_threads=engine.encoder_threads,
        decoder_threads=engine.decoder_threads,
        processors=cpu.read(Root()).big if engine.cores == "big" else [],
        partial_interval=engine.partial_interval,
        extra=configuration.providers,
    )


def meets(section: EngineSection, rung: Rung) -> bool:
    """Whether a rung is what the configuration asks for."""
    return all(
        getattr(section, name) in {AUTO, getattr(rung, name)}
        for name in ("model", "provider", "device", "precision")
    )


def _after(models: list[str], asked: list[str]) -> list[str]:
    """The models that are lighter than the last one asked for."""
    return models[models.index(asked[-1]) + 1 :] if asked and asked[-1] in models else []


def _wish(words: str) -> tuple[str, str, str]:
    provider, device, precision = words.split()
    return provider, device, precision


def _first_of_each_device(wishes: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Another precision on the same device is no lighter rung, only another one."""
    devices: dict[tuple[str, str], tuple[str, str, str]] = {}
    for wish in wishes:
        devices.setdefault(wish[:2], wish)
    return list(devices.values())


def _asked_wishes(
    section: EngineSection, wishes: Sequence[tuple[str, str, str]]
) -> list[tuple[str, str, str]]:
    """The profile's wishes with what the configuration names put in their place."""
    names = (section.provider, section.device, section.precision)
    fitting = [
        wish
        for wish in wishes
        if all(name in {AUTO, word} for name, word in zip(names, wish, strict=True))
    ]
    if fitting:
        return fitting
    # What is named was in no wish: the rest is as on any machine.
    provider, device, precision = DEFAULT
    return [
        (
            provider if section.provider == AUTO else section.provider,
            device if section.device == AUTO else section.device,
            precision if section.precision == AUTO else section.precision,
        )
    ]


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
