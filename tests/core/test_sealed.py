"""An entry of a cache counts while its record and every file that the record names are what was written."""

import json
from pathlib import Path

import pytest

from theodolite.core.errors import Damaged
from theodolite.core.sealed import entry, facts_of, files_of, seal, unseal

KEY = "ab" * 32


@pytest.fixture
def record(tmp_path: Path) -> Path:
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "rows.bin").write_bytes(bytes(range(100)))
    (tmp_path / "stray.bin").write_bytes(b"no part of it")
    seal(tmp_path / "record.json", KEY, [tmp_path / "inside" / "rows.bin"], {"fvu": 0.25, 10: "ten", 9: "nine"})
    return tmp_path / "record.json"


def test_a_whole_entry_gives_its_facts(record: Path) -> None:
    assert (
        unseal(record, KEY)
        == facts_of(record, KEY)
        == entry(record, KEY, "toy")
        == {"fvu": 0.25, "10": "ten", "9": "nine"}
    )
    assert entry(record.with_name("none.json"), KEY, "toy") is None


@pytest.mark.parametrize("file", ["record.json", "inside/rows.bin"])
@pytest.mark.parametrize("at", [0, 30, 60, 90, -1])
def test_any_flipped_bit_is_found(record: Path, file: str, at: int) -> None:
    path, notes = record.parent / file, []
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(Damaged):
        unseal(record, KEY)
    assert entry(record, KEY, "toy", lambda *note: notes.append(note)) is None
    assert notes == [("remade", 1, "damaged entries of the cache were made again: toy")]


def test_a_record_of_other_facts_or_of_a_version_without_hashes_is_damaged(record: Path) -> None:
    whole = json.loads(record.read_bytes())
    for other in [whole | {"facts": {"fvu": 0.5}}, {"fvu": 0.25}, [whole], None]:
        record.write_text(json.dumps(other))
        with pytest.raises(Damaged):
            facts_of(record, KEY)


def test_only_what_the_record_names_is_a_file_of_the_entry(record: Path) -> None:
    (record.parent / "inside" / ".rows.bin.x.tmp").write_bytes(b"half")
    assert files_of(record, KEY, "inside") == {"rows.bin": record.parent / "inside" / "rows.bin"}


def test_a_whole_entry_of_another_key_is_damaged_even_where_its_start_is_the_same(record: Path) -> None:
    other, notes = KEY[:-1] + "0", []
    for ask in (unseal, facts_of, lambda path, key: files_of(path, key, "inside")):
        with pytest.raises(Damaged):
            ask(record, other)
    assert entry(record, other, "toy", lambda *note: notes.append(note)) is None
    assert notes == [("remade", 1, "damaged entries of the cache were made again: toy")]
    assert entry(record, KEY, "toy")


def test_the_key_in_a_record_is_part_of_its_digest(record: Path) -> None:
    whole = json.loads(record.read_bytes())
    record.write_text(json.dumps(whole | {"key": KEY[:-1] + "0"}))
    with pytest.raises(Damaged):
        facts_of(record, KEY[:-1] + "0")
