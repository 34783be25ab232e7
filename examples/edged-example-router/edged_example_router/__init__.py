"""Routes for edged: GET /v1/plugins/latest/NAME answers what was said last on a stream."""

from edged.hookspecs import hookimpl
from edged.sink import TranscriptSink

SAID = {}
"""The last final by stream; sinks and routes run in the daemon's process"""


class Latest(TranscriptSink):
    name = "latest"

    def __init__(self, settings):
        pass

    def take(self, stream, event):
        if event["type"] == "final":
            SAID[stream] = event["text"]


@hookimpl
def edged_transcript_sinks():
    return [Latest]


@hookimpl
def edged_api_routers():
    from fastapi import APIRouter

    router = APIRouter()

    @router.get("/{stream}")
    async def latest(stream: str) -> str | None:
        """What was said last on this stream."""
        return SAID.get(stream)

    return [router]
