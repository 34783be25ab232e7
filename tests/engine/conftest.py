"""The engine's parts in this process: a real model on ONNX Runtime, a ring, a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

from edged.audio.ring import AudioRing
from edged.engine.pipeline import Pipeline
from edged.messages import Report, Said
from edged.models.inventory import store
from edged.models.moonshine import Moonshine
from edged.models.silero import Silero
from edged.plugins import Plugins
from edged.provider import Opener
from tests.conftest import TINY


@pytest.fixture(scope="session")
def open_session() -> Opener:
    provider = Plugins.discover().provider("onnxruntime")
    return Opener(provider, provider.probe()[0], parallel_threads=2)


@pytest.fixture(scope="session")
def recognizer(open_session: Any) -> Moonshine:
    return Moonshine(store().get(TINY), "int8", open_session)


@pytest.fixture(scope="session")
def detector(open_session: Any) -> Silero:
    return Silero(open_session)


class Listening:
    """A stream in this process: feed it samples, look at what it says."""

    def __init__(self, detector: Silero, recognizer: Moonshine, samples: np.ndarray) -> None:
        self.ring = AudioRing.create(len(samples))
        self.ring.write(0, samples)
        self.written = len(samples)
        self._parts = (detector, recognizer)

    def pipeline(self, position: int = 0, floor: int = 0, words: bool = False) -> Pipeline:
        return Pipeline(1, self.ring.view, *self._parts, position, floor, words)

    def finals(self, position: int = 0, floor: int = 0) -> list[Said]:
        """All finals from `position` on, the end of the audio included."""
        pipeline = self.pipeline(position, floor)
        return said(pipeline.advance(self.written))


def said(reports: Iterable[Report]) -> list[Said]:
    return [report for report in reports if isinstance(report, Said)]


@pytest.fixture
def listening(detector: Silero, recognizer: Moonshine) -> Callable[[np.ndarray], Listening]:
    return lambda samples: Listening(detector, recognizer, samples)
