"""The dashboard in a real browser, over a real daemon that somebody speaks to."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import soundfile

from edged.api import page as served
from edged.engine.probe import ProbeReport, probe_recorded
from tests.api.browser import Browser
from tests.api.http import ask
from tests.api.speaker import Speaker
from tests.api.test_access import own_address
from tests.client import silence
from tests.conftest import MACHINES, TINY, link_tiny
from tests.daemon import DaemonProcess

RATE = 16000
MOST_BYTES = 200_000
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}
VIEWS = {
    "live": "#captions .final",
    "talk": "#talk-button",
    "history": "#found .text",
    "engine": "#ladder li",
    "latency": ".plot circle",
    "machine": "#machine-parts .facts",
}
"""With something that is there once a view has what it shows"""
FIRST, SECOND = "It was the best of times", "It was the age of wisdom"
FINALS = "[...document.querySelectorAll('#captions .final .text')].map((e) => e.textContent)"
STATUS = "document.querySelector('#status').textContent"


def text(selector: str) -> str:
    """JavaScript for what an element says."""
    return f"(document.querySelector({json.dumps(selector)})?.textContent ?? '')"


def press(selector: str) -> str:
    return f"document.querySelector({json.dumps(selector)}).click()"


def search(words: str) -> str:
    return (
        f"(() => {{ const field = document.querySelector('#search'); field.value = {words!r};"
        " field.dispatchEvent(new Event('input')); })()"
    )


# -- a room with a speaker, a daemon and a browser ------------------------------------------------


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures of the page go: a folder that the environment names, to be looked at."""
    folder = os.environ.get("SCREENSHOTS")
    return Path(folder) if folder else tmp_path_factory.mktemp("screenshots")


