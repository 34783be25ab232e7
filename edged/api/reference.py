"""The reference of the API as a page: plain HTML from the OpenAPI and AsyncAPI documents.

It runs no script and asks no other host, so that it can be read on a robot without a network.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response

from edged.api.asyncapi import document
from edged.api.page import headers

Schema = dict[str, Any]
_HEADERS = headers("style-src 'self'; img-src data:")

router = APIRouter(include_in_schema=False)


@router.get("/asyncapi.json")
async def asyncapi() -> Response:
    return JSONResponse(document())


@router.get("/docs")
async def reference(request: Request) -> Response:
    return HTMLResponse(page(request.app.openapi(), document()), headers=_HEADERS)


def page(openapi: Schema, asyncapi: Schema) -> str:
    """The whole reference."""
    schemas = asyncapi["components"]["schemas"] | openapi["components"]["schemas"]
    calls = [
        (f"{method.upper()} {path}", operation)
        for path, methods in openapi["paths"].items()
        for method, operation in methods.items()
    ]
    channels = [(f"WS {channel['address']}", channel) for channel in asyncapi["channels"].values()]
    contents = [name for name, _ in (*calls, *channels)]
    body = [
        *(_section(name, _call(operation)) for name, operation in calls),
        *(_section(name, _channel(channel, asyncapi)) for name, channel in channels),
        "<h2>Types</h2>",
        *(_type(name, schema) for name, schema in sorted(schemas.items())),
    ]
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>edged {escape(openapi["info"]["version"])}: API</title>
<link rel="stylesheet" href="/reference.css">
<link rel="icon" href="data:,">
</head>
<body>
<header>
<h1>edged {escape(openapi["info"]["version"])}: API</h1>
<p>For programs: <a href="/openapi.json">OpenAPI</a>, <a href="/asyncapi.json">AsyncAPI</a>.</p>
</header>
<nav aria-label="Contents"><ul>{"".join(map(_entry, contents))}</ul></nav>
<main>
{"".join(body)}
</main>
</body>
</html>
"""


def _anchor(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)


def _entry(name: str) -> str:
    return f'<li><a href="#{_anchor(name)}"><code>{escape(name)}</code></a></li>'


def _section(name: str, content: Iterable[str]) -> str:
    anchor = _anchor(name)
    heading = f'<h2 id="{anchor}"><code>{escape(name)}</code></h2>'
    return f'<section aria-labelledby="{anchor}">{heading}{"".join(content)}</section>\n'


def _paragraphs(text: str | None) -> str:
    return "".join(f"<p>{_line(part)}</p>" for part in (text or "").split("\n\n") if part)


def _line(text: str) -> str:
    """Text whose code is between backquotes."""
    return re.sub("`([^`]*)`", r"<code>\1</code>", escape(text))


# -- REST ---------------------------------------------------------------------------------------


def _call(operation: Schema) -> Iterator[str]:
    yield _paragraphs(operation.get("description"))
    if parameters := operation.get("parameters"):
        rows = ((p["name"], p["schema"] | _said(p), p.get("required", False)) for p in parameters)
        yield _fields("Parameters", rows)
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"<p>Body: <code>{escape(kind)}</code>, {_words(content['schema'])}</p>"
    answers = (
        _row(status, _line(answer.get("description", "")), "<br>".join(_contents(answer)))
        for status, answer in sorted(operation["responses"].items())
    )
    yield _table("Answers", answers)


def _said(parameter: Schema) -> Schema:
    """Its description, which may stand beside its schema."""
    return {"description": parameter["description"]} if "description" in parameter else {}


def _contents(answer: Schema) -> Iterator[str]:
    for kind, content in answer.get("content", {}).items():
        words = _words(content["schema"]) if content.get("schema") else ""
        yield f"<code>{escape(kind)}</code> {words}"


# -- WebSockets ---------------------------------------------------------------------------------


def _channel(channel: Schema, asyncapi: Schema) -> Iterator[str]:
    yield _paragraphs(channel["summary"])
    yield _paragraphs(channel["description"])
    query = channel["bindings"]["ws"]["query"]["properties"]
    yield _fields("Query", ((name, schema, False) for name, schema in query.items()))
    for operation in asyncapi["operations"].values():
        if _follow(asyncapi, operation["channel"]) is channel:
            title = "edged sends" if operation["action"] == "send" else "The client sends"
            names = [message["$ref"].rsplit("/", 1)[1] for message in operation["messages"]]
            messages = {name: asyncapi["components"]["messages"][name] for name in names}
            rows = (
                _row(name, _line(message["summary"]), _words(message["payload"]))
                for name, message in messages.items()
            )
            yield _table(title, rows)


def _follow(node: Any, reference: Schema) -> Any:
    for part in reference["$ref"].removeprefix("#/").split("/"):
        node = node[part]
    return node


# -- types --------------------------------------------------------------------------------------


def _type(name: str, schema: Schema) -> str:
    required = schema.get("required", ())
    rows = ((key, kind, key in required) for key, kind in schema.get("properties", {}).items())
    inside = _fields("Fields", rows) if schema.get("properties") else f"<p>{_words(schema)}</p>"
    heading = f'<h3 id="{_anchor(name)}">{escape(name)}</h3>'
    return f"{heading}{_paragraphs(schema.get('description'))}{inside}\n"


def _fields(caption: str, fields: Iterable[tuple[str, Schema, bool]]) -> str:
    """A table of fields, each with its schema and whether it must be there."""
    return _table(
        caption,
        (
            _row(
                name,
                _words(schema) + ("" if required else ", optional"),
                _line(schema.get("description", "")),
            )
            for name, schema, required in fields
        ),
    )


def _words(schema: Schema) -> str:
    """A type in words, with links to what has a name."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f'<a href="#{_anchor(name)}">{escape(name)}</a>'
    if several := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(map(_words, several))
    if schema.get("type") == "array":
        return f"list of {_words(schema.get('items', {}))}"
    values = schema.get("enum") or ([schema["const"]] if "const" in schema else [])
    plain = escape(schema.get("format") or schema.get("type", "anything"))
    default = schema.get("default")
    by_default = "" if default in (None, "") else f", {_value(default)} by default"
    return (" or ".join(map(_value, values)) or plain) + by_default


def _value(value: Any) -> str:
    """As it stands in a message; text without its quotes."""
    return f"<code>{escape(value if isinstance(value, str) else json.dumps(value))}</code>"


def _table(caption: str, rows: Iterable[str]) -> str:
    return f"<table><caption>{caption}</caption>{''.join(rows)}</table>"


def _row(name: str, *cells: str) -> str:
    """The cells are HTML."""
    columns = "".join(f"<td>{cell}</td>" for cell in cells)
    return f"<tr><th scope=row>{escape(name)}</th>{columns}</tr>"
