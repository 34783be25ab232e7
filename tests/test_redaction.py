"""What is given away holds no secret, in whatever form it stood there."""

from __future__ import annotations

import pytest

from edged.redaction import HIDDEN, Redaction, unsaid

SETTINGS = {
    "server": {"token_file": "/etc/edged/token", "port": 7333},
    "sinks": {"mqtt": {"host": "broker", "password": 'pa"ss w/ö', "port": 1883}},
    "providers": {"cloud": {"api_key": ["AKIA-12345"], "keys": 3, "monkey": "banana"}},
}


@pytest.fixture
def redaction() -> Redaction:
    return Redaction(SETTINGS, "tok-en-from-a-file")


@pytest.mark.parametrize(
    "text",
    [
        'connecting with pa"ss w/ö',
        '{"error": "pa\\"ss w/\\u00f6"}',
        "http://broker/?p=pa%22ss%20w%2F%C3%B6",
        "Authorization: Bearer tok-en-from-a-file",
        "GET /v1/transcripts?access_token=tok-en-from-a-file HTTP/1.1",
        "key AKIA-12345 was refused",
        "rtsp://admin:hunter2@camera/stream",
        "Bearer hunter2",
        "password=hunter2, and so on",
        '{"secret": "hunter2"}',
        "ffmpeg --api-key hunter2 -i x",
        "https://hunter2@github.com/x",
    ],
)
def test_a_secret_is_found_in_any_form(redaction: Redaction, text: str) -> None:
    hidden = redaction.text(text)
    assert HIDDEN in hidden
    assert not [s for s in ("hunter2", "pa", "12345", "tok-en") if s in hidden.split(HIDDEN)[-1]]
    assert "hunter2" not in hidden
    assert "ss w" not in hidden
    assert "ss%20w" not in hidden


def test_what_is_no_secret_stays(redaction: Redaction) -> None:
    hidden = redaction.value(SETTINGS)
    assert hidden["server"] == SETTINGS["server"]
    assert hidden["sinks"]["mqtt"] == {"host": "broker", "password": HIDDEN, "port": 1883}
    assert hidden["providers"]["cloud"] == {"api_key": [HIDDEN], "keys": 3, "monkey": "banana"}
    line = "12:00:00 INFO edged.hub: tokens 12, 3 keys, http://127.0.0.1:7333/v1?x=a@b"
    assert redaction.text(line) == line


def test_what_was_said_leaves_the_number_of_its_words() -> None:
    value = {"text": "turn it on", "words": [{"word": "turn", "start": 1.0}], "tokens": [{"n": 1}]}
    assert unsaid(value) == {
        "text": "[3 words]",
        "words": [{"word": "[1 words]", "start": 1.0}],
        "tokens": [],
    }
    assert unsaid({"text": "", "reason": "late"}) == {"text": "", "reason": "late"}
