"""What the table of rungs says of a rung, and where it is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import providers
from bench.scoring import Errors
from edged.engine.prove import Verdict
from edged.messages import Rung

REFERENCE = Errors(substituted=80, words=1000)


def verdict(code: str | None = None) -> Verdict:
    rung = Rung("moonshine-tiny-en", "tflite", "cpu", "int8")
    return Verdict(rung=rung, ok=code is None, code=code, time=0.0, runtime="tflite 2")


@pytest.mark.parametrize(
    ("substituted", "code", "shown"),
    [
        (80, None, ("8.00%", "+0.00", "passes")),
        (85, None, ("8.50%", "+0.50", "passes")),
        (86, None, ("8.60%", "+0.60 (!)", "passes")),
        (86, "wrong_text", ("8.60%", "+0.60", "refuses it: wrong_text")),
        (70, None, ("7.00%", "-1.00", "passes")),
    ],
)
def test_what_writes_worse_is_marked_unless_the_gate_refuses_it(
    substituted: int, code: str | None, shown: tuple[str, ...]
) -> None:
    errors = Errors(substituted=substituted, words=1000)
    row = providers._row(verdict(code), 100, errors, REFERENCE)
    assert providers._cells(row)[4:] == shown


def test_the_table_goes_between_the_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{providers.BEGIN}\nold\n{providers.END}\nafter\n")
    row = providers._row(verdict(), 100, REFERENCE, REFERENCE)
    unheard = providers._row(verdict("device_missing"), 0, Errors(), None)
    document = {"environment": {"cpu": "a CPU", "cores": 2}, "models": {"tiny": [row, unheard]}}
    for _ in range(2):
        providers._write(page, document)
    text = page.read_text()
    assert text.startswith(f"before\n{providers.BEGIN}\nOn a CPU, 2 cores.")
    assert text.endswith(f"{providers.END}\nafter\n")
    assert "old" not in text
    assert text.count("| tflite cpu int8 |") == 1
