"""The language of what runs, and whether it is the one that a client names."""

from __future__ import annotations

from collections.abc import Sequence

from edged.api.problems import FieldError
from edged.daemon import Daemon
from edged.errors import ModelError

NAMES = {
    "ar": "arabic",
    "de": "german",
    "en": "english",
    "es": "spanish",
    "fr": "french",
    "ja": "japanese",
    "ko": "korean",
    "ru": "russian",
    "uk": "ukrainian",
    "vi": "vietnamese",
    "zh": "chinese",
}
"""Of ISO 639-1, as OpenAI's answers name them"""


def model_language(daemon: Daemon) -> str:
    """What the engine's model speaks, in ISO 639-1."""
    state = daemon.supervisor.state
    rung = state.effective or state.requested
    try:
        return daemon.models.get(rung.model).language if rung else "en"
    except ModelError:
        return "en"


def check_language(wanted: Sequence[str], spoken: str, param: str = "language") -> None:
    """Raise FieldError unless one of the wanted is spoken, or none is named."""
    known = {spoken, NAMES.get(spoken, spoken)}
    if any(language.lower().partition("-")[0] in known for language in wanted if language):
        return
    if any(wanted):
        raise FieldError(
            f"The model speaks {NAMES.get(spoken, spoken).title()}; "
            f"language {wanted[0][:40]!r} needs another model",
            code="language_not_supported",
            param=param,
        )
