"""Write the reference from the code: `make docs`. A test checks that it is current."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from edged import messages, profiles
from edged.config import Configuration
from edged.doctor.finding import Report
from edged.engine.probe import ProbeReport

FOLDER = Path(__file__).parent
HEADING = "<!-- Written by docs/generate.py from the code: edit there. -->\n"
OVERVIEW = """
One TOML file: `--config FILE`, else `edged.toml` in the user's or service's configuration
directory (`~/.config/edged`, `/etc/edged`). Environment variables `EDGED_SECTION_KEY` go over it,
flags over those. Unknown keys are errors; keys of older versions are
read with a warning that says what to change. `edged config` prints what is in force.

`edged reload` (`systemctl reload edged`, SIGHUP) reads it again: everything but `server.host`,
`server.port`, `server.unix_socket`, `server.max_message_bytes`, `transcripts`, `recorder`, `sinks`,
`vosk`, `sherpa`, `wyoming` and `trace`, which change with a restart; it says so. A file with a
mistake changes nothing.

`EDGED_CACHE_DIR`, `EDGED_STATE_DIR`, `EDGED_CONFIG_DIR` and `EDGED_RUNTIME_DIR` move the folders.
"""
API = """
Over HTTP on `server.port` and on the Unix socket. The daemon serves its reference itself: the page
`/docs`, and for programs `/openapi.json` and, of the WebSockets, `/asyncapi.json`. Errors are
`application/problem+json` (RFC 9457) with a stable `code`, on OpenAI's paths in OpenAI's shape.
Requests must name this machine in `Host`; pages of other origins are
refused. Off loopback a bearer token is needed (`Authorization: Bearer`, or `access_token` in the
query where headers cannot be sent).
"""
SOCKETS = """
`WS /v1/transcripts` follows the microphone; `GET /v1/transcripts/events` is the same as server-sent
events and resumes after `Last-Event-ID`. `WS /v1/stream` recognises the audio that the client
sends: `?rate=16000&encoding=s16le&channels=1` (encodings s16le, f32le, mulaw, alaw; 8 to 192 kHz),
binary frames of any length, and the text frames `{"type":"flush"}` (finish the open utterance) and
`{"type":"close"}` (finish, answer `closed`, close). All take `partials=0` and `words=1`;
`/v1/transcripts` takes `levels=1` too, for a level meter.
`WS /v1/realtime` speaks OpenAI's Realtime protocol: see [protocols](protocols.md).

A client that sends faster than it is recognised is made to wait, by not reading from it: nothing is
dropped. A client that reads too slowly is closed with 4000; one that takes nothing of what it is
sent for 30 s is cut off. Close codes: 1000 done, 1001 the server stops (after finals), 1008
refused, 1009 message too large, 1013 too many clients, 4000 too slow a reader.

A word's `confidence` is the chance that it is right, as measured by `python -m bench.confidence`;
that of a final is about the share of its words that are right, not the chance that all of them are.

Times are seconds from the stream's start. A final tells its `start` by three clocks: `sample`
counts the stream's samples, `clock` is CLOCK_MONOTONIC, `time` is Unix time; and by a fourth,
`ros_time`, once the robot has told how its own stands: `POST /v1/clock {"ros_offset": SECONDS}`,
ROS time less CLOCK_MONOTONIC. Where ROS runs on system time, that is `time`.

A machine that talks says so: `POST /v1/playback {"text": "I am coming."}` takes the words of its
text out of finals and partials, and whoever speaks in between is heard: the first partial is
theirs. `{}` without a text lets nothing be heard until `{"state": "stopped"}`. Both end by
themselves ([how well](decisions/0020-own-voice.md)).

Every utterance that started
gets exactly one final, its text empty when it was no speech.
"""


def configuration() -> str:
    """docs/configuration.md"""
    parts = [HEADING, "# Configuration\n", OVERVIEW.lstrip()]
    for name, field in Configuration.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            parts.append(f"\n## [{name}]\n\n{inspect.getdoc(field.annotation)}\n\n")
            parts.append("| key | default | |\n| --- | --- | --- |\n")
            parts += _settings(field.annotation)
        else:
            parts.append(f"\n## [{name}.NAME]\n\n{field.description}.\n")
            section = get_args(field.annotation)[-1]
            if isinstance(section, type) and issubclass(section, BaseModel):
                parts.append("\n| key | default | |\n| --- | --- | --- |\n")
                parts += _settings(section)
    return "".join(parts)


def _settings(section: type[BaseModel]) -> Iterator[str]:
    for key, field in section.model_fields.items():
        default = "" if field.default in (PydanticUndefined, None) else _toml(field.default)
        yield f"| `{key}` | {default} | {field.description} |\n"


def _toml(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{text}`" if text else "empty"


def api() -> str:
    """docs/api.md"""
    parts = [HEADING, "# API\n", API, "\n## REST\n\n| call | answer |\n| --- | --- |\n"]
    parts += _calls()
    parts += ["\n## WebSocket and server-sent events\n", SOCKETS, "\n### Events\n"]
    for event in get_args(messages.Event):
        parts.append(f"\n**`{event.__struct_config__.tag}`** {inspect.getdoc(event)}\n\n")
        parts += _fields(event)
    return "".join(parts)


def _calls() -> Iterator[str]:
    from fastapi.routing import APIRoute

    from edged.api import metrics, openai, routes, transcripts

    for router in (routes.router, transcripts.router, openai.router, metrics.router):
        for route in router.routes:
            if isinstance(route, APIRoute):
                method = next(iter(route.methods))
                summary = (inspect.getdoc(route.endpoint) or "").split("\n\n")[0]
                yield f"| `{method} {route.path}` | {' '.join(summary.split())} |\n"


def _fields(struct: type[msgspec.Struct]) -> Iterator[str]:
    for field in msgspec.structs.fields(struct):
        yield f"- `{field.encode_name}`: {_type(field.type)}\n"


def _type(kind: Any) -> str:
    """A type in the words of JSON."""
    words = {
        str: "string",
        int: "integer",
        float: "number",
        bool: "boolean",
        types.NoneType: "null",
    }
    if kind in words:
        return words[kind]
    arguments = get_args(kind)
    if isinstance(kind, types.UnionType):
        return " or ".join(_type(argument) for argument in arguments)
    if kind.__class__.__name__ == "_LiteralGenericAlias":
        return " or ".join(f"`{argument}`" for argument in arguments)
    if arguments:
        return f"list of {_type(arguments[0])}"
    inside = ", ".join(f"`{f.encode_name}`" for f in msgspec.structs.fields(kind))
    return f"{{{inside}}}"


def profile_schema() -> str:
    """docs/hw-profile.schema.json"""
    return _schema("Hardware profile of edged", profiles.Profile)


def probe_schema() -> str:
    """docs/probe.schema.json"""
    return _schema("What `edged probe --json` writes", ProbeReport)


def _schema(title: str, kind: type[msgspec.Struct]) -> str:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **msgspec.json.schema(kind),
    }
    return msgspec.json.format(msgspec.json.encode(schema), indent=2).decode() + "\n"


def doctor_schema() -> str:
    """docs/doctor.schema.json"""
    return _schema("What `edged doctor --json` writes", Report)


PAGES = {
    "configuration.md": configuration,
    "api.md": api,
    "hw-profile.schema.json": profile_schema,
    "probe.schema.json": probe_schema,
    "doctor.schema.json": doctor_schema,
}


def main() -> None:
    for name, write in PAGES.items():
        (FOLDER / name).write_text(write(), "utf-8")


if __name__ == "__main__":
    main()
