"""From speech probabilities to the beginnings and ends of utterances, counted in samples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto

from edged.engine.guard import Evidence
from edged.messages import Turns
from edged.recognizer import SAMPLE_RATE


def _samples(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE)


@dataclass(frozen=True, slots=True)
class Endpointing:
    """When an utterance begins and when it is over. Times in samples."""

    onset: float = 0.5
    """Probability from which a window may begin an utterance"""
    onset_windows: int = 2
    """So many in a row do"""
    offset: float = 0.2
    """Probability below which a window of an utterance is silence"""
    preroll: int = _samples(0.3)
    """Audio before the onset that belongs to the utterance: soft beginnings"""
    tail: int = 5 * 512
    """Audio after the speech that belongs to it; when it is there, the final is computed"""
    early: int = 9 * 512
    """Silence that ends an utterance whose text reads as finished"""
    late: int = 13 * 512
    """Silence that ends any utterance"""
    long: int = _samples(12.0)
    """Length from which the early silence ends it, finished or not"""
    limit: int = _samples(20.0)
    """Length at which it is cut"""
    cut_window: int = _samples(4.0)
    """How far back from the limit the cut may lie"""


SHORTEST_SILENCE, LONGEST_SILENCE = 2 * 512, _samples(10.0)
"""That may end an utterance: one window for its tail, and one more to be sure"""
LONGEST_PREROLL = _samples(5.0)


def rules(turns: Turns | None) -> Endpointing:
    """The engine's rules, with what a client wants else as far as it can be."""
    usual = Endpointing()
    if turns is None:
        return usual
    late = _within(turns.late, usual.late, SHORTEST_SILENCE, LONGEST_SILENCE)
    return replace(
        usual,
        onset=usual.onset if turns.onset is None else turns.onset,
        offset=min(usual.offset, usual.onset if turns.onset is None else turns.onset),
        preroll=_within(turns.preroll, usual.preroll, 0, LONGEST_PREROLL),
        tail=min(usual.tail, late - 512),
        early=_within(turns.early, usual.early, SHORTEST_SILENCE, late),
        late=late,
    )


def _within(wanted: int | None, usual: int, least: int, most: int) -> int:
    return min(max(usual if wanted is None else wanted, least), most)


class Turn(Enum):
    """What a window changed."""

    NOTHING = auto()
    BEGAN = auto()
    PAUSED = auto()
    """The tail is complete: a final could be computed now"""
    EARLY = auto()
    """Over, if the text reads as finished"""
    LATE = auto()
    """Over"""
    LIMIT = auto()
    """Too long: to be cut"""


class Endpointer:
    """Follows one stream. Pure: the same probabilities give the same turns."""

    def __init__(self, rules: Endpointing, window: int, position: int, floor: int) -> None:
        self._rules = rules
        self._window = window
        self.position = position
        """End of the last window judged"""
        self.floor = floor
        """The first sample that the next utterance may use"""
        self.speaking = False
        self.start = position
        """First sample of the open utterance"""
        self.speech_end = position
        """After its last window of speech"""
        self.evidence = Evidence()
        """What was heard from its onset to its last window of speech"""
        self._onset_run = 0
        self._unsettled: list[float] = []
        """Probabilities since the last window of speech, or of an onset not yet sure"""
        self._passed = Turn.NOTHING

    @property
    def quiet(self) -> bool:
        """Whether nothing has begun, nor is about to."""
        return not self.speaking and self._onset_run == 0

    def feed(self, probability: float) -> Turn:
        """Judge the next window."""
        self.position += self._window
        return self._follow(probability) if self.speaking else self._wait(probability)

    def _wait(self, probability: float) -> Turn:
        if not probability >= self._rules.onset:  # not a number is no speech
            self._onset_run = 0
            self._unsettled.clear()
            return Turn.NOTHING
        self._onset_run += 1
        self._unsettled.append(probability)
        if self._onset_run < self._rules.onset_windows:
            return Turn.NOTHING
        onset = self.position - self._onset_run * self._window
        self.speaking = True
        self.start = max(self.floor, onset - self._rules.preroll)
        self._speak()
        return Turn.BEGAN

    def _speak(self) -> None:
        """The window just judged was speech."""
        self.speech_end = self.position
        for probability in self._unsettled:
            self.evidence.add(probability)
        self._unsettled.clear()
        self._passed = Turn.NOTHING

    def _follow(self, probability: float) -> Turn:
        if self.position - self.start >= self._rules.limit:
            return Turn.LIMIT
        self._unsettled.append(probability)
        if probability >= self._rules.offset:
            self._speak()
            return Turn.NOTHING
        return self._count_silence(self.position - self.speech_end)

    def _count_silence(self, silence: int) -> Turn:
        """The step that this much silence has just reached, each step once."""
        if silence >= self._rules.late:
            return Turn.LATE
        if silence >= self._rules.early and self._passed is Turn.PAUSED:
            self._passed = Turn.EARLY
            is_long = self.speech_end - self.start >= self._rules.long
            return Turn.LATE if is_long else Turn.EARLY
        if silence >= self._rules.tail and self._passed is Turn.NOTHING:
            self._passed = Turn.PAUSED
            return Turn.PAUSED
        return Turn.NOTHING

    @property
    def paused(self) -> bool:
        """Whether the open utterance's tail is complete."""
        return self.speaking and self._passed is not Turn.NOTHING

    @property
    def next_turn(self) -> int:
        """The open utterance goes on at least until so many samples have been judged."""
        silence = self.position - self.speech_end
        steps = (self._rules.tail, self._rules.early, self._rules.late)
        ahead = min(step for step in steps if step > silence)
        return min(self.speech_end + ahead, self.start + self._rules.limit)

    def end_of(self, latest: int) -> int:
        """Where the open utterance's audio ends: after its tail, at `latest` at the latest."""
        return min(latest, self.speech_end + self._rules.tail)

    def restart(self, position: int, floor: int) -> None:
        """Go on at `position` as if nothing had been heard; what is before `floor` is used up."""
        self.position = position
        self.floor = floor
        self.speaking = False
        self.evidence = Evidence()
        self._unsettled.clear()
        self._onset_run = 0
