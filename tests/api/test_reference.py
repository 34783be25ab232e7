"""The reference that the daemon serves: AsyncAPI, and a page for people."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any, get_args

import jsonschema_rs
import numpy as np
import pytest
from websockets.sync.client import connect

from edged.messages import Event, Order
from tests.api.http import ask
from tests.api.references import follow, references
from tests.client import recognize
from tests.daemon import DaemonProcess

RATE = 16000


@pytest.fixture(scope="module")
def asyncapi(daemon: DaemonProcess) -> dict[str, Any]:
    document: dict[str, Any] = ask(daemon, "/asyncapi.json").json
    return document


@pytest.mark.filterwarnings("ignore:Field name .schema. in:UserWarning")
def test_it_is_asyncapi(asyncapi: dict[str, Any]) -> None:
    from asyncapi3.models.asyncapi import AsyncAPI3

    assert AsyncAPI3.model_validate(asyncapi).channels


def test_every_reference_leads_somewhere(asyncapi: dict[str, Any]) -> None:
    targets = set(references(asyncapi))
    assert len(targets) > 20
    for target in targets:
        follow(asyncapi, target)


def test_it_names_all_messages(asyncapi: dict[str, Any]) -> None:
    kinds = {kind.__struct_config__.tag for kind in (*get_args(Event), *get_args(Order))}
    assert set(asyncapi["components"]["messages"]) == kinds | {"audio"}
    assert set(asyncapi["channels"]["stream"]["messages"]) == kinds - {"level"} | {"audio"}
    for message in asyncapi["components"]["messages"].values():
        assert message["summary"].endswith(".")


def test_what_is_sent_is_what_it_says(
    daemon: DaemonProcess, asyncapi: dict[str, Any], speech: np.ndarray
) -> None:
    """Of a stream of every kind of event that one can bring about."""
    events = recognize(daemon.url, speech[: 4 * RATE], query="&words=1")
    with connect(daemon.ws("/v1/stream?encoding=mp3")) as refused:
        events.append(json.loads(refused.recv()))
    assert {event["type"] for event in events} >= {"hello", "partial", "final", "closed", "error"}
    for event in events:
        message = asyncapi["components"]["messages"][event["type"]]
        schema = {**message["payload"], "components": asyncapi["components"]}
        jsonschema_rs.validate(schema, event)
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validate(schema, {"type": events[-1]["type"]})


class Page(HTMLParser):
    """What stands in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        self.tags.add(tag)
        self.anchors |= {values["id"]} if "id" in values else set()
        self.links |= {values[name] for name in ("href", "src") if name in values}
        if tag not in {"meta", "link", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_tells_of_every_call_and_needs_nobody_else(daemon: DaemonProcess) -> None:
    answer = ask(daemon, "/docs")
    assert (answer.status, answer.kind) == (200, "text/html")
    assert "default-src 'none'; style-src 'self'" in answer.headers["content-security-policy"]
    page = Page(answer.text)
    assert not page.open
    assert not page.tags & {"script", "img", "iframe", "style"}
    assert "style=" not in answer.text
    text = re.sub("<[^>]*>", "", answer.text)
    calls = ask(daemon, "/openapi.json").json["paths"]
    for path, methods in calls.items():
        for method in methods:
            assert f"{method.upper()} {path}" in text
    assert "WS /v1/stream" in text
    for link in page.links - {"data:,"}:
        if link.startswith("#"):
            assert link[1:] in page.anchors
        else:
            assert ask(daemon, link).status == 200, link
