import subprocess
import sys

from edged.testing import keeps_contract

test_contract = keeps_contract("count")


def test_words_are_counted(tmp_path):
    path = tmp_path / "said.txt"
    path.write_text("It was the best of times.")
    command = [sys.executable, "-m", "edged", "count", "words", path]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"6\n"
