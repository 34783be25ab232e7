"""The tokens of finals with their log-probabilities, as OpenAI's answers have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edged.messages import Final


def logprobs(finals: Sequence[Final], separator: str = "") -> list[dict[str, Any]]:
    """The tokens of the text: their bytes in a row are `separator` and then all of it."""
    entries = []
    for final in finals:
        for token in final.tokens or ():
            data = separator.encode() + token.data
            separator = ""
            entries.append(
                {
                    "token": data.decode("utf-8", "replace"),
                    "logprob": round(token.log_probability, 6),
                    "bytes": list(data),
                }
            )
        separator = " "
    return entries
