"""Finals as plain text, SubRip and WebVTT."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from edged.messages import Final


def plain(finals: Sequence[Final]) -> str:
    """All text on one line."""
    return " ".join(final.text for final in finals if final.text)


def srt(finals: Iterable[Final]) -> str:
    """SubRip: one numbered cue an utterance."""
    return "\n".join(srt_cues(finals))


def vtt(finals: Iterable[Final]) -> str:
    """WebVTT: one cue an utterance."""
    return "\n".join(vtt_cues(finals))


def srt_cues(finals: Iterable[Final]) -> Iterator[str]:
    """SubRip piece by piece, to be joined by a line's end."""
    for number, final in enumerate((f for f in finals if f.text), 1):
        yield f"{number}\n{_span(final, ',')}\n{final.text}\n"


def vtt_cues(finals: Iterable[Final]) -> Iterator[str]:
    """WebVTT, likewise."""
    yield "WEBVTT\n"
    for final in finals:
        if final.text:
            yield f"{_span(final, '.')}\n{final.text}\n"


def _span(final: Final, point: str) -> str:
    return f"{_clock(final.start, point)} --> {_clock(final.end, point)}"


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    whole, thousandths = divmod(rest, 1000)
    return f"{hours:02}:{minutes:02}:{whole:02}{point}{thousandths:03}"
