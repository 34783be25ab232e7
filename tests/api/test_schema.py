"""Requests made up from the reference: none of them is a fault of edged's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.conftest import TINY
from tests.daemon import DaemonProcess

EXAMPLES = 60
"""Requests for each call"""
ENDLESS = "/v1/transcripts/events"
NOT_NOW = 503
"""It says so itself where it cannot be done at the moment"""


@pytest.mark.long
@pytest.mark.filterwarnings("default")
def test_no_request_that_the_reference_allows_is_a_fault(
    start_daemon: Callable[..., DaemonProcess],
) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    daemon = start_daemon("--no-microphone", "--model", TINY)
    reference = schemathesis.openapi.from_url(f"{daemon.url}/openapi.json")
    calls = [found.ok() for found in reference.get_all_operations()]
    assert len(calls) > 10
    for call in calls:
        if call.path != ENDLESS:
            _try(call)
    assert daemon.get("/v1/health")[1]["live"]
    assert "Traceback" not in daemon.log.read_text()


def _try(call: Any) -> None:
    @given(case=call.as_strategy())
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Any) -> None:
        answer = case.call(timeout=30)
        assert answer.status_code < 500 or answer.status_code == NOT_NOW, (call.label, answer.text)

    ask()
