"""The audio source's contract: what `microphone.source = "SCHEME:ADDRESS"` listens to.

A plugin implements AudioSource. It runs in the capture process, which can be lost: one that
crashes or hangs is started anew.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import numpy as np


class AudioSource(ABC):
    """One place that audio comes from."""

    scheme: ClassVar[str]
    """The word before the colon"""
    rate: int = 16000
    """Hertz of the blocks; may be set when the source is opened"""
    channels: int = 1
    """Of the blocks; `microphone.channel` takes one, else all are mixed"""
    label: str = ""
    """For people; the whole source, where it is empty"""

    @abstractmethod
    def __init__(self, address: str) -> None:
        """Open what the text behind the colon names. Raises EdgedError when it cannot be opened
        now; it is tried again."""

    @abstractmethod
    def blocks(self) -> Iterator[np.ndarray]:
        """float32 samples [n] or [n, channels], -1 to 1, as they come, about 32 ms at a time.

        Its end is the source's end; an EdgedError says that the source was lost, and it is opened
        again.
        """
