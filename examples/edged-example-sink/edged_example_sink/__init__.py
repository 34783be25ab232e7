"""A transcript sink for edged: every final becomes a line in a file."""

from edged.hookspecs import hookimpl
from edged.sink import TranscriptSink


class Diary(TranscriptSink):
    name = "diary"

    def __init__(self, settings):
        self._file = open(settings["path"], "a")

    def take(self, stream, event):
        if event["type"] == "final":
            print(f"{stream}: {event['text']}", file=self._file, flush=True)

    def close(self):
        self._file.close()


@hookimpl
def edged_transcript_sinks():
    return [Diary]
