"""A fit that the comparison keeps gives the same bits when it is opened, for every reader that selection uses."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from case_kit import damage

from theodolite.core.errors import Damaged
from theodolite.core.methods import parse
from theodolite.core.sealed import seal
from theodolite.selection.protocol import BESIDE, READERS
from theodolite.study.seed_fits import FitEntry, save_seed
from theodolite.study.tune import Tuned, tune

KEY, N = "0" * 64, 90
ROWS = np.arange(0, 3 * N, 3)


def rows_for(spec: str) -> np.ndarray:
    rng, label = np.random.default_rng(0), np.arange(N) % 2
    if parse(spec).view == "text":
        return np.array([" ".join(rng.choice(["mill", "old", "stone"], 4)) + " zz" * y for y in label], object)
    return np.maximum(rng.normal(size=(N, 70)) + 2 * label[:, None] * (np.arange(70) < 3), 0).astype(np.float32)


def kept(folder: Path, spec: str, seeds: int = 1) -> tuple[FitEntry, Tuned]:
    """A sealed entry with so many equal seeds, and what was tuned."""
    tuned = tune(parse(spec), rows_for(spec), np.arange(N) % 2, np.arange(N) % 3, seed=7)
    files = [path for seed in range(seeds) for path in save_seed(folder, seed, tuned, ROWS, {"method": spec})]
    seal(folder / "fits.json", KEY, files)
    return FitEntry(folder / "fits.json", KEY), tuned


@pytest.mark.parametrize("spec", [*READERS, *BESIDE])
def test_an_opened_fit_scores_as_it_did_bit_for_bit(tmp_path: Path, spec: str) -> None:
    entry, tuned = kept(tmp_path, spec)
    found = entry.open(0, parse(spec).cls)
    X = rows_for(spec)
    assert found.reader.decision_function(X).tobytes() == tuned.estimator.decision_function(X).tobytes()
    assert found.out_of_fold_n.tobytes() == tuned.out_of_fold_n.tobytes()
    assert found.platt == tuned.platt
    assert np.array_equal(found.rows, ROWS)


def test_the_digest_follows_the_fit_and_not_the_entry(tmp_path: Path) -> None:
    one, tuned = kept(tmp_path / "one", "lat")
    two, _ = kept(tmp_path / "two", "lat", seeds=2)
    assert one.digest(0) == two.digest(0)
    save_seed(tmp_path / "one", 0, replace(tuned, out_of_fold_n=tuned.out_of_fold_n + 1), ROWS, {"method": "lat"})
    assert one.digest(0) != two.digest(0)


def test_a_changed_or_absent_seed_is_not_opened(tmp_path: Path) -> None:
    entry, _ = kept(tmp_path, "lat")
    with pytest.raises(Damaged, match=r"3\.safetensors is missing"):
        entry.digest(3)
    damage(tmp_path / "out_of_fold" / "0.safetensors", "flipped")
    with pytest.raises(Damaged, match=r"0\.safetensors is missing or damaged"):
        entry.open(0, parse("lat").cls)
