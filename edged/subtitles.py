"""Finals as plain text, SubRip and WebVTT."""

from __future__ import annotations

from collections.abc import Sequence

from edged.messages import Final


def plain(finals: Sequence[Final]) -> str:
    """All text on one line."""
    return " ".join(final.text for final in finals if final.text)


def srt(finals: Sequence[Final]) -> str:
    """SubRip: one numbered cue an utterance."""
    cues = [
        f"{number}\n{_clock(f.start, ',')} --> {_clock(f.end, ',')}\n{f.text}\n"
        for number, f in enumerate((f for f in finals if f.text), 1)
    ]
    return "\n".join(cues)


def vtt(finals: Sequence[Final]) -> str:
    """WebVTT: one cue an utterance."""
    cues = [
        f"{_clock(f.start, '.')} --> {_clock(f.end, '.')}\n{f.text}\n" for f in finals if f.text
    ]
    return "\n".join(["WEBVTT\n", *cues])


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    whole, thousandths = divmod(rest, 1000)
    return f"{hours:02}:{minutes:02}:{whole:02}{point}{thousandths:03}"
