"""One stream's way from samples to text: detector, endpointer, recogniser.

Sans-I/O: no clock, no thread, no socket. What ends an utterance depends on samples alone, so a
replay from `resume` writes the same finals. Only the partials depend on when one asks for them.

Between `Working` and `Worked` nothing is used but the recogniser and the audio, so that another
thread may do that part.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence

import numpy as np

from edged.engine.endpointer import Endpointer, Endpointing, Turn
from edged.engine.guard import is_speech
from edged.engine.stabilizer import Stabilizer
from edged.messages import (
    Began,
    Guessed,
    Heard,
    Judged,
    Mark,
    Passed,
    Report,
    Said,
    SpokenToken,
    SpokenWord,
    Worked,
    Working,
)
from edged.recognizer import SAMPLE_RATE, Decoding, Hypothesis, Recognizer, VoiceDetector

View = Callable[[int, int], np.ndarray]
"""Samples of the stream by position, in place"""

IDLE_RESTART = 10 * SAMPLE_RATE
"""Silence after which the detector begins anew, in samples: where a replay would begin"""
AHEAD = 8
"""The most windows that are judged in one go"""
JUDGED_AT_ONCE = 8
"""Windows that are reported together in a trace"""
SILENCE = 1e-4
"""A window whose samples all lie below this (-80 dBFS) needs no detector"""


class _Utterance:
    """The open utterance."""

    def __init__(self, decoding: Decoding) -> None:
        self.decoding = decoding
        self.stabilizer = Stabilizer()
        self.heard = 0
        """End of the audio that the last partial heard"""
        self.guess: Hypothesis | None = None
        """The final, if the speaker is done"""
        self.probabilities: list[float] = []
        """The detector's, window by window since the onset"""


