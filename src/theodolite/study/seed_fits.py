"""Fits of the comparison that other analyses use again: the reader of every training set, with its tuning scores.

Selective prediction shares them with the comparison. Both split the rows with `split(frame, seed)`, train on its part
`train` alone, tune on the same folds and start from the same seed, so a second fit would give the same bits. The
assumptions of a certificate hold by construction and are checked when a fit is opened:

- scores of the support are out of fold, each from a reader that did not see the row, as tuning computed them;
- rows of `calibrate` and `certify` were not fitted on: the numbers of the rows that were lie beside the scores, and
  selection refuses a fit whose rows are not its support.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

from theodolite.core.artefact import FILES, load_reader, save_reader
from theodolite.core.atomic import file_sha256, publish, read_json
from theodolite.core.discover import name_of
from theodolite.core.reader import Reader
from theodolite.core.sealed import damaged, files_of, unseal
from theodolite.study.tune import Platt, Tuned

READER, OUT_OF_FOLD = "readers", "out_of_fold"  # folders of an entry: one folder, and one file, for each seed


@dataclass(frozen=True)
class SeedFit:
    """A reader tuned on one training set.

    rows: numbers of the rows of the training data that it was fitted on, ascending, (n,). out_of_fold_n: scores of
    these rows by readers with the same configuration that did not see them, (n,). platt: fitted on those scores.
    """

    reader: Reader
    platt: Platt
    rows: np.ndarray
    out_of_fold_n: np.ndarray


def save_seed(entry: Path, seed: int, tuned: Tuned, rows: np.ndarray, about: Mapping[str, Any]) -> list[Path]:
    """Write the fit of one seed into an entry's folder and return its files.

    about: JSON to keep beside the reader; Platt's numbers are added.
    """
    folder, scores = entry / READER / str(seed), entry / OUT_OF_FOLD / f"{seed}.safetensors"
    save_reader(tuned.estimator, folder, {**about, **asdict(tuned.platt)})
    publish(scores, save({"rows": rows.astype(np.int64), "score": np.ascontiguousarray(tuned.out_of_fold_n)}))
    return [*(folder / name for name in FILES), scores]


@dataclass(frozen=True)
class FitEntry:
    """The sealed entry of one method's fits in the cache, one for each seed: path of its record, and its key."""

    record: Path
    key: str

    def reader_files(self, seed: int = 0) -> dict[str, Path]:
        """Return the files of one seed's reader by name; only files that the record names."""
        return files_of(self.record, self.key, f"{READER}/{seed}")

    def digest(self, seed: int) -> str:
        """Return one hash over the files of a seed's fit.

        It does not depend on the entry's key: a comparison with more seeds makes another entry with the same fit.
        """
        files = [*sorted(self.reader_files(seed).values()), self._scores(seed)]
        return hashlib.sha256("\n".join(map(file_sha256, files)).encode()).hexdigest()

    def open(self, seed: int, cls: type) -> SeedFit:
        """Return the fit of one seed by a method of this class; raises `Damaged` if any file of the entry changed."""
        unseal(self.record, self.key)
        folder = self.record.parent / READER / str(seed)
        reader = load_reader(folder, {name_of(cls): cls})
        about, found = read_json(folder / FILES[0], finite=True)["about"], load_file(self._scores(seed))
        return SeedFit(reader, Platt(about["slope"], about["intercept"]), found["rows"], found["score"])

    def _scores(self, seed: int) -> Path:
        path = files_of(self.record, self.key, OUT_OF_FOLD).get(f"{seed}.safetensors")
        if path is None:
            raise damaged(self.record.parent / OUT_OF_FOLD / f"{seed}.safetensors")
        return path
