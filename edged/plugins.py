"""Find the installed plugins, load them one by one, remember why one is left out."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pluggy

from edged import hookspecs
from edged.errors import EdgedError
from edged.hookspecs import PROJECT

if TYPE_CHECKING:
    from edged.policy import Policy
    from edged.provider import ExecutionProvider
    from edged.recognizer import Recognizer, VoiceDetector

_HOOKS = (
    "edged_execution_providers",
    "edged_recognizers",
    "edged_voice_detectors",
    "edged_policies",
)


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
        """Load every entry point of the group `edged`."""
        return cls.load(importlib.metadata.entry_points(group=PROJECT))

    @classmethod
    def load(cls, entry_points: Iterable[importlib.metadata.EntryPoint]) -> Plugins:
        manager = pluggy.PluginManager(PROJECT)
        manager.add_hookspecs(hookspecs)
        return cls([_load(manager, entry) for entry in sorted(entry_points, key=_order)])

    def _supplied(self, hook: str) -> list[Any]:
        return [item for plugin in self.all for item in plugin.supplies.get(hook, [])]

    def provider(self, name: str) -> ExecutionProvider:
        """The execution provider called `name`. Raises EdgedError with what there is instead."""
        found: ExecutionProvider = _named(
            self, "edged_execution_providers", "name", name, "execution provider"
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

    def formats(self, provider: str) -> frozenset[str]:
        """Endings of the files that a provider opens; none where there is no such provider."""
        found = [item for item in self.providers() if item.name == provider]
        return frozenset(found[0].formats) if found else frozenset()

    def providers(self) -> list[ExecutionProvider]:
        return self._supplied("edged_execution_providers")


def _order(entry: importlib.metadata.EntryPoint) -> str:
    return entry.name


def _named(plugins: Plugins, hook: str, attribute: str, name: str, what: str) -> Any:
    supplied = plugins._supplied(hook)
    for item in supplied:
        if getattr(item, attribute) == name:
            return item
    known = ", ".join(sorted(getattr(item, attribute) for item in supplied)) or "none"
    broken = "".join(f"; plugin {p.name} failed: {p.error}" for p in plugins.all if p.error)
    raise EdgedError(f"No {what} called {name}. Installed: {known}{broken}", code="plugin_missing")


def _load(manager: pluggy.PluginManager, entry: importlib.metadata.EntryPoint) -> Plugin:
    distribution = entry.dist.name if entry.dist else "unknown"
    version = entry.dist.version if entry.dist else "unknown"
    plugin = Plugin(entry.name, distribution, version)
    try:
        module = entry.load()
        manager.register(module, entry.name)
        manager.check_pending()
        for hook in _HOOKS:
            plugin.supplies[hook] = _call(manager, module, hook)
    except (Exception, SystemExit) as error:  # noqa: BLE001  a stranger's code
        plugin.supplies = {}
        known = isinstance(error, EdgedError)
        plugin.error = str(error) if known else f"{type(error).__name__}: {error}"
        if manager.is_registered(sys.modules.get(entry.module)):
            manager.unregister(name=entry.name)
    return plugin


def _call(manager: pluggy.PluginManager, module: Any, hook: str) -> list[Any]:
    """Call one plugin's implementation alone, so that it cannot hide the others' results."""
    others = [other for other in manager.get_plugins() if other is not module]
    results = manager.subset_hook_caller(hook, others)()
    return [item for result in results for item in result or ()]
