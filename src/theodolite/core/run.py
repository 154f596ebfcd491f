"""The record of one comparison: what was asked, on what, and every number that came out, in one folder.

manifest.json    recipe, digest, versions, machine, facts, notes; `finished` stays null until all numbers are on disk
rows.parquet     one row = one number with its interval, its n and its cost; rows.csv says the same
scores.parquet   one row = one method's score of one text: content hashes, never the text
report.html      written from these files by `theodolite.report`, afterwards and again whenever asked
artefacts/       JSON documents (audit, card, verdict, answers) and readers/, the readers of the first training set
exports/         what `theodolite report` wrote beside the page
local.json       where model, data, dictionaries and method files lie on this machine; private, leave it out of copies

Everything downstream (a new metric, a figure, the paired comparison of two runs) works without the model.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import pandas as pd

from theodolite.core import documents, run_folder
from theodolite.core.atomic import file_sha256, publish
from theodolite.core.cache import cache_root
from theodolite.core.errors import UserError
from theodolite.core.local_paths import LocalPaths, located, shared_command, without_folders
from theodolite.core.plain import canonical, checksum, plain, pretty
from theodolite.core.provenance import code, machine, made_with, versions
from theodolite.core.run_folder import MANIFEST, inside
from theodolite.core.run_tables import EMPTY, ROW_COLUMNS, SCORE_COLUMNS, completed, joined, parquet, typed
from theodolite.core.unpack import table
from theodolite.core.visible import csv

PROTOCOL = 3  # 1: theodolite 0.1, with other names; 2: with sentences in place of facts (docs/renames.md)
LOCAL = "local.json"
_OTHER = "open it with the version of theodolite that wrote it, or run `theodolite compare` again with another --out"
_RESTORE = "restore it, or compare again with another --out"
_AGAIN = "restore it, or run `theodolite compare` again with --force"
IN_DISTRIBUTION = "in-distribution"  # the data set of every training set's own test rows
LEFT_OUT = "leave-one-source-out:"  # before the name of the source kept out of training
AGAINST = " vs "  # between a left-out source and an over-refusal set that its positives are ranked against
DOMAINS = {"documents": "held-out documents", "content": "prompt content", "last": "last template token"}
OUTSIDE_DOMAIN = 0.5  # FVU above which a dictionary explains less than half of what varies in such rows
RERUN_MAY_DIFFER = {"run", "seconds", "peak_mb"}


class Run:
    """One Run folder, new, half done or finished.

    `Run.create` starts or resumes one, `Run.open` only reads. Rows and scores stay in memory until `finish`
    writes them all: what is too dear to repeat after a stop (activations, fits) is kept in the cache.
    """

    def __init__(
        self, folder: Path, manifest: dict[str, Any], local: LocalPaths | None = None, *, replaces: Any = None
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self._local = local or LocalPaths()
        self.tasks: frozenset[str] | None = None  # the tasks that rows may have, as the analysis declares them
        self.made_with = ""  # of a finished run that `create` opened: what of this program is another now, in words
        self._replaces = replaces  # the manifest of the run that `begin` removes
        self._rows: list[pd.DataFrame] = []
        self._scores: list[pd.DataFrame] = []

    @classmethod
    def create(
        cls,
        folder: str | Path,
        recipe: dict[str, Any],
        digest: str,
        *,
        force: bool = False,
        command: str = "",
        paths: Mapping[str, str] | None = None,
    ) -> Self:
        """Start a run in `folder`, or reopen (finished) or resume (unfinished) the one there with the same digest.

        Another recipe's run is refused; with `force` it, or this recipe's own, is replaced, but not before `begin`.
        Files with our names that belong to no run are never overwritten. paths: for each path of this machine that the
        recipe holds, the name that stands for it in everything the run writes; `local.json` says where they are.
        """
        folder, local = Path(folder), LocalPaths(paths)
        local.command = command
        if folder.is_file():
            raise UserError(f"--out {str(folder)!r} is a file: give a folder, new or of a Run")
        run_folder.refuse_links(folder)
        taken = (folder / MANIFEST).exists()
        if taken and not force:
            return cls._resumed(folder, digest, local)
        if not taken and (strangers := run_folder.taken(folder)):
            raise UserError(f"{str(folder)!r} holds {', '.join(strangers)} but no run: choose another --out")
        replaces = cls._replaceable(folder) if taken else None
        started = _now()
        manifest = {
            "protocol": PROTOCOL,
            "id": f"{recipe['name']}-{digest[:8]}-{re.sub('[^0-9T]', '', started)[:15]}",
            "digest": digest,
            "recipe": local.shared(recipe),
            "command": shared_command(command),
            "local": sorted(local.paths),
            "versions": versions(),
            "code": code(),
            "machine": machine(),
            "started": started,
            "finished": None,
        }
        run = cls(folder, manifest | _nothing_yet(), local, replaces=replaces)
        if not taken:
            run._write_manifest()
        return run

    @classmethod
    def _replaceable(cls, folder: Path) -> dict[str, Any]:
        """The manifest of a run that `--force` may remove: one of ours, not that of any other program."""
        try:
            manifest = cls.open(folder).manifest
        except UserError:
            manifest = {}
        if not run_folder.is_run(manifest, PROTOCOL):
            raise UserError(
                f"{str(folder / MANIFEST)!r} was not written by a run of this version, so --force removes nothing: "
                "choose another --out"
            )
        return manifest

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the folder while the run is written: another process is refused, and what dead ones left is removed."""
        with run_folder.held(self.folder) as locked:
            if not locked:
                self.note("unlocked", 1, "the file system of the Run folder has no locks: start no second run in it")
            run_folder.refuse_finished(self.folder, known=self.finished or self._replaces is not None)
            run_folder.sweep(self.folder)
            yield

    def begin(self) -> None:
        """Remove the run that `force` replaces: called once nothing a user may have got wrong can stop this one."""
        if self._replaces is not None:
            run_folder.clear(self.folder, self._replaces)
            self._replaces = None
            self._write_manifest()

    def withdraw(self) -> None:
        """Remove the folder of a run that nothing has been written into yet."""
        if {path.name for path in self.folder.iterdir()} <= {MANIFEST, LOCAL} and self._replaces is None:
            (self.folder / MANIFEST).unlink()
            (self.folder / LOCAL).unlink(missing_ok=True)
            self.folder.rmdir()

    @classmethod
    def _resumed(cls, folder: Path, digest: str, local: LocalPaths) -> Self:
        run = cls.open(folder)
        run._local = local
        if run.manifest["digest"] != digest:
            raise UserError(
                f"{str(folder)!r} holds a run of another recipe ({run.id}): "
                "choose another --out, or --force to replace it"
            )
        run.made_with = made_with(run.manifest) if run.finished else ""
        if not run.finished and run.manifest["versions"] != versions():
            changed = [k for k, v in versions().items() if run.manifest["versions"].get(k) != v]
            raise UserError(
                f"the unfinished run in {str(folder)!r} was started with another {', '.join(changed)}: "
                "continue with that version, or --force to start again"
            )
        if not run.finished:
            run.manifest |= _nothing_yet()  # the resumed stages state theirs again
        return run

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """The run in `folder`, to be read."""
        path = Path(folder) / MANIFEST
        if not path.is_file():
            raise UserError(f"{str(folder)!r} is not a Run folder: it has no manifest.json")
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            protocol = manifest["protocol"]
            whole = manifest.pop("checksum", None) in (None, checksum(manifest))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(f"{str(path)!r} is damaged ({error}): {_RESTORE}") from None
        if protocol != PROTOCOL:
            raise UserError(f"{str(path)!r} has protocol {protocol!r}, and this version reads {PROTOCOL}: {_OTHER}")
        if not whole or documents.wrong_manifest(manifest) is not None:
            raise UserError(f"{str(path)!r} is not what this run wrote: {_RESTORE}")
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
        """Facts that the run found out about its model, methods and protocol (see `record`)."""
        return dict(self.manifest["facts"])

    @property
    def notes(self) -> list[dict[str, Any]]:
        """Counted warnings: dicts of kind, count, text."""
        return list(self.manifest["notes"])

    @property
    def finished(self) -> bool:
        """Return whether every file of the run is on disk."""
        return self.manifest["finished"] is not None

    @property
    def rows(self) -> pd.DataFrame:
        """All numbers so far, columns `ROW_COLUMNS`."""
        return completed(self._read("rows.parquet")) if self.finished else joined(self._rows, ROW_COLUMNS)

    @property
    def scores(self) -> pd.DataFrame:
        """All scores so far, columns `SCORE_COLUMNS`."""
        return self._read("scores.parquet") if self.finished else joined(self._scores, SCORE_COLUMNS)

    def add_rows(self, rows: Iterable[dict[str, Any]]) -> None:
        """Append numbers; `run` and `recipe` are filled in, other columns left out are empty, 0 or NaN."""
        known = {column: EMPTY[kind] for column, kind in ROW_COLUMNS.items()}
        known |= {"run": self.id, "recipe": self.recipe["name"]}
        frame = pd.DataFrame([known | row for row in rows])
        assert self.tasks is None or set(frame["task"]) <= self.tasks, f"tasks are {sorted(self.tasks or ())}"
        frame["params"] = [p if isinstance(p, str) else canonical(p) for p in frame["params"]]
        self._append(self._rows, frame, ROW_COLUMNS)

    def shared(self, value: Any) -> Any:
        """A JSON value as the run writes it: names in the place of this machine's paths."""
        return self._local.shared(value)

    def add_scores(self, scores: pd.DataFrame) -> None:
        """Append scores of texts; NaN means unscored."""
        self._append(self._scores, scores, SCORE_COLUMNS)

    def _append(self, to: list[pd.DataFrame], frame: pd.DataFrame, columns: dict[str, str]) -> None:
        assert not self.finished, f"{self.id} is finished"
        to.append(typed(self._local.frame(frame), columns))

    def note(self, kind: str, count: int, text: str) -> None:
        """Count a warning; the same kind and text add up."""
        text = without_folders(self.shared(text))
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
        self.manifest["recipe"] = self.shared(recipe)

    def record(self, name: str, value: Any) -> None:
        """State a fact that reports and later readers need: `model`, `views`, `labels`, `protocol` (docs/run.md)."""
        self.manifest["facts"][name] = self.shared(plain(value))

    def time(self, stage: str, seconds: float, peak_mb: float) -> None:
        """Record what a part of the run cost."""
        self.manifest["stages"].append({"stage": stage, "seconds": float(seconds), "peak_mb": float(peak_mb)})

    def write_json(self, name: str, value: Any) -> None:
        """Publish `artefacts/NAME.json`."""
        self._publish(f"artefacts/{name}.json", pretty(self.shared(plain(value))))

    def read_json(self, name: str) -> Any:
        """The content of `artefacts/NAME.json`, or None when this run made none."""
        path = self.folder / "artefacts" / f"{name}.json"
        if not path.is_file():
            return None
        try:
            found = json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise UserError(f"{str(path)!r} is damaged ({error}): {_AGAIN}") from None
        self.verify(f"artefacts/{name}.json")
        documents.check(name, found, path)
        return found

    def write_table(self, name: str, table: pd.DataFrame) -> None:
        """Publish `artefacts/NAME.parquet`."""
        self._publish(f"artefacts/{name}.parquet", parquet(self._local.frame(table)))

    def read_table(self, name: str) -> pd.DataFrame | None:
        """The content of `artefacts/NAME.parquet`, or None when this run made none."""
        place = f"artefacts/{name}.parquet"
        return self._read(place) if place in self.manifest["files"] else None

    def copy_in(self, files: Mapping[str, Path], place: str) -> None:
        """Publish files of the cache, by name, under `place`."""
        for name, path in files.items():
            data = path.read_bytes()
            if name.endswith(".json"):
                found = json.loads(data)
                data = data if self.shared(found) == found else json.dumps(self.shared(found), indent=1).encode()
            self._publish(f"{place}/{name}", data)

    def verify(self, name: str) -> None:
        """Refuse a file that is not the one this run wrote; runs of earlier versions list only their tables."""
        path, wanted = self.folder / name, self.manifest["files"].get(name)
        if wanted is not None and (not path.is_file() or file_sha256(path) != wanted):
            raise UserError(f"{str(path)!r} is not the file this run wrote: {_AGAIN}")

    def verify_folder(self, place: str) -> Path:
        """The path of a folder of the run, all of whose files are the ones this run wrote."""
        for name in self.manifest["files"]:
            if name.startswith(f"{place}/"):
                self.verify(name)
        return self.folder / place

    def local_path(self, name: str, remedy: str) -> str:
        """Return the path here of something that the run names by its last component; other names stay as they are.

        remedy: what to do where `local.json` does not say, as the end of a sentence.
        """
        return located(self.folder / LOCAL, name, remedy) if name in self.manifest.get("local", []) else name

    def texts(self) -> dict[str, str]:
        """Texts by row id, out of the cache that the comparison left (`read_from`, files named by their sha256)."""
        places = list(self.facts.get("read_from", ()))
        home = cache_root().resolve()
        if outside := [place for place in places if not (home / place).resolve().is_relative_to(home)]:
            raise UserError(
                f"{str(self.folder)!r} names {outside[0]!r}, which is not in the cache: leave out --show-text"
            )
        paths = [home / place for place in places]
        if not paths or not all(p.is_file() and file_sha256(p) == p.stem for p in paths):
            raise UserError(
                f"the texts of {str(self.folder)!r} are no longer in the cache: compare again, or leave out --show-text"
            )
        frames = [pd.read_parquet(path, columns=["id", "text"]) for path in paths]
        return {str(i): str(t) for frame in frames for i, t in zip(frame["id"], frame["text"], strict=True)}

    def finish(self) -> None:
        """Write rows and scores, then the manifest that says so: a run is finished or it is not, never half."""
        rows, scores = self.rows, self.scores
        assert not self.finished, f"{self.id} is finished"
        self._publish("rows.parquet", parquet(rows))
        self._publish("rows.csv", csv(rows, index=False, na_rep="nan").encode())
        self._publish("scores.parquet", parquet(scores))
        self.manifest["finished"] = _now()
        self._write_manifest()

    def write_page(self, name: str, data: bytes) -> Path:
        """Publish something made from the run's own files, such as its report, in its folder."""
        publish(inside(self.folder, name), data)
        return self.folder / name

    def _publish(self, name: str, data: bytes) -> None:
        assert self._replaces is None, "begin() comes before anything is written"
        publish(inside(self.folder, name), data)
        self.manifest["files"][name] = hashlib.sha256(data).hexdigest()

    def _write_manifest(self) -> None:
        if self._local.paths:
            about = {"command": self._local.command, "paths": self._local.paths}
            publish(inside(self.folder, LOCAL), pretty(about), private=True)
        publish(inside(self.folder, MANIFEST), pretty(self.manifest | {"checksum": checksum(self.manifest)}))

    def _read(self, name: str) -> pd.DataFrame:
        if name not in self.manifest["files"]:
            raise UserError(f"{str(self.folder / MANIFEST)!r} does not list {name}: {_RESTORE}")
        self.verify(name)
        return table((self.folder / name).read_bytes(), str(self.folder / name))


def differences(one: Run, other: Run) -> list[str]:
    """Columns in which two runs' rows differ, apart from run, seconds and peak_mb; empty means a faithful rerun."""
    a, b = one.rows, other.rows
    if len(a) != len(b):
        return [f"{len(a)} rows against {len(b)}"]
    return [name for name in ROW_COLUMNS if name not in RERUN_MAY_DIFFER and not a[name].equals(b[name])]


def source_left_out(dataset: str) -> str:
    """The source that was kept out of training for a data set, alone or against an over-refusal set; "" for others.

    >>> source_left_out("leave-one-source-out:web vs benign"), source_left_out("mine vs yours")
    ('web', '')
    """
    return dataset.removeprefix(LEFT_OUT).partition(AGAINST)[0] if dataset.startswith(LEFT_OUT) else ""


def _nothing_yet() -> dict[str, Any]:
    """Facts of a manifest that change as the run goes on, before it has begun."""
    return {"facts": {}, "stages": [], "notes": [], "files": {}}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
