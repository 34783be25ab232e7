import json

from edged.testing import keeps_contract

contract = keeps_contract("diary")


def test_contract(tmp_path, monkeypatch):
    path = tmp_path / "diary.txt"
    monkeypatch.setenv("EDGED_SINKS", json.dumps({"diary": {"path": str(path)}}))
    contract()
    assert path.read_text() == "conformance: It was.\n"
