"""pocketsphinx: its endpointer and decoder with the model it brings, as in its examples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import wire
from pocketsphinx import Config, Decoder, Endpointer, get_model_path

MODEL = Path(get_model_path("en-us"))


class Listener:
    def __init__(self, decoder: Decoder, voice: wire.Voice, spare: list[Decoder]) -> None:
        self._decoder = decoder
        self._spare = spare
        self._voice = voice
        self._endpointer = Endpointer(sample_rate=wire.RATE)
        self._rest = b""
        self._shown = ""

    def hear(self, samples: np.ndarray) -> None:
        self._rest += _pcm(samples)
        length = self._endpointer.frame_bytes
        while len(self._rest) >= length:
            spoken = self._endpointer.in_speech
            self._take(self._endpointer.process(self._rest[:length]), spoken)
            self._rest = self._rest[length:]
        if self._endpointer.in_speech:
            self._partial()

    def finish(self) -> None:
        if self._endpointer.in_speech:
            self._take(self._endpointer.end_stream(self._rest), spoken=True)
        self._spare.append(self._decoder)

    def _take(self, speech: bytes | None, spoken: bool) -> None:
        if speech is None:
            return
        if not spoken:
            self._decoder.start_utt()
        self._decoder.process_raw(speech)
        if not self._endpointer.in_speech:
            self._final()

    def _partial(self) -> None:
        text, start = _text(self._decoder), self._endpointer.speech_start
        if text not in {"", self._shown}:
            self._shown = text
            self._voice.partial(text, start, start + self._decoder.n_frames() / 100)

    def _final(self) -> None:
        self._decoder.end_utt()
        place = (self._endpointer.speech_start, self._endpointer.speech_end)
        self._voice.final(_text(self._decoder), *place)
        self._shown = ""


def _pcm(samples: np.ndarray) -> bytes:
    return bytes((samples * 32768).astype("<i2").tobytes())


def _text(decoder: Decoder) -> str:
    hypothesis = decoder.hyp()
    return hypothesis.hypstr if hypothesis else ""


def main() -> None:
    options = wire.parser(__doc__).parse_args()  # it has one thread
    decoder = Decoder(Config())
    spare = [decoder]  # one has the state of one stream

    def listen(voice: wire.Voice) -> Listener:
        return Listener(spare.pop() if spare else Decoder(Config()), voice, spare)

    def transcribe(samples: np.ndarray) -> str:
        decoder.start_utt()
        decoder.process_raw(_pcm(samples), full_utt=True)
        decoder.end_utt()
        return _text(decoder)

    files = (path for path in MODEL.parent.rglob("en-us/*") if path.is_file())
    wire.serve(listen, transcribe, offline=options.offline, model=files)


if __name__ == "__main__":
    main()
