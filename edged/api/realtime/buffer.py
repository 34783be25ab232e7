"""The input audio buffer: a stream of the engine's, whose utterances become items.

While the server detects turns, each utterance is an item. While it does not, nothing is an item
before the client commits: the engine recognises utterance by utterance as the audio comes, so that
at the commit only the last one is yet to be done, and the texts together are the item's. These are
the very finals that the same audio gets by every other protocol.
"""

from __future__ import annotations

import asyncio

import msgspec

from edged.api.intake import Intake
from edged.api.realtime.conversation import Conversation, Item
from edged.api.realtime.settings import LOGPROBS, PARTIALS, Settings
from edged.api.turns import turns
from edged.daemon import Daemon
from edged.errors import EngineError
from edged.messages import Event, Final, Gap, Partial, SpeechStarted

LOOK_SECONDS = 0.5
"""Between looks whether there still is an engine, while its text is waited for"""
LOST = {"skipped", "overrun"}
"""Reasons of gaps that the engine is to blame for"""


class Buffer(Intake):
    """From one commit or clear to the next."""

    def __init__(
        self, daemon: Daemon, settings: Settings, conversation: Conversation, began: float
    ) -> None:
        """`began` is where it lies in the session, in seconds. Raises AudioError."""
        self._settings = settings
        self._conversation = conversation
        self._began = began
        self._detects = settings.detection is not None
        self._item: Item | None = None
        """Of the utterance that has begun, or the one that the client committed"""
        self._committed = False
        self._finals: list[Final] = []
        """What the committed item will say"""
        self._unsure: tuple[Item, Final] | None = None
        """An item without text: the engine's fault, or none"""
        self._lost = False
        """Whether audio was given up by the engine"""
        self._boundary = 0.0
        """End of the last item, in seconds"""
        self._bytes = 0
        super().__init__(
            daemon,
            "openai",
            settings.layout,
            lambda _event: None,
            partials=self._detects,
            tokens=LOGPROBS in settings.include,
            turns=turns(settings.detection) if settings.detection else None,
        )

    # -- audio in -------------------------------------------------------------------------------

    @property
    def length(self) -> float:
        """Seconds of audio that came."""
        return self._bytes / self._bytes_per_second

    @property
    def pending(self) -> float:
        """Seconds of audio that belong to no item yet."""
        return self.length - self._boundary

    async def hear(self, data: bytes) -> None:
        self._bytes += len(data)
        await super().hear(data)

    # -- items ----------------------------------------------------------------------------------

    def commit(self) -> None:
        """What was heard and is no item is one now; `complete` follows."""
        self._settle()
        self._item = self._item or Item()
        self._committed = True
        self._conversation.commit(self._item)

    async def complete(self) -> None:
        """Recognise the rest, and tell the text of the committed item; then it is over."""
        finishing = asyncio.create_task(self.finish())
        try:
            problem = None
            while not finishing.done() and problem is None:
                await asyncio.wait({finishing}, timeout=LOOK_SECONDS)
                problem = self._daemon.supervisor.problem
            if finishing.done():
                finishing.result()
                problem = None
        except EngineError as error:
            problem = error
        finally:
            finishing.cancel()
        self._settle()
        self._end_item(problem)
        self.drop()

    def _end_item(self, problem: EngineError | None) -> None:
        if not self._committed or self._item is None:
            return
        if problem is not None:
            self._conversation.fail(self._item, problem.code, problem.message)
            return
        self._tell_text(self._item, self._finals, self.pending)
        for final in self._finals:
            self._keep(final)
        self._item = None

    def drop(self) -> None:
        """Forget it at once, with what is not recognised."""
        self._finishing = True
        self._daemon.supervisor.close(self.stream)

    async def leave(self) -> None:
        """The client is gone: what it would have got is still recognised and stored."""
        if self._detects or self._committed:
            await self.finish_in_time()
            self._end_item(None)
        self.drop()

    # -- events of the engine's -----------------------------------------------------------------

    def tell(self, event: Event) -> None:
        """An event of this stream."""
        if not isinstance(event, Gap):
            self._settle()
        match event:
            case SpeechStarted():
                self._begin(event)
            case Partial():
                self._hear(event)
            case Final():
                self._say(event)
            case Gap():
                self._lost = self._lost or event.reason in LOST
                self._settle()
            case _:
                pass

    @property
    def _gathers(self) -> bool:
        """Whether utterances are kept for a commit."""
        return self._committed or not self._detects

    def _begin(self, event: SpeechStarted) -> None:
        if not self._gathers:
            self._item = Item()
            self._conversation.begin(self._item, self._began + event.start)
            self._keep(event)

    def _hear(self, event: Partial) -> None:
        if self._gathers or self._item is None:
            return
        self._conversation.hear(self._item, event.stable)
        if PARTIALS in self._settings.include:
            self._conversation.tell(
                "edged.partial", item_id=self._item.id, text=event.text, stable=event.stable
            )
        self._keep(event)

    def _say(self, final: Final) -> None:
        if self._gathers:
            self._finals.append(final)
            return
        item, self._item = self._item or Item(), None
        self._boundary = final.end
        self._conversation.stop(item, self._began + final.end)
        self._conversation.commit(item)
        self._keep(final)
        if final.text:
            self._tell_text(item, [final], final.end - final.start)
        else:  # a gap that explains it comes in the same breath
            self._unsure = item, final
            asyncio.get_running_loop().call_soon(self._settle)

    def _settle(self) -> None:
        """Complete the item without text, now that its reason is known."""
        if self._unsure is not None:
            (item, final), self._unsure = self._unsure, None
            self._tell_text(item, [final], final.end - final.start)

    def _tell_text(self, item: Item, finals: list[Final], seconds: float) -> None:
        if self._lost and not any(final.text for final in finals):
            message = "The engine could not work off this audio. Say it again"
            self._conversation.fail(item, "audio_lost", message)
        else:
            with_logprobs = LOGPROBS in self._settings.include
            self._conversation.complete(item, finals, seconds, with_logprobs)
        self._lost = False

    def _keep(self, event: Event) -> None:
        """Store a final; sinks are told."""
        if isinstance(event, Final):
            event = msgspec.structs.replace(event, tokens=None)
        self._daemon.remember(self.name, event)
