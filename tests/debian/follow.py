"""Follow the microphone without connecting again: run inside, by the package's Python."""

import contextlib
import json

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

with connect("ws://127.0.0.1:7333/v1/transcripts?partials=0") as websocket:
    with contextlib.suppress(ConnectionClosed):
        for message in websocket:
            print(message, flush=True)
    print(json.dumps({"type": "cut", "code": websocket.close_code}), flush=True)
