"""Word error rate of every rung of this machine, and what the gate says of it.

Each rung transcribes the core sets as `edged transcribe` does. What was heard once is kept in
`--kept` and not heard again until model, runtime or rung change, so that a long run may be cut off.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import corpus, report, scoring
from bench.corpus import Utterance
from edged.config import Configuration, load
from edged.engine.probe import probe_machine
from edged.engine.prove import Verdict
from edged.errors import EdgedError
from edged.messages import Rung
from edged.models.inventory import store
from edged.offline import transcribe_files
from edged.plugins import Plugins

REFERENCE = ("onnxruntime", "cpu", "fp32")
WORSE = 0.005
"""What a rung may write worse than float32 on ONNX Runtime, unless the gate refuses it"""
HEARD_ALL_THE_SAME = {None, "wrong_text", "partly_on_cpu"}
"""Codes of verdicts about rungs that do write something"""
PAGE = corpus.ROOT / "docs" / "accuracy.md"
BEGIN, END = "<!-- begin: python -m bench.providers -->", "<!-- end -->"

Texts = dict[str, str]
"""What was written, by the path of the recording"""


def main() -> None:
    options = _parse()
    document = report.begin()
    configuration = load(options.config)
    models = report.models(options)
    probed = asyncio.run(probe_machine(configuration, models))
    chosen = [u for u in corpus.utterances(options.corpus) if u.core]
    if options.files:
        chosen = corpus.choose_evenly(chosen, options.files)
    kept = _Kept(options.kept)
    for model in models:
        verdicts = [v for v in probed.verdicts if v.rung.model == model]
        for verdict in verdicts:
            if verdict.code in HEARD_ALL_THE_SAME and report.is_asked_for(
                verdict.rung, options.only
            ):
                kept.hear(verdict, chosen, options.config)
        document["models"][model] = rows = _rows(verdicts, chosen, kept)
        report.print_table(f"{model}: word error rate by rung", HEAD, [_cells(row) for row in rows])
        report.finish(document, options.output)
    if options.write:
        _write(options.write, document)


def _parse() -> argparse.Namespace:
    parser = report.parser(__doc__)
    parser.add_argument("--files", type=int, help="only so many, chosen evenly over the sets")
    parser.add_argument("--config", type=Path, help="edged's configuration file")
    report.add_only(parser)
    parser.add_argument(
        "--kept",
        type=Path,
        default=corpus.ROOT / "bench" / "results" / "providers-heard.json",
        help="file that keeps what was heard",
    )
    parser.add_argument(
        "--write", type=Path, nargs="?", const=PAGE, help=f"put the table into {PAGE.name}"
    )
    return parser.parse_args()


# -- hearing --------------------------------------------------------------------------------------


class _Kept:
    """What rungs wrote, in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._heard: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def texts(self, verdict: Verdict) -> Texts:
        entry = self._heard.get(str(verdict.rung), {})
        return entry.get("texts", {}) if entry.get("of") == _circumstances(verdict) else {}

    def hear(self, verdict: Verdict, chosen: Sequence[Utterance], config: Path | None) -> None:
        """Let a rung transcribe those that it has not heard yet."""
        texts = dict(self.texts(verdict))
        missing = [utterance for utterance in chosen if _name(utterance) not in texts]
        if not missing:
            return
        print(f"{verdict.rung}: {len(missing)} recordings", flush=True)
        texts |= _transcribe(_only(verdict.rung, config), missing)
        self._heard[str(verdict.rung)] = {"of": _circumstances(verdict), "texts": texts}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(self._heard, indent=1) + "\n", "utf-8")


def _circumstances(verdict: Verdict) -> list[str | None]:
    """What its texts depend on: runtime, and the files that it reads."""
    rung = verdict.rung
    endings = Plugins.discover().formats(rung.provider, rung.device)
    return [verdict.runtime, store().get(rung.model).digest(rung.precision, endings)]


def _only(rung: Rung, config: Path | None) -> Configuration:
    """The configuration under which nothing else serves."""
    names = ("model", "provider", "device", "precision")
    asked = {name: getattr(rung, name) for name in names}
    return load(config, {"engine": {**asked, "fallback": "fail"}})


