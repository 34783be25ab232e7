"""Keys of the configuration that older versions called otherwise, or had and are no more.

They are read all the same, so that an update leaves no robot deaf; a warning says what to change.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

RENAMED: dict[str, str | None] = {}
"""By the old name, `section.key`, the present one; None for what means nothing any more. None of
them was yet renamed: whoever does it writes it here, and leaves it"""


def bring_up(source: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The same under present names, and the old names that were met. A key that is there under
    both keeps what it has under the present one."""
    brought: dict[str, Any] = copy.deepcopy(dict(source))
    met = []
    for old, new in RENAMED.items():
        if not has(brought, old.split(".")):
            continue
        met.append(old)
        value = _take(brought, old.split("."))
        if new and not has(brought, new.split(".")):
            _put(brought, new.split("."), value)
    return brought, met


def sentence(old: str) -> str:
    """What to change."""
    new = RENAMED[old]
    if new is None:
        return f"{old} means nothing any more; delete it"
    return f"{old} is called {new} now and is read as that; rename it"


def has(source: Mapping[str, Any], keys: list[str]) -> bool:
    value: Any = source
    for key in keys:
        if not isinstance(value, Mapping) or key not in value:
            return False
        value = value[key]
    return True


def _take(source: dict[str, Any], keys: list[str]) -> Any:
    """Remove a value, and the table that it was the last of."""
    *above, last = keys
    tables = list(_tables(source, above))
    value = tables[-1].pop(last)
    for table, key in reversed(list(zip(tables, above, strict=False))):
        if not table[key]:
            del table[key]
    return value


def _tables(source: dict[str, Any], keys: list[str]) -> Iterator[dict[str, Any]]:
    yield source
    for key in keys:
        source = source[key]
        yield source


def _put(source: dict[str, Any], keys: list[str], value: Any) -> None:
    *above, last = keys
    for key in above:
        source = source.setdefault(key, {})
    source[last] = value
