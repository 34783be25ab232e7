"""A real peer, from its installation to what it heard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from bench.corpus import RATE
from bench.peers import environments, phases
from bench.peers.hearing import judge
from bench.peers.results import Results
from bench.peers.systems import systems


@pytest.mark.long
@pytest.mark.timeout(600)
def test_pocketsphinx_is_installed_and_hears(
    speech: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "FOLDER", tmp_path)
    try:
        environments.install(["pocketsphinx"])
    except SystemExit as error:
        pytest.skip(str(error))
    peer = next(system for system in systems() if system.name == "pocketsphinx")
    samples = (speech[: 9 * RATE] * 32767).astype(np.int16)
    results = Results(tmp_path / "peers.json", {}, fresh=True)
    with phases.running(peer, results) as started:
        assert started, results.document["skipped"]
        heard = judge(samples, phases.hear(started, samples))
    assert "best of times" in heard.text
    assert heard.finals >= 1
    assert heard.shown > 10
    assert heard.final is not None
    soundfile.write(tmp_path / "a.wav", samples, RATE)
    with phases.running(peer, results, offline=True, threads=1) as started:
        assert started
        assert "age of wisdom" in started.transcribe(tmp_path / "a.wav")


def test_a_peer_nobody_knows_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"no such peer: nobody; there are .*pocketsphinx"):
        environments.install(["nobody"])
