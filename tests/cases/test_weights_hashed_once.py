"""One compare takes sha256 of the weights once; every later use of them is a checksum on their device."""

from pathlib import Path

import pytest
from case_kit import QUICK, table, theodolite, workplace

from theodolite.models import checksum, hashing
from theodolite.toys.tiny_models import tiny_model

SUMS = 8  # passes over the weights for a checksum, about .1 s each for 540 MB on one core


def test_one_compare_hashes_the_weights_of_a_folder_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    summed: list[int] = []
    sha, sums = hashing.tensor_line, checksum.digest
    monkeypatch.setattr(hashing, "tensor_line", lambda name, tensor: hashed.append(name) or sha(name, tensor))
    monkeypatch.setattr(checksum, "digest", lambda *how: summed.append(1) or sums(*how))
    monkeypatch.setattr(hashing, "RACY", 0.0)
    with workplace(tmp_path):
        table(80).to_csv("t.csv", index=False)
        ended = theodolite("compare", "t.csv", "--model", "m", *QUICK)
        assert ended.code == 0, ended.stderr
    weights = tiny_model().state_dict()  # beside them the frequencies of the rotary embedding, which no file holds
    assert sorted(name for name in hashed if name in weights) == sorted(weights)
    assert 1 < len(summed) <= SUMS
