"""Find the installed plugins, load them one by one, remember why one is left out."""

from __future__ import annotations

import functools
import importlib.metadata
import queue
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any

import pluggy

from edged import hookspecs, vetting
from edged.errors import EdgedError
from edged.hookspecs import PROJECT
from edged.workers import split

if TYPE_CHECKING:
    from edged.policy import Policy
    from edged.provider import ExecutionProvider
    from edged.recognizer import Recognizer, VoiceDetector
    from edged.sink import TranscriptSink
    from edged.source import AudioSource

OURS = "edged"
"""The distribution whose plugins are trusted"""
NAMED_BY = {
    "edged_execution_providers": "name",
    "edged_recognizers": "family",
    "edged_voice_detectors": "name",
    "edged_policies": "name",
    "edged_audio_sources": "scheme",
    "edged_transcript_sinks": "name",
    "edged_api_routers": None,
    "edged_cli_commands": None,
}
"""Every hook, and what tells apart the things that it supplies; None where it is the plugin"""


@dataclass(slots=True)
class Plugin:
    """One entry point of the group `edged`."""

    name: str
    distribution: str
    version: str
    error: str | None = None
    """Why it is not used; None when it is"""
    supplies: dict[str, list[Any]] = field(default_factory=dict)
    """What its hooks returned, by hook"""


class Plugins:
    """All plugins of this environment, good and bad."""

    def __init__(self, plugins: list[Plugin]) -> None:
        self.all = plugins

    @classmethod
    def discover(cls) -> Plugins:
        """Every entry point of the group `edged`, loaded once a process."""
        return _discover(tuple(sys.path))

    @classmethod
    def look_again(cls) -> Plugins:
        """The same, with plugins that were found to block or crash tried again."""
        return cls.load(importlib.metadata.entry_points(group=PROJECT), fresh=True)

    @classmethod
    def load(cls, entry_points: Iterable[EntryPoint], fresh: bool = False) -> Plugins:
        """Ours first, so that no stranger takes their names."""
        entries = sorted(entry_points, key=lambda entry: entry.name)
        ours = [load(entry) for entry in entries if _is_ours(entry)]
        loaded = [*ours, *_strangers([e for e in entries if not _is_ours(e)], fresh)]
        for number, plugin in enumerate(loaded):
            _refuse_taken_names(plugin, loaded[:number])
        return cls(loaded)

    def supplied(self, hook: str) -> list[tuple[Plugin, Any]]:
        """What a hook returned, each with its plugin."""
        return [(plugin, item) for plugin in self.all for item in plugin.supplies.get(hook, [])]

    def provider(self, name: str) -> ExecutionProvider:
        """The execution provider called `name`, be it in another Python: `name@worker`. Raises
        EdgedError with what there is instead."""
        plugin, _ = split(name)
        found: ExecutionProvider = _named(
            self, "edged_execution_providers", "name", plugin, "execution provider"
        )
        return found

    def recognizer(self, family: str) -> type[Recognizer]:
        """The recogniser for a model family."""
        found: type[Recognizer] = _named(self, "edged_recognizers", "family", family, "recogniser")
        return found

    def voice_detector(self, name: str) -> type[VoiceDetector]:
        """The voice detector called `name`."""
        found: type[VoiceDetector] = _named(
            self, "edged_voice_detectors", "name", name, "voice detector"
        )
        return found

    def policy(self, name: str) -> Policy:
        """The policy called `name`."""
        found: Policy = _named(self, "edged_policies", "name", name, "policy")
        return found

    def formats(self, provider: str, device: str | None = None) -> frozenset[str]:
        """Endings of the files that a provider opens on a device, or on any; none where there is no
        such provider."""
        plugin, _ = split(provider)
        found = [item for item in self.providers() if item.name == plugin]
        if not found:
            return frozenset()
        return found[0].formats_on(device) if device else found[0].formats

    def source(self, scheme: str) -> type[AudioSource] | None:
        """The audio source for a scheme, if there is one."""
        for _, source in self.supplied("edged_audio_sources"):
            if source.scheme == scheme:
                found: type[AudioSource] = source
                return found
        return None

    def providers(self) -> list[ExecutionProvider]:
        return [provider for _, provider in self.supplied("edged_execution_providers")]

    def sinks(self) -> list[type[TranscriptSink]]:
        return [sink for _, sink in self.supplied("edged_transcript_sinks")]