@pytest.fixture(scope="module")
def sentences(speech: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two utterances."""
    first, second = speech[: round(4.3 * RATE)], speech[round(4.6 * RATE) : round(6.5 * RATE)]
    return np.concatenate([first, silence(0.7)]), np.concatenate([second, silence(0.7)])


@pytest.fixture(scope="module")
def speaker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Speaker]:
    somebody = Speaker(tmp_path_factory.mktemp("speaker"))
    yield somebody
    somebody.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, speaker: Speaker) -> Iterator[DaemonProcess]:
    """A daemon with a cache of its own, on a machine that was not probed."""
    folder = tmp_path_factory.mktemp("daemon")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGED_CACHE_DIR", str(link_tiny(folder / "cache")))
        daemon = DaemonProcess(folder, ("--model", TINY, "--source", speaker.source), {})
    daemon.wait_ready()
    yield daemon
    assert daemon.stop() == 0


@pytest.fixture(scope="module")
def browser(
    tmp_path_factory: pytest.TempPathFactory, sentences: tuple[np.ndarray, np.ndarray]
) -> Iterator[Browser]:
    if reason := Browser.missing():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("browser")
    microphone = folder / "microphone.wav"
    soundfile.write(microphone, np.concatenate([silence(1), sentences[0], silence(30)]), RATE)
    started = Browser(folder / "profile", microphone, "about:blank")
    yield started
    started.close()


@pytest.fixture
def page(browser: Browser, server: DaemonProcess) -> Iterator[Browser]:
    """The dashboard, opened anew. In the end it has broken no rule."""
    browser.look(*SIZES["desktop"])
    browser.open(server.url)
    yield browser
    assert not browser.faults
    foreign = [url for url in browser.requested if f"//127.0.0.1:{server.port}/" not in url]
    assert not [url for url in foreign if not url.startswith("blob:")]


def probe(server: DaemonProcess) -> ProbeReport:
    """As if another machine's record was what `edged probe` had found here."""
    report = probe_recorded(MACHINES / "intel-core-ultra")
    (server.folder / "cache" / "probe.json").write_bytes(msgspec.json.encode(report))
    return report


def show(page: Browser, view: str) -> None:
    page.run(f"location.hash = '#{view}'")
    page.wait(f"!document.querySelector('#{view}-view').hidden")


# -- what it weighs -------------------------------------------------------------------------------


def test_the_page_is_small(server: DaemonProcess) -> None:
    files = {path: ask(server, path) for path in served.PATHS}
    assert all(answer.status == 200 for answer in files.values())
    assert sum(len(answer.body) for answer in files.values()) < MOST_BYTES


def test_so_is_all_that_it_asks_for_when_it_is_opened(page: Browser) -> None:
    page.wait(f"{STATUS} === 'Listening'")
    sizes = page.run(
        "['navigation', 'resource'].flatMap((kind) => performance.getEntriesByType(kind))"
        ".map(({ name, decodedBodySize }) => [name, decodedBodySize])"
    )
    assert len(sizes) > len(served.PATHS)
    assert 0 < sum(size for _, size in sizes) < MOST_BYTES


def test_the_page_names_no_other_host_and_makes_no_markup_of_text(server: DaemonProcess) -> None:
    for path in served.PATHS:
        written = ask(server, path).text
        hosts = set(re.findall(r"https?://([^/\s\"'`]+)", written))
        assert hosts <= {"www.w3.org", "127.0.0.1:7333", "localhost:${port}"}, path
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", written)


# -- live -----------------------------------------------------------------------------------------


def test_captions_appear_while_they_are_spoken(
    page: Browser, speaker: Speaker, sentences: tuple[np.ndarray, np.ndarray]
) -> None:
    page.wait(f"{STATUS} === 'Listening'")
    before = len(page.run(FINALS))
    speaker.say(sentences[0])
    page.wait("document.querySelector('#captions .open .stable').textContent")
    assert "behind" in page.run(text("#captions .open small"))
    level = "Number(document.querySelector('[role=meter]').getAttribute('aria-valuenow'))"
    assert -60 < page.wait(f"{level} > -60 && {level}") <= 0
    page.wait(f"{FINALS}.length === {before + 1}")
    assert page.run(FINALS)[-1].startswith(FIRST)
    assert page.run(text("#captions .open .stable")) == ""
    latency = page.run(text("#captions .final:last-child small"))
    assert re.fullmatch(r"(\d+ ms|\d\.\d\d s), words (\d+ ms|\d\.\d\d s)", latency)
    page.wait("/\\d s/.test(document.querySelector('#latency-figures dd').textContent)")
    assert page.run(text("#engine-name")) == TINY
    assert page.run(text("#engine-badge")) == "As asked for"
    assert "microphone" in page.run(text("#streams"))


def test_a_word_s_latency_is_from_its_end_until_it_was_shown_to_stay(page: Browser) -> None:
    latency = page.run("""
        import("/words.js").then(({ WordClock }) => {
          const clock = new WordClock();
          const partial = (text, end, age) => clock.partial({ text, end, age });
          const word = (word, end) => ({ word, end });
          const words = [word("Turn", 1), word("on", 1.2), word("it.", 2)];
          const final = (utterance) => clock.final({ utterance, words, latency: { total: 0.4 } });
          partial("turn", 1.5, 0.1);
          const joined = final(1); // began before anybody looked
          clock.begin({ utterance: 2 });
          partial("turn", 1.3, 0.1); // 0.4 s after its end
          partial("turn of", 1.5, 0.1);
          partial("turn on", 1.8, 0.2); // 0.8 s, and what was there before does not count
          return [joined, final(2)];
        })
    """)
    assert latency == [None, pytest.approx(0.4)]  # of 0.4, 0.8, and 0.4 with the final


def test_what_was_said_before_is_there_when_the_page_is_opened(
    page: Browser, server: DaemonProcess
) -> None:
    stored = [entry["text"] for entry in server.get("/v1/transcripts")[1]["transcripts"]]
    assert page.wait(f"{FINALS}.length && {FINALS}") == stored


def test_the_microphone_is_muted_and_unmuted(
    page: Browser, server: DaemonProcess, speaker: Speaker, sentences: tuple[np.ndarray, np.ndarray]
) -> None:
    def muted() -> bool:
        return bool(server.get("/v1/health")[1]["microphone"]["muted"])

    page.wait(f"{STATUS} === 'Listening'")
    before = page.wait(f"{FINALS}.length")
    page.run("document.querySelector('#mute').focus()")
    page.press("Enter")
    page.wait(f"{STATUS} === 'Muted'")
    assert muted()
    assert page.run("document.querySelector('#mute').getAttribute('aria-pressed')") == "true"
    speaker.say(sentences[1][:RATE])
    speaker.finish()
    page.press("Enter")
    page.wait(
        "[...document.querySelectorAll('.note')].some((e) => e.textContent.includes('Muted for'))"
    )
    page.wait(f"{STATUS} === 'Listening'")
    assert not muted()
    server.post("/v1/microphone", {"muted": True})
    page.wait(f"{text('#mute')} === 'Unmute'")  # somebody else has muted it
    server.post("/v1/microphone", {"muted": False})
    page.wait(f"{text('#mute')} === 'Mute'")
    assert page.run(f"{FINALS}.length") == before


# -- history --------------------------------------------------------------------------------------


def test_the_history_is_searched(
    page: Browser, server: DaemonProcess, speaker: Speaker, sentences: tuple[np.ndarray, np.ndarray]
) -> None:
    speaker.say(sentences[1])
    show(page, "history")
    page.wait(f"{text('#found')}.includes({SECOND!r})")  # it comes by itself
    lines = "[...document.querySelectorAll('#found .text')].map((e) => e.textContent)"
    stored = [
        entry["text"] for entry in server.get("/v1/transcripts?order=newest")[1]["transcripts"]
    ]
    assert page.run(lines) == stored
    page.run(search("WISDOM age"))
    page.wait("document.querySelectorAll('mark').length")
    assert page.run(f"{lines}.length") == 1
    marks = page.run("[...document.querySelectorAll('mark')].map((e) => e.textContent)")
    assert {mark.strip(".,").lower() for mark in marks} == {"wisdom", "age"}
    page.run(search("<b>elephants</b>"))
    page.wait(f"{text('#found')}.includes('Nothing found for “<b>eleph')")
    assert page.run("document.querySelector('#downloads button').disabled")
    page.run(search(""))
    page.wait(f"{lines}.length === {len(stored)}")


def test_what_is_found_is_downloaded(page: Browser, server: DaemonProcess, tmp_path: Path) -> None:
    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    show(page, "history")
    page.run(search("best"))
    page.wait("document.querySelectorAll('mark').length")
    for name, form in {"Text": "txt", "SRT": "srt", "VTT": "vtt", "JSON": "json"}.items():
        wanted = ask(server, f"/v1/transcripts/download?format={form}&q=best").body
        assert FIRST in wanted.decode()
        page.run(press(f"#downloads [aria-label='Download as {name}']"))
        file = tmp_path / f"transcripts.{form}"
        server.wait(lambda file=file, wanted=wanted: file.read_bytes() == wanted)


# -- engine, latency, machine ---------------------------------------------------------------------


def test_the_engine_is_shown_and_held(page: Browser, server: DaemonProcess) -> None:
    show(page, "engine")
    steps = server.get("/v1/engine")[1]["steps"]
    page.wait(f"document.querySelectorAll('#ladder li').length === {len(steps)}")
    assert "Not proven" in page.run(text("#ladder .serving"))
    page.run(press("#ladder [data-step='1']"))
    page.wait(f"{text('#ladder li:nth-child(2)')}.includes('Held')")
    assert server.get("/v1/engine")[1]["pinned"]
    assert "held on one step" in page.run(text("#engine-facts"))
    page.run(press("#release"))
    page.wait("document.querySelector('#release').hidden")
    assert not server.get("/v1/engine")[1]["pinned"]
    server.post("/v1/engine", {"action": "promote"})


def test_latencies_are_drawn(page: Browser, server: DaemonProcess) -> None:
    show(page, "latency")
    page.wait("document.querySelectorAll('.plot').length === 4")
    page.wait("document.querySelectorAll('.plot circle.p99').length")
    for stage in server.get("/v1/latencies?seconds=600&parts=60")[1]["stages"]:
        assert stage["spans"], stage["stage"]
    [drawn, *_] = page.run(
        "[...document.querySelectorAll('.plot svg')].map((e) => e.getAttribute('aria-label'))"
    )
    assert re.fullmatch(r"End of speech to final: at last p50 .* s, p99 .* s", drawn)
    page.run("document.querySelectorAll('#ranges button')[1].click()")
    page.wait(f"{text('.plot svg')}.includes('60 min ago')")
    rows = "document.querySelectorAll('.plot tbody tr').length"
    assert page.run(rows) >= 4


def test_the_machine_is_shown_with_what_mends_it(page: Browser, server: DaemonProcess) -> None:
    show(page, "machine")
    page.wait(f"{text('#machine-parts')}.includes('Run: edged probe')")
    report = probe(server)
    show(page, "engine")
    show(page, "machine")
    page.wait("document.querySelectorAll('.remedies li').length")
    shown = page.run(text("#machine-parts"))
    assert report.obstacles
    for obstacle in report.obstacles:
        assert obstacle.sentence in shown
        assert obstacle.remedy in shown
    assert report.machine.cpu.name in shown


# -- for everybody --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def axe() -> str:
    spec = importlib.util.find_spec("axe_core_python")
    if spec is None or spec.origin is None:
        pytest.skip("axe-core-python is not installed")
    return (Path(spec.origin).parent / "axe.min.js").read_text("utf-8")


@pytest.mark.parametrize(
    ("size", "scheme"),
    [
        ("desktop", "light"),
        ("phone", "dark"),
        pytest.param("desktop", "dark", marks=pytest.mark.long),
        pytest.param("phone", "light", marks=pytest.mark.long),
    ],
)
def test_everybody_can_use_it(
    page: Browser, server: DaemonProcess, photographs: Path, axe: str, size: str, scheme: str
) -> None:
    """axe-core finds nothing, and nothing is wider than the screen, in any view."""
    probe(server)
    page.run(f"{axe}; true")
    page.look(*SIZES[size], dark=scheme == "dark", phone=size == "phone")
    page.wait(f"{STATUS} === 'Listening'")
    for view, shown in VIEWS.items():
        show(page, view)
        page.wait(f"document.querySelector({shown!r}) !== null")
        found = page.run("axe.run().then(({ violations }) => JSON.stringify(violations))")
        assert json.loads(found) == [], view
        assert page.run("document.documentElement.scrollWidth <= innerWidth"), view
        page.photograph(photographs / f"{view}-{size}-{scheme}.png")


def test_it_is_used_by_keys_alone(page: Browser) -> None:
    page.wait(f"{STATUS} === 'Listening'")
    focused = "document.activeElement.textContent.trim()"
    reached = []
    for _ in range(10):
        page.press("Tab")
        reached.append(page.run(focused))
        seen = "getComputedStyle(document.activeElement).outlineStyle"
        assert page.run(seen) != "none", reached
    assert reached[:4] == ["Skip to the content", "Live", "Talk", "History"]
    assert "Mute" in reached
    page.run("document.querySelector('nav a[href=\"#engine\"]').focus()")
    page.press("Enter")
    page.wait("!document.querySelector('#engine-view').hidden")
    assert page.run("document.querySelector('nav [aria-current]').textContent") == "Engine"
    assert page.run("document.title") == "Engine · edged"


def test_nothing_moves_for_who_wants_no_motion(page: Browser) -> None:
    page.wait(f"{STATUS} === 'Listening'")
    moving = "document.getAnimations().length"
    assert page.wait(moving) == 1
    still = {"name": "prefers-reduced-motion", "value": "reduce"}
    page.call("Emulation.setEmulatedMedia", features=[still])
    assert page.run(moving) == 0


# -- talk -----------------------------------------------------------------------------------------


@pytest.mark.long
def test_one_talks_from_the_browser(
    page: Browser, server: DaemonProcess, photographs: Path
) -> None:
    show(page, "talk")
    page.run(press("#talk-button"))
    page.wait(f"{text('#talk-captions .final .text')}.startsWith({FIRST!r})")
    assert page.run(text("#talk-button")) == "Stop"
    [stream] = [s for s in server.get("/v1/streams")[1]["streams"] if s["protocol"] == "edged"]
    page.photograph(photographs / "talking.png")
    page.run(press("#talk-button"))
    page.wait(f"{text('#talk-button')} === 'Start talking'")
    server.wait(lambda: len(server.get("/v1/streams")[1]["streams"]) == 1)
    stored = server.get(f"/v1/transcripts?stream={stream['name']}")[1]["transcripts"]
    assert [entry["text"] for entry in stored] == page.run(
        "[...document.querySelectorAll('#talk-captions .final .text')].map((e) => e.textContent)"
    )
    assert page.run("document.querySelector('#talk-notice').hidden")


@pytest.mark.long
def test_without_a_microphone_the_browser_says_so(page: Browser) -> None:
    show(page, "talk")
    page.run(
        "navigator.mediaDevices.getUserMedia = async () => {"
        " throw new DOMException('', 'NotAllowedError'); }"
    )
    page.run(press("#talk-button"))
    page.wait(f"{text('#talk-notice')}.includes('Allow it')")
    assert page.run(text("#talk-button")) == "Start talking"
    assert not page.run("document.querySelector('#talk-button').disabled")


# -- when things go wrong -------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_page_goes_on_when_the_daemon_is_back(
    tmp_path: Path,
    free_port: int,
    browser: Browser,
    photographs: Path,
    speaker: Speaker,
    sentences: tuple[np.ndarray, np.ndarray],
    number: int,
) -> None:
    flags = ("--model", TINY, "--source", speaker.source, "--port", str(free_port))
    daemon = DaemonProcess(tmp_path, flags, {})
    daemon.wait_ready()
    browser.look(*SIZES["desktop"])
    browser.open(daemon.url)
    browser.wait(f"{STATUS} === 'Listening'")
    assert "Nothing said yet" in browser.run(text("#captions .nothing"))
    speaker.say(sentences[0])
    browser.wait(f"{FINALS}.length === 1")
    daemon.process.send_signal(number)
    daemon.process.wait(30)
    browser.wait(f"{STATUS} === 'Not reached'")
    assert "does not answer" in browser.run(text("#notices"))
    browser.photograph(photographs / "away.png")
    daemon = DaemonProcess(tmp_path, flags, {})
    browser.wait(f"{STATUS} === 'Listening'")
    assert browser.run(text("#notices")) == ""
    speaker.say(sentences[1])
    browser.wait(f"{FINALS}.length === 2")
    stored = [entry["text"] for entry in daemon.get("/v1/transcripts")[1]["transcripts"]]
    assert browser.run(FINALS) == stored
    daemon.stop()


