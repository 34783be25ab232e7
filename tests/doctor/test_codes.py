"""Every code is explained, and every finding that is bad has a remedy."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.conftest import ROOT

MAKERS = {"ok": 2, "skipped": 2, "warn": 3, "fail": 3}
"""Functions that make findings, and their least number of arguments"""
DOCUMENT = (ROOT / "docs" / "doctor.md").read_text("utf-8")


def findings() -> Iterator[ast.Call]:
    """Everywhere that the doctor makes one."""
    for path in sorted((ROOT / "edged" / "doctor").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) in MAKERS:
                yield node


def test_every_code_is_explained() -> None:
    codes = {
        node.args[0].value
        for node in findings()
        if isinstance(node.args[0], ast.Constant) and len(node.args) >= 2
    }
    assert len(codes) > 50
    assert codes <= set(re.findall(r"`(\w+)`", DOCUMENT))


def test_every_bad_finding_has_a_remedy() -> None:
    assert all(len(node.args) >= MAKERS[node.func.id] for node in findings())  # type: ignore[attr-defined]
