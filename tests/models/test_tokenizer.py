from __future__ import annotations

from pathlib import Path

from edged.models.tokenizer import Tokenizer, entries_of, packed


def write(folder: Path, entries: list[bytes]) -> Path:
    def prefixed(entry: bytes) -> bytes:
        if len(entry) < 128:
            return bytes([len(entry)]) + entry
        return bytes([len(entry) % 128 + 128, len(entry) // 128]) + entry

    path = folder / "tokenizer.bin"
    path.write_bytes(b"".join(prefixed(entry) for entry in entries))
    return path


def test_words_bytes_and_long_entries(tmp_path: Path) -> None:
    entries = [b"", b"", b"", "▁caf".encode(), b"<0xC3>", b"<0xA9>", "▁".encode() + b"x" * 200]
    tokenizer = Tokenizer(write(tmp_path, entries))
    assert len(tokenizer) == 7
    assert tokenizer.text([1, 3, 4, 5, 2]) == "café"
    assert tokenizer.text([3, 6]) == "caf " + "x" * 200
    assert tokenizer.starts_word(3)
    assert not tokenizer.starts_word(4)
    assert not tokenizer.starts_word(2)


def test_half_a_character_is_marked_not_fatal(tmp_path: Path) -> None:
    tokenizer = Tokenizer(write(tmp_path, [b"", b"", b"", b"<0xC3>"]))
    assert tokenizer.text([3]) == "\ufffd"


def test_a_file_is_packed_as_it_was(tmp_path: Path) -> None:
    entries = [b"", b"<s>", b"x" * 127, b"y" * 128, b"z" * 300]
    data = write(tmp_path, entries).read_bytes()
    assert entries_of(data) == entries
    assert packed(entries) == data
