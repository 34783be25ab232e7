"""The description of our WebSockets as an AsyncAPI document, from the types of their messages."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any, get_args

import msgspec

from edged import __version__
from edged.api import live
from edged.audio.pcm import ENCODINGS, HIGHEST_RATE, LOWEST_RATE, MOST_CHANNELS
from edged.messages import Event, Level, Order
from edged.recognizer import SAMPLE_RATE

Schema = dict[str, Any]
CLOSE_CODES = {
    1000: "done",
    1001: "edged stops, after finals",
    1008: "refused",
    1009: "a message is too large",
    1013: "too many clients, or less than configured serves and `fallback=fail` was asked for",
    4000: "too slow a reader",
}
AUDIO = {
    "contentType": "application/octet-stream",
    "summary": "Audio, in the encoding of the query, cut anywhere.",
    "payload": {"type": "string", "format": "binary"},
}
EVENT_QUERY: dict[str, Schema] = {
    "partials": {"type": "boolean", "default": True, "description": "Whether partials come"},
    "words": {"type": "boolean", "default": False, "description": "Whether finals have words"},
    "access_token": {"type": "string", "description": "Off loopback, without a header for it"},
}
MICROPHONE_QUERY: dict[str, Schema] = {
    **EVENT_QUERY,
    "levels": {"type": "boolean", "default": False, "description": "Whether levels come"},
}
STREAM_QUERY: dict[str, Schema] = {
    "rate": {
        "type": "integer",
        "default": SAMPLE_RATE,
        "minimum": LOWEST_RATE,
        "maximum": HIGHEST_RATE,
        "description": "Hertz",
    },
    "encoding": {"type": "string", "default": "s16le", "enum": list(ENCODINGS)},
    "channels": {
        "type": "integer",
        "default": 1,
        "minimum": 1,
        "maximum": MOST_CHANNELS,
        "description": "Interleaved, and mixed",
    },
    "fallback": {
        "type": "string",
        "enum": ["fail"],
        "description": "Be refused, or closed, where less than what is configured serves",
    },
    **EVENT_QUERY,
}


@cache
def document() -> dict[str, Any]:
    """The AsyncAPI 3 document."""
    events, orders = get_args(Event), get_args(Order)
    _, schemas = msgspec.json.schema_components(
        (*events, *orders), ref_template="#/components/schemas/{name}"
    )
    told = [_name(event) for event in events]
    answers = [_name(event) for event in events if event is not Level]
    sent = ["audio", *map(_name, orders)]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "edged",
            "version": __version__,
            "description": "Local streaming speech recognition: its WebSockets.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {
            "transcripts": _channel(
                "/v1/transcripts", live.follow_microphone, told, MICROPHONE_QUERY
            ),
            "stream": _channel(
                "/v1/stream", live.recognize_stream, [*answers, *sent], STREAM_QUERY
            ),
        },
        "operations": {
            "followMicrophone": _operation("send", "transcripts", told),
            "answer": _operation("send", "stream", answers),
            "hear": _operation("receive", "stream", sent),
        },
        "components": {
            "messages": {
                "audio": AUDIO,
                **{_name(kind): _message(kind) for kind in (*events, *orders)},
            },
            "schemas": schemas,
        },
    }


def _name(kind: type[msgspec.Struct]) -> str:
    """A message's `type`."""
    return str(kind.__struct_config__.tag)


def _message(kind: type[msgspec.Struct]) -> dict[str, Any]:
    return {
        "name": _name(kind),
        "summary": inspect.getdoc(kind),
        "payload": {"$ref": f"#/components/schemas/{kind.__name__}"},
    }


def _channel(
    path: str, endpoint: Any, messages: list[str], query: dict[str, Schema]
) -> dict[str, Any]:
    codes = "; ".join(f"{code}: {meaning}" for code, meaning in CLOSE_CODES.items())
    return {
        "address": path,
        "summary": inspect.getdoc(endpoint),
        "description": f"It is closed with {codes}.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {"ws": {"method": "GET", "query": {"type": "object", "properties": query}}},
    }


def _operation(action: str, channel: str, messages: list[str]) -> dict[str, Any]:
    place = f"#/channels/{channel}"
    return {
        "action": action,
        "channel": {"$ref": place},
        "messages": [{"$ref": f"{place}/messages/{name}"} for name in messages],
    }