class Pipeline:
    """Recognises one stream."""

    def __init__(
        self,
        stream: int,
        view: View,
        detector: VoiceDetector,
        recognizer: Recognizer,
        position: int = 0,
        floor: int = 0,
        words: bool = False,
        rules: Endpointing | None = None,
        tokens: bool = False,
        trace: bool = False,
    ) -> None:
        self._stream = stream
        self._view = view
        self._detector = detector
        self._recognizer = recognizer
        self._words = words
        self._tokens = tokens
        self._trace = trace
        self._judged: list[float] = []
        """Probabilities not yet reported"""
        self._rules = rules or Endpointing()
        self._endpointer = Endpointer(self._rules, detector.window, position, floor)
        self._detector_state: object | None = None
        self._ahead: deque[tuple[float, object | None]] = deque()
        """What the detector says of the windows from `position` on, and its state after each"""
        self._checkpoint = position
        self._marks: deque[Mark] = deque()
        self._utterance: _Utterance | None = None

    @property
    def position(self) -> int:
        """Samples before this one have been judged."""
        return self._endpointer.position

    def can_go_on(self, written: int) -> bool:
        """Whether there is a window to judge or a mark to reach."""
        if self._marks and self._marks[0].start <= written:
            return True
        return written - self.position >= self._detector.window

    @property
    def speaking(self) -> bool:
        return self._utterance is not None

    @property
    def spoken(self) -> int:
        """Length of the open utterance, in samples; 0 while nobody speaks."""
        return self.position - self._endpointer.start if self._utterance else 0

    @property
    def falling_silent(self) -> bool:
        """Whether the final may be wanted in a moment, so that nothing long should begin now."""
        return self._utterance is not None and self.position > self._endpointer.speech_end

    @property
    def next_turn(self) -> int:
        """The open utterance goes on at least until there are so many samples."""
        return self._endpointer.next_turn

    def judged_by(self, samples: int) -> int:
        """How far there must be samples before so many more have been judged, window by window."""
        window = self._detector.window
        return self.position + -(-samples // window) * window

    @property
    def unheard(self) -> int:
        """Samples of speech that no partial has heard yet: silence alone changes no text."""
        if self._utterance is None:
            return 0
        heard = max(self._utterance.heard, self._endpointer.start)
        return max(0, self._endpointer.speech_end - heard)

    def mark(self, mark: Mark) -> None:
        """Finish the open utterance at a place that may still lie ahead."""
        self._marks.append(mark)

    def advance(self, written: int) -> Iterator[Report]:
        """Go on as far as there are samples; yields what happens as it happens."""
        while True:
            limit = min(written, self._marks[0].start) if self._marks else written
            if self.position + self._detector.window <= limit:
                yield from self._window(limit)
            elif self._marks and written >= self._marks[0].start:
                yield from self._reach(self._marks.popleft())
            else:
                yield from self._foresee()
                return

    def _foresee(self) -> Iterator[Report]:
        """Compute the final of a speaker who has paused and may be done, unless it is there. Only
        when all samples are judged: where more are there already, he may go on in them."""
        if self._utterance and self._utterance.guess is None and self._endpointer.paused:
            yield from self._guess()

    def partial(self) -> Iterator[Report]:
        """Recognise the open utterance so far, if there is one."""
        if self._utterance is None:
            return
        start, end = self._endpointer.start, self.position
        yield Working(self._stream, start, end, final=False)
        hypothesis = self._utterance.decoding.advance(self._view(start, end))
        yield Worked(self._stream)
        yield from self._guessed(hypothesis, end, final=False)
        yield from self._hear(hypothesis, end)

    def _hear(self, hypothesis: Hypothesis, end: int) -> Iterator[Report]:
        assert self._utterance is not None
        self._utterance.heard = end
        text, stable = self._utterance.stabilizer.update(hypothesis)
        if text:
            yield Heard(self._stream, self._endpointer.start, end, text, stable)

    def _guessed(self, hypothesis: Hypothesis, end: int, final: bool) -> Iterator[Report]:
        if self._trace:
            yield Guessed(
                self._stream,
                self._endpointer.start,
                end,
                hypothesis.text,
                round(hypothesis.confidence, 4),
                hypothesis.finished,
                final,
            )

    def _judge(self, probability: float) -> Iterator[Report]:
        """Report what was judged, some windows at a time; the last one is not yet counted."""
        self._judged.append(round(probability, 4))
        if len(self._judged) >= JUDGED_AT_ONCE:
            yield self._tell_judged(self.position + self._detector.window)

    def _judge_rest(self) -> Iterator[Report]:
        """The same, before the next window is another than that which follows."""
        if self._judged:
            yield self._tell_judged(self.position)

    def _tell_judged(self, end: int) -> Judged:
        judged, self._judged = self._judged, []
        return Judged(self._stream, end - len(judged) * self._detector.window, end, judged)

    def _window(self, limit: int) -> Iterator[Report]:
        """Judge the next window; there are samples up to `limit`."""
        if not self._ahead:
            self._ahead.extend(self._look_ahead(limit))
        probability, self._detector_state = self._ahead.popleft()
        if self._trace:
            yield from self._judge(probability)
        turn = self._endpointer.feed(probability)
        if turn is Turn.BEGAN:
            self._utterance = _Utterance(self._recognizer.start())
            yield Began(self._stream, self._endpointer.start)
        if self._utterance is not None:
            self._utterance.probabilities.append(probability)
            yield from self._turn(turn)
        elif self._endpointer.quiet and self.position - self._checkpoint >= IDLE_RESTART:
            yield self._restart(self.position, max(self._endpointer.floor, self._rest()))

    def _rest(self) -> int:
        """What a next utterance might still want of the silence behind."""
        return self.position - self._rules.preroll

    def _look_ahead(self, limit: int) -> Sequence[tuple[float, object | None]]:
        """The next windows as far as none is silent, that one alone if it is the first, and as far
        as the detector surely goes on from one to the next."""
        first, size, context = self.position, self._detector.window, self._detector.context
        ends = self.next_turn if self.speaking else self._checkpoint + IDLE_RESTART
        count = min(AHEAD, (limit - first) // size, max(1, (ends - first) // size))
        samples = self._view(first - context, first + count * size)
        loud = 0
        while loud < count and _is_loud(samples[loud * size : (loud + 1) * size + context]):
            loud += 1
        if not loud:
            return [(0.0, self._detector_state)]
        return self._detector.probabilities(samples[: context + loud * size], self._detector_state)

    def _turn(self, turn: Turn) -> Iterator[Report]:
        assert self._utterance is not None
        if turn is Turn.NOTHING and self._endpointer.speech_end == self.position:
            self._utterance.guess = None
        elif turn is Turn.EARLY:
            yield from self._foresee()
            if self._utterance.guess and self._utterance.guess.finished:
                yield self._finish(self.position, self.position, "early")
        elif turn is Turn.LATE:
            yield from self._foresee()
            yield self._finish(self.position, self.position, "late")
        elif turn is Turn.LIMIT:
            yield from self._cut()

    def _guess(self, latest: int | None = None) -> Iterator[Report]:
        """Compute the final as if the speaker were done; it doubles as a partial."""
        assert self._utterance is not None
        start = self._endpointer.start
        end = self._endpointer.end_of(self.position if latest is None else latest)
        self._utterance.guess = guess = yield from self._decode(start, end)
        yield from self._guessed(guess, end, final=True)
        yield from self._hear(guess, end)

    def _decode(self, start: int, end: int) -> Generator[Report, None, Hypothesis]:
        assert self._utterance is not None
        yield Working(self._stream, start, end, final=True)
        hypothesis = self._utterance.decoding.finish(self._view(start, end), self._words)
        yield Worked(self._stream)
        return hypothesis

    def _reach(self, mark: Mark) -> Iterator[Report]:
        yield from self._judge_rest()
        if self._utterance is not None:
            if self._utterance.guess is None:
                yield from self._guess(mark.start)
            yield self._finish(mark.start, mark.end, "mark")
        position = max(mark.end, self.position)
        yield self._restart(position, position)

    def _cut(self) -> Iterator[Report]:
        """End a long utterance at its quietest place; the next one begins there."""
        assert self._utterance is not None
        yield from self._judge_rest()
        start = self._endpointer.start
        cut = self._quietest()
        self._utterance.guess = guess = yield from self._decode(start, cut)
        yield from self._guessed(guess, cut, final=True)
        yield self._finish(cut, cut, "limit", end=cut)

    def _quietest(self) -> int:
        """The middle of the window, within reach of the limit, that is least like speech."""
        assert self._utterance is not None
        count = self._rules.cut_window // self._detector.window
        recent = np.array(self._utterance.probabilities[-count:])
        smooth = np.convolve(np.pad(recent, 1, mode="edge"), np.ones(3) / 3, mode="valid")
        behind = len(recent) - int(np.argmin(smooth))
        return self.position - behind * self._detector.window + self._detector.window // 2

    def _finish(self, decided: int, resume: int, reason: str, end: int | None = None) -> Said:
        """Close the open utterance with its guess, and begin anew at `resume`."""
        utterance, self._utterance = self._utterance, None
        assert utterance is not None
        assert utterance.guess is not None
        start = self._endpointer.start
        end = self._endpointer.end_of(decided) if end is None else end
        speech_end = min(self._endpointer.speech_end, end)
        spoken = is_speech(utterance.guess, self._endpointer.evidence)
        guess = utterance.guess if spoken else Hypothesis("")
        self._restart(resume, min(end, resume))
        return Said(
            stream=self._stream,
            start=start,
            end=end,
            speech_end=speech_end,
            decided=decided,
            text=guess.text,
            confidence=guess.confidence,
            resume=resume,
            degenerate=guess.degenerate,
            words=[
                SpokenWord(w.text, start + w.start, start + w.end, w.confidence)
                for w in guess.words
            ],
            tokens=[SpokenToken(t.number, t.data, t.log_probability) for t in guess.tokens]
            if self._tokens
            else [],
            reason=reason,
        )

    def _restart(self, position: int, floor: int) -> Passed:
        self._endpointer.restart(position, floor)
        self._detector_state = None
        self._ahead.clear()
        self._checkpoint = position
        return Passed(self._stream, position, floor)


def _is_loud(window: np.ndarray) -> bool:
    return bool(window.max() >= SILENCE or window.min() <= -SILENCE)
