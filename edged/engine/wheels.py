"""Wheels that put their files over each other's: of `onnxruntime` and `onnxruntime-gpu` in one
environment what was installed last is what runs, if it runs."""

from __future__ import annotations

import importlib.metadata
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib.metadata import Distribution

from edged import workers


def conflict(packages: Sequence[str]) -> str | None:
    """What is wrong with those of these packages that are installed here, and what mends it."""
    names = _over_each_other(_installed(packages))
    if not names:
        return None
    versions = " and ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    first, *others = names
    pip = f"{sys.executable} -m pip"
    recipes = {known.name for known in workers.RECIPES}
    commands = [f"{name} --package {name}" if name not in recipes else name for name in others]
    return (
        f"{versions} lie over each other: what was installed last is what runs. Run: "
        f"{pip} uninstall --yes {' '.join(names)} && {pip} install {first}, and give what else is "
        "needed a Python of its own: "
        + " && ".join(f"edged workers create {command}" for command in commands)
    )


def _installed(packages: Iterable[str]) -> list[tuple[str, Distribution]]:
    found = []
    for name in packages:
        with suppress(importlib.metadata.PackageNotFoundError):
            found.append((name, importlib.metadata.distribution(name)))
    return found


def _over_each_other(distributions: Iterable[tuple[str, Distribution]]) -> list[str]:
    """Those that share a file with another one, in their order."""
    owners: defaultdict[str, list[str]] = defaultdict(list)
    for name, distribution in distributions:
        for file in distribution.files or ():
            owners[str(distribution.locate_file(file))].append(name)
    shared = [names for names in owners.values() if len(names) > 1]
    return list(dict.fromkeys(name for names in shared for name in names))
