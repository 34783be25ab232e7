"""Takes secrets, and if wished what was said, out of what is given to others."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

HIDDEN = "[redacted]"
SHORTEST = 4
"""Characters from which a secret is looked for in other texts: a shorter one is in every text"""
_SECRET_KEY = re.compile(
    r"(?:^|[_.-])(?:pass(?:word|wd|phrase)?|secret|token|(?:api_?)?key|credentials?|"
    r"auth(?:orization)?|cookie|pin)$",
    re.IGNORECASE,
)
_IN_TEXT = (
    # rtsp://user:password@camera
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^/\s@\"']+@", re.IGNORECASE), rf"\1{HIDDEN}@"),
    (re.compile(r"\b(bearer\s+)[^\s\"']+", re.IGNORECASE), rf"\1{HIDDEN}"),
    # password=..., "token": "...", --api-key ...
    (
        re.compile(
            r"((?:pass(?:word|wd|phrase)?|secret|token|api[_-]?key)[\"']?(?:\s*[=:]\s*|\s+)[\"']?)"
            r"[^\s\"'&,;}]+",
            re.IGNORECASE,
        ),
        rf"\1{HIDDEN}",
    ),
)
_SAID = {"text", "stable", "word", "data", "own_voice"}
"""Keys whose values are what somebody said"""


class Redaction:
    """Knows the secrets of a configuration."""

    def __init__(self, settings: Mapping[str, Any], *others: str | None) -> None:
        """`others` are secrets that the configuration only names the place of."""
        found = {*_secrets(settings), *filter(None, others)}
        long = sorted((value for value in found if len(value) >= SHORTEST), key=len, reverse=True)
        self._values = [form for value in long for form in _forms(value)]
        self._home = str(Path.home())

    def text(self, text: str) -> str:
        """Without known secrets, nor what looks like one."""
        for value in self._values:
            text = text.replace(value, HIDDEN)
        for pattern, replacement in _IN_TEXT:
            text = pattern.sub(replacement, text)
        return text.replace(self._home, "~") if len(self._home) > 1 else text

    def value(self, value: Any, key: str = "") -> Any:
        """The same through and through; what stands under a secret's name is one."""
        if isinstance(value, Mapping):
            return {name: self.value(inner, str(name)) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.value(inner, key) for inner in value]
        if _SECRET_KEY.search(key) and value not in {None, "", True, False}:
            return HIDDEN
        return self.text(value) if isinstance(value, str) else value


def _secrets(settings: Any, key: str = "") -> Iterator[str]:
    if isinstance(settings, Mapping):
        for name, inner in settings.items():
            yield from _secrets(inner, str(name))
    elif isinstance(settings, list):
        for inner in settings:
            yield from _secrets(inner, key)
    elif _SECRET_KEY.search(key) and settings not in {None, "", True, False}:
        yield str(settings)


def _forms(value: str) -> list[str]:
    """As it stands in texts, in JSON and in addresses."""
    return list(dict.fromkeys((value, json.dumps(value)[1:-1], quote(value, safe=""))))


def unsaid(value: Any, key: str = "") -> Any:
    """Without what somebody said: how many words it were is left."""
    if isinstance(value, Mapping):
        return {name: unsaid(inner, str(name)) for name, inner in value.items()}
    if isinstance(value, list):
        return [] if key == "tokens" else [unsaid(inner, key) for inner in value]
    if key in _SAID and isinstance(value, str) and value:
        return f"[{len(value.split())} words]"
    return value
