"""Telephone keys for edged: a recogniser and a detector of their tones."""

from pathlib import Path

from edged.hookspecs import hookimpl

MODEL = Path(__file__).parent / "model"
"""What `edged models add` wants"""


@hookimpl
def edged_recognizers():
    from edged_example_recognizer.tones import Keys

    return [Keys]


@hookimpl
def edged_voice_detectors():
    from edged_example_recognizer.tones import Tones

    return [Tones]
