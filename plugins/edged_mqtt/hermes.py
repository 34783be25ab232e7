"""Messages of the Hermes protocol, as Rhasspy's services understand them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

CAPTURED = "hermes/asr/textCaptured"
ERROR = "hermes/error/asr"


def captured(final: Mapping[str, Any], site: str) -> dict[str, Any]:
    """A final as `textCaptured`; times count from the start of the utterance."""
    return {
        "text": final["text"],
        "likelihood": final["confidence"],
        "seconds": round(final["end"] - final["start"], 3),
        "siteId": site,
        "sessionId": None,
        "asrTokens": [list(_tokens(final["text"], final.get("words") or (), final["start"]))],
    }


def _tokens(
    text: str, words: Iterable[Mapping[str, Any]], start: float
) -> Iterator[dict[str, Any]]:
    """Each word with its place in the text, in characters, and in time, in seconds."""
    place = 0
    for word in words:
        found = text.find(word["word"], place)
        place = found if found >= 0 else place
        end = place + len(word["word"])
        yield {
            "value": word["word"],
            "confidence": word["confidence"],
            "rangeStart": place,
            "rangeEnd": end,
            "time": {
                "start": round(word["start"] - start, 3),
                "end": round(word["end"] - start, 3),
            },
        }
        place = min(end, len(text))


def error(what: str, context: str, site: str) -> dict[str, Any]:
    """Something that keeps speech from being heard."""
    return {"error": what, "context": context, "siteId": site, "sessionId": None}
