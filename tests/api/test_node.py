"""edged.js in Node, which has a WebSocket of its own from version 22 on."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.api.http import ask
from tests.client import of_type, recognize, silence, texts
from tests.conftest import TINY
from tests.daemon import DaemonProcess

RATE = 16000
SPEAK = """
import { readFileSync } from "node:fs";
import { Stream } from "./edged.mjs";
const [url, file] = process.argv.slice(2);
const audio = readFileSync(file);
const stream = new Stream({ url, words: true, encoding: "f32le" });
(async () => {
  const step = 12800;
  for (let at = 0; at < audio.length; at += step) await stream.send(audio.subarray(at, at + step));
  await stream.close();
})();
for await (const event of stream) console.log(JSON.stringify(event));
"""
LISTEN = """
import { listen } from "./edged.mjs";
const [url] = process.argv.slice(2);
const done = new AbortController();
for await (const event of listen({ url, after: 0, signal: done.signal })) {
  console.log(JSON.stringify(event));
  if (event.type === "final" && event.id === 2) done.abort();
}
"""
REFUSED = """
import { Stream } from "./edged.mjs";
for await (const event of new Stream({ url: process.argv[2], encoding: "mp3" })) {
  console.log(JSON.stringify(event));
}
"""
Run = Callable[..., list[dict[str, Any]]]


def node() -> list[str]:
    """The command. Skips where there is none with a WebSocket."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("node is not installed")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    major = int(version.stdout.removeprefix("v").split(".")[0])
    if major < 20:
        pytest.skip(f"node is {version.stdout.strip()}; a WebSocket of its own needs 22")
    return [program] if major >= 22 else [program, "--experimental-websocket"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a script beside edged.js as the daemon serves it; the lines that it prints."""

    def start(daemon: DaemonProcess, script: str, *arguments: object) -> list[dict[str, Any]]:
        (tmp_path / "edged.mjs").write_bytes(ask(daemon, "/edged.js").body)
        (tmp_path / "script.mjs").write_text(script)
        command = [*node(), str(tmp_path / "script.mjs"), daemon.url, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return start


def test_a_recording_is_sent_and_its_text_comes(
    daemon: DaemonProcess, run: Run, speech: np.ndarray, tmp_path: Path
) -> None:
    samples = np.concatenate([speech[: 4 * RATE], silence(1)])
    (tmp_path / "pcm").write_bytes(samples.astype("<f4").tobytes())
    events = run(daemon, SPEAK, tmp_path / "pcm")
    assert events[0]["type"] == "hello"
    assert events[-1] == {"type": "closed", "reason": "done"}
    assert texts(events) == texts(recognize(daemon.url, samples))
    [final] = of_type(events, "final")
    assert " ".join(word["word"] for word in final["words"]) == final["text"]


@pytest.mark.long
def test_the_microphone_is_followed_from_the_first_final_on(
    start_daemon: Callable[..., DaemonProcess], run: Run, speech: np.ndarray, tmp_path: Path
) -> None:
    recording = tmp_path / "recording.wav"
    twice = [speech[: 4 * RATE], silence(1.5)] * 2
    soundfile.write(recording, np.concatenate(twice), RATE)
    daemon = start_daemon("--model", TINY, "--source", f"fast:{recording}")
    stored = lambda: daemon.get("/v1/transcripts")[1]["transcripts"]  # noqa: E731
    daemon.wait(lambda: len(stored()) == 2)
    events = run(daemon, LISTEN)
    assert texts(events) == [entry["text"] for entry in stored()]


def test_what_is_refused_is_said(daemon: DaemonProcess, run: Run) -> None:
    [error] = run(daemon, REFUSED)
    assert (error["type"], error["code"]) == ("error", "bad_encoding")
