"""Requests made up from the reference: none of them is a fault of edged's."""

from __future__ import annotations

import contextlib
import io
import random
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable

from tests.api.garbage import leaves_nothing, mutated
from tests.conftest import TINY
from tests.daemon import DaemonProcess

EXAMPLES = 60
"""Requests for each call that are as the reference allows, and as many that are not"""
ENDLESS = "/v1/transcripts/events"
UPLOAD = "POST /v1/audio/transcriptions"
NOT_NOW = 503
"""It says so itself where it cannot be done at the moment"""


@pytest.mark.long
@pytest.mark.filterwarnings("default")
@pytest.mark.timeout(1200)
def test_no_request_that_can_be_made_up_is_a_fault(
    start_daemon: Callable[..., DaemonProcess], speech: np.ndarray
) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    modes = schemathesis.GenerationMode
    daemon = start_daemon("--no-microphone", "--model", TINY)
    reference = schemathesis.openapi.from_url(f"{daemon.url}/openapi.json")
    calls = [found.ok() for found in reference.get_all_operations()]
    assert len(calls) > 10
    files = st.sampled_from(recordings(speech[: 16000 * 2]))
    statuses: dict[str, set[int]] = defaultdict(set)
    with leaves_nothing(daemon):
        for call in calls:
            for mode in (modes.POSITIVE, modes.NEGATIVE):
                with contextlib.suppress(Unsatisfiable):  # where nothing is sent, nothing is wrong
                    pester(call, call.as_strategy(generation_mode=mode), files, statuses)
    assert daemon.get("/v1/health")[1]["live"]
    assert set(statuses) == {call.label for call in calls}
    assert statuses[UPLOAD] >= {200, 400}


def recordings(samples: np.ndarray) -> list[bytes]:
    """Of every kind that is read anywhere, and many that are broken in some way."""
    chance = random.Random(1)
    whole = []
    for kind, subtype in (("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", None), ("OGG", "VORBIS")):
        file = io.BytesIO()
        soundfile.write(file, samples, 16000, subtype, format=kind)
        whole.append(file.getvalue())
    cut = (chance.choice(whole)[: 10 ** chance.randint(1, 5)] for _ in range(40))
    return [b"", *whole, *(mutated(chance, file) for file in cut)]


def pester(call: Any, requests: Any, files: Any, statuses: dict[str, set[int]]) -> None:
    @given(case=requests, file=files)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Any, file: bytes) -> None:
        if isinstance(case.body, dict) and "file" in case.body:
            case.body["file"] = file
        status, said = send(case, endless=call.path == ENDLESS)
        statuses[call.label].add(status)
        assert status < 500 or status == NOT_NOW, (call.label, said)

    ask()


def send(case: Any, endless: bool) -> tuple[int, str]:
    """Status and text of the answer."""
    if endless:
        import requests

        with requests.request(**case.as_transport_kwargs(), stream=True, timeout=30) as answer:
            return answer.status_code, answer.reason
    whole = case.call(timeout=30)
    return whole.status_code, whole.text
