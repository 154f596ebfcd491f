"""The record of one comparison: what was asked, on what, and every number that came out, in one folder.

manifest.json    recipe, digest, versions, machine, facts, notes; `finished` stays null until all numbers are on disk
rows.parquet     one row = one number with its interval, its n and its cost; rows.csv says the same
scores.parquet   one row = one method's score of one text: content hashes, never the text
report.html      written from these files by `theodolite.report`, afterwards and again whenever asked
artefacts/       JSON documents (audit, card, verdict) and readers/, the readers of the first training set
exports/         what `theodolite report` wrote beside the page

Everything downstream (a new metric, a figure, the paired comparison of two runs) works without the model.
"""

import hashlib
import io
import json
import math
import re
import shutil
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from theodolite.core.atomic import publish
from theodolite.core.cache import cache_root
from theodolite.core.errors import UserError
from theodolite.core.provenance import machine, versions
from theodolite.core.run_tables import EMPTY, ROW_COLUMNS, SCORE_COLUMNS, joined, parquet, typed

PROTOCOL = 1
IN_DISTRIBUTION = "in-distribution"  # the data set of every training set's own test rows
LEFT_OUT = "leave-one-source-out:"  # and, before a source's name, that of the source kept out of training
DOMAINS = {"documents": "held-out documents", "content": "prompt content", "last": "last template token"}
OUTSIDE_DOMAIN = 0.5  # FVU above which a dictionary explains less than half of what varies in such rows
TASKS = {"matched", "free", "blocks", "contrast", "admit"}
RERUN_MAY_DIFFER = {"run", "seconds", "peak_mb"}
_OURS = ["artefacts", "exports", "report.html", "scores.parquet", "rows.csv", "rows.parquet", "manifest.json"]


