"""Folders that are made anew, by several processes at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edged.files import remade

MAKE = """
import sys
from pathlib import Path
from edged.files import remade
for turn in range(30):
    with remade(Path(sys.argv[1])) as work:
        for name in "ab":
            (work / name).write_text(f"{sys.argv[2]} {turn}")
"""


def test_many_processes_leave_one_whole_folder_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    makers = [
        subprocess.Popen([sys.executable, "-c", MAKE, str(folder), str(number)])
        for number in range(4)
    ]
    assert [maker.wait(60) for maker in makers] == [0] * 4
    assert (folder / "a").read_text() == (folder / "b").read_text()
    assert list(tmp_path.iterdir()) == [folder]


def test_what_fails_leaves_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "old").touch()
    with pytest.raises(ZeroDivisionError), remade(folder) as work:
        (work / "new").touch()
        raise ZeroDivisionError
    assert [path.name for path in folder.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [folder]
