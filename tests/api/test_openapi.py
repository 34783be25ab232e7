"""The reference of the API is complete."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.http import ask
from tests.api.references import follow, references
from tests.daemon import DaemonProcess


@pytest.fixture(scope="module")
def reference(daemon: DaemonProcess) -> dict[str, Any]:
    answer = ask(daemon, "/openapi.json")
    assert answer.status == 200
    document: dict[str, Any] = answer.json
    return document


def operations(reference: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in reference["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_it_names_the_calls_of_the_api(reference: dict[str, Any]) -> None:
    calls = {name for name, _ in operations(reference)}
    assert calls >= {
        "GET /v1/health",
        "GET /v1/devices",
        "GET /v1/hardware",
        "GET /v1/plugins",
        "GET /v1/models",
        "GET /v1/models/{name}",
        "GET /v1/transcripts",
        "GET /v1/transcripts/events",
        "POST /v1/microphone",
        "POST /v1/audio/transcriptions",
    }


def test_every_call_is_described(reference: dict[str, Any]) -> None:
    for name, operation in operations(reference):
        assert operation["summary"], name
        assert operation.get("description"), name


def test_every_parameter_of_the_query_is_described_or_has_a_plain_type(
    reference: dict[str, Any],
) -> None:
    for name, operation in operations(reference):
        for parameter in operation.get("parameters", ()):
            assert parameter["schema"], (name, parameter["name"])


def test_every_good_answer_has_a_schema_or_an_example(reference: dict[str, Any]) -> None:
    for name, operation in operations(reference):
        good = {s: r for s, r in operation["responses"].items() if s.startswith("2")}
        assert good, name
        for status, answer in good.items():
            assert answer["content"], (name, status)
            for kind, content in answer["content"].items():
                assert content.get("schema") or content.get("example"), (name, kind)


def test_every_error_is_described(reference: dict[str, Any]) -> None:
    for name, operation in operations(reference):
        errors = {s: r for s, r in operation["responses"].items() if not s.startswith("2")}
        assert set(errors) >= {"401", "403", "422"}, name
        for status, answer in errors.items():
            assert answer["description"], (name, status)
            assert any(c.get("schema") for c in answer["content"].values()), (name, status)


def test_errors_have_the_media_type_that_they_are_sent_with(reference: dict[str, Any]) -> None:
    for name, operation in operations(reference):
        for status, answer in operation["responses"].items():
            openai = {"audio", "{name}"} & set(name.split("/"))
            if status in {"401", "403", "404", "422"} and not openai:
                described = {kind for kind, c in answer["content"].items() if c.get("schema")}
                assert described == {"application/problem+json"}, (name, status)


def test_every_reference_leads_somewhere(reference: dict[str, Any]) -> None:
    for target in references(reference):
        follow(reference, target)
