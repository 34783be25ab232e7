"""What a replay has shown, for people: as a diff, since texts are long."""

from __future__ import annotations

from collections.abc import Iterator

from edged.replay import Difference, Result


def lines(result: Result) -> Iterator[str]:
    for warning in result.warnings:
        yield f"Note: {warning}."
    for difference in result.differences:
        yield from _difference(difference)
    yield _summary(result)


def _difference(one: Difference) -> Iterator[str]:
    yield f"{one.moment}  {one.stream} at {one.start:.3f} s: {one.what}"
    if one.what != "new":
        yield f"  - {one.recorded}"
    if one.what != "missing":
        yield f"  + {one.replayed}"


def _summary(result: Result) -> str:
    text = f"{result.utterances} utterances in {result.seconds:.0f} s of audio: "
    if result.differences:
        text += f"{len(result.differences)} differences."
    else:
        text += "the same texts and endpoints as recorded."
    if result.unheard:
        text += f" {result.unheard} more cannot be heard again: not all of their audio is there."
    return text