class Run:
    """One Run folder, new, half done or finished.

    `Run.create` starts or resumes one, `Run.open` only reads. Rows and scores stay in memory until `finish`
    writes them all: what is too dear to repeat after a stop (activations, fits) is kept in the cache.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any], *, replaces: bool = False) -> None:
        self.folder = folder
        self.manifest = manifest
        self._replaces = replaces
        self._rows: list[pd.DataFrame] = []
        self._scores: list[pd.DataFrame] = []

    @classmethod
    def create(
        cls, folder: str | Path, recipe: dict[str, Any], digest: str, *, force: bool = False, command: str = ""
    ) -> Self:
        """Start a run in `folder`, or reopen (finished) or resume (unfinished) the one there with the same digest.

        Another recipe's run is refused; with `force` it, or this recipe's own, is replaced, but not before `begin`.
        Files with our names that belong to no run are never overwritten.
        """
        folder = Path(folder)
        taken = (folder / "manifest.json").exists()
        if taken and not force:
            return cls._resumed(folder, digest)
        if not taken and (strangers := [name for name in _OURS if (folder / name).exists()]):
            raise UserError(f"{str(folder)!r} holds {', '.join(strangers)} but no run: choose another --out")
        started = _now()
        manifest = {
            "protocol": PROTOCOL,
            "id": f"{recipe['name']}-{digest[:8]}-{re.sub('[^0-9T]', '', started)[:15]}",
            "digest": digest,
            "recipe": recipe,
            "command": command,
            "versions": versions(),
            "machine": machine(),
            "started": started,
            "finished": None,
        }
        run = cls(folder, manifest | {"facts": {}, "stages": [], "notes": [], "files": {}}, replaces=taken)
        if not taken:
            run._write_manifest()
        return run

    def begin(self) -> None:
        """Remove the run that `force` replaces: called once nothing a user may have got wrong can stop this one."""
        if self._replaces:
            _clear(self.folder)
            self._replaces = False
            self._write_manifest()

    def withdraw(self) -> None:
        """Remove the folder of a run that nothing has been written into yet."""
        if [path.name for path in self.folder.iterdir()] == ["manifest.json"]:
            (self.folder / "manifest.json").unlink()
            self.folder.rmdir()

    @classmethod
    def _resumed(cls, folder: Path, digest: str) -> Self:
        run = cls.open(folder)
        if run.manifest["digest"] != digest:
            raise UserError(
                f"{str(folder)!r} holds a run of another recipe ({run.id}): "
                "choose another --out, or --force to replace it"
            )
        if not run.finished and run.manifest["versions"] != versions():
            changed = [k for k, v in versions().items() if run.manifest["versions"].get(k) != v]
            raise UserError(
                f"the unfinished run in {str(folder)!r} was started with another {', '.join(changed)}: "
                "continue with that version, or --force to start again"
            )
        if not run.finished:
            run.manifest |= {"facts": {}, "stages": [], "notes": []}  # the resumed stages state theirs again
        return run

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """The run in `folder`, to be read."""
        path = Path(folder) / "manifest.json"
        if not path.is_file():
            raise UserError(f"{str(folder)!r} is not a Run folder: it has no manifest.json")
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            protocol = manifest["protocol"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{str(path)!r} is damaged ({error}): run `theodolite compare` again with --force"
            ) from None
        if protocol != PROTOCOL:
            raise UserError(f"{str(path)!r} has protocol {protocol}; this version reads {PROTOCOL}")
        return cls(Path(folder), manifest)

    @property
    def id(self) -> str:
        """Recipe, digest and start; the value of the `run` column."""
        return str(self.manifest["id"])

    @property
    def recipe(self) -> dict[str, Any]:
        """The resolved recipe."""
        return dict(self.manifest["recipe"])

    @property
    def facts(self) -> dict[str, Any]:
        """What the run found out about its model, methods and protocol (see `record`)."""
        return dict(self.manifest["facts"])

    @property
    def notes(self) -> list[dict[str, Any]]:
        """Counted warnings: dicts of kind, count, text."""
        return list(self.manifest["notes"])

    @property
    def finished(self) -> bool:
        """Whether every file of the run is on disk."""
        return self.manifest["finished"] is not None

    @property
    def rows(self) -> pd.DataFrame:
        """All numbers so far, columns `ROW_COLUMNS`."""
        return self._read("rows.parquet") if self.finished else joined(self._rows, ROW_COLUMNS)

    @property
    def scores(self) -> pd.DataFrame:
        """All scores so far, columns `SCORE_COLUMNS`."""
        return self._read("scores.parquet") if self.finished else joined(self._scores, SCORE_COLUMNS)

    def add_rows(self, rows: Iterable[dict[str, Any]]) -> None:
        """Append numbers; `run` and `recipe` are filled in, other columns left out are empty, 0 or NaN."""
        known = {column: EMPTY[kind] for column, kind in ROW_COLUMNS.items()}
        known |= {"run": self.id, "recipe": self.recipe["name"]}
        frame = pd.DataFrame([known | row for row in rows])
        assert set(frame["task"]) <= TASKS, f"tasks are {sorted(TASKS)}"
        frame["params"] = [p if isinstance(p, str) else _canonical(p) for p in frame["params"]]
        self._append(self._rows, frame, ROW_COLUMNS)

    def add_scores(self, scores: pd.DataFrame) -> None:
        """Append scores of texts; NaN means unscored."""
        self._append(self._scores, scores, SCORE_COLUMNS)

    def _append(self, to: list[pd.DataFrame], frame: pd.DataFrame, columns: dict[str, str]) -> None:
        assert not self.finished, f"{self.id} is finished"
        to.append(typed(frame, columns))

    def note(self, kind: str, count: int, text: str) -> None:
        """Count a warning; the same kind and text add up."""
        for note in self.manifest["notes"]:
            if (note["kind"], note["text"]) == (kind, text):
                note["count"] += int(count)
                return
        self.manifest["notes"].append({"kind": kind, "count": int(count), "text": text})

    def settle(self, recipe: dict[str, Any]) -> None:
        """Replace the recipe by itself with all that was left open filled in, once the model is known.

        The digest stays that of what was asked for.
        """
        assert not self.finished, f"{self.id} is finished"
        self.manifest["recipe"] = recipe

    def record(self, name: str, value: Any) -> None:
        """State a fact that reports and later readers need: `model`, `views`, `labels`, `protocol` (docs/run.md)."""
        self.manifest["facts"][name] = _plain(value)

    def time(self, stage: str, seconds: float, peak_mb: float) -> None:
        """Record what a part of the run cost."""
        self.manifest["stages"].append({"stage": stage, "seconds": float(seconds), "peak_mb": float(peak_mb)})

    def write_json(self, name: str, value: Any) -> None:
        """Publish `artefacts/NAME.json`."""
        assert not self._replaces, "begin() comes before anything is written"
        publish(self.folder / "artefacts" / f"{name}.json", _pretty(value))

    def read_json(self, name: str) -> Any:
        """The content of `artefacts/NAME.json`, or None when this run made none."""
        path = self.folder / "artefacts" / f"{name}.json"
        if not path.is_file():
            return None
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(
                f"{str(path)!r} is damaged ({error}): restore it, or run `theodolite compare` again with --force"
            ) from None

    def write_table(self, name: str, table: pd.DataFrame) -> None:
        """Publish `artefacts/NAME.parquet`."""
        assert not self._replaces, "begin() comes before anything is written"
        self._publish(f"artefacts/{name}.parquet", parquet(table))

    def read_table(self, name: str) -> pd.DataFrame | None:
        """The content of `artefacts/NAME.parquet`, or None when this run made none."""
        place = f"artefacts/{name}.parquet"
        return self._read(place) if place in self.manifest["files"] else None

    def texts(self) -> dict[str, str]:
        """Texts by row id, out of the cache that the comparison left (`read_from`); a run itself holds none."""
        folder = cache_root() / self.facts.get("read_from", "views/none")
        if not folder.is_dir():
            raise UserError(f"{str(folder)!r} is gone, and with it the texts: compare again, or leave out --show-text")
        frames = [pd.read_parquet(path, columns=["id", "text"]) for path in sorted(folder.glob("*.parquet"))]
        return {str(i): str(t) for frame in frames for i, t in zip(frame["id"], frame["text"], strict=True)}

    def finish(self) -> None:
        """Write rows and scores, then the manifest that says so: a run is finished or it is not, never half."""
        rows, scores = self.rows, self.scores
        assert not self._replaces, "begin() comes before anything is written"
        assert not self.finished, f"{self.id} is finished"
        self._publish("rows.parquet", parquet(rows))
        self._publish("rows.csv", rows.to_csv(index=False, na_rep="nan", lineterminator="\n").encode())
        self._publish("scores.parquet", parquet(scores))
        self.manifest["finished"] = _now()
        self._write_manifest()

    def _publish(self, name: str, data: bytes) -> None:
        publish(self.folder / name, data)
        self.manifest["files"][name] = hashlib.sha256(data).hexdigest()

    def _write_manifest(self) -> None:
        publish(self.folder / "manifest.json", _pretty(self.manifest))

    def _read(self, name: str) -> pd.DataFrame:
        path = self.folder / name
        data = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(data).hexdigest() != self.manifest["files"].get(name):
            raise UserError(
                f"{str(path)!r} is not the file this run wrote: restore it, or run `theodolite compare` again with "
                "--force"
            )
        return pd.read_parquet(io.BytesIO(data))


def differences(one: Run, other: Run) -> list[str]:
    """Columns in which two runs' rows differ, apart from run, seconds and peak_mb; empty means a faithful rerun."""
    a, b = one.rows, other.rows
    if len(a) != len(b):
        return [f"{len(a)} rows against {len(b)}"]
    return [name for name in ROW_COLUMNS if name not in RERUN_MAY_DIFFER and not a[name].equals(b[name])]


def _canonical(value: Any) -> str:
    """Sorted keys and no spaces, so that equal values are equal strings."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"))


def _plain(value: Any) -> Any:
    """The value as JSON types; NaN and infinity become null, because JSON has no word for them."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _pretty(value: Any) -> bytes:
    return (json.dumps(_plain(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _clear(folder: Path) -> None:
    for name in _OURS:  # the manifest goes last: until then the folder is a damaged run, which --force may replace
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
