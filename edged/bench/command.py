"""What `edged bench` does with its options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edged.bench import plots, result, table
from edged.bench.compare import compare
from edged.bench.measure import Progress, Wish, measure
from edged.bench.result import Result
from edged.errors import EdgedError


class Bench:
    """One command: where results go, and how they are shown."""

    def __init__(
        self,
        output: Path | None = None,
        folder: Path | None = None,
        format: str = "svg",
        write_json: Callable[[Any], None] | None = None,
    ) -> None:
        """Plots go to `folder`; with `write_json` that is called in place of printing tables.
        Raises EdgedError for what would only fail after minutes of measuring."""
        self._output, self._folder, self._format = output, folder, format
        self._write_json = write_json
        if folder:
            plots.require(format)
        for parent in (output and output.parent, folder):
            if parent:
                _make(parent)

    def measure(self, wish: Wish, progress: Progress, warn: Callable[[str], None]) -> list[Result]:
        """Measure, and write the file. Raises EdgedError."""
        found = measure(wish, progress, warn)
        self._keep(found)
        return found

    def show_all(self, found: Sequence[Result]) -> None:
        """Ours; and where there is another's, how they differ."""
        if len(found) == 1:
            self.show(found[0])
            return
        ours, theirs = found
        differences = compare([theirs], [ours])
        if self._write_json:
            self._write_json({"theirs": theirs, "ours": ours, "differences": differences})
            return
        self.show(ours)
        table.show_comparison(differences, [theirs], [ours])

    def _keep(self, found: Sequence[Result]) -> None:
        """Theirs goes beside ours: FILE.against.json."""
        if self._output:
            result.write(self._output, found[0])
            for theirs in found[1:]:
                result.write(beside(self._output), theirs)

    def show(self, found: Result) -> None:
        """A result that was measured now, or before."""
        if self._write_json:
            self._write_json(found)
        else:
            table.show(found)
        if self._folder:
            drawn = plots.draw(found, self._folder, self._format)
            if not self._write_json:
                print("\n".join(f"{path} is drawn" for path in drawn))

    def compare(self, before: str, after: str) -> None:
        """Files, separated by commas."""
        sides = [_read_all(words) for words in (before, after)]
        differences = compare(*sides)
        if not differences:
            raise EdgedError(
                "These results have no figure in common. Measure the same: edged bench --only ...",
                code="nothing_in_common",
            )
        if self._write_json:
            self._write_json(differences)
        else:
            table.show_comparison(differences, *sides)


def beside(output: Path) -> Path:
    """Where the result of the other edged goes."""
    return output.with_suffix(f".against{output.suffix}")


def _read_all(words: str) -> list[Result]:
    return [result.read(Path(word)) for word in words.split(",") if word]


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise result.unwritable(folder, error) from error
