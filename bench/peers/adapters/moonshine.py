"""moonshine-voice: its streaming library, with the interval between updates that is its default.

Audio goes from a queue to the library in one call for all that waits, as its own microphone does.
It is asked for text alone: copies of the audio with every update would be charged to it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import wire
from moonshine_voice.transcriber import (
    LineCompleted,
    LineTextChanged,
    ModelArch,
    Transcriber,
    TranscriptEvent,
)


class Listener:
    def __init__(self, transcriber: Transcriber, voice: wire.Voice) -> None:
        self._voice = voice
        self._stream = transcriber.create_stream()
        self._stream.add_listener(self._take)
        self._stream.start()

    def hear(self, samples: np.ndarray) -> None:
        self._stream.add_audio(samples, wire.RATE)

    def finish(self) -> None:
        self._stream.stop()
        self._stream.close()

    def _take(self, event: TranscriptEvent) -> None:
        line = event.line
        place = (line.text, line.start_time, line.start_time + line.duration)
        if isinstance(event, LineCompleted):
            self._voice.final(*place)
        elif isinstance(event, LineTextChanged) and not line.is_complete:
            self._voice.partial(*place)


def main() -> None:
    parser = wire.parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder of tiny-en")
    options = parser.parse_args()  # it has no option for threads
    transcriber = Transcriber(options.model, ModelArch.TINY, options={"return_audio_data": "false"})

    def transcribe(samples: np.ndarray) -> str:
        heard = transcriber.transcribe_without_streaming(samples, wire.RATE)
        return " ".join(line.text for line in heard.lines)

    wire.serve(
        lambda voice: Listener(transcriber, voice),
        transcribe,
        offline=options.offline,
        model=options.model.iterdir(),
    )


if __name__ == "__main__":
    main()
