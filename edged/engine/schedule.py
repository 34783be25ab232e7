"""Whose turn it is: the order in which the streams of a worker are recognised.

Finals come before partials, the oldest first. Audio counts from when it came, but never as older
than it would be had it come at the pace of time: a client that sends an hour at once asks for what
lies ahead of its time, and that waits until nobody's is due (the virtual clock of L. Zhang, "A New
Traffic Control Algorithm for Packet Switching Networks", SIGCOMM 1990).

Partials share out what is left: the more speak at once, the longer each waits for its next one.
No final is ever left out.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator

from edged.audio.ring import AudioRing
from edged.engine.pipeline import Pipeline
from edged.messages import Heard, Report, Working
from edged.recognizer import SAMPLE_RATE

TURN = 2 * SAMPLE_RATE
"""Samples of a backlog that one stream goes through before the others get their turn"""
FIRST_PARTIAL = 0.08
"""Seconds of new audio between partials until the first word is shown"""
PARTIAL_GROWTH = 0.12
"""The same, as a share of the utterance's length: a long text needs fewer updates, and each costs
more"""
PARTIAL_SHARE = 0.4
"""Largest share of the time that partials of one stream may take"""
BEHIND = SAMPLE_RATE
"""Lag in samples from which partials are left out"""


class Served:
    """A stream on this worker."""

    def __init__(
        self, ring: AudioRing, pipeline: Pipeline, *, partials: bool, live: bool, interval: float
    ) -> None:
        """`interval` is the wished time between partials, in seconds."""
        self.ring = ring
        self.pipeline = pipeline
        self.written = pipeline.position
        self.live = live
        self.wanted: Working | None = None
        """What it waits to have recognised"""
        self.due = 0.0
        """When that was first wanted, by the virtual clock, in seconds"""
        self.at_work = False
        """Whether a lane is recognising it: nobody else may let its pipeline go on"""
        self.closed = False
        self.shown = False
        """Whether its last partial had any text"""
        self.took = 0.0
        """Seconds that what was last recognised took"""
        self.cost = 0.0
        """Seconds that its last partial took"""
        self._partials = partials
        self._interval = interval
        self._reports: Iterator[Report] | None = None
        """Where it is on its way"""
        self._first = pipeline.position
        self._opened = time.monotonic()

    @property
    def behind(self) -> int:
        return self.written - self.pipeline.position

    @property
    def can_go_on(self) -> bool:
        """Whether there is something to listen to, and nothing in its way."""
        if self.at_work or self.wanted:
            return False
        return self._reports is not None or self.pipeline.can_go_on(self.written)

    def go_on(self) -> Iterator[Report]:
        """Listen on until something is to be recognised; what happens on the way."""
        if self._reports is None:
            until = min(self.written, self.pipeline.position + TURN)
            self._reports = self.pipeline.advance(until)
        yield from self._follow(self._reports)

    def begin_partial(self) -> None:
        """Ask for a partial. It must not be on its way."""
        self.shown = False
        self._reports = self.pipeline.partial()
        for _ in self._follow(self._reports):
            pass  # nothing comes before it

    def _follow(self, reports: Iterator[Report]) -> Iterator[Report]:
        for report in reports:
            if isinstance(report, Working):
                self.wanted = report
                ahead = (report.end - self._first) / SAMPLE_RATE
                self.due = max(time.monotonic(), self._opened + ahead)
                return
            if isinstance(report, Heard):
                self.shown = True
                if not self._partials:
                    continue
            yield report
        self._reports = None

    def recognise(self) -> None:
        """Do what is wanted, as far as `Worked`; for a lane. `go_on` tells what comes of it."""
        assert self._reports is not None
        started = time.monotonic()
        next(self._reports)
        self.took = time.monotonic() - started

    def recognised(self) -> None:
        """The lane is done with it."""
        assert self.wanted is not None
        if not self.wanted.final:
            self.cost = self.took
        self.wanted, self.at_work = None, False
        if self.closed:
            self.ring.close()

    def close(self) -> None:
        """Let the ring go, now or when a lane has read it."""
        self.closed = True
        if not self.at_work:
            self.ring.close()

    def overdue(self, speakers: int, pace: float) -> float:
        """How much later than wished the next partial is, in seconds; negative: not yet due."""
        if not self._grows or self.behind > BEHIND:
            return -1.0
        return self.pipeline.unheard / SAMPLE_RATE - self._wished(speakers, pace)

    def next_news(self, speakers: int, pace: float) -> int:
        """Samples that must have come before anything is to be done with the open utterance."""
        turn = self.pipeline.next_turn
        if not self._grows:
            return turn
        wished = round(self._wished(speakers, pace) * SAMPLE_RATE)
        ahead = wished - self.pipeline.unheard
        return min(turn, self.pipeline.judged_by(ahead if ahead > 0 else wished))

    @property
    def _grows(self) -> bool:
        """Whether another partial may be wanted, and does not stand in the way of a final."""
        if not (self._partials and self.pipeline.speaking):
            return False
        if not self.pipeline.falling_silent:
            return True
        ahead = (self.pipeline.next_turn - self.pipeline.position) / SAMPLE_RATE
        return 0 < 2 * self.cost <= ahead

    def _wished(self, speakers: int, pace: float) -> float:
        """Seconds of new audio between partials."""
        interval = self._interval if self.shown else FIRST_PARTIAL
        growth = self.pipeline.spoken / SAMPLE_RATE * PARTIAL_GROWTH
        return max(interval, growth, self.cost / PARTIAL_SHARE) * speakers * pace


def speaking(streams: Collection[Served]) -> int:
    """How many speak just now."""
    return sum(stream.pipeline.speaking for stream in streams)


def next_final(streams: Collection[Served], now: float) -> Served | None:
    """The stream whose final is wanted for longest, if that is due by now."""
    waiting = [s for s in streams if s.wanted and s.wanted.final and not s.at_work]
    first = min(waiting, key=lambda stream: stream.due, default=None)
    return first if first is not None and first.due <= now else None


def next_partial(streams: Collection[Served], pace: float) -> Served | None:
    """The stream whose partial is most overdue, if one is."""
    speakers = speaking(streams)
    free = [stream for stream in streams if not (stream.at_work or stream.wanted)]
    overdue = [(stream.overdue(speakers, pace), stream) for stream in free]
    late, stream = max(overdue, key=lambda pair: pair[0], default=(-1.0, None))
    return stream if late >= 0 else None
