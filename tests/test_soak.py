"""What a soak says of a run, and that it can be run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.soak import faults
from bench.soak.judge import judge
from bench.soak.plot import draw
from bench.soak.script import Block, write
from bench.soak.talkers import Word

SENTENCE = ["it", "was", "the", "best", "of", "times", "it", "was", "the", "worst", "of", "times"]
BLOCKS = [Block(0.0, 10.0), Block(40.0, 50.0)]


def said(at: float, words: list[str] = SENTENCE) -> list[Word]:
    """Half a second each."""
    return [Word(at + number / 2, word) for number, word in enumerate(words)]


def test_what_is_equal_is_equal_wherever_its_axis_begins() -> None:
    expected = said(1.0) + said(41.0)
    heard = [Word(word.at + 1000.3, word.text.upper() + ",") for word in expected]
    found = judge(expected, heard, BLOCKS, offset=1000.0)
    assert (found.expected, found.equal, found.missing, found.outside) == (24, 24, [], 0)


def test_a_word_is_missing_unless_a_gap_explains_it() -> None:
    expected = said(1.0) + said(41.0)
    without = [word for word in expected if word.at not in {3.0, 43.0}]
    found = judge(expected, without, BLOCKS, gaps=[(42.9, 43.1, "device_lost")])
    assert [word.at for word in found.missing] == [3.0]
    assert found.in_gaps == 1
    assert found.equal == 22
    assert found.holes == []


def test_what_is_missing_in_a_row_is_a_hole() -> None:
    found = judge(said(1.0), said(1.0)[:5] + said(1.0)[9:], BLOCKS)
    assert [[word.text for word in hole] for hole in found.holes] == [SENTENCE[5:9]]


def test_other_words_are_told_apart_from_missing_ones() -> None:
    expected = said(1.0)
    heard = [*said(1.0, ["is", *SENTENCE[1:]]), Word(25.0, "noise")]
    found = judge(expected, heard, BLOCKS)
    assert (found.changed, found.missing, found.outside) == ([("it", "is")], [], 1)


@pytest.mark.corpus
def test_a_script_is_the_same_each_time() -> None:
    first, second = write(2.0), write(2.0)
    assert 120.0 <= first.seconds < 180.0
    assert first.blocks == second.blocks
    assert (first.samples == second.samples).all()


def test_a_clock_of_its_own_is_stepped_for_those_alone_who_load_it(tmp_path: Path) -> None:
    ticks = "import time\nwhile input(): print(time.time(), time.monotonic(), flush=True)"
    file = tmp_path / "clock"
    try:
        with faults.clock_of_its_own(file):
            process = subprocess.Popen(
                [sys.executable, "-c", ticks],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
    except SystemExit as error:
        pytest.skip(str(error))

    def look() -> tuple[float, float]:
        assert process.stdin
        assert process.stdout
        process.stdin.write("now\n")
        process.stdin.flush()
        wall, monotonic = process.stdout.readline().split()
        return float(wall), float(monotonic)

    before = look()
    faults.set_clock(file, 3600)
    after = look()
    process.communicate("\n")
    assert after[0] - before[0] == pytest.approx(3600 + after[1] - before[1], abs=0.1)
    assert 0 <= after[1] - before[1] < 60


@pytest.mark.long
@pytest.mark.corpus
@pytest.mark.timeout(1200)
def test_two_minutes_of_it(tmp_path: Path) -> None:
    output = tmp_path / "soak.json"
    done = subprocess.run(
        [sys.executable, "-m", "bench.soak", "--minutes", "2", "--output", str(output)],
        capture_output=True,
        text=True,
        check=False,
    )
    if "be root" in done.stderr or "is missing" in done.stderr:
        pytest.skip(done.stderr)
    document = json.loads(output.read_text())
    soak = document["soak"]
    assert soak["not_injected"] == []
    for name in ("client", "microphone"):
        words = soak["words"][name]
        assert len(words["holes"]) <= 1  # chance leaves one in an hour
        assert words["equal"] > 0.9 * words["expected"]
    assert soak["store"]["missing"] == 0
    draw(document, tmp_path / "soak.svg")
    assert "microphone lost" in (tmp_path / "soak.svg").read_text()
