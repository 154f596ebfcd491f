"""One hash for one set of weights."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from theodolite.core.atomic import file_sha256
from theodolite.core.errors import UserError
from theodolite.models import hashing
from theodolite.models.hashing import blobs, folder_hash, model_hash
from theodolite.models.load import load
from theodolite.toys.tiny_models import byte_tokenizer, tiny_model


def tensors() -> dict[str, torch.Tensor]:
    return {name: torch.arange(6.0).reshape(2, 3) + i for i, name in enumerate("abcd")}


def test_the_hash_is_over_weights_not_over_files(tmp_path: Path) -> None:
    one, two, other = (tmp_path / name for name in ("one", "two", "other"))
    for folder in (one, two, other):
        folder.mkdir()
    parts = tensors()
    save_file(parts, one / "model.safetensors")
    save_file({n: parts[n] for n in "db"}, two / "first.safetensors", metadata={"made": "elsewhere"})
    save_file({n: parts[n] for n in "ca"}, two / "second.safetensors")
    homes = dict.fromkeys("db", "first.safetensors") | dict.fromkeys("ca", "second.safetensors")
    (two / "model.safetensors.index.json").write_text(json.dumps({"weight_map": homes}))
    parts["c"][1, 2] += 1e-6
    save_file(parts, other / "model.safetensors")
    assert folder_hash(one) == folder_hash(two) != folder_hash(other)


@pytest.mark.parametrize(
    "change",
    [
        lambda parts: parts | {"a": parts["a"].reshape(3, 2)},
        lambda parts: parts | {"a": parts["a"].view(torch.int32)},
        lambda parts: {"e" if name == "a" else name: tensor for name, tensor in parts.items()},
        lambda parts: {name: tensor for name, tensor in parts.items() if name != "a"},
    ],
    ids=["shape", "dtype", "name", "absence"],
)
def test_the_hash_knows_more_than_bytes(tmp_path: Path, change: object) -> None:
    save_file(tensors(), tmp_path / "model.safetensors")
    before = folder_hash(tmp_path)
    save_file(change(tensors()), tmp_path / "model.safetensors")  # type: ignore[operator]
    assert folder_hash(tmp_path) != before


def test_a_model_in_memory_hashes_like_its_file_with_tied_weights_once(tmp_path: Path) -> None:
    model = torch.nn.Module()
    model.first, model.second = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3, bias=False)
    model.second.weight = model.first.weight
    kept = {"first.weight": model.first.weight.detach(), "first.bias": model.first.bias.detach()}
    save_file(kept, tmp_path / "model.safetensors")
    assert model_hash(model) == folder_hash(tmp_path)
    with torch.no_grad():
        model.first.bias[0] += 1
    assert model_hash(model) != folder_hash(tmp_path)


def test_a_file_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    save_file(tensors(), tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes()[:-1])
    with pytest.raises(UserError, match="damaged or no safetensors file"):
        folder_hash(tmp_path)


def test_a_model_without_numbers_is_refused() -> None:
    with pytest.raises(UserError, match="lie on torch's meta device and nothing holds their numbers"):
        model_hash(torch.nn.Linear(2, 2, device="meta"))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the tensors that sha256 was taken of, in the order in which that happened."""
    found: list[str] = []
    true = hashing.tensor_line
    monkeypatch.setattr(hashing, "tensor_line", lambda name, tensor: found.append(name) or true(name, tensor))
    return found


def test_files_are_read_once_while_nothing_touches_them(
    tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "RACY", 0.0)
    save_file(tensors(), tmp_path / "model.safetensors")
    first = folder_hash(tmp_path)
    assert folder_hash(tmp_path) == first
    assert sorted(reads) == ["a", "b", "c", "d"]
    times = (tmp_path / "model.safetensors").stat()
    changed = bytearray((tmp_path / "model.safetensors").read_bytes())
    changed[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(changed)
    os.utime(tmp_path / "model.safetensors", ns=(times.st_atime_ns, times.st_mtime_ns))  # the time of writing hidden
    assert folder_hash(tmp_path) != first


def test_a_file_just_written_is_read_again(tmp_path: Path, reads: list[str]) -> None:
    """It may be changed once more within one tick of the file system's clock."""
    save_file(tensors(), tmp_path / "model.safetensors")
    assert folder_hash(tmp_path) == folder_hash(tmp_path)
    assert len(reads) == 8


def snapshot(folder: Path) -> Path:
    """A tiny model as the hub's cache holds one: files are links to blobs that are called by their sha256."""
    plain, blobs, links = folder / "plain", folder / "blobs", folder / "snapshots" / "abc"
    tiny_model().save_pretrained(plain)
    byte_tokenizer().save_pretrained(plain)
    blobs.mkdir()
    links.mkdir(parents=True)
    for file in plain.iterdir():
        blob = blobs / file_sha256(file)
        blob.write_bytes(file.read_bytes())
        (links / file.name).symlink_to(blob)
    return links


def test_a_snapshot_is_hashed_at_the_first_load_only(
    tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THEODOLITE_CACHE", str(tmp_path / "cache"))
    folder = snapshot(tmp_path)
    n_tensors = len(tiny_model().state_dict())
    first = load(folder).hash
    assert len(reads) == n_tensors
    assert load(folder).hash == first == folder_hash(tmp_path / "plain")
    assert len(reads) == 2 * n_tensors  # those of the last line, which is no snapshot
    assert load(folder, dtype="bfloat16").hash == first  # another dtype has other checksums: hashed once
    assert load(folder, dtype="bfloat16").hash == first
    assert len(reads) == 3 * n_tensors


def test_a_blob_that_was_damaged_since_is_another_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THEODOLITE_CACHE", str(tmp_path / "cache"))
    folder = snapshot(tmp_path)
    before = load(folder).hash
    blob = (folder / "model.safetensors").resolve()
    content = bytearray(blob.read_bytes())
    content[-2] ^= 1
    blob.write_bytes(content)
    assert load(folder).hash != before


@pytest.mark.parametrize("content", [b"", b"[]", b'{"a": 1}'])
def test_a_damaged_record_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setenv("THEODOLITE_CACHE", str(tmp_path / "cache"))
    folder = snapshot(tmp_path)
    before = load(folder).hash
    (record,) = (tmp_path / "cache" / "hashes").iterdir()
    record.write_bytes(content)
    assert load(folder).hash == before
    assert before in record.read_text()


def test_a_folder_whose_files_are_no_blobs_names_none(tmp_path: Path) -> None:
    save_file(tensors(), tmp_path / "model.safetensors")
    assert blobs(tmp_path) == ""
