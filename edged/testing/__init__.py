"""Checks that a plugin keeps the contracts it implements: for `edged conformance`, for a plugin's
own test-suite, and to be called without either.

    from edged.testing import keeps_contract

    test_contract = keeps_contract("mine")

`conformance("mine")` yields the results instead.
"""

from __future__ import annotations

from collections.abc import Iterator

from edged.testing import apart
from edged.testing.check import Result
from edged.testing.plan import Wish
from edged.testing.suite import keeps_contract

__all__ = ["Result", "conformance", "keeps_contract"]


def conformance(
    name: str, *, model: str | None = None, device: str | None = None
) -> Iterator[Result]:
    """Check a plugin, or what one supplies, by its name; yields what came of each check."""
    return apart.run(Wish(name, model, device))