@pytest.mark.long
def test_troubles_are_told(
    start_daemon: Callable[..., DaemonProcess], browser: Browser, photographs: Path
) -> None:
    daemon = start_daemon(
        "--source",
        "alsa:nothing",
        "--model",
        TINY,
        engine_fallback="degrade",
        transcripts_enabled=0,
    )
    browser.look(*SIZES["desktop"])
    browser.open(daemon.url)
    browser.wait(f"{STATUS} === 'No microphone'")
    assert browser.run(text("#notices")).startswith("Microphone alsa:nothing is not there")
    assert browser.run(text("#microphone-state")) == "Waiting"
    browser.photograph(photographs / "no-microphone.png")
    show(browser, "history")
    browser.wait(f"{text('#found')}.includes('Transcripts are not kept')")
    daemon.worker().send_signal(signal.SIGKILL)
    show(browser, "engine")
    browser.wait(f"{text('#engine-facts')}.includes('2 workers started')")


# -- the token ------------------------------------------------------------------------------------


@pytest.mark.long
def test_the_token_is_asked_for_once(
    start_daemon: Callable[..., DaemonProcess], browser: Browser, tmp_path: Path, photographs: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("s3cret-token\n")
    file.chmod(0o600)
    daemon = start_daemon(
        "--no-microphone", "--model", TINY, server_host="0.0.0.0", server_token_file=file
    )
    url = f"http://{own_address()}:{daemon.port}"

    def give(token: str) -> None:
        browser.wait("document.querySelector('#token').open")
        browser.run(f"document.querySelector('#token-value').value = {token!r}")
        browser.run(press("#token button"))

    browser.look(*SIZES["phone"], phone=True)
    browser.open(url)
    give("wrong")
    browser.wait("!document.querySelector('#token-wrong').hidden")
    browser.photograph(photographs / "token.png")
    give("s3cret-token")
    browser.wait(f"{STATUS} === 'Ready'")
    browser.wait(f"{text('#captions .open')}.includes('No microphone')")
    show(browser, "history")
    browser.wait(f"{text('#found')}.includes('Nothing was said yet')")
    show(browser, "talk")
    assert "ssh -L" in browser.run(text("#talk-notice"))
    assert browser.run("document.querySelector('#talk-button').disabled")
    browser.open(url)  # the same tab
    browser.wait(f"{STATUS} === 'Ready'")
    assert not browser.run("document.querySelector('#token').open")
    browser.run("sessionStorage.clear()")
    browser.open(f"{url}/?access_token=s3cret-token")
    browser.wait(f"{STATUS} === 'Ready'")
    assert browser.run("location.search") == ""
