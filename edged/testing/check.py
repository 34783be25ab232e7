"""A check: a name, a sentence about what must hold, and a function that raises when it does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from edged.errors import EdgedError


class Result(msgspec.Struct, frozen=True):
    """What came of one check."""

    subject: str
    """The plugin, provider, recogniser ... that was checked, with its device where it has one"""
    name: str
    sentence: str
    """What must hold"""
    passed: bool
    reason: str | None = None
    """Why it does not"""

    def __str__(self) -> str:
        return f"{self.subject}: {self.name}"


class BrokenContractError(Exception):
    """What must hold does not."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold for a subject of a kind."""

    name: str
    sentence: str
    function: Callable[[Any], None]

    def result(self, subject: str, passed: bool, reason: str | None = None) -> Result:
        return Result(subject, self.name, self.sentence, passed, reason)

    def run(self, subject: str, thing: Any) -> Result:
        """Try it in this process."""
        try:
            self.function(thing)
        except BrokenContractError as error:
            return self.result(subject, False, str(error))
        except EdgedError as error:
            return self.result(subject, False, error.message)
        except Exception as error:  # noqa: BLE001  a stranger's code
            return self.result(subject, False, f"it raised {error!r}")
        return self.result(subject, True)


def named(function: Callable[[Any], None]) -> Check:
    """A check from a function: its name, and the first sentence of its docstring."""
    sentence = " ".join((function.__doc__ or "").split()).rstrip(".")
    return Check(function.__name__, sentence, function)


def require(holds: object, reason: str) -> None:
    """Raise BrokenContractError with the reason unless it holds."""
    if not holds:
        raise BrokenContractError(reason)


@contextmanager
def must_raise(kind: type[Exception], what: str) -> Iterator[None]:
    """Raise BrokenContractError unless the block raises this kind of error, and no other."""
    try:
        yield
    except kind:
        return
    except Exception as error:
        raise BrokenContractError(f"{what} raised {error!r}, not {kind.__name__}") from error
    raise BrokenContractError(f"{what} raised nothing; it must raise {kind.__name__}")
