"""Whether the microphone was ordered to be mute is kept for the next start, where that can be."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged import mute


def test_it_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGED_STATE_DIR", str(tmp_path / "state"))
    assert not mute.remembered()
    for muted in (True, True, False, False):
        mute.remember(muted)
        assert mute.remembered() is muted


def test_where_it_cannot_be_kept_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGED_STATE_DIR", str(tmp_path / "file"))
    mute.remember(True)
    assert "cannot be kept for the next start" in caplog.text
