"""edged.js in a real browser."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.api.browser import Browser
from tests.api.http import ask
from tests.client import silence
from tests.daemon import DaemonProcess
from tests.test_client import Fed

RATE = 16000
Open = Callable[[str], Browser]
LISTEN = """
window.events = [];
window.stop = new AbortController();
(async () => {
  const { listen } = await import("/edged.js");
  for await (const event of listen({ signal: stop.signal })) events.push(event);
  events.push({ type: "over" });
})();
true
"""
SPEAK = """
(async () => {
  const { microphone } = await import("/edged.js");
  const stream = await microphone();
  const events = [];
  for await (const event of stream) {
    events.push(event);
    if (event.type === "final" && event.text) stream.stop();
  }
  return events;
})()
"""
FINALS = "events.filter((e) => e.type === 'final' && e.text).map((e) => [e.id, e.text])"


@pytest.fixture
def sentence(speech: np.ndarray) -> np.ndarray:
    """One utterance."""
    return np.concatenate([silence(0.5), speech[: 4 * RATE], silence(1.5)])


@pytest.fixture
def browse(tmp_path: Path, sentence: np.ndarray) -> Iterator[Open]:
    if reason := Browser.missing():
        pytest.skip(reason)
    path = tmp_path / "sentence.wav"
    soundfile.write(path, sentence, RATE)
    browsers: list[Browser] = []

    def start(url: str) -> Browser:
        browsers.append(Browser(tmp_path / f"browser{len(browsers)}", path, url))
        return browsers[-1]

    yield start
    for browser in browsers:
        browser.close()


def test_the_module_is_one_file(daemon: DaemonProcess) -> None:
    answer = ask(daemon, "/edged.js")
    assert (answer.status, answer.kind) == (200, "text/javascript")
    assert "import " not in answer.text.replace("//   import ", "")


@pytest.mark.long
def test_a_page_sends_its_own_microphone(daemon: DaemonProcess, browse: Open) -> None:
    events = browse(daemon.url).run(SPEAK)
    [final] = [event for event in events if event["type"] == "final" and event["text"]]
    assert "best of times" in final["text"]
    assert events[0]["type"] == "hello"
    assert events[-1] == {"type": "closed", "reason": "done"}


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_page_misses_no_final_when_the_daemon_is_started_anew(
    tmp_path: Path, free_port: int, browse: Open, sentence: np.ndarray, number: int
) -> None:
    fed = Fed(tmp_path, free_port)
    page = browse(fed.daemon.url)
    page.run(LISTEN)
    page.wait("events.length")
    fed.say(sentence)
    page.wait(f"{FINALS}.length === 1")
    fed.end(number)
    fed.start()
    fed.say(sentence)
    page.wait(f"{FINALS}.length === 2")
    fed.say(sentence)
    fed.pipe.close()
    page.wait("events.at(-1).type === 'over'")
    stored = [[entry["id"], entry["text"]] for entry in fed.stored()]
    assert page.run(FINALS) == stored
    assert len(stored) == 3
    fed.daemon.stop()


@pytest.mark.long
def test_a_page_stops_when_it_is_told_to(daemon: DaemonProcess, browse: Open) -> None:
    page = browse(daemon.url)
    page.run(LISTEN)
    page.wait("events.length")
    page.run("stop.abort()")
    page.wait("events.at(-1).type === 'over'", 10)
    page.run(
        "import('/edged.js').then(async ({ Stream }) => { window.refused = [];"
        " for await (const e of new Stream({ encoding: 'mp3' })) refused.push(e); })"
    )
    page.wait("refused.length", 10)
    assert page.run("refused[0].code") == "bad_encoding"