@functools.cache
def _discover(_path: tuple[str, ...]) -> Plugins:
    """Once for a path on which plugins can be found."""
    return Plugins.load(importlib.metadata.entry_points(group=PROJECT))


def _named(plugins: Plugins, hook: str, attribute: str, name: str, what: str) -> Any:
    supplied = [item for _, item in plugins.supplied(hook)]
    for item in supplied:
        if getattr(item, attribute) == name:
            return item
    known = ", ".join(sorted(getattr(item, attribute) for item in supplied)) or "none"
    broken = "".join(f"; plugin {p.name} failed: {p.error}" for p in plugins.all if p.error)
    raise EdgedError(f"No {what} called {name}. Installed: {known}{broken}", code="plugin_missing")


# -- loading --------------------------------------------------------------------------------------


def _is_ours(entry: EntryPoint) -> bool:
    return entry.dist is not None and entry.dist.name == OURS


def _strangers(entries: Sequence[EntryPoint], fresh: bool) -> Iterator[Plugin]:
    """Load what did no harm in a process of its own; even so it is not waited for for ever."""
    for entry, refusal in zip(entries, vetting.vet(entries, fresh), strict=True):
        plugin = _described(entry)
        plugin.error = refusal
        yield plugin if refusal else _load_within(entry, vetting.LOAD_SECONDS)


def _load_within(entry: EntryPoint, seconds: float) -> Plugin:
    loaded: queue.SimpleQueue[Plugin] = queue.SimpleQueue()
    threading.Thread(target=lambda: loaded.put(load(entry)), daemon=True).start()
    try:
        return loaded.get(timeout=seconds)
    except queue.Empty:
        plugin = _described(entry)
        plugin.error = f"it was not loaded within {seconds:.0f} s. {vetting.AGAIN}"
        vetting.refuse(entry, plugin.error)
        return plugin


def load(entry: EntryPoint) -> Plugin:
    """Load one plugin here and ask what it supplies; what it raises is its error."""
    plugin = _described(entry)
    manager = pluggy.PluginManager(PROJECT)  # its own, so that it cannot hide others' results
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(entry.load(), entry.name)
        manager.check_pending()
        plugin.supplies = {hook: _supplied(manager, hook) for hook in NAMED_BY}
    except (Exception, SystemExit) as error:  # noqa: BLE001  a stranger's code
        plugin.supplies = {}
        known = isinstance(error, EdgedError)
        plugin.error = str(error) if known else f"{type(error).__name__}: {error}"
    return plugin


def _described(entry: EntryPoint) -> Plugin:
    distribution = entry.dist.name if entry.dist else "unknown"
    version = entry.dist.version if entry.dist else "unknown"
    return Plugin(entry.name, distribution, version)


def _supplied(manager: pluggy.PluginManager, hook: str) -> list[Any]:
    """What a hook returned. Raises TypeError for what cannot be told from others by its name."""
    items = [item for result in getattr(manager.hook, hook)() for item in result or ()]
    attribute = NAMED_BY[hook]
    for item in items:
        if attribute and not isinstance(getattr(item, attribute, None), str):
            raise TypeError(f"{hook} returned {item!r}, which has no {attribute}")
    return items


def _refuse_taken_names(plugin: Plugin, earlier: Sequence[Plugin]) -> None:
    """Two of one name would be one too many: whoever came first keeps it."""
    taken = {name: other.name for other in earlier for name in _names(other)}
    for hook, name in _names(plugin):
        if (hook, name) in taken:
            other = taken[hook, name]
            plugin.error = f"it supplies {name}, as plugin {other} does already ({hook})"
            plugin.supplies = {}
            return


def _names(plugin: Plugin) -> list[tuple[str, str]]:
    return [
        (hook, getattr(item, attribute))
        for hook, attribute in NAMED_BY.items()
        if attribute
        for item in plugin.supplies.get(hook, [])
    ]
