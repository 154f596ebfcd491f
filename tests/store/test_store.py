"""The store's protocol: what is written, what counts, what is refused."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from theodolite.core.atomic import publish
from theodolite.core.errors import UserError
from theodolite.store import Store
from theodolite.store import store as store_module
from theodolite.store.keys import key

FIELDS = {"model": "abc", "sites": ["blocks.1.resid_post"], "unit": 2}


def rows(unit: int, n: int = 3) -> dict[str, np.ndarray]:
    x = np.arange(n * 4, dtype=np.float32).reshape(n, 4) + 100 * unit
    return {"x": x, "doc": np.arange(n, dtype=np.int64)}


def test_rows_come_back_as_written(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "s", FIELDS)
    store.write(0, rows(0), seconds=1.25)
    back = Store.open(tmp_path / "s", FIELDS).read(0, framework="np")
    assert back.keys() == {"x", "doc"}
    np.testing.assert_array_equal(back["x"], rows(0)["x"])
    assert back["doc"].dtype == np.int64


def test_bfloat16_comes_back_bit_for_bit(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    x = torch.tensor([[1.0, 3.140625], [-2.5, 1e30]], dtype=torch.bfloat16)
    store = Store.open(tmp_path, FIELDS)
    store.write(0, {"x": x})
    back = store.read(0)["x"]
    assert back.dtype == torch.bfloat16
    assert torch.equal(back.view(torch.int16), x.view(torch.int16))


def test_the_files_are_those_of_the_protocol(tmp_path: Path) -> None:
    commit = Store.open(tmp_path, FIELDS).write(17, rows(17), seconds=1.23456)
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    content = (tmp_path / "shards" / commit.shard).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    assert names == ["commits/000017.json", "manifest.json", f"shards/000017-{digest[:16]}.safetensors"]
    assert json.loads((tmp_path / "commits" / "000017.json").read_text()) == {
        "unit": 17,
        "shard": commit.shard,
        "sha256": digest,
        "size": len(content),
        "rows": {"x": 3, "doc": 3},
        "nonfinite": 0,
        "seconds": 1.235,
    }
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest == {"protocol": 1, "fields": FIELDS, "key": key(FIELDS)}


def test_missing_lists_what_has_no_commit(tmp_path: Path) -> None:
    store = Store.open(tmp_path, FIELDS)
    store.write(1, rows(1))
    assert store.missing(3) == [0, 2]
    assert store.units() == [1]
    with pytest.raises(UserError, match=r"unit 2 .* not finished"):
        store.read(2)


def test_only_the_named_tensors_are_read_and_an_unknown_one_is_an_error(tmp_path: Path) -> None:
    store = Store.open(tmp_path, FIELDS)
    store.write(0, rows(0))
    assert store.read(0, ["doc"], framework="np").keys() == {"doc"}
    with pytest.raises(UserError, match="unknown tensor 'dok': did you mean 'doc'"):
        store.read(0, ["dok"], framework="np")


def test_the_key_ignores_the_order_of_fields_and_nothing_else() -> None:
    assert key({"a": 1, "b": [2, "é"]}) == key({"b": [2, "é"], "a": 1})
    assert len({key({"a": 1}), key({"a": "1"}), key({"a": [1]}), key({})}) == 4


def test_another_key_in_the_same_folder_is_refused_and_the_field_named(tmp_path: Path) -> None:
    Store.open(tmp_path, FIELDS).write(0, rows(0))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=r'model: "abc" there, "xyz" wanted') as error:
        Store.open(tmp_path, {**FIELDS, "model": "xyz"})
    assert "unit" not in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_with_other_files_is_not_taken_for_a_store(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="not a store"):
        Store.open(tmp_path, FIELDS)


def test_another_protocol_is_refused(tmp_path: Path) -> None:
    Store.open(tmp_path, FIELDS)
    path = tmp_path / "manifest.json"
    path.write_text(path.read_text().replace('"protocol":1', '"protocol":2'))
    with pytest.raises(UserError, match="protocol 2, this version reads 1"):
        Store.open(tmp_path, FIELDS)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rows_that_are_not_numbers_are_refused_and_nothing_is_written(tmp_path: Path, bad: float) -> None:
    store = Store.open(tmp_path, FIELDS)
    tensors = rows(0)
    tensors["x"][[0, 2], 1] = bad
    with pytest.raises(UserError, match="unit 0: 2 rows of 'x'"):
        store.write(0, tensors)
    assert store.missing(1) == [0]
    assert not (tmp_path / "shards").exists()


def test_or_they_are_counted_when_the_caller_allows_them(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    x = torch.ones(3, 2, dtype=torch.bfloat16)
    x[1, 0] = torch.inf
    commit = Store.open(tmp_path, FIELDS).write(0, {"x": x}, allow_nonfinite=True)
    assert commit.nonfinite == 1


def test_a_redone_unit_keeps_its_first_rows(tmp_path: Path) -> None:
    store = Store.open(tmp_path, FIELDS)
    first = store.write(0, rows(0))
    assert store.write(0, rows(0)) == first
    assert store.write(0, rows(5)) == first
    np.testing.assert_array_equal(store.read(0, framework="np")["x"], rows(0)["x"])
    assert store.verify(deep=True) == []


def test_two_workers_that_race_leave_one_whole_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second does the whole unit, with other rows, between the shard and the commit of the first."""
    store, other = Store.open(tmp_path, FIELDS), Store.open(tmp_path, FIELDS)
    raced = []

    def publish_after_the_other(path: Path, content: bytes) -> None:
        if path.parent.name == "commits" and not raced:
            raced.append(path)
            other.write(0, rows(9))
        publish(path, content)

    monkeypatch.setattr(store_module, "publish", publish_after_the_other)
    store.write(0, rows(0))
    assert raced
    back = Store.open(tmp_path, FIELDS).read(0, framework="np")["x"]
    assert any(np.array_equal(back, rows(unit)["x"]) for unit in (0, 9))
    assert ["never committed" in problem.text for problem in store.verify(deep=True)] == [True]