def _transcribe(configuration: Configuration, chosen: Sequence[Utterance]) -> Texts:
    written: list[str] = []
    problems: list[EdgedError] = asyncio.run(
        transcribe_files(
            configuration,
            [utterance.path for utterance in chosen],
            "txt",
            written.append,
            lambda _stage, _share: None,
        )
    )
    if problems:
        raise problems[0]
    return {
        _name(utterance): " ".join(text.split())
        for utterance, text in zip(chosen, written, strict=True)
    }


def _name(utterance: Utterance) -> str:
    return f"{utterance.set}/{utterance.path.name}"


# -- the table ------------------------------------------------------------------------------------

HEAD = ("rung", "recordings", "words", "errors", "WER", "to fp32", "gate")


def _rows(
    verdicts: Sequence[Verdict], chosen: Sequence[Utterance], kept: _Kept
) -> list[dict[str, Any]]:
    """Each rung against float32 over the recordings that it has heard of those chosen."""
    reference = next((kept.texts(v) for v in verdicts if _is_reference(v.rung)), {})
    rows = []
    for verdict in verdicts:
        texts = kept.texts(verdict)
        heard = [utterance for utterance in chosen if _name(utterance) in texts]
        both = all(_name(utterance) in reference for utterance in heard)
        base = _errors(reference, heard) if both else None
        rows.append(_row(verdict, len(heard), _errors(texts, heard), base))
    return rows


def _is_reference(rung: Rung) -> bool:
    return (rung.provider, rung.device, rung.precision) == REFERENCE


def _errors(texts: Mapping[str, str], heard: Sequence[Utterance]) -> scoring.Errors:
    return scoring.add(
        scoring.compare(
            scoring.normalize(utterance.reference), scoring.normalize(texts[_name(utterance)])
        )
        for utterance in heard
    )


def _row(
    verdict: Verdict, heard: int, errors: scoring.Errors, reference: scoring.Errors | None
) -> dict[str, Any]:
    rung = verdict.rung
    worse = round(errors.rate - reference.rate, 6) if heard and reference else None
    return {
        "rung": f"{rung.provider} {rung.device} {rung.precision}",
        "runtime": verdict.runtime,
        "recordings": heard,
        "errors": asdict(errors),
        "wer": errors.rate if heard else None,
        "worse": worse,
        "gate": "passes" if verdict.ok else f"refuses it: {verdict.code}",
        "reason": verdict.reason,
        "kept": worse is None or worse <= WORSE or not verdict.ok,
    }


def _cells(row: Mapping[str, Any]) -> tuple[object, ...]:
    if not row["recordings"]:
        return (row["rung"], 0, None, None, None, None, row["gate"])
    errors = row["errors"]
    total = errors["substituted"] + errors["deleted"] + errors["inserted"]
    mark = "" if row["kept"] else " (!)"
    return (
        row["rung"],
        row["recordings"],
        errors["words"],
        total,
        f"{row['wer']:.2%}",
        "-" if row["worse"] is None else f"{row['worse'] * 100:+.2f}{mark}",
        row["gate"],
    )


def _write(page: Path, document: Mapping[str, Any]) -> None:
    """Put the tables between the page's markers."""
    before, _, rest = page.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n{_markdown(document)}\n{END}{after}", "utf-8")


def _markdown(document: Mapping[str, Any]) -> str:
    where = document["environment"]
    lines = [f"On {where['cpu']}, {where['cores']} cores."]
    for model, rows in document["models"].items():
        heard = [row for row in rows if row["recordings"]]
        runtimes = sorted({row["runtime"] for row in heard})
        lines += ["", f"**{model}** with {', '.join(runtimes)}:", ""]
        lines += ["| " + " | ".join(HEAD) + " |"]
        lines += ["| --- | --: | --: | --: | --: | --: | --- |"]
        lines += ["| " + " | ".join(map(str, _cells(row))) + " |" for row in heard]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
