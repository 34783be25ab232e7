"""References inside a description of the API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def references(node: Any) -> Iterator[str]:
    """All that are somewhere below."""
    if isinstance(node, dict):
        if isinstance(target := node.get("$ref"), str):
            yield target
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def follow(document: dict[str, Any], target: str) -> Any:
    """What it leads to. Raises KeyError where that is nowhere."""
    node: Any = document
    for part in target.removeprefix("#/").split("/"):
        node = node[part]
    return node
