"""The checks as a plugin's own test-suite for pytest."""

from __future__ import annotations

import functools
from collections.abc import Callable

from edged.testing import apart
from edged.testing.check import Result
from edged.testing.plan import Wish


@functools.cache
def results(wish: Wish) -> tuple[Result, ...]:
    """Every check of a name, tried once a session in processes that may be lost."""
    return tuple(apart.run(wish))


def keeps_contract(
    name: str, *, model: str | None = None, device: str | None = None
) -> Callable[[], None]:
    """A test that fails with all the checks that failed, and their reasons. In a plugin's tests:

    test_contract = keeps_contract("mine")
    """
    wish = Wish(name, model, device)

    def test_contract() -> None:
        broken = [result for result in results(wish) if not result.passed]
        assert not broken, "\n".join(f"{r}: {r.sentence}. But: {r.reason}" for r in broken)

    return test_contract
