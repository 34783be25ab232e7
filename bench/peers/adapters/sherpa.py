"""sherpa-onnx: a voice detector and a recogniser of whole segments, as its examples put them
together ("simulated streaming"): while somebody speaks the segment is recognised again and again.

One thread a recogniser, its default; the second gives nothing here. Several streams share one
recogniser and as many runs of it at once as there are cores, as in its server.
"""

from __future__ import annotations

import base64
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import sherpa_onnx
import wire

BEFORE_SPEECH = 10
"""Windows that are kept from before speech was detected"""
PARTIALS_SECONDS = 0.3
"""From partial to partial: 0.2 in the example, which looks every 0.1"""


class Listener:
    def __init__(
        self, recognizer: Recognizer, vad: sherpa_onnx.VoiceActivityDetector, voice: wire.Voice
    ) -> None:
        self._recognizer = recognizer
        self._vad = vad
        self._voice = voice
        self._window = vad.config.silero_vad.window_size
        self._rest = np.empty(0, np.float32)
        self._windows: list[np.ndarray] = []
        self._heard = 0
        self._shown: float | None = None
        """When the last partial was shown, or speech began; None while nobody speaks"""

    def hear(self, samples: np.ndarray) -> None:
        self._rest = np.concatenate([self._rest, samples])
        while len(self._rest) >= self._window:
            self._take(self._rest[: self._window])
            self._rest = self._rest[self._window :]
        self._finals()
        if self._shown is not None and time.monotonic() - self._shown >= PARTIALS_SECONDS:
            self._partial()

    def finish(self) -> None:
        self._vad.flush()
        self._finals()

    def _take(self, window: np.ndarray) -> None:
        self._vad.accept_waveform(window)
        self._heard += len(window)
        self._windows.append(window)
        if self._shown is None:
            del self._windows[:-BEFORE_SPEECH]
            if self._vad.is_speech_detected():
                self._shown = time.monotonic()

    def _partial(self) -> None:
        samples = np.concatenate(self._windows)
        text = self._recognizer.text(samples)
        if text:
            end = self._heard / wire.RATE
            self._voice.partial(text, end - len(samples) / wire.RATE, end)
        self._shown = time.monotonic()

    def _finals(self) -> None:
        while not self._vad.empty():
            segment = self._vad.front
            samples, start = np.array(segment.samples, np.float32), segment.start / wire.RATE
            self._vad.pop()
            text = self._recognizer.text(samples)
            self._voice.final(text, start, start + len(samples) / wire.RATE)
            self._windows.clear()
            self._shown = None


class Recognizer:
    """What all streams share."""

    def __init__(self, model: Path, threads: int) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as tokens:
            tokens.writelines(_tokens(model / "tokenizer.bin"))
            tokens.flush()
            self._recognizer = sherpa_onnx.OfflineRecognizer.from_moonshine_v2(
                encoder=str(model / "encoder_model.ort"),
                decoder=str(model / "decoder_model_merged.ort"),
                tokens=tokens.name,
                num_threads=threads,
            )
        self._turn = threading.Semaphore(wire.cores())

    def text(self, samples: np.ndarray) -> str:
        stream = self._recognizer.create_stream()
        stream.accept_waveform(wire.RATE, samples)
        with self._turn:
            self._recognizer.decode_stream(stream)
        return str(stream.result.text).strip()


def _tokens(tokenizer: Path) -> list[str]:
    """The lines of its tokens.txt: a token in base64, and its number."""
    data = tokenizer.read_bytes()
    tokens, place = [], 0
    while place < len(data):
        length = data[place]
        place += 1
        if length >= 128:
            length += data[place] * 128 - 128
            place += 1
        tokens.append(data[place : place + length] or b"?")  # an empty one is never written
        place += length
    return [f"{base64.b64encode(token).decode()}\t{n}\n" for n, token in enumerate(tokens)]


def detector(model: Path, endpoint: float) -> sherpa_onnx.VoiceActivityDetector:
    config = sherpa_onnx.VadModelConfig()
    config.silero_vad.model = str(model)
    config.silero_vad.min_silence_duration = endpoint
    config.sample_rate = wire.RATE
    return sherpa_onnx.VoiceActivityDetector(config, buffer_size_in_seconds=100)


def main() -> None:
    parser = wire.parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder of tiny-en")
    parser.add_argument("--vad", type=Path, required=True, help="silero_vad.onnx")
    parser.add_argument("--endpoint", type=float, default=0.5, help="seconds of silence (0.5)")
    options = parser.parse_args()
    recognizer = Recognizer(options.model, options.threads or 1)
    detector(options.vad, options.endpoint)  # a missing file is said before `ready`
    wire.serve(
        lambda voice: Listener(recognizer, detector(options.vad, options.endpoint), voice),
        recognizer.text,
        offline=options.offline,
        model=options.model.iterdir(),
    )


if __name__ == "__main__":
    main()
